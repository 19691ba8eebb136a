#!/usr/bin/env bats
# t5-train-memory.bats - a device that runs out of memory while training: passes are cut and the batch is made again, or status 4.
# The reference backend refuses memory when a test asks it to, see libcommon/backend/ref.h.

bats_require_minimum_version 1.5.0

load training

# LOG WANT: the same losses but for rounding, of as many steps and evaluations.
same_losses() {
    paste <(figures "$1" | jq -r '[.step, .loss // .eval_loss, .tokens] | @tsv') \
        <(figures "$2" | jq -r '[.step, .loss // .eval_loss, .tokens] | @tsv') |
        awk -F '\t' '{ d = $2 - $5; if ($1 != $4 || $3 != $6 || (d < 0 ? -d : d) > 1e-5 * $5) { print; bad = 1 } } END { exit bad || NR < 24 }'
}

@test "out of memory inside a step or an evaluation: smaller passes, the same run but for rounding" {
    long -o "$tmp/whole" >"$tmp/whole.jsonl"
    # calls of attention until memory is short: in the first step, in the middle, in an evaluation
    for calls in 0 22 75; do
        T5_REF_SCRATCH=$calls:80 long -o "$tmp/$calls" >"$tmp/$calls.jsonl" 2>"$tmp/err"
        same_losses "$tmp/$calls.jsonl" "$tmp/whole.jsonl"
        jq -se 'map(select(.event == "out_of_memory")) | length >= 1 and all(.step >= 1 and .micro_tokens < 400)' "$tmp/$calls.jsonl"
        [ "$(grep -c out_of_memory "$tmp/$calls.jsonl")" = "$(wc -l <"$tmp/err")" ]
        run ! grep -vE '^t5-train: step [0-9]+: out of memory \(asked [0-9]+ bytes for attention\): passes of at most [0-9]+ tokens from here on$' "$tmp/err"
    done
    # the decision reaches the checkpoint: resumed where there is memory again, the run goes on with it
    need_strace
    T5_REF_SCRATCH=22:80 strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=3 t5-train --device $device \
        --threads 1 -m $model --epochs 8 --save-every 5 --eval $records -o "$out" $records >"$tmp/log" 2>"$tmp/err" || true
    [ ! -e "$out/adapter_model.safetensors" ]
    run -0 --separate-stderr long -o "$out" --resume
    [ -z "$stderr" ]
    echo "${lines[0]}" | jq -e '.resumed_from_step == 10 and .micro_tokens < 400 and .settings.micro_tokens == 16384'
    same_result "$tmp/22" "$out"
    run -1 long -o "$out" --micro-tokens 100 --resume
    [[ $output == *"another micro_tokens: 16384 there, 100 here" ]]
}

@test "out of memory with one record at a time: status 4, bytes needed and free, the checkpoint serves" {
    long -o "$tmp/whole" >"$tmp/log"
    T5_REF_SCRATCH=75:40 run -4 --separate-stderr long -o "$out"
    [[ ${stderr_lines[-1]} =~ ^t5-train:\ step\ [0-9]+:\ passes\ of\ one\ record,\ [0-9]+\ bytes\ are\ free:\ out\ of\ memory\ \(asked\ [0-9]+\ bytes\ for\ attention\)$ ]]
    [ "${#stderr_lines[@]}" -gt 1 ] # after cutting passes
    no_temporaries "$out"
    [ ! -e "$out/adapter_model.safetensors" ]
    run -0 --separate-stderr long -o "$out" --resume
    [ -z "$stderr" ]
    cmp "$tmp/whole/adapter_model.safetensors" "$out/adapter_model.safetensors" # the checkpoint is older than the cut
}

@test "memory that was free when the run was planned and is not when it is taken: smaller passes from the start" {
    T5_REF_ALLOC=1000000 run -0 --separate-stderr long -o "$out"
    [[ ${#stderr_lines[@]} == 1 && $stderr == "t5-train: step 1: out of memory (asked "*" bytes for activations): passes of at most "*" tokens from here on" ]]
    local cut
    cut=$(echo "${lines[0]}" | jq 'select(.event == "start") | .micro_tokens')
    [ "$cut" -lt 400 ]
    long -o "$tmp/want" --micro-tokens "$cut" >"$tmp/log"
    cmp "$tmp/want/adapter_model.safetensors" "$out/adapter_model.safetensors"
    T5_REF_ALLOC=60000 run -4 --separate-stderr long -o "$tmp/b"
    [[ $stderr == "t5-train: step 1: passes of one record, "*" bytes are free: out of memory (asked "*" bytes for activations)" ]]
}

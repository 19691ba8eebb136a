#!/usr/bin/env bats
# t5-train-eval.bats - evaluation while t5-train runs: ROUGE as the other programs give it, the best result kept, early
# stopping, and all of it through kills and resumes.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    tmp=$BATS_TEST_TMPDIR
    out=$tmp/out
    demo=testdata/demo
    device=ref
    [ ! -e "${B:-build}/lib/t5-cpu.so" ] || device=cpu
    head -24 $demo/train.jsonl | t5-tokenize -s $demo -p 'summarize: ' >"$tmp/train"
    head -10 $demo/val.jsonl | t5-tokenize -s $demo -p 'summarize: ' >"$tmp/val"
}

# A model that can write, learning fast: the ROUGE of its three epochs differ.
train() {
    t5-train --device $device --threads 1 -m $demo/base --lr 0.003 --epochs 3 --eval "$tmp/val" "$@" "$tmp/train"
}
decoding() {
    train --eval-generate -s $demo --eval-max-new 30 "$@"
}

# Mean F of an adapter on the validation records, the references decoded from their labels, as the log writes them.
rouge_of() {
    t5-generate --device $device --threads 1 -m $demo/base -a "$1" --max-new-tokens 30 "$tmp/val" |
        t5-tokenize -s $demo --decode >"$tmp/predicted"
    jq -c '{output_ids: .labels}' "$tmp/val" | t5-tokenize -s $demo --decode | jq -c '{summary: .prediction}' >"$tmp/wanted"
    paste -d '\n' "$tmp/predicted" "$tmp/wanted" | jq -cn 'while(true; .) | input + input' 2>/dev/null | rouge |
        jq -c '[.rouge1, .rouge2, .rougeL, .rougeLsum] | map(.fmeasure * 1e6 | round)'
}
in_log() { # ROUGE of the evaluation that $1 picks
    jq -c "select(.eval_rouge1 and $1) | [.eval_rouge1, .eval_rouge2, .eval_rougeL, .eval_rougeLsum] | map(. * 1e4 | round)" \
        "$tmp/log" | tail -1
}

figures() { jq -cS 'select(.step and .event == null) | del(.seconds, .tokens_per_s, .eval_seconds)' "$@" | sort -u; }

same_result() {
    diff -r --exclude=.lock --exclude='checkpoint.*' "$1" "$2" && cmp "$1"/checkpoint.?.safetensors "$2"/checkpoint.?.safetensors
}

@test "--eval-generate: the ROUGE that t5-generate, t5-tokenize and rouge find, and the same training" {
    decoding -o "$out" --best rougeL >"$tmp/log"
    jq -se 'map(select(.eval_loss)) | map(.step) == [3, 6, 9] and (map(.eval_rougeL) | unique | length) == 3' "$tmp/log"
    [ "$(rouge_of "$out")" = "$(in_log '.step == 9')" ]
    [ "$(rouge_of "$out/best")" = "$(in_log '.best')" ]
    # the best is the highest
    jq -se 'map(select(.eval_loss)) | (map(select(.best)) | last.eval_rougeL) == (map(.eval_rougeL) | max)' "$tmp/log"
    # decoding changes nothing of the steps
    train -o "$tmp/plain" >"$tmp/plain.jsonl"
    cmp "$out/adapter_model.safetensors" "$tmp/plain/adapter_model.safetensors"
    cmp <(figures "$tmp/plain.jsonl") <(figures "$tmp/log" | jq -cS 'with_entries(select(.key | startswith("eval_rouge") or . == "best" | not))' | sort)
}

@test "--best loss and --full: DIR/best is a model" {
    t5-train --device $device --threads 1 -m $demo/base --full --epochs 2 --lr 1e-4 --eval "$tmp/val" --best loss -o "$out" \
        "$tmp/train" >"$tmp/log"
    jq -se 'map(select(.eval_loss)) | (map(select(.best)) | last.eval_loss) == (map(.eval_loss) | min)' "$tmp/log"
    best=$(jq -s 'map(.eval_loss // empty) | min' "$tmp/log")
    t5-train --device $device --threads 1 -m "$out/best" --max-steps 1 --lr 0 --eval "$tmp/val" -o "$tmp/again" "$tmp/train" |
        jq -se --argjson best "$best" 'map(.eval_loss // empty) == [$best]'
}

@test "--early-stopping ends a run that gets no better, --resume knows" {
    train -o "$out" --lr 0 --epochs 9 --eval-every 2 --save-every 2 --best loss --early-stopping 2 >"$tmp/log"
    jq -se '(map(select(.eval_loss) | [.step, .best]) == [[2, true], [4, null], [6, null]]) and
        (last | .event == "end" and .step == 6)' "$tmp/log"
    [ "$(find "$out" -name 'checkpoint.*' | wc -l)" = 1 ]
    cp -r "$out" "$tmp/whole"
    rm "$out/adapter_model.safetensors"
    train -o "$out" --lr 0 --epochs 9 --eval-every 2 --save-every 2 --best loss --early-stopping 2 --resume >"$tmp/log"
    jq -se 'map(select(.loss)) == [] and last.step == 6' "$tmp/log"
    same_result "$tmp/whole" "$out"
    run -1 train -o "$out" --lr 0 --epochs 9 --eval-every 2 --best loss --early-stopping 3 --resume
    [[ $output == *"another early_stopping: 2 there, 3 here" ]]
    run -1 train -o "$out" --lr 0 --epochs 9 --eval-every 3 --best loss --early-stopping 2 --resume
    [[ $output == *"another eval_every: "* ]]
}

@test "killed at each file it writes: the same result, the same best, the same figures" {
    strace -e trace=none true 2>/dev/null || skip "strace cannot trace here"
    export ASAN_OPTIONS=detect_leaks=0
    local k kills=0 status
    decoding -o "$tmp/whole" --save-every 2 --best rouge1 >"$tmp/whole.jsonl"
    for k in $(seq 1 20); do
        status=0
        rm -rf "$out"
        strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=$k t5-train --device $device --threads 1 \
            -m $demo/base --lr 0.003 --epochs 3 --eval "$tmp/val" --eval-generate -s $demo --eval-max-new 30 --best rouge1 \
            --save-every 2 -o "$out" "$tmp/train" >"$tmp/log" || status=$?
        [ $status != 0 ] || break
        kills=$((kills + 1))
        decoding -o "$out" --save-every 2 --best rouge1 --resume >>"$tmp/log"
        same_result "$tmp/whole" "$out"
        cmp <(figures "$tmp/whole.jsonl") <(figures "$tmp/log")
        [ -z "$(find "$out" -name '.t5tmp*')" ]
    done
    echo "$kills kills"
    [ $kills -ge 8 ]
}

@test "stopped while it decodes: saved, and evaluated by the next run" {
    local status=0 job
    decoding -o "$tmp/whole" --best rouge2 >"$tmp/whole.jsonl"
    : >"$tmp/log"
    t5-train --device $device --threads 1 -m $demo/base --lr 0.003 --epochs 3 --eval "$tmp/val" --eval-generate -s $demo \
        --eval-max-new 30 --best rouge2 -o "$out" "$tmp/train" >"$tmp/log" 3>&- &
    job=$!
    until [ "$(grep -c '"loss"' "$tmp/log")" -ge 3 ] || ! kill -0 $job; do sleep 0.002; done
    kill -TERM $job || true
    wait $job || status=$?
    [ $status = 143 ] || [ $status = 0 ] # it may have come to its end first
    decoding -o "$out" --best rouge2 --resume >>"$tmp/log"
    same_result "$tmp/whole" "$out"
    cmp <(figures "$tmp/whole.jsonl") <(figures "$tmp/log")
}

@test "--dry-run counts what decoding takes" {
    decoding --dry-run | jq -se '.[0].memory.decoding > 100000 and (.[0].memory | .total == (del(.total, .free) | add))'
    train --dry-run | jq -se '.[0].memory | has("decoding") | not'
}

@test "evaluation: options that do not fit, a tokenizer that is none or another model's" {
    for bad in "--eval-generate" "--tokenizer $demo" "--eval-max-new 5" "--early-stopping 2" "--best rouge1" "--best acc" \
        "--best loss --early-stopping -1" "--eval-generate -s $demo --eval-max-new 0"; do
        run -2 --separate-stderr train -o "$out" $bad
        [ ${#stderr_lines[@]} = 1 ]
    done
    run -2 t5-train -m $demo/base -o "$out" --best loss "$tmp/train"
    run -1 --separate-stderr train -o "$out" --eval-generate -s "$tmp/val"
    [[ ${#stderr_lines[@]} == 1 && $stderr == "t5-train: $tmp/val: "* ]]
    run -4 --separate-stderr train -o "$out" --eval-generate -s "$tmp/none"
    run -1 --separate-stderr t5-train --device $device -m testdata/golden/relu/model -o "$out" --eval testdata/golden/records.jsonl \
        --eval-generate -s testdata/golden/tokenizer/spiece.model testdata/golden/records.jsonl
    [[ $stderr == "t5-train: testdata/golden/tokenizer/spiece.model: "*" pieces, the model has 96 tokens" ]]
}

#!/usr/bin/env bats
# t5-train-spikes.bats - losses that stand out, and batches that are left out.

bats_require_minimum_version 1.5.0

load training

# 44 records, one a step; the 31st and the 38th are unlike the others.
setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    local i
    for i in {1..44}; do
        case $i in
        31 | 38) echo '{"input_ids":[7,8,9,1],"labels":[33,44,55,66,77,88]}' ;;
        *) echo '{"input_ids":[10,11,12,13,1],"labels":[20,21,22,1]}' ;;
        esac
    done >"$BATS_FILE_TMPDIR/records"
}

setup_spiked() {
    spiked=$BATS_FILE_TMPDIR/records
    how=(--batch 1 --epochs 1 --order file --lr 1e-3 --model-dropout 0.001 --save-every 10)
    guard=(--spike-z 6 --spike-window 16)
}

spikes() { jq -c 'select(.event == "spike") | [.step, .passed_over]' "$@" | tr '\n' ' '; }

@test "--spike-z reports losses that stand out and changes nothing" {
    setup_spiked
    train -o "$tmp/plain" "${how[@]}" "$spiked" >"$tmp/plain.jsonl"
    [ -z "$(spikes "$tmp/plain.jsonl")" ]
    run -0 --separate-stderr train -o "$out" "${how[@]}" "${guard[@]}" "$spiked"
    echo "$output" >"$tmp/log"
    [ "$(spikes "$tmp/log")" = '[31,false] ' ] # the 38th is measured by a window with the 31st in it
    [[ $stderr =~ ^t5-train:\ step\ 31:\ loss\ [0-9.]+,\ [0-9.e+]+\ standard\ deviations\ above\ the\ 16\ steps\ before$ ]]
    jq -se 'map(select(.event == "spike"))[0].z > 6' "$tmp/log"
    cmp "$tmp/plain/adapter_model.safetensors" "$out/adapter_model.safetensors"
    cmp <(figures "$tmp/plain.jsonl") <(figures "$tmp/log")
    # z against the definition, from the log itself
    jq -se '(map(select(.loss and .event == null) | .loss) | .[14:30]) as $w | ($w | add / 16) as $m |
        ($w | map((. - $m) * (. - $m)) | add / 15 | sqrt) as $d | map(select(.event == "spike"))[0] |
        ((.loss - $m) / $d - .z) / .z | fabs < 1e-9' "$tmp/log"
}

@test "--on-spike skip passes the step over: as if its batch had been left out" {
    setup_spiked
    run -0 --separate-stderr train -o "$out" "${how[@]}" "${guard[@]}" --on-spike skip "$spiked"
    echo "$output" >"$tmp/log"
    [ "$(spikes "$tmp/log")" = '[31,true] ' ]
    [[ $stderr == *": passed over" ]]
    jq -se 'map(select(.passed_over and .event == null)) | length == 1 and .[0].step == 31 and .[0].loss > 0 and .[0].grad_norm == null' "$tmp/log"
    train -o "$tmp/without" "${how[@]}" --skip-batches 31 "$spiked" >"$tmp/without.jsonl"
    cmp "$tmp/without/adapter_model.safetensors" "$out/adapter_model.safetensors"
    jq -se 'map(select(.skipped)) == [map(select(.step == 31))[0]] and (map(select(.skipped))[0] | .loss == null and .tokens == 0)' "$tmp/without.jsonl"
    train -o "$tmp/plain" "${how[@]}" "$spiked" >"$tmp/log"
    run ! cmp -s "$tmp/plain/adapter_model.safetensors" "$out/adapter_model.safetensors"
}

@test "killed and resumed: the window is in the checkpoint, the same steps are passed over" {
    need_strace
    setup_spiked
    train -o "$tmp/whole" "${how[@]}" "${guard[@]}" --on-spike skip "$spiked" >"$tmp/whole.jsonl"
    # after the checkpoint of step 20, which is fewer steps before the spike than the window holds
    strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=3 t5-train --device $device --threads 1 -m $model \
        -o "$out" "${how[@]}" "${guard[@]}" --on-spike skip "$spiked" >"$tmp/log" || true
    run -1 train -o "$out" "${how[@]}" --resume "$spiked"
    [[ $output == *"another spike_z: 6 there, 0 here" ]]
    train -o "$out" "${how[@]}" "${guard[@]}" --on-spike skip --resume "$spiked" >>"$tmp/log"
    jq -se 'map(select(.event == "start"))[1].resumed_from_step == 20' "$tmp/log"
    same_result "$tmp/whole" "$out"
    [ "$(spikes "$tmp/log")" = '[31,true] ' ]
    cmp <(figures "$tmp/whole.jsonl") <(figures "$tmp/log")
}

@test "--skip-batches at a resume before them: as if the run had begun so; what was made stays" {
    need_strace
    setup_spiked
    train -o "$tmp/whole" "${how[@]}" --skip-batches 38,30-32 "$spiked" >"$tmp/whole.jsonl"
    jq -se '.[0].settings.skip_batches == "30-32,38" and (map(select(.skipped) | .step) == [30, 31, 32, 38])' "$tmp/whole.jsonl"
    strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=3 t5-train --device $device --threads 1 -m $model \
        -o "$tmp/stopped" "${how[@]}" "$spiked" >"$tmp/log" || true
    cp -r "$tmp/stopped" "$out"
    train -o "$out" "${how[@]}" --skip-batches 30-32,38 --resume "$spiked" >"$tmp/log"
    jq -se '.[0].resumed_from_step == 20' "$tmp/log"
    same_result "$tmp/whole" "$out"
    run -1 --separate-stderr train -o "$tmp/stopped" "${how[@]}" --skip-batches 19-32 --resume "$spiked"
    [ "$stderr" = "t5-train: $tmp/stopped/checkpoint.1.safetensors: made with another skip_batches up to its step 20: none there, 19-20 here" ]
    # stopped among them: a resume that says nothing leaves out the same, one that says other things is refused
    strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=2 t5-train --device $device --threads 1 -m $model \
        -o "$tmp/stopped" "${how[@]}" --skip-batches 30-32,38 --resume "$spiked" >"$tmp/log" || true
    for list in 31-32 32-38; do
        run -1 train -o "$tmp/stopped" "${how[@]}" --skip-batches $list --resume "$spiked"
        [[ $output == *"another skip_batches up to its step 30: 30 there, none here" ]]
    done
    train -o "$tmp/stopped" "${how[@]}" --resume "$spiked" >"$tmp/log"
    same_result "$tmp/whole" "$tmp/stopped"
    jq -se '.[0].resumed_from_step == 30 and (map(select(.skipped) | .step) == [31, 32, 38])' "$tmp/log"
}

@test "--spike-z, --skip-batches: what is refused" {
    setup_spiked
    run -2 train -o "$out" --on-spike skip $records
    [[ $output == *"need --spike-z"* ]]
    run -2 train -o "$out" --spike-window 20 $records
    run -2 train -o "$out" --spike-z 6 --spike-window 3 $records
    run -2 train -o "$out" --skip-batches 5-3 $records
    [[ $output == *"--skip-batches: expected ranges of numbers, as 120-135,200, found '5-3'"* ]]
    run -2 --separate-stderr train -o "$out" --epochs 1 --skip-batches 3-4 $records
    [ "$stderr" = 't5-train: --skip-batches 4: the run has 3 steps' ]
}

#!/usr/bin/env bats
# t5-train.bats - the program: torch's curves through the command line, its options, log and events, bad input. What
# ends a run, and how it goes on: t5-train-resume.bats.

bats_require_minimum_version 1.5.0

load training

# The figures of a golden curve to 1e-4.
follows() {
    jq -se --slurpfile want "$1" 'map(select(.loss)) | length == 30 and
        ([., $want] | transpose | all(.[]; . as [$g, $w] |
            ($g.step == $w.step) and
            (($g.loss - $w.loss | fabs) < 1e-4 * $w.loss) and
            (($g.lr - $w.lr | fabs) < 1e-6 * $w.lr) and
            (($g.grad_norm - $w.grad_norm | fabs) < 1e-4 * $w.grad_norm)))' "$2"
}

curves() {
    model=$golden/gated/model
    train -o "$tmp/lora" --init $golden/gated/adapter-qv --order file --lr 0.003 --clip 2.6 --max-steps 30 \
        --model-dropout 0 --dropout 0 $records >"$tmp/lora.jsonl"
    follows $golden/training/gated-lora.jsonl "$tmp/lora.jsonl"
    model=$golden/relu/model
    train -o "$tmp/full" --full --order file --lr 0.0003 --clip 1 --max-steps 30 --model-dropout 0 \
        $records >"$tmp/full.jsonl"
    follows $golden/training/relu-full.jsonl "$tmp/full.jsonl"
    train -o "$tmp/adafactor" --full --order file --optimizer adafactor --label-smoothing 0.1 --lr 0.0003 --clip 1 \
        --max-steps 30 --model-dropout 0 $records >"$tmp/adafactor.jsonl"
    follows $golden/training/relu-adafactor.jsonl "$tmp/adafactor.jsonl"
}

@test "torch's training curves" {
    curves
}

@test "torch's training curves on the CPU backend" {
    need_cpu
    curves
}

@test "metrics: a start line, every step, an evaluation an epoch, an end line" {
    train -o "$out" --epochs 2 --eval $records --warmup 2 $records >"$tmp/log"
    jq -se 'map(.event) == ["start", null, null, null, null, null, null, null, null, "end"]' "$tmp/log"
    jq -se '.[0] | .mode == "lora" and .records == 24 and .steps == 6 and .steps_per_epoch == 3
        and .trainable == 6144 and (.parameters - .trainable) == 13568
        and .memory.total == (.memory | del(.total, .free) | add)' "$tmp/log" ||
        { head -1 "$tmp/log"; false; }
    jq -se 'map(select(.loss)) | map(.step) == [1,2,3,4,5,6] and map(.lr) == [0, 0.0005, 0.001, 0.00075, 0.0005, 0.00025]
        and all(.[]; .loss > 0 and .grad_norm > 0 and .tokens > .label_tokens and .seconds >= 0 and .tokens_per_s > 0)
        and (.[:3] | map(.tokens) | add) == (.[3:] | map(.tokens) | add)' "$tmp/log"
    jq -se 'map(select(.eval_loss)) | map(.step) == [3, 6] and all(.[]; .eval_tokens > 0)' "$tmp/log"
}

@test "the start line holds the settings; --preset recipe sets the published ones, options override them" {
    train -o "$out" --preset recipe --epochs 1 $records >"$tmp/log"
    jq -se '.[0].settings | .rank == 16 and .alpha == 32 and .dropout == 0.05 and .targets == "q,v" and .batch == 8 and
        .lr == 0.001 and .schedule == "linear" and .warmup == 0 and .clip == 1 and .weight_decay == 0 and .seed == 42 and
        .order == "shuffle" and .label_smoothing == 0 and .lora_plus == 0 and .rslora == 0' "$tmp/log"
    train --preset recipe --dry-run | jq -e '.input_tokens == 8 * 255 and .label_tokens == 8 * 50 and .steps == 5'
    train --max-target 40 --preset recipe --dry-run --batch 2 --rank 3 --lr 0.01 |
        jq -e '.input_tokens == 2 * 255 and .label_tokens == 2 * 40 and .settings.rank == 3 and .settings.lr == 0.01'
    # records are cut, not refused
    echo "{\"input_ids\":[$(seq -s, 300 | sed 's/[0-9]\+/7/g'),1],\"labels\":[$(seq -s, 60 | sed 's/[0-9]\+/7/g'),1]}" >"$tmp/long"
    train -o "$tmp/b" --preset recipe --epochs 1 "$tmp/long" | jq -se '.[1].tokens == 305'
    run -2 train --preset recipe --full -o "$tmp/d" $records
    run -2 train --preset published -o "$tmp/d" $records
}

@test "on a terminal a line of progress: steps, time left, loss, rates, memory, no wider than it" {
    script -qec true /dev/null </dev/null >/dev/null || skip "no pseudo-terminals here"
    local run="t5-train --device $device --threads 1 -m $model -o $out --max-steps 40 $records"
    script -qec "stty cols 200; $run >$tmp/log" "$tmp/typed" </dev/null >/dev/null
    tr '\r' '\n' <"$tmp/typed" | grep -E 't5-train: [0-9]+/40 steps, [0-9.e+]+/s, [0-9]+:[0-9]{2} left, loss [0-9.]+, [0-9]+ tokens/s, [0-9.e+]+ records/s, [0-9.]+ GiB'
    [ "$(grep -c '"loss"' "$tmp/log")" = 40 ]
    script -qec "stty cols 40; $run >$tmp/log" "$tmp/typed" </dev/null >/dev/null
    tr '\r' '\n' <"$tmp/typed" | sed 's/\x1b\[K//g' | awk '/^t5-train/ { n++; wide += length > 39 } END { exit n == 0 || wide > 0 }'
    # neither in a pipe nor between the metrics on the same terminal
    script -qec "$run" "$tmp/typed" </dev/null >/dev/null
    run ! grep -q 'left' "$tmp/typed"
    $run 2>"$tmp/err" >/dev/null
    [ ! -s "$tmp/err" ]
}

@test "two runs give the same bytes, another seed does not" {
    long -o "$tmp/a" >"$tmp/a.jsonl"
    long -o "$tmp/b" >"$tmp/b.jsonl"
    same_result "$tmp/a" "$tmp/b"
    cmp <(figures "$tmp/a.jsonl") <(figures "$tmp/b.jsonl")
    long -o "$tmp/c" --seed 43 >"$tmp/c.jsonl"
    run ! cmp -s "$tmp/a/adapter_model.safetensors" "$tmp/c/adapter_model.safetensors"
}

@test "1, 2 and 4 threads give the same bytes" {
    need_cpu
    for compute in f32 bf16; do
        for n in 1 2 4; do
            long --max-steps 12 -o "$tmp/$compute$n" --compute $compute --threads $n >"$tmp/log"
        done
        same_result "$tmp/${compute}1" "$tmp/${compute}2"
        same_result "$tmp/${compute}1" "$tmp/${compute}4"
    done
}

@test "records on a pipe, in two files, or as a packed file are the same records" {
    head -10 $records >"$tmp/one"
    tail -n +11 $records >"$tmp/two"
    train -o "$tmp/a" --epochs 1 $records >"$tmp/log"
    train -o "$tmp/b" --epochs 1 "$tmp/one" "$tmp/two" >"$tmp/log"
    train -o "$tmp/c" --epochs 1 <$records >"$tmp/log"
    same_result "$tmp/a" "$tmp/b"
    same_result "$tmp/a" "$tmp/c"
}

@test "schedules, and warm-up in steps or percent" {
    train --schedule wsd --warmup 2 --decay 25% --max-steps 8 --lr 0.002 -o "$tmp/a" $records >"$tmp/log"
    jq -se 'map(select(.loss) | .lr) | [.[:6], .[6:]] == [[0, 0.001, 0.002, 0.002, 0.002, 0.002], [0.002, 0.001]]' "$tmp/log"
    train --schedule inverse-sqrt --warmup 12.5% --max-steps 8 --lr 0.002 -o "$tmp/b" $records >"$tmp/log"
    jq -se 'map(select(.loss) | .lr) | .[0] == 0 and .[1] == 0.002 and .[4] == 0.001' "$tmp/log"
    # a share of the steps is a number of steps
    train --warmup 1 --max-steps 8 -o "$tmp/c" $records >"$tmp/log"
    train --warmup 10% --max-steps 8 -o "$tmp/d" $records >"$tmp/log"
    same_result "$tmp/c" "$tmp/d"
    for bad in 101% -1 -1% % 5%% 1.5 1e3 x; do
        run -2 --separate-stderr train --warmup $bad -o "$out" $records
        [[ ${#stderr_lines[@]} == 1 && $stderr == "t5-train: --warmup: expected a whole number or a percentage"* ]]
    done
    run -2 --separate-stderr train --schedule wsd --warmup 5 --decay 4 --max-steps 8 -o "$out" $records
    [ "$stderr" = 't5-train: --warmup 5 and --decay 4 are longer than the run of 8 steps' ]
}

@test "--label-smoothing: a higher loss, the evaluation as it was" {
    train --lr 0 --max-steps 2 --eval $records --dropout 0 --model-dropout 0 -o "$tmp/a" $records >"$tmp/a.jsonl"
    train --lr 0 --max-steps 2 --eval $records --dropout 0 --model-dropout 0 --label-smoothing 0.2 -o "$tmp/b" $records >"$tmp/b.jsonl"
    jq -se --slurpfile a "$tmp/a.jsonl" '(map(.eval_loss // empty) == ($a | map(.eval_loss // empty))) and
        ([map(.loss // empty), ($a | map(.loss // empty))] | transpose | all(.[]; .[0] != .[1] and .[0] < 2 * .[1]))' "$tmp/b.jsonl"
    run -2 train --label-smoothing 1 -o "$out" $records
}

@test "--order length and --lora-plus: other results, the same again, resumed the same" {
    for o in length shuffle; do
        train --order $o --lora-plus 4 --max-steps 7 --save-every 2 --batch 5 -o "$tmp/$o" $records >"$tmp/$o.jsonl"
    done
    run ! cmp -s "$tmp/length/adapter_model.safetensors" "$tmp/shuffle/adapter_model.safetensors"
    : >"$tmp/log"
    t5-train --device $device --threads 1 -m $model --order length --lora-plus 4 --max-steps 7 --save-every 1 --batch 5 \
        -o "$out" $records >"$tmp/log" 3>&- &
    job=$!
    wait_for_steps 3
    kill -9 $job
    wait $job || true
    job=
    train --order length --lora-plus 4 --max-steps 7 --batch 5 --resume -o "$out" $records >"$tmp/log"
    same_result "$tmp/length" "$out"
    run -2 train --full --lora-plus 4 -o "$tmp/x" $records
}

@test "--optimizer: smaller states, learning all the same, resumed to the same bytes" {
    need_cpu
    need_strace
    model=testdata/demo/base
    head -16 testdata/demo/train.jsonl | t5-tokenize -s testdata/demo >"$tmp/demo"
    local o full="--full --lr 1e-3 --batch 4 --max-steps 6"
    for o in adamw adamw8bit adafactor; do
        train $full --save-every 2 --optimizer $o -o "$tmp/$o" "$tmp/demo" >"$tmp/$o.jsonl"
        jq -se 'map(.loss // empty) | (.[4:] | add) < (.[:2] | add)' "$tmp/$o.jsonl"
        strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=3 t5-train --device $device --threads 1 \
            -m $model $full --save-every 2 --optimizer $o -o "$tmp/killed" "$tmp/demo" >"$tmp/log" || true
        train $full --save-every 2 --optimizer $o --resume -o "$tmp/killed" "$tmp/demo" >"$tmp/log"
        [ "$(jq -s '.[0].resumed_from_step' "$tmp/log")" = 4 ]
        cmp "$tmp/$o/model.safetensors" "$tmp/killed/model.safetensors"
        cmp "$tmp/$o"/checkpoint.?.safetensors "$tmp/killed"/checkpoint.?.safetensors
        # the plan says what a checkpoint holds
        local planned size
        planned=$(jq -s '.[0].memory | .parameters + .optimiser' "$tmp/$o.jsonl")
        size=$(stat -c %s "$tmp/$o"/checkpoint.?.safetensors)
        [ $((size - planned)) -lt 40000 ]
        [ $((size - planned)) -gt -40000 ]
        rm -r "$tmp/killed"
    done
    run ! cmp -s "$tmp/adamw/model.safetensors" "$tmp/adamw8bit/model.safetensors"
    jq -se '.[0].memory | .optimiser < 0.6 * 2 * .parameters' "$tmp/adamw8bit.jsonl"
    jq -se '.[0].memory | .optimiser < 0.03 * .parameters' "$tmp/adafactor.jsonl"
    run -1 train $full --optimizer adamw --resume -o "$tmp/adafactor" "$tmp/demo"
    [[ $output == *"another optimizer: adafactor there, adamw here" ]]
    run -2 --separate-stderr train --optimizer adafactor -o "$out" "$tmp/demo"
    [[ $stderr == *"is for --full"* ]]
    run -2 train --full --optimizer sgd -o "$out" "$tmp/demo"
}

@test "--tensorboard: event files beside the log, a new one when resumed" {
    need_strace
    long -o "$tmp/whole" >"$tmp/whole.jsonl"
    strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=2 t5-train --device $device --threads 1 -m $model \
        --epochs 8 --save-every 5 --eval "$records" -o "$out" --tensorboard "$tmp/events" $records >"$tmp/log" || true
    [ "$(find "$tmp/events" -type f | wc -l)" = 1 ]
    long -o "$out" --tensorboard "$tmp/events" --resume >>"$tmp/log"
    same_result "$tmp/whole" "$out"
    [ "$(find "$tmp/events" -type f -name 'events.out.tfevents.*' | wc -l)" = 2 ]
    for tag in train/loss train/learning_rate train/grad_norm eval/loss brain.Event:2; do
        [ "$(grep -alF $tag "$tmp"/events/* | wc -l)" = 2 ]
    done
    # as many points as the log has
    [ "$(cat "$tmp"/events/* | grep -aoF train/loss | wc -l)" = "$(grep -c '"loss"' "$tmp/log")" ]
    [ "$(cat "$tmp"/events/* | grep -aoF eval/loss | wc -l)" = "$(grep -c '"eval_loss"' "$tmp/log")" ]
}

@test "TensorBoard reads what --tensorboard wrote, steps that a resumed run repeats once" {
    "${T5_PEER_PYTHON:-python3}" -c 'import tensorboard' 2>/dev/null || skip "no tensorboard in ${T5_PEER_PYTHON:-python3}"
    need_strace
    strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=2 t5-train --device $device --threads 1 -m $model \
        --epochs 8 --save-every 5 --eval "$records" -o "$out" --tensorboard "$tmp/events" $records >"$tmp/log" || true
    long -o "$out" --tensorboard "$tmp/events" --resume >>"$tmp/log"
    "${T5_PEER_PYTHON:-python3}" tests/golden/events.py --read "$tmp/events" "$tmp/log"
}

@test "--tensorboard that cannot be written: before the run status 4, later training goes on" {
    need_strace
    local at short="t5-train --device $device --threads 1 -m $model --max-steps 3 --tensorboard $tmp/events"
    run -4 --separate-stderr train -o "$out" --tensorboard "$tmp/no/such" $records
    [[ $output == '' && ${#stderr_lines[@]} == 1 && $stderr == "t5-train: $tmp/no/such: No such file or directory" ]]
    strace -f -qq -y -o "$tmp/trace" -e trace=write $short -o "$tmp/whole" $records >"$tmp/log"
    at=$(grep -n tfevents "$tmp/trace" | sed -n '4s/:.*//p') # the second step's
    rm "$tmp"/events/*
    run -4 --separate-stderr strace -f -qq -o /dev/null -e trace=write -e inject=write:error=ENOSPC:when=$at $short -o "$tmp/b" $records
    [[ ${#stderr_lines[@]} == 2 && ${stderr_lines[0]} == *"No space left on device: training goes on without it" ]]
    [[ ${stderr_lines[1]} == "t5-train: $tmp/events/events.out.tfevents."*": No space left on device" ]]
    same_result "$tmp/whole" "$tmp/b"
    [ "$(grep -aoF train/loss "$tmp"/events/* | wc -l)" = 1 ]
}

# ---- what is not finite ----

@test "a run that diverges: status 5, step and tensor named, the checkpoint before it is finite" {
    run -5 --separate-stderr train -o "$out" --lr 1e30 --schedule constant --save-every 1 --max-steps 40 $records
    [[ $stderr =~ ^t5-train:\ step\ [0-9]+:\ loss\ .*\'[a-z0-9A-Z._]+\'\ is\ not\ finite$ ]]
    [ ! -e "$out/adapter_model.safetensors" ]
    no_temporaries "$out"
    echo "$output" | jq -se 'map(select(.loss)) | length >= 1'
    # all the values in the checkpoints are numbers
    for f in "$out"/checkpoint.?.safetensors; do
        n=$(od -An -N8 -tu8 "$f")
        run ! bash -c "tail -c +$((n + 9)) $f | od -An -v -tf4 | grep -qE 'nan|inf'"
    done
}

@test "--tolerate passes over steps that are not finite" {
    run -0 --separate-stderr train -o "$out" --lr 1e30 --schedule constant --max-steps 6 --tolerate 6 $records
    echo "$output" | jq -se 'map(select(.passed_over)) | length >= 2 and all(.[]; .grad_norm == null)'
    run -5 --separate-stderr train -o "$tmp/b" --lr 1e30 --schedule constant --max-steps 40 --tolerate 3 $records
}

@test "a base with a NaN is refused, the tensor named" {
    cp -r $model "$tmp/bad"
    size=$(stat -c %s "$tmp/bad/model.safetensors")
    printf '\0\0\xc0\x7f' | dd of="$tmp/bad/model.safetensors" bs=1 seek=$((size - 4)) conv=notrunc status=none
    model=$tmp/bad
    for mode in --rslora --full; do
        run -1 --separate-stderr train -o "$out" $mode $records
        [[ $stderr =~ ^t5-train:\ .*tensor\ \'shared.weight\':\ element\ 1535\ is\ not\ finite$ ]]
    done
}

# ---- other ways to start and end ----

@test "--from-config and --full make HF directories that this program reads" {
    t5-train --device $device --from-config $model/config.json -o "$tmp/a" --epochs 2 --lr 0.01 $records >"$tmp/log"
    jq -se '.[0].mode == "full" and .[0].trainable == .[0].parameters' "$tmp/log"
    jq -e '(.dtype // .torch_dtype) == "float32" and .model_type == "t5"' "$tmp/a/config.json"
    model=$tmp/a
    train -o "$tmp/b" --full --epochs 1 --lr 0 --save-as bf16 $records >"$tmp/log2"
    jq -e '(.dtype // .torch_dtype) == "bfloat16"' "$tmp/b/config.json"
    # the loss goes on where it stood: no step of 1 is as high as the first of all
    jq -se --slurpfile a "$tmp/log" '($a | map(select(.loss)) | .[0].loss) > (map(select(.loss)) | .[0].loss)' "$tmp/log2"
    model=$tmp/b
    train -o "$tmp/c" --epochs 1 $records >"$tmp/log"
    t5-train --device $device --from-config $golden/relu/model/config.json -o "$tmp/d" --epochs 2 --lr 0.01 $records >"$tmp/log"
    cmp "$tmp/a/model.safetensors" "$tmp/d/model.safetensors"
}

@test "--init goes on from an adapter" {
    train -o "$tmp/a" --epochs 1 $records >"$tmp/log"
    train -o "$tmp/b" --init "$tmp/a" --lr 0 --epochs 1 $records >"$tmp/log"
    cmp "$tmp/a/adapter_model.safetensors" "$tmp/b/adapter_model.safetensors"
    cmp "$tmp/a/adapter_config.json" "$tmp/b/adapter_config.json"
    run -1 --separate-stderr train -o "$tmp/c" --init $golden/gated/adapter-qv $records
    run -2 train -o "$tmp/c" --init "$tmp/a" --rank 4 $records
}

@test "--targets, --rank and --rslora shape the adapter" {
    train -o "$out" --targets k,wo --rank 3 --alpha 6 --rslora --dropout 0 --max-steps 1 $records >"$tmp/log"
    jq -e '.r == 3 and .lora_alpha == 6 and .lora_dropout == 0 and .use_rslora
        and (.target_modules | sort) == ["k", "wo"]' "$out/adapter_config.json"
    run -2 train -o "$tmp/b" --targets q,x $records
    run -2 train -o "$tmp/b" --targets wi_0 $records # this model has none
}

@test "--dry-run prints the plan and touches nothing" {
    run -0 train --dry-run -o "$out" $records
    echo "$output" | jq -e '.event == "plan" and .memory.total > 0 and .memory.optimiser == 2 * .memory.parameters'
    [ ! -e "$out" ]
    run -0 train --dry-run --max-source 64 --max-target 32 --batch 4
    echo "$output" | jq -e '.input_tokens == 256 and .label_tokens == 128'
}

@test "a damaged model is refused: nothing of it reaches the directory or generate's output" {
    t5-quantize -o "$tmp/model" $model
    printf '\377' | dd of="$tmp/model" bs=1 conv=notrunc status=none seek=$(($(stat -c %s "$tmp/model") - 9))
    local every
    for every in 0 1; do # the verdict may come some steps later, but before anything is saved
        run -1 --separate-stderr t5-train --device ref -m "$tmp/model" -o "$out" --max-steps 3 --save-every $every $records
        [[ $stderr == "t5-train: "*"model: damaged"* && $output != *'"end"'* && -z $(ls "$out") ]]
    done
    run -1 --separate-stderr t5-generate --device ref -m "$tmp/model" $records
    [[ $stderr == "t5-generate: "*"model: damaged"* && -z $output ]]
}

@test "--max-memory: norms again, smaller passes, then blocks again, which changes no byte" {
    plan() { train --dry-run "$@" $records | jq -c '[.memory.total, .micro_tokens, .recompute]'; }
    local whole less
    whole=$(plan --micro-tokens 400 | jq '.[0]')
    [ "$(plan --micro-tokens 400 --max-memory "$whole")" = "[$whole,400,null]" ]
    plan --micro-tokens 400 --max-memory $((whole - 1)) |
        jq -e --argjson whole "$whole" '.[0] < $whole and .[1] == 400 and .[2] == "norms"'
    plan --micro-tokens 400 --max-memory $((whole * 7 / 8)) |
        jq -e --argjson whole "$whole" '.[0] < $whole and .[1] < 400 and .[1] > 200 and .[2] == "norms"'
    # records that pass alone cannot get smaller passes
    whole=$(plan --micro-tokens 1 | jq '.[0]')
    less=$((whole * 8 / 10))
    plan --micro-tokens 1 --max-memory $less |
        jq -e --argjson less $less '.[0] <= $less and .[1] == 1 and .[2] == "blocks"'
    long -o "$tmp/a" --micro-tokens 1 >"$tmp/a.jsonl"
    long -o "$tmp/b" --micro-tokens 1 --max-memory $less >"$tmp/b.jsonl"
    head -1 "$tmp/b.jsonl" | jq -e '.recompute == "blocks" and .memory.total <= .memory.free'
    same_result "$tmp/a" "$tmp/b"
    [ "$(figures "$tmp/a.jsonl")" = "$(figures "$tmp/b.jsonl")" ]
    run -4 train -o "$tmp/c" --max-memory 10K $records
    [[ $output == *"10240 are left by --max-memory"* ]]
}

@test "--max-memory refuses what is no size" {
    local size
    for size in 0 -1G 5X 5GG 1e3G G '' 1..5G 5iB nan 22g; do
        run -2 train -o "$out" --max-memory "$size" $records
        [[ $output == *"--max-memory"*"size"* ]] || { echo "$size: $output"; false; }
    done
}

# ---- bad input ----

# LINE as the third record: status 1, "FILE:3" and the words; with --skip-bad status 3.
bad_record() {
    { head -2 $records; printf '%s\n' "$1"; tail -n +3 $records; } >"$tmp/bad.jsonl"
    run -1 --separate-stderr train -o "$out" --max-steps 1 "$tmp/bad.jsonl" "${@:3}"
    [[ $output == '' && ${#stderr_lines[@]} == 1 && $stderr == "t5-train: $tmp/bad.jsonl:3"*"$2"* ]] ||
        { echo "$1: $stderr"; return 1; }
    run -3 --separate-stderr train -o "$out" --max-steps 1 --skip-bad "$tmp/bad.jsonl" "${@:3}"
    [[ ${stderr_lines[1]} == 't5-train: 1 of 25 records skipped' ]]
    rm -r "$out"
}

@test "int8 on the CPU: an int8 model's curve near f32's, the same bytes twice" {
    need_cpu
    t5-quantize -o "$tmp/q" $golden/gated/model
    model=$tmp/q
    for run in f32 int8 again; do
        compute=${run/again/int8}
        train --compute "$compute" -o "$tmp/$run" --order file --lr 0.003 --max-steps 20 $records >"$tmp/$run.log"
    done
    cmp "$tmp"/int8/adapter_model.safetensors "$tmp"/again/adapter_model.safetensors
    run -1 cmp -s "$tmp"/int8/adapter_model.safetensors "$tmp"/f32/adapter_model.safetensors
    jq -se --slurpfile want "$tmp/f32.log" 'def losses: map(.loss // empty); [losses, ($want | losses)] | transpose |
        length == 20 and all(.[]; (.[0] - .[1] | fabs) < 0.01 * .[1])' "$tmp/int8.log"
}

@test "fp8 without a GPU is refused in one line, nothing falls back" {
    need_cpu
    for device in ref cpu; do
        run -2 train --compute fp8 -o "$out" $records
        [[ $output == *"--compute fp8: only on cuda, not on $device"* ]]
        [ "${#lines[@]}" = 1 ]
    done
}

@test "bad records: status 1 at their line, with --skip-bad status 3" {
    bad_record '{"input_ids":[5,1]}' 'no "labels"'
    bad_record '{"labels":[5,1]}' 'no "input_ids"'
    bad_record '{"input_ids":[5,96,1],"labels":[5,1]}' '96'
    bad_record '{"input_ids":[5,-1,1],"labels":[5,1]}' '-1'
    bad_record '{"input_ids":[5,1],"labels":[5,99,1]}' '99'
    bad_record '{"input_ids":[5.0,1],"labels":[5,1]}' '5.0'
    bad_record '{"input_ids":["5",1],"labels":[5,1]}' 'number'
    bad_record '{"input_ids":[],"labels":[5,1]}' 'empty'
    bad_record '{"input_ids":[5,1],"labels":[]}' 'empty'
    bad_record '{"input_ids":[5,1],"labels":[0,0]}' 'padding'
    bad_record '{"input_ids":[5,1],"labels":"x"}' 'array'
    bad_record '{"input_ids":[5,1],"attention_mask":[1],"labels":[1]}' 'attention_mask'
    bad_record '{"input_ids":[5,1],"labels":[1]' 'record'
    bad_record 'nonsense' ''
    bad_record "{\"input_ids\":[$(seq -s, 2 90)],\"labels\":[1]}" '64' --max-source 64
    bad_record "{\"input_ids\":[1],\"labels\":[$(seq -s, 2 90)]}" '20' --max-target 20
}

@test "--truncate cuts instead, and keeps the end mark" {
    train -o "$tmp/a" --max-steps 3 --max-source 8 --max-target 4 --truncate $records >"$tmp/log"
    jq -c '.input_ids |= (if length > 8 then .[:7] + [.[-1]] else . end)
        | .labels |= (if length > 4 then .[:3] + [.[-1]] else . end)' $records >"$tmp/cut"
    train -o "$tmp/b" --max-steps 3 "$tmp/cut" >"$tmp/log"
    same_result "$tmp/a" "$tmp/b"
}

@test "no records, no such file, a file that is no model" {
    run -1 --separate-stderr train -o "$out" /dev/null
    [ "$stderr" = 't5-train: no records to train on' ]
    run -4 --separate-stderr train -o "$out" "$tmp/none.jsonl"
    [[ $stderr == *"none.jsonl: No such file or directory" ]]
    run -1 train -o "$out" --eval /dev/null $records
    model=$records
    run -1 --separate-stderr train -o "$out" $records
    [ ${#stderr_lines[@]} = 1 ]
}

@test "options that contradict each other: status 2" {
    run -2 t5-train -o "$out" $records
    run -2 t5-train -m $model $records
    run -2 t5-train -m $model --from-config $model/config.json -o "$out" $records
    run -2 train -o $model $records
    run -2 train --full --rank 3 -o "$out" $records
    run -2 train --truncate -o "$out" $records
    run -2 train --schedule step -o "$out" $records
    run -2 train --lr 10x -o "$out" $records
    run -2 train --lr -1 -o "$out" $records
    run -2 train --batch 0 -o "$out" $records
    run -2 train --compute fp8 --full -o "$out" $records
    run -2 train --compute int8 --full -o "$out" $records
    run -2 train --compute bf16 --keep-bf16 wo -o "$out" $records
    run -2 train --compute fp8 --keep-bf16 wo,w -o "$out" $records
    [ ! -e "$out" ]
}

#!/usr/bin/env bats
# plot.bats - pipelines/plot.sh: pictures of what the programs wrote, on a terminal of characters and as PNG.

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo" plot="$PWD/pipelines/plot.sh" OMP_NUM_THREADS=1
    cd "$BATS_FILE_TMPDIR"
    t5-tokenize -s "$demo/spiece.model" --max-source 8192 --max-target 8192 "$demo/test.jsonl" > tokens
    head -n 64 tokens | t5-train -m "$demo/base" -o adapter --epochs 2 --eval <(head -n 8 tokens) > metrics.jsonl
    t5-generate -m "$demo/base" tokens | t5-tokenize -s "$demo/spiece.model" --decode > base
    rouge --intervals base > base.json
    t5-generate -m "$demo/base" -a adapter tokens | t5-tokenize -s "$demo/spiece.model" --decode | rouge > lora.json
}

setup() { cd "$BATS_FILE_TMPDIR"; }

is_png() { [ "$(head -c 8 "$1" | od -An -tx1 | tr -d ' ')" = 89504e470d0a1a0a ]; }

@test "plot: the losses and the learning rate of a run" {
    run "$plot" loss metrics.jsonl
    [ "$status" -eq 0 ]
    [[ $output == *loss*"metrics.jsonl, eval"*"learning rate"*step* ]]
    [ "${#lines[@]}" -ge 34 ]
    "$plot" -o loss.png loss metrics.jsonl metrics.jsonl
    is_png loss.png
    # What a killed run wrote and its successor wrote again counts once, as said last.
    mkdir -p twice
    { head -n 6 metrics.jsonl | sed 's/"loss":[0-9]*/"loss":9/'; cat metrics.jsonl; } > twice/metrics.jsonl
    cmp <("$plot" loss metrics.jsonl) <(cd twice && "$plot" loss metrics.jsonl)
    run cmp <("$plot" loss metrics.jsonl) <(sed '/"step":8,/s/"loss":[0-9]*/"loss":9/' metrics.jsonl | "$plot" loss -)
    [ "$status" -eq 1 ]
}

@test "plot: the lengths of a data set, with percentiles equal to those of --stats" {
    want=$(t5-tokenize -s "$demo/spiece.model" --max-source 8192 --stats "$demo/test.jsonl" |
        jq -r '"p95 = \(.source.p95)|p50 = \(.target.p50)"')
    run "$plot" -p 95,50 lengths tokens
    [ "$status" -eq 0 ]
    [[ $output == *"${want%|*}"*"tokens of sources"*"${want#*|}"*"tokens of targets"* ]]
    [ "$want" = "p95 = 110|p50 = 19" ]
    "$plot" -s 400x300 -o lengths.png lengths - < tokens
    is_png lengths.png
    [ "$(od -An -tu1 -j 16 -N 8 lengths.png | tr -s ' ')" = " 0 0 1 144 0 0 1 44" ]
}

@test "plot: ROUGE of several systems, with intervals where they are known" {
    run "$plot" rouge "base=base.json" "it's LoRA_16=lora.json"
    [ "$status" -eq 0 ]
    [[ $output == *"base"*"it's LoRA_16"*rouge1*rouge2*rougeL* ]]
    "$plot" -o rouge.png -m 'rougeL rougeLsum' rouge base=base.json LoRA=lora.json
    is_png rouge.png
    run cmp <("$plot" rouge base=base.json) <(jq 'del(.[].interval?)' base.json | "$plot" rouge base=-)
    [ "$status" -eq 1 ]
}

@test "plot: what cannot be drawn is said, and no picture is left" {
    : > empty
    for bad in "loss empty" "loss missing" "lengths empty" "lengths base.json" "rouge base=tokens" "rouge base=missing" \
        "rouge base.json" "pie metrics.jsonl" "loss" "-p 85 lengths tokens" "-s 0x5 loss metrics.jsonl"; do
        # shellcheck disable=SC2086
        run "$plot" -o no.png $bad
        [ "$status" -ne 0 ]
        [ -n "$output" ]
        [ -z "$(ls no.png* 2> /dev/null)" ]
    done
}

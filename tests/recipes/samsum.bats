#!/usr/bin/env bats
# samsum.bats - pipelines/samsum on the demo's material, at a small scale. No network.

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo" samsum="$PWD/pipelines/samsum/Makefile" OMP_NUM_THREADS=1
}

recipe() { # the samsum pipeline on the demo's model; further settings as arguments
    make --no-print-directory -f "$samsum" MODEL="$demo/base" SPIECE="$demo/spiece.model" OUT=out "$@"
}

setup() { cd "$BATS_TEST_TMPDIR"; }

@test "samsum: records in, adapter, tokenizer and scores out; a second run has nothing to do" {
    run recipe DATA="$demo" LIMIT=24 EPOCHS=1
    [ "$status" -eq 0 ]
    [[ $output == *"24 records, stemmed"* ]]
    [ "$(ls out/results | tr '\n' ' ')" = "adapter_config.json adapter_model.safetensors spiece.model " ]
    cmp "$demo/spiece.model" out/results/spiece.model
    jq -e '.r == 16 and .lora_alpha == 32 and .lora_dropout == 0.05 and (.target_modules | sort) == ["q", "v"]' \
        out/results/adapter_config.json
    jq -e '.count == 24 and .rouge1.fmeasure > 0.2' out/scores.json
    jq -se 'map(select(.event == "start"))[0] | .trainable == 73728 and .steps == 3' out/training/metrics.jsonl
    # The recipe's lengths: percentiles 85 and 90 of both splits together, prefix not counted.
    want=$(jq '.target.p90 | floor' out/stats.json)
    [ "$(jq -s 'map(.labels | length) | max' out/test.tokens)" -le "$want" ]
    [ "$(jq '.source.count' out/stats.json)" = 48 ]
    [ -z "$(find out -name '*.part')" ]

    touch stamp
    run recipe DATA="$demo" LIMIT=24 EPOCHS=1
    [ "$status" -eq 0 ]
    [ -z "$(find out -newer stamp)" ]
}

@test "samsum: a changed setting makes again what depends on it, and no more" {
    recipe DATA="$demo" LIMIT=8 EPOCHS=1
    touch stamp; sleep 0.1
    recipe DATA="$demo" LIMIT=8 EPOCHS=1 DECODING=published
    made=$(cd out && find . -type f -newer ../stamp | sort | tr '\n' ' ')
    [ "$made" = "./predictions.jsonl ./scores.json ./set/DECODING " ]
    # As the notebook scores: against the labels, decoded, where some are cut.
    jq -c '{summary, hypothesis: .prediction, output_ids: .labels}' out/predictions.jsonl |
        t5-tokenize -s "$demo" --decode > labels
    jq -se 'any(.summary != .prediction)' labels
    rouge --prediction hypothesis --reference prediction --intervals labels | jq 'del(.signature)' |
        cmp - <(jq 'del(.signature)' out/scores.json)

    touch stamp; sleep 0.1
    recipe DATA="$demo" LIMIT=8 EPOCHS=2 adapter
    jq -se 'map(select(.event == "start")) | length == 1 and .[0].steps == 2' out/training/metrics.jsonl
    [ out/results/adapter_model.safetensors -nt stamp ]
    [ stamp -nt out/train.tokens ]
}

@test "samsum: the authors' 7z archive of JSON arrays, fetched" {
    mkdir made
    for split in train val test; do
        head -n 10 "$demo/$split.jsonl" | jq -s . > "made/$split.json"
    done
    (cd made && 7z a corpus.7z train.json val.json test.json > 7z.log)
    recipe URL="file://$PWD/made/corpus.7z" EPOCHS=1 LIMIT=6 adapter
    cmp made/corpus.7z out/samsum/corpus.7z
    for split in train test; do
        head -n 6 "$demo/$split.jsonl" | jq -c . > want
        if [ -f out/data/$split.jsonl ]; then cmp want out/data/$split.jsonl; fi
    done
    [ -f out/data/train.jsonl ]
    t5-generate -m out/model.int8.safetensors -a out/results < /dev/null

    # The same arrays, unpacked.
    recipe DATA=made OUT=out2 LIMIT=6 data
    cmp out/data/train.jsonl out2/data/train.jsonl
}

@test "samsum: no archive, no model, no such decoding: it stops and says why, and leaves no half file" {
    run recipe URL="file://$PWD/missing.7z" data
    [ "$status" -ne 0 ]
    [ ! -e out/samsum/corpus.7z ]
    echo "no archive" > bad.7z
    run recipe URL="file://$PWD/bad.7z" data
    [ "$status" -ne 0 ]
    [ ! -e out/data/train.jsonl ]
    run make -f "$samsum" MODEL=missing
    [ "$status" -ne 0 ]
    [[ $output == *"MODEL=missing"* ]]
    run recipe DATA="$demo" DECODING=guess
    [ "$status" -ne 0 ]
    [[ $output == *"DECODING=guess"* ]]
}

@test "samsum: killed in training, it goes on to the same adapter" {
    recipe DATA="$demo" LIMIT=64 EPOCHS=1 OUT=whole adapter
    recipe DATA="$demo" LIMIT=64 EPOCHS=1 out/model.int8.safetensors out/train.tokens
    mkdir -p out/training
    # As if killed after the third step: the same command, one checkpoint a step, ended from outside.
    t5-train -m out/model.int8.safetensors -o out/training --epochs 1 --save-every 1 --resume out/train.tokens \
        > log & pid=$!
    until [ "$(grep -c '"step":[3-9]' log)" -gt 0 ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
    kill -KILL $pid 2>/dev/null || true
    wait $pid || true
    recipe DATA="$demo" LIMIT=64 EPOCHS=1 adapter
    cmp whole/results/adapter_model.safetensors out/results/adapter_model.safetensors
}

@test "README: one random record, sampled with top-p 0.9 and 10 new tokens, in one line" {
    line=$(sed -n 's/^    \(shuf -n 1 .*\)$/\1/p' "$demo/../../README.md")
    [ "$(wc -l <<< "$line")" = 1 ]
    [[ $line == *"--top-p 0.9"*"--max-new-tokens 10"* ]]
    cp "$demo/test.jsonl" "$demo/spiece.model" .
    ln -s "$demo/base" model
    recipe DATA="$demo" LIMIT=8 EPOCHS=1 adapter
    ln -s out/results results
    run bash -o pipefail -c "$line"
    [ "$status" -eq 0 ]
    [ -n "$output" ]
}

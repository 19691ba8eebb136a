#!/usr/bin/env bats
# experiment.bats - pipelines/experiment on a few of the demo's records: the report says what the files say.

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo" makefile="$PWD/pipelines/experiment/Makefile" OMP_NUM_THREADS=1
}

setup() { cd "$BATS_TEST_TMPDIR"; }

experiment() {
    make --no-print-directory -f "$makefile" MODEL="$demo/base" SPIECE="$demo/spiece.model" DATA="$demo" OUT=out \
        LIMIT=24 EPOCHS=2 LR=3e-3 "$@"
}

@test "experiment: a report of settings, data, files, times, losses, scores and the worst" {
    experiment
    sed -n 's/^## //p' out/report.md | cmp - <(printf '%s\n' Settings Data Files Time Training ROUGE 'The worst summaries')
    grep -q '^| LR | `3e-3` |$' out/report.md
    grep -q '^- `test.jsonl`: 24 records$' out/report.md
    grep -qF "| \`results/adapter_model.safetensors\` | $(stat -c %s out/results/adapter_model.safetensors) | \`$(sha256sum \
        < out/results/adapter_model.safetensors | cut -c 1-64)\` |" out/report.md
    for stage in model.int8.safetensors training/adapter_model.safetensors predictions.jsonl base.jsonl; do
        grep -q "^| \`$stage\` | [0-9.]* |\$" out/report.md
    done
    # The numbers are those of the files, and the files' are those of the programs.
    lora=$(rouge out/predictions.jsonl | jq '.rouge1.fmeasure * 10000 | round / 100')
    base=$(t5-generate -m out/model.int8.safetensors out/test.tokens | t5-tokenize -s "$demo" --decode | rouge |
        jq '.rouge1.fmeasure * 10000 | round / 100')
    grep -q "^| rouge1 | $base | .* to .* | $lora | .* to .* |" out/report.md
    [ "$base" != "$lora" ]
    loss=$(jq -s 'map(select(.loss)) | .[3:] | (map(.loss) | add) / 3 * 1e4 | round / 1e4' out/training/metrics.jsonl)
    grep -q "^| 2 | $loss | [0-9]* |\$" out/report.md
    [ "$(grep -c '^### test-' out/report.md)" = 3 ]
    for picture in $(sed -n 's/^!\[.*\](\(.*\))$/\1/p' out/report.md); do
        [ "$(head -c 4 "out/$picture" | tail -c 3)" = PNG ]
    done
    [ "$(grep -c '^!\[' out/report.md)" = 3 ]
    [ "$(find out -name '*.part' | wc -l)" = 0 ]

    # The command that the report gives has nothing left to do.
    touch stamp
    again=$(sed -n 's/^Again: `make -f pipelines.experiment.Makefile \(.*\)`$/\1/p' out/report.md)
    eval "make --no-print-directory -f '$makefile' $again"
    [ -z "$(find out -newer stamp ! -name times.tsv ! -type d)" ]
}

@test "experiment: a changed setting makes again what depends on it; clean leaves nothing" {
    experiment LIMIT=8 EPOCHS=1
    touch stamp; sleep 0.1
    experiment LIMIT=8 EPOCHS=1 WORST=1 DECODING=beam
    [ "$(grep -c '^### test-' out/report.md)" = 1 ]
    grep -q '^| DECODING | `beam` |$' out/report.md
    [ stamp -nt out/training/adapter_model.safetensors ]
    [ stamp -nt out/loss.png ]
    [ out/base.jsonl -nt stamp ]
    [ out/rouge.png -nt stamp ]
    experiment clean
    [ -z "$(find out -type f)" ]
}

@test "experiment: a stage that fails leaves no report" {
    run experiment MODEL="$BATS_TEST_TMPDIR/none"
    [ "$status" -ne 0 ]
    run experiment TRAIN='--targets nothing'
    [ "$status" -ne 0 ]
    [[ $output == *"t5-train: "*nothing* ]]
    [ ! -e out/report.md ]
}

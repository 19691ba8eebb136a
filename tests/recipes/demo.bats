#!/usr/bin/env bats
# demo.bats - pipelines/demo as `make demo` runs it, whole.

@test "demo: from dialogues to the scores that its head promises" {
    cd "$BATS_TEST_DIRNAME/../.."
    promised=$(sed -n 's/^# ROUGE-1 .*: \([0-9.]*\) for the base, \([0-9.]*\) with the adapter.*/\1 \2/p' pipelines/demo/run.sh)
    [ -n "$promised" ]
    run env BIN="$(dirname "$(command -v t5-train)")" bash pipelines/demo/run.sh "$BATS_TEST_TMPDIR/out"
    [ "$status" -eq 0 ]
    for system in base lora; do jq '.rouge1.fmeasure * 100' "$BATS_TEST_TMPDIR/out/$system.rouge.json"; done |
        paste -sd ' ' | awk -v promised="$promised" '{ split(promised, p, " ")
            if ($1 < p[1] - 0.5 || $1 > p[1] + 0.5 || $2 < p[2] - 2 || $2 > p[2] + 2) { print $0 ", not " promised; exit 1 } }'
    [ -s "$BATS_TEST_TMPDIR/out/adapter/adapter_model.safetensors" ]
    [[ $output == *"matrices to 8 bit"*"three of the test records"*"ROUGE, F in percent"* ]]
}

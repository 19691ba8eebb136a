#!/usr/bin/env bats
# demo.bats - the demo's material in testdata/demo. What is made of it: tests/recipes/demo.bats.

setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo"
}

@test "demo: the records are what make-corpus makes" {
    "$demo/make-corpus" -k train -n 1500 | cmp - "$demo/train.jsonl"
    "$demo/make-corpus" -k val -n 150 | cmp - "$demo/val.jsonl"
    "$demo/make-corpus" -k test -n 200 | cmp - "$demo/test.jsonl"
    # Keyed: a record is the same in a shorter run; another seed is another record.
    "$demo/make-corpus" -k test -n 3 | cmp - <(head -n 3 "$demo/test.jsonl")
    run cmp <("$demo/make-corpus" -s 43 -k test -n 200) "$demo/test.jsonl"
    [ "$status" -eq 1 ]
    [ "$(jq -s 'map(.dialogue) | unique | length' "$demo"/{train,val,test}.jsonl)" = 1850 ]
}

@test "demo: the committed base scores what the demo expects" {
    want=$(sed -n 's/^# ROUGE-1 .*: \([0-9.]*\) for the base.*/\1/p' "$demo/../../pipelines/demo/run.sh")
    [ -n "$want" ]
    t5-tokenize -s "$demo/spiece.model" -p 'summarize: ' "$demo/test.jsonl" |
        t5-generate -m "$demo/base" | t5-tokenize -s "$demo/spiece.model" --decode | rouge |
        jq -e --argjson want "$want" '.count == 200 and (.rouge1.fmeasure * 100 - $want | fabs) < 0.5'
}

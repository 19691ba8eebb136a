#!/usr/bin/env bats
# memory.bats - too little memory: status 4, one line that says what was asked for, nothing half written; generation goes
# on with smaller batches while these fit.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    [ -z "${SAN:-}" ] && ! ldd "$(command -v rouge)" | grep -q asan || skip "sanitizers reserve address space"
    demo=testdata/demo
    tmp=$BATS_TEST_TMPDIR
    t5-tokenize -s $demo/spiece.model -p 'summarize: ' $demo/test.jsonl >"$tmp/tokens.jsonl"
}

# KILOBYTES COMMAND...: fails within that address space, and says so
starves() {
    run --separate-stderr bash -c 'ulimit -v "$1"; shift; exec "$@" >/dev/null' - "$@"
    [ "$status" = 4 ]
    [ "${#stderr_lines[@]}" = 1 ]
    [[ ${stderr_lines[0]} == *": out of memory (asked "*" bytes for "*")" ]]
}

@test "t5-generate" { starves 20000 t5-generate --threads 1 -m $demo/base "$tmp/tokens.jsonl"; }
@test "t5-generate, smaller batches" {
    t5-generate --threads 1 -m $demo/base "$tmp/tokens.jsonl" >"$tmp/all"
    run --separate-stderr bash -c 'ulimit -v 30000; exec t5-generate --threads 1 -m "$1" "$2" >"$3"' - $demo/base "$tmp/tokens.jsonl" "$tmp/few"
    [ "$status" = 0 ]
    [[ $stderr == "t5-generate: memory runs out: batches of "*" tokens from here on, not 4096" ]]
    cmp "$tmp/all" "$tmp/few"
}
@test "t5-quantize" {
    mkdir "$tmp/dir"
    starves 20000 t5-quantize -o "$tmp/dir/out" $demo/base
    [ -z "$(ls -A "$tmp/dir")" ]
}
@test "t5-train" {
    starves 40000 t5-train -m $demo/base -o "$tmp/out" --max-steps 2 "$tmp/tokens.jsonl"
    [ "$(ls "$tmp/out")" = "" ]
}

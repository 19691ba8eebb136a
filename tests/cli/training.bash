# training.bash - what the tests of t5-train share: a small run, waiting for it, comparing what it leaves.

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    golden=testdata/golden
    records=$golden/records.jsonl
    model=$golden/relu/model
    tmp=$BATS_TEST_TMPDIR
    out=$tmp/out
    device=ref
}

# strace fails system calls of a run; the sanitizer's search for leaks cannot work beside it.
need_strace() {
    strace -e trace=none true 2>/dev/null || skip "strace cannot trace here"
    export ASAN_OPTIONS=detect_leaks=0
}

teardown() {
    [ -z "${job:-}" ] || { kill -9 "$job" 2>/dev/null; wait "$job" 2>/dev/null; } || true
}

train() { # on one device, one model; tiny ones gain nothing from a second thread
    t5-train --device "$device" --threads 1 -m "$model" "$@"
}

# The run that is interrupted in the tests: 24 steps, dropout and evaluation on, a checkpoint every 5 steps.
long() {
    train --epochs 8 --save-every 5 --eval "$records" "$@" "$records"
}

need_cpu() {
    [ -e "${B:-build}/lib/t5-cpu.so" ] || skip "no CPU backend"
    device=cpu
}

# Until the background run has logged N steps; fails where it ends before.
wait_for_steps() {
    until [ "$(grep -cs '"loss"' "$tmp/log")" -ge "$1" ]; do
        kill -0 "$job" || return 1
        sleep 0.01
    done
}

# What a log says apart from times, repeated steps once.
figures() { jq -cS 'select(.step and .event == null) | del(.seconds, .tokens_per_s, .eval_seconds)' "$@" | sort -u; }

# DIR against DIR: results and checkpoints, wherever the slot; no temporary file left.
same_result() {
    local f
    for f in adapter_model.safetensors adapter_config.json; do
        cmp "$1/$f" "$2/$f" || return 1
    done
    cmp "$1"/checkpoint.?.safetensors "$2"/checkpoint.?.safetensors || return 1
    no_temporaries "$1" && no_temporaries "$2"
}

no_temporaries() {
    [ -z "$(find "$1" -name '.t5tmp*')" ]
}

#!/usr/bin/env bash
# run.sh - every unit test (cmocka) and every CLI test (bats), then one line of totals. With RECIPES=all the tests
# of pipelines/ and nothing else; otherwise the quick ones among them, too.
# A skipped test is counted and said aloud; the exit status is 1 when anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."
export B=${B:-build} PATH="$PWD/${B:-build}/bin:$PATH" CMOCKA_MESSAGE_OUTPUT=TAP
export LC_ALL=C.UTF-8 OMP_WAIT_POLICY=passive # tests share the machine: waiting threads sleep
passed=0 failed=0 skipped=0
tap=$(mktemp)
trap 'rm -f "$tap"' EXIT

count() { # reads TAP from $tap; prints what is not ok; $1 names the source, $2 its exit status
    local p f s
    sed -i -E 's/^not (ok .*# SKIP)/\1/' "$tap" # cmocka's way to say skipped
    s=$(grep -cE '^ok .*# (skip|SKIP)' "$tap")
    p=$(($(grep -cE '^ok ' "$tap") - s))
    f=$(grep -cE '^not ok ' "$tap")
    if [ "$2" != 0 ] && [ "$f" = 0 ]; then f=1; echo "FAILED $1: exit status $2"; fi
    [ "$f" = 0 ] || { echo "FAILED $1"; grep -vE '^ok ' "$tap" | tail -n 60; }
    grep -E '^ok .*# (skip|SKIP)' "$tap" | sed "s|^|skipped $1: |"
    printf '%-40s %4d passed %d failed %d skipped\n' "$1" "$p" "$f" "$s"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# The CUDA backend's tests without a card (tests/emulated), with their arguments.
emulated=(test_emulated test_gpu_{ops,few_rows,decode_stack,q8_ops,q8,model} test_optimizers_gpu 'test_attention_gpu check' 'test_lora_gpu --small')
units=("$B"/tests/test_*) suites=(tests/cli/*.bats tests/recipes/{fetch,shards,samsum}.bats)
[ "${RECIPES:-}" != all ] || units=() emulated=() suites=(tests/recipes/*.bats)

for t in "${units[@]}"; do
    [ -x "$t" ] && [ -f "$t" ] && [ "${t%.d}" = "$t" ] || continue
    [ -z "${ONLY:-}" ] || [[ $t == *$ONLY* ]] || continue
    timeout 900 "$t" >"$tap" 2>&1; count "${t##*/}" $?
done
[ -d "$B/emulated/gpu" ] || { echo 'skipped emulated/*: no headers of the CUDA toolkit'; emulated=(); }
for t in "${emulated[@]}"; do
    [ -z "${ONLY:-}" ] || [[ emulated/$t == *$ONLY* ]] || continue
    # shellcheck disable=SC2086 # a program and its arguments
    timeout 900 "$B"/emulated/gpu/$t >"$tap" 2>&1; count "emulated/${t%% *}" $?
done
for t in "${suites[@]}"; do
    [ -f "$t" ] || continue
    [ -z "${ONLY:-}" ] || [[ $t == *$ONLY* ]] || continue
    timeout 1800 bats --tap "$t" >"$tap" 2>&1; count "${t##*/}" $?
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]

#!/usr/bin/env bash
# sanitize.sh - the operator tests of the CUDA backend under compute-sanitizer, on a card: one line a tool and test with
# what it found, and the beginning of its report where that is something. racecheck leaves cuBLASLt's kernels out, which are
# not ours and most of its time. A missing sanitizer is a failure.
#
# usage: sanitize.sh [TOOL]...     memcheck, initcheck, synccheck, racecheck [all]
#
# B: the build directory [build]. LIMIT: seconds a tool and test may take [1200]. JOBS: how many run at a time [8].
# REPORTS: where reports and what the tests said are kept [nowhere].
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export build=${B:-build} limit=${LIMIT:-1200} reports=${REPORTS:-}
# The slow ones first.
tests=(test_gpu_ops 'test_lora_gpu --small' test_gpu_few_rows test_gpu_q8_ops 'test_attention_gpu check' test_gpu_decode_stack test_optimizers_gpu)
if [ -z "$reports" ]; then
    reports=$(mktemp -d)
    trap 'rm -rf "$reports"' EXIT
fi
mkdir -p "$reports" || exit 1
command -v compute-sanitizer >/dev/null || { echo "sanitize.sh: no compute-sanitizer (CUDA toolkit)" >&2; exit 1; }

check() { # TOOL TEST [ARGUMENT]
    local tool=$1 started=$SECONDS log=$reports/$1.$2 status ours=()
    shift
    [ "$tool" != racecheck ] || ours=(--kernel-name-exclude 'regex=nvjet|cutlass|gemm|splitK|cublas')
    timeout "$limit" compute-sanitizer --tool "$tool" --error-exitcode 99 --log-file "$log" "${ours[@]}" \
        "$build/gpu/$1" "${@:2}" >"$log.out" 2>&1
    status=$?
    printf '%-10s %-24s %4d s  status %d  %s\n' "$tool" "$1" $((SECONDS - started)) "$status" \
        "$(tail -n 1 "$log" | sed 's/^=* *//')"
    [ "$status" = 0 ] && return
    head -n 60 "$log"; tail -n 5 "$log.out"
    return 1
}
export -f check

[ $# -gt 0 ] || set -- racecheck memcheck initcheck synccheck
for tool in "$@"; do
    printf "$tool %s\n" "${tests[@]}"
done | xargs -P "${JOBS:-8}" -I '{}' bash -c 'said=$(check {}); status=$?; echo "$said"; exit $status'

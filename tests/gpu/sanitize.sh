#!/usr/bin/env bash
# sanitize.sh - the operator tests of the CUDA backend under compute-sanitizer, on a card: one line a tool and test with
# what it found, and its reports where that is something. racecheck leaves cuBLASLt's kernels out, which are not ours and
# most of its time. A missing sanitizer is a failure.
#
# usage: sanitize.sh [TOOL]...     memcheck, initcheck, synccheck, racecheck [all]
#
# B: the build directory [build]. LIMIT: seconds a tool and test may take [1200].
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
build=${B:-build} limit=${LIMIT:-1200}
tests=(test_gpu_ops test_gpu_fp8_ops test_gpu_few_rows test_gpu_decode_stack test_optimizers_gpu 'test_attention_gpu check' 'test_lora_gpu --small')
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
command -v compute-sanitizer >/dev/null || { echo "sanitize.sh: no compute-sanitizer (CUDA toolkit)" >&2; exit 1; }

check() { # TOOL TEST [ARGUMENT...]
    local tool=$1 started=$SECONDS log=$dir/$1.$2 status said ours=()
    shift
    [ "$tool" != racecheck ] || ours=(--kernel-name-exclude 'regex=nvjet|cutlass|gemm|splitK|cublas')
    timeout "$limit" compute-sanitizer --tool "$tool" --error-exitcode 99 --log-file "$log" "${ours[@]}" \
        "$build/gpu/$1" "${@:2}" >"$log.out" 2>&1
    status=$?
    said=$(tail -n 1 "$log" | sed 's/^=* *//')
    printf '%-10s %-24s %4d s  status %d  %s\n' "$tool" "$1" $((SECONDS - started)) "$status" "$said"
    [ "$status" = 0 ] && return
    head -n 60 "$log"; tail -n 5 "$log.out"
    touch "$dir/failed"
}

[ $# -gt 0 ] || set -- memcheck initcheck synccheck racecheck
for tool in "$@"; do
    for t in "${tests[@]}"; do
        # shellcheck disable=SC2086 # a program and its arguments
        check "$tool" $t >"$dir/said.${t%% *}" &
    done
    wait
    cat "$dir"/said.*
done
[ ! -e "$dir/failed" ]

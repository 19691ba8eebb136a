#!/usr/bin/env bash
# sanitize.sh - the operator tests of the CUDA backend under compute-sanitizer, on a card: one line a tool and test with
# what it found, and the beginning of its report where that is something. What racecheck says of cuBLASLt's kernels, whose
# rings of copies and barriers it takes for races, is counted apart and fails nothing. A missing sanitizer is a failure.
#
# usage: sanitize.sh [TOOL]...     memcheck, initcheck, synccheck, racecheck [all]
#
# TESTS: which programs [all]. B: the build directory [build]. LIMIT: seconds a tool and test may take [1200]. JOBS: how many
# run at a time [8]. REPORTS: where reports and what the tests said are kept [nowhere].
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
export build=${B:-build} limit=${LIMIT:-1200} reports=${REPORTS:-}
# The slow ones first.
tests=${TESTS:-test_gpu_ops test_lora_gpu test_gpu_few_rows test_gpu_q8_ops test_attention_gpu test_gpu_decode_stack test_optimizers_gpu}
if [ -z "$reports" ]; then
    reports=$(mktemp -d)
    trap 'rm -rf "$reports"' EXIT
fi
mkdir -p "$reports" || exit 1
command -v compute-sanitizer >/dev/null || { echo "sanitize.sh: no compute-sanitizer (CUDA toolkit)" >&2; exit 1; }

check() { # TOOL TEST
    local tool=$1 started=$SECONDS log=$reports/$1.$2 status lines theirs='nvjet|cutlass|gemm|cublas' options=() arguments=()
    case $tool in
    racecheck) options=(--print-limit 0) ;; # a report's "Race ... access at KERNEL and ... access at KERNEL" is judged below
    synccheck) options=(--num-cuda-barriers 1024 --error-exitcode 99) ;;
    *) options=(--error-exitcode 99) ;;
    esac
    case $2 in test_attention_gpu) arguments=(check) ;; test_lora_gpu) arguments=(--small) ;; esac
    timeout "$limit" compute-sanitizer --tool "$tool" --log-file "$log" "${options[@]}" "$build/gpu/$2" "${arguments[@]}" >"$log.out" 2>&1
    status=$?
    if [ "$tool" = racecheck ] && grep -E 'access at|Internal|Error: [^R]' "$log" | grep -qvE "access at .*($theirs)"; then
        status=99
    fi
    lines=$(grep -cE "access at .*($theirs)" "$log")
    printf '%-10s %-22s %4d s  status %d  %s%s\n' "$tool" "$2" $((SECONDS - started)) "$status" "$(tail -n 1 "$log" | sed 's/^=* *//')" \
        "$([ "$lines" = 0 ] || echo "; $lines lines on cuBLASLt's kernels")"
    [ "$status" = 0 ] && return
    grep -vE "access at .*($theirs)" "$log" | head -n 60
    tail -n 5 "$log.out"
    return 1
}
export -f check

[ $# -gt 0 ] || set -- racecheck memcheck initcheck synccheck
for tool in "$@"; do
    # shellcheck disable=SC2086 # names
    printf "$tool %s\n" $tests
done | xargs -P "${JOBS:-8}" -I '{}' bash -c 'said=$(check {}); status=$?; echo "$said"; exit $status'

#!/usr/bin/env bash
# run.sh - every other script of this folder; each prints JSONL, a line a figure. Goes on after one that fails, and
# then exits 1.
set -uo pipefail
cd "$(dirname "$0")/../.."
rc=0
for script in tests/bench/*.sh; do
    [ "$script" = tests/bench/run.sh ] || bash "$script" || { echo "run.sh: $script failed" >&2; rc=1; }
done
exit $rc

#!/usr/bin/env bash
# timed.sh - make's shell for an experiment: runs a line of a recipe and notes how long it took.
#
# usage: timed.sh FILE TARGET LINE      FILE gets: make's process, TARGET, seconds; TARGET is a file beside it
set -euo pipefail
export LC_ALL=C.UTF-8
file=$1 target=$2
start=$EPOCHREALTIME
status=0
bash -euo pipefail -c "$3" || status=$?
if [[ $target == "${file%/*}"/* ]]; then
    awk -v make=$PPID -v target="$target" -v from="$start" -v to="$EPOCHREALTIME" \
        'BEGIN { printf "%d\t%s\t%.3f\n", make, target, to - from }' >> "$file"
fi
exit $status

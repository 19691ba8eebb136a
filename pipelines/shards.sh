#!/usr/bin/env bash
# shards.sh - t5-generate over many processes, GPUs or hosts: the same bytes as one process gives.
#
# usage: pipelines/shards.sh [-j JOBS] [-n RECORDS] [-d 'DEVICE...'] [-S HOST,...] FILE OPTION...
#
# FILE    token records, one a line; - is standard input
# OPTION  of t5-generate: -m MODEL and the rest, but no file
# -j      processes at a time [one a DEVICE, otherwise 2]; with -S, on each host
# -n      records that a process is given [256]; a process starts in the time that loading MODEL takes
# -d      devices, such as 'cuda:0 cuda:1 cuda:2': each process has one to itself [--device is t5-generate's default]
# -S      hosts as `parallel --sshlogin` names them: 'node1,4/node2,:' is node1, four processes on node2, and this machine.
#         A host needs ssh without questions, and the programs and files at the paths that they have here.
#
#   t5-tokenize -s spiece.model -p 'summarize: ' test.jsonl |
#       pipelines/shards.sh -d 'cuda:0 cuda:1' - -m base.int8 -a adapter |
#       t5-tokenize -s spiece.model --decode > predictions.jsonl
#
# Records leave in the order in which they came. On cpu an answer depends on its record alone, sampled or not, so it
# is the same in any shard; CUDA may round otherwise in a batch of another shape (NOTES.md). Without -d, processes
# share the cores. Each holds its own copy of the weights. The first that fails ends everything with its status;
# its message counts lines from the beginning of its shard.
set -euo pipefail
program=${0##*/}
usage() { echo "$program: $* (see --help)" >&2; exit 2; }
[ "${1:-}" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit; }

jobs='' records=256 devices='' hosts=''
while getopts j:n:d:S: option; do
    case $option in
    j) jobs=$OPTARG ;;
    n) records=$OPTARG ;;
    d) devices=$OPTARG ;;
    S) hosts=$OPTARG ;;
    *) usage "no such option" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 3 ] || usage "FILE and the options of t5-generate are missing"
file=$1
shift
read -ra device <<< "$devices"
jobs=${jobs:-$((${#device[@]} ? ${#device[@]} : 2))}
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage "-j $jobs: a number of processes"
[[ $records =~ ^[1-9][0-9]*$ ]] || usage "-n $records: a number of records"
[ -z "$devices" ] || [ "$jobs" -le ${#device[@]} ] || usage "-j $jobs processes for ${#device[@]} devices"
[ -z "$hosts" ] || [ ${#device[@]} -le 1 ] || usage "-S takes one DEVICE, the same on each host"
[ "$file" = - ] || exec < "$file"

generate=$(command -v "${BIN:+$BIN/}t5-generate") || usage "no t5-generate in PATH, and none named by BIN"
command=("$(realpath "$generate")" "$@")
if [ ${#device[@]} -gt 0 ]; then
    # The job slot is a number from 1 that no other running process has.
    command+=(--device "{= \$_ = (qw(${device[*]}))[slot() - 1] =}")
elif [ -z "$hosts" ]; then
    cores=$(nproc)
    command+=(--threads $((jobs < cores ? cores / jobs : 1)))
fi
# A job that left before the end of its shard would take parallel's feeder with it (SIGPIPE) and hide its own status.
# --halt drops what a failed job has said unless its turn had come, so messages go around parallel, and through a
# pipe, where nobody draws progress.
exec 3> >(exec cat >&2)
job='"$@" 2>&3; status=$?; cat > /dev/null; exit $status'
[ -z "$hosts" ] || job=${job/ 2>&3/}
# Otherwise a host runs the job with the shell in its SHELL, which may be fish, or unset: then nothing runs, with status 0.
PARALLEL_SHELL=/bin/sh exec parallel --will-cite --quote --pipe -N "$records" --block 64M --keep-order --halt now,fail=1 -j "$jobs" \
    ${hosts:+--sshlogin "$hosts" --workdir "$PWD"} sh -c "$job" sh "${command[@]}"

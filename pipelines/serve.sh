#!/usr/bin/env bash
# serve.sh - a summarising service on a socket: a line of text in, its summary out. These programs, jq and socat.
#
# usage: pipelines/serve.sh [-l ADDRESS] [-p PREFIX] [-n TOKENS] SPIECE OPTION...
#
# SPIECE  spiece.model, or the model's directory
# OPTION  of t5-generate: -m MODEL and the rest, but no file
# -l      where to listen, an address of socat [UNIX-LISTEN:t5.socket,unlink-early]; for the network
#         TCP-LISTEN:7777,reuseaddr,bind=127.0.0.1. Nobody is asked who he is: bind what others cannot reach
# -p      put before each text ['summarize: ']
# -n      cut a text to so many tokens [512]
#
#   pipelines/serve.sh flan-t5-base -m base.int8 -a adapter --compute int8 &
#   echo 'Ann: Lunch? Bob: At one. Ann: Fine!' | socat -t 60 - UNIX-CONNECT:t5.socket
#
# A connection may send many lines; each is answered before the next is read. All connections share one model,
# loaded once: t5-tokenize, t5-generate and t5-tokenize --decode stay under way, since each writes what it has before
# it waits, and questions that come together are answered in one batch. The service says on standard error when it
# is ready. When one of the programs ends, so does the service, with its status.
#
# Latency: t5-generate's work and some milliseconds. With the demo's model, on two busy cores, 7 ms a line; 50 ms where
# each line opens a connection of its own (a shell and a jq).
set -euo pipefail
program=${0##*/}
die() { local status=$1; shift; echo "$program: $*" >&2; exit "$status"; }
[ "${1:-}" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit; }

# answer: one connection, on standard input and output; its answers come through a pipe named by the process.
# A client that leaves must not leave half a question behind, so nothing ends this but the end of its input.
answer() {
    trap '' TERM HUP PIPE
    local question summary
    me=$BASHPID
    mkfifo "$T5_SERVE/$me"
    trap 'rm -f "$T5_SERVE/$me"' EXIT
    exec 3<> "$T5_SERVE/$me" 4> "$T5_SERVE/questions"
    jq --unbuffered -cR --arg to "$me" '{to: $to, dialogue: (gsub("[[:cntrl:]]"; " ") | .[:65536])}' |
        while read -r question; do
            flock 4
            printf '%s\n' "$question" >&4
            flock -u 4
            until read -r -t 1 summary <&3; do
                [ -p "$T5_SERVE/questions" ] || exit 1 # the service has ended
            done
            printf '%s\n' "$summary" || exit 0
        done
}
[ "${1:-}" != --answer ] || { answer; exit; }

listen=UNIX-LISTEN:t5.socket,unlink-early prefix='summarize: ' tokens=512
while getopts l:p:n: option; do
    case $option in
    l) listen=$OPTARG ;;
    p) prefix=$OPTARG ;;
    n) tokens=$OPTARG ;;
    *) die 2 "see --help" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || die 2 "SPIECE and the options of t5-generate are missing (see --help)"
spiece=$1
shift
PATH=${BIN:+$(realpath "$BIN"):}$PATH

# Each answer to the connection that asked, if that is still there.
deliver() {
    jq --unbuffered -r '"\(.to)\t\(.prediction | gsub("[[:cntrl:]]"; " "))"' |
        while IFS=$'\t' read -r to summary; do
            [ ! -p "$T5_SERVE/$to" ] || printf '%s\n' "$summary" 1<> "$T5_SERVE/$to"
        done
}

# A program of the service, as a job. One that ends because a neighbour has ended waits: the first cause is what counts.
stage() {
    local status=0
    "$@" || status=$?
    case $status in
    0 | 141) exec sleep infinity ;;
    *) exit $status ;;
    esac
}

T5_SERVE=$(mktemp -d)
export T5_SERVE
jobs=()
leave() {
    local job
    disown -a # or bash tells of each
    for job in "${jobs[@]}"; do kill -- "-$job" 2> /dev/null || true; done
    rm -rf "$T5_SERVE" || true
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Jobs and not one pipeline, so that the first to end is noticed; with set -m each is a process group.
set -m
mkfifo "$T5_SERVE"/{questions,tokens,ids,summaries,ready}
stage deliver < "$T5_SERVE/summaries" & jobs+=($!)
stage t5-tokenize -s "$spiece" --decode < "$T5_SERVE/ids" > "$T5_SERVE/summaries" & jobs+=($!)
stage t5-tokenize -s "$spiece" -p "$prefix" --max-source "$tokens" < "$T5_SERVE/questions" > "$T5_SERVE/tokens" & jobs+=($!)
stage t5-generate "$@" < "$T5_SERVE/tokens" > "$T5_SERVE/ids" & jobs+=($!)
exec 4> "$T5_SERVE/questions" # keeps it open when no connection does
{ echo '{"to": "ready", "dialogue": ""}' >&4; head -n 1 "$T5_SERVE/ready" > /dev/null; } & jobs+=($!)
wait -n # for that, or for what failed

# A client that has said all (EOF) is still owed its answers: socat's own patience is half a second.
self=$(realpath "$0")
export self
socat -t 86400 "$listen,fork,backlog=128" 'SYSTEM:"exec bash \"$self\" --answer"' & jobs+=($!)
echo "$program: ready on $listen" >&2
wait -n

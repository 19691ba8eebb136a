#!/usr/bin/env bash
# sweep.sh - LoRA over ranks, learning rates and seeds, side by side with GNU parallel; one table, best ROUGE first.
#
# usage: pipelines/sweep.sh [OPTION]... MODEL SPIECE TRAIN VALID [OPTION of t5-train...]
#
# MODEL   a file of t5-quantize or a model's directory          TRAIN   records to learn from
# SPIECE  spiece.model or its directory                         VALID   records to choose by; keep the test set for later
# -r      ranks ['4 16']; alpha is twice the rank, so that the scale of 2 stays
# -l      learning rates ['3e-4 1e-3 3e-3']
# -s      seeds ['42 43']
# -j      runs at a time [one a DEVICE, otherwise 1]
# -d      devices, such as 'cuda:0 cuda:1': each run has one to itself; without -d runs share the cores
# -m      what to sort by [rouge1]; any measure of rouge, or eval_loss
# -p      the prefix ['summarize: ']
# -o      the directory of all that is made [sweep-out]
#
#   pipelines/sweep.sh -j 2 -r '8 16' -l '1e-3 3e-3' base.int8 spiece.model train.jsonl val.jsonl --epochs 3
#   cut -f 1,2,7 sweep-out/table.tsv
#
# Every run has its directory (DIR/r16-lr1e-3-s42: adapter, metrics.jsonl, predictions.jsonl, scores.json, log);
# DIR/joblog has their times and statuses. Stopped or killed, the same command goes on where it was, within a
# training too, and tries again what failed. More ranks, rates or seeds on the next call add to the table; another
# model, other data or options are refused. The table goes to DIR/table.tsv, and as Markdown to standard output.
# Its intervals are of the mean over VALID's records (95 %), not over seeds: those are in the rows.
#
# Cost: (ranks x rates x seeds) trainings. Exit status: 0; 1 a run failed, the table has the others; 2 usage.
set -euo pipefail
program=${0##*/}
die() { local status=$1; shift; echo "$program: $*" >&2; exit "$status"; }
[ "${1:-}" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit; }
PATH=${BIN:+$(realpath "$BIN"):}$PATH

# cell DIR 'RANK RATE SEED' OPTION...: one run, whole or what is missing of it. OPTION: the device, or threads.
cell() {
    local dir=$1 rank rate seed at options
    read -r rank rate seed <<< "$2"
    shift 2
    mapfile -t options < "$dir/settings" # model, spiece, prefix, train, valid, then options of t5-train
    at="$dir/r$rank-lr$rate-s$seed"
    mkdir -p "$at"
    exec 2>> "$at/log"
    t5-train -m "${options[0]}" -o "$at/adapter" --rank "$rank" --alpha $((2 * rank)) --lr "$rate" --seed "$seed" \
        --eval "$dir/valid.tokens" --resume "$@" "${options[@]:5}" "$dir/train.tokens" >> "$at/metrics.jsonl"
    t5-generate -m "${options[0]}" -a "$at/adapter" "$@" "$dir/valid.tokens" |
        t5-tokenize -s "${options[1]}" --decode > "$at/predictions.jsonl.part"
    mv "$at/predictions.jsonl.part" "$at/predictions.jsonl"
    rouge --intervals "$at/predictions.jsonl" > "$at/scores.json.part"
    mv "$at/scores.json.part" "$at/scores.json"
}
[ "${1:-}" != --cell ] || { shift; cell "$@"; exit; }

ranks='4 16' rates='3e-4 1e-3 3e-3' seeds='42 43' jobs='' devices='' measure=rouge1 prefix='summarize: ' dir=sweep-out
while getopts r:l:s:j:d:m:p:o: option; do
    case $option in
    r) ranks=$OPTARG ;;
    l) rates=$OPTARG ;;
    s) seeds=$OPTARG ;;
    j) jobs=$OPTARG ;;
    d) devices=$OPTARG ;;
    m) measure=$OPTARG ;;
    p) prefix=$OPTARG ;;
    o) dir=$OPTARG ;;
    *) die 2 "see --help" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 4 ] || die 2 "MODEL, SPIECE, TRAIN and VALID (see --help)"
model=$1 spiece=$2 train=$3 valid=$4
read -ra device <<< "$devices"
jobs=${jobs:-$((${#device[@]} ? ${#device[@]} : 1))}
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die 2 "-j $jobs: a number of runs"
[ -z "$devices" ] || [ "$jobs" -le ${#device[@]} ] || die 2 "-j $jobs runs for ${#device[@]} devices"
for rank in $ranks; do [[ $rank =~ ^[1-9][0-9]*$ ]] || die 2 "-r $rank: a rank"; done
for word in $rates $seeds; do [[ $word =~ ^[0-9.eE+-]+$ ]] || die 2 "$word: a number"; done

header=$'rank\tlr\tseed\teval_loss\trouge1\tfrom\tto\trouge2\trougeL\trougeLsum'
column=$(tr '\t' '\n' <<< "$header" | grep -nx "$measure" | cut -d : -f 1) || die 2 "-m $measure: one of ${header//$'\t'/, }"
order=-k$column,${column}gr # the highest first
[ "$measure" != eval_loss ] || order=-k$column,${column}g

mkdir -p "$dir"
settings=$(printf '%s\n' "$model" "$spiece" "$prefix" "$train" "$valid" "${@:5}")
[ ! -f "$dir/settings" ] || [ "$settings" = "$(cat "$dir/settings")" ] ||
    die 2 "$dir is a sweep of another model, other data or options: $dir/settings"
echo "$settings" > "$dir/settings"
for set in train valid; do
    [ ! "${!set}" -nt "$dir/$set.tokens" ] || [ ! -f "$dir/$set.tokens" ] || die 2 "${!set} has changed since $dir began"
    [ -f "$dir/$set.tokens" ] || t5-tokenize -s "$spiece" -p "$prefix" -o "$dir/$set.tokens" "${!set}"
done

# Lines are only ever added, since joblog knows a run by the number of its line.
touch "$dir/cells"
for rank in $ranks; do
    for rate in $rates; do
        for seed in $seeds; do
            grep -qxF "$rank $rate $seed" "$dir/cells" || echo "$rank $rate $seed" >> "$dir/cells"
        done
    done
done

where=(--threads $(($(nproc) > jobs ? $(nproc) / jobs : 1)))
# The job slot is a number from 1 that no other running job has.
[ -z "$devices" ] || where=(--device "{= \$_ = (qw(${device[*]}))[slot() - 1] =}")
failed=0
parallel --will-cite --quote -j "$jobs" --joblog "$dir/joblog" --resume-failed --arg-file "$dir/cells" \
    bash "$(realpath "$0")" --cell "$dir" '{}' "${where[@]}" || failed=$?

# rank, rate and seed; loss; and each F in percent, the first with its interval
row() {
    local at="$dir/r$1-lr$2-s$3"
    [ ! -f "$at/scores.json" ] || jq -r --arg rank "$1" --arg rate "$2" --arg seed "$3" --slurpfile log "$at/metrics.jsonl" '
        def percent: . * 10000 | round / 100;
        [$rank, $rate, $seed, ([$log[].eval_loss | numbers] | last * 10000 | round / 10000),
         (.rouge1.fmeasure, .rouge1.interval.fmeasure[], .rouge2.fmeasure, .rougeL.fmeasure, .rougeLsum.fmeasure |
          percent)] | @tsv' "$at/scores.json"
}
{
    echo "$header"
    while read -r rank rate seed; do row "$rank" "$rate" "$seed"; done < "$dir/cells" | sort -s -t $'\t' "$order"
} > "$dir/table.tsv.part"
mv "$dir/table.tsv.part" "$dir/table.tsv"
awk -F '\t' -v OFS=' | ' '
    { $1 = $1; print "| " $0 " |" }
    NR == 1 { printf "|"; for (i = 1; i <= NF; i++) printf " ---: |"; print "" }' "$dir/table.tsv"
[ "$failed" = 0 ] || die 1 "$failed of $(wc -l < "$dir/cells") runs failed, see $dir/joblog and $dir/*/log"

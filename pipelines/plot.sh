#!/usr/bin/env bash
# plot.sh - a run's losses, the lengths of a data set, the ROUGE of systems: in a PNG or on the terminal.
#
# usage: pipelines/plot.sh [OPTION]... loss METRICS...          what t5-train writes: losses above, learning rate below
#        pipelines/plot.sh [OPTION]... lengths TOKENS...        what t5-tokenize writes: sources above, targets below
#        pipelines/plot.sh [OPTION]... rouge NAME=SCORES...     what rouge writes, with --intervals for error bars
#
# -o FILE.png   write there, not to the terminal
# -s WIDTHxHEIGHT   pixels [900x600], or characters of the terminal [its own, otherwise 79x36]
# -p P,Q        lengths: mark these percentiles of sources and targets, reckoned as t5-tokenize --stats does [85,90]
# -m MEASURES   rouge: those to show ['rouge1 rouge2 rougeL']
#
#   pipelines/plot.sh loss adapter/metrics.jsonl
#   t5-tokenize -s spiece.model --max-source 8192 --max-target 8192 train.jsonl | pipelines/plot.sh -o lengths.png lengths -
#   rouge --intervals base.jsonl > base.json; rouge --intervals lora.jsonl > lora.json
#   pipelines/plot.sh -o rouge.png rouge base=base.json LoRA=lora.json
#
# A log that a killed and resumed run has written twice counts once. Losses are means over a fortieth of the run.
set -euo pipefail
shopt -s inherit_errexit
program=${0##*/}
die() { local status=$1; shift; echo "$program: $*" >&2; exit "$status"; }
[ "${1:-}" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit; }

output='' size='' percentiles=85,90 measures='rouge1 rouge2 rougeL'
while getopts o:s:p:m: option; do
    case $option in
    o) output=$OPTARG ;;
    s) size=$OPTARG ;;
    p) percentiles=$OPTARG ;;
    m) measures=$OPTARG ;;
    *) die 2 "see --help" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || die 2 "loss, lengths or rouge, and files (see --help)"
[[ $percentiles =~ ^[0-9]+(\.[0-9]+)?,[0-9]+(\.[0-9]+)?$ ]] || die 2 "-p $percentiles: two percentiles, such as 85,90"
[ -n "$size" ] || { [ -n "$output" ] && size=900x600; } ||
    size=$({ [ -t 1 ] && stty size < /dev/tty | awk '{ print $2 - 1 "x" $1 - 1 }'; } 2> /dev/null) || size=79x36
[[ $size =~ ^[1-9][0-9]*x[1-9][0-9]*$ ]] || die 2 "-s $size: WIDTHxHEIGHT"
kind=$1
shift

quote() { printf "'%s'" "${1//\'/\'\'}"; } # a string of gnuplot's
header() {
    if [ -n "$output" ]; then
        echo "set terminal pngcairo noenhanced size ${size/x/,}; set lmargin 10; set output $(quote "$output.part")"
    else
        echo "set terminal dumb noenhanced size ${size/x/,}"
    fi
    echo "set grid y"
}
# A block of data for gnuplot. What comes must not be empty.
block() {
    local data
    data=$(cat)
    [ -n "$data" ] || die 1 "$2"
    printf '$%s << END\n%s\nEND\n' "$1" "$data"
}

# step and value of FIELD of a log's steps, the last of those that a resumed run has said twice
series() {
    jq -r --arg field "$2" 'select(.[$field] | type == "number") | [.step, .[$field]] | @tsv' <<< "$1" |
        sort -s -n -k 1,1 | awk '$1 != step { if (NR > 1) print line } { step = $1; line = $0 } END { if (NR) print line }'
}
smooth() { # means over a fortieth of the lines
    awk '{ step[NR] = $1; value[NR] = $2 }
        END {
            window = int((NR + 39) / 40)
            for (i = 1; i <= NR; i++) {
                sum += value[i] - (i > window ? value[i - window] : 0)
                if (i >= window) print step[i] "\t" sum / window
            }
        }'
}

plot_loss() {
    local i=0 file log evals losses='' rates='' # the two plot commands
    for file; do
        i=$((i + 1))
        log=$(jq -c 'select(.step)' "$file")
        block "loss$i" "$file: no losses" < <(series "$log" loss | smooth)
        block "rate$i" "$file: no learning rates" < <(series "$log" lr)
        losses+="${losses:+, }\$loss$i using 1:2 with lines title $(quote "$file")"
        rates+="${rates:+, }\$rate$i using 1:2 with lines notitle"
        evals=$(series "$log" eval_loss)
        [ -n "$evals" ] || continue
        block "eval$i" '' <<< "$evals"
        losses+=", \$eval$i using 1:2 with linespoints title $(quote "$file, eval")"
    done
    echo "set multiplot layout 2,1; set title 'loss'; plot $losses"
    echo "set xlabel 'step'; set title 'learning rate'; set yrange [0:*]; plot $rates; unset multiplot"
}

# histogram NAME PERCENTILE: lengths, one a line, to a panel of at most 40 bars
histogram() {
    local sorted width mark
    sorted=$(sort -n)
    [ -n "$sorted" ] || die 1 "no $1"
    width=$(tail -n 1 <<< "$sorted" | awk '{ print int($1 / 40) + 1 }')
    mark=$(awk -v p="$2" '{ x[NR] = $1 }
        END { at = 1 + (NR - 1) * p / 100; i = int(at); print x[i] + (at - i) * (x[i < NR ? i + 1 : i] - x[i]) }' <<< "$sorted")
    block "$1" '' < <(awk -v w="$width" '{ n[int($1 / w)]++ } END { for (b in n) print (b + 0.5) * w, n[b] }' <<< "$sorted" | sort -n)
    echo "set xlabel 'tokens of $1'; set ylabel 'records'; set xrange [0:*]; set yrange [0:*]; set boxwidth $width"
    echo "set arrow 1 from $mark, graph 0 to $mark, graph 1 nohead; set label 1 'p$2 = $mark' at $mark, graph 0.9 offset 2"
    echo "plot \$$1 using 1:2 with boxes fill solid 0.4 notitle"
}

plot_lengths() {
    local lengths
    lengths=$(jq -r '[(.input_ids | length), (.labels // [] | length)] | @tsv' "$@") || die 1 "$*: token records are needed"
    echo "set multiplot layout 2,1"
    cut -f 1 <<< "$lengths" | histogram sources "${percentiles%,*}"
    cut -f 2 <<< "$lengths" | awk '$1 > 0' | histogram targets "${percentiles#*,}"
    echo "unset multiplot"
}

plot_rouge() {
    local system i=0 plots=''
    for system; do
        [[ $system == *=* ]] || die 2 "$system: NAME=SCORES is needed"
        i=$((i + 1))
        block "system$i" "${system#*=}: no scores" < <(jq -r --arg measures "$measures" '
            . as $all | $measures | split(" ")[] | . as $name | $all[$name] | select(. != null) |
            [$name, .fmeasure * 100, (.interval.fmeasure // [.fmeasure, .fmeasure] | .[] * 100)] | @tsv' "${system#*=}")
        plots+="${plots:+, }\$system$i using 2:3:4:xtic(1) title $(quote "${system%%=*}")"
    done
    echo "set style data histogram; set style histogram errorbars gap 1 linewidth 2; set style fill solid 0.4 border"
    echo "set ylabel 'F, percent'; set yrange [0:*]; set key outside top center horizontal; plot $plots"
}

case $kind in
loss | lengths | rouge) ;;
*) die 2 "$kind: loss, lengths or rouge" ;;
esac
script=$(header; "plot_$kind" "$@")
gnuplot - <<< "$script"
[ -z "$output" ] || mv "$output.part" "$output"

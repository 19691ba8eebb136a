#!/usr/bin/env bash
# report.sh - what is in an experiment's directory, as Markdown on standard output. For experiment/Makefile.
#
# usage: report.sh OUT NAME=VALUE...      the settings, as they were given
set -euo pipefail
shopt -s inherit_errexit
out=$1
shift
metrics=$out/training/metrics.jsonl

# table: lines of tabs to a table of Markdown; the first is its head
table() {
    awk -F '\t' '{ gsub(/\|/, "\\|"); printf "|"; for (i = 1; i <= NF; i++) printf " %s |", $i; print "" }
        NR == 1 { printf "|"; for (i = 1; i <= NF; i++) printf "---|"; print "" }'
}
# The last start of a training: the one whose adapter this is.
start() { jq -rs "map(select(.event == \"start\"))[-1] | $1" "$metrics"; }

head_and_settings() {
    local setting
    echo "# ${out##*/}"
    echo
    echo "$(t5-train --version), $(date -u '+%Y-%m-%d %H:%M UTC'), on $(nproc) cores" \
        "of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), device $(start .device)."
    printf '\n## Settings\n\n'
    {
        printf 'setting\tvalue\n'
        for setting; do
            [ -z "${setting#*=}" ] || printf '%s\t`%s`\n' "${setting%%=*}" "${setting#*=}"
        done
    } | table
    printf '\nAgain: `make -f pipelines/experiment/Makefile OUT=%s' "$out"
    for setting; do [ -z "${setting#*=}" ] || printf " %s='%s'" "${setting%%=*}" "${setting#*=}"; done
    printf '`\n'
}

data() {
    printf '\n## Data\n\n'
    wc -l "$out"/data/{train,test}.jsonl | sed '$d' | while read -r n name; do echo "- \`${name##*/}\`: $n records"; done
    echo
    jq -r '["tokens", "mean", "p50", "p85", "p90", "p99", "longest"],
        ([["dialogues", .source], ["summaries", .target]][] |
         [.[0], (.[1] | (.mean, .p50, .p85, .p90, .p99, .max) * 10 | round / 10)]) | @tsv' "$out/stats.json" | table
    echo
    jq -r '"Dialogues are cut at \(.source.p85 | floor) tokens, summaries at \(.target.p90 | floor)."' "$out/stats.json"
    printf '\n![lengths](lengths.png)\n'
}

files() {
    local file
    printf '\n## Files\n\n'
    {
        printf 'file\tbytes\tSHA-256\n'
        for file in model.int8.safetensors train.tokens test.tokens results/adapter_model.safetensors predictions.jsonl; do
            printf '`%s`\t%s\t`%s`\n' "$file" "$(stat -c %s "$out/$file")" "$(sha256sum < "$out/$file" | cut -c 1-64)"
        done
    } | table
}

# A target's time is what the last make that made it spent on it, since more than one line may have.
times() {
    printf '\n## Time\n\n'
    {
        printf 'stage\tseconds\n'
        awk -F '\t' -v out="$out/" '
            $2 !~ /\/set\/|report.md$/ {
                if (make[$2] != $1) { make[$2] = $1; sum[$2] = 0; order[$2] = NR }
                sum[$2] += $3
            }
            END {
                for (t in sum) { printf "%d\t`%s`\t%.2f\n", order[t], substr(t, length(out) + 1), sum[t]; all += sum[t] }
                printf "%d\tall\t%.2f\n", NR + 1, all
            }' "$out/times.tsv" | sort -n | cut -f 2-
    } | table
}

training() {
    printf '\n## Training\n\n'
    start '"\(.trainable) of \(.parameters) weights (\(.trainable_percent * 1000 | round / 1000) %), " +
        "rank \(.settings.rank), alpha \(.settings.alpha), on `\(.settings.targets)`; " +
        "\(.steps) steps of \(.settings.batch) records."'
    echo
    jq -rs '["epoch", "mean loss", "tokens/s"],
        (map(select(.loss)) | group_by(.step) | map(.[-1]) | group_by(.epoch | ceil)[] |
         [(.[0].epoch | ceil), ((map(.loss) | add) / length * 1e4 | round / 1e4),
          ((map(.tokens_per_s) | add) / length | round)]) | @tsv' "$metrics" | table
    printf '\n![loss](loss.png)\n'
}

scores() {
    printf '\n## ROUGE\n\nF in percent, with 95 %% intervals over the test records; '
    printf 'p of the paired bootstrap and of randomisation.\n\n'
    jq -rn --slurpfile base "$out/base.scores.json" --slurpfile lora "$out/compared.json" '
        def percent: . * 10000 | round / 100;
        def between: "\(.[0] | percent) to \(.[1] | percent)";
        ["measure", "base", "", "LoRA", "", "gain", "", "p", "p"],
        (("rouge1", "rouge2", "rougeL", "rougeLsum") as $m | $base[0][$m] as $b | $lora[0][$m] as $l |
         $l.compare.fmeasure as $c | [$m, ($b.fmeasure | percent), ($b.interval.fmeasure | between),
          ($l.fmeasure | percent), ($l.interval.fmeasure | between), ($c.difference | percent), ($c.interval | between),
          ($c.p_bootstrap, $c.p_randomisation | . * 1e4 | round / 1e4)]) | @tsv' | table
    echo
    jq -r '"\(.count) records. Signature: `\(.signature)`."' "$out/compared.json"
    printf '\n![rouge](rouge.png)\n'
}

# Indented, text is taken as it is.
worst() {
    printf '\n## The worst summaries\n'
    jq -r '"\n### \(.id // "record"): ROUGE-L \(.rouge.rougeL.fmeasure * 1000 | round / 10)\n",
        (.dialogue | split("\r\n|\n"; "")[] | "    " + .), "",
        "    reference   \(.summary | gsub("\n"; " "))", "    prediction  \(.prediction | gsub("\n"; " "))"' "$out/worst.jsonl"
}

head_and_settings "$@"
data
files
times
training
scores
worst

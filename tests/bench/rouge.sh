#!/usr/bin/env bash
# rouge.sh - records scored a second, start of the process and JSON included, against Python's rouge_score on the
# same file without its start: one JSONL line. T5_PEER_PYTHON is a Python that has rouge_score [python3]; T5_TEST_DATA a folder with
# samsum/val.jsonl (without it, made text of the same lengths).
set -euo pipefail
cd "$(dirname "$0")/../.."
rouge=${B:-build}/bin/rouge
python=${T5_PEER_PYTHON:-python3}
data=${T5_TEST_DATA:-../shared/data}/samsum/val.jsonl
runs=20 # one alone is over too soon to be timed
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if [ -f "$data" ]; then
    input='SAMSum validation, first three turns'
    jq -c '{summary, prediction: (.dialogue | split("\n")[:3] | join("\n"))}' "$data" >"$tmp/in"
else
    input='818 made records'
    awk 'function text(n,  i, s) {
             for (i = 0; i < n; i++) s = s sprintf("%c%sing%s", 97 + rand() * rand() * 26, i % 3 ? "alk" : "end", i % 12 ? " " : "\\n")
             return s }
         BEGIN { srand(1); for (r = 0; r < 818; r++)
             printf "{\"summary\":\"%s\",\"prediction\":\"%s\"}\n", text(10 + rand() * 20), text(15 + rand() * 25) }' >"$tmp/in"
fi
records=$(wc -l <"$tmp/in")

repeat() { for ((i = 0; i < runs; i++)); do "$rouge" "$tmp/in"; done >"$tmp/out"; }

# Seconds of $runs runs, the best of five times.
ours=$(for _ in 1 2 3 4 5; do { TIMEFORMAT=%R; time repeat; } 2>&1; done | sort -g | head -n 1)

# The peer's best of three, without its start and imports.
if ! peer=$("$python" - "$tmp/in" <<'PEER'
import json, sys, time
try:
    from rouge_score import rouge_scorer
except ImportError:
    sys.exit(1)
kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
best = None
for _ in range(3):
    start = time.perf_counter()
    scorer = rouge_scorer.RougeScorer(kinds, use_stemmer=True)
    with open(sys.argv[1], encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    scores = [scorer.score(r["summary"], r["prediction"]) for r in rows]
    json.dumps({k: [sum(s[k][i] for s in scores) / len(scores) for i in range(3)] for k in kinds})
    seconds = time.perf_counter() - start
    best = seconds if best is None else min(best, seconds)
print(best)
PEER
); then
    peer=null
    echo "rouge.sh: $python has no rouge_score (set T5_PEER_PYTHON): no ratio" >&2
fi
jq -cn --arg input "$input" --argjson records "$records" --argjson runs $runs --argjson ours "$ours" --argjson peer "$peer" '
    ($records * $runs / $ours) as $rate | {bench: "rouge", input: $input, records: $records, runs: $runs, seconds: $ours,
     records_per_s: ($rate | round), peer: "rouge_score (Python)",
     peer_records_per_s: (if $peer then $records / $peer | round else null end),
     ratio: (if $peer then ($rate * $peer / $records * 10 | round) / 10 else null end), want: 50}'

#!/usr/bin/env bash
# tokenize.sh - t5-tokenize against spm_encode and HF's tokenizers, one thread each, ours with start, JSON in and JSON out, the peers on bare
# text (HF without its start); two threads against one; memory on 1 GB. One JSONL line each. T5_PEER_PYTHON is a Python that has
# tokenizers and transformers [python3]; T5_TEST_DATA a folder with t5/spiece.model and samsum/val.jsonl (without it, our small model and made text).
set -euo pipefail
cd "$(dirname "$0")/../.."
ours=${B:-build}/bin/t5-tokenize
python=${T5_PEER_PYTHON:-python3}
data=${T5_TEST_DATA:-../shared/data}
copies=40 # one alone is over too soon to be timed
gigabyte=1000000000
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if [ -f "$data/t5/spiece.model" ]; then
    model=$data/t5/spiece.model input="SAMSum validation dialogues, $copies times"
    jq -c '{dialogue}' "$data/samsum/val.jsonl" >"$tmp/part"
else
    model=testdata/golden/tokenizer/spiece.model input="818 made dialogues, $copies times"
    awk 'BEGIN { srand(1); for (r = 0; r < 818; r++) { s = ""; n = 20 + rand() * 140
        for (i = 0; i < n; i++) s = s sprintf("%c%sing%s", 97 + rand() * rand() * 26, i % 3 ? "alk" : "end", i % 12 ? " " : "\\n")
        printf "{\"dialogue\":\"%s\"}\n", s } }' >"$tmp/part"
fi
for ((i = 0; i < copies; i++)); do cat "$tmp/part"; done >"$tmp/in"
jq -r '.dialogue | gsub("[\r\n]+"; " ")' "$tmp/in" >"$tmp/text"
bytes=$(wc -c <"$tmp/in")
options=(-s "$model" --max-source 1000000)

for _ in 1 2 3 4 5; do cat "$tmp/in"; done >"$tmp/long" # threads: long enough that starting up does not count

one() { "$ours" "${options[@]}" "$tmp/in" >"$tmp/out"; }
long1() { "$ours" "${options[@]}" "$tmp/long" >"$tmp/out"; }
long2() { "$ours" "${options[@]}" -j 2 "$tmp/long" >"$tmp/out"; }
spm() { spm_encode --model "$model" --output_format id <"$tmp/text" >"$tmp/out"; }
seconds() { { TIMEFORMAT=%R; time "$1"; } 2>&1; }

# Runs take turns, so that a busy machine is busy for all; each one's best of five counts.
have_spm=$(command -v spm_encode || true)
for _ in 1 2 3 4 5; do
    seconds one >>"$tmp/one"
    seconds long1 >>"$tmp/long1"
    seconds long2 >>"$tmp/long2"
    [ -z "$have_spm" ] || seconds spm >>"$tmp/spm"
done
best() { sort -g "$1" | head -n 1; }
t1=$(best "$tmp/one") spm=null hf=null
[ -z "$have_spm" ] || spm=$(best "$tmp/spm")

if ! hf=$(RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$python" - "$(dirname "$model")" "$tmp/text" <<'PEER' 2>"$tmp/err"
import sys, time
try:
    from transformers import T5TokenizerFast
except ImportError:
    sys.exit(1)
tokenizer = T5TokenizerFast.from_pretrained(sys.argv[1]).backend_tokenizer
texts = open(sys.argv[2], encoding="utf-8").read().split("\n")[:-1]
best = None
for _ in range(3):
    start = time.perf_counter()
    ids = [e.ids for e in tokenizer.encode_batch(texts)]
    seconds = time.perf_counter() - start
    best = seconds if best is None else min(best, seconds)
print(best)
PEER
); then
    hf=null
    echo "tokenize.sh: $python has no transformers (set T5_PEER_PYTHON): no ratio" >&2
fi

line() { # PEER PEER-SECONDS OUR-SECONDS WANT
    jq -cn --arg peer "$1" --argjson other "$2" --argjson seconds "$3" --argjson want "$4" --arg input "$input" --argjson bytes "$bytes" '
        {bench: "t5-tokenize", input: $input, bytes: $bytes, seconds: $seconds, mb_per_s: ($bytes / $seconds / 1e5 | round / 10), peer: $peer,
         peer_seconds: $other, ratio: (if $other then $other / $seconds * 100 | round / 100 else null end), want: $want}'
}
line 'spm_encode, 1 thread' "$spm" "$t1" 3
line "HF tokenizers, 1 thread, without start" "$hf" "$t1" 2
(
    input="$input, 5 times over" bytes=$((5 * bytes))
    line 't5-tokenize -j 1 (we: -j 2)' "$(best "$tmp/long1")" "$(best "$tmp/long2")" 1.8
)

# The largest resident size while a gigabyte goes through.
for ((n = 0; n < gigabyte; n += bytes)); do cat "$tmp/in"; done | "$ours" "${options[@]}" -j 2 >/dev/null &
pid=$!
while [ -d /proc/$pid ]; do
    awk '/^VmHWM/ { print $2 }' /proc/$pid/status 2>/dev/null >"$tmp/now" || true
    [ ! -s "$tmp/now" ] || cp "$tmp/now" "$tmp/peak"
    sleep 0.1
done
wait $pid
jq -cn --arg input "1 GB of the same, -j 2" --argjson peak "$(cat "$tmp/peak")" \
    '{bench: "t5-tokenize memory", input: $input, mib: ($peak / 102.4 | round / 10), want_at_most: 64}'

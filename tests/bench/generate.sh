#!/usr/bin/env bash
# generate.sh - new tokens a second of t5-generate on an 8-bit model of FLAN-T5-base's size with random weights, against
# CTranslate2 int8 and PyTorch f32 in the same run: a JSONL line for each arithmetic, batch size and peer. Greedy search to exactly
# NEW tokens on 2 threads; loading is left out everywhere (ours: the time of a run without records is taken off).
#
# T5_PEER_PYTHON is a Python that has torch and transformers, which make the model, and ctranslate2 [python3].
# T5_BENCH_DIR keeps models between runs [a temporary folder]; GEOMETRY: small, base or large.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${B:-build}/bin
python=${T5_PEER_PYTHON:-python3}
new=32 threads=2 geometry=${GEOMETRY:-base}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
dir=${T5_BENCH_DIR:-$tmp}

if ! "$python" -c 'import torch, transformers' 2>/dev/null; then
    echo "generate.sh: $python has no torch and transformers (set T5_PEER_PYTHON): nothing to make a model with" >&2
    exit 0
fi
model=$dir/$geometry int8=$dir/$geometry.int8.safetensors
[ -d "$model" ] || "$python" tests/golden/random_model.py "$geometry" "$model" >&2
[ -f "$int8" ] || "$bin/t5-quantize" -o "$int8" "$model"

# 16 sources as long as SAMSum's dialogues: 40 to 300 tokens, 153 on average.
awk 'BEGIN { srand(3); for (r = 0; r < 16; r++) { n = int(40 + 260 * (r * 7 % 16) ^ 1.3 / 15 ^ 1.3); printf "{\"input_ids\":["
    for (i = 1; i < n; i++) printf "%d,", 3 + int(rand() * 31997); print "1]}" } }' >"$tmp/16"
head -n 4 "$tmp/16" >"$tmp/4"

generate() { "$bin/t5-generate" -m "$int8" -j $threads --min-new-tokens $new --max-new-tokens $new "$@" >"$tmp/out"; }
seconds() { TIMEFORMAT=%R; { time "$@"; } 2>&1; }
best() { for _ in 1 2 3; do seconds "$@"; done | sort -g | head -n 1; }

# Ours beside each peer, for one arithmetic and batch size.
figure() { # COMPUTE BATCH
    local records=4 tokens=1 load taken
    [ "$2" = 1 ] || { records=16 tokens=100000; }
    load=$(best generate --compute "$1" /dev/null)
    taken=$(best generate --compute "$1" --batch-tokens $tokens "$tmp/$records")
    jq -cn --slurpfile peers "$tmp/peers" --arg geometry "$geometry" --argjson threads $threads --argjson new $new \
        --arg compute "$1" --argjson batch "$2" --argjson load "$load" --argjson rate "$(awk "BEGIN { print $((records * new)) / ($taken - $load) }")" '
        def round3: . * 1000 | round / 1000;
        ([$peers[] | select(.batch == $batch)] | if . == [] then [{peer: null}] else . end)[] as $p
        | {bench: "t5-generate", geometry: $geometry, weights: "int8", compute: $compute, threads: $threads, batch: $batch,
           new_tokens: $new, load_s: $load, tokens_per_s: ($rate | round3), peer: $p.peer,
           peer_tokens_per_s: (if $p.peer then $p.tokens_per_s | round3 else null end),
           ratio: (if $p.peer then $rate / $p.tokens_per_s | round3 else null end),
           want: (if $p.peer == "PyTorch f32" then 3 elif $p.peer then 1 else null end)}'
}

"$python" tests/bench/generate_peers.py "$model" "$tmp/16" $new $threads 1 16 2>"$tmp/log" >"$tmp/peers" ||
    { cat "$tmp/log" >&2; exit 1; }
grep '^generate.sh:' "$tmp/log" >&2 || :
for compute in int8 bf16; do
    for batch in 1 16; do figure $compute $batch; done
done

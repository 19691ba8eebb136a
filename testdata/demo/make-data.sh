#!/usr/bin/env bash
# make-data.sh - makes the demo's records and its SentencePiece model: train, val and test.jsonl, spiece.model.
#
# usage: bash testdata/demo/make-data.sh DIR
#
# seed 42; ten seconds. Needs spm_train (Debian: sentencepiece) for the last step only. Ids are laid out
# as T5's: pad 0, </s> 1, <unk> 2, no start; the normaliser is T5's too.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: make-data.sh DIR}
mkdir -p "$out"

"$here/make-corpus" -k train -n 1500 > "$out/train.jsonl"
"$here/make-corpus" -k val -n 150 > "$out/val.jsonl"
"$here/make-corpus" -k test -n 200 > "$out/test.jsonl"

text=$(mktemp)
trap 'rm -f "$text"' EXIT
{
    jq -r '.dialogue, .summary' "$out/train.jsonl" "$out/val.jsonl"
    "$here/make-corpus" -t -s base -k base -n 6000 | jq -r '.dialogue, .summary'
} | tr -d '\r' > "$text"
spm_train --input="$text" --model_prefix="$out/spiece" --model_type=unigram --vocab_size=1200 \
    --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1 --byte_fallback=false --character_coverage=1.0 \
    --normalization_rule_name=nmt_nfkc --num_threads=1 --minloglevel=1
rm "$out/spiece.vocab"

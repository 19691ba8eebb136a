#!/usr/bin/env bash
# make-base.sh - makes the demo's base model, from nothing but scenes.txt: DIR/config.json and DIR/model.safetensors.
#
# usage: BIN=build/bin bash testdata/demo/make-base.sh DIR
#
# A T5 of 1.35 million weights learns to read dialogues: to name the speakers, repeat a turn, answer a
# question, say what is decided about one person, and, told to summarize, to name the topic. It never sees a
# summary like those of train.jsonl, nor one of their dialogues: its own are keyed by other seeds.
# seed 42; 72,000 records seen twice in 4,500 steps; 13 million tokens, some 25 minutes on two cores. Expect a mean
# loss of 0.34 over the last 300 steps, and the scores in pipelines/demo/run.sh. Interrupted, it goes on.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
PATH="$(cd "${BIN:-build/bin}" && pwd):$PATH"
out=${1:?usage: make-base.sh DIR}
mkdir -p "$out"

[ -f "$out/base.tokens" ] ||
    "$here/make-corpus" -t -s base -k base -n 72000 |
    t5-tokenize -s "$here/spiece.model" --to safetensors -o "$out/base.tokens"

t5-train --from-config "$here/config.json" --epochs 2 --batch 32 --lr 1.5e-3 --warmup 100 \
    --save-as bf16 --save-every 250 --resume -o "$out" "$out/base.tokens" >> "$out/metrics.jsonl"
tail -n 2 "$out/metrics.jsonl"

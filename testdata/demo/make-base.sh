#!/usr/bin/env bash
# make-base.sh - makes the demo's base model, from nothing but scenes.txt: DIR/config.json and DIR/model.safetensors.
#
# usage: BIN=build/bin bash testdata/demo/make-base.sh DIR
#
# A T5 of 1.35 million weights learns to read dialogues: to name the speakers, repeat a turn, answer a
# question, say what is decided about one person, and, told to summarize, to name the topic. It never sees a
# summary like those of train.jsonl, nor one of their dialogues: its own are keyed by other seeds.
# seed 42; 96,000 records seen in 3,000 steps; about 20 minutes on two cores. Score to expect with int8
# weights on test.jsonl: see pipelines/demo/run.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export PATH="$(cd "${BIN:-build/bin}" && pwd):$PATH"
out=${1:?usage: make-base.sh DIR}
mkdir -p "$out"

[ -f "$out/base.tokens" ] ||
    "$here/make-corpus" -t -s base -k base -n 48000 |
    t5-tokenize -s "$here/spiece.model" --max-source 320 --to safetensors -o "$out/base.tokens"

t5-train --from-config "$here/config.json" --epochs 2 --batch 32 --lr 1.5e-3 --warmup 100 \
    --save-as bf16 --save-every 250 --resume -o "$out" "$out/base.tokens" >> "$out/metrics.jsonl"
tail -n 2 "$out/metrics.jsonl"

#!/usr/bin/env bash
# run.sh - the whole of t5-tools in one sitting: an 8-bit model, its ROUGE, a LoRA adapter, its ROUGE.
#
# usage: BIN=build/bin bash pipelines/demo/run.sh [DIR]      (make demo)
#
# The material is synthetic and made here, see testdata/README.md: a tiny base model that reads dialogues but
# names only their topic, and 1,500 dialogues with the summaries that we would rather have.
#
# ROUGE-1 to expect on the 200 test records, seed 42: 36.5 for the base, 80.8 with the adapter. Some 14 seconds of
# processor time with AVX-512, nearly all of it training. Output in DIR [demo-out].
set -euo pipefail
shopt -s inherit_errexit
[ "${1:-}" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit; }
cd "$(dirname "$0")/../.."
PATH="$(cd "${BIN:-build/bin}" && pwd):$PATH"
data=testdata/demo
out=${1:-demo-out}
mkdir -p "$out"

say() { printf '\n== %s\n' "$*"; }
tokenize() { t5-tokenize -s $data/spiece.model -p 'summarize: ' "$@"; }
decode() { t5-tokenize -s $data/spiece.model --decode; }

say "8 bit: $data/base to $out/base.int8.safetensors"
t5-quantize --report "$out/quantisation.jsonl" -o "$out/base.int8.safetensors" $data/base
jq -rs 'map(select(.type_out == "I8")) |
    "\(length) matrices to 8 bit, relative error at most \(map(.relative_rms_error) | max * 1e4 | round / 1e4)"' \
    "$out/quantisation.jsonl"

say "tokens: the recipe's limits would be (percentile 85 of the dialogues, 90 of the summaries)"
t5-tokenize -s $data/spiece.model --stats $data/train.jsonl |
    jq -r '"source \(.source.p85 | floor), target \(.target.p90 | floor); " +
        "the longest here are \(.source.max) and \(.target.max)"'

say "the base model on $data/test.jsonl"
tokenize $data/test.jsonl |
    t5-generate -m "$out/base.int8.safetensors" |
    decode > "$out/base.jsonl"
rouge --table "$out/base.jsonl"

say "training: LoRA of rank 16 on q and v, 3 epochs of $data/train.jsonl"
tokenize $data/train.jsonl |
    t5-train -m "$out/base.int8.safetensors" -o "$out/adapter" --epochs 3 --lr 3e-3 > "$out/metrics.jsonl"
jq -r 'if .event == "start" then "\(.trainable) of \(.parameters) weights trained (\(.trainable_percent) %)"
    elif .event == "end" then "\(.step) steps in \(.seconds | round) s"
    elif .step == 1 or .step % 94 == 0 then "step \(.step)\tloss \(.loss * 1000 | round / 1000)"
    else empty end' "$out/metrics.jsonl"

say "the same model with the adapter"
tokenize $data/test.jsonl |
    t5-generate -m "$out/base.int8.safetensors" -a "$out/adapter" |
    decode > "$out/lora.jsonl"
rouge --table "$out/lora.jsonl"

say "three of the test records"
for id in test-00044 test-00064 test-00069; do
    jq -rn --arg id $id --slurpfile base "$out/base.jsonl" --slurpfile lora "$out/lora.jsonl" '
        def record: map(select(.id == $id))[0];
        ($lora | record) | (.dialogue | split("\r\n") | map("    " + .)[]),
        "reference  " + .summary, "base       " + ($base | record).prediction, "LoRA       " + .prediction, ""'
done

rouge "$out/base.jsonl" > "$out/base.rouge.json"
rouge "$out/lora.jsonl" > "$out/lora.rouge.json"
say "ROUGE, F in percent"
jq -rs '["", "base", "LoRA", "gain"], (["rouge1", "rouge2", "rougeL"][] as $m | map(.[$m].fmeasure * 100) |
    [$m, .[], .[1] - .[0]]) | map(if type == "number" then . * 10 | round |
        "\(. / 10 | floor).\(. % 10)" else . end) | @tsv' \
    "$out/base.rouge.json" "$out/lora.rouge.json" | expand -t 10

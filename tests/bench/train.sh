#!/usr/bin/env bash
# train.sh - LoRA on FLAN-T5-base's geometry (random weights), 2 threads, batches of 8 real-length records: tokens a second,
# loading excluded, against PyTorch f32 + peft with dynamic padding on the same batches, taken in turns. One JSONL line for each
# arithmetic. T5_PEER_PYTHON is a Python that has torch, transformers and peft [python3]; T5_TEST_DATA a folder with
# samsum/val.jsonl and t5/spiece.model (without it, made ids of the same lengths); T5_BENCH_DIR keeps the model [build/bench].
# Needs 1 GB there, 4 GB of memory, and takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=${B:-build}/bin
python=${T5_PEER_PYTHON:-python3}
data=${T5_TEST_DATA:-../shared/data}
model=${T5_BENCH_DIR:-build/bench}/flan-t5-base
threads=2 batch=8 steps=4 rounds=3 # the first step of each round is not counted
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if [ -f "$data/samsum/val.jsonl" ] && [ -x "$bin/t5-tokenize" ]; then
    input='SAMSum validation, first records'
    head -n $((batch * steps)) "$data/samsum/val.jsonl" |
        "$bin/t5-tokenize" -s "$data/t5/spiece.model" -p 'summarize: ' >"$tmp/in"
else
    input='made ids'
    awk -v n=$((batch * steps)) 'function ids(k,  s) { while (k-- > 1) s = s int(3 + rand() * 32000) ","; return s 1 }
        BEGIN { srand(1); for (r = 0; r < n; r++)
            printf "{\"input_ids\":[%s],\"labels\":[%s]}\n", ids(30 + rand() * rand() * 430), ids(8 + rand() * 38) }' >"$tmp/in"
fi

peer='PyTorch f32 + peft'
if ! "$python" -c 'import torch, transformers, peft' 2>/dev/null; then
    peer=
    echo "train.sh: $python has no torch, transformers or peft (set T5_PEER_PYTHON): no ratio" >&2
fi
if [ ! -f "$model/model.safetensors" ]; then
    if [ -z "$peer" ]; then
        echo "train.sh: $model is missing, and only that Python can make it: nothing measured" >&2
        exit 0
    fi
    mkdir -p "$model"
    "$python" tests/golden/random_model.py base "$model" >&2
fi

# Seconds of the steps after the first, one line.
ours() { # f32 or bf16
    rm -rf "$tmp/out"
    "$bin/t5-train" --device cpu --threads $threads --compute "$1" -m "$model" -o "$tmp/out" --order file --batch $batch \
        --max-steps $steps --save-every 0 "$tmp/in" |
        jq -s 'map(select(.loss)) | .[-1].seconds - .[0].seconds'
}

theirs() {
    OMP_NUM_THREADS=$threads "$python" - "$model" "$tmp/in" $batch $steps $threads 2>/dev/null <<'PEER'
import json, sys, time
import torch
from peft import LoraConfig, get_peft_model
from transformers import T5ForConditionalGeneration
folder, records, batch, steps, threads = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
torch.set_num_threads(threads)
model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
model = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"]))
model.train()
weights = [w for w in model.parameters() if w.requires_grad]
optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.0)
rows = [json.loads(line) for line in open(records)]

def pad(lists, fill):
    longest = max(map(len, lists))
    return torch.tensor([x + [fill] * (longest - len(x)) for x in lists])

for step in range(steps):
    if step == 1:
        start = time.perf_counter()
    part = rows[step * batch:(step + 1) * batch]
    ids = pad([r["input_ids"] for r in part], 0)
    mask = pad([[1] * len(r["input_ids"]) for r in part], 0)
    loss = model(input_ids=ids, attention_mask=mask, labels=pad([r["labels"] for r in part], -100)).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimizer.step()
    loss.item()
print(time.perf_counter() - start)
PEER
}

for ((round = 0; round < rounds; round++)); do
    ours bf16 >>"$tmp/bf16"
    ours f32 >>"$tmp/f32"
    [ -z "$peer" ] || theirs >>"$tmp/peer"
done
touch "$tmp/peer"
tokens=$(tail -n +$((batch + 1)) "$tmp/in" | jq -s 'map((.input_ids | length) + (.labels | length)) | add')
for compute in bf16 f32; do
    jq -cn --arg input "$input" --arg compute $compute --arg peer "$peer" --argjson tokens "$tokens" --argjson threads $threads \
        --argjson batch $batch --slurpfile ours "$tmp/$compute" --slurpfile theirs "$tmp/peer" '
        ($ours | min) as $seconds | {bench: "t5-train LoRA", model: "FLAN-T5-base geometry", input: $input, compute: $compute,
            threads: $threads, batch: $batch, tokens: $tokens, seconds: $seconds, tokens_per_s: ($tokens / $seconds | round),
            peer: (if $peer == "" then null else $peer end),
            peer_tokens_per_s: (if $peer == "" then null else $tokens / ($theirs | min) | round end),
            ratio: (if $peer == "" then null else ($theirs | min) / $seconds * 100 | round / 100 end), want: 2.5}'
done

# SPDX-License-Identifier: MIT
"""training.py - 30 steps of LoRA and of full fine-tuning with torch's AdamW, dropout 0, f32. testdata/README.md
states the formulas."""
import json
import os

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

import common

STEPS = 30
BATCH = 8
# The gradient norm is above the clip in some steps and below it in others, but for the last run: always above.
RUNS = {
    "gated-lora": dict(geometry="gated", adapter="qv", lr=3e-3, weight_decay=0.0, clip=2.6),
    "gated-full": dict(geometry="gated", adapter=None, lr=1e-3, weight_decay=0.1, clip=3.6),
    "relu-lora": dict(geometry="relu", adapter="qv", lr=2e-3, weight_decay=0.1, clip=3.9),
    "relu-full": dict(geometry="relu", adapter=None, lr=3e-4, weight_decay=0.0, clip=1.0),
}
# Of a full run: every kind of tensor, first rows only where they are many.
KEPT = ("shared.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.0.layer.0.SelfAttention.k.weight", "encoder.block.1.layer.1.DenseReluDense.wo.weight",
        "decoder.block.1.layer.1.EncDecAttention.q.weight", "decoder.block.0.layer.2.DenseReluDense.wi.weight",
        "decoder.block.0.layer.2.DenseReluDense.wi_0.weight", "encoder.final_layer_norm.weight",
        "decoder.final_layer_norm.weight", "decoder.block.0.layer.1.layer_norm.weight", "lm_head.weight")
ROWS = 12


def collate(records):
    """Sources padded with 0 behind a mask, labels with -100."""
    source = max(len(r["input_ids"]) for r in records)
    target = max(len(r["labels"]) for r in records)
    ids = torch.zeros(len(records), source, dtype=torch.long)
    mask = torch.zeros(len(records), source, dtype=torch.long)
    labels = torch.full((len(records), target), -100)
    for i, record in enumerate(records):
        ids[i, :len(record["input_ids"])] = torch.tensor(record["input_ids"])
        mask[i, :len(record["input_ids"])] = 1
        labels[i, :len(record["labels"])] = torch.tensor(record["labels"])
    return dict(input_ids=ids, attention_mask=mask, labels=labels)


def make_model(folder, run):
    model = common.load_model(folder, run["geometry"])
    if run["adapter"]:
        path = os.path.join(folder, run["geometry"], "adapter-" + run["adapter"])
        model = PeftModel.from_pretrained(model, path, is_trainable=True)
    return model.eval()  # evaluation mode: no dropout; gradients flow all the same


def train(model, records, run):
    """-> one row a step; norms before clipping."""
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=run["lr"], betas=(0.9, 0.999), eps=1e-8, weight_decay=run["weight_decay"])
    rows = []
    for step in range(STEPS):
        lr = run["lr"] * (STEPS - step) / STEPS
        for group in optimizer.param_groups:
            group["lr"] = lr
        first = step * BATCH % len(records)
        loss = model(**collate(records[first:first + BATCH])).loss
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, run["clip"])
        optimizer.step()
        rows.append({"step": step + 1, "loss": common.number(loss.detach()), "lr": common.number(lr),
                     "grad_norm": common.number(norm)})
    return rows


def final_tensors(model, run):
    if run["adapter"]:
        tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        tensors = {n: w[:ROWS] for n, w in model.named_parameters() if n in KEPT}
    return {n: w.detach().clone().contiguous() for n, w in sorted(tensors.items())}


def main():
    folder = common.start()
    records = common.read_records(folder)
    path = os.path.join(folder, "training")
    for name, run in RUNS.items():
        model = make_model(folder, run)
        rows = train(model, records, run)
        common.write_lines(os.path.join(path, name + ".jsonl"), rows)
        save_file(final_tensors(model, run), os.path.join(path, name + ".safetensors"))
        norms = [row["grad_norm"] for row in rows]
        print(name, json.dumps(dict(first=rows[0]["loss"], last=rows[-1]["loss"], norms=[min(norms), max(norms)],
                                    clipped=sum(n > run["clip"] for n in norms))), flush=True)
    common.write_lines(os.path.join(path, "runs.jsonl"),
                       [dict(name=n, steps=STEPS, batch=BATCH, **r) for n, r in RUNS.items()])


if __name__ == "__main__":
    main()

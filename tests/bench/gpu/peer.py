#!/usr/bin/env python3
"""peer.py - transformers + peft on one GPU, on the same model directory and token file as ours: what bench.sh
puts our figures beside. Prints one JSON line a setting.

usage: peer.py MODEL_DIR TOKENS.jsonl SETTING...
settings: train-eager-8 (the recipe's: batch 8 padded to 256/56, gradient checkpointing), train-eager-8-keep (without
checkpointing), train-eager-32 (length-grouped, dynamic padding), train-eager-32-padded, train-compile-8, train-compile-32 (padded, torch.compile),
generate-greedy, generate-beam4 (batch 64, 25 new tokens), generate-1 (batch 1, 25 new tokens); rates (the card's sustained
TFLOP/s of a 16384 x 12288 x 4096 product in bf16 and, with a scale a row and a column, in fp8); quality (logits of its own bf16
against its own f32, teacher-forced, 64 records)
"""
import json
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM


def rates():
    m, n, k = 16384, 12288, 4096
    a, b = torch.randn(m, k, device="cuda"), torch.randn(n, k, device="cuda")
    half = (a.bfloat16(), b.bfloat16().t())
    sa, sb = a.abs().amax(1, keepdim=True) / 448, b.abs().amax(1, keepdim=True) / 448
    small = ((a / sa).to(torch.float8_e4m3fn), (b / sb).to(torch.float8_e4m3fn).t())

    def fp8():
        torch._scaled_mm(*small, scale_a=sa, scale_b=sb.t(), out_dtype=torch.bfloat16, use_fast_accum=True)

    for name, product in ("bf16", lambda: half[0] @ half[1]), ("fp8", fp8):
        for _ in range(20):
            product()
        torch.cuda.synchronize()
        started, times = time.time(), 0
        while time.time() - started < 0.8:
            for _ in range(20):
                product()
            torch.cuda.synchronize()
            times += 20
        rate = 2 * m * n * k * times / (time.time() - started) / 1e12
        print(json.dumps({"bench": "rate", "compute": name, "TFLOP_per_s": round(rate)}), flush=True)


def quality(path, records):
    logits = {}
    for dtype in torch.float32, torch.bfloat16:
        model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=dtype).cuda().eval()
        rows = []
        with torch.inference_mode():
            for r in records[:64]:
                rows.append(model(**padded([r], None, None)).logits[0].float())
        logits[dtype] = torch.cat(rows)
        del model
    want, got = logits[torch.float32], logits[torch.bfloat16]
    line = {"bench": "quality", "compute": "bf16", "logits_relative_error": ((got - want).norm() / want.norm()).item(),
            "top1_agreement": (got.argmax(1) == want.argmax(1)).float().mean().item()}
    print(json.dumps(line), flush=True)


def load(path):
    started = time.time()
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.bfloat16).cuda()
    print(json.dumps({"event": "loaded", "seconds": round(time.time() - started, 1)}), flush=True)
    return model


def padded(records, source, target):
    """Batches the records; source and target: lengths to pad to, or None for the longest."""
    s = source or max(len(r["input_ids"]) for r in records)
    t = target or max(len(r["labels"]) for r in records)
    ids = torch.zeros(len(records), s, dtype=torch.long)
    mask = torch.zeros(len(records), s, dtype=torch.long)
    labels = torch.full((len(records), t), -100)
    for i, r in enumerate(records):
        x, y = r["input_ids"][:s], r["labels"][:t]
        ids[i, : len(x)] = torch.tensor(x)
        mask[i, : len(x)] = 1
        labels[i, : len(y)] = torch.tensor(y)
    return {"input_ids": ids.cuda(), "attention_mask": mask.cuda(), "labels": labels.cuda()}


def report(setting, n, seconds, **more):
    line = {"bench": setting, "records_per_s": round(n / seconds, 2), "seconds": round(seconds, 2),
            "peak_GiB": round(torch.cuda.max_memory_allocated() / 2**30, 1)}
    print(json.dumps({**line, **more}), flush=True)


def train(model, records, setting):
    batch = int(setting.split("-")[2])
    compiled, checkpointing = "compile" in setting, setting == "train-eager-8"
    grouped = setting == "train-eager-32"
    model.gradient_checkpointing_enable() if checkpointing else model.gradient_checkpointing_disable()
    model.config.use_cache = False
    model.train()
    step_model = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    if grouped:
        records = sorted(records, key=lambda r: len(r["input_ids"]))
        step = len(records) // batch // 12
        batches = [records[i * batch * step : i * batch * step + batch] for i in range(12)]
    else:
        batches = [records[i * batch : (i + 1) * batch] for i in range(len(records) // batch)]
    shape = (None, None) if grouped else (256, 56)
    warm, timed = (3, len(batches) - 3) if grouped else (4, 12)

    def one(batch_records):
        x = padded(batch_records, *shape)
        loss = step_model(**x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    torch.cuda.reset_peak_memory_stats()
    started = time.time()
    for b in batches[:warm]:
        one(b)
    torch.cuda.synchronize()
    warmed, n = time.time() - started, 0
    started = time.time()
    for b in batches[warm : warm + timed]:
        one(b)
        n += len(b)
    torch.cuda.synchronize()
    report(setting, n, time.time() - started, warm_up_s=round(warmed, 1))


def generate(model, records, setting):
    model.gradient_checkpointing_disable()
    model.config.use_cache = True
    model.eval()
    beams = 4 if "beam4" in setting else 1
    batch = 1 if setting == "generate-1" else 64
    some = records[:3] if batch == 1 else records[: 2 * batch]
    rounds = [some[i : i + batch] for i in range(0, len(some), batch)]
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        for timed in range(2):
            torch.cuda.synchronize()
            started = time.time()
            for r in rounds if timed else rounds[:1]:
                x = padded(r, None, None)
                del x["labels"]
                model.generate(**x, max_new_tokens=25, min_new_tokens=25, num_beams=beams, do_sample=False)
            torch.cuda.synchronize()
            seconds = time.time() - started
    report(setting, len(some), seconds, ms_per_token=round(seconds / len(rounds) / 25 * 1e3, 2))


def main():
    path, tokens, settings = sys.argv[1], sys.argv[2], sys.argv[3:]
    records = [json.loads(line) for line in open(tokens)]
    if "rates" in settings:
        rates()
    if "quality" in settings:
        quality(path, records)
    settings = [s for s in settings if s not in ("rates", "quality")]
    if not settings:
        return
    model = load(path)
    for setting in [s for s in settings if s.startswith("generate")]:
        generate(model, records, setting)
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"], bias="none",
                      task_type="SEQ_2_SEQ_LM")
    model.enable_input_require_grads()
    model = get_peft_model(model, lora)
    for setting in [s for s in settings if s.startswith("train")]:
        train(model, records, setting)


main()

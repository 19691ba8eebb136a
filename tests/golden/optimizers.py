# SPDX-License-Identifier: MIT
"""optimizers.py - some steps of transformers' Adafactor and bitsandbytes' 8-bit AdamW on small tensors (needs bitsandbytes,
whose CPU implementation runs here; its states after every step are written, too). Values are exact in binary, so that the test makes the same: tests/unit/
test_optimizers.c."""
import os

import bitsandbytes
import torch
from transformers.optimization import Adafactor
from transformers.trainer_pt_utils import LabelSmoother

import common
import training

STEPS = 3
SHAPES = {"matrix": (8, 36), "wide": (3, 50), "vector": (150,)}


def value(i, t):
    """Parameter i (t 1000) or its gradient in step t."""
    return ((i * 37 + t * 101) % 97 - 48) / 64 * 2.0 ** -(i % 9)


def tensor(shape, t):
    n = torch.Size(shape).numel()
    return torch.tensor([value(i, t) for i in range(n)], dtype=torch.float32).view(shape)


def numbers(values):
    return [common.number(x) for x in values.detach().view(-1)]


def eight_bits(p, state):
    return dict(m=state["state1"].view(-1).tolist(), v=state["state2"].view(-1).tolist(), m_scale=numbers(state["absmax1"]),
                v_scale=numbers(state["absmax2"]), p=numbers(p))


def run(name, shape, make, **settings):
    p = torch.nn.Parameter(tensor(SHAPES[shape], 1000))
    optimizer = make([p], **settings)
    states = []
    for step in range(STEPS):
        p.grad = tensor(SHAPES[shape], step)
        optimizer.step()
        if "state1" in optimizer.state[p]:
            states.append(eight_bits(p, optimizer.state[p]))
    rows, cols = (SHAPES[shape] + (1,))[:2]
    return dict(name=name, rows=rows, cols=cols, vector=len(SHAPES[shape]) == 1, steps=STEPS, lr=settings["lr"],
                weight_decay=settings["weight_decay"], p=numbers(p), **(dict(states=states) if states else {}))


def adafactor(params, **settings):
    return Adafactor(params, scale_parameter=False, relative_step=False, **settings)


def adamw8bit(params, **settings):
    return bitsandbytes.optim.AdamW8bit(params, min_8bit_size=1, **settings)


def smoothed_curve(folder):
    """As training.py's relu-full, but with Adafactor and transformers' LabelSmoother."""
    model = common.load_model(folder, "relu")
    weights = list(model.parameters())
    optimizer = adafactor(weights, lr=3e-4, weight_decay=0.0)
    smoother = LabelSmoother(epsilon=0.1)
    records = common.read_records(folder)
    rows = []
    for step in range(training.STEPS):
        lr = 3e-4 * (training.STEPS - step) / training.STEPS
        for group in optimizer.param_groups:
            group["lr"] = lr
        first = step * training.BATCH % len(records)
        batch = training.collate(records[first:first + training.BATCH])
        loss = smoother(model(**batch), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        rows.append({"step": step + 1, "loss": common.number(loss.detach()), "lr": common.number(lr),
                     "grad_norm": common.number(norm)})
    common.write_lines(os.path.join(folder, "training", "relu-adafactor.jsonl"), rows)


def main():
    folder = common.start()
    smoothed_curve(folder)
    rows = [run("adafactor", shape, adafactor, lr=0.01, weight_decay=decay)
            for shape in SHAPES for decay in (0.0, 0.1)]
    rows += [run("adamw8bit", shape, adamw8bit, lr=0.01, weight_decay=decay)
             for shape in ("matrix",) for decay in (0.0, 0.1)]
    common.write_lines(os.path.join(folder, "optimizers.jsonl"), rows)


if __name__ == "__main__":
    main()

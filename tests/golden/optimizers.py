# SPDX-License-Identifier: MIT
"""optimizers.py - some steps of transformers' Adafactor and bitsandbytes' 8-bit AdamW on small tensors (needs bitsandbytes,
whose CPU implementation runs here; its states after every step are written, too). Values are exact in binary, so that the test makes the same: tests/unit/
test_optimizers.c."""
import os

import bitsandbytes
import torch
from transformers.optimization import Adafactor

import common

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


def main():
    folder = common.start()
    rows = [run("adafactor", shape, adafactor, lr=0.01, weight_decay=decay)
            for shape in SHAPES for decay in (0.0, 0.1)]
    rows += [run("adamw8bit", shape, adamw8bit, lr=0.01, weight_decay=decay)
             for shape in ("matrix",) for decay in (0.0, 0.1)]
    common.write_lines(os.path.join(folder, "optimizers.jsonl"), rows)


if __name__ == "__main__":
    main()

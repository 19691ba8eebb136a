# SPDX-License-Identifier: MIT
"""sampling.py - what transformers leaves of a logits vector before it draws from it: repetition penalty, then temperature,
top-k, top-p, min-p, typical, then softmax."""
import os

import torch
from transformers import GenerationConfig

import common

SEED = 5
# name, size, spread, previous ids, options; default top_k is 0 here: off.
CASES = [
    ("plain", 40, 2.0, [0], {}),
    ("temperature", 40, 2.0, [0, 3, 3, 9], dict(temperature=0.7)),
    ("top-k", 40, 2.0, [0], dict(top_k=5)),
    ("top-k-ties", 40, 2.0, [0], dict(top_k=3)),
    ("top-k-over", 40, 2.0, [0], dict(top_k=1000)),
    ("top-p", 40, 2.0, [0], dict(top_p=0.9)),
    ("top-p-one-left", 40, 4.0, [0], dict(top_p=0.01)),
    ("top-p-flat", 40, 0.1, [0], dict(top_p=0.5)),
    ("penalty", 40, 2.0, [0, 7, 7, 11, 30], dict(repetition_penalty=1.5)),
    ("recipe", 96, 2.0, [0, 4, 5], dict(top_k=50, top_p=0.9)),
    ("everything", 96, 3.0, [0, 4, 80, 80], dict(repetition_penalty=1.3, temperature=1.8, top_k=20, top_p=0.8)),
    ("min-p", 40, 2.0, [0], dict(min_p=0.1)),
    ("min-p-one-left", 40, 2.0, [0], dict(min_p=1.0)),
    ("min-p-behind-top-p", 40, 2.0, [0], dict(temperature=1.5, top_p=0.9, min_p=0.05)),
    ("typical", 40, 2.0, [0], dict(typical_p=0.8)),
    ("typical-few", 40, 2.0, [0], dict(typical_p=0.2)),
    ("typical-peaked", 40, 6.0, [0], dict(typical_p=0.9)),
    ("typical-behind-top-k", 96, 2.0, [0], dict(top_k=30, typical_p=0.5)),
    ("all-filters", 96, 3.0, [0, 4, 80, 80], dict(repetition_penalty=1.3, temperature=1.8, top_k=40, top_p=0.95,
                                                  min_p=0.02, typical_p=0.7)),
]


def warp(model, logits, previous, options):
    config = GenerationConfig(**dict(dict(do_sample=True, top_k=0, top_p=1.0, temperature=1.0), **options))
    ids = torch.tensor([previous])
    processors = model._get_logits_processor(generation_config=config, input_ids_seq_length=1, device="cpu")
    names = [type(p).__name__ for p in processors]
    return torch.softmax(processors(ids, logits[None].clone()), dim=-1)[0], names


def check_clear(model, logits, previous, options, kept):
    """What stays must depend neither on rounding nor on how a sort orders equals."""
    for name in {"top_p", "min_p", "typical_p"} & set(options):
        for nudge in (-1e-5, 1e-5):
            near = dict(options, **{name: min(options[name] + nudge, 1.0)})
            assert torch.equal(warp(model, logits, previous, near)[0] > 0, kept)
    if not {"typical_p", "repetition_penalty"} & set(options):
        assert logits[kept].min() > logits[~kept].max()


def main():
    folder = common.start()
    model = common.load_model(folder, "gated")
    generator = torch.Generator().manual_seed(SEED)
    rows = []
    for name, size, spread, previous, options in CASES:
        # Multiples of 1/256 print exactly, so that both sides start from the same bits.
        logits = torch.round(torch.randn(size, generator=generator) * spread * 256) / 256
        if name == "top-k-ties":  # the third best three times: transformers keeps every equal
            third = torch.sort(logits, descending=True)[0][2]
            logits[[20, 33]] = third
        probs, processors = warp(model, logits, previous, options)
        if {"top_p", "min_p", "typical_p"} & set(options):
            check_clear(model, logits, previous, options, probs > 0)
        rows.append({"name": name, "previous": previous, **options, "logits": logits.tolist(),
                     "probs": [common.number(p) for p in probs], "processors": processors})
    common.write_lines(os.path.join(folder, "sampling.jsonl"), rows)


if __name__ == "__main__":
    main()

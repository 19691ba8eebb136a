# SPDX-License-Identifier: MIT
"""formats.py - the gated model as other directories hold it: in shards with an index, in bf16 and in f16; what it
answers from 16-bit weights, computed in f32."""
import os

import torch
from transformers import T5ForConditionalGeneration

import common

GEOMETRY = "gated"
SHARD = 48 * 1024  # bytes
HALVES = {"model-bf16": torch.bfloat16, "model-f16": torch.float16}


def save(model, folder, directory, **options):
    path = os.path.join(folder, GEOMETRY, directory)
    model.save_pretrained(path, **options)
    os.remove(os.path.join(path, "generation_config.json"))


def main():
    folder = common.start()
    records = common.read_records(folder)[::3]
    save(common.load_model(folder, GEOMETRY), folder, "model-sharded", max_shard_size=SHARD)
    source = os.path.join(folder, GEOMETRY, "model")
    for directory, dtype in HALVES.items():
        # transformers keeps wo in f32 when it loads f16; .to() then makes every tensor 16-bit, as most files have it.
        model = T5ForConditionalGeneration.from_pretrained(source, dtype=torch.float32).to(dtype)
        model.config.dtype = dtype
        save(model, folder, directory)
        wide = common.load_model(folder, GEOMETRY, directory=directory)
        assert all(w.dtype == torch.float32 for w in wide.parameters())
        common.write_lines(os.path.join(folder, GEOMETRY, "logprobs", directory + ".jsonl"),
                           common.logprob_rows(wide, records))


if __name__ == "__main__":
    main()

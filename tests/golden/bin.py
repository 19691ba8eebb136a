# SPDX-License-Identifier: MIT
"""bin.py - one very small T5 as torch.save and save_pretrained of older transformers write it: f32, f16, bf16, two shards
with their index, an adapter; and the same weights as safetensors, to compare with."""
import json
import os

import torch
from safetensors.torch import save_file

import common

CONFIG = dict(architectures=["T5ForConditionalGeneration"], model_type="t5", vocab_size=32, d_model=4, d_kv=2, num_heads=2,
              d_ff=8, num_layers=1, num_decoder_layers=1, relative_attention_num_buckets=8,
              relative_attention_max_distance=20, feed_forward_proj="relu", tie_word_embeddings=False,
              decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, layer_norm_epsilon=1e-6)
SHARED = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as out:
        json.dump(value, out, indent=1)
        out.write("\n")


def state(dtype):
    """As state_dict() gives it: the embedding under three names, one storage."""
    from transformers import T5Config, T5ForConditionalGeneration
    torch.manual_seed(17)
    weights = T5ForConditionalGeneration(T5Config(**CONFIG)).to(dtype).state_dict()
    for name in SHARED:
        weights[name] = weights["shared.weight"]
    weights["lm_head.weight"] = weights["shared.weight"].flip(0).contiguous()  # a head of its own, as v1.1 has
    return weights


def main():
    folder = os.path.join(common.start(), "bin")
    weights = state(torch.float32)
    for directory, dtype in {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}.items():
        write_json(os.path.join(folder, directory, "config.json"), CONFIG)
        torch.save(state(dtype), os.path.join(folder, directory, "pytorch_model.bin"))
    write_json(os.path.join(folder, "safetensors", "config.json"), CONFIG)
    save_file({k: v.contiguous() for k, v in weights.items() if k not in SHARED[1:]},
              os.path.join(folder, "safetensors", "model.safetensors"))

    shards = os.path.join(folder, "sharded")
    names, where = list(weights), {}
    write_json(os.path.join(shards, "config.json"), CONFIG)
    for i, part in enumerate((names[:12], names[12:])):
        file = "pytorch_model-%05d-of-00002.bin" % (i + 1)
        torch.save({k: weights[k] for k in part}, os.path.join(shards, file))
        where.update({k: file for k in part})
    total = sum(v.numel() * v.element_size() for v in weights.values())
    write_json(os.path.join(shards, "pytorch_model.bin.index.json"),
               {"metadata": {"total_size": total}, "weight_map": where})

    generator = torch.Generator().manual_seed(18)
    adapter = {}
    for module in ("encoder.block.0.layer.0.SelfAttention.", "decoder.block.0.layer.0.SelfAttention.",
                   "decoder.block.0.layer.1.EncDecAttention."):
        for matrix in "AB":
            key = "base_model.model.%sq.lora_%s.weight" % (module, matrix)
            adapter[key] = torch.randn((2, 4) if matrix == "A" else (4, 2), generator=generator)
    config = dict(peft_type="LORA", task_type="SEQ_2_SEQ_LM", r=2, lora_alpha=4, lora_dropout=0.0, bias="none",
                  target_modules=["q"], inference_mode=True)
    for directory in ("adapter", "adapter-safetensors"):
        write_json(os.path.join(folder, directory, "adapter_config.json"), config)
    torch.save(adapter, os.path.join(folder, "adapter", "adapter_model.bin"))
    save_file(adapter, os.path.join(folder, "adapter-safetensors", "adapter_model.safetensors"))


if __name__ == "__main__":
    main()

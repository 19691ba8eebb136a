# SPDX-License-Identifier: MIT
"""random_model.py GEOMETRY FOLDER - a FLAN-T5 sized model with random weights, saved by transformers: for benchmarks
and for running the whole recipe where no checkpoint can be had. Same seed, same bytes.

Weights are drawn so that activations stay of order one through all layers, logits spread over a few units and </s> is
never likely: greedy decoding runs to its limit, as a benchmark wants, over changing tokens."""
import json
import os
import sys

import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.utils import logging

SEED = 2
EOS_GAIN = 0.01
GEOMETRY = {  # as google/flan-t5-* state in config.json
    "small": dict(d_model=512, d_kv=64, num_heads=6, d_ff=1024, num_layers=8, num_decoder_layers=8),
    "base": dict(d_model=768, d_kv=64, num_heads=12, d_ff=2048, num_layers=12, num_decoder_layers=12),
    "large": dict(d_model=1024, d_kv=64, num_heads=16, d_ff=2816, num_layers=24, num_decoder_layers=24),
}


def spread(name, shape, config):
    """Standard deviation of a matrix: transformers' initialisation, with a visible position bias, attention that
    looks at something, and branches that outweigh the embedding, so that a token does not repeat itself."""
    if name.endswith("relative_attention_bias.weight") or name.startswith("shared"):
        return 1.0
    if name.endswith("lm_head.weight"):
        return 2.0 * config.d_model**-0.5
    if name.endswith(".q.weight"):
        return 1.5 * (config.d_model * config.d_kv) ** -0.5
    return shape[1] ** -0.5


def fill(model):
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(generator=generator)
            if weight.dim() == 1:
                weight.mul_(0.1).add_(1)
            else:
                weight.mul_(spread(name, weight.shape, model.config))
        model.lm_head.weight[1] *= EOS_GAIN


def publish_config(folder):
    """As published directories say that lm_head is its own; transformers 5 writes it in another way."""
    name = os.path.join(folder, "config.json")
    with open(name, encoding="utf-8") as text:
        config = json.load(text)
    config.pop("scale_decoder_outputs", None)
    config["tie_word_embeddings"] = False
    with open(name, "w", encoding="utf-8") as out:
        json.dump(config, out, indent=2, sort_keys=True)
        out.write("\n")


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in GEOMETRY:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(GEOMETRY)} FOLDER")
    logging.disable_progress_bar()
    config = T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
                      decoder_start_token_id=0, dropout_rate=0.1, **GEOMETRY[sys.argv[1]])
    with torch.device("meta"):
        model = T5ForConditionalGeneration(config)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    model.lm_head.weight = torch.nn.Parameter(torch.empty(config.vocab_size, config.d_model))
    fill(model)
    model.save_pretrained(sys.argv[2], max_shard_size="16GB")
    publish_config(sys.argv[2])


if __name__ == "__main__":
    main()

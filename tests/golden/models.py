# SPDX-License-Identifier: MIT
"""models.py - three tiny random T5 models, two PEFT adapters for each, and the records that every
golden file uses. The seeds below are the only source of randomness."""
import json
import os

import torch
from peft import LoraConfig, get_peft_model
from transformers import T5Config, T5ForConditionalGeneration

import common

VOCAB = 96
SHARED = dict(vocab_size=VOCAB, relative_attention_num_buckets=8, relative_attention_max_distance=20,
              decoder_start_token_id=0, dropout_rate=0.1)
GEOMETRY = {
    # v1.1 and FLAN: gated GELU, its own lm_head, inner = 3 x 9 = 27 is not d_model.
    "gated": dict(SHARED, d_model=18, d_kv=9, num_heads=3, d_ff=20, num_layers=3, num_decoder_layers=3,
                  feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    # v1.0: ReLU, lm_head is the embedding, decoder output scaled by d_model^-0.5.
    "relu": dict(SHARED, d_model=16, d_kv=4, num_heads=4, d_ff=44, num_layers=2, num_decoder_layers=2,
                 feed_forward_proj="relu", tie_word_embeddings=True),
    # A decoder shallower than the encoder, as distilled models have.
    "shallow": dict(SHARED, d_model=16, d_kv=12, num_heads=2, d_ff=30, num_layers=3, num_decoder_layers=2,
                    feed_forward_proj="gated-gelu", tie_word_embeddings=False),
}
SEED = {"gated": 11, "relu": 32, "shallow": 13}
ADAPTER = {
    "qv": dict(r=4, lora_alpha=8, target_modules=["q", "v"]),
    "all": dict(r=3, lora_alpha=6, use_rslora=True),
}
ALL_TARGETS = {True: ["q", "k", "v", "o", "wi_0", "wi_1", "wo"], False: ["q", "k", "v", "o", "wi", "wo"]}


EOS_GAIN = {"gated": 1.8, "relu": 2.0, "shallow": 1.8}


def spread(name, shape, config):
    """Standard deviation of a random matrix: transformers' own initialisation, but for sharper attention,
    a visible position bias and logits that spread over several units."""
    if name.endswith("relative_attention_bias.weight"):
        return 1.0
    if name.endswith("lm_head.weight"):
        return 2.0 * config.d_model**-0.5
    if name.startswith("shared"):
        return 1.0 if config.is_gated_act else 2.5
    if name.endswith(".q.weight"):
        return (1.5 if config.is_gated_act else 3.0) * (config.d_model * config.d_kv) ** -0.5
    if config.is_gated_act:
        return shape[1] ** -0.5
    gain = 4.0 if name.endswith(".o.weight") else 1.3  # attention must outweigh the large embedding
    return gain * shape[1] ** -0.5


def make_model(geometry):
    config = T5Config(**GEOMETRY[geometry])
    model = T5ForConditionalGeneration(config)
    tied = GEOMETRY[geometry]["tie_word_embeddings"]
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCAB, config.d_model))
    generator = torch.Generator().manual_seed(SEED[geometry])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            draw = torch.randn(weight.shape, generator=generator)
            if name == "decoder.final_layer_norm.weight" and tied:
                weight.copy_(draw)  # of both signs: a tied model would otherwise repeat its last token for ever
            elif weight.dim() == 1:
                weight.copy_(1 + 0.2 * draw)
            else:
                weight.copy_(draw * spread(name, weight.shape, config))
        # A longer row makes </s> the best token in some places and the worst in others.
        model.lm_head.weight[1] *= EOS_GAIN[geometry]
    return model


def save_model(model, folder, geometry):
    path = os.path.join(folder, geometry, "model")
    model.save_pretrained(path)
    os.remove(os.path.join(path, "generation_config.json"))
    if geometry == "gated":
        # Published FLAN-T5 directories say it this way; transformers 5 adds scale_decoder_outputs instead.
        name = os.path.join(path, "config.json")
        with open(name, encoding="utf-8") as text:
            config = json.load(text)
        del config["scale_decoder_outputs"]
        config["tie_word_embeddings"] = False
        with open(name, "w", encoding="utf-8") as out:
            json.dump(config, out, indent=2, sort_keys=True)
            out.write("\n")


def save_adapter(folder, geometry, name):
    model = common.load_model(folder, geometry)
    options = dict(ADAPTER[name])
    options.setdefault("target_modules", ALL_TARGETS[model.config.is_gated_act])
    torch.manual_seed(SEED[geometry])  # lora_A starts as PEFT draws it
    model = get_peft_model(model, LoraConfig(task_type="SEQ_2_SEQ_LM", lora_dropout=0.0, bias="none", **options))
    generator = torch.Generator().manual_seed(100 * SEED[geometry] + len(name))
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if "lora_B" in weight_name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    path = os.path.join(folder, geometry, "adapter-" + name)
    model.save_pretrained(path)
    os.remove(os.path.join(path, "README.md"))
    tidy_adapter_config(os.path.join(path, "adapter_config.json"), geometry)


def tidy_adapter_config(name, geometry):
    """PEFT keeps target_modules as a set, so their order changes from run to run; the base's path is this machine's."""
    with open(name, encoding="utf-8") as text:
        config = json.load(text)
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = geometry
    with open(name, "w", encoding="utf-8") as out:
        json.dump(config, out, indent=2, sort_keys=True)
        out.write("\n")


def make_records():
    """24 records, ids 2..95 and a final 1; the first ones are the shortest possible."""
    generator = torch.Generator().manual_seed(7)

    def ids(n):
        return torch.randint(2, VOCAB, (n - 1,), generator=generator).tolist() + [1]

    sources = [1, 2, 3, 60, 5, 8, 59, 13, 21, 34, 55, 17, 4, 26, 40, 9, 47, 12, 31, 6, 64, 22, 7, 50]
    targets = [1, 3, 2, 20, 5, 7, 12, 9, 4, 18, 6, 11, 8, 1, 15, 10, 2, 14, 5, 19, 7, 3, 16, 13]
    return [{"id": f"g{i:02d}", "input_ids": ids(s), "labels": ids(t)} for i, (s, t) in
            enumerate(zip(sources, targets))]


def main():
    folder = common.start()
    for geometry in common.GEOMETRIES:
        save_model(make_model(geometry), folder, geometry)
        for name in ADAPTER:
            save_adapter(folder, geometry, name)
    common.write_lines(os.path.join(folder, "records.jsonl"), make_records())


if __name__ == "__main__":
    main()

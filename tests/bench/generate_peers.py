# SPDX-License-Identifier: MIT
"""generate_peers.py MODEL RECORDS NEW THREADS BATCH... - new tokens a second of CTranslate2 int8 and of PyTorch f32, greedy
search to exactly NEW tokens, loading excluded: one JSON object a line, for tests/bench/generate.sh. A peer that is not
installed is left out and named on standard error. CTranslate2's copy of the model is written beside MODEL."""
import json
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Names:
    """What CTranslate2's converter asks of a tokenizer: here a token's name is its number."""

    pad_token, eos_token, unk_token = "0", "1", "2"

    def get_vocab(self):
        return {str(i): i for i in range(32128)}

    def convert_ids_to_tokens(self, token):
        return str(token)


def converted(model):
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        def load_tokenizer(self, *args, **options):
            return Names()

    folder = model.rstrip("/") + "-ctranslate2"
    if not os.path.isdir(folder):
        Converter(model).convert(folder, quantization="int8")
    return folder


def ctranslate2_runner(model, new, threads):
    import ctranslate2

    translator = ctranslate2.Translator(converted(model), device="cpu", compute_type="int8", intra_threads=threads)

    def run(batch):
        results = translator.translate_batch([[str(i) for i in ids] for ids in batch], beam_size=1,
                                             min_decoding_length=new, max_decoding_length=new)
        return [len(r.hypotheses[0]) for r in results]

    return run


def torch_runner(model, new, threads):
    import torch
    from transformers import T5ForConditionalGeneration

    torch.set_num_threads(threads)
    loaded = T5ForConditionalGeneration.from_pretrained(model, dtype=torch.float32).eval()

    def run(batch):
        longest = max(map(len, batch))
        ids = torch.tensor([b + [0] * (longest - len(b)) for b in batch])
        mask = torch.tensor([[1] * len(b) + [0] * (longest - len(b)) for b in batch])
        with torch.no_grad():
            out = loaded.generate(input_ids=ids, attention_mask=mask, do_sample=False, min_new_tokens=new,
                                  max_new_tokens=new)
        return [out.shape[1] - 1] * len(batch)

    return run


def measure(run, records, batch):
    """New tokens a second over all records in batches of `batch`: the best of three, after a warm-up."""
    run(records[:batch])
    best = 0
    for _ in range(3):
        start, tokens = time.perf_counter(), 0
        for i in range(0, len(records), batch):
            tokens += sum(run(records[i:i + batch]))
        best = max(best, tokens / (time.perf_counter() - start))
    return best


def main():
    model, path = sys.argv[1:3]
    new, threads, *batches = map(int, sys.argv[3:])
    with open(path, encoding="ascii") as lines:
        records = [json.loads(line)["input_ids"] for line in lines]
    for name, make in (("CTranslate2 int8", ctranslate2_runner), ("PyTorch f32", torch_runner)):
        try:
            run = make(model, new, threads)
        except ImportError as missing:
            print(f"generate.sh: no {missing.name}: no ratio to {name}", file=sys.stderr)
            continue
        for batch in batches:
            some = records if batch > 1 else records[:4]
            print(json.dumps({"peer": name, "batch": batch, "tokens_per_s": measure(run, some, batch)}), flush=True)


if __name__ == "__main__":
    main()

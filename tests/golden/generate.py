# SPDX-License-Identifier: MIT
"""generate.py - transformers' greedy and beam search, one record at a time, for each model with and without
adapters. A record is left out of a file when its search came within MARGIN of another outcome, or when a
change of the weights in the fifth digit changes the ids: rounding could then decide."""
import collections
import contextlib
import json
import os

import torch
from transformers import LogitsProcessor, LogitsProcessorList, T5ForConditionalGeneration

import common

LIMIT = 20  # new tokens
MARGIN = 1e-4
# Single tokens that the models like, the end token (which transformers leaves out alone), sequences, one from the start.
BAN = [[44], [15], [29], [1], [88, 63], [94, 94], [4, 53], [81, 57, 81], [12, 12, 12], [31, 31, 1], [0, 64]]
SETTINGS = {
    "greedy": {},
    "beam4": dict(num_beams=4, early_stopping=False),
    "beam4-early": dict(num_beams=4, early_stopping=True),
    "beam4-never": dict(num_beams=4, early_stopping="never"),
    "beam4-never-long": dict(num_beams=4, early_stopping="never", length_penalty=2.0),
    "beam4-return4": dict(num_beams=4, length_penalty=0.6, num_return_sequences=4),
    "greedy-ngram2": dict(no_repeat_ngram_size=2),
    "greedy-penalty": dict(repetition_penalty=1.3),
    "greedy-min8": dict(min_new_tokens=8),
    "beam4-mixed": dict(num_beams=4, no_repeat_ngram_size=3, repetition_penalty=1.2, min_new_tokens=5),
    "greedy-ban": dict(bad_words_ids=BAN),
    "beam4-ban": dict(num_beams=4, bad_words_ids=BAN, length_penalty=0.6, num_return_sequences=2),
    "greedy-force": dict(forced_bos_token_id=7, forced_eos_token_id=1, bad_words_ids=[[7], [88, 63]]),
    "beam4-force": dict(num_beams=4, forced_bos_token_id=7, forced_eos_token_id=1, num_return_sequences=3),
    "beam4-prefix": dict(num_beams=4, forced_prefix=[7, 88, 7], min_new_tokens=6, repetition_penalty=1.2),
}


class ForcedPrefix(LogitsProcessor):
    """ForcedBOSTokenLogitsProcessor for more than one token."""

    def __init__(self, prefix):
        self.prefix = prefix

    def __call__(self, input_ids, scores):
        at = input_ids.shape[-1] - 1
        if at >= len(self.prefix):
            return scores
        forced = torch.full_like(scores, -float("inf"))
        forced[:, self.prefix[at]] = 0
        return forced


def arguments(options):
    """generate's keyword arguments."""
    rest = {name: value for name, value in options.items() if name != "forced_prefix"}
    if "forced_prefix" in options:
        rest["logits_processor"] = LogitsProcessorList([ForcedPrefix(options["forced_prefix"])])
    return rest


def records_for(setting, records):
    """Greedy files hold every record; beam files every second one, four-fold ones and those of forced and banned
    tokens every fourth."""
    return records[::4] if setting.endswith(("return4", "ban", "force", "prefix")) else records[::2] if "beam" in setting else records


@contextlib.contextmanager
def smallest_gap(found):
    """Appends to found the gap between neighbours among each step's best candidates (one more than beam search keeps)."""
    original = T5ForConditionalGeneration._get_top_k_continuations

    def watched(self, *args, **options):
        totals = options["accumulated_log_probs"]
        best = torch.topk(totals, k=options["beams_to_keep"] + 1)[0]
        best = best[best > -1e8]
        if len(best) > 1:
            found.append(float((best[:-1] - best[1:]).min()))
        return original(self, *args, **options)

    T5ForConditionalGeneration._get_top_k_continuations = watched
    try:
        yield
    finally:
        T5ForConditionalGeneration._get_top_k_continuations = original


def until_end(row):
    """A generated row without the start token, up to its </s>; 0 is padding behind that, and a token before."""
    ids = row[1:].tolist()
    return ids[:ids.index(1) + 1] if 1 in ids else ids


def decode(model, record, options):
    """-> lists of ids (until_end), their scores (None for greedy), smallest gap."""
    gaps = []
    with torch.no_grad(), smallest_gap(gaps):
        result = model.generate(input_ids=torch.tensor([record["input_ids"]]), max_new_tokens=LIMIT, do_sample=False,
                                return_dict_in_generate=True, output_scores=True, **arguments(options))
    if "num_beams" not in options:
        for scores in result.scores:
            best = torch.topk(scores[0], k=2)[0]
            gaps.append(float(best[0] - best[1]))
    ids = [until_end(row) for row in result.sequences]
    if "num_beams" not in options:
        return ids, None, min(gaps)
    scores = [common.number(s) for s in result.sequences_scores]
    gaps += [a - b for a, b in zip(scores, scores[1:])]
    return ids, scores, min(gaps)


def shaken(folder, geometry, adapter, seed):
    model = common.load_model(folder, geometry, adapter)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + 1e-5 * torch.randn(weight.shape, generator=generator))
    return model


def rows_of(models, setting, records, totals):
    rows = []
    for record in records_for(setting, records):
        ids, scores, gap = decode(models[0], record, SETTINGS[setting])
        if gap < MARGIN or any(decode(m, record, SETTINGS[setting])[0] != ids for m in models[1:]):
            totals["left out"] += 1
            continue
        row = {"id": record["id"], "output_ids": ids if len(ids) > 1 else ids[0]}
        if scores:
            row["score"] = scores if len(ids) > 1 else scores[0]
        rows.append(row)
        totals["kept"] += 1
        totals["gap"] = min(totals["gap"], gap)
        for one in ids:
            totals["eos" if one[-1] == 1 else "limit"] += 1
    return rows


def main():
    folder = common.start()
    records = common.read_records(folder)
    common.write_lines(os.path.join(folder, "settings.jsonl"),
                       [dict(name=n, max_new_tokens=LIMIT, **o) for n, o in SETTINGS.items()])
    for geometry in common.GEOMETRIES:
        for adapter in common.ADAPTERS:
            models = [common.load_model(folder, geometry, adapter)]
            models += [shaken(folder, geometry, adapter, seed) for seed in (1,)]
            totals = collections.defaultdict(int, gap=float("inf"))
            for setting in SETTINGS:
                rows = rows_of(models, setting, records, totals)
                common.write_lines(os.path.join(folder, geometry, "generate", adapter, setting + ".jsonl"), rows)
            print(geometry, adapter, json.dumps(totals), flush=True)


if __name__ == "__main__":
    main()

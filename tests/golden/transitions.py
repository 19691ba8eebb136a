# SPDX-License-Identifier: MIT
"""transitions.py - log-probability of each generated token as transformers' compute_transition_scores gives it, for some
searches that generate.py kept: of greedy search normalised, of beam search as its scores add up."""
import json
import os

import torch

import common

SETTINGS = ("greedy", "greedy-penalty", "greedy-min8", "beam4-return4", "beam4-mixed", "greedy-force", "beam4-force")
EACH = 4


def transitions(model, record, want, options):
    ids = want["output_ids"] if isinstance(want["output_ids"][0], list) else [want["output_ids"]]
    with torch.no_grad():
        result = model.generate(input_ids=torch.tensor([record["input_ids"]]), do_sample=False,
                                return_dict_in_generate=True, output_scores=True, **options)
    beams = getattr(result, "beam_indices", None)
    table = model.compute_transition_scores(result.sequences, result.scores, beams, normalize_logits=beams is None)
    for row, one in zip(result.sequences.tolist(), ids):
        assert row[1:len(one) + 1] == one
    rows = [[common.number(v) for v in values[:len(one)]] for values, one in zip(table, ids)]
    return rows if len(rows) > 1 else rows[0]


def main():
    folder = common.start()
    records = {record["id"]: record for record in common.read_records(folder)}
    with open(os.path.join(folder, "settings.jsonl"), encoding="ascii") as lines:
        settings = {row.pop("name"): row for row in map(json.loads, lines)}
    model = common.load_model(folder, "gated")
    rows = []
    for name in SETTINGS:
        with open(os.path.join(folder, "gated", "generate", "none", name + ".jsonl"), encoding="ascii") as lines:
            for want in [json.loads(line) for line in lines][:EACH]:
                rows.append({"name": name, "id": want["id"], "output_ids": want["output_ids"],
                             "logprobs": transitions(model, records[want["id"]], want, settings[name])})
    common.write_lines(os.path.join(folder, "gated", "transitions.jsonl"), rows)


if __name__ == "__main__":
    main()

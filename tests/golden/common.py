# SPDX-License-Identifier: MIT
"""common.py - what the golden scripts share: where files lie, how models and records are read, how
numbers are printed. Every script takes one operand, the folder to write (models.py has run there)."""
import json
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import T5ForConditionalGeneration  # noqa: E402

GEOMETRIES = ("gated", "relu", "shallow")
ADAPTERS = ("none", "qv", "all")

warnings.filterwarnings("ignore", category=FutureWarning)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)


def start():
    """The output folder, from the command line."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    os.makedirs(sys.argv[1], exist_ok=True)
    return sys.argv[1]


def number(value):
    """Nine significant digits: enough to tell any two f32 apart."""
    return float(f"{float(value):.9g}")


def read_records(folder):
    with open(os.path.join(folder, "records.jsonl"), encoding="ascii") as lines:
        return [json.loads(line) for line in lines]


def write_lines(path, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as out:
        for row in rows:
            out.write(json.dumps(row, separators=(",", ":")) + "\n")


def load_model(folder, geometry, adapter="none", directory="model"):
    """A model in f32 and evaluation mode, its LoRA adapter on top unless it is "none"."""
    model = T5ForConditionalGeneration.from_pretrained(os.path.join(folder, geometry, directory), dtype=torch.float32)
    if adapter != "none":
        model = PeftModel.from_pretrained(model, os.path.join(folder, geometry, "adapter-" + adapter))
    return model.eval()


def label_logprobs(model, record):
    """Log-probability of each label given those before it; the record alone, without padding."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([record["input_ids"]]), labels=torch.tensor([record["labels"]])).logits
    table = torch.log_softmax(logits[0].float(), dim=-1)
    return table.gather(1, torch.tensor(record["labels"])[:, None])[:, 0]


def logprob_rows(model, records):
    rows = []
    for record in records:
        values = label_logprobs(model, record)
        rows.append({"id": record["id"], "sum": number(values.double().sum()), "logprobs": [number(v) for v in values]})
    return rows

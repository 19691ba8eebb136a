#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tokenizer.py FOLDER - FOLDER/tokenizer: a small SentencePiece model of ours, trained here, and what transformers' fast
T5 tokenizer makes of awkward text with it. Where T5_TEST_DATA [../shared/data] holds t5/spiece.model and samsum/val.jsonl
(neither is ours), also real.jsonl and real.json: ids of the same texts, and hashes over all of SAMSum validation."""
import hashlib
import io
import json
import os
import random
import sys

import numpy
import sentencepiece
from transformers import T5TokenizerFast

out = os.path.join(sys.argv[1], "tokenizer")
os.makedirs(out, exist_ok=True)

CORPUS = """
Anna: Are you coming to the party on Saturday? Ben: I think so, but I have to work until eight.
Anna: That's fine, we start at nine. Ben: Should I bring something to eat or to drink?
Carla: The train to Berlin was late again. Daniel: How late? Carla: Forty minutes, and nobody told us why.
Daniel: I'm sorry. Do you want me to pick you up at the station? Carla: That would be great, thank you!
Emma: Did you read the book I gave you? Finn: Not yet, I've been busy with the new house.
Emma: The kitchen isn't finished? Finn: They'll finish it next week, if the weather stays dry.
Greta: Mum's birthday is on Tuesday. Henry: I know, I've ordered flowers and a cake.
Greta: What kind of cake? Henry: Chocolate, of course. She doesn't like anything else.
Ida: We need two more players for the match. Jonas: Ask Karl and Lena, they were good last time.
Ida: Lena broke her arm. Jonas: Oh no! When did that happen? Ida: Skiing, three days ago.
Karl: Can you lend me 20 euros until Friday? Lena: Sure, but you still owe me 15 from last month.
Maria: The meeting is moved to 10:30 in room 4. Nils: Thanks for telling me, I was on my way to room 12.
Olga: How was the concert? Paul: Loud! But the singer was wonderful, we danced all night.
Quentin: I lost my keys somewhere between the office and the supermarket. Rita: Have you looked in the car?
Quentin: Yes, three times. Rita: And in the coat you wore yesterday? Quentin: Ha, there they are!
Sofia: The doctor says it's only a cold. Tim: Good to hear. Stay in bed and drink a lot of tea.
Ursula: Which film shall we watch? Victor: The one about the mountain rescue, it's on at seven.
Walter: Our flight leaves at 6:45, so we have to get up at four. Xenia: Four?! Let's sleep at the airport.
Yvonne: Did they like the presentation? Zeno: They loved it, they want to see the numbers again on Thursday.
Anna invites Ben to a party on Saturday. Ben will come after work and bring something to drink.
Carla's train was forty minutes late. Daniel will pick her up at the station.
Greta and Henry will give their mother flowers and a chocolate cake for her birthday.
Walter and Xenia will spend the night at the airport because their flight leaves early in the morning.
"""

AWKWARD = [
    "", " ", "\n\t \u3000", "Anna: hello", "  two  spaces  ", "a\nb\tc\r\nd\re", "Hmmm... ok!!! (really?)",
    "\ufb01nal \ufb02ight \ufb03 \u00bd \u338f \u2103 \u2116 \u2122", "\uff21\uff42\uff43\u3000\uff11\uff12\uff13",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8", "\u4f60\u597d world", "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd 1\ufe0f\u20e3",
    "zero\u200bwidth\u200dspace\ufeff", "caf\u00e9 cafe\u0301 \u1ec7 e\u0323\u0302 e\u0302\u0323 o\u0308\u0304\u0301", "\u1100\u1161\u11a8 \uac01",
    "\uff76\uff9e\uff77\uff9e \u304b\u3099", "\u0301start \u0301mid\n\u0301line\ufb01\u0301", "\u0344\u0301 x\u0344\u0301", "nul\u0000inside",
    "control\u0001\u0002\u007fs\u0085next", "\u2581a\u2581\u2581b\u2581", "\u2026 \u203c \u00a0nbsp\u00a0", "\u2603\u2603\u2603 \u2603x\u2603",
    "x" * 40, "supercalifragilistic", "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627", "\u0600\u0301a \u0600e\u0301", "\ufffd\ufffe",
    "'tis n't 's 've", "the theatre thesis", "20 euros, 10:30, 6:45", "\U0010ffff\U000e0001",
    "\u2122\u200d\u2122\u0344 \u2122\u0903\u200d\u2122\u0301 \u2122\u200d\u200d\u2122\u0301 \u2122\u05c9",
]
SPECIAL = ["</s>", "a</s>b </s> c", "<pad><unk> <pad>", "<extra_id_0> one <extra_id_99>two<extra_id_7>", "<extra_id_00><extra_id_100><extra_id_>",
           "\uff1c/s\uff1e and \uff1cunk\uff1e", "<</s>> <extra_id_5", "e</s>\u0301", "</S> </ s>"]
LONG = [("a", 10000), ("\u00e9", 10000), ("\u65e5\u672c", 5000), ("\u2603", 10000), ("e\u0301", 5000), ("ab ", 4000), ("\u0301", 10000)]


def train(path):
    """A unigram model as T5's: pad 0, </s> 1, <unk> 2, nmt_nfkc."""
    model = io.BytesIO()
    lines = [line for line in CORPUS.strip().split("\n") for _ in range(3)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=400, model_type="unigram", pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, hard_vocab_limit=False, num_threads=1, character_coverage=1.0, minloglevel=2)
    with open(os.path.join(path, "spiece.model"), "wb") as f:
        f.write(model.getvalue())


def dump(name, rows):
    with open(os.path.join(out, name), "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row) + "\n")


def cases(tokenizer, library):
    for text in AWKWARD + [line for line in CORPUS.strip().split("\n")[:5]]:
        row = {"text": text, "ids": tokenizer(text).input_ids}
        if text.isascii() and text.isprintable():
            row["library"] = library.encode(text)
        yield row
    for text in SPECIAL:
        yield {"text": text, "special": tokenizer(text).input_ids}


def decodings(tokenizer, size):
    rng = random.Random(7)
    lists = [[], [1], [0, 0, 1], [size - 1, size - 100, 2, 1], [0, 3, 1]]
    lists += [tokenizer(text).input_ids for text in AWKWARD + SPECIAL]
    lists += [[rng.randrange(size) for _ in range(rng.randint(1, 12))] for _ in range(60)]
    for ids in lists:
        yield {"output_ids": ids, "prediction": tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True)}


def sha(lines):
    digest = hashlib.sha256()
    for line in lines:
        digest.update((line if isinstance(line, str) else json.dumps(line, separators=(",", ":"))).encode() + b"\n")
    return digest.hexdigest()


def counts(lengths):
    row = {"count": len(lengths), "mean": float(numpy.mean(lengths))}
    for p in (50, 85, 90, 95, 99):
        row["p%d" % p] = float(numpy.percentile(lengths, p))
    return row | {"max": max(lengths)}


def real(folder):
    tokenizer = T5TokenizerFast.from_pretrained(os.path.join(folder, "t5"))
    tokenizer.model_max_length = 10**9
    records = [json.loads(line) for line in open(os.path.join(folder, "samsum/val.jsonl"), encoding="utf-8")]
    dialogues, summaries = [r["dialogue"] for r in records], [r["summary"] for r in records]
    source, target = tokenizer(dialogues).input_ids, tokenizer(summaries).input_ids
    cut = tokenizer(["summarize: " + d for d in dialogues], max_length=255, truncation=True).input_ids
    cut_target = tokenizer(summaries, max_length=50, truncation=True).input_ids
    rows = [{"text": t, "ids": tokenizer(t).input_ids} for t in AWKWARD]
    rows += [{"text": t, "special": tokenizer(t).input_ids} for t in SPECIAL]
    dump("real.jsonl", rows)
    decoded = [tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=True) for ids in cut_target]
    figures = {
        "all": sha(x for pair in zip(source, target) for x in pair),
        "recipe": sha(x for pair in zip(cut, cut_target) for x in pair),
        "decoded": sha(decoded),
        "long": sha(tokenizer(text * n).input_ids for text, n in LONG),
        "source": counts([len(x) for x in source]),
        "target": counts([len(x) for x in target]),
    }
    with open(os.path.join(out, "real.json"), "w") as f:
        json.dump(figures, f, indent=1)
        f.write("\n")


train(out)
own = T5TokenizerFast.from_pretrained(out)
own.model_max_length = 10**9
size = len(own)
dump("cases.jsonl", cases(own, sentencepiece.SentencePieceProcessor(model_file=os.path.join(out, "spiece.model"))))
dump("decode.jsonl", decodings(own, size))
dump("long.jsonl", [{"text": text, "repeat": n, "sha256": sha([own(text * n).input_ids])} for text, n in LONG])
data = os.environ.get("T5_TEST_DATA", "../shared/data")
if os.path.exists(os.path.join(data, "t5/spiece.model")):
    real(data)
else:
    print("tokenizer.py: no", data, "- real.json and real.jsonl are not remade", file=sys.stderr)

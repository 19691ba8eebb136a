#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""rouge.py - what rouge_score 0.1.2 and NLTK's PorterStemmer say, for the tests of rouge.

  rouge.py FOLDER                    writes FOLDER/rouge/stems.tsv, texts.jsonl and scripts.jsonl
  rouge.py --means VAL               mean scores of three baselines on a JSONL file of dialogue, summary
  rouge.py --words N [FILE...]       N distinct words with their stems: those of the files, then made ones
  rouge.py --sentences VAL FIELD     lines of that field with their sentences by NLTK's Punkt, tabs between (needs NLTK's punkt_tab)
  rouge.py --compare PROGRAM VAL     runs PROGRAM over many baselines on VAL and compares every number

Needs rouge_score 0.1.2, NLTK and regex. Seeds are fixed: the same versions write the same bytes."""
import json
import os
import random
import re
import subprocess
import sys

import regex
from nltk.stem.porter import PorterStemmer
from rouge_score import rouge_scorer

KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
LONG = ["rouge3", "rouge4", "rouge7"]
PARTS = ["precision", "recall", "fmeasure"]

# Stems and endings of our own choosing: together they meet every rule of every step, with measures
# 0, 1, 2 and more, y as vowel and consonant, doubled letters, digits.
STEMS = """a b s t e y ab at us ow al ell tr spy try fly sky lov hop hopp plan plann fil fall roll miss
fizz buzz pott kick rat relat condit rat val hesit digit conform radic differ vil analog vietnam predic
oper feud decis hope callous form sensit sens tripl formal electr good reviv allow infer airlin gyroscop
adjust defens irrit replac depend adopt homolog commun activ angular effect bowdler prob ceas controll
yell yyell toy enjoy syzyg gay day happ fulfil skil geo theo archaeo philo bi ra ga do di li ti vi see
agr f bl siz troubl conflat hiss tann x2 4x 10 2nd mp3 xy yx wow box tax ow ew aw abl id ed ing sing k
king str spr squ nation organ real ideal mod civil gener special social natur cultur histor poet mus
tick wait walk runn sitt begg beg ref transf occurr quizz picnick die lie tie dye canoe free tree""".split()
ENDINGS = """ s es ies ss sses ed eed ied ing ings y ys ly ally fully ously ently ably ibly edly ingly er ers
ational tional ation ations ator ators alism iveness fulness ousness ality ivity bility ability ibility
ization izing izer ized ize izes logy logi logies icate icated ative alize iciti icity ical ically ful
ness al ance ence ancy ency enci anci ic able ible ant ement ment ent ion sion tion ions ou ism ate iti
ous ive e ee ll lle le eli alli entli ousli aliti iviti biliti fulli bli abli ied ying yed yer""".split()
WHOLE = """sky skies dying lying tying news innings inning outings outing cannings canning howe proceed
exceed succeed proceeds exceeding succeeded dies died ties tied flies flied spied ies ied eed ing ed
ss sss ssss yyy yyyy ayyy yed ying eing used using owed oing agreed feed freed bleed seed sees caress
ponies cats plastered bled motoring sing hopping falling filing failing enjoy enjoys spy spies by say
cry crying relational rational rationally conditional geology theology archaeology astrology apology
logic dislodge oxen generically communally sensational nationalisation nationalization hopefulness
controlling controller rolling roll probate rate cease able ability ion lion million potion emotion
element cement supplement agreement basement oed oeding uses aaed bbed yyed""".split()

# Texts of our own: line breaks, characters beyond ASCII, letters that lower-case into ASCII, nothing.
TEXTS = [
    ("", ""),
    ("one", ""),
    ("", "one"),
    (" \n\t.,;", "..."),
    ("Ann will call Bob at 7.", "Ann will call Bob at 7."),
    ("Ann will call Bob at 7.", "Bob calls Ann at seven"),
    ("The cat sat.\nThe dog ran.", "The dog ran.\nThe cat sat."),
    ("the the the the", "the the"),
    ("the the", "the the the the"),
    ("a b c d", "a c\nb d\nd a"),
    ("a b\nc d\n\na b", "a b c d\n\n\nb a"),
    ("a a a\nb b b\na b", "a b\nb a\na a\nb b"),
    ("x y z w", "w z y x"),
    ("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5"),
    ("first line\r\nsecond line\r\n", "second line\r\nfirst line"),
    ("line\u2028separator\x0bvertical\x0cfeed\x85next", "line separator\nvertical feed next"),
    ("Zo\u00eb caf\u00e9 na\u00efve", "zoe cafe naive zo caf na ve"),
    ("\u0130stanbul and \u0130", "i stanbul and i"),
    ("273 \u212aelvin, o\u212a, mil\u212a", "273 kelvin ok milk"),
    ("\u017ftra\u00dfe \u00c5 \u212b \uff21\uff22 \u03a3\u03a3 \u2160 \u00b2 \u0661", "stra e a"),
    ("\u65e5\u672c\u8a9e and \U0001f600 emoji\U0001f600joined", "and emoji joined"),
    ("nul\0inside", "nul inside"),
    ("don't can't e-mail", "dont cant email don t can t e mail"),
    ("Relational databases generalised nationally; flying skies died",
     "relate database general nation fly sky die"),
    ("12 1200 x2s 3ings", "12 120 x2 3ing"),
    ("Ann: I'm late!\nBob: How late?\nAnn: Ten minutes, sorry :-)", "Ann is ten minutes late.\nBob waits."),
    ("Ann and Bob meet at the station at ten. They take the train to the coast.",
     "Bob and Ann are going to take a train to the coast; they are meeting at ten at the station."),
]

# Pairs in other scripts: case, accents composed and not, marks, joiners, digits, signs, no spaces.
SCRIPTS = [
    ("Anna trifft Jörg am Bahnhof, fährt aber über KÖLN.", "JÖRG und Anna fahren über Köln; der Bahnhof wartet."),
    ("L'été à Orléans: déjà vu", "l\u2019e\u0301te\u0301 \u00e0 Orl\u00e9ans d\u00e9j\u00e0 VU"),
    ("\u039f \u0394\u03a1\u039f\u039c\u039f\u03a3 \u03b5\u03af\u03bd\u03b1\u03b9 \u03bc\u03b1\u03ba\u03c1\u03cd\u03c2", "\u03bf \u03b4\u03c1\u03bf\u03bc\u03bf\u03c2 \u03b5\u03af\u03bd\u03b1\u03b9 \u03bc\u03b1\u03ba\u03c1\u03cd"),
    ("\u0410\u043d\u043d\u0430 \u043f\u0440\u0438\u0434\u0451\u0442\n\u0432 \u0441\u0435\u043c\u044c \u0447\u0430\u0441\u043e\u0432", "\u0432 \u0421\u0415\u041c\u042c\n\u043f\u0440\u0438\u0434\u0451\u0442 \u0410\u041d\u041d\u0410 (7 \u0447\u0430\u0441\u043e\u0432)"),
    ("\u5b89\u5a1c\u4e03\u70b9\u89c1\u9c8d\u52c3\u3002\u4ed6\u4eec\u53bb\u6d77\u8fb9\u3002", "\u9c8d\u52c3\u4e03\u70b9\u53bb\u6d77\u8fb9\u89c1\u5b89\u5a1c"),
    ("\u30a2\u30f3\u30ca\u306f7\u6642\u306b\u99c5\u3078\u3001\u304b\u3099\u3093\u3070\u308b", "\u304c\u3093\u3070\u308b\u30a2\u30f3\u30ca\u3001\uff17\u6642"),
    ("\u0905\u0928\u094d\u0928\u093e \u0938\u093e\u0924 \u092c\u091c\u0947 \u0906\u090f\u0917\u0940\u0964", "\u0938\u093e\u0924 \u092c\u091c\u0947 \u0905\u0928\u094d\u200d\u0928\u093e, \u0967\u0968"),
    ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0628\u0631\u0648\u0645\u061f \u06f1\u06f2", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645 \u0646\u0631\u0648\u0645 \u06f1\u06f2"),
    ("\u0e41\u0e2d\u0e19\u0e19\u0e32\u0e08\u0e30\u0e21\u0e32\u0e17\u0e35\u0e48\u0e2a\u0e16\u0e32\u0e19\u0e35", "\u0e2a\u0e16\u0e32\u0e19\u0e35\u0e17\u0e35\u0e41\u0e2d\u0e19\u0e19\u0e32\u0e21\u0e32"),
    ("\u0130stanbul \u0130\u0130 \u1e9e \u212a\u212b \u2163 \u00b2 x\u00b2 \u24b6 \u01c5", "i\u0307stanbul istanbul \u00df k\u00e5 \u2173 2 x \u24d0 \u01c6"),
    ("co\u00adoperate f\ufeffour \u2764\ufe0f heart\ufe0f 1\ufe0f\u20e3 \u0301alone", "cooperate four heart 1 alone"),
    ("Running dogs don't generalize; na\u00efve caf\u00e9s run", "run dog general don t naive caf\u00e9 running na\u00efve"),
    ("\U0001d400\U00010400\U0001f600 \U00020000\U00020001", "\U0001d400\U00010428 \U00020001"),
]


def random_texts(n):
    """Few words, many repeats and line breaks: ties everywhere."""
    rng = random.Random(7)
    texts = []
    for i in range(n):
        words = ["a", "b", "c", "dd", "running", "runs"][:rng.randint(2, 6)]
        most = rng.choice([6, 20, 90])
        texts.append(tuple(
            "".join(rng.choice(words) + rng.choice([" ", " ", " ", "\n"]) for _ in range(rng.randint(1, most)))
            for _ in range(2)))
    return texts


def made_words(n):
    """Distinct words: whole ones, then stems with one, two, three endings, in a shuffled order."""
    rng = random.Random(1)
    seen, out = set(), []

    def take(word):
        if word and word not in seen and len(out) < n:
            seen.add(word)
            out.append(word)

    for word in WHOLE:
        take(word)
    while len(out) < n:
        word = rng.choice(STEMS) if rng.random() < 0.9 else "".join(
            rng.choice("aeiouybcdlmnrstzwx1") for _ in range(rng.randint(1, 5)))
        take(word + "".join(rng.choice(ENDINGS) for _ in range(rng.choice([1, 1, 1, 2, 3]))))
    return out


def write_words(out, words):
    stemmer = PorterStemmer()
    for word in words:
        out.write(f"{word}\t{stemmer.stem(word)}\n")


def scorer(stem, kinds=KINDS):
    return rouge_scorer.RougeScorer(kinds, use_stemmer=stem)


class Words:
    """Our own rules for other scripts, written a second time: see man rouge."""
    def __init__(self, pattern):
        self.pattern, self.stemmer = regex.compile(pattern), PorterStemmer()

    def tokenize(self, text):
        text = "".join(c.lower() for c in text).replace("\u03c2", "\u03c3")
        text = regex.sub("[\u00ad\u200c\u200d\u2060\ufeff\ufe00-\ufe0f]", "", text)
        return [self.stemmer.stem(w) if len(w) > 3 and w.isascii() else w for w in self.pattern.findall(text)]


LETTER, MARK = r"\p{L}\p{Nd}\p{Nl}", r"\p{Mn}\p{Mc}"
WORDS = {"unicode": Words(f"[{LETTER}][{LETTER}{MARK}]*"), "char": Words(f"[{LETTER}][{MARK}]*")}


def numbers(scores):
    return {k: [getattr(s, p) for p in PARTS] for k, s in scores.items()}


def golden(folder):
    directory = os.path.join(folder, "rouge")
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/stems.tsv", "w") as out:
        write_words(out, made_words(2000))
    with open(f"{directory}/texts.jsonl", "w", encoding="utf-8") as out:
        for reference, prediction in TEXTS + random_texts(60):
            record = {"summary": reference, "prediction": prediction,
                      "stemmed": numbers(scorer(True).score(reference, prediction)),
                      "plain": numbers(scorer(False).score(reference, prediction)),
                      "long": numbers(scorer(True, LONG).score(reference, prediction))}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    with open(f"{directory}/scripts.jsonl", "w", encoding="utf-8") as out:
        for reference, prediction in SCRIPTS:
            record = {"summary": reference, "prediction": prediction}
            for name, words in WORDS.items():
                record[name] = numbers(rouge_scorer.RougeScorer(KINDS, tokenizer=words).score(reference, prediction))
            out.write(json.dumps(record) + "\n")


def records(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def lead_3(dialogue):
    return "\n".join(dialogue.split("\n")[:3])


def longest_3(dialogue):
    lines = dialogue.split("\n")
    return "\n".join(sorted(lines, key=len)[-3:])


def every_third(dialogue):
    return " ".join(dialogue.split(" ")[::3])


def mean(rows):
    return {k: [sum(r[k][i] for r in rows) / len(rows) for i in range(3)] for k in KINDS}


def means(path):
    for name, baseline in [("lead-3", lead_3), ("longest-3", longest_3), ("every-third", every_third)]:
        for stem in (True, False):
            s = scorer(stem)
            rows = [numbers(s.score(r["summary"], baseline(r["dialogue"]))) for r in records(path)]
            print(json.dumps({"baseline": name, "stem": stem, "count": len(rows), **mean(rows)}))


def baselines():
    rng = random.Random(3)

    def random_words(d):
        words = d.split()
        return " ".join(rng.choice(words) for _ in range(25)) if words else ""

    def random_lines(d):
        words = d.split()
        return "".join(rng.choice(words) + rng.choice(" \n") for _ in range(60)) if words else ""

    def accents(d):
        signs = {"e": "\u00e9", "I": "\u0130", "k": "\u212a", "o": "\uff4f", "a": "a\u0301"}
        return lead_3(d).translate(str.maketrans(signs))

    return {"lead-3": lead_3, "longest-3": longest_3, "every-third": every_third,
            "random words": random_words, "random lines": random_lines, "empty": lambda d: "",
            "blank": lambda d: " \n\n .", "whole dialogue": lambda d: d, "accents": accents,
            "shuffled lines": lambda d: "\n".join(rng.sample(d.split("\n"), len(d.split("\n")))),
            "upper case": lambda d: lead_3(d).upper()}


def compare(program, path):
    """References are the summary, and the summary cut into a line a sentence."""
    data, worst, compared = records(path), 0.0, 0
    for name, baseline in baselines().items():
        for cut in (False, True):
            pairs = [(re.sub(r"\. ", ".\n", r["summary"]) if cut else r["summary"], baseline(r["dialogue"]))
                     for r in data]
            lines = "".join(json.dumps({"summary": s, "prediction": p}) + "\n" for s, p in pairs)
            for stem in (True, False):
                options = [] if stem else ["--no-stem"]
                got = [subprocess.run([program, *options, *more], input=lines.encode(), stdout=subprocess.PIPE,
                                      check=True).stdout for more in (["--per-record"], [])]
                s = scorer(stem)
                want = [numbers(s.score(*pair)) for pair in pairs]
                have = [json.loads(line)["rouge"] for line in got[0].splitlines()]
                assert len(have) == len(want)
                total, whole = json.loads(got[1]), mean(want)
                here = max(abs(h[k][p] - w[k][i]) for h, w in [*zip(have, want), (total, whole)]
                           for k in KINDS for i, p in enumerate(PARTS))
                compared += (len(have) + 1) * 12
                worst = max(worst, here)
                print(f"{name:16} {'lines' if cut else 'whole':6} {'stem' if stem else 'plain':6} "
                      f"rougeLsum F {whole['rougeLsum'][2]:.6f}  largest difference {here:.3g}")
    print(f"{compared} numbers compared, largest difference {worst:.3g}")
    return 0 if worst <= 1e-9 else 1


def words(n, files):
    seen = {}
    for path in files:
        with open(path, encoding="utf-8", errors="replace") as f:
            for word in re.findall("[a-z0-9]+", f.read().lower()):
                if len(word) <= 40:
                    seen[word] = None
    natural = list(seen)[:n]
    made = [w for w in made_words(n) if w not in seen][:n - len(natural)]
    write_words(sys.stdout, natural + made)
    print(f"{len(natural)} words of files, {len(made)} made", file=sys.stderr)


def sentences(path, field):
    from nltk.tokenize import sent_tokenize
    for record in records(path):
        for line in record[field].split("\n"):
            speaker, _, said = line.partition(":")
            line = " ".join((said or speaker).split())
            if line:
                print("\t".join([line] + sent_tokenize(line)))


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["--help"]
    if command == "--means" and len(rest) == 1:
        means(rest[0])
    elif command == "--words" and rest:
        words(int(rest[0]), rest[1:])
    elif command == "--sentences" and len(rest) == 2:
        sentences(*rest)
    elif command == "--compare" and len(rest) == 2:
        sys.exit(compare(*rest))
    elif not rest and not command.startswith("-"):
        golden(command)
    else:
        sys.exit(__doc__)

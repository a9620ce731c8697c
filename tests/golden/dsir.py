#!/usr/bin/env python3
"""
DSIR's counts and weights by the formula of p-lambda/dsir (get_ngram_counts, fit_importance_estimator), for
tests/unit/test_dsir.c.  Needs the standard library alone.

    python3 tests/golden/dsir.py > tests/golden/dsir.json

"texts": their words (NLTK's WordPunctTokenizer is this regular expression), buckets of words and then of pairs.
"pool", "target": texts; "weights": of each text of the pool by Laplace 0 and 1.
"""
import hashlib
import json
import math
import re

BUCKETS = 10000
TEXTS = ["The data, the data.", "naïve Straße ΑΣ ΣΑΣ", "don't stop_it 3.14 £5 x²", "日本語 テスト。", "नमस्ते दुनिया", "  ", "",
         "a\x1cb\x85c\u00a0d\u200be", "İstanbul ǅ Ⅷ ⅷ ½ ① _", "!!! ?? --- ...", "e\u0301cole",
         "word " * 40]
POOL = ["the cat sat on the mat", "the data is in the file.", "data data data", "x = y + 1;", "the the the the",
        "file formats of the data: a list", "", "nothing in common"]
TARGET = ["the data of the file", "a file of data.", "the data"]


def words(text):
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def bucket(gram):
    return int(hashlib.sha256(gram.encode("utf-8")).hexdigest(), 16) % BUCKETS


def grams(text, n=2):
    w = words(text)
    return [bucket(" ".join(w[i:i + k])) for k in range(1, n + 1) for i in range(len(w) - k + 1)]


def probabilities(texts, laplace):
    count = [laplace] * BUCKETS
    for t in texts:
        for b in grams(t):
            count[b] += 1
    return [c / sum(count) for c in count]


def weights(laplace):
    p, q = probabilities(TARGET, laplace), probabilities(POOL, 0)
    ratio = [math.log(a + 1e-8) - math.log(b + 1e-8) for a, b in zip(p, q)]
    return [sum(ratio[b] for b in grams(t)) for t in POOL]


print(json.dumps({
    "texts": [{"text": t, "words": words(t), "buckets": grams(t), "trigrams": grams(t, 3)} for t in TEXTS],
    "pool": POOL, "target": TARGET, "laplace0": weights(0), "laplace1": weights(1),
}, indent=1))

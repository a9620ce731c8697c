#!/usr/bin/env python3
"""
df-score dsir against the same formula in Python, as p-lambda/dsir has it (hashlib, a counter of 10000 buckets per text).

    PATH=build/bin:$PATH python3 tests/bench/dsir.py [ROWS [WORDS]]        20000 rows of 200 words

Texts are random words with Zipf's frequencies, half of the pool by the target's distribution.  One process and one
thread on both sides; prints seconds of user time, their ratio, and how far the scores are apart.  numpy is needed.
"""
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile

import numpy as np

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
WORDS = int(sys.argv[2]) if len(sys.argv) > 2 else 200
BUCKETS = 10000
rng = np.random.default_rng(1)


def text(shift):
    return " ".join(f"w{(int(z) + shift) % 30000}" for z in rng.zipf(1.3, WORDS) % 30000) + "."


def counts(line):
    words = re.findall(r"\w+|[^\w\s]+", line.lower())
    out = np.zeros(BUCKETS, dtype=int)
    for w in words:
        out[int(hashlib.sha256(w.encode()).hexdigest(), 16) % BUCKETS] += 1
    for pair in zip(words, words[1:]):
        out[int(hashlib.sha256(" ".join(pair).encode()).hexdigest(), 16) % BUCKETS] += 1
    return out


def run(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(command, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


with tempfile.TemporaryDirectory() as tmp:
    os.chdir(tmp)
    pool = [text(0 if i % 2 else 500) for i in range(ROWS)]
    target = [text(0) for i in range(ROWS // 20)]
    for name, rows in (("pool", pool), ("target", target)):
        with open(name + ".jsonl", "w") as f:
            f.writelines(json.dumps({"text": t}) + "\n" for t in rows)
    with open("dataset_info.json", "w") as f:
        json.dump({n: {"file_name": n + ".jsonl", "columns": {"prompt": "text"}} for n in ("pool", "target")}, f)
    for name in ("pool", "target"):
        subprocess.run(["df-pack", "-q", "--dataset-dir", ".", "--dataset", name, "--stage", "pt", "--no-packing",
                        "--tokenizer", "bytes", "--cutoff-len", "1000000", "-o", name + ".h5"], check=True)
    ours = run("df-score", "-q", "-j", "1", "dsir", "--train", "pool.h5", "--target", "target.h5", "-n", "10%", "-o",
               "index.h5", "--scores-output", "scores.h5")
    ids = run("df-score", "-q", "-j", "1", "dsir", "--units", "tokens", "--train", "pool.h5", "--target", "target.h5",
              "-n", "10%", "-o", "index2.h5")
    scores = subprocess.run(["h5dump", "-y", "-w", "0", "-m", "%.9g", "-d", "score", "scores.h5"], check=True,
                            capture_output=True, text=True).stdout
    scores = np.array([float(x) for x in re.search(r"DATA \{(.*?)\}", scores, re.S).group(1).split(",")])

before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
p = sum(counts(t) for t in target) + 1.0
q = sum(counts(t) for t in pool).astype(float)
ratio = np.log(p / p.sum() + 1e-8) - np.log(q / q.sum() + 1e-8)
want = np.array([np.inner(counts(t), ratio) for t in pool])
python = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
print(f"{ROWS} rows of {WORDS} words: Python {python:.2f} s, df-score {ours:.2f} s (ratio {python / ours:.0f}); "
      f"of bytes as ids {ids:.2f} s; scores within {np.max(np.abs(scores - want) / np.maximum(1, np.abs(want))):.1e}")

"""The peer of df-embed: sentence-transformers, float32, its own batching, sorted by length, batches of 32.

    embed.py MODEL TEXTS.jsonl THREADS [VECTORS.h5]

Prints the seconds of encode() alone: no import, no loading, after a warm-up; and the smallest cosine between its
vectors and those of VECTORS.h5, which df-embed made of the same texts.
"""
import json
import sys
import time

import h5py
import numpy as np
import sentence_transformers
import torch

model, texts, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(texts, encoding="utf-8") as f:
    rows = [json.loads(line)["text"] for line in f]
torch.set_num_threads(threads)
st = sentence_transformers.SentenceTransformer(model, device="cpu")
st.encode(rows[:64], batch_size=32)
t0 = time.perf_counter()
theirs = st.encode(rows, batch_size=32).astype(np.float64)
secs = time.perf_counter() - t0
said = f"seconds {secs:.4f} rows {len(rows)} texts_per_second {len(rows) / secs:.1f}"
if len(sys.argv) > 4:
    ours = h5py.File(sys.argv[4])["embedding"][:].astype(np.float64)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    said += f" smallest_cosine {cosine.min():.9f}"
print(f"{said} sentence-transformers {sentence_transformers.__version__} torch {torch.__version__}")

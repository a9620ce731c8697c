"""LESS's scores of one checkpoint with h5py and numpy, as one would write them: the peer of store.sh.

    less_numpy.py TRAIN.h5 VAL.h5 N

Prints "seconds X (versions)": reading, scores and the N best; not the imports.
"""
import sys
import time

import h5py
import numpy as np


def main():
    train, val, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    start = time.perf_counter()
    with h5py.File(val) as f:
        v = f["projection"][:]
    domain = np.arange(len(v)) % 4  # as random_rows has them; the column is compressed, and h5py would need a plugin
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    targets = np.stack([v[domain == d].mean(axis=0) for d in np.unique(domain)])
    with h5py.File(train) as f:
        z = f["projection"]
        score = np.empty(len(z), np.float32)
        for first in range(0, len(z), 8192):
            rows = z[first : first + 8192]
            score[first : first + 8192] = (rows @ targets.T).max(axis=1) / np.linalg.norm(rows, axis=1)
        best = np.argsort(-score, kind="stable")[:n]
    print("seconds %.3f h5py %s numpy %s best %d" % (time.perf_counter() - start, h5py.__version__, np.__version__, best[0]))


main()

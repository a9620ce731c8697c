#!/usr/bin/env python3
"""
Nearest neighbours by FAISS's IndexFlat, for tests/unit/test_near.c.

    python3 tests/golden/near.py > tests/golden/near.txt

Each block: `METRIC M N D K`, then M queries and N candidates, a row in a line, then for each query a line of its K ids
and one of its K values: of L2 the distances (FAISS tells their squares), of DOT the products.  Rows have four decimals,
so that the file holds exactly what FAISS saw; no two values of a query are close enough for float32 to confuse them.
"""
import faiss
import numpy as np

CASES = [("L2", 4, 40, 5, 12, 1), ("DOT", 4, 40, 5, 12, 2), ("L2", 3, 30, 33, 30, 3), ("DOT", 3, 30, 33, 7, 4)]


def main():
    print("# faiss", faiss.__version__)
    for metric, m, n, d, k, seed in CASES:
        random = np.random.default_rng(seed)
        q = np.round(random.standard_normal((m, d)), 4).astype(np.float32)
        x = np.round(random.standard_normal((n, d)), 4).astype(np.float32)
        index = faiss.IndexFlatL2(d) if metric == "L2" else faiss.IndexFlatIP(d)
        index.add(x)
        value, ids = index.search(q, k)
        assert np.abs(np.diff(value, axis=1)).min() > 1e-5
        print(metric, m, n, d, k)
        for row in np.concatenate([q, x]):
            print(" ".join("%.4f" % v for v in row))
        for i in range(m):
            print(" ".join(str(j) for j in ids[i]))
            print(" ".join("%.6f" % (np.sqrt(v) if metric == "L2" else v) for v in value[i]))


main()

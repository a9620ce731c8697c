#!/usr/bin/env python3
"""
Clusters for tests/unit/test_cluster.c.

    python3 tests/golden/cluster.py cluster_less_clustering.json > tests/golden/cluster.txt

ids METHOD N D K MAX_ITER SEED, a line of numbers per point, a line of cluster ids: by DataFlex 3c13e37, from its recorded
inputs and outputs.  Left out are its random partition and lsh, whose draws depend on the library.

inertia N D K MAX_ITER VALUE: of scikit-learn's KMeans(algorithm="lloyd") on points that the test makes by the formula
below, from the first K points.
"""
import json
import sys

import numpy as np
from sklearn.cluster import KMeans


def points(n, d):
    i, c = np.arange(n, dtype=np.uint64)[:, None], np.arange(d, dtype=np.uint64)[None, :]
    noise = ((i * d + c) * 2654435761 % 2**32) // 65536 / 65536 - 0.5
    centre = (i % 23 * d + c) * 40503 % 65536 / 16384
    return (centre + noise).astype(np.float32)


for case in json.load(open(sys.argv[1])):
    given = case["inputs"]
    if given["method"] not in ("kmeans", "spherical_kmeans", "farthest_first"):
        continue
    x = np.array(given["features"], dtype=np.float32)
    k = -(-len(x) // given["cluster_size"])
    print("ids", given["method"], *x.shape, k, given["max_iter"], given["seed"])
    for row in x:
        print(*(repr(float(v)) for v in row))
    print(*case["outputs"])
for n, d, k, steps in ((1000, 16, 20, 20), (1000, 16, 20, 3), (3000, 48, 60, 10), (500, 3, 8, 50), (700, 70, 1, 4)):
    x = points(n, d)
    model = KMeans(k, init=x[:k], n_init=1, max_iter=steps, tol=0, algorithm="lloyd").fit(x)
    print("inertia", n, d, k, steps, repr(float(model.inertia_)))

#!/usr/bin/env python3
"""
Exact nearest neighbours of df_knn against FAISS's IndexFlat, in turn, on the same rows and threads.

    python3 tests/bench/faiss_knn.py build/bench/bench_near [PAIRS [THREADS [N [M]]]]

Printed: time of FAISS's search over that of ours (the goals: 1.2 at K = 1,000, 1.0 at K = 10), and the fraction of
FAISS's neighbours that are ours (float32 against exact order: a few differ).  One thread: CPU time; else wall-clock time.
"""
import os
import subprocess
import sys
import tempfile
import time

THREADS = sys.argv[3] if len(sys.argv) > 3 else "1"
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = THREADS  # before the libraries see it

import faiss
import numpy as np


def seconds(threads):
    return time.process_time() if threads == 1 else time.perf_counter()


def rows(random, n, d):
    x = random.standard_normal((n, d), dtype=np.float32)
    x[:, :8] += 2
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def main():
    program = sys.argv[1]
    pairs, threads, n, m = [int(a) for a in sys.argv[2:]] + [9, 1, 100000, 1000][len(sys.argv) - 2:]
    faiss.omp_set_num_threads(threads)
    work = tempfile.mkdtemp()
    for d in (1024, 384):
        random = np.random.default_rng(d)
        q, x = rows(random, m, d), rows(random, n, d)
        names = [os.path.join(work, name) for name in ("q", "c", "ids")]
        q.tofile(names[0])
        x.tofile(names[1])
        for metric in ("l2", "dot"):
            index = faiss.IndexFlatL2(d) if metric == "l2" else faiss.IndexFlatIP(d)
            index.add(x)
            for k in (1000, 10):
                ratios, ours, theirs = [], [], []
                for i in range(pairs):
                    t0 = seconds(threads)
                    _, ids = index.search(q, k)
                    theirs.append(seconds(threads) - t0)
                    out = subprocess.run([program, "file", names[0], names[1], str(d), str(k), str(threads), names[2]],
                                         env={**os.environ, "METRIC": metric}, check=True, capture_output=True)
                    ours.append(float(out.stdout))
                    ratios.append(theirs[-1] / ours[-1])
                exact = np.fromfile(names[2], np.uint64).reshape(m, k)
                same = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(ids.astype(np.uint64), exact)])
                ratios.sort()
                print("%-3s M %d N %d d %4d K %4d  %d threads    faiss/ours %.2f  [%.2f .. %.2f], of the best %.2f   "
                      "ours %.3f s, faiss %.3f s   same %.6f  (%d pairs, faiss %s)" % (
                          metric, m, n, d, k, threads, ratios[pairs // 2], ratios[0], ratios[-1],
                          min(theirs) / min(ours), min(ours), min(theirs), same, pairs, faiss.__version__), flush=True)
    for name in names:
        os.unlink(name)
    os.rmdir(work)


main()

#!/usr/bin/env python3
"""
TSDS as its authors' program defines it (github.com/ZifanL/TSDS, tsds.py), written anew with numpy and FAISS, for
tests/unit/test_select_near.c and tests/bench/tsds.sh.

    python3 tests/golden/tsds_reference.py tsds_probs.json > tests/golden/tsds.txt

writes cases of small numbers.  The file named is DataFlex 3c13e37's recorded inputs and outputs; its cases come first.
Then made ones.  A case is

    case N M D MAX_K KDE_K SIGMA ALPHA C FEASIBLE OBJECTIVE
    N lines of D numbers: candidates; M lines: queries; a line of N probabilities

The probabilities are the original's, with an exact index and without its clamp of max_K and kde_K to N / 10.  OBJECTIVE is
that of its transport.  FEASIBLE 0: it gave some query more than its mass, and its assert stops there.  DataFlex divides
the probabilities by their sum; then OBJECTIVE is that of the best transport to what comes out, by a linear program.

    python3 tests/golden/tsds_reference.py --compare CANDIDATES.npy QUERIES.npy [OPTION=VALUE...]

prints N probabilities: of max_K, kde_K, sigma, alpha, C, and index=flat|ivf, clamp=0|1.
"""
import heapq
import json
import sys

import faiss
import numpy as np
from scipy.optimize import linprog

PARAMS = dict(max_K=5000, kde_K=1000, sigma=0.75, alpha=0.6, C=5.0)


def make_index(x, kind):
    flat = faiss.IndexFlatL2(x.shape[1])
    if kind == "ivf":
        index = faiss.IndexIVFFlat(flat, x.shape[1], max(1, int(np.sqrt(len(x))) // 2))
        index.train(x)
        index.nprobe = 10
    else:
        index = flat
    index.add(x)
    return index


def densities(x, ids, kde_k, sigma, kind):
    """Of each candidate in ids: the kernel's sum over its kde_k nearest among them."""
    rho = np.ones(len(x))
    if sigma > 0:
        members = np.unique(ids)
        square, _ = make_index(x[members], kind).search(x[members], min(kde_k, len(members)))
        kernel = 1 - square / sigma**2
        rho[members] = (kernel * (kernel > 0)).sum(axis=1)
    return rho


def assign(dist, rho, alpha, c):
    """The walk over (count, rank, query): s, and each query's last full rank."""
    m, k = dist.shape
    heap = [(1.0 / rho[q][0], 0, q) for q in range(m)]
    heapq.heapify(heap)
    weighted = dist[:, 0] / rho[:, 0]
    cost, total, last, s = np.zeros(m), 0.0, np.zeros(m, int), 0.0
    while heap:
        s, rank, q = heapq.heappop(heap)
        total -= cost[q]
        cost[q] = dist[q][rank + 1] * s - weighted[q]
        total += cost[q]
        if alpha / c * total >= (1 - alpha) * m:
            break
        last[q] = rank
        if rank < k - 2:
            heapq.heappush(heap, (s + 1.0 / rho[q][rank + 1], rank + 1, q))
            weighted[q] += dist[q][rank + 1] / rho[q][rank + 1]
    return s, last


def best_objective(p, ids, dist, rho, alpha, c):
    """The least of (alpha / c) sum gamma dist + (1 - alpha) m max rho gamma over transports gamma to p."""
    m, k = dist.shape
    n = m * k
    costs = np.append(alpha / c * dist.ravel(), (1 - alpha) * m)
    rows, columns = np.zeros((m, n + 1)), np.zeros((len(p), n + 1))
    for q in range(m):
        rows[q, q * k : (q + 1) * k] = 1
        columns[ids[q], np.arange(q * k, (q + 1) * k)] = 1
    caps = np.hstack([np.diag(rho.ravel()), -np.ones((n, 1))])
    solved = linprog(
        costs, A_ub=caps, b_ub=np.zeros(n), A_eq=np.vstack([rows, columns]), b_eq=np.append(np.full(m, 1 / m), p)
    )
    assert solved.success
    return solved.fun


def tsds(x, queries, max_K, kde_K, sigma, alpha, C, index="flat", clamp=0):
    """Probabilities [N], and their transport: its rows' parts, the neighbours, distances and densities."""
    m = len(queries)
    if clamp:
        max_K, kde_K = min(max_K, len(x) // 10), min(kde_K, len(x) // 10)
    square, ids = make_index(x, index).search(queries, min(max_K, len(x)))
    dist = np.sqrt(square.astype(np.float64))
    rho = densities(x, ids, kde_K, sigma, index)[ids]
    s, last = assign(dist, rho, alpha, C)
    p, gamma = np.zeros(len(x)), np.zeros(dist.shape)
    for q in range(m):
        full = last[q] + 1
        gamma[q][:full] = 1 / m / s / rho[q][:full]
        gamma[q][full] = max(1 / m - gamma[q].sum(), 0)
        np.add.at(p, ids[q], gamma[q])
    return p, gamma, ids, dist, rho


def show(x, queries, params):
    p, gamma, ids, dist, rho = tsds(x, queries, **params)
    m, alpha, c = len(queries), params["alpha"], params["C"]
    feasible = gamma.sum(axis=1).max() <= 1 / m + 1e-9
    if feasible:
        objective = alpha / c * (gamma * dist).sum() + (1 - alpha) * m * (rho * gamma).max()
    else:
        objective = best_objective(p / p.sum(), ids, dist, rho, alpha, c)
    numbers = (params[k] for k in PARAMS)
    print("case", len(x), m, x.shape[1], *numbers, int(feasible), repr(float(objective)))
    for row in np.concatenate([x, queries]):
        print(*(repr(float(v)) for v in row))
    print(*(repr(float(v)) for v in p))


def made_cases():
    rng = np.random.default_rng(9)
    for n, m, d, params in (
        (40, 3, 4, {}),
        (40, 5, 3, dict(sigma=0.3, alpha=0.5, C=1.0)),
        (30, 4, 2, dict(max_K=12, kde_K=5, sigma=1.5)),
        (60, 2, 8, dict(max_K=60, kde_K=3, sigma=4.0, alpha=0.8, C=2.0)),
        (30, 6, 2, dict(sigma=0.5, alpha=0.95, C=1.0)),
        (25, 4, 2, dict(sigma=1.0, alpha=0.99, C=0.5)),
        (20, 1, 1, dict(sigma=0.0, alpha=0.3)),
    ):
        x = rng.standard_normal((n, d))
        x[n // 2 : n // 2 + 4] = x[0]  # duplicates
        yield x.round(2).astype(np.float32), rng.standard_normal((m, d)).round(2).astype(np.float32), PARAMS | params
    # Where the nearest candidate of one query is much denser than that of the other.
    yield (
        np.array([[0], [0.2], [10], [30]], np.float32),
        np.array([[0], [10]], np.float32),
        dict(max_K=3, kde_K=1000, sigma=0.5, alpha=0.95, C=1.0),
    )


def main():
    if sys.argv[1] == "--compare":
        options = dict(word.split("=") for word in sys.argv[4:])
        numbers = {k: type(PARAMS.get(k, 0))(v) for k, v in options.items() if k != "index"}
        x, queries = (np.load(path).astype(np.float32) for path in sys.argv[2:4])
        p, *_ = tsds(x, queries, **(PARAMS | numbers), index=options.get("index", "flat"))
        print(*(repr(float(v)) for v in p), sep="\n")
        return
    for case in json.load(open(sys.argv[1])):
        given = case["inputs"]
        x, queries = (np.array(given[k], dtype=np.float32) for k in ("candidates", "queries"))
        params = {k: given[k] for k in PARAMS}
        p, *_ = tsds(x, queries, **params)
        assert np.abs(p - case["outputs"]).max() < 1e-6  # these are DataFlex's
        show(x, queries, params)
    for case in made_cases():
        show(*case)


main()

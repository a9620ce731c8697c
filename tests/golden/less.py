#!/usr/bin/env python3
"""
LESS's scores by the formula of princeton-nlp/LESS, and by DataFlex's class, for tests/cmd/df-score-less.t.

    python3 tests/golden/less.py [LESS_SCORE.JSON]      (writes tests/golden/less/, about 100 kB)

    train.I.h5 val.I.h5    projections of checkpoint I, float32; the validation rows have 7 subtasks of unequal sizes
    swapped.I.h5           the same validation rows in another order, and their labels: swapped
    labels                 a subtask per validation row, in no order;  equal: 7 subtasks of two rows each, side by side
    scores.labels          as matching.py: sum over checkpoints of weight * <unit train, unit val>, mean over a subtask's
    scores.equal           columns, best subtask; `equal` by its own reshape(N, subtasks, -1).mean(-1).max(-1)
    scores.mean            mean over all validation rows
    dataflex.I.*           inputs (float16) of DataFlex's own class, and what it selected, "row<TAB>score" a line, copied
                           from LESS_SCORE.JSON
"""
import json
import os
import sys

import h5py
import numpy as np
import torch

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "less")
N, K, CKPTS, WEIGHTS = 100, 24, 3, [1.6877e-5, 1.2859e-5, 7.7030e-6]
SIZES = {"algebra": 4, "virology": 1, "law": 3, "b": 2, "history": 2, "x y": 1, "zebra": 1}


def put(name, rows):
    with h5py.File(os.path.join(OUT, name), "w", track_order=False) as f:
        f.create_dataset("sample/id", data=np.arange(len(rows), dtype=np.uint64))
        f.create_dataset("projection", data=rows)


def text(name, lines):
    with open(os.path.join(OUT, name), "w") as f:
        f.writelines(f"{line}\n" for line in lines)


def unit(x):
    return torch.nn.functional.normalize(x.double(), dim=1)


def main():
    os.makedirs(OUT, exist_ok=True)
    g = torch.Generator().manual_seed(9)
    m = sum(SIZES.values())
    labels = [name for name, n in SIZES.items() for _ in range(n)]
    labels = [labels[i] for i in torch.randperm(m, generator=g)]
    order = torch.randperm(m, generator=g).numpy()
    scores = torch.zeros(N, m, dtype=torch.double)
    weights = [w / sum(WEIGHTS) for w in WEIGHTS]
    for i, w in enumerate(weights):
        train, val = torch.randn(N, K, generator=g), torch.randn(m, K, generator=g)
        train *= torch.exp(3 * torch.randn(N, 1, generator=g))  # lengths must not matter
        val *= torch.exp(3 * torch.randn(m, 1, generator=g))
        put(f"train.{i}.h5", train.numpy())
        put(f"val.{i}.h5", val.numpy())
        put(f"swapped.{i}.h5", val.numpy()[order])
        scores += w * unit(train) @ unit(val).T
    columns = [[j for j in range(m) if labels[j] == name] for name in SIZES]
    text("labels", labels)
    text("swapped", (labels[i] for i in order))
    text("equal", [j // 2 for j in range(m)])
    text("scores.labels", torch.stack([scores[:, c].mean(1) for c in columns], 1).max(1)[0].tolist())
    text("scores.equal", scores.reshape(N, m // 2, -1).mean(-1).max(-1)[0].tolist())
    text("scores.mean", scores.mean(1).tolist())
    if len(sys.argv) > 1:
        with open(sys.argv[1]) as f:
            for i, case in enumerate(json.load(f)):
                put(f"dataflex.{i}.train.h5", np.array(case["inputs"]["train_projected_f16"], dtype=np.float16))
                put(f"dataflex.{i}.val.h5", np.array(case["inputs"]["val_projected_f16"], dtype=np.float16))
                saved = case["outputs"]["saved"]
                text(f"dataflex.{i}.selected", (f"{r}\t{x}" for r, x in zip(
                    saved["indices"], saved["metric"]["train_eval_similarity"])))


main()

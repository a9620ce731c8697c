#!/usr/bin/env python3
"""
Learning rates of PyTorch's ReduceLROnPlateau, for tests/unit/test_schedule.c.

    python3 tests/golden/plateau.py > tests/golden/plateau.txt

Each block: `plateau LR KEY=VALUE...`, then one line per evaluation: the metric, and the learning rate after it.
"""
import random

import torch

CASES = [
    {}, {"patience": 0}, {"patience": 1, "factor": 0.5}, {"patience": 1, "cooldown": 2}, {"patience": 0, "min_lr": 2e-4},
    {"patience": 1, "mode": "max"}, {"patience": 1, "threshold": 0.05}, {"patience": 1, "threshold": 0.05, "mode": "max"},
    {"patience": 1, "threshold": 0.03, "threshold_mode": "abs"},
    {"patience": 1, "threshold": 0.03, "threshold_mode": "abs", "mode": "max"}, {"patience": 0, "eps": 5e-4},
]


def main():
    for i, kwargs in enumerate(CASES):
        draw = random.Random(i)
        opt = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
        sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, **kwargs)
        print("plateau 0.002" + "".join(f" {k}={v}" for k, v in kwargs.items()))
        x = 2.0
        for k in range(30):
            x += draw.choice([-0.1, -0.02, 0.01, 0.05, 0.0]) if k % 7 else draw.choice([-4.0, 0.3])
            metric = float("nan") if k == 11 else round(x, 4)
            sched.step(metric)
            print(repr(metric), repr(float(opt.param_groups[0]["lr"])))


if __name__ == "__main__":
    main()

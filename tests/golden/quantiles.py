#!/usr/bin/env python3
"""
Quantiles of float32 numbers as torch.quantile rounds them, for tests/unit/test_losses.c.

    python3 tests/golden/quantiles.py > tests/golden/quantiles.txt

A line each: the quantile, torch's result, then the numbers; floats in hexadecimal.
"""
import torch

torch.manual_seed(1)
for n in (1, 2, 3, 5, 9, 29, 64):
    for q in (0.0, 0.1, 0.33, 0.5, 0.66, 0.9, 1.0):
        x = torch.rand(n) * 5 if n != 9 else torch.randint(0, 4, (n,)).float()
        numbers = " ".join(v.hex() for v in x.tolist())
        print(q, torch.quantile(x, q).item().hex(), numbers)

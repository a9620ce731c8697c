#!/usr/bin/env python3
"""mixers.py - trajectories of mixers from their formulas, written plainly: tests/golden/mixers.json.

The formulas are those of the papers and, for the variants, of DataFlex and the authors' programs; products where the
library adds logarithms.  Run it to write the file again: it needs nothing but Python."""
import json, math, os, random


def softmax(x):
    e = [math.exp(v - max(x)) for v in x]
    return [v / math.fsum(e) for v in e]


def doremi(steps, k, eta, c, center=False, unseen=None, p0=None):
    alpha = list(p0) if p0 else [1 / k] * k
    lam = [unseen] * k
    out, total, n = [], (list(p0) if p0 else [0] * k), (1 if p0 else 0)
    for losses in steps:
        seen = [x for x in losses if x is not None]
        mean = math.fsum(seen) / len(seen) if seen else 0
        lam = [old if x is None else x for x, old in zip(losses, lam)]
        if center:
            by = [0 if x is None else max(-5, min(5, x - mean)) for x in losses]
        else:
            by = [mean if x is None else x for x in lam]
        w = [a * math.exp(eta * x) for a, x in zip(alpha, by)]
        alpha = [(1 - c) * x / math.fsum(w) + c / k for x in w]
        total = [t + a for t, a in zip(total, alpha)]
        n += 1
        out.append({"weights": alpha, "result": [t / n for t in total]})
    return out


def odm(steps, k, variant, alpha, scale, floor, p0, first):
    reward, pi, eps, out = [0.0] * k, list(p0), 1 / k, []
    for i, losses in enumerate(steps):
        for d, loss in enumerate(losses):
            if loss is not None and variant == "repo":
                reward[d] += (1 - alpha) * (math.exp(loss) - reward[d])
            elif loss is not None:
                reward[d] += (1 - alpha) * (scale * loss / pi[d] - reward[d])
        now = min(1 / k, max(floor, math.sqrt(math.log(k) / (k * (first + i)))))
        if variant == "repo":
            policy = [r / math.fsum(reward) for r in reward]
        else:
            x = [eps * r for r in reward]
            if variant == "dataflex":
                x = [max(v - max(x), -5) for v in x]
            policy = softmax(x)
        pi = [(1 - k * now) * p + now for p in policy]
        eps = now
        out.append({"p": pi})
    return out


def moe(steps, k, eta, c, p0):
    w, out = list(p0), []
    for loads in steps:
        o = [[x / math.fsum(row) for x in row] for row in loads]
        delta = [math.fsum(math.dist(a, b) for b in o) / k for a in o]
        e = [x * math.exp(eta * d) for x, d in zip(w, delta)]
        w = [(1 - c) * x / math.fsum(e) + c / k for x in e]
        out.append({"p": w})
    return out


def losses(rng, k, n, absent, most):
    return [[None if rng.random() < absent else round(rng.random() * most, 6) for _ in range(k)] for _ in range(n)]


def main():
    rng, cases = random.Random(5), []

    def add(mixer, options, p0, steps, want, what="loss"):
        cases.append({"mixer": mixer, "options": {k: str(v) for k, v in options.items()}, "p0": p0,
                      what: steps, "want": want})

    for k in (1, 2, 5):
        s = losses(rng, k, 15, 0.3, 2)
        u = [1 / k] * k
        add("doremi", {}, None, s, doremi(s, k, 1, 1e-3))
        add("doremi", {"eta": 0.1, "smoothing": 0.01}, None, s, doremi(s, k, 0.1, 0.01))
        add("doremi", {"center": "true"}, None, s, doremi(s, k, 1, 1e-3, center=True))
        p0 = [x / (k * (k + 1) / 2) for x in range(1, k + 1)]
        add("doremi", {"profile": "repo", "unseen": 3}, p0, s, doremi(s, k, 1, 1e-3, unseen=3, p0=p0))
        # ODM: something is seen each time, so that all count the same updates
        s = [[x if x is not None else (1.5 if d == 0 else None) for d, x in enumerate(row)] for row in
             losses(rng, k, 15, 0.4, 6)]
        add("odm", {"warmup-steps": 0}, p0, s, odm(s, k, "paper", 0.9, 1, 0, p0, 1))
        add("odm", {"variant": "dataflex", "warmup-steps": 0}, None, s, odm(s, k, "dataflex", 0.9, 15, 0.03, u, 1))
        add("odm", {"variant": "repo", "warmup-steps": 0, "alpha": 0.7}, p0, s, odm(s, k, "repo", 0.7, 1, 0, p0, 1))
        loads = [[[rng.randrange(1, 1000) for _ in range(6)] for _ in range(k)] for _ in range(8)]
        add("dynamic_moe", {}, p0, loads, moe(loads, k, 10, 0.05, p0), "load")
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mixers.json")
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()

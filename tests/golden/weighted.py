#!/usr/bin/env python3
"""
Twenty steps of training with weighted losses and with mixtures, for tests/cmd/train-weighted.t.

    python3 tests/golden/weighted.py            # rewrites tests/golden/weighted/
    python3 tests/golden/weighted.py NAME...    # these runs of it

The rules are written down plainly in PyTorch, from their definitions: loss-based reweighting (Sow et al. 2025), ADAPT,
joint-update-aware weights, custom weights, DoReMi's per-token weights (Xie et al. 2023), ODM (Albalak et al. 2023), and
the draw of rows by proportions, with a Philox generator of its own.  The model, its tokenizer, the reference model and
the data are those of make_dataflex_runs.py.  Each row is a forward of its own, without padding.

weighted/NAME.txt has, besides # comments, lines that begin with the number of a step, from 1:

    loss G L             before the update; the mean that is differentiated
    norm G N             of its gradient, before clipping
    weights G MIN MEAN MAX EFFECTIVE   of w_i n (n: of the group) over the samples of the step; (sum w)^2 / sum w^2
    alpha G A..          by domain, as the step left it: it weighed the step, or, if stale, weighs the next one
    excess G E..         lambda by domain; - where the domain was not seen
    proportions G P..    of the window after G steps (G = 0: the first)
    quota G N..          its rows by domain
    rows G R..           that step G trained on
"""
import json
import math
import os
import sys

sys.path.pop(0)  # llamafactory.py beside this file is not the package

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
RUNS = os.path.join(HERE, "dataflex_runs")
OUT = os.path.join(HERE, "weighted")
DOMAINS = ["sums", "words", "names"]
STEPS, BATCH, LR, DECAY, SEED = 20, 8, 2e-3, 0.1, 42


# ---- data and model -------------------------------------------------------------------------------------------------

class Row:
    def __init__(self, ids, mask, domain):
        self.ids, self.mask, self.domain = torch.tensor(ids), torch.tensor(mask) == 1, domain


def rows(names):
    tok = AutoTokenizer.from_pretrained(os.path.join(RUNS, "model"))
    out = []
    for d, name in enumerate(names):
        with open(os.path.join(RUNS, "data", name + ".json")) as f:
            for r in json.load(f):
                prompt = r["instruction"] + ("\n" + r["input"] if r["input"] else "")
                a = tok(f"Human: {prompt}</s>\nAssistant:", add_special_tokens=False)["input_ids"]
                b = tok(f"{r['output']}</s>\n", add_special_tokens=False)["input_ids"]
                out.append(Row(a + b, [0] * len(a) + [1] * len(b), d))
    return out


def load(name):
    return AutoModelForCausalLM.from_pretrained(os.path.join(RUNS, name), dtype=torch.float32,
                                                attn_implementation="eager")


def forward(model, row):
    """nll of the targets, and the last hidden states."""
    out = model(input_ids=row.ids[None], output_hidden_states=True)
    nll = torch.nn.functional.cross_entropy(out.logits[0, :-1], row.ids[1:], reduction="none")
    return nll[row.mask[1:]], out.hidden_states[-1][0]


# ---- random numbers and rows ----------------------------------------------------------------------------------------

def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def uniform(tag, substream, i):
    x = philox((i & 0xFFFFFFFF, i >> 32, substream & 0xFFFFFFFF, tag), (SEED & 0xFFFFFFFF, SEED >> 32))
    return ((x[0] >> 5) * 2**26 + (x[1] >> 6) + 0.5) / 2**53


def permutation(tag, substream, ids):
    return sorted(ids, key=lambda i: (-math.log(uniform(tag, substream, i)), i))


assert philox((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
assert permutation(2, 0, range(6)) == [2, 4, 1, 0, 5, 3]


def quotas(p, n):
    """By largest remainder, ties to the lower domain."""
    q = [math.floor(n * x) for x in p]
    for i in sorted(range(len(p)), key=lambda i: (-(n * p[i] - q[i]), i))[:n - sum(q)]:
        q[i] += 1
    return q


class Drawer:
    def __init__(self, data, shuffle):
        self.of = [[i for i, r in enumerate(data) if r.domain == d] for d in range(len(DOMAINS))]
        self.at, self.shuffle = [0] * len(DOMAINS), shuffle

    def draw(self, p, step, n):
        quota, out = quotas(p, n), []
        for d, (mine, take) in enumerate(zip(self.of, quota)):
            for k in range(self.at[d], self.at[d] + take):
                epoch = k // len(mine)
                out.append(permutation(5, 1000003 * d + epoch, mine)[k % len(mine)])
            self.at[d] += take
        if self.shuffle:
            out = [out[i] for i in permutation(8, step, range(n))]
        return quota, out


# ---- weights of samples ---------------------------------------------------------------------------------------------

def loss_based(losses, strategy, r, delta=1.0):
    low, high = losses.min(), losses.max()
    h = delta * (2 * (losses - low) / (high - low) - 1)
    f = {"linupper": torch.minimum(h + delta, torch.full_like(h, delta)), "quadratic": 1 - h**2 / delta**2,
         "extremes": h.abs(), "identity": h, "upper": (h + delta) / 2}[strategy]
    w = torch.exp((f - f.max()) / r)
    return w / w.sum()


def unit(x):
    return x / x.norm().clamp_min(1e-12)


def position_pooled(states):
    w = torch.arange(1, len(states) + 1, dtype=states.dtype)
    return (w[:, None] * states).sum(0) / w.sum()


def joint(z, u, beta, tau):
    s, S, n = z @ u, z @ z.T, len(z)
    w, rho = torch.full((n,), 1 / n, dtype=z.dtype), 1.0

    def objective(w):
        return s @ w - beta / 2 * w @ S @ w - tau * (w * torch.log(w.clamp_min(1e-300))).sum()

    for _ in range(5000):
        new = (1 - rho) * w + rho * torch.softmax((s - beta * S @ w) / tau, 0)
        if objective(new) < objective(w) - 1e-15:
            rho /= 2
            continue
        done = (new - w).abs().max() <= 1e-12
        w = new
        if done:
            break
    return w


class Anchors:
    """Read at the first step that needs them, and again when the steps done are a multiple of `every`."""

    def __init__(self, pool, every):
        self.data, self.pool, self.every, self.vector, self.step = rows(["anchors"]), pool, every, None, -1

    def now(self, model, step):
        if self.vector is None or (step % self.every == 0 and step != self.step):
            with torch.no_grad():
                self.vector = torch.stack([self.pool(forward(model, r)[1]).double() for r in self.data]).mean(0)
            self.step = step
        return self.vector


# ---- a run ----------------------------------------------------------------------------------------------------------

class Run:
    def __init__(self, name, micro=BATCH):
        self.name, self.micro, self.lines = name, micro, []
        self.data, self.model = rows(DOMAINS), load("model")
        decay = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim == 1]
        self.opt = torch.optim.AdamW([{"params": decay, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0}],
                                     lr=LR)

    def put(self, what, g, values):
        self.lines.append(" ".join([what, str(g)] + [v if isinstance(v, str) else repr(v) for v in values]))

    def update(self, g, loss):
        self.opt.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        self.put("loss", g, [loss.item()])
        self.put("norm", g, [norm.item()])

    def write(self):
        os.makedirs(OUT, exist_ok=True)
        with open(os.path.join(OUT, self.name + ".txt"), "w") as f:
            f.write("\n".join([f"# {self.name}, made by tests/golden/weighted.py"] + self.lines) + "\n")
        print(self.name, self.lines[0], self.lines[-2])


def by_sample(name, weigh, warmup=2, micro=BATCH):
    """weigh(run, samples, losses, states, step) -> weights of a group whose loss is sum_i w_i l_i."""
    run = Run(name, micro)
    for g in range(STEPS):
        batch = [(g * BATCH + i) % len(run.data) for i in range(BATCH)]
        groups = [batch[i:i + micro] for i in range(0, BATCH, micro)]
        parts, weights = [], []
        for group in groups:
            got = [forward(run.model, run.data[i]) for i in group]
            losses = torch.stack([nll.mean() for nll, _ in got])
            if g < warmup:
                parts.append(sum(nll.sum() for nll, _ in got))
                continue
            exact = torch.stack([nll.detach().double().mean() for nll, _ in got])
            w = weigh(run, group, exact, [h.detach() for _, h in got], g)
            parts.append((w.to(losses.dtype) * losses).sum())
            weights += (w * len(group)).tolist()
        if g < warmup:
            n = sum(int(run.data[i].mask[1:].sum()) for i in batch)
            run.update(g + 1, sum(parts) / n)
        else:
            effective = sum(weights)**2 / sum(w * w for w in weights)
            run.put("weights", g + 1, [min(weights), sum(weights) / len(weights), max(weights), effective])
            run.update(g + 1, sum(parts) / len(groups))
    run.write()


def loss_run(name, strategy, r, delta=1.0, micro=BATCH):
    by_sample(name, lambda run, which, losses, states, g: loss_based(losses, strategy, r, delta), micro=micro)


def adapt_run(name, tau, every, mean1=False, micro=BATCH):
    anchors = Anchors(lambda h: unit(position_pooled(h)), every)

    def weigh(run, which, losses, states, g):
        a = anchors.now(run.model, g)
        score = torch.stack([unit(position_pooled(h).double()) @ a for h in states])
        w = torch.sigmoid(score / tau)
        return (w / w.mean() if mean1 else w) / len(which)

    by_sample(name, weigh, micro=micro)


def joint_run(name, every, beta=0.1, tau=0.05, pool="last"):
    """Anchors are read again `every` steps after they were read."""
    pools = {"last": lambda h, row: h[-1], "targets": lambda h, row: h[row.mask].mean(0)}
    anchors = Anchors(None, every)

    def now(model, step):  # the mean of what is not normalised
        if anchors.vector is None or step - anchors.step == every:
            with torch.no_grad():
                anchors.vector = unit(torch.stack(
                    [pools[pool](forward(model, r)[1], r).double() for r in anchors.data]).mean(0))
            anchors.step = step
        return anchors.vector

    def weigh(run, which, losses, states, g):
        z = torch.stack([unit(pools[pool](h, run.data[i]).double()) for i, h in zip(which, states)])
        return joint(z, now(run.model, g), beta, tau)

    by_sample(name, weigh)


def custom_run(name):
    """Sample i weighs (i mod 5) / 2: written by the test, too."""
    by_sample(name, lambda run, which, losses, states, g: torch.tensor(
        [i % 5 / 2 / len(which) for i in which], dtype=torch.float64), warmup=0)


# ---- mixtures -------------------------------------------------------------------------------------------------------

def doremi_run(name, micro, eta, c, warmup=4, every=4, p0=None):
    """With p0 as the authors' program: alpha and the rows begin with it, and it counts in the average."""
    run, K = Run(name, micro), len(DOMAINS)
    reference = load("reference")
    with torch.no_grad():
        ref = [forward(reference, r)[0] for r in run.data]
    drawer, p = Drawer(run.data, True), p0 or [1 / K] * K
    alpha, last, total = p, [10.82490511970208 if p0 else None] * K, p if p0 else [0.0] * K
    window = []
    for g in range(STEPS):
        if g == 0 or (g >= warmup and (g - warmup) % every == 0):
            quota, window = drawer.draw(p, g, BATCH * (warmup if g == 0 else every))
            run.put("proportions", g, p)
            run.put("quota", g, quota)
        batch, window = window[:BATCH], window[BATCH:]
        run.put("rows", g + 1, batch)
        nll = [forward(run.model, run.data[i])[0] for i in batch]
        n, excess = [0] * K, [0.0] * K
        for i, l in zip(batch, nll):
            d = run.data[i].domain
            n[d] += len(l)
            excess[d] += (l.detach().double() - ref[i].double()).clamp_min(0).sum().item()
        now = [excess[d] / n[d] if n[d] else None for d in range(K)]
        known = [x for x in now if x is not None]
        for d in range(K):
            last[d] = now[d] if now[d] is not None else last[d]
        lam = [last[d] if last[d] is not None else sum(known) / len(known) for d in range(K)]
        before = alpha
        a = [alpha[d] * math.exp(eta * lam[d]) for d in range(K)]
        alpha = [(1 - c) * x / sum(a) + c / K for x in a]
        use = alpha if micro == BATCH else before
        q = [use[d] / p[d] for d in range(K)]
        top = sum(q[run.data[i].domain] * l.sum() for i, l in zip(batch, nll))
        bottom = sum(q[run.data[i].domain] * len(l) for i, l in zip(batch, nll))
        run.put("excess", g + 1, ["-" if x is None else x for x in now])
        run.put("alpha", g + 1, alpha)
        total = [t + x for t, x in zip(total, alpha)]
        run.update(g + 1, top / bottom)
    run.put("average", STEPS, [t / sum(total) for t in total])
    run.write()


def odm_run(name, variant, smoothing, warmup, every, p0):
    run, K = Run(name), len(DOMAINS)
    drawer, p = Drawer(run.data, True), [x / sum(p0) for x in p0]
    reward, t, eps = [0.0] * K, 0, 1 / K
    nll_sum, n_sum = [0.0] * K, [0] * K
    window = []
    for g in range(STEPS):
        if g >= warmup and (g - warmup) % every == 0:
            t += 1
            for d in range(K):
                if n_sum[d] == 0:
                    continue
                mean = nll_sum[d] / n_sum[d]
                gain = mean / p[d] if variant == "paper" else math.exp(mean)
                reward[d] = smoothing * reward[d] + (1 - smoothing) * gain
            before, eps = eps, min(1 / K, math.sqrt(math.log(K) / (K * t)))
            e = [math.exp(before * r) for r in reward] if variant == "paper" else reward
            p = [(1 - K * eps) * x / sum(e) + eps for x in e]
            nll_sum, n_sum = [0.0] * K, [0] * K
        if g == 0 or (g >= warmup and (g - warmup) % every == 0):
            quota, window = drawer.draw(p, g, BATCH * (warmup if g == 0 else every))
            run.put("proportions", g, p)
            run.put("quota", g, quota)
        batch, window = window[:BATCH], window[BATCH:]
        run.put("rows", g + 1, batch)
        nll = [forward(run.model, run.data[i])[0] for i in batch]
        for i, l in zip(batch, nll):
            nll_sum[run.data[i].domain] += l.detach().double().sum().item()
            n_sum[run.data[i].domain] += len(l)
        run.update(g + 1, sum(l.sum() for l in nll) / sum(len(l) for l in nll))
    run.write()


ALL = {
    "plain": lambda n: by_sample(n, None, warmup=STEPS),
    "linupper": lambda n: loss_run(n, "linupper", 0.4),
    "quadratic": lambda n: loss_run(n, "quadratic", 0.4, delta=0.8),
    "extremes": lambda n: loss_run(n, "extremes", 1.0),
    "linupper-micro": lambda n: loss_run(n, "linupper", 0.4, micro=4),
    "adapt": lambda n: adapt_run(n, 0.1, 5),
    "adapt-micro": lambda n: adapt_run(n, 1.0, 5, mean1=True, micro=4),
    "joint": lambda n: joint_run(n, 5),
    "joint-targets": lambda n: joint_run(n, 5, beta=1.0, pool="targets"),
    "custom": custom_run,
    "doremi": lambda n: doremi_run(n, BATCH, 1.0, 1e-3),
    "doremi-repo": lambda n: doremi_run(n, 2, 0.5, 1e-2, p0=[0.5, 0.25, 0.25]),
    "odm": lambda n: odm_run(n, "paper", 0.9, 4, 2, [2, 1, 1]),
    "odm-repo": lambda n: odm_run(n, "repo", 0.9, 4, 4, [1, 1, 1]),
}


if __name__ == "__main__":
    for which in sys.argv[1:] or ALL:
        ALL[which](which)

#!/usr/bin/env python3
"""
Real runs of DataFlex, for tests/unit/test_dataflex_runs.c and tests/cmd/dataflex-runs.t.

    python3 tests/golden/make_dataflex_runs.py SOURCE           # rewrites tests/golden/dataflex_runs/
    python3 tests/golden/make_dataflex_runs.py SOURCE RUN...    # these runs of it

SOURCE is a checkout of github.com/OpenDCAI/DataFlex (commit 3c13e37).  Its own SelectTrainer, MixTrainer and
WeightTrainer train a tiny Llama on the CPU, through its patches of LLaMA-Factory 0.9.4 (transformers 4.57.1).  Nothing of
them is changed but this: trak's projector, which is not installed, is the identity (LESS with whole gradients), and CUDA's
empty_cache does nothing.  What they do is written down from outside.

    data/             three small datasets and one of anchors, Alpaca's format; dataset_info.json
    model/            the model before training, with a tokenizer of bytes
    reference/        a smaller one, trained a little on the same rows: DoReMi's reference
    RUN.json
        config            LLaMA-Factory's and DataFlex's keys, as in a YAML file
        component         the section and parameters in components.yaml
        datasets          [[name, rows]]: row numbers below count through them in this order
        max_steps
        events            in order: {"step": g, "kind": K, ..}, after g steps
            warmup        n, rows: SelectTrainer draws its warm-up rows
            select        n, ordinal, times, rows; loss, delta_loss or score of the chosen rows where kept;
                          losses: of all rows (loss, delta_loss: before the choice)
            snapshot      n, proportions (in use), quota, rows: MixTrainer draws rows
            mix           proportions (returned), and of the mixer: weights before and after, lambda, seen (DoReMi);
                          weights, rewards, eps, loss, domain (ODM)
        steps             one for each optimizer step, each a list of micro-batches: {"rows": [..], "loss": l (as
                          training_step returns it: divided by the accumulation), and in WeightTrainer's
                          "sample_loss", "weight" (d loss / d sample loss)}
        average           DoReMi's doremi_average_weights.json
"""
import importlib.machinery
import json
import os
import random
import subprocess
import sys
import tempfile
import types

sys.path.pop(0)  # llamafactory.py beside this file is not the package

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "dataflex_runs")
DATA = {"sums": 48, "words": 40, "names": 24, "anchors": 12}
MIXED = "sums,words,names"

SELECT = dict(train_type="dynamic_select", dataset="sums", per_device_train_batch_size=4)
MIX = dict(train_type="dynamic_mix", dataset=MIXED, per_device_train_batch_size=4, mixture_sample_rule="mixture",
           warmup_step=2, update_step=3, update_times=2)
WEIGHT = dict(train_type="dynamic_weight", dataset=MIXED, per_device_train_batch_size=8, warmup_step=3, train_step=10)
ODM = dict(alpha=0.9, warmup_steps=2, reward_scale=15.0, min_exploration_rate=0.03)
DOREMI = dict(reweight_eta=1.0, reweight_eps=1e-3, reference_model_path="REFERENCE")

# name: (component, its parameters, keys)
RUNS = {
    "select-random": ("random", dict(seed=42, replacement=False), dict(
        SELECT, warmup_step=2, update_step=3, update_times=2, num_train_epochs=2)),
    "select-fraction": ("random", dict(seed=7, replacement=True), dict(
        SELECT, warmup_step=2, update_step=3, update_times=2, num_train_epochs=1.5)),
    "select-steps": ("random", dict(seed=42, replacement=False), dict(
        SELECT, warmup_step=2, update_step=3, update_times=-1, train_step=13)),
    "select-epoch": ("random", dict(seed=42, replacement=False), dict(
        SELECT, warmup_step=3, update_step=4, update_times=0, num_train_epochs=1)),
    "select-loss": ("loss", dict(focus="high"), dict(
        SELECT, warmup_step=2, update_step=3, update_times=2, num_train_epochs=1)),
    "select-delta-loss": ("delta_loss", dict(window_size=0.2), dict(
        SELECT, warmup_step=2, update_step=2, update_times=4, num_train_epochs=1, learning_rate=3e-2)),
    "select-less": ("less", dict(gradient_type="adam", proj_dim=23808, seed=123, save_interval=16), dict(
        SELECT, warmup_step=3, update_step=2, update_times=2, num_train_epochs=1, eval_dataset="anchors",
        gradient_accumulation_steps=2, per_device_train_batch_size=2)),
    "mix-fixed": ("static", dict(proportions=[1, 1, 1]), dict(
        MIX, static_mix=True, train_step=6, init_mixture_proportions=[0.55, 0.45, 0.0])),
    "mix-static": ("static", dict(proportions=[2, 1, 1]), dict(
        MIX, init_mixture_proportions=[0.2, 0.3, 0.5], train_step=20)),
    "mix-random": ("random", dict(seed=42), dict(MIX, init_mixture_proportions=[0.7, 0.2, 0.1])),
    "mix-stratified": ("random", dict(seed=42), dict(MIX, mixture_sample_rule="stratified")),
    "mix-epoch": ("random", dict(seed=42), dict(MIX, update_times=-1, num_train_epochs=0.5)),
    "mix-odm": ("odm", ODM, dict(MIX, update_step=2, update_times=5)),
    "mix-odm-accumulated": ("odm", dict(ODM, initial_proportions=[0.5, 0.25, 0.25]), dict(
        MIX, update_step=2, update_times=3, gradient_accumulation_steps=2)),
    "mix-doremi": ("doremi", DOREMI, dict(MIX, update_step=1, update_times=10)),
    "mix-doremi-single": ("doremi", DOREMI, dict(MIX, per_device_train_batch_size=1, gradient_accumulation_steps=4)),
    "mix-doremi-missing": ("doremi", dict(DOREMI, reference_model_path="nowhere/reference"), MIX),
    "weight-linupper": ("loss", dict(strategy="linupper", delta=1.0), WEIGHT),
    "weight-uniform": ("loss", dict(strategy="uniform", delta=1.0), dict(WEIGHT, train_step=6)),
    "weight-quadratic": ("loss", dict(strategy="quadratic", delta=2.0), dict(WEIGHT, train_step=6)),
    "weight-extremes": ("loss", dict(strategy="extremes", delta=1.0), dict(WEIGHT, train_step=6)),
    "weight-accumulated": ("loss", dict(strategy="linupper", delta=1.0), dict(
        WEIGHT, per_device_train_batch_size=4, gradient_accumulation_steps=2)),
    "weight-adapt": ("adapt", dict(tau=0.1, refresh_interval=3, anchor_batch_size=5, clip=None), dict(
        WEIGHT, eval_dataset="anchors")),
    "weight-custom": ("custom", dict(strategy="uniform"), dict(WEIGHT, train_step=0, num_train_epochs=0.5)),
}
SECTION = {"dynamic_select": "selectors", "dynamic_mix": "mixers", "dynamic_weight": "weighters"}


# ---- what the runs begin with ---------------------------------------------------------------------------------------

def make_data():
    d = os.path.join(OUT, "data")
    rng = random.Random(11)
    words = "red blue tree stone river cloud small quick night paper".split()
    names = "Ada Bob Cleo Dan Eve Finn Gus Hana".split()

    def row(kind, i):
        if kind == "sums":
            a, b = rng.randrange(100), i
            return {"instruction": f"{a}+{b}=", "input": "", "output": str(a + b) + "!" * (i % 4)}
        if kind == "words":
            w = rng.sample(words, 2 + i % 5)
            return {"instruction": f"sort {i}", "input": " ".join(w), "output": " ".join(sorted(w))}
        if kind == "names":
            n = rng.choice(names)
            return {"instruction": f"Who has {i}?", "input": "", "output": f"{n} has {i}, and {rng.choice(names)} has none."}
        return {"instruction": f"{i}+{i}=", "input": "", "output": f"{2 * i}, {rng.choice(words)}"}

    os.makedirs(d, exist_ok=True)
    for kind, n in DATA.items():
        with open(os.path.join(d, kind + ".json"), "w") as f:
            json.dump([row(kind, i) for i in range(n)], f, indent=1)
    with open(os.path.join(d, "dataset_info.json"), "w") as f:
        json.dump({kind: {"file_name": kind + ".json"} for kind in DATA}, f, indent=1)


def make_model(path, seed, **sizes):
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>"]
    vocab = {t: i for i, t in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(special)
    PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
                            clean_up_tokenization_spaces=False).save_pretrained(path)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(vocab), max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        tie_word_embeddings=True, initializer_range=0.1, use_cache=False, **sizes))
    model.save_pretrained(path)
    return model, PreTrainedTokenizerFast.from_pretrained(path)


def make_models():
    import torch
    make_model(os.path.join(OUT, "model"), 5, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
               num_attention_heads=4, num_key_value_heads=2)
    path = os.path.join(OUT, "reference")
    model, tok = make_model(path, 6, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
                            num_key_value_heads=2)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for kind in MIXED.split(",") * 4:
        with open(os.path.join(OUT, "data", kind + ".json")) as f:
            for row in json.load(f)[::4]:
                ids = torch.tensor([tok(row["output"] + "</s>", add_special_tokens=False)["input_ids"]])
                opt.zero_grad()
                model(input_ids=ids, labels=ids).loss.backward()
                opt.step()
    model.save_pretrained(path)


# ---- one run, in a process of its own -------------------------------------------------------------------------------

def shims():
    import torch

    class Identity:
        def __init__(self, **kwargs):
            pass

        def project(self, grads, model_id):
            return grads

    for name in ("torchaudio", "trak", "trak.projectors"):  # never called, but for the projector
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules["trak.projectors"].__dict__.update(BasicProjector=Identity, CudaProjector=Identity,
                                                   ProjectionType=types.SimpleNamespace(rademacher=0))
    torch.cuda.empty_cache = lambda: None
    torch.set_num_threads(1)


def number(x):
    return float(f"{float(x):.9g}")


def numbers(x):
    return [number(v) for v in x]


class Recorder:
    """Wraps the methods of DataFlex's objects; what they return is what they returned."""

    def __init__(self, trainer, run):
        self.trainer, self.run, self.sample = trainer, run, None
        self.first, at = {}, 0
        for name, n in run["datasets"]:
            self.first[name] = at
            at += n
        self.key = {}
        self.g = lambda: trainer.state.global_step

    def event(self, kind, **what):
        self.run["events"].append({"step": self.g(), "kind": kind, **what})

    def rows(self, inputs):
        mask = inputs["attention_mask"].bool()
        return [self.key[tuple(ids[m].tolist())] for ids, m in zip(inputs["input_ids"], mask)]

    def know(self, dataset, first=0):
        for i in range(len(dataset)):
            key = tuple(dataset[i]["input_ids"])
            assert key not in self.key
            self.key[key] = first + i

    def step(self, inner, inputs, call):
        rows = self.rows(inputs)
        self.sample = None
        loss = call()
        steps = self.run["steps"]
        while len(steps) <= self.g():
            steps.append([])
        steps[self.g()].append({"rows": rows, "loss": number(loss), **(self.sample or {})})
        return loss

    def plain_steps(self):
        inner = self.trainer.training_step
        self.trainer.training_step = lambda model, inputs, n=None: self.step(
            inner, inputs, lambda: inner(model, inputs, n))

    def weighted_steps(self):
        import torch
        w = self.trainer.weighter
        inner_step, inner_loss = w.training_step, w.get_weighted_loss
        self.know(self.trainer.train_dataset)

        def get(losses, **kwargs):
            out = inner_loss(losses, **kwargs)
            weight, = torch.autograd.grad(out, losses, retain_graph=True)
            self.sample = {"sample_loss": numbers(losses), "weight": numbers(weight)}
            return out

        w.get_weighted_loss = get
        w.training_step = lambda ctx, model, inputs, n=None, use=False: self.step(
            inner_step, inputs, lambda: inner_step(ctx, model, inputs, n, use))

    def selector(self):
        s = self.trainer.selector
        warmup, select = s.warmup, s.select
        self.know(self.trainer.train_dataset)

        def draw(num_samples, replacement):
            rows = warmup(num_samples, replacement)
            self.event("warmup", n=num_samples, rows=rows)
            return rows

        def choose(model, step_id, num_samples, **kwargs):
            losses = {}
            if hasattr(s, "compute_loss"):  # delta_loss
                inner = s.compute_loss
                s.compute_loss = lambda *a: losses.setdefault("losses", inner(*a))
            elif type(s).__name__ == "LossSelector":
                losses["losses"] = self.all_losses(model)
            rows = select(model=model, step_id=step_id, num_samples=num_samples, **kwargs)
            if hasattr(s, "compute_loss"):
                s.compute_loss = inner
            what = {k: numbers(v) for k, v in losses.items()}
            path = os.path.join(s.cache_dir, f"step_{step_id}.json")
            if os.path.exists(path):
                with open(path) as f:
                    for k, v in json.load(f)["metric"].items():
                        if len(v) == len(rows):
                            what[k] = numbers(v)
            self.event("select", n=num_samples, ordinal=kwargs["current_update_times"], times=kwargs["update_times"],
                       rows=rows, **what)
            return rows

        s.warmup, s.select = draw, choose

    def all_losses(self, model):
        """As the selector gets them: rows one by one, in evaluation mode."""
        import torch
        model.eval()
        with torch.no_grad():
            return [model(**self.trainer.data_collator([self.trainer.train_dataset[i]])).loss.item()
                    for i in range(len(self.trainer.train_dataset))]

    def mixture(self):
        import numpy as np
        m, mixer = self.trainer.mixture_manager, getattr(self.trainer, "mixer", None)
        for name in m.names:
            self.know(m.sources[name], self.first[name])
        rebuild = m.rebuild

        def snapshot(num_samples=None, seed=None):
            out = rebuild(num_samples, seed)
            domain = [d for d, _ in out.index_table]
            self.event("snapshot", n=num_samples, proportions=[float(x) for x in m.probs],
                       quota=np.bincount(domain, minlength=m.k).tolist(),
                       rows=[self.first[m.names[d]] + r for d, r in out.index_table])
            return out

        m.rebuild = snapshot
        if mixer is None:
            return
        mix = mixer.mix
        doremi = hasattr(mixer, "get_current_doremi_weights")
        if doremi:
            compute = mixer.compute_batch_excess_losses

            def excess(*a, **k):
                self.scores, self.has = compute(*a, **k)
                return self.scores, self.has

            mixer.compute_batch_excess_losses = excess

        def propose(model, step_id, **kwargs):
            before = [float(x) for x in mixer.domain_weights] if doremi else None
            info = dict(getattr(mixer, "prev_batch_info", None) or {})
            p = mix(model=model, step_id=step_id, **kwargs)
            what = {}
            if doremi:
                what = {"before": before, "weights": [float(x) for x in mixer.domain_weights],
                        "lambda": [float(x) for x in self.scores], "seen": [bool(x) for x in self.has]}
            elif hasattr(mixer, "estimated_rewards"):
                what = {"weights": [float(x) for x in mixer.domain_weights],
                        "rewards": [float(x) for x in mixer.estimated_rewards], "eps": float(mixer.exploration_rate),
                        "loss": number(info["loss"]), "domain": int(info["domain_id"])}
            self.event("mix", proportions=[float(x) for x in p], **what)
            return p

        mixer.mix = propose


def one(source, name, work):
    component, params, keys = RUNS[name]
    shims()
    sys.path.insert(0, os.path.join(source, "src"))
    os.chdir(work)
    cache = os.path.join(work, "cache")
    section = SECTION[keys["train_type"]]
    params = {k: os.path.join(OUT, "reference") if v == "REFERENCE" else v for k, v in params.items()}
    if section == "selectors":
        params = dict(params, cache_dir=cache)
    with open("components.yaml", "w") as f:
        json.dump({section: {component: {"name": component, "params": params}}}, f)
    config = dict(stage="sft", do_train=True, finetuning_type="full", template="default", cutoff_len=256,
                  learning_rate=2e-3, lr_scheduler_type="constant", warmup_ratio=0.0, weight_decay=0.0,
                  disable_shuffling=True, seed=42, component_name=component)
    config.update(keys)
    with open("run.yaml", "w") as f:
        json.dump(dict(config, model_name_or_path=os.path.join(OUT, "model"), dataset_dir=os.path.join(OUT, "data"),
                       output_dir=os.path.join(work, "out"), components_cfg_file="components.yaml", report_to="none",
                       save_strategy="no", logging_steps=1, overwrite_output_dir=True, overwrite_cache=True,
                       use_cpu=True, dataloader_num_workers=0), f)
    run = {"config": config, "component": [section, component, dict(RUNS[name][1])],
           "datasets": [[d, DATA[d]] for d in keys["dataset"].split(",")], "max_steps": 0, "events": [], "steps": []}
    sys.argv = ["dataflex-cli", "run.yaml"]

    from dataflex import launcher
    launcher.patch_finetune_params()
    launcher.patch_trainer(config["train_type"])
    if config["train_type"] == "dynamic_mix":
        launcher.patch_get_dataset()
    from llamafactory.train.sft import workflow
    cls = workflow.CustomSeq2SeqTrainer
    train = cls.train

    def wrapped(self, *a, **k):
        rec = Recorder(self, run)
        if section == "weighters":
            rec.weighted_steps()
        else:
            rec.selector() if section == "selectors" else rec.mixture()
            rec.plain_steps()
        out = train(self, *a, **k)
        run["max_steps"] = self.state.max_steps
        assert self.state.global_step == len(run["steps"])
        return out

    cls.train = wrapped
    from llamafactory.train.tuner import run_exp
    run_exp()
    path = os.path.join(work, "out", "doremi_average_weights.json")
    if os.path.exists(path):
        with open(path) as f:
            run["average"] = json.load(f)["average_weights"]
    with open(os.path.join(OUT, name + ".json"), "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: " + (
            "[\n  " + ",\n  ".join(json.dumps(x) for x in v) + "]" if k in ("events", "steps") else json.dumps(v))
            for k, v in run.items()) + "\n}\n")


def main():
    source = os.path.abspath(sys.argv[1])
    if len(sys.argv) == 5 and sys.argv[2] == "--one":
        return one(source, sys.argv[3], sys.argv[4])
    make_data()
    make_models()
    with tempfile.TemporaryDirectory() as top:
        for name in sys.argv[2:] or RUNS:
            work = os.path.join(top, name)
            os.makedirs(work)
            with open(os.path.join(top, name + ".log"), "w") as log:
                env = dict(os.environ, DISABLE_VERSION_CHECK="1", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1",
                           HF_HOME=os.path.join(top, "hf"), OMP_NUM_THREADS="1")
                rc = subprocess.call([sys.executable, os.path.abspath(__file__), source, "--one", name, work],
                                     stdout=log, stderr=log, env=env)
            print(name, "made" if rc == 0 else "failed", flush=True)
            if rc != 0:
                with open(os.path.join(top, name + ".log")) as log:
                    sys.stdout.write("".join(log.readlines()[-40:]))


if __name__ == "__main__":
    main()

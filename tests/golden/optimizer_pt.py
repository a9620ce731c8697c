#!/usr/bin/env python3
"""
Checkpoints of transformers' Trainer with their optimizer.pt, for tests/unit/test_moments_torch.c.

    python3 tests/golden/optimizer_pt.py            (rewrites tests/golden/optimizer/, about 1 MB)
    python3 tests/golden/optimizer_pt.py CASE...    (these directories of it)

A directory is what Trainer saved after four steps: model or adapter, optimizer.pt, trainer_state.json; its base is one
of tests/golden/lora and tests/golden/model.  Beside them

    ref.safetensors    ids mask [n]: one sample; with NAME as the saved model calls it
                       exp_avg.NAME exp_avg_sq.NAME     the moments, taken from the live optimiser by its parameters,
                                                        not by their numbers in the file
                       grad.NAME adam.NAME              the sample's gradient, and Adam's step on it in float64:
                                                        (b1 m + (1 - b1) g) / (sqrt(b2 v + (1 - b2) g^2) + eps)

tokens.h5 has five more samples; refused/ has variants of tiny/optimizer.pt, most of them wrong in one way.
"""
import json
import os
import shutil
import sys
import types

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != HERE]

import torch  # noqa: E402
from llamafactory.train.trainer_utils import _create_loraplus_optimizer  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from peft.optimizers import create_loraplus_optimizer  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments  # noqa: E402

torch.set_num_threads(1)
OUT = os.path.join(HERE, "optimizer")
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SMALL = dict(r=2, target_modules=["q_proj", "down_proj"])
SAVED = dict(r=2, target_modules=["v_proj", "up_proj"], modules_to_save=["norm", "1.input_layernorm"])


def sample(vocab, i):
    """Sample i: ids, and which of them are targets."""
    g = torch.Generator().manual_seed(100 + i)
    ids = torch.randint(3, vocab, (12 + i % 5,), generator=g)
    return ids, (torch.arange(len(ids)) > 3).long()


def rows(vocab, n):
    return [{"input_ids": ids, "labels": torch.where(mask == 1, ids, -100)}
            for ids, mask in (sample(vocab, i) for i in range(n))]


def saved_name(name):
    """A live parameter's name -> the name in the saved file."""
    for extra in (".default", ".modules_to_save"):
        name = name.replace(extra, "")
    return name


def arguments(where, **more):
    return TrainingArguments(output_dir=where, max_steps=4, save_steps=4, per_device_train_batch_size=1,
                             learning_rate=1e-3, lr_scheduler_type="cosine", weight_decay=0.1, report_to="none",
                             use_cpu=True, seed=1, logging_steps=100, disable_tqdm=True,
                             **{"optim": "adamw_torch", **more})


def loraplus(model, args):
    return _create_loraplus_optimizer(model, args, types.SimpleNamespace(loraplus_lr_ratio=16, loraplus_lr_embedding=1e-6))


def loraplus_peft(model, args):
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16)


def one_group(model, args):
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, betas=(0.8, 0.99), eps=1e-6)


def by_name(model, args):
    """Names in the state dict count, whatever the order."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return torch.optim.AdamW(named[::-1], lr=1e-3)


def norms_decay(model, args):
    """The groups of transformers' versions that did not know a model's RMSNorm."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return torch.optim.AdamW([{"params": [p for n, p in named if "bias" not in n], "weight_decay": 0.1},
                              {"params": [p for n, p in named if "bias" in n], "weight_decay": 0.0}], lr=1e-3)


CASES = {  # base, adapter, who makes the optimiser, arguments
    "llama": ("lora/llama", None, None, {}),
    "qwen3": ("model/qwen3-tied", None, None, dict(optim="adamw_torch_fused")),
    "qwen2-moe": ("lora/qwen2_moe", None, None, {}),
    "mixtral": ("model/mixtral-window", None, None, {}),
    "lora": ("lora/llama", dict(r=2, target_modules=ALL), None, dict(adam_beta1=0.85, adam_beta2=0.98, adam_epsilon=1e-7)),
    "lora-saved": ("lora/llama", dict(r=2, target_modules=["q_proj", "o_proj"],
                                      modules_to_save=["embed_tokens", "lm_head", "norm", "1.self_attn.k_proj"]), None, {}),
    "lora-experts": ("lora/qwen2_moe", dict(r=1, target_modules=["q_proj", "gate_proj", "up_proj", "down_proj", "gate"]),
                     None, {}),
    "loraplus": ("lora/llama", SAVED, loraplus, {}),
    "loraplus-peft": ("lora/llama", SAVED, loraplus_peft, {}),
    "one-group": ("lora/llama", SAVED, one_group, {}),
    "by-name": ("lora/llama", SAVED, by_name, {}),
    "norms-decay": ("lora/llama", SAVED, norms_decay, {}),
    "bf16": ("lora/llama", SMALL, None, dict(dtype=torch.bfloat16)),
    "f16": ("lora/llama", SMALL, None, dict(store=torch.float16)),
    "tiny": ("lora/llama", dict(r=1, target_modules=["q_proj"], layers_to_transform=[1], modules_to_save=["model.norm"]), None,
             {}),
    "f64": ("lora/llama", SMALL, None, dict(dtype=torch.float64)),
}


def make(case):
    base, adapter, optimizer, more = CASES[case]
    more = dict(more)
    dtype, store = more.pop("dtype", torch.float32), more.pop("store", None)
    where, work = os.path.join(OUT, case), os.path.join(OUT, case + ".work")
    shutil.rmtree(where, ignore_errors=True)
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, base), dtype=dtype, attn_implementation="eager")
    vocab = model.config.vocab_size
    if adapter:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_alpha=4, **adapter),
                               autocast_adapter_dtype=False)
        for n, p in model.named_parameters():
            if "lora_B" in n:
                p.data = 0.1 * torch.randn(p.shape, dtype=p.dtype)
    args = arguments(work, **more)
    trainer = Trainer(model, args, train_dataset=rows(vocab, 16),
                      optimizers=(optimizer(model, args) if optimizer else None, None))
    trainer.train()
    group, state = trainer.optimizer.param_groups[0], trainer.optimizer.state
    moments = {saved_name(n): (state[p]["exp_avg"], state[p]["exp_avg_sq"])
               for n, p in model.named_parameters() if p.requires_grad}
    os.rename(os.path.join(work, "checkpoint-4"), where)
    shutil.rmtree(work)
    for name in ("README.md", "scheduler.pt", "training_args.bin", "rng_state.pth", "generation_config.json"):
        if os.path.exists(os.path.join(where, name)):
            os.remove(os.path.join(where, name))
    if store:  # as an optimiser of lower precision would have saved it
        path = os.path.join(where, "optimizer.pt")
        saved = torch.load(path, weights_only=True)
        for s in saved["state"].values():
            s.update({k: s[k].to(store) for k in ("exp_avg", "exp_avg_sq")})
        torch.save(saved, path)
        moments = {n: (m.to(store), v.to(store)) for n, (m, v) in moments.items()}
    if adapter:
        path = os.path.join(where, "adapter_config.json")
        with open(path) as f:
            cfg = json.load(f)
        cfg["base_model_name_or_path"] = "../../" + base
        with open(path, "w") as f:
            json.dump(cfg, f, indent=2)
    reference(where, os.path.join(HERE, base) if adapter else None, vocab, moments, group)
    print(case, os.path.getsize(os.path.join(where, "optimizer.pt")), [len(g["params"]) for g in
                                                                     trainer.optimizer.param_groups])


def reference(where, base, vocab, moments, group):
    """From what was saved, in float32 as our programs load it."""
    model = AutoModelForCausalLM.from_pretrained(base or where, dtype=torch.float32, attn_implementation="eager")
    if base:
        model = PeftModel.from_pretrained(model, where, is_trainable=True)
    model.eval()
    ids, mask = sample(vocab, 77)
    logits = model(input_ids=ids[None]).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    nll[mask[1:] == 1].mean().backward()
    (b1, b2), eps = group["betas"], group["eps"]
    out = {"ids": ids.int(), "mask": mask.to(torch.uint8)}
    for n, p in model.named_parameters():
        if not p.requires_grad:
            continue
        name = saved_name(n)
        m, v = (x.detach().float() for x in moments[name])
        g = (p.grad if p.grad is not None else torch.zeros_like(p)).double()
        out["exp_avg." + name], out["exp_avg_sq." + name], out["grad." + name] = m, v, g.float()
        m, v = b1 * m.double() + (1 - b1) * g, b2 * v.double() + (1 - b2) * g * g
        out["adam." + name] = (m / (v.sqrt() + eps)).float()
    save_file({n: t.contiguous() for n, t in out.items()}, os.path.join(where, "ref.safetensors"),
              metadata={"beta1": str(b1), "beta2": str(b2), "eps": str(eps), "n": str((len(out) - 2) // 4)})


def variants():
    """refused/NAME.pt: what else can be in such a file, for the adapter tiny/; one is as FSDP saves, with names."""
    where = os.path.join(OUT, "refused")
    shutil.rmtree(where, ignore_errors=True)
    os.makedirs(where)

    def put(name, change):
        d = torch.load(os.path.join(OUT, "tiny", "optimizer.pt"), weights_only=True)
        changed = change(d, d["state"], d["param_groups"])
        torch.save(d if changed is None else changed, os.path.join(where, name + ".pt"))

    def each(s, change):
        for k in s:
            s[k] = change(s[k])

    def rename(d, s, g):
        names = ["base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight",
                 "base_model.model.model.layers.1.self_attn.q_proj.lora_B.default.weight",
                 "base_model.model.model.norm.modules_to_save.default.weight"]
        return {"state": {names[k]: s[k] for k in s}, "param_groups": [{**x, "params": [names[k] for k in x["params"]]}
                                                                      for x in g]}

    put("fsdp", rename)
    put("unknown-name", lambda d, s, g: {**rename(d, s, g), "state": {"model.norm.wait": s[2]}})
    put("apex", lambda d, s, g: (each(s, lambda x: {k: v for k, v in x.items() if k != "step"}),
                                 [x.update(step=7) for x in g])[2:] or None)
    put("hf", lambda d, s, g: each(s, lambda x: {**x, "step": 5}))
    put("step-i64", lambda d, s, g: each(s, lambda x: {**x, "step": torch.tensor(6)}))
    put("unused", lambda d, s, g: s.pop(1) and None)
    put("no-step", lambda d, s, g: s.clear())
    put("bitsandbytes", lambda d, s, g: each(s, lambda x: {"step": 4, "state1": torch.zeros(16, dtype=torch.uint8),
                                                           "qmap1": torch.zeros(256)}))
    put("paged", lambda d, s, g: each(s, lambda x: {"step": 4, "state1": x["exp_avg"], "state2": x["exp_avg_sq"]}))
    put("amsgrad", lambda d, s, g: g[0].update(amsgrad=True))
    put("amsgrad-state", lambda d, s, g: each(s, lambda x: {**x, "max_exp_avg_sq": x["exp_avg_sq"]}))
    put("sgd", lambda d, s, g: {"state": {k: {"momentum_buffer": s[k]["exp_avg"]} for k in s},
                                "param_groups": [{"lr": 0.1, "momentum": 0.9, "params": x["params"]} for x in g]})
    put("adafactor", lambda d, s, g: each(s, lambda x: {"step": 4, "exp_avg_sq_row": x["exp_avg"]}))
    put("extra", lambda d, s, g: each(s, lambda x: {**x, "compensation": x["exp_avg"]}))
    put("no-v", lambda d, s, g: s[0].pop("exp_avg_sq") is None or None)
    put("integer", lambda d, s, g: s[0].update(exp_avg=s[0]["exp_avg"].int()))
    put("shape", lambda d, s, g: s[0].update(exp_avg=s[0]["exp_avg"].reshape(-1)))
    put("swapped", lambda d, s, g: s.update({0: s[1], 1: s[0]}))
    put("nan", lambda d, s, g: s[2]["exp_avg"].__setitem__(3, float("nan")))
    put("infinite", lambda d, s, g: s[2]["exp_avg_sq"].__setitem__(3, float("inf")))
    put("minus-infinite", lambda d, s, g: s[2]["exp_avg"].__setitem__(1, float("-inf")))
    put("negative", lambda d, s, g: s[2]["exp_avg_sq"].__setitem__(5, -1e-9))
    put("strided", lambda d, s, g: s[1].update(exp_avg=torch.zeros(len(s[1]["exp_avg"]), 2)[:, :1]))
    put("step-text", lambda d, s, g: s[0].update(step="4"))
    put("step-negative", lambda d, s, g: s[0].update(step=-4))
    put("betas", lambda d, s, g: g[1].update(betas=(0.9, 0.98)))
    put("beta-range", lambda d, s, g: g[0].update(betas=(1.5, 0.98)))
    put("eps-none", lambda d, s, g: g[0].update(eps=None))
    put("three-groups", lambda d, s, g: g.append({**g[1], "params": []}))
    put("other-groups", lambda d, s, g: (g[0].update(params=[0]), g[1].update(params=[1, 2]))[2:] or None)
    put("many", lambda d, s, g: g[0].update(params=[0, 1, 3]))
    put("twice", lambda d, s, g: g[0].update(params=[0, 0]))
    put("orphan", lambda d, s, g: s.update({9: s[0]}))
    put("no-params", lambda d, s, g: g[0].pop("params") and None)
    put("no-groups", lambda d, s, g: d.pop("param_groups") and None)
    put("empty-groups", lambda d, s, g: g.clear())
    put("no-state", lambda d, s, g: d.pop("state") and None)
    put("model", lambda d, s, g: {"model.norm.weight": torch.ones(3)})
    put("tensor", lambda d, s, g: torch.ones(3))
    put("names", lambda d, s, g: g[0].update(param_names=["model.norm.weight"]))
    put("state-list", lambda d, s, g: s.update({0: [1, 2]}))
    torch.save(torch.load(os.path.join(OUT, "tiny", "optimizer.pt"), weights_only=True),
               os.path.join(where, "legacy.pt"), _use_new_zipfile_serialization=False)


def tokens():
    """tokens.h5: five samples, as a script writes them, for tests/cmd/df-grad-torch.t."""
    import h5py
    import numpy as np

    rows = [sample(61, 200 + i) for i in range(5)]
    with h5py.File(os.path.join(OUT, "tokens.h5"), "w") as f:
        f["sample/id"] = np.arange(len(rows), dtype=np.uint64)
        f["tokens/ids"] = np.concatenate([ids.numpy() for ids, _ in rows]).astype(np.uint32)
        f["tokens/label_mask"] = np.concatenate([mask.numpy() for _, mask in rows]).astype(np.uint8)
        f["tokens/offsets"] = np.cumsum([0] + [len(ids) for ids, _ in rows]).astype(np.uint64)


for case in sys.argv[1:] or CASES:
    make(case)
variants()
tokens()

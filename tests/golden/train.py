#!/usr/bin/env python3
"""
Twenty optimiser steps of the ways to fine-tune, for tests/unit/test_train_ways.c.

    python3 tests/golden/train.py            # rewrites tests/golden/train/
    python3 tests/golden/train.py NAME...    # these directories of it

The models and batches are those of tests/golden/model (model.py); what trains, and in which groups of the optimiser,
is decided by LLaMA-Factory's own functions: _setup_freeze_tuning, _create_loraplus_optimizer,
prepare_4d_attention_mask, dft_loss_func.  One directory a way:

    adapter/             LoRA only: where it begins (PEFT's save_pretrained)
    train.safetensors    loss grad_norm [20], final.NAME of every trained parameter that is small;
                         metadata: base, and the numbers of the run

Step k trains on samples 4 (k mod 4) .. + 3; packed rows are these four, end to end, each with its first token a
target, which is then predicted from the sample before.
"""
import importlib.machinery
import json
import os
import shutil
import sys
import types

sys.path.pop(0)  # this file must not be found in a package's place
sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # never called here
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

import torch  # noqa: E402
from llamafactory.data.collator import prepare_4d_attention_mask  # noqa: E402
from llamafactory.model.adapter import _setup_freeze_tuning  # noqa: E402
from llamafactory.train.trainer_utils import _create_loraplus_optimizer, dft_loss_func  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from peft.utils import get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments, get_linear_schedule_with_warmup  # noqa: E402
from transformers.trainer_pt_utils import get_parameter_names  # noqa: E402

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "train")
STEPS, WARMUP, LR, DECAY = 20, 4, 2e-3, 0.1


def load(base):
    d = os.path.join(HERE, "model", base)
    t = load_file(os.path.join(d, "train.safetensors"))
    o = t["offsets"].tolist()
    samples = [(t["ids"][a:b].long(), t["mask"][a:b].long()) for a, b in zip(o, o[1:])]
    return AutoModelForCausalLM.from_pretrained(d, torch_dtype=torch.float32, attn_implementation="eager",
                                                use_cache=False), samples


def nlls(model, ids, mask, **how):
    logits = model(input_ids=ids[None], **how).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")
    return nll[mask[1:] == 1]


def dft(model, ids, mask):
    """As many numbers as there are targets, whose sum is use_dft_loss's."""
    labels = torch.where(mask == 1, ids, -100)[None]
    n = (labels[:, 1:] != -100).sum()
    return (dft_loss_func(model(input_ids=ids[None]), labels, num_items_in_batch=1) / n).expand(n)


def packed(model, samples, neat):
    """LLaMA-Factory's pack: positions begin anew; neat packing numbers the examples in the attention mask."""
    ids = torch.cat([i for i, _ in samples])
    mask = torch.cat([m for _, m in samples])
    mask[[0] + torch.tensor([len(i) for i, _ in samples]).cumsum(0)[:-1].tolist()] = 1  # first tokens are targets, too
    position = torch.cat([torch.arange(len(i)) for i, _ in samples])
    number = torch.cat([torch.full((len(i),), k + 1) for k, (i, _) in enumerate(samples)])
    attention = prepare_4d_attention_mask(number[None], torch.float32) if neat else torch.ones_like(ids)[None]
    return [nlls(model, ids, mask, position_ids=position[None], attention_mask=attention)]


def groups(model):
    """Trainer's: no weight decay for biases and norms."""
    decay = Trainer.get_decay_parameter_names(None, model)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return torch.optim.AdamW([
        {"params": [p for n, p in named if n in decay], "weight_decay": DECAY},
        {"params": [p for n, p in named if n not in decay], "weight_decay": 0.0},
    ], lr=LR, betas=(0.9, 0.999), eps=1e-8)


def loraplus(model, ratio):
    args = TrainingArguments(output_dir="none", learning_rate=LR, weight_decay=DECAY, report_to="none", use_cpu=True,
                             optim="adamw_torch")
    return _create_loraplus_optimizer(model, args, types.SimpleNamespace(loraplus_lr_ratio=ratio,
                                                                         loraplus_lr_embedding=1e-6))


def run(name, base, model, samples, opt, step_nlls, saved, **metadata):
    params = [p for p in model.parameters() if p.requires_grad]
    sched = get_linear_schedule_with_warmup(opt, WARMUP, STEPS)
    losses, norms = [], []
    for k in range(STEPS):
        got = step_nlls(samples[4 * (k % 4):4 * (k % 4) + 4])
        loss = sum(n.sum() for n in got) / sum(len(n) for n in got)
        opt.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(params, 1.0).item())
        opt.step()
        sched.step()
    out = {"loss": torch.tensor(losses), "grad_norm": torch.tensor(norms)}
    out.update({"final." + n: p.detach().clone().contiguous() for n, p in saved() if p.numel() <= 512})
    os.makedirs(os.path.join(OUT, name), exist_ok=True)
    save_file(out, os.path.join(OUT, name, "train.safetensors"),
              metadata={"base": base, "lr": str(LR), "steps": str(STEPS), "warmup": str(WARMUP),
                        "weight_decay": str(DECAY), **{k: str(v) for k, v in metadata.items()}})
    print(name, [n for n, p in saved()][:3], losses[0], losses[-1])


def trained(model):
    return lambda: [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def freeze(name, base, layers, modules, extra):
    model, samples = load(base)
    args = types.SimpleNamespace(use_llama_pro=False, freeze_trainable_layers=layers, freeze_trainable_modules=modules,
                                 freeze_extra_modules=extra, freeze_multi_modal_projector=True,
                                 freeze_vision_tower=True, freeze_language_model=False)
    _setup_freeze_tuning(model, args, True, False)
    run(name, base, model, samples, groups(model), lambda s: [nlls(model, i, m) for i, m in s], trained(model),
        layers=layers, modules=",".join(modules), extra=",".join(extra or []))


def full(name, base):
    model, samples = load(base)
    run(name, base, model, samples, groups(model), lambda s: [dft(model, i, m) for i, m in s], trained(model), dft=1)


def lora(name, base, ratio=0, losses=nlls, **config):
    model, samples = load(base)
    torch.manual_seed(3)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], **config))
    for n, p in model.named_parameters():
        if "lora_B" in n:
            p.data = 0.1 * torch.randn(p.shape)
    d = os.path.join(OUT, name, "adapter")
    model.save_pretrained(d)
    os.remove(os.path.join(d, "README.md"))
    path = os.path.join(d, "adapter_config.json")
    with open(path) as f:
        cfg = json.load(f)
    cfg["base_model_name_or_path"] = "../../../model/" + base
    with open(path, "w") as f:
        json.dump(cfg, f, indent=2)
    run(name, base, model, samples, loraplus(model, ratio) if ratio else groups(model),
        lambda s: [losses(model, i, m) for i, m in s], lambda: get_peft_model_state_dict(model).items(), ratio=ratio,
        dft=int(losses is dft))


def pack(name, base, neat):
    model, samples = load(base)
    run(name, base, model, samples, groups(model), lambda s: packed(model, s, neat), trained(model), neat=int(neat))


def main():
    ways = {
        "freeze-last": lambda name: freeze(name, "llama", 1, ["all"], ["norm"]),
        "freeze-first": lambda name: freeze(name, "qwen2", -1, ["mlp", "input_layernorm"], None),
        "freeze-tied": lambda name: freeze(name, "llama-gqa-tied", 1, ["self_attn"], ["embed_tokens"]),
        "loraplus": lambda name: lora(name, "qwen2-untied", ratio=16),
        "rslora": lambda name: lora(name, "llama", use_rslora=True),
        "whole-modules": lambda name: lora(name, "qwen2-untied", ratio=4, modules_to_save=["lm_head", "norm"]),
        "neat-packing": lambda name: pack(name, "llama", True),
        "packing": lambda name: pack(name, "qwen2", False),
        "dft": lambda name: full(name, "llama-gqa-tied"),
        "dft-lora": lambda name: lora(name, "qwen2-untied", losses=dft),
    }
    for name in sys.argv[1:] or ways:
        shutil.rmtree(os.path.join(OUT, name), ignore_errors=True)
        ways[name](name)


if __name__ == "__main__":
    main()

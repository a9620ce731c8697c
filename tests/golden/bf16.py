#!/usr/bin/env python3
"""
Twenty optimiser steps under bf16 autocast, for tests/unit/test_train_bf16.c.

    python3 tests/golden/bf16.py             # rewrites tests/golden/train/bf16-*/

As transformers' Trainer does with bf16=True: float32 weights, torch.autocast(bfloat16) around the forward, AdamW on
float32 gradients.  Models and batches are those of tests/golden/model (model.py); step k trains on samples
4 (k mod 4) .. + 3.

    adapter/             LoRA only: where it begins (PEFT's save_pretrained)
    train.safetensors    loss grad_norm [20]; grad.NAME of the first step, rounded to bf16; metadata as of train.py
"""
import os
import json
import shutil

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Trainer, get_linear_schedule_with_warmup

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
STEPS, WARMUP, LR, DECAY = 20, 4, 2e-3, 0.1


def lora(model, d, base):
    torch.manual_seed(3)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
    for n, p in model.named_parameters():
        if "lora_B" in n:
            p.data = 0.1 * torch.randn(p.shape)
    model.save_pretrained(os.path.join(d, "adapter"))
    os.remove(os.path.join(d, "adapter", "README.md"))
    path = os.path.join(d, "adapter", "adapter_config.json")
    with open(path) as f:
        cfg = json.load(f)
    cfg["base_model_name_or_path"] = "../../../model/" + base
    with open(path, "w") as f:
        json.dump(cfg, f, indent=2)
    return model


def train(name, base, adapter):
    d = os.path.join(HERE, "train", name)
    shutil.rmtree(d, ignore_errors=True)
    os.makedirs(d)
    source = os.path.join(HERE, "model", base)
    t = load_file(os.path.join(source, "train.safetensors"))
    o = t["offsets"].tolist()
    samples = [(t["ids"][a:b].long(), t["mask"][a:b].long()) for a, b in zip(o, o[1:])]
    model = AutoModelForCausalLM.from_pretrained(source, torch_dtype=torch.float32, attn_implementation="eager",
                                                 use_cache=False)
    if adapter:
        model = lora(model, d, base)
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decay = Trainer.get_decay_parameter_names(None, model)
    opt = torch.optim.AdamW([{"params": [p for n, p in named if n in decay], "weight_decay": DECAY},
                             {"params": [p for n, p in named if n not in decay], "weight_decay": 0.0}],
                            lr=LR, betas=(0.9, 0.999), eps=1e-8)
    sched = get_linear_schedule_with_warmup(opt, WARMUP, STEPS)
    out, losses, norms = {}, [], []
    for k in range(STEPS):
        nlls = []
        for ids, mask in samples[4 * (k % 4):4 * (k % 4) + 4]:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(input_ids=ids[None]).logits[0].float()
            nlls.append(torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")[mask[1:] == 1])
        loss = sum(n.sum() for n in nlls) / sum(len(n) for n in nlls)
        opt.zero_grad()
        loss.backward()
        if k == 0:
            out.update({"grad." + n.replace(".default.", "."): p.grad.to(torch.bfloat16).contiguous() for n, p in named})
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_([p for n, p in named], 1.0).item())
        opt.step()
        sched.step()
    out.update({"loss": torch.tensor(losses), "grad_norm": torch.tensor(norms)})
    save_file(out, os.path.join(d, "train.safetensors"),
              metadata={"base": base, "lr": str(LR), "steps": str(STEPS), "warmup": str(WARMUP),
                        "weight_decay": str(DECAY)})
    print(name, losses[0], losses[-1])


if __name__ == "__main__":
    train("bf16-llama", "llama", False)
    train("bf16-qwen2", "qwen2", False)
    train("bf16-lora", "qwen2-untied", True)

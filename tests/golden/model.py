#!/usr/bin/env python3
"""
Reference tensors for lib/model and lib/train, made with PyTorch, transformers and PEFT.

    python3 tests/golden/model.py            (writes tests/golden/model/, about 2 MB)

One directory per case (llama, llama-gqa-tied, qwen2, qwen2-untied), each a tiny random float32 checkpoint:

    config.json model.safetensors     as transformers' save_pretrained writes them
    adapter/                          a LoRA adapter as PEFT's save_pretrained writes it (r 4, alpha 8, all linear
                                      layers, nonzero B; its base_model_name_or_path is "..")
    ref.safetensors
        offsets ids mask              i64: a ragged batch: n + 1 offsets, then the tokens end to end; mask 1 = target
        logits                        [tokens, V]
        nll                           [all targets], sample by sample
        loss n_targets                [n]: mean nll of each sample (NaN without targets) and its number of targets
        grad.NAME                     gradient of the token-mean loss of the batch (sum of nll / all targets)
        sample_grad.S.NAME            gradient of sample S's own mean loss, a batch of one
        lora.logits                   the same with the adapter; NAME is PEFT's name in adapter_model.safetensors
        lora.loss lora.grad.NAME lora.sample_grad.S.NAME
        lora_init.NAME                [min, max] of a freshly initialised lora_A; PEFT draws uniform +-1/sqrt(in)
    train.safetensors                 20 steps of torch.optim.AdamW; step k trains on batch k mod 4
        offsets ids mask              16 samples; batch b = samples 4b .. 4b+3
        full.loss full.grad_norm      [20] token-mean loss before the update; gradient norm before clipping
        lora.loss lora.grad_norm      [20] from the adapter of adapter/
        lr                            [20] learning rate of each step
        final.NAME                    the full fine-tuning's last values of two parameters
        metadata                      base_lr warmup_steps total_steps weight_decay beta1 beta2 eps max_grad_norm

Training is as transformers' Trainer does it: two parameter groups (weight decay for everything but biases and norm
weights), gradients clipped to a global norm of 1, linear schedule with warm-up (the first step has lr 0).
Losses follow transformers' causal LM rule: logits at t predict token t + 1, sum of the nll over the targets divided by
their number.
"""
import json
import math
import os
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          get_linear_schedule_with_warmup)

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))

COMMON = dict(num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
              pad_token_id=0, attn_implementation="eager", use_cache=False)
CASES = {
    "llama": (LlamaForCausalLM, LlamaConfig(
        vocab_size=131, hidden_size=32, intermediate_size=56, num_key_value_heads=4, rms_norm_eps=1e-5,
        tie_word_embeddings=False, **COMMON)),
    "llama-gqa-tied": (LlamaForCausalLM, LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-6,
        rope_theta=500000.0, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, **COMMON)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(
        vocab_size=103, hidden_size=32, intermediate_size=56, num_key_value_heads=2, rms_norm_eps=1e-6,
        rope_theta=1000000.0, tie_word_embeddings=True, **COMMON)),
    "qwen2-untied": (Qwen2ForCausalLM, Qwen2Config(
        vocab_size=83, hidden_size=40, intermediate_size=64, num_key_value_heads=1, rms_norm_eps=1e-6,
        rope_theta=10000.0, tie_word_embeddings=False, **COMMON)),
}
STEPS, WARMUP, BASE_LR, DECAY = 20, 4, 5e-3, 0.1


def randomise(model, seed):
    """Random weights of a trained model's size, so that no gradient is near zero by construction."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=g)
        if name.endswith("norm.weight") or "layernorm" in name:
            p.data = 1 + 0.2 * noise
        else:
            p.data = 0.2 * noise


def batch(vocab, lengths, seed, no_target=None):
    """Samples as (ids, mask): the first third of each is a prompt, some targets inside the answer are masked too."""
    g = torch.Generator().manual_seed(seed)
    out = []
    for i, n in enumerate(lengths):
        ids = torch.randint(0, vocab, (n,), generator=g)
        mask = (torch.arange(n) >= n // 3).long()
        if n > 10:
            mask[n // 2] = 0
        if i == no_target:
            mask[:] = 0
        out.append((ids, mask))
    return out


def pack(samples):
    offsets = torch.tensor([0] + [len(i) for i, _ in samples]).cumsum(0)
    return {"offsets": offsets, "ids": torch.cat([i for i, _ in samples]), "mask": torch.cat([m for _, m in samples])}


def forward(model, ids, mask):
    """Logits and the nll of the sample's targets."""
    logits = model(input_ids=ids[None]).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")
    return logits, nll[mask[1:] == 1]


def saved_name(name):
    """PEFT's live name -> the name in adapter_model.safetensors."""
    return name.replace(".default.", ".")


def grads(model, trainable, out, prefix):
    for name, p in model.named_parameters():
        if trainable(name):
            out[prefix + saved_name(name)] = p.grad.clone() if p.grad is not None else torch.zeros_like(p)


def reference(model, samples, trainable, prefix, which):
    out = {}
    model.zero_grad(set_to_none=True)
    logits, nlls = zip(*[forward(model, i, m) for i, m in samples])
    total = sum(len(n) for n in nlls)
    (sum(n.sum() for n in nlls) / total).backward()
    out[prefix + "logits"] = torch.cat(logits).detach()
    out[prefix + "nll"] = torch.cat(nlls).detach()
    out[prefix + "loss"] = torch.stack([n.mean() for n in nlls]).detach()
    out[prefix + "n_targets"] = torch.tensor([len(n) for n in nlls])
    grads(model, trainable, out, prefix + "grad.")
    for s in which:
        model.zero_grad(set_to_none=True)
        forward(model, *samples[s])[1].mean().backward()
        grads(model, trainable, out, f"{prefix}sample_grad.{s}.")
    return out


def train(model, samples, trainable):
    params = [(n, p) for n, p in model.named_parameters() if trainable(n)]
    decay = [p for n, p in params if not (n.endswith("bias") or "norm" in n)]
    plain = [p for n, p in params if n.endswith("bias") or "norm" in n]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}],
                            lr=BASE_LR, betas=(0.9, 0.999), eps=1e-8)
    sched = get_linear_schedule_with_warmup(opt, WARMUP, STEPS)
    losses, norms, lrs = [], [], []
    for k in range(STEPS):
        nlls = [forward(model, i, m)[1] for i, m in samples[4 * (k % 4):4 * (k % 4) + 4]]
        loss = sum(n.sum() for n in nlls) / sum(len(n) for n in nlls)
        opt.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_([p for _, p in params], 1.0).item())
        lrs.append(sched.get_last_lr()[0])
        opt.step()
        sched.step()
    return torch.tensor(losses), torch.tensor(norms), torch.tensor(lrs)


def tidy(tensors):
    return {k: v.detach().contiguous().clone() for k, v in tensors.items()}


def main():
    for seed, (case, (cls, config)) in enumerate(CASES.items()):
        where = os.path.join(HERE, "model", case)
        shutil.rmtree(where, ignore_errors=True)
        torch.manual_seed(seed)
        model = cls(config).float().eval()
        randomise(model, 100 + seed)
        model.tie_weights()
        model.save_pretrained(where)
        os.remove(os.path.join(where, "generation_config.json"))

        samples = batch(config.vocab_size, [7, 1, 40, 12, 23], 200 + seed, no_target=3)
        ref = pack(samples)
        ref.update(reference(model, samples, lambda n: True, "", [0, 4]))

        lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                          target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
        peft = get_peft_model(AutoModelForCausalLM.from_pretrained(where, attn_implementation="eager"), lora).eval()
        state = get_peft_model_state_dict(peft)
        for name, p in state.items():
            if "lora_A" in name:
                assert p.abs().max() <= 1 / math.sqrt(p.shape[1])
                ref["lora_init." + name] = torch.stack([p.min(), p.max()])
        g = torch.Generator().manual_seed(300 + seed)
        for name, p in peft.named_parameters():
            if "lora_B" in name:
                p.data = 0.1 * torch.randn(p.shape, generator=g)
        adapter = os.path.join(where, "adapter")
        peft.save_pretrained(adapter)
        os.remove(os.path.join(adapter, "README.md"))
        path = os.path.join(adapter, "adapter_config.json")
        cfg = json.load(open(path))
        cfg["base_model_name_or_path"] = ".."
        cfg["target_modules"] = sorted(cfg["target_modules"])
        json.dump(cfg, open(path, "w"), indent=2, sort_keys=True)
        ref.update(reference(peft, samples, lambda n: "lora_" in n, "lora.", [0, 4]))
        save_file(tidy(ref), os.path.join(where, "ref.safetensors"))

        rows = batch(config.vocab_size, [9, 24, 5, 17, 30, 6, 12, 12, 8, 21, 16, 3, 40, 4, 11, 7], 400 + seed)
        out = pack(rows)
        full = AutoModelForCausalLM.from_pretrained(where, attn_implementation="eager")
        out["full.loss"], out["full.grad_norm"], out["lr"] = train(full, rows, lambda n: True)
        for name, p in full.named_parameters():
            if name in ("model.norm.weight", "model.layers.1.self_attn.v_proj.weight"):
                out["final." + name] = p
        base = AutoModelForCausalLM.from_pretrained(where, attn_implementation="eager")
        tuned = PeftModel.from_pretrained(base, adapter, is_trainable=True)
        out["lora.loss"], out["lora.grad_norm"], _ = train(tuned, rows, lambda n: "lora_" in n)
        save_file(tidy(out), os.path.join(where, "train.safetensors"), metadata={
            "base_lr": str(BASE_LR), "warmup_steps": str(WARMUP), "total_steps": str(STEPS),
            "weight_decay": str(DECAY), "beta1": "0.9", "beta2": "0.999", "eps": "1e-8", "max_grad_norm": "1.0"})
        print(case, ref["loss"], out["full.loss"][[0, -1]], out["lora.loss"][[0, -1]])


if __name__ == "__main__":
    main()

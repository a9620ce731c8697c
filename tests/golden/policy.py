#!/usr/bin/env python3
"""
Policy gradients of prompts, made with PyTorch, transformers and PEFT.

    python3 tests/golden/policy.py           (writes tests/golden/policy.safetensors, 27 kB)

The model is tests/golden/model/llama with its LoRA adapter.  Of each prompt x with completions y_1..y_S and rewards r_s
one scalar is made, and one backward gives the gradient:

    1/S sum_s a_s NLL(y_s | x)

    offsets ids mask            i64: the completions end to end, each after its prompt; mask 1 = token of the completion
    prompt draw reward          of each completion; the last of prompt 9 is empty
    CASE.PROMPT.NAME            the gradient of some parameters, NAME as in adapter_model.safetensors
        sum    NLL is the sum over tokens, a = r
        mean   NLL is the mean over tokens, a = r
        loo    NLL is the sum, a = r less the mean of the other rewards of the prompt
"""
import os

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "model", "llama")
KEPT = ("layers.0.self_attn.q_proj", "layers.1.mlp.down_proj", "layers.1.self_attn.v_proj")
PROMPTS = {5: [3, 17, 60, 8], 9: [1, 99, 4]}
COMPLETIONS = {5: [([20, 31, 2], 1.0), ([7, 7, 19, 118, 50, 2], 0.25), ([90, 2], -0.5)],
               9: [([64, 12, 13, 2], 2.0), ([2], 0.0), ([5, 6, 100, 101, 102], 0.125), ([], 0.75)]}


def nll(model, prompt, completion):
    """The negative log-likelihood of each token of the completion."""
    ids = torch.tensor([prompt + completion])
    logp = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
    return -logp[torch.arange(len(prompt) - 1, ids.shape[1] - 1), ids[0, len(prompt):]]


def gradient(model, names, prompt, completions, case):
    rewards = [r for _, r in completions]
    n, loss = len(completions), 0
    for y, r in completions:
        a = r - (sum(rewards) - r) / (n - 1) if case == "loo" else r
        each = nll(model, prompt, y)
        if len(y) > 0:
            loss = loss + a * (each.mean() if case == "mean" else each.sum())
    return torch.autograd.grad(loss / n, [names[k] for k in names])


def main():
    base = AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, os.path.join(MODEL, "adapter"), is_trainable=True).eval()
    names = {k.replace(".default", ""): p for k, p in model.named_parameters() if any(m in k for m in KEPT) and "lora" in k}
    rows = [(p, s, PROMPTS[p], y, r) for p in PROMPTS for s, (y, r) in enumerate(COMPLETIONS[p])]
    out = {
        "offsets": torch.tensor([0] + [len(x) + len(y) for _, _, x, y, _ in rows]).cumsum(0),
        "ids": torch.tensor([t for _, _, x, y, _ in rows for t in x + y]),
        "mask": torch.tensor([m for _, _, x, y, _ in rows for m in [0] * len(x) + [1] * len(y)]),
        "prompt": torch.tensor([p for p, *_ in rows]),
        "draw": torch.tensor([s for _, s, *_ in rows]),
        "reward": torch.tensor([r for *_, r in rows], dtype=torch.float32),
    }
    for case in ("sum", "mean", "loo"):
        for p in PROMPTS:
            for name, g in zip(names, gradient(model, names, PROMPTS[p], COMPLETIONS[p], case)):
                out[f"{case}.{p}.{name}"] = g.float().contiguous()
    save_file(out, os.path.join(HERE, "policy.safetensors"))
    print({k: tuple(v.shape) for k, v in list(out.items())[:8]}, len(out))


if __name__ == "__main__":
    main()

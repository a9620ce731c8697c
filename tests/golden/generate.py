#!/usr/bin/env python3
"""
Reference completions for lib/sample, made with transformers' generate() and PEFT.

    python3 tests/golden/generate.py           (writes tests/golden/generate.json, some 100 kB)

For every checkpoint of tests/golden/model with a language model's head, and its adapter: greedy completions, token for
token, with a cache of keys and values, each prompt by itself.  One of the tokens that the model says is declared an
eos, so that some completions end.  Prompts on whose way two tokens are nearly equally likely (logits within 2e-3) are
not taken: there float32 decides by its roundings.

    {"cases": [{"model", "adapter", "max_new", "eos", "prompts": [[ids]], "completions": [[ids]], "logprobs": [sum]}],
     "warps": [{"temperature", "top_k", "top_p", "logits": [], "probs": []}]}

warps: what transformers' TemperatureLogitsWarper, TopKLogitsWarper and TopPLogitsWarper, in generate()'s order, make of
some logits.
"""
import json
import os

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
LENGTHS, MAX_NEW, MARGIN = (1, 2, 5, 9, 17, 30), 20, 2e-3


def greedy(model, ids, eos):
    """Completion, sum of its log-probabilities, smallest distance of the two likeliest tokens."""
    model(input_ids=torch.tensor([[1]]))  # a dynamic rotary embedding forgets what it grew to
    config = GenerationConfig(do_sample=False, max_new_tokens=MAX_NEW, eos_token_id=eos, pad_token_id=0, use_cache=True)
    out = model.generate(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                         generation_config=config, output_logits=True, return_dict_in_generate=True)
    new = out.sequences[0, len(ids):].tolist()
    logprob, margin = 0.0, 1e9
    for t, logits in zip(new, out.logits):
        top = logits[0].float().topk(2).values
        margin = min(margin, (top[0] - top[1]).item())
        logprob += torch.log_softmax(logits[0].double(), -1)[t].item()
    return new, logprob, margin


def case(name, adapter):
    path = os.path.join(HERE, "model", name)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    if adapter:
        model = PeftModel.from_pretrained(model, os.path.join(path, "adapter")).eval()
    model.generation_config.use_cache = True  # the fixtures' configs say False, and generate() takes that for a default
    vocab = model.config.vocab_size
    g = torch.Generator().manual_seed(11)
    taken, eos = [], None
    for n in LENGTHS:
        for _ in range(50):
            ids = torch.randint(0, vocab, (n,), generator=g).tolist()
            new, logprob, margin = greedy(model, ids, eos)
            if margin > MARGIN:
                break
        else:
            raise SystemExit(f"{name}: no clear completion of {n} tokens")
        taken.append((ids, new, logprob))
        if eos is None and len(taken) == 3:  # from here on, and for the first ones too
            eos = [new[len(new) // 2]]
    done = [(ids, *greedy(model, ids, eos)[:2]) for ids, _, _ in taken]
    return {"model": name, "adapter": adapter, "max_new": MAX_NEW, "eos": eos, "prompts": [d[0] for d in done],
            "completions": [d[1] for d in done], "logprobs": [d[2] for d in done]}


def warps():
    g = torch.Generator().manual_seed(5)
    out = []
    for scale, temperature, top_k, top_p in ((2.0, 1.0, 0, 1.0), (2.0, 0.7, 0, 1.0), (2.0, 1.0, 5, 1.0), (2.0, 1.3, 0, 0.8),
                                             (0.3, 1.0, 0, 0.5), (4.0, 1.0, 0, 0.3), (2.0, 1.5, 8, 0.6),
                                             (2.0, 0.5, 40, 0.95), (0.0, 1.0, 3, 0.9), (3.0, 2.0, 1, 0.9)):
        logits = (torch.randn(24, generator=g) * scale * 64).round() / 64  # exact in decimal, some of them equal
        x = logits[None]
        if temperature != 1.0:
            x = TemperatureLogitsWarper(temperature)(None, x)
        if top_k:
            x = TopKLogitsWarper(top_k)(None, x)
        if top_p < 1.0:
            x = TopPLogitsWarper(top_p)(None, x)
        if scale == 0.0:
            continue  # all equal: transformers leaves what of them to its sort
        out.append({"temperature": temperature, "top_k": top_k, "top_p": top_p, "logits": logits.tolist(),
                    "probs": torch.softmax(x[0].double(), -1).tolist()})
    return out


def main():
    cases = []
    for name in sorted(os.listdir(os.path.join(HERE, "model"))):
        path = os.path.join(HERE, "model", name)
        if not os.path.exists(os.path.join(path, "config.json")):
            continue
        if "rope_parameters" in open(os.path.join(path, "config.json")).read():
            continue  # transformers 5's spelling of another case; 4 would take the rotation for the default
        architecture = (AutoConfig.from_pretrained(path).architectures or [""])[0]
        if not architecture.endswith("ForCausalLM"):
            continue
        for adapter in (False, True):
            if adapter and not os.path.isdir(os.path.join(path, "adapter")):
                continue
            cases.append(case(name, adapter))
            print(name, "adapter" if adapter else "", [len(c) for c in cases[-1]["completions"]])
    with open(os.path.join(HERE, "generate.json"), "w") as f:
        f.write('{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + '\n], "warps": [\n' +
                ",\n".join(json.dumps(w) for w in warps()) + "\n]}\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""
Reference tensors for adapters, made with transformers and PEFT: what an adapter trains, and what merging it gives.

    python3 tests/golden/lora.py             (writes tests/golden/lora/, about 400 kB)

    llama/ qwen2_moe/                 two tiny random float32 checkpoints
    CASE/                             an adapter as PEFT's save_pretrained writes it, nonzero B, on the base in its
                                      adapter_config.json ("../llama")
    CASE/ref.safetensors
        offsets ids mask loss n_targets nll grad.NAME sample_grad.S.NAME      as in tests/golden/model.py; NAME is the
                                      one in adapter_model.safetensors
        merged.NAME                   weights that merge_and_unload() changed
    freeze.txt                        what LLaMA-Factory trains of llama/ under finetuning_type: freeze; a line is
                                      layers|modules|extra_modules|name,name...
"""
import json
import os
import shutil
import sys

import torch
from model import batch, forward, pack, randomise, tidy
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lora")
COMMON = dict(vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
              max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, attn_implementation="eager",
              use_cache=False, tie_word_embeddings=False)
BASES = {
    "llama": (LlamaForCausalLM, LlamaConfig(intermediate_size=24, attention_bias=True, **COMMON)),
    "qwen2_moe": (Qwen2MoeForCausalLM, Qwen2MoeConfig(
        intermediate_size=24, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8,
        shared_expert_intermediate_size=12, decoder_sparse_step=1, norm_topk_prob=True, **COMMON)),
}
CASES = {
    "rslora": ("llama", dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "down_proj"])),
    "additional": ("llama", dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "up_proj"],
                                 modules_to_save=["embed_tokens", "lm_head", "1.self_attn.k_proj", "norm"])),
    "pattern": ("llama", dict(r=3, lora_alpha=3, target_modules=r".*\.1\.(self_attn\.[qk]|mlp\.\w+)_proj")),
    "experts": ("qwen2_moe", dict(r=2, lora_alpha=4, target_modules=[
        "q_proj", "gate_proj", "up_proj", "down_proj", "gate", "shared_expert_gate"])),
    "ranks": ("llama", dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "k_proj", "v_proj", "up_proj"],
                            rank_pattern={"q_proj": 2, r"model\.layers\.[1].*\.v_proj": 3, "^up_proj": 7, "proj": 9},
                            alpha_pattern={"layers.1.self_attn.v_proj": 5.5, "(k|up)_proj": 3})),
    "layers": ("llama", dict(r=2, lora_alpha=4, layers_to_transform=[1, 5], exclude_modules=["layers.1.self_attn.v_proj"],
                             target_modules=["q_proj", "v_proj", "down_proj", "model.layers.0.mlp.up_proj"])),
    "restricted": ("qwen2_moe", dict(r=2, lora_alpha=4, layers_to_transform=1, layers_pattern="layers",
                                     exclude_modules=r".*experts\.[02]\..*|.*k_proj",
                                     rank_pattern={"experts.1.gate_proj": 3, "gate": 1}, alpha_pattern={"up_proj": 1},
                                     target_modules=["q_proj", "k_proj", "gate_proj", "up_proj", "down_proj", "gate"])),
    # Without layers_pattern the last number of a name counts: an expert's.
    "numbers": ("qwen2_moe", dict(r=1, lora_alpha=1, layers_to_transform=[1], target_modules=["gate_proj", "o_proj"])),
}


FREEZE = [(1, "all", ""), (-1, "all", ""), (5, "mlp", ""), (1, "self_attn,input_layernorm", ""), (-2, "mlp", "lm_head"),
          (1, "mlp", "norm"), (-1, "post_attention_layernorm", "embed_tokens,lm_head"), (2, "all", "norm")]


def freeze(out):
    """LLaMA-Factory's own function, on the tiny llama."""
    # The script of that name beside this one is not what is meant.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != os.path.dirname(HERE)]
    from llamafactory.hparams import FinetuningArguments
    from llamafactory.model.adapter import _setup_freeze_tuning

    for layers, modules, extra in FREEZE:
        model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, "llama"))
        args = FinetuningArguments(finetuning_type="freeze", freeze_trainable_layers=layers,
                                   freeze_trainable_modules=modules, freeze_extra_modules=extra or None)
        _setup_freeze_tuning(model, args, True, False)
        names = sorted(n for n, p in model.named_parameters() if p.requires_grad)
        out.write(f"{layers}|{modules}|{extra}|{','.join(names)}\n")


def saved_name(name):
    """A live parameter's name -> the name in adapter_model.safetensors."""
    return name.replace(".modules_to_save.default.", ".").replace(".default.", ".")


def main():
    torch.manual_seed(0)
    shutil.rmtree(HERE, ignore_errors=True)
    for seed, (name, (cls, config)) in enumerate(BASES.items()):
        model = cls(config).float().eval()
        randomise(model, 500 + seed)
        model.save_pretrained(os.path.join(HERE, name))
        os.remove(os.path.join(HERE, name, "generation_config.json"))
    for seed, (name, (base, args)) in enumerate(CASES.items()):
        where = os.path.join(HERE, name)
        model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, base), attn_implementation="eager")
        before = {k: v.clone() for k, v in model.state_dict().items()}
        peft = get_peft_model(model, LoraConfig(lora_dropout=0.1, bias="none", task_type="CAUSAL_LM", **args)).eval()
        g = torch.Generator().manual_seed(600 + seed)
        for n, p in peft.named_parameters():
            if "lora_B" in n:
                p.data = 0.2 * torch.randn(p.shape, generator=g)
            elif "modules_to_save" in n:
                p.data = p.data + 0.1 * torch.randn(p.shape, generator=g)
        peft.save_pretrained(where)
        os.remove(os.path.join(where, "README.md"))
        path = os.path.join(where, "adapter_config.json")
        cfg = json.load(open(path))
        cfg["base_model_name_or_path"] = "../" + base
        for key in ("target_modules", "modules_to_save"):
            if isinstance(cfg[key], list):
                cfg[key] = sorted(cfg[key])
        json.dump(cfg, open(path, "w"), indent=2, sort_keys=True)

        samples = batch(61, [6, 11, 3, 9], 700 + seed, no_target=2)
        out = pack(samples)

        def grads(prefix):
            for n, p in peft.named_parameters():
                if p.requires_grad:
                    out[prefix + saved_name(n)] = p.grad.clone() if p.grad is not None else torch.zeros_like(p)

        nlls = [forward(peft, i, m)[1] for i, m in samples]
        (sum(n.sum() for n in nlls) / sum(len(n) for n in nlls)).backward()
        out["nll"] = torch.cat(nlls)
        out["loss"] = torch.stack([n.mean() for n in nlls])
        out["n_targets"] = torch.tensor([len(n) for n in nlls])
        grads("grad.")
        peft.zero_grad(set_to_none=True)
        forward(peft, *samples[1])[1].mean().backward()
        grads("sample_grad.1.")
        for n, p in peft.merge_and_unload().state_dict().items():
            if not torch.equal(p, before[n]):
                out["merged." + n] = p
        save_file(tidy(out), os.path.join(where, "ref.safetensors"))
        print(name, out["loss"], sum(k.startswith("merged.") for k in out))
    with open(os.path.join(HERE, "freeze.txt"), "w") as f:
        freeze(f)


if __name__ == "__main__":
    main()

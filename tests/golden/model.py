#!/usr/bin/env python3
"""
Reference tensors for lib/model and lib/train, made with PyTorch, transformers and PEFT.

    python3 tests/golden/model.py [CASE...]  (writes tests/golden/model/CASE, all cases without arguments)

One directory per case, each a tiny random checkpoint:

    config.json model*.safetensors    as transformers' save_pretrained writes them (float32, or as `stored` says)
    adapter/                          a LoRA adapter as PEFT's save_pretrained writes it (alpha = 2 r, nonzero B; its
                                      base_model_name_or_path is "..")
    ref.safetensors
        offsets ids mask              i64: a ragged batch: n + 1 offsets, then the tokens end to end; mask 1 = target
        logits                        [tokens, V]
        nll                           [all targets], sample by sample
        loss n_targets                [n]: mean nll of each sample (NaN without targets) and its number of targets
        grad.NAME                     gradient of the token-mean loss of the batch (sum of nll / all targets)
        sample_grad.S.NAME            gradient of sample S's own mean loss, a batch of one
        gate_load                     [n, layers * experts]: how many tokens each router sent to each expert
        lora.logits                   the same with the adapter; NAME is PEFT's name in adapter_model.safetensors
        lora.loss lora.grad.NAME lora.sample_grad.S.NAME
        lora_init.NAME                [min, max] of a freshly initialised lora_A; PEFT draws uniform +-1/sqrt(in)
        scores                        [n, labels] of a classifier, one sample at a time
        packed.position .sequence     [tokens]: the batch's rows as packed rows of several sequences
        plain.* neat.*                logits, nll, loss of those (neat: grad): attention over the row, or within a sequence
    train.safetensors                 (the first four cases) 20 steps of torch.optim.AdamW; step k trains on batch k mod 4
        offsets ids mask              16 samples; batch b = samples 4b .. 4b+3
        full.loss full.grad_norm      [20] token-mean loss before the update; gradient norm before clipping
        lora.loss lora.grad_norm      [20] from the adapter of adapter/
        lr                            [20] learning rate of each step
        final.NAME                    the full fine-tuning's last values of two parameters
        metadata                      base_lr warmup_steps total_steps weight_decay beta1 beta2 eps max_grad_norm

Training is as transformers' Trainer does it: two parameter groups (weight decay for everything but biases and norm
weights), gradients clipped to a global norm of 1, linear schedule with warm-up (the first step has lr 0).
Losses follow transformers' causal LM rule: logits at t predict token t + 1, sum of the nll over the targets divided by
their number.  Each sample is a call of its own, so that nothing depends on the batch (transformers' dynamic rotary
scaling does).  Weights of 16 bits are computed with in float32.
"""
import json
import math
import os
import shutil
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification,
                          MistralConfig, MistralForCausalLM, MixtralConfig, MixtralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3Config, Qwen3ForCausalLM,
                          Qwen3ForSequenceClassification, Qwen3MoeConfig, Qwen3MoeForCausalLM,
                          get_linear_schedule_with_warmup)

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

COMMON = dict(num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
              pad_token_id=0, attn_implementation="eager", use_cache=False)
SMALL = dict(COMMON, vocab_size=67, hidden_size=16, intermediate_size=24, num_key_value_heads=2, rms_norm_eps=1e-6)
ROPE = dict(SMALL, num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=16,
            rope_theta=1000.0, tie_word_embeddings=False)
MOE = dict(SMALL, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=12, tie_word_embeddings=False)


class Case:
    def __init__(self, cls, config, lengths=(7, 1, 21, 12), no_target=3, samples=(2,), rank=2, targets=LINEAR,
                 train=False, stored=torch.float32, shards=1, bare=False, v5=False, packed=False, lora=True):
        self.__dict__.update(locals())


def old(cls, config):
    return Case(cls, config, (7, 1, 40, 12, 23), samples=(0, 4), rank=4, train=True)


def rope(lora=False, **scaling):
    return Case(LlamaForCausalLM, LlamaConfig(rope_scaling=dict(scaling), **ROPE), (7, 1, 40, 12), lora=lora)


CASES = {
    "llama": old(LlamaForCausalLM, LlamaConfig(
        vocab_size=131, hidden_size=32, intermediate_size=56, num_key_value_heads=4, rms_norm_eps=1e-5,
        tie_word_embeddings=False, **COMMON)),
    "llama-gqa-tied": old(LlamaForCausalLM, LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-6,
        rope_theta=500000.0, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, **COMMON)),
    "qwen2": old(Qwen2ForCausalLM, Qwen2Config(
        vocab_size=103, hidden_size=32, intermediate_size=56, num_key_value_heads=2, rms_norm_eps=1e-6,
        rope_theta=1000000.0, tie_word_embeddings=True, **COMMON)),
    "qwen2-untied": old(Qwen2ForCausalLM, Qwen2Config(
        vocab_size=83, hidden_size=40, intermediate_size=64, num_key_value_heads=1, rms_norm_eps=1e-6,
        rope_theta=10000.0, tie_word_embeddings=False, **COMMON)),
    # Rotary types; lengths on both sides of the 16 positions.
    "llama-linear": rope(rope_type="linear", factor=3.0),
    "llama-dynamic": rope(rope_type="dynamic", factor=2.0, lora=True),
    "llama-llama3": rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                         original_max_position_embeddings=12),
    "llama-yarn": rope(rope_type="yarn", factor=4.0),
    "llama-yarn-mscale": rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=8, beta_fast=4.0,
                              beta_slow=0.5, mscale=1.2, mscale_all_dim=0.4, truncate=False),
    # Files: what transformers 5 writes, 16 bits, several files, names without "model.".
    "llama-v5": Case(LlamaForCausalLM, LlamaConfig(
        rope_scaling=dict(rope_type="yarn", factor=2.0, attention_factor=1.1), **ROPE), (5, 1, 20, 4), samples=(),
        v5=True, lora=False),
    "llama-bf16": Case(LlamaForCausalLM, LlamaConfig(tie_word_embeddings=False, **SMALL), stored=torch.bfloat16,
                       shards=3),
    "llama-f16": Case(LlamaForCausalLM, LlamaConfig(tie_word_embeddings=True, **SMALL), stored=torch.float16,
                      lora=False),
    # Windows, norms of q and k.
    "mistral": Case(MistralForCausalLM, MistralConfig(head_dim=6, sliding_window=5, **SMALL), packed=True),
    "qwen2-window": Case(Qwen2ForCausalLM, Qwen2Config(
        use_sliding_window=True, sliding_window=4, max_window_layers=1, **SMALL), lora=False),
    "qwen3": Case(Qwen3ForCausalLM, Qwen3Config(head_dim=12, tie_word_embeddings=False, **SMALL), packed=True),
    "qwen3-tied": Case(Qwen3ForCausalLM, Qwen3Config(
        head_dim=6, tie_word_embeddings=True, attention_bias=True, use_sliding_window=True, sliding_window=3,
        layer_types=["sliding_attention", "full_attention"], **SMALL), stored=torch.bfloat16, shards=2, bare=True,
        lora=False),
    # Experts.
    "mixtral": Case(MixtralForCausalLM, MixtralConfig(
        num_local_experts=5, num_experts_per_tok=2, **SMALL), targets=LINEAR[:4] + ["w1", "w2", "w3"]),
    "mixtral-window": Case(MixtralForCausalLM, MixtralConfig(
        num_local_experts=3, num_experts_per_tok=2, sliding_window=6, head_dim=6, **SMALL), stored=torch.bfloat16,
        targets=r".*experts\.1\.(w1|w2)|.*layers\.1.*experts\.2\.(w1|w3)|.*layers\.0\.self_attn\.q_proj"),
    "qwen2-moe": Case(Qwen2MoeForCausalLM, Qwen2MoeConfig(shared_expert_intermediate_size=20, **MOE)),
    "qwen2-moe-norm": Case(Qwen2MoeForCausalLM, Qwen2MoeConfig(
        shared_expert_intermediate_size=10, norm_topk_prob=True, qkv_bias=False, mlp_only_layers=[0], **MOE),
        lora=False, packed=True),
    "qwen3-moe": Case(Qwen3MoeForCausalLM, Qwen3MoeConfig(
        head_dim=6, norm_topk_prob=True, **dict(MOE, num_experts_per_tok=3)), targets=LINEAR + ["gate"]),
    "qwen3-moe-step": Case(Qwen3MoeForCausalLM, Qwen3MoeConfig(
        head_dim=8, norm_topk_prob=False, decoder_sparse_step=2, attention_bias=True, use_sliding_window=True,
        sliding_window=5, **MOE), lora=False, shards=2, stored=torch.float16),
    # Scores of a sequence's last token that is no padding.
    "llama-scores": Case(LlamaForSequenceClassification, LlamaConfig(num_labels=3, **SMALL)),
    "qwen3-scores": Case(Qwen3ForSequenceClassification, Qwen3Config(
        num_labels=1, head_dim=12, tie_word_embeddings=True, **SMALL), stored=torch.bfloat16),
}
STEPS, WARMUP, BASE_LR, DECAY = 20, 4, 5e-3, 0.1


def randomise(model, seed):
    """Random weights of a trained model's size, so that no gradient is near zero by construction."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=g)
        if "norm" in name:
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


def fresh(model):
    """Dynamic rotary scaling remembers the longest sequence it saw."""
    for m in model.modules():
        if hasattr(m, "original_inv_freq"):
            m.register_buffer("inv_freq", m.original_inv_freq, persistent=False)
            m.max_seq_len_cached = m.original_max_seq_len


def forward(model, ids, mask, **kw):
    """Logits and the nll of the sample's targets."""
    fresh(model)
    logits = model(input_ids=ids[None], **kw).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")
    return logits, nll[mask[1:] == 1]


def gate_load(model, samples):
    """Tokens that each router sends to each expert, by sample."""
    out, c = [], model.config
    experts = getattr(c, "num_local_experts", None) or c.num_experts
    for ids, _ in samples:
        load = torch.zeros(c.num_hidden_layers, experts)

        def count(i):
            def hook(module, args, logits):
                load[i] = torch.bincount(logits.softmax(-1).topk(c.num_experts_per_tok).indices.flatten(),
                                         minlength=experts).float()
            return hook
        gates = [(i, getattr(l, "block_sparse_moe", None) or l.mlp) for i, l in enumerate(model.model.layers)]
        hooks = [m.gate.register_forward_hook(count(i)) for i, m in gates if hasattr(m, "gate")]
        with torch.no_grad():
            model(input_ids=ids[None])
        for h in hooks:
            h.remove()
        out.append(load.flatten())
    return torch.stack(out)


def saved_name(name):
    """PEFT's live name -> the name in adapter_model.safetensors."""
    return name.replace(".default.", ".")


def grads(model, trainable, out, prefix):
    for name, p in model.named_parameters():
        if trainable(name):
            out[prefix + saved_name(name)] = p.grad.clone() if p.grad is not None else torch.zeros_like(p)


def reference(model, samples, trainable, prefix, which, extra=None):
    """extra: keyword arguments of each sample's forward."""
    out = {}
    extra = extra or [{}] * len(samples)
    model.zero_grad(set_to_none=True)
    logits, nlls = zip(*[forward(model, i, m, **kw) for (i, m), kw in zip(samples, extra)])
    total = sum(len(n) for n in nlls)
    (sum(n.sum() for n in nlls) / total).backward()
    out[prefix + "logits"] = torch.cat(logits).detach()
    out[prefix + "nll"] = torch.cat(nlls).detach()
    out[prefix + "loss"] = torch.stack([n.mean() for n in nlls]).detach()
    out[prefix + "n_targets"] = torch.tensor([len(n) for n in nlls])
    grads(model, trainable, out, prefix + "grad.")
    for s in which:
        model.zero_grad(set_to_none=True)
        forward(model, *samples[s], **extra[s])[1].mean().backward()
        grads(model, trainable, out, f"{prefix}sample_grad.{s}.")
    return out


def packed(model, samples):
    """The rows as packed rows: their thirds are sequences.  Positions start anew in each."""
    out, plain, neat = {}, [], []
    position, sequence = [], []
    for ids, _ in samples:
        cut = [0, len(ids) // 3, len(ids) // 2, len(ids)]
        p = torch.cat([torch.arange(b - a) for a, b in zip(cut, cut[1:])])
        q = torch.cat([torch.full((b - a,), i + 1) for i, (a, b) in enumerate(zip(cut, cut[1:]))])
        position.append(p)
        sequence.append(q)
        plain.append(dict(position_ids=p[None], attention_mask=torch.ones_like(ids)[None]))
        # The mask that neat packing gives: causal within a sequence, and no farther than the window.
        n, w = torch.arange(len(ids)), getattr(model.config, "sliding_window", None) or 1 << 30
        see = (q[:, None] == q[None]) & (n[None] <= n[:, None]) & (n[None] > n[:, None] - w)
        neat.append(dict(position_ids=p[None], attention_mask=torch.where(
            see, 0.0, torch.finfo(torch.float32).min)[None, None]))
    out["packed.position"], out["packed.sequence"] = torch.cat(position), torch.cat(sequence)
    out.update(reference(model, samples, lambda n: False, "plain.", [], plain))
    out.update(reference(model, samples, lambda n: True, "neat.", [], neat))
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


def store(case, where, model):
    """The checkpoint's files as the case wants them; returns a float32 model from them."""
    model.to(case.stored).save_pretrained(where)
    for name in ("generation_config.json",):
        if os.path.exists(os.path.join(where, name)):
            os.remove(os.path.join(where, name))
    path = os.path.join(where, "model.safetensors")
    tensors = load_file(path)
    model = case.cls.from_pretrained(where, attn_implementation="eager", dtype=torch.float32).eval()
    if case.bare:
        tensors = {k.removeprefix("model."): v for k, v in tensors.items()}
    if case.bare or case.shards > 1:
        os.remove(path)
        names = sorted(tensors)
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {}}
        for f in range(case.shards):
            file = "model.safetensors" if case.shards == 1 else f"model-{f + 1:05d}-of-{case.shards:05d}.safetensors"
            part = {n: tensors[n].contiguous() for n in names[f::case.shards]}
            save_file(part, os.path.join(where, file), metadata={"format": "pt"})
            index["weight_map"].update({n: file for n in part})
        if case.shards > 1:
            json.dump(index, open(os.path.join(where, "model.safetensors.index.json"), "w"), indent=1, sort_keys=True)
    if case.v5:
        path = os.path.join(where, "config.json")
        cfg = json.load(open(path))
        cfg["rope_parameters"] = dict(cfg.pop("rope_scaling"), rope_theta=cfg.pop("rope_theta"))
        cfg.pop("torch_dtype", None)
        cfg["dtype"], cfg["transformers_version"] = "float32", "5.0.0"
        json.dump(cfg, open(path, "w"), indent=2, sort_keys=True)
    return model


def make_adapter(case, where, base, ref, seed):
    lora = LoraConfig(r=case.rank, lora_alpha=2 * case.rank, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                      target_modules=case.targets)
    peft = get_peft_model(base, lora).eval()
    state = get_peft_model_state_dict(peft)
    for name, p in state.items():
        if "lora_A" in name:
            assert p.abs().max() <= 1 / math.sqrt(p.shape[1])
            if case.train:
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
    if not isinstance(case.targets, str):
        cfg["target_modules"] = sorted(cfg["target_modules"])
    json.dump(cfg, open(path, "w"), indent=2, sort_keys=True)
    return peft


def make_training(case, where, seed):
    adapter = os.path.join(where, "adapter")
    rows = batch(case.config.vocab_size, [9, 24, 5, 17, 30, 6, 12, 12, 8, 21, 16, 3, 40, 4, 11, 7], 400 + seed)
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


def make(name, case, seed):
    where = os.path.join(HERE, "model", name)
    shutil.rmtree(where, ignore_errors=True)
    torch.manual_seed(seed)
    model = case.cls(case.config).float().eval()
    randomise(model, 100 + seed)
    model.tie_weights()
    model = store(case, where, model)
    samples = batch(case.config.vocab_size, case.lengths, 200 + seed, no_target=case.no_target)
    ref = pack(samples)
    if "ForSequenceClassification" in case.cls.__name__:
        ref["ids"][ref["offsets"][1] - 1] = 0  # a sample that ends in padding
        at = ref["offsets"].tolist()
        with torch.no_grad():
            ref["scores"] = torch.cat([model(input_ids=ref["ids"][a:b][None]).logits for a, b in zip(at, at[1:])])
    else:
        ref.update(reference(model, samples, lambda n: True, "", case.samples))
        if "Moe" in case.cls.__name__ or "Mixtral" in case.cls.__name__:
            ref["gate_load"] = gate_load(model, samples)
        if case.packed:
            ref.update(packed(model, samples))
        if case.lora:
            peft = make_adapter(case, where, model, ref, seed)
            ref.update(reference(peft, samples, lambda n: "lora_" in n, "lora.", case.samples))
    save_file(tidy(ref), os.path.join(where, "ref.safetensors"))
    if case.train:
        make_training(case, where, seed)
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(where) for f in fs)
    print(f"{name}: {size} bytes, loss {ref['loss'].tolist() if 'loss' in ref else ref['scores'].tolist()}")


def main():
    for seed, (name, case) in enumerate(CASES.items()):
        if len(sys.argv) < 2 or name in sys.argv[1:]:
            make(name, case, seed)


if __name__ == "__main__":
    main()

"""The peer of df-train: the same model, data, batch and optimiser in PyTorch.

    torch_train.py MODEL_DIR POOL.h5 STEPS BATCH THREADS [LORA_RANK]

Full fine-tuning, or LoRA on all linear layers with PEFT, in float32 from config.json alone: AdamW with weight decay
groups, clipping and a cosine schedule, batches padded to the longest sample
rounded up to a multiple of 8, SDPA attention.  Prints the seconds of the
steps after two to warm up, scaled to all of them: no import, no loading, no compile time.
"""
import sys
import time

import h5py
import hdf5plugin  # noqa: F401  (registers zstd)
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, get_scheduler

model_dir, pool, steps, batch, threads = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
torch.set_num_threads(threads)
torch.manual_seed(0)
with h5py.File(pool) as f:
    ids, mask, offsets = f["tokens/ids"][:], f["tokens/label_mask"][:], f["tokens/offsets"][:]
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_dir), attn_implementation="sdpa").float()
if len(sys.argv) > 6:
    from peft import LoraConfig, get_peft_model

    rank = int(sys.argv[6])
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
trained = [p for p in model.parameters() if p.requires_grad]
decay = [p for p in trained if p.dim() > 1]
rest = [p for p in trained if p.dim() <= 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-3)
sched = get_scheduler("cosine", opt, num_warmup_steps=2, num_training_steps=steps)
order = np.random.default_rng(0).permutation(len(offsets) - 1)
tokens, t0 = 0, None
for step in range(steps):
    if step == 2:
        tokens, t0 = 0, time.perf_counter()
    rows = [order[(step * batch + i) % len(order)] for i in range(batch)]
    longest = max(int(offsets[r + 1] - offsets[r]) for r in rows)
    longest = (longest + 7) // 8 * 8
    x = torch.zeros(batch, longest, dtype=torch.long)
    y = torch.full((batch, longest), -100)
    att = torch.zeros(batch, longest, dtype=torch.long)
    for i, r in enumerate(rows):
        a, b = int(offsets[r]), int(offsets[r + 1])
        t = torch.from_numpy(ids[a:b].astype(np.int64))
        x[i, : b - a] = t
        y[i, : b - a] = torch.where(torch.from_numpy(mask[a:b] != 0), t, -100)
        att[i, : b - a] = 1
        tokens += b - a
    loss = model(input_ids=x, attention_mask=att, labels=y, use_cache=False).loss
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    opt.step()
    sched.step()
secs = (time.perf_counter() - t0) * steps / (steps - 2)
print(f"seconds {secs:.4f} tokens_per_second {tokens / (secs * (steps - 2) / steps):.0f} loss {loss.item():.4f} torch {torch.__version__}")

#!/usr/bin/env python3
"""
Learning rates of transformers' schedules, for tests/unit/test_schedule.c.

    python3 tests/golden/schedule.py > tests/golden/schedule.txt

Each block: `schedule NAME lr=LR steps=N warmup=W KEY=VALUE...`, then one line per step index: the learning rate before
that step.  warmup_stable_decay without num_stable_steps gets LLaMA-Factory's defaults (create_custom_scheduler in
llamafactory/train/trainer_utils.py).
"""
import torch
from transformers import get_scheduler

CASES = [
    ("constant", 1e-3, 12, 4, {}),
    ("constant_with_warmup", 1e-3, 12, 4, {}),
    ("linear", 5e-5, 20, 0, {}),
    ("linear", 2e-3, 23, 5, {}),
    ("cosine", 2e-3, 23, 5, {}),
    ("cosine", 2e-3, 23, 0, {"num_cycles": 1.25}),
    ("cosine_with_restarts", 2e-3, 23, 5, {}),
    ("cosine_with_restarts", 2e-3, 23, 2, {"num_cycles": 3}),
    ("polynomial", 2e-3, 23, 5, {}),
    ("polynomial", 2e-3, 23, 3, {"lr_end": 1e-5, "power": 2.5}),
    ("inverse_sqrt", 2e-3, 23, 5, {}),
    ("inverse_sqrt", 2e-3, 23, 0, {}),
    ("cosine_with_min_lr", 2e-3, 23, 5, {"min_lr": 2e-4}),
    ("cosine_with_min_lr", 2e-3, 23, 5, {"min_lr_rate": 0.25}),
    ("warmup_stable_decay", 2e-3, 30, 6, {}),
    ("warmup_stable_decay", 2e-3, 31, 5, {"decay_type": "linear", "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", 2e-3, 31, 5, {"num_stable_steps": 7, "num_decay_steps": 11, "warmup_type": "1-sqrt",
                                          "decay_type": "1-sqrt"}),
    ("warmup_stable_decay", 2e-3, 31, 5, {"warmup_type": "cosine", "decay_type": "cosine", "min_lr_ratio": 0.05}),
]


def main():
    for name, lr, steps, warmup, kwargs in CASES:
        given = "".join(f" {k}={v}" for k, v in kwargs.items())
        print(f"schedule {name} lr={lr} steps={steps} warmup={warmup}{given}")
        if name == "warmup_stable_decay":
            stable = (steps - warmup) // 3
            kwargs = {"num_stable_steps": stable, "num_decay_steps": steps - warmup - stable, **kwargs}
        opt = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        sched = get_scheduler(name, opt, num_warmup_steps=warmup, num_training_steps=steps,
                              scheduler_specific_kwargs=kwargs)
        for _ in range(steps + 3):
            print(repr(float(sched.get_last_lr()[0])))
            opt.step()
            sched.step()


if __name__ == "__main__":
    main()

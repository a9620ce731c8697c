#!/usr/bin/env python3
"""
When transformers' Trainer logs, evaluates and saves, for tests/cmd/df-train-keys.t.

    python3 tests/golden/strategies.py > tests/golden/strategies.txt

Each `run` line has the keys of a run over 23 rows, then what the Trainer did: all steps, and the steps it logged at,
`|`, evaluated after, `|`, and saved after.  Each `best` line has the metrics of evaluations every 2 steps (a run with
save_strategy: best), `|`, and the steps that were saved.
"""
import contextlib
import io
import os
import sys
import tempfile

sys.path.pop(0)  # no file of this directory may be found in a package's place

import torch  # noqa: E402
from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402

ROWS = 23
RUNS = [
    "per_device_train_batch_size=4 num_train_epochs=2 logging_steps=3 save_steps=4",
    "per_device_train_batch_size=4 num_train_epochs=2 logging_steps=3 save_steps=4 dataloader_drop_last=true",
    "per_device_train_batch_size=4 gradient_accumulation_steps=2 num_train_epochs=2 logging_steps=1"
    " dataloader_drop_last=true save_strategy=epoch",
    "per_device_train_batch_size=6 gradient_accumulation_steps=3 num_train_epochs=3 logging_steps=1"
    " dataloader_drop_last=true save_strategy=epoch",
    "per_device_train_batch_size=4 num_train_epochs=1.5 dataloader_drop_last=true logging_strategy=epoch"
    " save_strategy=no",
    "per_device_train_batch_size=4 num_train_epochs=3 logging_strategy=epoch save_strategy=epoch",
    "per_device_train_batch_size=4 max_steps=14 logging_strategy=epoch logging_first_step=true save_steps=5",
    "per_device_train_batch_size=4 num_train_epochs=2 logging_strategy=no save_strategy=epoch",
    "per_device_train_batch_size=4 num_train_epochs=2 logging_strategy=no logging_first_step=true save_strategy=no",
    "per_device_train_batch_size=4 num_train_epochs=2 logging_strategy=epoch eval_strategy=steps eval_steps=5"
    " save_steps=5",
]
BEST = ["3 2 2.5 2 1.5 1.5 1 4", "nan 5 6 4", "1 2 3", "-1 -1 -2 0"]


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, labels=None):
        return {"loss": ((self.w * x - labels) ** 2).mean()}


class Watch(TrainerCallback):
    def __init__(self):
        self.logs, self.evals, self.saves = [], [], []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.logs.append(state.global_step)

    def on_evaluate(self, args, state, control, **kwargs):
        self.evals.append(state.global_step)

    def on_save(self, args, state, control, **kwargs):
        self.saves.append(state.global_step)


class Scripted(Trainer):
    """Evaluations whose metric is given."""

    metrics = None

    def evaluate(self, *args, **kwargs):
        m = {"eval_loss": self.metrics.pop(0) if self.metrics else 1.0}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, m)
        return m


def value(text):
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text


def train(keys, metrics=None):
    rows = [{"x": torch.tensor([1.0]), "labels": torch.tensor([1.0])} for _ in range(ROWS)]
    watch = Watch()
    with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(io.StringIO()):
        args = TrainingArguments(output_dir=d, report_to="none", use_cpu=True, disable_tqdm=True, **keys)
        t = Scripted(Tiny(), args, train_dataset=rows, eval_dataset=rows, callbacks=[watch])
        t.metrics = metrics
        t.train()
        return watch, t.state.max_steps


def steps(numbers):
    return " ".join(str(n) for n in numbers)


def main():
    for keys in RUNS:
        watch, n = train({k: value(v) for k, v in (word.split("=") for word in keys.split())})
        print(f"run {keys} : {n} : {steps(watch.logs)} | {steps(watch.evals)} | {steps(watch.saves)}")
    for metrics in BEST:
        numbers = [float(x) for x in metrics.split()]
        watch, _ = train({"max_steps": 2 * len(numbers), "eval_strategy": "steps", "eval_steps": 2,
                          "save_strategy": "best", "metric_for_best_model": "loss"}, numbers)
        print(f"best {metrics} | {steps(watch.saves)}")


if __name__ == "__main__":
    main()

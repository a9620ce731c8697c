#!/usr/bin/env python3
"""
What df-train says of each argument of the installed LLaMA-Factory, for tests/unit/test_config.c.

    python3 tests/golden/llamafactory_keys.py [DF_TRAIN] > tests/golden/llamafactory_keys.txt

One line an argument, class by class: its name, a value that asks for nothing (its default, as YAML), and the answer:
supported, checked (against the tokens), ignored or rejected with the reason, or unknown.  Then how many there are of
each.  Arguments of `llamafactory-cli eval` are no arguments of training; what asks for nothing is null there.
"""
import dataclasses
import enum
import importlib.metadata
import json
import os
import subprocess
import sys

sys.path.pop(0)  # no file of this directory may be found in a package's place

from llamafactory.hparams import (  # noqa: E402
    DataArguments, EvaluationArguments, FinetuningArguments, GeneratingArguments, ModelArguments, TrainingArguments)

HERE = os.path.dirname(os.path.abspath(__file__))


def answers(program):
    """name -> what `df-train --list-keys` says of it"""
    text = subprocess.run([program, "--list-keys"], check=True, capture_output=True, text=True).stdout
    said = {}
    for name, state, _, _, reason, *_ in (line.split("\t") for line in text.splitlines()):
        said[name] = (state, f"{state}: {reason}" if state in ("ignored", "rejected") else state)
    return said


def default(field):
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = None if field.default is dataclasses.MISSING else field.default
    return json.dumps(value.value if isinstance(value, enum.Enum) else value)


def owner(cls, name):
    """The class that declares the argument, of those that cls inherits from."""
    return next(c.__name__ for c in cls.__mro__ if name in c.__dict__.get("__annotations__", {}))


def main():
    said = answers(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "../../build/bin/df-train"))
    count = {state: 0 for state in ("supported", "checked", "ignored", "rejected", "unknown")}
    seen = set()
    print(f"# LLaMA-Factory {importlib.metadata.version('llamafactory')},"
          f" transformers {importlib.metadata.version('transformers')}")
    for cls in (ModelArguments, DataArguments, TrainingArguments, FinetuningArguments, GeneratingArguments,
                EvaluationArguments):
        title = None
        for field in dataclasses.fields(cls):
            if field.name in seen or not field.init:
                continue
            seen.add(field.name)
            if title != owner(cls, field.name):
                title = owner(cls, field.name)
                print(f"# {title}")
            state, answer = said.get(field.name, ("unknown", "unknown"))
            count[state] += cls is not EvaluationArguments
            print(field.name, "null" if cls is EvaluationArguments else default(field), answer, sep="\t")
    print(f"# of {sum(count.values())} arguments of training: " + ", ".join(f"{n} {s}" for s, n in count.items()))


if __name__ == "__main__":
    main()

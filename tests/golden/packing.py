#!/usr/bin/env python3
"""Packed rows as LLaMA-Factory itself makes them, for test_pack.

    python3 tests/golden/packing.py        # rewrites tests/golden/packing/

Needs llamafactory 0.9.4 and datasets.  Two small datasets, some of whose rows are invalid, go through
its own parser, converters, mixing, preprocessing batches and processors.  What is written is what it trains on less
the padding: ids, runs of the label mask, the lengths of a pack's examples (from its position ids, and, with
neat_packing, compared with the numbers in its attention mask), and the datasets that rows come from.
"""
import importlib.machinery
import json
import os
import random
import sys
import types

sys.path.pop(0)  # this file must not be found in the package's place
sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # never called here
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

from datasets import Dataset, concatenate_datasets, interleave_datasets  # noqa: E402
from llamafactory.data.converter import get_dataset_converter  # noqa: E402
from llamafactory.data.data_utils import merge_dataset  # noqa: E402
from llamafactory.data.parser import get_dataset_list  # noqa: E402
from llamafactory.data.processor.supervised import PackedSupervisedDatasetProcessor  # noqa: E402
from llamafactory.data.template import get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import DataArguments  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "packing")
WORDS = "one two three four five six seven eight nine ten".split()
INFO = {
    "a": {"file_name": "a.json"},
    "b": {"file_name": "b.jsonl", "formatting": "sharegpt"},
}


def make_rows():
    draw = random.Random(5)

    def text(most):
        return " ".join(draw.choice(WORDS) for _ in range(draw.randrange(1, most)))

    a = [{"instruction": text(12), "input": "", "output": text(16)} for _ in range(40)]
    b = []
    for i in range(24):
        turns = [{"from": ("human", "gpt")[k % 2], "value": text(9)} for k in range(2 * draw.randrange(1, 4))]
        if i % 5 == 1:
            turns = turns[:-1]  # dropped: a question without an answer
        b.append({"conversations": turns})
    b[7] = {"conversations": []}  # dropped
    b[20]["conversations"] = [{"from": "human", "value": "x " * 90}, {"from": "gpt", "value": "y " * 90}]  # cut
    return {"a": a, "b": b}


def make_tokenizer(rows):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                                  show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator([json.dumps(r) for r in rows["a"]], trainer)
    os.makedirs(os.path.join(OUT, "tokenizer"), exist_ok=True)
    tok.save(os.path.join(OUT, "tokenizer", "tokenizer.json"))
    with open(os.path.join(OUT, "tokenizer", "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump({"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}, f, indent=1)
        f.write("\n")


def runs(labels):
    """Lengths of alternating runs of the label mask, beginning with masked positions."""
    out, value = [0], 0
    for label in labels:
        now = int(label != -100)
        if now != value:
            out.append(0)
            value = now
        out[-1] += 1
    return out


def unpad(row, cutoff, neat):
    """A pack without its padding, and the lengths of its examples."""
    ids, labels, mask, position = row["input_ids"], row["labels"], row["attention_mask"], row["position_ids"]
    assert len(ids) == len(labels) == len(mask) == len(position) == cutoff
    n = len(ids)
    while n > 0 and position[n - 1] == 0:  # padding; no example has a single token here
        n -= 1
    assert all(label == -100 for label in labels[n:])
    lengths = []
    for p in position[:n]:
        if p == 0:
            lengths.append(0)
        lengths[-1] += 1
    numbers = [i + 1 for i, length in enumerate(lengths) for _ in range(length)]
    assert mask == (numbers + [0] * (len(ids) - n) if neat else [1] * len(ids))
    assert position[:n] == [p for length in lengths for p in range(length)]
    return [ids[:n], runs(labels[:n]), lengths]


def case(rows, names, template, cutoff, batch, shards, **options):
    args = DataArguments(template=template, cutoff_len=cutoff, packing=True, **options)
    tok = PreTrainedTokenizerFast(tokenizer_file=os.path.join(OUT, "tokenizer", "tokenizer.json"),
                                  eos_token="<|endoftext|>")
    parts = []
    for attr in get_dataset_list(names, OUT):
        converter = get_dataset_converter(attr.formatting, attr, args)
        name = attr.dataset_name.split(".")[0]
        parts.append(Dataset.from_list([converter(row) for row in rows[name]][:options.get("max_samples")]))
    data = merge_dataset(parts, args, seed=1)
    processor = PackedSupervisedDatasetProcessor(template=get_template_and_fix_tokenizer(tok, args), tokenizer=tok,
                                                 processor=None, data_args=args)
    packs = []
    for i in range(min(shards, len(data))):  # map(num_proc=shards)
        part = data.shard(num_shards=shards, index=i, contiguous=True)
        packs += list(part.map(processor.preprocess_dataset, batched=True, batch_size=batch,
                               remove_columns=data.column_names))
    return dict(datasets=",".join(names), template=template, cutoff_len=cutoff, batch=batch, shards=shards, **options,
                rows=[unpad(p, cutoff, args.neat_packing) for p in packs])


def orders():
    """interleave_datasets in turn: the dataset of each row, and the row."""
    out = []
    for lengths in ([3, 4, 5], [5, 4, 3], [1, 7], [4], [6, 6]):
        parts = [Dataset.from_dict({"part": [i] * n, "row": list(range(n))}) for i, n in enumerate(lengths)]
        for mix, stop in (("interleave_under", "first_exhausted"), ("interleave_over", "all_exhausted")):
            got = interleave_datasets(parts, stopping_strategy=stop)
            out.append(dict(mix=mix, lengths=lengths, order=[[r["part"], r["row"]] for r in got]))
        got = concatenate_datasets(parts)
        out.append(dict(mix="concat", lengths=lengths, order=[[r["part"], r["row"]] for r in got]))
    return out


def main():
    os.makedirs(OUT, exist_ok=True)
    rows = make_rows()
    with open(os.path.join(OUT, "a.json"), "w", encoding="utf-8") as f:
        json.dump(rows["a"], f, indent=0)
        f.write("\n")
    with open(os.path.join(OUT, "b.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows["b"])
    with open(os.path.join(OUT, "dataset_info.json"), "w", encoding="utf-8") as f:
        json.dump(INFO, f, indent=1)
        f.write("\n")
    make_tokenizer(rows)
    cases = [
        case(rows, ["a"], "chatml", 128, 1000, 1, neat_packing=True),
        case(rows, ["a"], "chatml", 128, 1000, 1),
        case(rows, ["a", "b"], "chatml", 100, 16, 1, neat_packing=True),
        case(rows, ["a", "b"], "alpaca", 160, 10, 3, neat_packing=True),
        case(rows, ["b", "a"], "default", 64, 7, 2, neat_packing=True, max_samples=19),
        case(rows, ["b"], "chatml", 96, 5, 1, train_on_prompt=True),
        case(rows, ["b"], "chatml", 96, 1000, 1, mask_history=True, neat_packing=True),
        case(rows, ["a", "b"], "chatml", 100, 9, 1, mix_strategy="interleave_under", neat_packing=True),
        case(rows, ["b", "a"], "chatml", 100, 20, 2, mix_strategy="interleave_over", neat_packing=True),
    ]
    with open(os.path.join(OUT, "expected.json"), "w", encoding="utf-8") as f:
        f.write('{"cases": [\n')
        f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
        f.write('\n], "orders": [\n')
        f.write(",\n".join(json.dumps(o, separators=(",", ":")) for o in orders()))
        f.write("\n]}\n")


if __name__ == "__main__":
    main()

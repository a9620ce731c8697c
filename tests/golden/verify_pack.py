#!/usr/bin/env python3
"""Compare what df-pack wrote with what LLaMA-Factory makes of the same rows, tokenizer and template.

    df-pack --dataset-dir DIR --dataset NAME --tokenizer TOK --template T --cutoff-len 512 -o out.h5
    python3 tests/golden/verify_pack.py out.h5 TOK DIR NAME T cutoff_len=512 [mask_history=true ...]

For your own data and the tokenizers of real models, which are no part of this repository.  Stage sft, one
dataset, no packing.  Needs h5py, llamafactory 0.9.4 and what llamafactory.py beside this file needs; the options are
LLaMA-Factory's data arguments, and date=YYYY-MM-DD.
"""
import datetime
import importlib.util
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def load_golden():
    """llamafactory.py beside this file, under another name than the package's."""
    spec = importlib.util.spec_from_file_location("golden", os.path.join(HERE, "llamafactory.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_rows(path):
    files = sorted(os.path.join(path, f) for f in os.listdir(path)) if os.path.isdir(path) else [path]
    for name in files:
        with open(name, encoding="utf-8") as f:
            text = f.read()
        if text.lstrip().startswith("["):
            yield from json.loads(text)
        else:
            yield from (json.loads(line) for line in text.split("\n") if line.strip())


def main():
    out, tokenizer, directory, dataset, template = sys.argv[1:6]
    options = dict(word.split("=", 1) for word in sys.argv[6:])
    golden = load_golden()
    import h5py
    import hdf5plugin  # noqa: F401
    from transformers import AutoTokenizer

    date = options.pop("date", None)
    if date:
        class Today(datetime.datetime):
            @classmethod
            def now(cls, tz=None):
                return cls.fromisoformat(date)
        golden.tool_utils.datetime = Today
    options = {k: json.loads(v) if v in ("true", "false", "null") or v.isdigit() else v for k, v in options.items()}
    thinking = options.pop("enable_thinking", True)
    args = golden.DataArguments(template=template, **options)
    args.enable_thinking = thinking
    tok = AutoTokenizer.from_pretrained(tokenizer, split_special_tokens=options.get("split_special_tokens", False))
    t = golden.get_template_and_fix_tokenizer(tok, args)
    processor = golden.SupervisedDatasetProcessor(template=t, tokenizer=tok, processor=None, data_args=args)
    attr = golden.get_dataset_list([dataset], directory)[0]
    converter = golden.get_dataset_converter(attr.formatting, attr, args)
    rows = list(read_rows(os.path.join(directory, attr.dataset_name)))
    keys = {k for row in rows for k in row}
    with h5py.File(out) as f:
        ids, mask, at = f["tokens/ids"][:], f["tokens/label_mask"][:], f["tokens/offsets"][:]
        source = f["sample/source_row"][:]
    have = {int(row): (ids[at[i]:at[i + 1]].tolist(), mask[at[i]:at[i + 1]].tolist()) for i, row in enumerate(source)}
    n = n_tokens = 0
    for i, row in enumerate(rows):
        want = processor.preprocess_dataset(golden.columns([converter({k: row.get(k) for k in keys})]))
        if not want.get("input_ids"):
            assert i not in have, f"row {i}: LLaMA-Factory drops it"
            continue
        assert i in have, f"row {i}: df-pack dropped it"
        got, m = have[i]
        assert got == want["input_ids"][0], f"row {i}: the ids differ"
        labels = [-100 if k == 0 else got[j] if k == 1 else got[-1] for j, k in enumerate(m)]
        assert labels == want["labels"][0], f"row {i}: the labels differ"
        n += 1
        n_tokens += len(got)
    assert n == len(have), f"{len(have)} rows, LLaMA-Factory has {n}"
    print(f"{dataset}, {template}, {tokenizer}: {n} rows, {n_tokens} tokens: equal")


if __name__ == "__main__":
    main()

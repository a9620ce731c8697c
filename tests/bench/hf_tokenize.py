"""The peer of df-pack: datasets.map over Hugging Face's fast tokenizer.

    hf_tokenize.py TOKENIZER_DIR DATA.json CUTOFF PROCS

Prompt and answer of each Alpaca row are tokenised as the alpaca template cuts
them, labels masked, as a preprocessing function for SFT does.  Prints the seconds
of the map alone: no import, no reading of JSON.
"""
import sys
import time

import datasets
from transformers import PreTrainedTokenizerFast

tok_dir, data, cutoff, procs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
datasets.disable_caching()
datasets.disable_progress_bars()
tok = PreTrainedTokenizerFast(tokenizer_file=tok_dir + "/tokenizer.json")
SYSTEM = "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"


def encode(rows):
    sources, targets = [], []
    for ins, inp, out in zip(rows["instruction"], rows["input"], rows["output"]):
        text = ins + ("\n" + inp if inp else "")
        sources.append(SYSTEM + "### Instruction:\n" + text + "\n\n### Response:\n")
        targets.append(out)
    s = tok(sources, add_special_tokens=False)["input_ids"]
    t = tok(targets, add_special_tokens=False)["input_ids"]
    ids = [(a + b)[:cutoff] for a, b in zip(s, t)]
    labels = [([-100] * len(a) + b)[:cutoff] for a, b in zip(s, t)]
    return {"input_ids": ids, "labels": labels}


ds = datasets.load_dataset("json", data_files=data, split="train")
t0 = time.perf_counter()
out = ds.map(encode, batched=True, num_proc=procs, remove_columns=ds.column_names)
secs = time.perf_counter() - t0
print(f"seconds {secs:.4f} rows {len(out)} tokens {sum(map(len, out['input_ids']))} datasets {datasets.__version__}")

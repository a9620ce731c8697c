#!/usr/bin/env python3
"""
Do the datasets that df-show --export writes load elsewhere, and are they the chosen rows?

    PATH=$PWD/build/bin:$PATH python3 tests/golden/verify_selected.py | tee tests/golden/verify_selected.txt

Rows in the formats alpaca, sharegpt and openai, as JSON and JSONL, are packed; df-score chooses some, df-show --export
writes them, with and without ranks and scores.  Then

  LLaMA-Factory   its own loader reads the export by its dataset_info.json: its aligned rows are those of the source, read
                  by the same loader, in the order of the index
  datasets        load_dataset("json") reads each file: its rows are the source's, and the new columns are numbers
  TRL             what is chat is one for trl too (openai as it is, sharegpt through maybe_convert_to_chatml), and alpaca's
                  columns renamed to prompt and completion are a prompt-completion dataset
"""
import importlib.machinery
import json
import os
import subprocess
import sys
import tempfile
import types
from importlib.metadata import version

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("LLAMAFACTORY_VERBOSITY", "WARNING")
sys.path.pop(0)  # a file beside this one is called llamafactory.py
audio = types.ModuleType("torchaudio")  # LLaMA-Factory's dataset classes ask for it; nothing here does
audio.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
sys.modules["torchaudio"] = audio
import datasets
import trl
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments
from trl.data_utils import is_conversational, maybe_convert_to_chatml

datasets.disable_progress_bars()
OPENAI = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}
INFO = {
    "alpaca": {"file_name": "alpaca.json"},
    "lines": {"file_name": "lines.jsonl", "columns": {"prompt": "ask", "response": "say"}},
    "sharegpt": {"file_name": "sharegpt.jsonl", "formatting": "sharegpt", "columns": {"messages": "conversations"}},
    "openai": {"file_name": "openai.json", "formatting": "openai", "columns": {"messages": "messages"}, "tags": OPENAI},
}
good = True


def check(what, ok):
    global good
    good &= bool(ok)
    print(f"{what}: {'ok' if ok else 'FAILED'}")


def source(name, i):
    if name == "alpaca":
        return {"instruction": f"Add {i} and \"{3 * i}\".", "input": "" if i % 2 else f"line\n{i} é", "output": str(4 * i)}
    if name == "lines":
        return {"ask": f"你好 {i}", "say": f"\t{i}", "score_of_mine": i / 7}
    if name == "sharegpt":
        turns = [("human", f"q{i}"), ("gpt", f"a{i}"), ("human", "more"), ("gpt", "\U0001f600")]
        return {"conversations": [{"from": who, "value": text} for who, text in turns[: 2 + 2 * (i % 2)]]}
    turns = [("system", "be short"), ("user", f"q{i}"), ("assistant", f"a{i}")]
    return {"messages": [{"role": who, "content": text} for who, text in turns]}


def write(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        if path.endswith(".json"):
            json.dump(rows, f, ensure_ascii=False)
        else:
            f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def factory(folder, name, work):
    """The rows of a dataset as LLaMA-Factory has them after its alignment."""
    args = DataArguments(dataset=name, dataset_dir=folder, preprocessing_num_workers=1, overwrite_cache=True)
    attr, = get_dataset_list([name], folder)
    training = Seq2SeqTrainingArguments(output_dir=work, do_train=True, use_cpu=True)
    return list(_load_single_dataset(attr, ModelArguments(model_name_or_path="none"), args, training))


def text(rows):
    """Without columns that only say where a row is; numbers as JSON has them."""
    return [json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows]


def chosen(name):
    """The rows of a dataset that the index has, in its order, from its file in HDF5."""
    first = {n: 30 * i for i, n in enumerate(INFO)}
    return [i - first[name] for i in ids if first[name] <= i < first[name] + 30]


def verify(name, out, scores, work):
    path = os.path.join(out, INFO[name]["file_name"])
    rows = chosen(name)
    want = [source(name, i) for i in rows]
    what = f"{name}{' with scores' if scores else ''}, {len(rows)} rows"
    aligned = factory("data", name, work)
    check(f"LLaMA-Factory, {what}", rows and text(factory(out, name, work)) == text([aligned[i] for i in rows]))

    loaded = datasets.load_dataset("json", data_files=path, split="train", cache_dir=os.path.join(work, "cache"))
    extra = [c for c in loaded.column_names if c.startswith("less_")]
    check(f"datasets, {what}", text(loaded.remove_columns(extra)) == text(want))
    if scores:
        check(f"datasets, {what}: numbers",
              loaded.features["less_rank"].dtype == "int64" and loaded.features["less_score"].dtype == "float64"
              and [ids[r] for r in loaded["less_rank"]] == [30 * list(INFO).index(name) + i for i in rows])
    if name in ("alpaca", "lines"):
        asked, said = ("instruction", "output") if name == "alpaca" else ("ask", "say")
        pairs = loaded.rename_columns({asked: "prompt", said: "completion"})
        check(f"TRL, {what}", {"prompt", "completion"} <= set(pairs.column_names) and not is_conversational(pairs[0]))
    else:
        chat = [maybe_convert_to_chatml(dict(row)) for row in loaded]
        check(f"TRL, {what}", all(is_conversational(row) for row in chat)
              and [m["content"] for m in chat[0]["messages"]] == [t.get("value", t.get("content")) for t in
                                                                 next(iter(want[0].values()))])


print(f"llamafactory {version('llamafactory')}, "
      f"datasets {datasets.__version__}, trl {trl.__version__}")
with tempfile.TemporaryDirectory() as work:
    os.chdir(work)
    os.mkdir("data")
    for name, info in INFO.items():
        write(os.path.join("data", info["file_name"]), [source(name, i) for i in range(30)])
    write("data/dataset_info.json", INFO)
    run("df-pack", "-q", "--dataset-dir", "data", "--dataset", ",".join(INFO), "--template", "default", "--tokenizer", "bytes",
        "--cutoff-len", "128", "-o", "pool.h5")
    with open("scores.txt", "w", encoding="utf-8") as f:
        f.writelines(f"{i * 37 % 120 / 120}\n" for i in range(120))
    run("df-score", "custom", "-q", "--train", "pool.h5", "--scores", "scores.txt", "-n", "50", "-o", "index.h5")
    ids = sorted(range(120), key=lambda i: -(i * 37 % 120))[:50]
    for scores in False, True:
        out = "with" if scores else "plain"
        run("df-show", "-q", "--export", out, "--dataset-dir", "data", *(["--with-scores", "less_"] if scores else []), "index.h5")
        for name in INFO:
            verify(name, out, scores, work)
print("all loaded" if good else "FAILED")
sys.exit(0 if good else 1)

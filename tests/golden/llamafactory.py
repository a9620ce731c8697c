#!/usr/bin/env python3
"""Token ids and labels as LLaMA-Factory itself makes them, for test_encode.

    python3 tests/golden/llamafactory.py        # rewrites tests/golden/templates/

Needs llamafactory 0.9.4, transformers and tokenizers.  Its own parser, converters,
templates and processors run on the rows below; only packages that this part never
calls are replaced by empty modules, so that it imports without them.
"""
import importlib.machinery
import json
import os
import sys
import types

sys.path.pop(0)  # this file must not be found in the package's place


class Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in ("datasets", "pyarrow", "torchaudio", "peft", "peft.utils"):
    stub = Stub(name)
    stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
    stub.__path__ = []
    stub.__version__ = "3.0.0"
    sys.modules[name] = stub
sys.modules["datasets"].DownloadMode = types.SimpleNamespace(REUSE_DATASET_IF_EXISTS="reuse")

from llamafactory.data.converter import get_dataset_converter  # noqa: E402
from llamafactory.data.parser import get_dataset_list  # noqa: E402
from llamafactory.data.processor.pretrain import PretrainDatasetProcessor  # noqa: E402
from llamafactory.data.processor.supervised import SupervisedDatasetProcessor  # noqa: E402
from llamafactory.data.template import TEMPLATES, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import DataArguments  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast  # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
TEMPLATE_NAMES = ["default", "empty", "alpaca", "chatml", "qwen", "llama3"]

ALPACA = [
    {"instruction": "Name three colours.", "input": "", "output": "Red, green and blue."},
    {"instruction": "Translate to French.", "input": "Good morning, my friend!", "output": "Bonjour, mon ami !"},
    {"instruction": "", "input": "only an input", "output": "An answer to it."},
    {"instruction": "No answer", "input": "", "output": ""},
    {"instruction": "", "input": "", "output": "from nothing"},
    {"instruction": "dropped: null output", "input": None, "output": None},
    {"instruction": "解释细胞理论和日心说。", "input": "", "output": "细胞是所有生物的基本结构和功能单位。🙂 é"},
    {"instruction": "A very long question that does not fit, " * 6, "input": "", "output": "Short."},
    {"instruction": "Short?", "input": "", "output": "A very long answer that does not fit either, " * 6},
    {"instruction": "Both of them are long, the question " * 4, "input": "with input " * 3,
     "output": "and the answer as well, to the end. " * 5},
    {"instruction": "Tokens <|im_end|> and <|eot_id|>\n<|endoftext|> in the text, {{content}} and {{idx}}, {{idx}}",
     "input": "  spaces  and\ttabs \r\n", "output": "{{content}}<|im_start|>system\nno<|im_end|>\n"},
    {"instruction": "with history", "input": "", "output": "third", "history": [["first?", "one"], ["second?", "two"]]},
    {"instruction": "with system", "input": "", "output": "yes", "system": "You are terse."},
    {"instruction": "with empty history", "input": "", "output": "ok", "history": [], "system": ""},
    {"instruction": "last of many", "input": "", "output": "The last answer is what counts here.",
     "history": [["A first question of some length?", "A first answer of some length."]] * 4,
     "system": "A system text."},
]
SHAREGPT = [
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello! How can I help?"}]},
    {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "What is {{idx}}?"},
                       {"from": "gpt", "value": "A placeholder."}, {"from": "human", "value": "And now {{idx}}?"},
                       {"from": "gpt", "value": "The round."}], "system": "outranked"},
    {"conversations": [{"from": "human", "value": "From the column"}, {"from": "gpt", "value": "ok"}],
     "system": "The column's system text."},
    {"conversations": [{"from": "gpt", "value": "dropped: wrong order"}, {"from": "human", "value": "?"}]},
    {"conversations": [{"from": "human", "value": "dropped: odd"}]},
    {"conversations": []},
    {"conversations": [{"from": "system", "value": "dropped: only a system text"}]},
    {"conversations": [{"from": "observation", "value": "{\"t\": 21}"}, {"from": "gpt", "value": "It is 21 degrees."}]},
    {"conversations": [{"from": "human", "value": "Question %d of a long conversation?" % (i // 2)} if i % 2 == 0 else
                       {"from": "gpt", "value": "Answer %d, which is somewhat longer than it." % (i // 2)}
                       for i in range(10)]},
    {"conversations": [{"from": "nobody", "value": "dropped: unknown role"}, {"from": "gpt", "value": "?"}]},
    {"conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": ""}]},
]
TEXTS = [{"text": t} for t in (
    ["The first document, a short one.", "A second document. " * 8, "", "三、第三个文档。", "5",
     "<|endoftext|> inside <|im_end|> a document", "seven " * 20, "The last but two.", "Nine.", "Ten, the last."])]

INFO = {
    "alpaca": {"file_name": "alpaca.json",
               "columns": {"prompt": "instruction", "query": "input", "response": "output", "history": "history",
                           "system": "system"}},
    "sharegpt": {"file_name": "sharegpt.jsonl", "formatting": "sharegpt",
                 "columns": {"messages": "conversations", "system": "system"}},
    "texts": {"file_name": "texts.jsonl", "columns": {"prompt": "text"}},
}


def write_json(name, value, **kwargs):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, **kwargs)
        f.write("\n")


def write_lines(name, rows):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def make_tokenizers():
    """Two byte-level BPE tokenizers over one vocabulary: GPT-2's manner (no bos), and one whose rows begin with bos."""
    texts = [" ".join(str(v) for v in row.values()) for row in ALPACA + SHAREGPT + TEXTS]
    for name, special, config in (
        ("tokenizer", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], {"eos_token": "<|endoftext|>"}),
        ("tokenizer-bos", ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                           "<|eot_id|>", "<|pad|>"],
         {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>",
          "add_bos_token": True}),
    ):
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tok.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False,
                                      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
        tok.train_from_iterator(texts, trainer)
        os.makedirs(os.path.join(OUT, name), exist_ok=True)
        tok.save(os.path.join(OUT, name, "tokenizer.json"))
        write_json(os.path.join(name, "tokenizer_config.json"),
                   dict(config, tokenizer_class="PreTrainedTokenizerFast"), indent=1, sort_keys=True)


def load_tokenizer(name, split_special):
    with open(os.path.join(OUT, name, "tokenizer_config.json"), encoding="utf-8") as f:
        config = json.load(f)
    add_bos = config.pop("add_bos_token", False)
    config.pop("tokenizer_class")
    tok = PreTrainedTokenizerFast(tokenizer_file=os.path.join(OUT, name, "tokenizer.json"),
                                  split_special_tokens=split_special, **config)
    tok.add_bos_token = add_bos
    return tok


def convert(dataset, data_args):
    """The rows of a dataset through LLaMA-Factory's parser and converter; a missing column reads as null, as in Arrow."""
    attr = get_dataset_list([dataset], OUT)[0]
    rows = {"alpaca": ALPACA, "sharegpt": SHAREGPT, "texts": TEXTS}[dataset]
    keys = {k for row in rows for k in row}
    converter = get_dataset_converter(attr.formatting, attr, data_args)
    return [converter({k: row.get(k) for k in keys}) for row in rows]


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


def columns(examples):
    return {k: [e[k] for e in examples] for k in examples[0]}


def reset_templates(saved):
    for name in TEMPLATE_NAMES:
        TEMPLATES[name].default_system = saved[name]


def sft_case(saved, dataset, tokenizer, template, cutoff, **options):
    split_special = options.pop("split_special", False)
    args = DataArguments(template=template, cutoff_len=cutoff, **options)
    tok = load_tokenizer(tokenizer, split_special)
    reset_templates(saved)
    t = get_template_and_fix_tokenizer(tok, args)
    processor = SupervisedDatasetProcessor(template=t, tokenizer=tok, processor=None, data_args=args)
    rows = []
    for i, example in enumerate(convert(dataset, args)):
        got = processor.preprocess_dataset(columns([example]))
        for ids, labels in zip(got.get("input_ids", []), got.get("labels", [])):
            assert all(a in (-100, b) for a, b in zip(labels, ids))
            if ids:  # an empty row would break its training; df-pack drops and counts it
                rows.append([i, ids, runs(labels)])
    return dict(stage="sft", dataset=dataset, tokenizer=tokenizer, template=template, cutoff_len=cutoff,
                split_special=split_special, vocab_size=len(tok), pad=tok.pad_token_id, eos=tok.eos_token_id, rows=rows,
                **options)


def pt_case(saved, tokenizer, template, cutoff, packing, batch, shards):
    """packing None is what `stage: pt` turns into true after cutoff_len has been judged."""
    args = DataArguments(template=template, cutoff_len=cutoff, packing=packing)
    if packing is None:
        args.packing = True
    tok = load_tokenizer(tokenizer, False)
    reset_templates(saved)
    t = get_template_and_fix_tokenizer(tok, args)
    processor = PretrainDatasetProcessor(template=t, tokenizer=tok, processor=None, data_args=args)
    collate = DataCollatorForLanguageModeling(tokenizer=tok, mlm=False)
    examples = convert("texts", args)
    rows = []
    for shard in range(shards):  # as datasets.Dataset.shard(contiguous=True) cuts, and map(batched=True) batches
        div, mod = divmod(len(examples), shards)
        first = div * shard + min(shard, mod)
        part = examples[first:first + div + (1 if shard < mod else 0)]
        for at in range(0, len(part), batch):
            got = processor.preprocess_dataset(columns(part[at:at + batch]))
            for ids in got["input_ids"]:
                labels = collate([{"input_ids": ids, "attention_mask": [1] * len(ids)}])["labels"][0].tolist()
                rows.append([None, ids, runs(labels)])
    return dict(stage="pt", dataset="texts", tokenizer=tokenizer, template=template, cutoff_len=cutoff,
                packing=packing, batch=batch, shards=shards, rows=rows)


def main():
    os.makedirs(OUT, exist_ok=True)
    write_json("alpaca.json", ALPACA, indent=1)
    write_lines("sharegpt.jsonl", SHAREGPT)
    write_lines("texts.jsonl", TEXTS)
    write_json("dataset_info.json", INFO, indent=1)
    make_tokenizers()
    saved = {name: TEMPLATES[name].default_system for name in TEMPLATE_NAMES}
    cases = []
    for template in TEMPLATE_NAMES:
        tokenizer = "tokenizer-bos" if template == "llama3" else "tokenizer"
        for dataset in ("alpaca", "sharegpt"):
            cases.append(sft_case(saved, dataset, tokenizer, template, 1024))
            for cutoff in (17, 64):
                cases.append(sft_case(saved, dataset, tokenizer, template, cutoff))
                cases.append(sft_case(saved, dataset, tokenizer, template, cutoff, train_on_prompt=True))
                cases.append(sft_case(saved, dataset, tokenizer, template, cutoff, mask_history=True))
    for template in ("default", "chatml"):
        cases.append(sft_case(saved, "alpaca", "tokenizer-bos", template, 48))
        cases.append(sft_case(saved, "alpaca", "tokenizer", template, 48, default_system="Another system text."))
        cases.append(sft_case(saved, "alpaca", "tokenizer", template, 48, split_special=True))
    for tokenizer, template in (("tokenizer", "default"), ("tokenizer", "qwen"), ("tokenizer-bos", "llama3"),
                                ("tokenizer-bos", "alpaca")):
        for packing, batch, shards in ((None, 1000, 1), (None, 3, 1), (None, 2, 3), (True, 4, 1), (False, 1000, 1)):
            cases.append(pt_case(saved, tokenizer, template, 24, packing, batch, shards))
    with open(os.path.join(OUT, "expected.json"), "w", encoding="utf-8") as f:
        f.write("[\n")
        f.write(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
        f.write("\n]\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""
Reference for lib/eval: questions in the form of MMLU, a tiny model and its tokenizer, and what transformers makes of them.

    python3 tests/golden/mmlu.py            (writes tests/golden/mmlu/, some 120 kB)

    model/                       a random Qwen2 (float32) and a byte-level BPE of 320 tokens, as save_pretrained writes them
    dev/ test/ SUBJECT_*.csv     questions made from a seed: quotes, commas, line breaks and other scripts in the fields
    expected.json                {"cases": [{"template", "shots", "questions": [{"subject", "row", "answer",
                                 "letters": [4], "texts": [4], "characters": [4]}], "right": {SUBJECT: [3]}}]}

letters and texts are log-likelihoods (nats) of each choice's letter and text behind the question, summed over its
tokens, from one forward over the whole sequence.  Without a template the text is that of hendrycks/test's evaluate.py
(copied below) and a choice continues it with a space, its tokens being those of the whole text behind as many as the question alone
has, as in lm-evaluation-harness.  With one it is LLaMA-Factory's: its eval template, its encode_oneturn.
right counts questions whose highest letter, highest text, and highest text divided by its characters is the answer.
"""
import csv
import json
import os
import random
import sys
import types
import importlib.machinery

import numpy
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

sys.path.pop(0)  # llamafactory.py beside this one is not the package


class Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in ("datasets", "pyarrow", "torchaudio", "peft", "peft.utils"):  # what LLaMA-Factory's templates do not need
    stub = Stub(name)
    stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
    stub.__path__ = []
    stub.__version__ = "3.0.0"
    sys.modules[name] = stub
sys.modules["datasets"].DownloadMode = types.SimpleNamespace(REUSE_DATASET_IF_EXISTS="reuse")

from llamafactory.data.template import get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.eval.template import get_eval_template  # noqa: E402
from llamafactory.hparams import DataArguments  # noqa: E402

torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "mmlu")
LETTERS = "ABCD"
SUBJECTS = {"abstract_algebra": 7, "high_school_physics": 9, "virology": 5}
CASES = ((None, 0), (None, 3), ("qwen", 2), ("fewshot", 5))


def questions(subject, n, rng):
    words = ("energy field ring group cell virus force, mass \"rest\" wave prime order; host: degree "
             "été 数学 naïve (a) x=2 then\nnext").split(" ")
    def text(k):
        return " ".join(rng.choice(words) for _ in range(k))
    rows = [[text(rng.randint(3, 14)) + "?", *(text(rng.randint(1, 5)) for _ in LETTERS), rng.choice(LETTERS)]
            for _ in range(n)]
    rows[0][0] = "Which of these, \"in\" " + subject.replace("_", " ") + ",\nis right?"
    return rows


def make_data():
    rng = random.Random(4)
    data = {}
    for split, extra in (("dev", None), ("test", 0)):
        os.makedirs(os.path.join(OUT, split), exist_ok=True)
        for name, n in SUBJECTS.items():
            data[split, name] = questions(name, 5 if split == "dev" else n, rng)
            with open(os.path.join(OUT, split, f"{name}_{split}.csv"), "w", newline="") as f:
                csv.writer(f, lineterminator="\r\n" if name == "virology" else "\n").writerows(data[split, name])
    return data


def make_model(data):
    path = os.path.join(OUT, "model")
    bpe = ByteLevelBPETokenizer()
    text = [plain(data, name, row, 5)[0] for (split, name), rows in data.items() if split == "test" for row in rows]
    bpe.train_from_iterator(text, vocab_size=317, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tok = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tok.save_pretrained(path)
    torch.manual_seed(8)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tok), hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, eos_token_id=tok.eos_token_id,
        bos_token_id=None, attn_implementation="eager")).eval()
    for name, p in model.named_parameters():
        p.data = torch.randn_like(p) * 0.35 if p.dim() > 1 else p.data
    model.save_pretrained(path)
    return tok, model


# hendrycks/test, evaluate.py, with rows for its data frame
def format_subject(subject):
    s = ""
    for entry in subject.split("_"):
        s += " " + entry
    return s


def format_example(row, include_answer=True):
    prompt = row[0]
    k = len(row) - 2
    for j in range(k):
        prompt += "\n{}. {}".format(LETTERS[j], row[j + 1])
    prompt += "\nAnswer:"
    if include_answer:
        prompt += " {}\n\n".format(row[k + 1])
    return prompt


def plain(data, subject, row, shots):
    prompt = "The following are multiple choice questions (with answers) about {}.\n\n".format(format_subject(subject))
    for i in range(shots):
        prompt += format_example(data["dev", subject][i])
    prompt += format_example(row, include_answer=False)
    return prompt, [" " + ch for ch in LETTERS], [" " + text for text in row[1:5]]


@torch.inference_mode()
def likelihood(model, ids, n_context):
    logits = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    return sum(logits[t - 1, ids[t]].item() for t in range(n_context, len(ids)))


def score_plain(tok, model, data, subject, row, shots):
    prompt, letters, texts = plain(data, subject, row, shots)
    n = len(tok.encode(prompt, add_special_tokens=False))
    return [[likelihood(model, tok.encode(prompt + c, add_special_tokens=False), n) for c in which]
            for which in (letters, texts)]


def as_dict(row):
    return {"question": row[0], **dict(zip(LETTERS, row[1:5])), "answer": row[5]}


def score_template(tok, model, template, data, subject, row, shots):
    messages = get_eval_template("en").format_example(
        as_dict(row), [as_dict(r) for r in data["dev", subject][:shots]], subject.replace("_", " "))
    ids, _ = template.encode_oneturn(tok, messages)
    return [[likelihood(model, ids + tok.encode(c, add_special_tokens=False), len(ids)) for c in which]
            for which in (LETTERS, row[1:5])]


def main():
    data = make_data()
    tok, model = make_model(data)
    cases = []
    for name, shots in CASES:
        template = None
        if name:
            mine = PreTrainedTokenizerFast.from_pretrained(os.path.join(OUT, "model"))
            template = get_template_and_fix_tokenizer(mine, DataArguments(template=name))
        found, right = [], {}
        for subject in SUBJECTS:
            right[subject] = [0, 0, 0]
            for i, row in enumerate(data["test", subject]):
                if template:
                    letters, texts = score_template(mine, model, template, data, subject, row, shots)
                else:
                    letters, texts = score_plain(tok, model, data, subject, row, shots)
                characters = [len(t) for t in row[1:5]]
                for way, scores in enumerate((letters, texts, [t / c for t, c in zip(texts, characters)])):
                    right[subject][way] += LETTERS[int(numpy.argmax(scores))] == row[5]
                found.append({"subject": subject, "row": i, "answer": row[5], "letters": letters, "texts": texts,
                              "characters": characters})
        cases.append({"template": name, "shots": shots, "questions": found, "right": right})
        print(name, shots, right)
    with open(os.path.join(OUT, "expected.json"), "w") as f:
        f.write('{"cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")


if __name__ == "__main__":
    main()

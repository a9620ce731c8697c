#!/usr/bin/env python3
"""Token ids and labels as LLaMA-Factory itself makes them, for test_encode and test_encode_templates.

    python3 tests/golden/llamafactory.py         # rewrites tests/golden/templates/, but for digests-newer.txt
    python3 tests/golden/llamafactory.py newer   # rewrites digests-newer.txt alone

Needs llamafactory 0.9.4, transformers and tokenizers.  Its own parser, converters,
templates and processors run on the rows below; only packages that this part never
calls are replaced by empty modules, so that it imports without them.

What later versions do otherwise in these parts is preserve_thinking: `newer` wants the
sources of 0.9.6.dev0 on PYTHONPATH and computes the cases that it touches.
"""
import copy
import datetime
import importlib.machinery
import json
import os
import struct
import sys
import types
import zlib

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
from llamafactory.data import tool_utils  # noqa: E402
from llamafactory.data.template import TEMPLATES, ReasoningTemplate, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import DataArguments  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast  # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
TEMPLATE_NAMES = ["default", "empty", "alpaca", "chatml", "qwen", "llama3"]  # whose ids are stored in full
MAIN_NAMES = ["default", "empty", "alpaca", "vicuna", "chatml", "chatml_de", "qwen", "qwen3", "qwen3_nothink", "llama2",
              "llama2_zh", "llama3", "mistral", "mistral_small", "gemma", "phi", "deepseek", "deepseek3", "deepseekr1",
              "zephyr", "fewshot", "mimo_v2"]
TEXT_PLUGINS = ("gemma3", "llama4", "ministral3", "mistral_small", "pixtral")  # multimodal, of use for texts
WITHOUT = ("minimax2",)  # its calls of tools come out as None
DATE = "2024-07-26"  # today

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
WEATHER = {"name": "get_weather", "description": "Weather of a place.", "parameters": {
    "type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "The city, e.g. \"Berlin\"\nor 東京"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "days": {"type": "array", "description": "which", "items": {"type": "integer"}}}}}
ODD = {"name": "odd", "description": None, "parameters": {"properties": {
    "a": {"type": ["string", "null"], "description": 1.5, "default": 1e-05, "minimum": -0.0, "maximum": 1e16},
    "b": {"type": True, "description": ["it's", "say \"x\"\t\x01", {"k": None}], "items": {}, "enum": []},
    "c": {"items": {"description": "no type"}, "big": 9007199254740993, "x": [1.0, 0.1, 1e22, 123456.789, 5e-324,
          1.7976931348623157e308, 2.0 ** -44, 0.0001, 123456789012345680.0, 1e15]}}},
       "empty": [{}, []], "text": "tab\t quote\" back\\slash \b\f\r\n /\u2028 é 🙂 \x7f"}
CALL = '{"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2.50], "unit": null}}'
CALLS = "[" + CALL + ',\n {"name": "odd", "arguments": {"a": "x\\ny", "b": {"c": [true, -0.0, 1E3]}}}]'


def turns(*texts, odd=("human", "gpt")):
    """A conversation: a text, or (role, text)."""
    return [{"from": t[0], "value": t[1]} if isinstance(t, tuple) else {"from": odd[i % 2], "value": t}
            for i, t in enumerate(texts)]


TOOLS = [
    {"conversations": turns("How warm is it?", ("function_call", CALL), ("observation", '{"t": 21}'), "21 degrees."),
     "tools": json.dumps([WEATHER])},
    {"conversations": turns("Both, please.", ("function_call", CALLS), ("observation", "[21,\n null]"), "Done."),
     "tools": json.dumps([{"type": "function", "function": WEATHER}, ODD], ensure_ascii=False), "system": "Be brief."},
    {"conversations": turns("No tools in the list.", "Fine."), "tools": "[]"},
    {"conversations": turns("No list.", "Fine."), "tools": ""},
    {"conversations": turns("Tools that are not used.", "Fine."), "tools": " [" + json.dumps(ODD) + "] \n"},
    {"conversations": turns("Think first.", ("function_call", "<think>\nhm\n</think>\n\n" + CALL), ("observation", "ok"),
                            ("function_call", CALL), ("observation", ""), "<think>\nwell\n</think>\n\nSo it is."),
     "tools": json.dumps([WEATHER])},
    {"conversations": turns("Say it.", ("function_call", "Let me see.\n<tool_call>\n" + CALLS + "\n</tool_call> bye"),
                            ("observation", "x"), "y")},
    {"conversations": turns("Malformed.", ("function_call", "not json"))},
    {"conversations": turns("Nothing to call with.", ("function_call", '{"name": "f"}'))},
    {"conversations": turns("A text for arguments.", ("function_call", '{"name": "f", "arguments": "{\\"a\\": 1}"}'))},
    {"conversations": turns("No calls.", ("function_call", "[]"))},
    {"conversations": turns("Bad tools.", "x"), "tools": "[{"},
    {"conversations": turns("A bare tool.", "x"), "tools": '[{"name": "bare"}]'},
    {"conversations": turns("Numbers to choose from.", "x"),
     "tools": '[{"name": "n", "parameters": {"properties": {"p": {"enum": [1, 2]}}}}]'},
    {"conversations": turns("Two values.", ("function_call", CALL + ", " + CALL))},
    {"conversations": turns(("observation", "opens"), "the row"), "system": "Some system text.",
     "tools": json.dumps([WEATHER])},
    {"conversations": turns(("observation", "opens"), "the row"), "system": "Some system text."},
]
THOUGHTS = [
    {"conversations": turns("One?", "<think>\nlet me think\n</think>\n\nOne.", "Two?", "Two.",
                            "Three?", "<think>\n\n</think>\n\n\n\nThree.")},
    {"conversations": turns("None?", "None.", "Still none?", "None at all.")},
    {"conversations": turns("Unclosed?", "<think>\nfor ever", "Closed only?", "or never\n</think>\n\n", "Inside?",
                            "before <think>\na\n</think>\n\n between <think>\nb\n</think>\n\nafter")},
    {"conversations": turns("Other ends?", "<think>no line ends</think>\n\n<seed:think>x</seed:think>yes",
                            "Last?", "<think>\nlast\n</think>\n\nan answer that is longer than the others"),
     "system": "Think."},
    {"conversations": turns("<think>\na question\n</think>\n\n", "\n\nline ends in front"), "system": ""},
]


def chat(*texts):
    """Messages as OpenAI has them: roles in turn, or a message."""
    return [t if isinstance(t, dict) else {"role": ("user", "assistant")[i % 2], "content": t}
            for i, t in enumerate(texts)]


def calls(*functions, **more):
    return dict(role="assistant", tool_calls=[{"id": "1", "type": "function", "function": f} for f in functions], **more)


OPENAI = [
    {"messages": chat("Hi", "Hello!")},
    {"messages": [{"role": "system", "content": "Be kind."}] + chat("Hi", "Hello!")},
    {"messages": [{"role": "system", "content": "detailed thinking on"}] + chat("Hi", "Hello!")},
    {"messages": [{"role": "system", "content": ""}] + chat("Hi", "Hello!"), "system": "outranked"},
    {"messages": chat("Hi", "Hello!"), "system": "The column's."},
    {"messages": [{"role": "system", "content": "With tools."}] + chat("Hi", "Hello!"), "tools": [WEATHER]},
    {"messages": chat("Warm?", calls(json.loads(CALL), content=None), {"role": "tool", "content": "21"},
                      "21 degrees."), "tools": [{"type": "function", "function": WEATHER}]},
    {"messages": chat("Both?", calls(*json.loads(CALLS), content="ignored"), {"role": "tool", "content": "first"},
                      {"role": "tool", "content": "second"}, {"role": "assistant", "content": "Both."}),
     "tools": json.dumps([WEATHER])},
    {"messages": chat("Text?", calls({"name": "f", "arguments": '{"a": "b"}'}, content=""), {"role": "tool", "content": ""},
                      "That.")},
    {"messages": chat("Unanswered", calls({"name": "f", "arguments": {}}, content=""), {"role": "tool", "content": "lost"})},
    {"messages": chat("No calls", {"role": "assistant", "content": "none", "tool_calls": []})},
    {"messages": chat("As text", {"role": "function", "content": CALL})},
    {"messages": chat("dropped: odd")},
    {"messages": []},
    {"messages": chat("dropped: order", {"role": "user", "content": "again"})},
    {"messages": chat("dropped: system inside", {"role": "system", "content": "again"})},
    {"messages": chat("No tools", "ok"), "tools": []},
    {"messages": chat("one", "two", "three", "four"), "system": "now detailed thinking off", "tools": ""},
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
    "tools": {"file_name": "tools.jsonl", "formatting": "sharegpt",
              "columns": {"messages": "conversations", "system": "system", "tools": "tools"}},
    "thoughts": {"file_name": "thoughts.jsonl", "formatting": "sharegpt",
                 "columns": {"messages": "conversations", "system": "system"}},
    "openai": {"file_name": "openai.jsonl", "formatting": "openai",
               "columns": {"messages": "messages", "system": "system", "tools": "tools"},
               "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                        "observation_tag": "tool", "function_tag": "function", "system_tag": "system"}},
}
ROWS = {"alpaca": ALPACA, "sharegpt": SHAREGPT, "texts": TEXTS, "tools": TOOLS, "thoughts": THOUGHTS, "openai": OPENAI}


def write_json(name, value, **kwargs):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, **kwargs)
        f.write("\n")


def write_lines(name, rows):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def make_tokenizers():
    """
    Byte-level BPE tokenizers over one vocabulary: GPT-2's manner (no bos), one whose rows begin with bos, and one that
    has the tokens which templates name.
    """
    named = sorted({slot["token"] for t in TEMPLATES.values() for f in (
        t.format_prefix, t.format_system, t.format_user, t.format_assistant, t.format_observation)
        for slot in f.slots if isinstance(slot, dict)})
    texts = [" ".join(str(v) for v in row.values()) for row in ALPACA + SHAREGPT + TEXTS]
    for name, special, config in (
        ("tokenizer", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], {"eos_token": "<|endoftext|>"}),
        ("tokenizer-bos", ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                           "<|eot_id|>", "<|pad|>"],
         {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>",
          "add_bos_token": True}),
        ("tokenizer-more", ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"] + named,
         {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}),
    ):
        tok = Tokenizer(models.BPE())
        tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tok.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False,
                                      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
        tok.train_from_iterator(texts, trainer)
        if name == "tokenizer-more":  # as Qwen 3 has them: added, not special
            tok.add_tokens(["<think>", "</think>", "<tool_call>", "</tool_call>"])
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
    rows = ROWS[dataset]
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
    """get_template_and_fix_tokenizer changes them."""
    TEMPLATES.update(copy.deepcopy(saved))


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


def digest(ids, labels):
    return "%08x" % zlib.crc32(struct.pack("<%dI%di" % (len(ids), len(labels)), *ids, *labels))


def digest_case(saved, dataset, tokenizer, template, cutoff, prompt=False, **options):
    """
    One line: what was asked for, vocabulary, eos and pad, and a word per row: the digest of its ids and labels, "-" for
    a dropped row, "x" where LLaMA-Factory raises an exception, "?" where its labels are more than the ids (an empty
    question in a template with efficient_eos).
    """
    words = [template, dataset, tokenizer, str(cutoff)] + [f"{k}={v}" for k, v in options.items()]
    if prompt:
        words.append("prompt")
    thinking = options.pop("enable_thinking", True)
    args = DataArguments(template=template, cutoff_len=cutoff, **options)
    args.enable_thinking = thinking
    tok = load_tokenizer(tokenizer, False)
    reset_templates(saved)
    t = get_template_and_fix_tokenizer(tok, args)
    processor = SupervisedDatasetProcessor(template=t, tokenizer=tok, processor=None, data_args=args)
    attr = get_dataset_list([dataset], OUT)[0]
    converter = get_dataset_converter(attr.formatting, attr, args)
    keys = {k for row in ROWS[dataset] for k in row}
    words.append(f"{len(tok)} {tok.eos_token_id} {tok.pad_token_id}")
    for row in ROWS[dataset]:
        try:
            example = converter({k: row.get(k) for k in keys})
            if prompt:
                if len(example["_prompt"]) % 2 != 1 or len(example["_response"]) != 1:
                    words.append("-")
                    continue
                ids, _ = t.encode_oneturn(tok, example["_prompt"] + example["_response"], example["_system"],
                                          example["_tools"])
                words.append(digest(ids, []))
                continue
            got = processor.preprocess_dataset(columns([example]))
            if not got.get("input_ids") or not got["input_ids"][0]:
                words.append("-")
            elif len(got["labels"][0]) != len(got["input_ids"][0]):
                words.append("?")
            else:
                words.append(digest(got["input_ids"][0], got["labels"][0]))
        except Exception as e:
            assert "crc" not in str(e) and not isinstance(e, (NameError, ImportError)), e
            words.append("x")
    return " ".join(words)


def tokenizer_of(t):
    prefix = t.format_prefix.apply() + t.format_user.apply(content="", idx="0")
    return "tokenizer-bos" if {"bos_token"} in prefix else "tokenizer"


def names_for_texts():
    return [name for name, t in sorted(TEMPLATES.items()) if name not in WITHOUT and
            type(t.mm_plugin).__name__ == "BasePlugin"]


def digests(saved):
    lines = []
    for name in names_for_texts():
        t = saved[name]
        reasons = isinstance(t, ReasoningTemplate)
        named = any(isinstance(slot, dict) for f in (t.format_prefix, t.format_user) for slot in f.slots)
        tokenizer = "tokenizer-more" if named else tokenizer_of(t)
        for dataset in ("alpaca", "sharegpt", "tools", "openai") + (("thoughts",) if reasons else ()):
            lines.append(digest_case(saved, dataset, tokenizer, name, 2048))
            lines.append(digest_case(saved, dataset, "tokenizer-more", name, 40))
            if name not in MAIN_NAMES:
                continue
            lines.append(digest_case(saved, dataset, tokenizer, name, 17))
            lines.append(digest_case(saved, dataset, tokenizer, name, 150, mask_history=True))
            lines.append(digest_case(saved, dataset, "tokenizer-more", name, 33, mask_history=True))
            if not t.efficient_eos:
                lines.append(digest_case(saved, dataset, tokenizer, name, 150, train_on_prompt=True))
            lines.append(digest_case(saved, dataset, "tokenizer-more", name, 2048, prompt=True))
        if reasons:
            for thinking in (False, None):
                for dataset in ("sharegpt", "tools", "thoughts"):
                    for more in (dict(), dict(mask_history=True), dict(prompt=True)):
                        lines.append(digest_case(saved, dataset, tokenizer, name, 60 if more else 2048,
                                                 enable_thinking=thinking, **more))
    for form in sorted(tool_utils.TOOLS):
        if form != "minimax2":
            for name in ("qwen", "mistral", "fewshot"):
                lines.append(digest_case(saved, "tools", "tokenizer-more", name, 2048, tool_format=form))
            lines.append(digest_case(saved, "openai", "tokenizer", "qwen3", 2048, tool_format=form))
    return lines


def digests_newer(saved):
    lines = []
    for name in ("qwen3", "deepseekr1", "mimo_v2"):
        for dataset in ("sharegpt", "thoughts", "tools"):
            for thinking in (True, False, None):
                for preserve in (False, True):
                    for more in (dict(mask_history=True), dict(prompt=True), dict()):
                        lines.append(digest_case(saved, dataset, "tokenizer-more", name, 100, enable_thinking=thinking,
                                                 preserve_thinking=preserve, **more))
    return lines


class Today(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


def write_digests(name, lines):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


def main():
    tool_utils.datetime = Today
    for name in TEXT_PLUGINS:  # they ask for an image processor, even where there are no images
        if name in TEMPLATES:
            TEMPLATES[name].mm_plugin = TEMPLATES["default"].mm_plugin
    if sys.argv[1:] == ["newer"]:
        write_digests("digests-newer.txt", digests_newer(copy.deepcopy(TEMPLATES)))
        return
    os.makedirs(OUT, exist_ok=True)
    write_json("alpaca.json", ALPACA, indent=1)
    write_lines("sharegpt.jsonl", SHAREGPT)
    write_lines("texts.jsonl", TEXTS)
    write_lines("tools.jsonl", TOOLS)
    write_lines("thoughts.jsonl", THOUGHTS)
    write_lines("openai.jsonl", OPENAI)
    write_json("dataset_info.json", INFO, indent=1)
    make_tokenizers()
    saved = copy.deepcopy(TEMPLATES)
    write_digests("digests.txt", digests(saved))
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

#!/usr/bin/env python3
"""Tokenizer fixtures and comparisons, with Hugging Face's tokenizers as the reference.

  tokenizer.py make                     write tests/golden/tokenizer/
  tokenizer.py compare ENCODER [-n N] [--points] [--texts FILE...] [--tokenizer FILE...] [--only-variants]
                                        compare ENCODER (build/bench/tokenizer) with the reference on N generated strings
                                        and on the strings of FILEs (JSON, JSONL, text), framing and decoding too: for the
                                        tokenizer.json FILEs given, or the fixtures' tokenizers and variants of them
  tokenizer.py transformers ENCODER     what AutoTokenizer makes of tokenizer_config.json, and of files without tokenizer.json
  tokenizer.py saved ENCODER DIR        DIR was written by df_tokenizer_save for "bytes": both must encode alike
  tokenizer.py speed TEXTS.json... --tokenizer FILE [--encoder ENCODER]
                                        MB/s of encode_batch and of ENCODER on the same strings

Made with tokenizers 0.22.2.  All training text is written here.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import zlib

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")

L3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
Q2 = L3.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and then it doesn't do it again.",
    "I've been told that she'll arrive at 10:45, but they're never on time; we'd better wait.",
    "Write a short story about a robot that learns to paint. Give three reasons for your answer.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "for (int i = 0; i < n; i++) {\n\tsum += a[i] * b[i];\n}\n",
    "def main():\n    return {'key': [1, 2.5, None], \"other\": True}\n",
    "Die Straßen von Köln sind schön, aber Übung macht den Meister.",
    "L'été dernier, j'ai mangé des crêpes à Besançon avec mon frère aîné.",
    "El niño pequeño jugó en la montaña; ¿quién lo vio? ¡Nadie!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Η γρήγορη αλεπού πηδά πάνω από το τεμπέλικο σκυλί.",
    "敏捷的棕色狐狸跳过了懒狗。请用中文回答下面的问题,并给出三个理由。",
    "人工智能正在改变世界,机器学习是其中的一个重要分支。",
    "いろはにほへと ちりぬるを。日本語の文章をカタカナとひらがなで書きます。",
    "다람쥐 헌 쳇바퀴에 타고파. 한국어 문장을 씁니다.",
    "مرحبا بالعالم، هذا نص باللغة العربية.",
    "यह हिन्दी में एक वाक्य है।",
    "สวัสดีชาวโลก นี่คือภาษาไทย",
    "שלום עולם, זה טקסט בעברית.",
    "https://example.org/path?query=1&other=two#frag user@example.org 3.14159 1,000,000 2024-05-17",
    "👍 great 😀😀 emoji 🎉 and 👨‍👩‍👧‍👦 families 🇩🇪🇫🇷",
    "∑ᵢ xᵢ² ≤ ∞ ⇒ ∀ε>0 ∃δ: |f(x)−f(y)| < ε",
]

SPACES = ["\t", "\n", "\x0b", "\x0c", "\r", " ", "\x85", "\xa0", "\u1680", "\u2000", "\u2003", "\u200a", "\u2028", "\u2029",
          "\u202f", "\u205f", "\u3000", "\u180e", "\u200b", "\ufeff", "\u2060", "\r\n"]
DIGITS = ["0", "12", "345", "6789", "٠١٢٣", "०१२", "๐๑", "１２３", "Ⅳ", "½", "²", "①", "𝟘𝟙", "〇", "㊿", "৴"]
CONTRACTIONS = ["'" + x for x in ["s", "S", "t", "T", "re", "RE", "Re", "ve", "vE", "m", "M", "ll", "LL", "lL", "d", "D", "\u017f",
                                  "x", "r", "l", "v", "", "'s", "re've"]] + ["\u2019s", "\u2019t", "`s"]
MARKS = ["e\u0301", "a\u0308\u0301", "q\u0307\u0323", "q\u0323\u0307", "\u0301", "\u0344", "\u0340", "\u212b", "\u2126", "\u1e9b\u0323",
         "\ufb01", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u1161", "\u0915\u093c", "\u0958", "\u0f73", "\u2adc", "\U0001d15e",
         "\u304b\u3099", "\u0627\u0653", "\u09c7\u09be", "\u0308\u0301\u07fd", "\u07fd\u0316\u0301", "\U00011935\U00011930", "\u1ac1\u0316", "\u0b47\u0b56", "\uf900", "\u1eb7", "a\u0323\u0306", "n\u0303", "\u00f1"]
EMOJI = ["👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "1️⃣", "😀", "\U0001fae8", "🧑🏿‍🚀", "\u200d", "\ufe0f"]
CONTROLS = ["\x00", "\x01", "\x07", "\x1b", "\x7f", "\x80", "\x9f", "\xad", "\u200e", "\u202e", "\ufffd", "\ufffe", "\uffff", "\U0010ffff",
            "\ue000", "\U000e0001", "\u061c"]
PUNCT = list("!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'") + ["...", "—", "«", "»", "。", ",", "、", "「", "€", "§", "©", "\u00b7", "_", "‿", "\u20dd"]
SCRIPTS = [(0x41, 0x7a), (0xc0, 0x24f), (0x370, 0x3ff), (0x400, 0x52f), (0x531, 0x587), (0x5d0, 0x5ea), (0x620, 0x64a),
           (0x900, 0x97f), (0xe00, 0xe5b), (0x10a0, 0x10ff), (0x1200, 0x137f), (0x13a0, 0x13ff), (0x1e00, 0x1fff), (0x2100, 0x218f),
           (0x2c00, 0x2dff), (0x3040, 0x30ff), (0x3400, 0x34ff), (0x4e00, 0x9fff), (0xa000, 0xa0ff), (0xac00, 0xd7a3),
           (0xf900, 0xfaff), (0xfb00, 0xfdff), (0xff00, 0xffef), (0x10000, 0x100ff), (0x1d400, 0x1d7ff), (0x1f100, 0x1f1ff),
           (0x20000, 0x200ff), (0x30000, 0x300ff), (0x1e900, 0x1e95f)]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>",
            "<|start_header_id|>", "<|end_header_id|>", "<tool_call>", "</tool_call>", "<think>", "</think>", "<|im_", "_end|>",
            "<|", "|>", "[WORD]", "[LEFT]", "[RIGHT]", "[BOTH]", "été", "e\u0301te\u0301", "<a>", "<a><b>", "<b>", "  ", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "<s>", "</s>", "<unk>", "[INST]", "<0x41>", "##ing",
            "\u2581", "\u2581the", " \u2581 "]
WORDS = sorted({w for s in SENTENCES for w in s.split()})


def hard_string(rng):
    """One string out of what has ever broken a tokenizer."""
    def script_run():
        lo, hi = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(lo, hi)) for _ in range(rng.randint(1, 6)))

    def any_char():
        while True:
            c = rng.randint(0, 0x10ffff) if rng.random() < 0.3 else rng.randint(0, 0x2fff)
            if not 0xd800 <= c <= 0xdfff:
                return chr(c)

    def run():
        return rng.choice(PUNCT + SPACES + ["a", "ab", "1", "é", "中"]) * rng.choice([2, 3, 4, 7, 16, 33, 100])

    kinds = [(lambda: rng.choice(WORDS), 20), (lambda: " ", 20), (lambda: rng.choice(SPACES), 10),
             (lambda: "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 5))), 6), (lambda: rng.choice(DIGITS), 8),
             (lambda: str(rng.randint(0, 10 ** rng.randint(1, 12))), 4), (lambda: rng.choice(CONTRACTIONS), 8),
             (lambda: rng.choice(MARKS), 8), (lambda: rng.choice(EMOJI), 6), (lambda: rng.choice(CONTROLS), 4),
             (lambda: rng.choice(PUNCT), 10), (script_run, 10), (any_char, 6), (run, 3), (lambda: rng.choice(SPECIALS), 8)]
    picks = rng.choices([k for k, _ in kinds], weights=[w for _, w in kinds], k=rng.choice([1, 2, 3, 5, 8, 13, 21, 40]))
    return "".join(p() for p in picks)


def fixed_strings():
    out = ["", " ", "  ", "   ", "\n", "\r\n", "\r\r\n\n", " \n", "\n ", "a", "'", "''", "'s", "x's", "X'S", "x'\u017f", "I'LL we'll"]
    out += SENTENCES + DIGITS + CONTRACTIONS + MARKS + EMOJI + CONTROLS + SPACES
    out += ["a" + s + "b" for s in SPACES] + ["a" + s + s + "b" for s in SPACES] + ["x " + s + " " for s in SPACES]
    out += ["hello" + s for s in SPACES] + [s + "1" for s in SPACES] + [s + "!" for s in SPACES] + ["\u180e\u180eb \u180e."]
    out += ["12345678901", "1a2b3c", "a1234 b12345", "３４５６", "1 2  3   4", "0.5e-10", "\u0663\u0664\u0665\u0666"]
    out += SPECIALS + ["a" + s + "b" for s in SPECIALS] + [" " + s + " " for s in SPECIALS] + [s + s for s in SPECIALS]
    out += ["<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "x[WORD]y [WORD] z[WORD]", "a  [LEFT]  b", "a  [RIGHT]  b",
            "a \t[BOTH]\n b", "[RIGHT]  [LEFT]", "[RIGHT]   [BOTH]", "été ete\u0301 e\u0301te\u0301", "<a><b><a>", "\u24b6[WORD]\u24b6",
            "\u0301[WORD]", "_[WORD]", "-[WORD]-", "½[WORD]", "²[WORD]", "\u200d[WORD]"]
    return list(dict.fromkeys(out))


# --- tokenizers ------------------------------------------------------------------------------------------------------

def train(split, vocab_size):
    tok = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tok.pre_tokenizer = byte_level if split is None else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(__import__("tokenizers").Regex(split), "isolated"), byte_level])
    rng = random.Random(1)
    text = []
    for _ in range(3000):
        s = rng.choice(SENTENCES)
        text.append(s if rng.random() < 0.3 else " ".join(rng.sample(s.split(), len(s.split()))))
    tok.train_from_iterator(text, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, min_frequency=2,
                                                      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return json.loads(tok.to_str())["model"]


def added(content, id, special=True, normalized=None, single_word=False, lstrip=False, rstrip=False):
    return {"id": id, "content": content, "single_word": single_word, "lstrip": lstrip, "rstrip": rstrip,
            "normalized": not special if normalized is None else normalized, "special": special}


def byte_level(prefix=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def document(model, tokens, normalizer, pre, post):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": post, "decoder": byte_level(True, True), "model": model}


def gpt2():
    m = train(None, 1200)
    m["merges"] = [" ".join(p) for p in m["merges"]]
    m["vocab"]["<|endoftext|>"] = n = len(m["vocab"])
    return document(m, [added("<|endoftext|>", n)], None, byte_level(False, True), byte_level(True, True))


def llama3():
    m = train(L3, 1300)
    m["ignore_merges"] = True
    for w in ["Ġunreachable", "quick", "123", "æĹ¥æľ¬èªŀ", "Ġ", "zzz"]:
        m["vocab"].setdefault(w, len(m["vocab"]))
    n = len(m["vocab"])
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>", "<|end_header_id|>",
             "<|eot_id|>"] + ["<|reserved_special_token_%d|>" % i for i in range(1, 12)]
    bos = {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}
    post = {"type": "Sequence", "processors": [byte_level(True, True), {
        "type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [n], "tokens": ["<|begin_of_text|>"]}}}]}
    return document(m, [added(t, n + i) for i, t in enumerate(names)], None, sequence(split(L3), byte_level()), post)


def qwen2():
    m = train(Q2, 1400)
    n = len(m["vocab"])
    tokens = [added(t, n + i) for i, t in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])]
    tokens += [added(t, n + 3 + i, special=False, normalized=False) for i, t in enumerate(
        ["<tool_call>", "</tool_call>", "<think>", "</think>"])]
    return document(m, tokens, {"type": "NFC"}, sequence(split(Q2), byte_level()), byte_level(False, False))


def flags():
    """Every flag of added tokens, overlapping ones, ones that exist in the vocabulary, behind NFC."""
    m = train(Q2, 320)
    n = len(m["vocab"])
    tokens = [added("[WORD]", n, special=False, single_word=True), added("[LEFT]", n + 1, lstrip=True),
              added("[RIGHT]", n + 2, rstrip=True), added("[BOTH]", n + 3, special=False, normalized=False, lstrip=True, rstrip=True),
              added("été", n + 4, special=False), added("<a>", n + 5), added("<a><b>", n + 6, special=False, normalized=False),
              added("  ", n + 7, special=False), added("<b>", n + 8, special=False, single_word=True),
              added("th", m["vocab"].get("th", n + 9), special=False)]
    return document(m, tokens, {"type": "Sequence", "normalizers": [{"type": "NFC"}]}, sequence(split(Q2), byte_level()), None)


def special_ids(doc):
    return {t["content"]: t["id"] for t in doc["added_tokens"]}


def template(single, ids):
    """TemplateProcessing of a single text; "$A" is the text."""
    items = [{"Sequence": {"id": "A", "type_id": 0}} if t == "$A" else {"SpecialToken": {"id": t, "type_id": 0}} for t in single]
    return {"type": "TemplateProcessing", "single": items, "pair": items + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in single if t != "$A"}}


def bert():
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer()
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok.train_from_iterator(SENTENCES * 3, trainers.WordPieceTrainer(vocab_size=800, show_progress=False, special_tokens=names))
    doc = json.loads(tok.to_str())
    doc["model"]["max_input_chars_per_word"] = 60
    doc["post_processor"] = template(["[CLS]", "$A", "[SEP]"], special_ids(doc))
    doc["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    return doc


FALLBACK = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                                             {"type": "ByteFallback"}, {"type": "Fuse"},
                                             {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                                               {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}


def metaspace(scheme="first", split=False):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def characters(size, cross=False):
    """Llama 2's kind of model: characters, bytes for those it does not know; `cross`: merges that reach over spaces."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(vocab_size=size, show_progress=False, min_frequency=2))
    m = json.loads(tok.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    words = [a + b for a, b in m["merges"]]
    if cross:
        for pair in (["e", "\u2581"], ["\u2581", "\u2581"], ["e\u2581", "t"], [".", "\u2581"], ["\n", "\n"]):
            m["merges"].insert(7 * len(pair[0]), pair)
    words = list(dict.fromkeys([a + b for a, b in m["merges"]]))
    chars = sorted(c for c in {c for w in words for c in w} | set(m["vocab"]) if len(c) == 1)
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {w: i for i, w in enumerate(dict.fromkeys(names + words + chars))}, "merges": m["merges"]}


def llama2():
    doc = document(characters(900), [added(t, i) for i, t in enumerate(["<unk>", "<s>", "</s>"])], PREPEND, None, None)
    return dict(doc, decoder=FALLBACK, post_processor=template(["<s>", "$A"], special_ids(doc)))


def mistral():
    doc = document(characters(500, True), [added(t, i) for i, t in enumerate(["<unk>", "<s>", "</s>"])], None, metaspace(), None)
    doc["added_tokens"].append(added("[INST]", len(doc["model"]["vocab"])))
    return dict(doc, decoder=FALLBACK, post_processor=template(["<s>", "$A", "</s>"], special_ids(doc)))


FAMILIES = {"gpt2": gpt2, "llama3": llama3, "qwen2": qwen2, "flags": flags, "bert": bert, "llama2": llama2, "mistral": mistral}


def pairs():
    """A model in which any two bytes of a word may merge, in random order: where words end shows in the ids."""
    doc = flags()
    chars = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(chars)}
    merges = [[a, b] for a in chars for b in chars]
    random.Random(5).shuffle(merges)
    for a, b in merges:
        vocab[a + b] = len(vocab)
    doc["model"] = dict(doc["model"], vocab=vocab, merges=merges)
    for i, t in enumerate(t for t in doc["added_tokens"]):
        t["id"] = vocab.get(t["content"], len(vocab) + i)
    return doc


def variants():
    """The known patterns, pipelines that go through the regex engine, all behaviours of Split."""
    base = pairs()
    yield "pairs-gpt2", dict(base, pre_tokenizer=byte_level(False, True), normalizer=None)
    yield "pairs-llama3", dict(base, pre_tokenizer=sequence(split(L3), byte_level()), normalizer=None)
    yield "pairs-qwen2", base
    for name, pre in [
            ("o200k", sequence(split(O200K), byte_level())),
            ("removed-invert", sequence(split(L3, "Removed", True), byte_level())),
            ("digits3", sequence(split(r"\p{N}{1,3}"), split(r"[一-龥぀-ゟ゠-ヿ]+"),
                                 split(r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
                                       r"\s*[\r\n]+|\s+(?!\S)|\s+"), byte_level())),
            ("possessive", sequence(split(r"(?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++"
                                          r"[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s+"), byte_level())),
            ("space-literal", sequence(split(" ", "MergedWithNext", kind="String"), byte_level())),
            ("prefix", byte_level(True, True)), ("prefix-noregex", byte_level(True, False)),
            ("split-then-gpt2", sequence(split(r"[\r\n]"), byte_level(True, True))),
            ("any-empty", sequence(split(r"\s*"), byte_level())), ("lookbehind", sequence(split(r"(?<=\p{L})(?=\p{N})"), byte_level())),
            ("nested-class", sequence(split(r" ?[^(\s|[.,!?…。,、।۔،])]+"), byte_level())),
            ("han", sequence(split(r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
                                   r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
                                   r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), byte_level())),
            ("words", sequence(split(r"\w+|[^\w\s]+|[\S&&\W]"), byte_level())),
            ("kinds", sequence(split(r"[\p{S}\p{P}-]+|[^\P{Nd}3-5]+|\D{2,4}?\d|\p{^L}\p{Sc}|[\u4e00-\u9fa5\x{30A0}-\x{30ff}]"),
                               byte_level())),
            ("scripts", sequence(split("|".join(r"\p{%s}+" % x for x in [
                "Han", "Hiragana", "Katakana", "Hangul", "Latin", "Greek", "Cyrillic", "Arabic", "Hebrew", "Thai", "Devanagari"])),
                byte_level())),
            ("any-case", sequence(split(r"(?i:[a-f]+|\p{Lu}[eK]|the|tra)|(?i:(?:x|[^a-z ]))+"), byte_level())),
            ("digits", sequence({"type": "Digits", "individual_digits": False}, byte_level())),
            ("digits-each", sequence({"type": "Digits", "individual_digits": True}, byte_level())),
            ("whitespace", sequence({"type": "Whitespace"}, byte_level())),
            ("whitespace-split", sequence({"type": "WhitespaceSplit"}, byte_level())),
            ("bert-words", sequence({"type": "BertPreTokenizer"}, byte_level())),
            ("delimiter", sequence({"type": "CharDelimiterSplit", "delimiter": "é"}, byte_level())),
            ("falcon", sequence({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True, True),
                                {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]"))),
    ] + [("punctuation-" + b, sequence({"type": "Punctuation", "behavior": b}, byte_level()))
         for b in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    ] + [("metaspace-%s-%s" % (scheme, cut), sequence({"type": "WhitespaceSplit"}, metaspace(scheme, cut), byte_level()))
         for scheme in ["first", "always", "never"] for cut in [True, False]
    ] + [("behavior-%s%s" % (b, i), sequence(split(r"\s|\p{P}", b, i), byte_level()))
         for b in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"] for i in [False, True]]:
        yield name, dict(base, pre_tokenizer=pre)
    for name, norm in [(x, {"type": x}) for x in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]] + [
            ("strip-%s%s" % (l, r), {"type": "Strip", "strip_left": l, "strip_right": r}) for l in [True, False] for r in [True, False]] + [
            ("prepend", {"type": "Prepend", "prepend": "é "}), ("replace", {"type": "Replace", "pattern": {"String": " "}, "content": "__"}),
            ("replace-regex", {"type": "Replace", "pattern": {"Regex": r"\s{2,}|\p{Nd}|(?=[aeiou])"}, "content": "#"}),
            ("remove", {"type": "Replace", "pattern": {"Regex": r"[abc\s]"}, "content": ""}),
            ("several", {"type": "Sequence", "normalizers": [
                {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True},
                {"type": "Replace", "pattern": {"Regex": r"\p{P}+"}, "content": "."}, {"type": "NFKC"}, PREPEND]})] + [
            ("bert-%d%d%d%s" % (c, z, l, a), {"type": "BertNormalizer", "clean_text": c, "handle_chinese_chars": z, "strip_accents": a,
                                              "lowercase": l})
            for c in [True, False] for z in [True, False] for l in [True, False] for a in [True, False, None]]:
        # A token that a normalizer empties makes the reference panic.
        base["added_tokens"] = [dict(t, content=t["content"].replace("  ", "§§§")) for t in base["added_tokens"]]
        yield "normalizer-" + name, dict(base, normalizer=norm)
        if name in ("strip-TrueTrue", "remove", "several", "bert-111None", "prepend"):
            yield "normalizer-%s-first" % name, dict(base, normalizer=norm, pre_tokenizer=sequence(metaspace(), byte_level()))
    for name, doc in llama_variants():
        yield "characters-" + name, doc


def llama_variants():
    """Byte fallback with some bytes missing, unknown characters fused and not, both spellings, all ways to prepend."""
    base = llama2()
    for scheme in ["first", "always", "never"]:
        for cut in [True, False]:
            yield "%s-%s" % (scheme, cut), dict(mistral(), pre_tokenizer=metaspace(scheme, cut))
    yield "no-fallback", dict(base, model=dict(base["model"], byte_fallback=False))
    yield "unfused", dict(base, model=dict(base["model"], byte_fallback=False, fuse_unk=False))
    yield "ignore-merges", dict(base, model=dict(base["model"], ignore_merges=True), pre_tokenizer=metaspace("never", True))
    yield "no-unk", dict(base, model=dict(base["model"], byte_fallback=False, unk_token=None))
    for fuse in [True, False]:
        vocab = {k: i for i, k in enumerate(k for k in base["model"]["vocab"] if k not in ["<0xC3>", "<0xF0>", "<0x20>", "<0xE4>"])}
        yield "holes-%s" % fuse, dict(base, model=dict(base["model"], vocab=vocab, fuse_unk=fuse))
    words = bert()
    yield "wordpiece-cased", dict(words, normalizer=dict(words["normalizer"], lowercase=False))
    yield "wordpiece-plain", dict(words, model=dict(words["model"], continuing_subword_prefix=""), pre_tokenizer={"type": "Whitespace"})
    yield "wordpiece-short", dict(words, model=dict(words["model"], max_input_chars_per_word=5))
    yield "bert-processing", dict(words, post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]})
    yield "roberta-processing", dict(base, post_processor={"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1],
                                                           "trim_offsets": True, "add_prefix_space": False})
    for name, decoder in [("metaspace", {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}),
                          ("metaspace-never", {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": True}),
                          ("none", None), ("wordpiece-untidy", {"type": "WordPiece", "prefix": "th", "cleanup": False}),
                          ("strip-each", {"type": "Sequence", "decoders": [{"type": "ByteFallback"},
                                          {"type": "Strip", "content": "e", "start": 1, "stop": 1}]}),
                          ("strip-both", {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"},
                                          {"type": "Strip", "content": "e", "start": 2, "stop": 2}]}),
                          ("replace-regex", {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"Regex": "[aeiou\u2581]"},
                                             "content": "+"}, {"type": "ByteFallback"}]}),
                          ("byte-level", byte_level(True, True))]:
        yield "decoder-" + name, dict(base, decoder=decoder)


# --- the other side --------------------------------------------------------------------------------------------------

def write_texts(path, texts):
    with open(path, "wb") as f:
        for t in texts:
            b = t.encode()
            f.write(struct.pack("<I", len(b)) + b)


def run_ours(encoder, tokenizer, texts, work, split_special=False):
    write_texts(os.path.join(work, "texts"), texts)
    ids = os.path.join(work, "ids")
    subprocess.run([encoder] + (["split"] if split_special else []) + [tokenizer, os.path.join(work, "texts"), ids], check=True)
    return read_lists(ids)


def read_lists(path):
    raw = open(path, "rb").read()
    out, at = [], 0
    while at < len(raw):
        n = struct.unpack_from("<I", raw, at)[0]
        out.append(list(struct.unpack_from("<%dI" % n, raw, at + 4)))
        at += 4 + 4 * n
    return out


def check_framed(name, encoder, path, texts, work):
    """With special tokens around the texts, cut to several lengths, on both sides."""
    tok = Tokenizer.from_file(path)
    tok.no_padding()
    write_texts(os.path.join(work, "texts"), texts)
    bad = 0
    for length in (0, 8, 33, 512):
        tok.no_truncation()
        if length:
            tok.enable_truncation(length)
        subprocess.run([encoder, "framed=%d" % length, path, os.path.join(work, "texts"), os.path.join(work, "ids")], check=True)
        theirs = [e.ids for e in tok.encode_batch(texts, add_special_tokens=True)]
        bad += sum(a != b for a, b in zip(read_lists(os.path.join(work, "ids")), theirs))
    print("%-28s %7d strings framed and cut:  %d mismatches" % (name, 4 * len(texts), bad))
    return bad


def decode_one(tok, ids, skip):
    try:
        return tok.decode(ids, skip_special_tokens=skip)
    except BaseException:  # Strip's stop panics on a short text
        return None


def check_decode(name, encoder, path, texts, work):
    """The text of ids: those of texts, and ids at random."""
    tok = Tokenizer.from_file(path)
    tok.no_truncation()
    tok.no_padding()
    rng = random.Random(6)
    top = tok.get_vocab_size()
    special = list(tok.get_added_tokens_decoder())
    lists = [e.ids for e in tok.encode_batch(texts)]
    for _ in range(len(texts)):
        pool = rng.choice([lambda: rng.randrange(top), lambda: rng.randrange(min(top, 320)),
                           lambda: rng.choice(special) if special and rng.random() < 0.3 else rng.randrange(min(top, 1000))])
        lists.append([pool() for _ in range(rng.choice([1, 2, 3, 5, 8, 13, 40]))])
    with open(os.path.join(work, "ids"), "wb") as f:
        for ids in lists:
            f.write(struct.pack("<%dI" % (len(ids) + 1), len(ids), *ids))
    bad = 0
    for skip in (False, True):
        subprocess.run([encoder] + (["skip"] if skip else []) +
                       ["decode", path, os.path.join(work, "ids"), os.path.join(work, "decoded")], check=True)
        raw, at = open(os.path.join(work, "decoded"), "rb").read(), 0
        theirs = [decode_one(tok, ids, skip) for ids in lists]
        for ids, text in zip(lists, theirs):
            n = struct.unpack_from("<I", raw, at)[0]
            ours = raw[at + 4:at + 4 + n].decode()
            at += 4 + n
            if text is not None and ours != text:
                bad += 1
                if bad <= 3:
                    print("   %s\n      reference %a\n      ours      %a" % (ids[:20], text[:100], ours[:100]))
    print("%-28s %7d lists decoded:  %d mismatches" % (name, 2 * len(lists), bad))
    return bad


def reference(tok, texts, split_special=False):
    tok.encode_special_tokens = split_special
    try:
        return [e.ids for e in tok.encode_batch(texts, add_special_tokens=False)]
    except BaseException:  # some strings make some normalizers panic: those are left out
        return [one(tok, t) for t in texts]


def one(tok, text):
    try:
        return tok.encode(text, add_special_tokens=False).ids
    except BaseException:
        return None


def check(name, encoder, path, texts, work, modes=(False, True)):
    tok = Tokenizer.from_file(path)
    tok.no_truncation()
    tok.no_padding()
    bad = panics = 0
    for split_special in modes:
        ours = run_ours(encoder, path, texts, work, split_special)
        theirs = reference(tok, texts, split_special)
        wrong = [i for i in range(len(texts)) if theirs[i] is not None and ours[i] != theirs[i]]
        panics += theirs.count(None)
        bad += len(wrong)
        for i in sorted(wrong, key=lambda i: len(texts[i]))[:3]:
            print("   %a\n      reference %s\n      ours      %s" % (texts[i][:200], theirs[i][:40], ours[i][:40]))
        assert len(ours) == len(theirs)
    print("%-28s %7d strings, %8.2f MB: %d mismatches%s" %
          (name, len(texts) * len(modes), sum(len(t.encode()) for t in texts) / 1e6, bad,
           ", %d left out" % panics if panics else ""))
    return bad


def strings_of(path):
    """Every string in a JSON or JSONL file; lines and the whole of any other."""
    out = []

    def walk(v):
        if isinstance(v, str):
            out.append(v)
        elif isinstance(v, (list, dict)):
            for x in (v.values() if isinstance(v, dict) else v):
                walk(x)

    text = open(path, encoding="utf-8").read()
    if path.endswith(".json"):
        walk(json.loads(text))
    elif path.endswith(".jsonl"):
        for line in text.splitlines():
            walk(json.loads(line))
    else:
        out += text.splitlines(True) + [text]
    return out


def summary(ids):
    """A long list of ids by its length and CRC-32."""
    return [len(ids), zlib.crc32(struct.pack("<%dI" % len(ids), *ids))]


def cases_of(tok, texts, repeat):
    ids = reference(tok, texts)
    split_ids = reference(tok, texts, True)
    tok.encode_special_tokens = False
    rng = random.Random(7)
    out = {"ids": ids, "split": {str(i): b for i, (a, b) in enumerate(zip(ids, split_ids)) if a != b},
           "repeat": [summary(x) for x in reference(tok, [s * n for s, n in repeat])], "framed": [], "decode": []}
    tok.encode_special_tokens = False
    for i in range(0, len(texts), 17):
        for length in (0, 4, 9):
            tok.no_truncation()
            if length:
                tok.enable_truncation(length)
            out["framed"].append([i, length, tok.encode(texts[i]).ids])
    tok.no_truncation()
    lists = [ids[i] for i in range(5, len(texts), 13)]
    lists += [[rng.randrange(tok.get_vocab_size() if i % 2 else 320) for _ in range(9)] for i in range(30)]
    out["decode"] = [[x, tok.decode(x, skip_special_tokens=False), tok.decode(x, skip_special_tokens=True)] for x in lists]
    return out


def make():
    rng = random.Random(2)
    texts = [t for t in fixed_strings() if len(t) < 60]
    texts = sorted(set(texts[:60] + texts[60::2]), key=texts.index) + SENTENCES[:8] + [hard_string(rng)[:60] for _ in range(70)]
    cases = {"texts": texts, "repeat": [["a", 5000], ["ab", 3000], [" ", 4000], ["\n", 300], ["é", 2000], ["中", 700], ["'", 900],
                                        ["1", 1000], ["the quick ", 200], ["<|im_end|>", 50], ["e\u0301", 300], ["e the ", 400]]}
    for name, build in FAMILIES.items():
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "tokenizer.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(build(), f, ensure_ascii=False, separators=(",", ":"))
        tok = Tokenizer.from_file(path)
        tok.no_padding()
        cases[name] = cases_of(tok, texts, cases["repeat"])
    for name, ids in (("gpt2", {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "add_bos_token": False}),
                      ("llama3", {"bos_token": "<|begin_of_text|>", "eos_token": {"__type": "AddedToken", "content": "<|eot_id|>",
                                  "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}, "add_bos_token": True}),
                      ("qwen2", {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "add_prefix_space": False})):
        with open(os.path.join(HERE, name, "tokenizer_config.json"), "w", encoding="utf-8") as f:
            json.dump(dict(ids, tokenizer_class="PreTrainedTokenizerFast"), f, indent=1)
    with open(os.path.join(HERE, "cases.json"), "w", encoding="utf-8") as f:
        json.dump(cases, f, separators=(",", ":"))


def compare(args):
    rng = random.Random(3)
    texts = fixed_strings() + [hard_string(rng) for _ in range(args.n)]
    few = texts[:6000]
    runs = ["a" * 1000000, " " * 1000000, "ab" * 300000, "中文" * 100000, "\n" * 300000, "e\u0301" * 100000, "1" * 300000, "'s" * 100000]
    points = ["".join("a%cb %c1%c\n%c " % ((c,) * 4) for c in range(lo, lo + 16) if not 0xd800 <= c <= 0xdfff)
              for lo in range(0, 0x110000, 16)]
    data = [s for p in args.texts for s in strings_of(p)]
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        def whole(name, path):
            copy = os.path.join(work, "tokenizer.json")
            with open(path, "rb") as f, open(copy, "wb") as g:
                g.write(f.read())
            bad = check(name + " generated", args.encoder, copy, texts, work)
            bad += check(name + " runs", args.encoder, copy, runs, work)
            bad += check(name + " data", args.encoder, copy, data, work) if data else 0
            bad += check(name + " code points", args.encoder, copy, points, work, (False,)) if args.points else 0
            bad += check_framed(name, args.encoder, copy, few, work)
            return bad + check_decode(name, args.encoder, copy, few, work)

        if not args.only_variants:
            for name in FAMILIES if not args.tokenizer else []:
                bad += whole(name, os.path.join(HERE, name, "tokenizer.json"))
            for path in args.tokenizer:
                name = os.path.basename(path)
                bad += whole(name if name != "tokenizer.json" else path.split("/")[-2], path)
        for name, doc in variants() if args.only_variants or not args.tokenizer else []:
            path = os.path.join(work, "variant.json")
            with open(path, "w", encoding="utf-8") as f:
                json.dump(doc, f)
            bad += check(name, args.encoder, path, texts if name.startswith("pairs") else few, work, (False,))
            if args.points and not name.startswith("behavior"):
                bad += check(name + " code points", args.encoder, path, points, work, (False,))
            if name.startswith("characters"):
                bad += check_framed(name, args.encoder, path, few[::7], work)
                bad += check_decode(name, args.encoder, path, few[::3], work)
    print("total: %d mismatches" % bad)
    return 1 if bad else 0


def as_transformers(args):
    """Frames and overrides of classes: directories that AutoTokenizer and ENCODER open alike."""
    from transformers import AutoTokenizer
    rng = random.Random(9)
    texts = fixed_strings()[::3] + [hard_string(rng) for _ in range(400)]

    def files(family, **config):
        with open(os.path.join(HERE, family, "tokenizer.json"), encoding="utf-8") as f:
            return {"tokenizer.json": f.read(), "tokenizer_config.json": json.dumps(config)}

    def old(family, config, **more):
        model = json.loads(files(family)["tokenizer.json"])
        vocab = dict({t["content"]: t["id"] for t in model["added_tokens"]}, **model["model"]["vocab"])
        if "merges" not in model["model"]:
            out = {"vocab.txt": "".join(w + "\n" for w in sorted(vocab, key=vocab.get))}
        else:
            merges = [m if isinstance(m, str) else " ".join(m) for m in model["model"]["merges"]]
            out = {"vocab.json": json.dumps(vocab), "merges.txt": "#version: 0.2\n" + "".join(m + "\n" for m in merges)}
        return dict(out, **{"tokenizer_config.json": json.dumps(dict(tokenizer_class=config, **more))})

    llama = dict(tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>", legacy=False)
    plain = dict(tokenizer_class="PreTrainedTokenizerFast")
    flags = {str(i): {"content": c, "lstrip": strip, "rstrip": False, "normalized": norm, "single_word": False, "special": not norm}
             for i, c, strip, norm in ((0, "<unk>", False, False), (1, "<s>", True, False), (2, "</s>", False, True))}
    cases = [("bert %s" % x, 0, files("bert", tokenizer_class="BertTokenizer", **x)) for x in (
        {}, {"do_lower_case": False}, {"tokenize_chinese_chars": False}, {"strip_accents": False},
        {"do_lower_case": False, "strip_accents": True})]
    cases += [("llama %s" % x, 0, files("llama2", **dict(llama, **x))) for x in (
        {}, {"add_eos_token": True}, {"add_bos_token": False}, {"add_bos_token": False, "add_eos_token": True},
        {"added_tokens_decoder": flags})]
    cases += [("left", 9, files("bert", truncation_side="left", cls_token="[CLS]", **plain)),
              ("left too", 7, files("mistral", truncation_side="left", bos_token="<s>", **plain)),
              ("plain", 0, files("llama2", bos_token="<s>", add_bos_token=False, add_eos_token=True, **plain)),
              ("llama3", 0, files("llama3", **plain)), ("prefix", 0, files("gpt2", tokenizer_class="GPT2Tokenizer", add_prefix_space=True)),
              ("gpt2 bos", 0, files("gpt2", tokenizer_class="GPT2Tokenizer", add_bos_token=True)),
              ("qwen2", 0, files("qwen2", tokenizer_class="Qwen2Tokenizer", eos_token="<|im_end|>")),
              ("vocab.txt", 0, old("bert", "BertTokenizer")), ("vocab.txt cased", 0, old("bert", "BertTokenizer", do_lower_case=False)),
              ("merges.txt", 0, old("gpt2", "GPT2Tokenizer")), ("merges.txt qwen2", 0, old("qwen2", "Qwen2Tokenizer"))]
    bad = 0
    for name, length, content in cases:
        with tempfile.TemporaryDirectory() as work:
            for file, text in content.items():
                with open(os.path.join(work, file), "w", encoding="utf-8") as f:
                    f.write(text)
            tok = AutoTokenizer.from_pretrained(work)
            write_texts(os.path.join(work, "texts"), texts)
            subprocess.run([args.encoder, "framed=%d" % length, work, os.path.join(work, "texts"), os.path.join(work, "ids")], check=True)
            cut = {"truncation": True, "max_length": length} if length else {}
            wrong = sum(tok(t, **cut)["input_ids"] != ours for t, ours in zip(texts, read_lists(os.path.join(work, "ids"))))
        print("%-60s %d strings, %d mismatches" % (name[:60], len(texts), wrong))
        bad += wrong
    return 1 if bad else 0


def saved(args):
    rng = random.Random(4)
    texts = fixed_strings() + [hard_string(rng) for _ in range(args.n)]
    texts += ["<|bos|>a<|eos|>", "x<|pad|>", "<|bos|"]
    with tempfile.TemporaryDirectory() as work:
        tok = Tokenizer.from_file(os.path.join(args.dir, "tokenizer.json"))
        bad = 0
        for how in ("bytes", args.dir):
            for split_special in (False, True):
                ours = run_ours(args.encoder, how, texts, work, split_special)
                bad += sum(a != b for a, b in zip(ours, reference(tok, texts, split_special)))
    from transformers import AutoTokenizer
    auto = AutoTokenizer.from_pretrained(args.dir)
    bad += auto.bos_token_id != 256 or auto.eos_token_id != 257 or auto.pad_token_id != 258
    bad += auto("<|bos|>é", add_special_tokens=False)["input_ids"] != [256, 0xc3, 0xa9]
    print("bytes saved: %d strings, %d mismatches" % (len(texts), bad))
    return 1 if bad else 0


def speed(args):
    texts = [s for p in args.texts for s in strings_of(p)]
    size = sum(len(t.encode()) for t in texts) / 1e6
    tok = Tokenizer.from_file(args.tokenizer)
    start = time.time()
    for t in texts:
        tok.encode(t, add_special_tokens=False)
    one = time.time() - start
    start = time.time()
    tok.encode_batch(texts, add_special_tokens=False)
    batch = time.time() - start
    print("reference: encode %.2f MB/s; encode_batch %.2f MB/s (%s threads)" %
          (size / one, size / batch, os.environ.get("RAYON_NUM_THREADS", "all")))
    if args.encoder:
        with tempfile.TemporaryDirectory() as work:
            write_texts(os.path.join(work, "texts"), texts)
            subprocess.run([args.encoder, args.tokenizer, os.path.join(work, "texts"), "-5"], check=True)


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="what", required=True)
    sub.add_parser("make")
    c = sub.add_parser("compare")
    c.add_argument("encoder")
    c.add_argument("-n", type=int, default=20000)
    c.add_argument("--texts", nargs="*", default=[])
    c.add_argument("--tokenizer", nargs="*", default=[])
    c.add_argument("--points", action="store_true", help="every code point (takes minutes)")
    c.add_argument("--only-variants", action="store_true")
    c = sub.add_parser("transformers")
    c.add_argument("encoder")
    c = sub.add_parser("saved")
    c.add_argument("encoder")
    c.add_argument("dir")
    c.add_argument("-n", type=int, default=2000)
    c = sub.add_parser("speed")
    c.add_argument("texts", nargs="+")
    c.add_argument("--tokenizer", required=True)
    c.add_argument("--encoder")
    args = p.parse_args()
    return {"make": lambda a: make(), "compare": compare, "saved": saved, "transformers": as_transformers, "speed": speed}[args.what](args)


if __name__ == "__main__":
    sys.exit(main())

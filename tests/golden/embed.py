#!/usr/bin/env python3
"""Tiny random embedding models in sentence-transformers' layout, and what sentence-transformers makes of texts.

    python3 tests/golden/embed.py        writes tests/golden/embed/{bert,qwen3}

Needs torch, transformers, tokenizers and sentence-transformers (written with 2.15, 4.57.1, 0.22 and 5.1.2).  Each
directory holds the model, and expected.safetensors: over the rows of texts.jsonl
    st            what SentenceTransformer.encode() returns
    prompt        the same with the prompt "query"
    dim           the same truncated to 12 numbers, then normalised
    layer.K       the mean over hidden_states[K], not normalised
    cls, last, position, at2   other poolings of the last layer, not normalised
and ids/offsets of the tokens that the model saw.
"""

import json
import os
import shutil

import numpy as np
import torch
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer, models
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import ByteLevel
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "embed")
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "",
    "a",
    "  white space around\t",
    "Caf\u00e9 na\u00efve, 1984!",
    "\u4f60\u597d\u4e16\u754c",
    "a longer text that goes on and on and on until the model has had enough of it, and then goes on",
    "unknowable \U0001f600 words",
    "The quick brown fox jumps over the lazy dog.",
    "don't stop",
]
POSITION = 2


def randomise(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.3 if p.ndim > 1 else 0.1) + ("norm" in name.lower() and "weight" in name))


def bert_tokenizer():
    words = ["the", "quick", "brown", "fox", "over", "lazy", "dog", "white", "space", "text", "on", "and", "model", "it", "words", "stop"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *("##" + c for c in letters), "##ing", "##s", *".,!'", "\u4f60", "\u597d"]
    t = Tokenizer(WordPiece({w: i for i, w in enumerate(dict.fromkeys(vocab))}, unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cls, sep = t.token_to_id("[CLS]"), t.token_to_id("[SEP]")
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
    t.decoder = decoders.WordPiece()
    t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return PreTrainedTokenizerFast(tokenizer_object=t, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", model_max_length=512)


def qwen3_tokenizer():
    alphabet = sorted(ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("o", "n"), ("\u0120", "on")]
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    t = Tokenizer(BPE(vocab, merges))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<|endoftext|>"])
    end = t.token_to_id("<|endoftext|>")
    t.post_processor = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)])
    return PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=64, padding_side="left")


def build(name, model, tokenizer, pooling, max_length, prompts):
    out = os.path.join(HERE, name)
    shutil.rmtree(out, ignore_errors=True)
    tmp = out + ".tmp"
    shutil.rmtree(tmp, ignore_errors=True)
    model.eval().save_pretrained(tmp)
    tokenizer.save_pretrained(tmp)
    body = models.Transformer(tmp, max_seq_length=max_length)
    st = SentenceTransformer(modules=[body, models.Pooling(model.config.hidden_size, pooling_mode=pooling), models.Normalize()], prompts=prompts, device="cpu")
    st.save(out, create_model_card=False)
    shutil.rmtree(tmp)
    if max_length is None:  # as Qwen3-Embedding: only the tokenizer says how long a text may be
        os.remove(os.path.join(out, "sentence_bert_config.json"))
    os.chmod(os.path.join(out, "model.safetensors"), 0o644)
    for drop in ("README.md", "vocab.txt", "vocab.json", "merges.txt", "special_tokens_map.json"):
        if os.path.exists(os.path.join(out, drop)):
            os.remove(os.path.join(out, drop))
    st = SentenceTransformer(out, device="cpu")
    want = {"st": st.encode(TEXTS), "prompt": st.encode(TEXTS, prompt_name="query")}
    cut = st.encode(TEXTS, normalize_embeddings=False)[:, :12]
    want["dim"] = cut / np.linalg.norm(cut, axis=1, keepdims=True)
    ids, offsets = [], [0]
    for t in TEXTS:
        enc = st.tokenize([t])
        keep = {k: v for k, v in enc.items() if k in ("input_ids", "attention_mask")}
        ids += enc["input_ids"][0].tolist()
        offsets.append(len(ids))
        with torch.no_grad():
            hs = st[0].auto_model(**keep, output_hidden_states=True).hidden_states
        n = enc["input_ids"].shape[1]
        last = hs[-1][0].double()
        w = torch.arange(1, n + 1, dtype=torch.float64)
        rows = {"cls": last[0], "last": last[-1], "position": (last * w[:, None]).sum(0) / w.sum(), "at2": last[POSITION] if n > POSITION else torch.zeros_like(last[0])}
        for k, h in enumerate(hs):
            rows[f"layer.{k}"] = h[0].double().mean(0)
        for k, v in rows.items():
            want.setdefault(k, []).append(v.numpy())
    want = {k: np.ascontiguousarray(np.stack(list(v)).astype(np.float32)) for k, v in want.items()}
    want["ids"] = np.array(ids, dtype=np.int32)
    want["offsets"] = np.array(offsets, dtype=np.int64)
    save_file(want, os.path.join(out, "expected.safetensors"))
    os.chmod(os.path.join(out, "expected.safetensors"), 0o644)


def main():
    os.makedirs(HERE, exist_ok=True)
    with open(os.path.join(HERE, "texts.jsonl"), "w", encoding="utf-8") as f:
        for i, t in enumerate(TEXTS):
            f.write(json.dumps({"id": i, "text": t}, ensure_ascii=False) + "\n")
    torch.manual_seed(0)
    tok = bert_tokenizer()
    c = BertConfig(vocab_size=len(tok), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=40)
    m = BertModel(c, add_pooling_layer=True)
    randomise(m, 1)
    build("bert", m, tok, "mean", 24, {"query": "query: ", "passage": "passage: "})
    tok = qwen3_tokenizer()
    c = Qwen3Config(vocab_size=len(tok) + 5, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=48, max_position_embeddings=64, tie_word_embeddings=True)
    m = Qwen3Model(c)
    randomise(m, 2)
    build("qwen3", m, tok, "lasttoken", None, {"query": "Instruct: find it\nQuery:", "document": ""})


main()

#!/usr/bin/env python3
"""
Does df-tools compute for a model of yours what transformers computes?

    python3 tests/golden/verify_model.py MODEL_DIR [--programs build/bin] [--text FILE] [--rows 16] [--max-length 256]

MODEL_DIR is a Hugging Face directory: weights, config.json, tokenizer.json.  The text is one document a line (without
--text: sentences in this script, chosen to be nasty).  Compared, with the programs as anybody would call them:

    token ids       df-pack        against the tokenizer of transformers
    losses          df-grad        against transformers in float32 from the same weights
    gradients       df-grad        by parameter name, of the first row (--no-gradients leaves them out)
    generation      df-sample      greedy, token for token
    embeddings      df-embed       against sentence-transformers, or the last hidden states (encoders)

Needs torch, transformers, h5py and hdf5plugin (and sentence-transformers for its directories).
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import h5py
import hdf5plugin  # noqa: F401  (registers zstd)
import numpy as np
import torch
import transformers

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "In 1969, 3.14159 people couldn't've said: \"it's\tover\"...\u00a0 ok?",
    "def f(x):\n    return x ** 2  # squares\n\n\nprint(f(12345678))",
    "汉字和かな交じり文、그리고 한국어 텍스트。",
    "Ünïcödé: e\u0301 ﬁ ½ Ⅷ 👩‍👩‍👧‍👦 🇩🇪 \u200b zero\u200dwidth",
    "مرحبا بالعالم — שלום עולם — नमस्ते दुनिया",
    "   leading and trailing spaces   ",
    "a" * 300,
    "<s> [INST] <|im_start|>user <|endoftext|> </s> plain text that looks special",
    "x",
]
good = True


def report(what, value, limit, note=""):
    global good
    ok = bool(value <= limit)
    good &= ok
    print(f"{what:<12} {value:<12.3g} (at most {limit:g}) {note}: {'ok' if ok else 'DIFFERS'}", flush=True)


class Programs:
    def __init__(self, where, tmp):
        self.where, self.tmp = where, tmp

    def __call__(self, name, *args):
        cmd = [os.path.join(self.where, name), "-q", *map(str, args)]
        out = subprocess.run(cmd, capture_output=True, text=True)
        if out.returncode != 0:
            sys.exit(f"{' '.join(cmd)}\n{out.stderr}")
        return out.stdout


def write_dataset(tmp, texts):
    with open(os.path.join(tmp, "texts.jsonl"), "w", encoding="utf-8") as f:
        for t in texts:
            f.write(json.dumps({"text": t}, ensure_ascii=False) + "\n")
    with open(os.path.join(tmp, "dataset_info.json"), "w", encoding="utf-8") as f:
        json.dump({"texts": {"file_name": "texts.jsonl", "columns": {"prompt": "text"}}}, f)


def ragged(h5, name):
    offsets = h5["tokens/offsets"][:]
    values = h5[name][:]
    return [values[a:b] for a, b in zip(offsets[:-1], offsets[1:])]


def check_tokens(run, tok, texts, args):
    path = os.path.join(run.tmp, "tokens.h5")
    run("df-pack", "--dataset-dir", run.tmp, "--dataset", "texts", "--tokenizer", args.model, "--template", "empty",
        "--stage", "pt", "--no-packing", "--cutoff-len", args.max_length, "-o", path)
    with h5py.File(path) as h5:
        rows = list(zip(ragged(h5, "tokens/ids"), ragged(h5, "tokens/label_mask")))
    bad = 0
    for text, (row, _) in zip(texts, rows):
        want = tok(text + (tok.eos_token or ""), add_special_tokens=False)["input_ids"]
        if getattr(tok, "add_bos_token", False) and tok.bos_token_id is not None:
            want = [tok.bos_token_id] + want
        bad += list(row) != want[:args.max_length]
    report("token ids", bad, 0, f"rows of {len(texts)} that differ")
    return path, rows


def sample_loss(model, row):
    """The mean over the targets; NaN without any."""
    ids, mask = (torch.tensor(x.astype(np.int64)) for x in row)
    logits = model(input_ids=ids[None]).logits[0, :-1].float()
    return torch.nn.functional.cross_entropy(logits, torch.where(mask > 0, ids, -100)[1:])


def check_losses(run, model, tokens, rows, args):
    path = os.path.join(run.tmp, "losses.h5")
    run("df-grad", "-m", args.model, tokens, "--losses", "-o", path)
    with h5py.File(path) as h5:
        got = h5["loss"][:]
    with torch.no_grad():
        want = np.array([sample_loss(model, r).item() for r in rows])
    known = ~np.isnan(want)
    if not np.array_equal(known, ~np.isnan(got)):
        report("losses", 1, 0, "rows without a loss differ")
    report("losses", np.abs(got[known] - want[known]).max(), 1e-4, f"largest difference, losses to {want[known].max():.2f}")


def check_gradients(run, model, tokens, rows, args):
    path = os.path.join(run.tmp, "grads.h5")
    run("df-grad", "-m", args.model, tokens, "--shard", f"1/{len(rows)}", "--block-rows", 1, "-o", path)
    path = [os.path.join(run.tmp, f) for f in sorted(os.listdir(run.tmp)) if f.startswith("grads.")][0]
    with h5py.File(path) as h5:
        g = h5["gradient"][0]
        row = int(h5["sample/id"][0])
        names = [n.decode() if isinstance(n, bytes) else n for n in h5["manifest/name"][:]]
        offsets, n_rows, cols = (h5[f"manifest/{k}"][:] for k in ("offset", "rows", "cols"))
    model.zero_grad()
    sample_loss(model, rows[row]).backward()
    live = dict(model.named_parameters())
    worst, where = 0.0, ""
    for name, at, r, c in zip(names, offsets, n_rows, cols):
        p = live[name if name in live else "model." + name]
        want = np.zeros(p.shape, np.float32).ravel() if p.grad is None else p.grad.numpy().ravel()
        diff = np.abs(g[at:at + r * c] - want).max() / max(np.abs(want).max(), 1e-12)
        if np.abs(want).max() > 1e-7 and diff > worst:
            worst, where = diff, name
    report("gradients", worst, 1e-3, f"of {len(names)} parameters, row {row}; largest relative difference: {where}")


def check_generation(run, model, tok, args):
    prompts = [t for t in TEXTS if t.isascii()][:4]
    with open(os.path.join(run.tmp, "prompts.txt"), "w", encoding="utf-8") as f:
        f.writelines(p.replace("\n", " ").strip() + "\n" for p in prompts)
    path = os.path.join(run.tmp, "completions.h5")
    run("df-sample", "-m", args.model, "--prompts", os.path.join(run.tmp, "prompts.txt"),
        "--template", "empty", "--max-new-tokens", 24, "-o", path)
    with h5py.File(path) as h5:
        rows, masks = ragged(h5, "tokens/ids"), ragged(h5, "tokens/label_mask")
    bad = 0
    for row, mask in zip(rows, masks):
        n = len(mask) - int(mask.sum())
        with torch.no_grad():
            want = model.generate(torch.tensor(row[:n].astype(np.int64))[None], do_sample=False, max_new_tokens=24,
                                  num_beams=1, repetition_penalty=1.0)[0].tolist()
        bad += want[:len(row)] != list(row)
    report("generation", bad, 0, f"prompts of {len(rows)} whose greedy tokens differ")


def check_embeddings(run, texts, args):
    path = os.path.join(run.tmp, "embeddings.h5")
    run("df-embed", "-m", args.model, os.path.join(run.tmp, "texts.jsonl"), "--column", "text", "-o", path)
    with h5py.File(path) as h5:
        got = h5["embedding"][:]
    from sentence_transformers import SentenceTransformer
    want = SentenceTransformer(args.model, device="cpu").encode(texts, convert_to_numpy=True)
    cos = (got * want).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(want, axis=1)
    report("embeddings", 1 - cos.min(), 1e-5, f"1 - least cosine over {len(texts)} texts")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("model")
    ap.add_argument("--programs", default=os.path.join(os.path.dirname(__file__), "..", "..", "build", "bin"))
    ap.add_argument("--text")
    ap.add_argument("--rows", type=int, default=16)
    ap.add_argument("--max-length", type=int, default=256)
    ap.add_argument("--no-gradients", action="store_true")
    args = ap.parse_args()
    transformers.logging.set_verbosity_error()
    texts = TEXTS
    if args.text:
        with open(args.text, encoding="utf-8") as f:
            texts = [line.rstrip("\n") for line in f if line.strip()][:args.rows]
    print(f"{args.model}: torch {torch.__version__}, transformers {transformers.__version__}")
    with open(os.path.join(args.model, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    with tempfile.TemporaryDirectory() as tmp:
        run = Programs(args.programs, tmp)
        write_dataset(tmp, texts)
        encoder = config["model_type"] == "bert"
        if encoder or os.path.exists(os.path.join(args.model, "modules.json")):
            check_embeddings(run, texts, args)
        if not encoder and any("CausalLM" in a for a in config.get("architectures") or []):
            tok = transformers.AutoTokenizer.from_pretrained(args.model)
            model = transformers.AutoModelForCausalLM.from_pretrained(args.model, torch_dtype=torch.float32).eval()
            tokens, rows = check_tokens(run, tok, texts, args)
            check_losses(run, model, tokens, rows, args)
            if not args.no_gradients:
                check_gradients(run, model, tokens, rows, args)
            check_generation(run, model, tok, args)
    print("all equal" if good else "DIFFERENCES")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""
Do checkpoints and adapters of ours load in transformers and PEFT, and compute the same?

    make build/tests/test_model_export
    DF_EXPORT_DIR=/tmp/export build/tests/test_model_export
    python3 tests/golden/verify_export.py /tmp/export | tee tests/golden/verify_export.txt

For each case: DIR/CASE/base is loaded with AutoModelForCausalLM, DIR/CASE/adapter on top with PeftModel; their logits
are compared with ours (logits.safetensors), sample by sample.  Missing or unexpected tensors are an error.
"""
import os
import sys

import peft
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TOL = 1e-4
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)


def logits(model, ids, offsets):
    with torch.no_grad():
        return torch.cat([fresh(model)(input_ids=ids[a:b][None]).logits[0] for a, b in zip(offsets, offsets[1:])])


def fresh(model):
    """Dynamic rotary scaling remembers the longest sequence it saw."""
    for m in model.modules():
        if hasattr(m, "original_inv_freq"):
            m.register_buffer("inv_freq", m.original_inv_freq, persistent=False)
            m.max_seq_len_cached = m.original_max_seq_len
    return model


def compare(what, got, want):
    diff = ((got - want).abs().max() / want.abs().max()).item()
    print(f"{what}: logits {list(got.shape)}, largest |logit| {want.abs().max():.3f}, "
          f"largest difference relative to it {diff:.1e}: {'ok' if diff <= TOL else 'FAILED'}")
    return diff <= TOL


def main():
    root, good = sys.argv[1], True
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    for case in sorted(os.listdir(root)):
        ours = load_file(os.path.join(root, case, "logits.safetensors"))
        ids, offsets = ours["ids"], ours["offsets"].tolist()
        base, info = AutoModelForCausalLM.from_pretrained(os.path.join(root, case, "base"), output_loading_info=True)
        bad = {k: v for k, v in info.items() if v}
        if bad:
            print(f"{case}: {bad}: FAILED")
            good = False
        base.eval()
        good &= compare(f"{case} base", logits(base, ids, offsets), ours["base"])
        model = PeftModel.from_pretrained(base, os.path.join(root, case, "adapter")).eval()
        good &= compare(f"{case} adapter", logits(model, ids, offsets), ours["lora"])
    print("all equal" if good else "FAILED")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

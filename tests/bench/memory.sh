#!/bin/sh
# memory.sh - does LoRA on a model of 1.5 billion weights fit into 24 GiB, and how fast is it?
#
#   tests/bench/memory.sh [STEPS]      (with build/bin and build/bench in the PATH)
#
# A random bfloat16 checkpoint in the shape of Qwen2.5-1.5B (3 GB on disk), steps of 4 x 512 tokens, all linear layers
# adapted at rank 16.  BATCH, CUTOFF and MODEL (a config.json) may be set; OUT keeps the files.
set -eu
steps=${1:-3}
batch=${BATCH:-4}
cutoff=${CUTOFF:-512}
cd "$(dirname "$0")/../.."
model=${MODEL:-tests/bench/model-1.5b/config.json}
work=${OUT:-$(mktemp -d)}
mkdir -p "$work"
[ -e "$work/model/model.safetensors" ] || random_model "$model" "$work/model"
mkdir -p "$work/data"
awk -v n="$((steps * batch * cutoff / 20 + 100))" 'BEGIN { for (i = 0; i < n; i++) print "row " i " of numbers: " i * i }' >"$work/data/text.txt"
echo '{"text": {"file_name": "text.txt", "columns": {"prompt": "text"}}}' >"$work/data/dataset_info.json"
df-pack -q --stage pt --dataset-dir "$work/data" --dataset text --template empty --tokenizer bytes --cutoff-len "$cutoff" \
	-o "$work/tokens.h5"
set -- model_name_or_path="$work/model" tokenized_path="$work/tokens.h5" output_dir="$work/run" overwrite_output_dir=true \
	lora_rank=16 per_device_train_batch_size="$batch" max_steps="$steps" logging_steps=1 save_strategy=no learning_rate=1e-4
df-train "$@" --dry-run
df-train "$@"
[ -n "${OUT:-}" ] || rm -rf "$work"

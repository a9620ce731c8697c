#!/bin/sh
# tokens.sh - does training over billions of tokens start, run and fit as over a few million?
#
#   tests/bench/tokens.sh [TOKENS [SHARDS [STEPS]]]      (with build/bin and build/bench in the PATH)
#
# A set of TOKENS tokens (2e9: 3 GB on disk) in SHARDS files and one of 2 million, a model so small that reading could
# be seen, steps of 16 shuffled rows.  Three pairs of runs: how long the first step takes from the start of the
# program, the CPU time of each of STEPS steps after it, reading ahead included, and peak memory; then rows in no
# order, with a cache that is full.  OUT keeps the files.
set -eu
tokens=${1:-2000000000}
shards=${2:-64}
steps=${3:-30}
work=${OUT:-$(mktemp -d)}
mkdir -p "$work/model" "$work/big"
cat >"$work/config.json" <<'JSON'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000, "hidden_size": 32,
 "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
 "max_position_embeddings": 2048, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "initializer_range": 0.02,
 "tie_word_embeddings": true, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2}
JSON
[ -e "$work/model/model.safetensors" ] || random_model "$work/config.json" "$work/model"
[ -e "$work/small.h5" ] || many_tokens "$work/small.h5" 2000000 1 32000
[ -e "$work/big/big.$(printf %05d-of-%05d "$shards" "$shards").h5" ] || many_tokens "$work/big/big.h5" "$tokens" "$shards" 32000

now() { date +%s.%N; }

# run TOKENS STEPS
run()
{
	df-train model_name_or_path="$work/model" tokenized_path="$1" output_dir="$work/run" overwrite_output_dir=true \
		finetuning_type=full per_device_train_batch_size=8 gradient_accumulation_steps=2 max_steps="$2" \
		logging_steps="$2" save_strategy=no learning_rate=1e-4 2>"$work/log" || { cat "$work/log"; exit 1; }
}

# of the last run, in seconds
cpu_time() { sed -n 's/.*cpu \([0-9.]*\) s, peak.*/\1/p' "$work/log"; }

for pair in 1 2 3; do
	for set in small big; do
		path=$work/big
		[ $set = big ] || path=$work/small.h5
		began=$(now)
		run "$path" 1
		first=$(echo "$began $(now)" | awk '{ printf "%.2f", $2 - $1 }')
		cpu=$(cpu_time)
		run "$path" "$steps"
		echo "pair $pair, $set: first step after $first s (cpu $cpu s);" \
			"cpu $(echo "$cpu $(cpu_time) $steps" | awk '{ printf "%.0f", 1e3 * ($2 - $1) / ($3 - 1) }') ms for a step more;" \
			"$(sed -n 's/.*\(peak .*\)/\1/p' "$work/log")"
	done
done
echo "rows of the big set in no order: $(bench_rows "$work/big" 20000 | tail -n 1)"
[ -n "${OUT:-}" ] || rm -rf "$work"

#!/bin/bash
# mix.sh - what DoReMi's proxy step costs: user CPU time of runs in turn, one thread, as ratios.
#
#   tests/bench/mix.sh BUILD [ROUNDS]      BUILD: a build directory; ROUNDS: 5
#
# All runs train the same rows in the same order: a plain one (static_mix), DoReMi's with reference losses in a file, and
# DoReMi's that computes them with the reference model.  Time of an empty run (one step) is subtracted.
# shellcheck disable=SC2086 # commands are words
set -eu
[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 64; }
here=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
rounds=${2-5}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
PATH=$build/bin:$PATH
steps=${STEPS:-7}

mkdir data
"$build/demo/generate" data 1 >/dev/null
df-pack -q --dataset-dir data --dataset translate,reverse,shout,add,order,continue --template default --tokenizer bytes \
	--cutoff-len 128 -o pool.h5
train="df-train -q -j 1 model_name_or_path=$here/tests/bench/model-512 train_from_scratch=true finetuning_type=full
tokenized_path=pool.h5 per_device_train_batch_size=${BATCH:-8} gradient_accumulation_steps=1 save_strategy=no
logging_steps=100 overwrite_output_dir=true train_type=dynamic_mix update_step=1 update_times=0 learning_rate=1e-4"
$train output_dir=ref static_mix=true train_step=1
df-grad -q --losses --token-loss -m ref pool.h5 -o ref.h5
plain="$train output_dir=run static_mix=true"
file="$train output_dir=run component_name=doremi component_params.reference_losses=ref.h5"
model="$train output_dir=run component_name=doremi component_params.reference_model_path=ref"

TIMEFORMAT=%U
seconds() # COMMAND: user seconds of `steps` steps, less those of one
{
	local one all
	one=$( { time $1 warmup_step=1 train_step=1 >/dev/null 2>&1; } 2>&1)
	all=$( { time $1 warmup_step=$((steps + 1)) train_step=$((steps + 1)) >/dev/null 2>&1; } 2>&1)
	echo "$one $all" | awk '{ print $2 - $1 }'
}

for ((i = 0; i < rounds; i++)); do
	echo "$(seconds "$plain") $(seconds "$file") $(seconds "$model")"
done | awk -v steps="$steps" '
	function median(v, n,    i, j, t) {
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
		return v[int((n + 1) / 2)]
	}
	{ a[NR] = $2 / $1; b[NR] = $2 / $3; s[NR] = $1 / steps }
	END {
		x = median(a, NR); y = median(b, NR)
		printf "losses in a file / plain step      %.3f  [%.3f .. %.3f]\n", x, a[1], a[NR]
		printf "losses in a file / by the model    %.3f  [%.3f .. %.3f]\n", y, b[1], b[NR]
		printf "a plain step: %.3f s (%d rounds)\n", median(s, NR), NR
	}'

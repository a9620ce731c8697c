#!/bin/bash
# policy.sh - what a prompt's policy gradient costs against the gradients of its completions one by one.
#
#   tests/bench/policy.sh [BUILD]      BUILD: build directory with bin/ and demo/generate (default build)
#
# 20 completions of 32 tokens of each of 8 prompts, projected to 2048 dimensions by one thread: one row of each
# completion, and one of each prompt.  Both run in turn, 3 times; prints the median of the ratios of their user times.
# A prompt is projected once, so the ratio should be well below 1; and only completions with a reward are computed, so
# with rewards for a tenth of them, as exact answers give, near 0.1.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${1:-$here/build}" && pwd)
PATH=$build/bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir data
"$build/demo/generate" data 1
cp -r "$here/configs" .
df-pack -q --dataset-dir data --dataset translate --template alpaca --tokenizer bytes --cutoff-len 256 \
	--holdout translate=8 --holdout-output val.h5 -o pool.h5
df-train -q configs/tiny-sft.yaml tokenized_path=pool.h5 output_dir=run --until 5
df-sample -q -m run/checkpoint-5 val.h5 -n 20 --temperature 1 --top-k 50 --top-p 0.95 --max-new-tokens 32 --ignore-eos -o draws.h5
awk 'BEGIN { for (i = 0; i < 160; i++) print 1 + i % 7 }' >all.txt
awk 'BEGIN { for (i = 0; i < 160; i++) print i % 10 == 0 }' >some.txt

# user COMMAND...: its user time in seconds
user()
{
	local TIMEFORMAT=%U
	{ time "$@" >/dev/null 2>err; } 2>&1
}
grad="df-grad -q -j 1 -m run/checkpoint-5 --project 2048 draws.h5 -o out.h5"
for rewards in all some; do
	for _ in 1 2 3; do
		# shellcheck disable=SC2086 # words
		echo "$(user $grad --rewards $rewards.txt) $(user $grad)"
	done | awk '{ print $1 / $2, $1, $2 }' | sort -n |
		awk -v what=$rewards '{ r[NR] = $0 } END { split(r[2], x)
			printf "rewards for %-5s user time / that of single completions: %.3f  (%.2f s, %.2f s)\n", what ":", x[1], x[2], x[3] }'
done

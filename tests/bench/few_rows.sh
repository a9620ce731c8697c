#!/bin/sh
# few_rows.sh - do all threads work when rows are few?
#
#   tests/bench/few_rows.sh BUILD [PAIRS] [ROWS] [THREADS]      BUILD: a build directory; PAIRS: 9; ROWS: 50; THREADS: 2
#
# One line for each job: its time on one thread over that on THREADS, as the median of pairs (pairs.sh).  THREADS would
# be ideal.  The model is of 512 x 8 with LoRA of rank 8, and full for df-embed; its start is in all times.
# shellcheck disable=SC2086 # commands are words
set -eu
[ $# -ge 1 ] || { sed -n 's/^#   //p' "$0" >&2; exit 64; }
here=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)
PATH=$build/bin:$PATH
pairs=${2-9}
rows=${3-50}
threads=${4-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

mkdir data
"$build/demo/generate" data 1 >/dev/null
df-pack -q --dataset-dir data --dataset continue --template default --tokenizer bytes --cutoff-len 128 --max-samples "$rows" -o few.h5
train="df-train -q model_name_or_path=$here/tests/bench/model-512 train_from_scratch=true finetuning_type=full \
tokenized_path=few.h5 per_device_train_batch_size=8 max_steps=1 logging_steps=100 overwrite_output_dir=true"
$train output_dir=big >/dev/null
df-train -q model_name_or_path=big finetuning_type=lora tokenized_path=few.h5 per_device_train_batch_size=8 max_steps=1 \
	output_dir=lora >/dev/null
awk -v n="$rows" 'BEGIN { for (i = 0; i < n; i++) print "a line of text, number " i ", to be embedded, and long enough for some work" }' >lines.txt

compare()
{
	"$here/tests/bench/pairs.sh" -n "$pairs" "$1, $rows rows, -j 1 / -j $threads" "$2 -j 1" "$2 -j $threads"
}
compare 'df-grad LoRA raw' 'df-grad -q -m lora --form sgd few.h5 -o g.h5'
compare 'df-grad LoRA -k 8192' 'df-grad -q -m lora --form sgd --project 8192 few.h5 -o p.h5'
compare 'df-grad LoRA sjlt' 'df-grad -q -m lora --form sgd --project 8192 --type sjlt few.h5 -o s.h5'
compare 'df-grad full sjlt' 'df-grad -q -m big --form sgd --project 8192 --type sjlt few.h5 -o f.h5'
compare 'df-grad losses' 'df-grad -q -m big --losses few.h5 -o l.h5'
compare 'df-embed' 'df-embed -q -m big --tokenizer bytes lines.txt -o e.h5'

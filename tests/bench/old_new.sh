#!/bin/sh
# old_new.sh - is a build slower than another, or larger in memory?
#
#   tests/bench/old_new.sh OLD NEW [PAIRS]      OLD, NEW: build directories; PAIRS: 9
#
# One line for each job: NEW's time over OLD's as the median of pairs (pairs.sh), and NEW's peak memory over OLD's.
# shellcheck disable=SC2086 # commands are words
set -eu
[ $# -ge 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 64; }
here=$(cd "$(dirname "$0")/../.." && pwd)
old=$(cd "$1" && pwd)/bin
new=$(cd "$2" && pwd)/bin
generate=$(cd "$2" && pwd)/demo/generate
pairs=${3-9}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# What the jobs work on: the demonstration's data, a tiny model, one of 512 x 8.
mkdir data
"$generate" data 1 >/dev/null
pool=translate,reverse,shout,add,order,continue
pack="df-pack -q --dataset-dir data --dataset $pool --template default --tokenizer bytes --cutoff-len 128"
"$old"/$pack -o pool.h5
"$old/df-train" "$here/demo/train.yaml" -q model_name_or_path="$here/demo/model" tokenized_path=pool.h5 eval_strategy=no max_steps=40 save_steps=1000 \
	output_dir=tiny --until 20
train="df-train -q model_name_or_path=$here/tests/bench/model-512 train_from_scratch=true finetuning_type=full \
tokenized_path=pool.h5 per_device_train_batch_size=8 max_steps=6 save_strategy=no logging_steps=100 overwrite_output_dir=true"
"$old"/$train output_dir=big save_strategy=steps >/dev/null
lora="df-train -q model_name_or_path=big finetuning_type=lora tokenized_path=pool.h5 per_device_train_batch_size=8 max_steps=2"
"$old"/$lora output_dir=lora >/dev/null
"$old/df-grad" -q -m tiny/checkpoint-20 --form sgd pool.h5 -o raw.h5
awk 'BEGIN { for (i = 0; i < 3000; i++) print "a line of text, number " i ", to be embedded" }' >lines.txt

# peak COMMAND: MiB, as the program says at its end.
peak()
{
	sh -c "$(echo "$1" | sed 's/ -q / /')" 2>&1 | sed -n 's/.*peak \([0-9]*\) MiB.*/\1/p' | tail -n 1
}

compare()
{
	a=$(peak "$old/$2")
	b=$(peak "$new/$2")
	"$here/tests/bench/pairs.sh" -n "$pairs" "$1" "$new/$2" "$old/$2" |
		awk -v a="$a" -v b="$b" '{ printf "%s  memory %.3f\n", $0, b / a }'
}

compare 'df-pack' "$pack -o out.h5"
compare 'df-train tiny' "df-train $here/demo/train.yaml -q model_name_or_path=$here/demo/model tokenized_path=pool.h5 eval_strategy=no max_steps=40 save_strategy=no logging_steps=100 overwrite_output_dir=true output_dir=t"
compare 'df-train 512 x 8' "$train output_dir=b"
compare 'df-grad LoRA' "df-grad -q -m lora --form sgd --project 512 --shard 1/40 pool.h5 -o g.h5"
compare 'df-grad full' "df-grad -q -m tiny/checkpoint-20 --form adam --project 1024 --shard 1/4 pool.h5 -o g.h5"
compare 'df-embed' "df-embed -q -m tiny/checkpoint-20 --tokenizer bytes lines.txt -o e.h5"
compare 'df-sample' "df-sample -q -m tiny/checkpoint-20 --tokenizer bytes --prompts lines.txt --max-new-tokens 16 --slots 1 --shard 1/15 -o s.h5"
compare 'df-project' "df-project -q -k 1024 raw.h5 -o p.h5"

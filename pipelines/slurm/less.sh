#!/bin/sh
# LESS on a Slurm cluster: the stages of ../less.sh as jobs, each after those that it needs, and the gradients of the pool
# as an array of SHARDS tasks.  Files and bytes are those of less.sh.
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 SHARDS=16 pipelines/slurm/less.sh
#
# Run it where sbatch is, in a directory that all nodes see.  It submits the jobs and ends.  Stages whose files exist are
# left out: when jobs have failed and the others have ended, run it again, and only what is missing is submitted; of an
# array, only the missing tasks.
# jobs.sh says how to give the jobs more time, or another partition.
set -eu

DATA=${DATA:?set DATA to the folder of dataset_info.json}
POOL=${POOL:?set POOL to the datasets to choose from, comma-separated}
TARGET=${TARGET:?set TARGET to NAME=N: hold N rows of dataset NAME out as the target}
CONFIG=${CONFIG:-configs/tiny-sft.yaml}
TOKENIZER=${TOKENIZER:-bytes}
TEMPLATE=${TEMPLATE:-alpaca}
CUTOFF=${CUTOFF:-512}
OUT=${OUT:-less}      # everything goes here; the jobs' messages into log/
WARMUP=${WARMUP:-100} # steps before the selection
STEPS=${STEPS:-200}   # steps in total
SELECT=${SELECT:-400} # rows to select
DIM=${DIM:-2048}      # dimensions of the projection
SHARDS=${SHARDS:-8}   # tasks of the array
MODEL_JOB=${MODEL_JOB-}

# shellcheck source=pipelines/slurm/jobs.sh
. "$(dirname "$0")/jobs.sh"
mkdir -p "$OUT/log"
warm=$OUT/run/checkpoint-$WARMUP final=$OUT/run/checkpoint-$STEPS

# The numbers of the jobs; a stage that is done has none.
pack='' warmup='' grad='' val='' score='' train=''

if ! [ -e "$OUT/pool.h5" ] || ! [ -e "$OUT/val.h5" ]; then
	pack=$(submit pack '' -- df-pack --dataset-dir "$DATA" --dataset "$POOL" --template "$TEMPLATE" --tokenizer "$TOKENIZER" \
		--cutoff-len "$CUTOFF" --holdout "$TARGET" --holdout-output "$OUT/val.h5" -o "$OUT/pool.h5")
fi

# Warm-up: the influence of a sample is measured on a model that has learnt a little.
[ -e "$warm" ] ||
	warmup=$(submit warmup "$pack" $MODEL_JOB -- \
		df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" --until "$WARMUP")

# Adam's step on each training sample, and the gradient of each target sample.
if ! [ -e "$OUT/index.h5" ]; then
	tasks=$(missing "$OUT/pool.proj.h5" "$SHARDS")
	[ -z "$tasks" ] ||
		grad=$(submit grad "$pack $warmup" --array="$tasks" --output="$OUT/log/grad-%A-%a.txt" $MODEL_JOB -- df-grad -m "$warm" --form adam --project "$DIM" \
			--shard "auto/$SHARDS" "$OUT/pool.h5" -o "$OUT/pool.proj.h5")
	[ -e "$OUT/val.proj.h5" ] ||
		val=$(submit val "$pack $warmup" $MODEL_JOB -- df-grad -m "$warm" --form sgd --project "$DIM" "$OUT/val.h5" \
			-o "$OUT/val.proj.h5")
	score=$(submit score "$grad $val" -- df-score less --train "$(shards "$OUT/pool.proj.h5" "$SHARDS")" \
		--val "$OUT/val.proj.h5" -n "$SELECT" -o "$OUT/index.h5")
fi

[ -e "$final" ] ||
	train=$(submit train "$pack $score" $MODEL_JOB -- \
		df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" --index "$OUT/index.h5" --until "$STEPS")

# shellcheck disable=SC2016 # of the job's shell
submit eval "$train" $MODEL_JOB -- \
	sh -c 'df-eval -m "$1" "$2" >"$3.tmp" && mv "$3.tmp" "$3"' sh "$final" "$OUT/val.h5" "$OUT/eval.txt" >/dev/null

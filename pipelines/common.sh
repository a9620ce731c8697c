# What the selection scripts share: settings, and the steps before and after a selection.  Sourced, not run.
#
# Every step makes a file, and is skipped if its file exists, so a script can be stopped at any time and run again.
set -eu

DATA=${DATA:?set DATA to the folder of dataset_info.json}
POOL=${POOL:?set POOL to the datasets to choose from, comma-separated}
TARGET=${TARGET:?set TARGET to NAME=N: hold N rows of dataset NAME out as the target}
CONFIG=${CONFIG:-configs/tiny-sft.yaml}
TOKENIZER=${TOKENIZER:-bytes}
TEMPLATE=${TEMPLATE:-alpaca}
CUTOFF=${CUTOFF:-512}
WARMUP=${WARMUP:-100} # steps before the selection
STEPS=${STEPS:-200}   # steps in total
SELECT=${SELECT:-400} # rows to select, or 5%, or 30Mtok
DIM=${DIM:-2048}      # dimensions of a projection
OUT=${OUT:-$(basename "$0" .sh)} # everything goes here

WARM=$OUT/run/checkpoint-$WARMUP
mkdir -p "$OUT"

# step FILE COMMAND...: run the command that makes FILE, unless it is there.
step() {
	[ -e "$1" ] || { shift && "$@"; }
}

pack() { # further options
	if ! [ -e "$OUT/pool.h5" ] || ! [ -e "$OUT/val.h5" ]; then
		df-pack --dataset-dir "$DATA" --dataset "$POOL" --template "$TEMPLATE" --tokenizer "$TOKENIZER" --cutoff-len "$CUTOFF" \
			--holdout "$TARGET" --holdout-output "$OUT/val.h5" "$@" -o "$OUT/pool.h5"
	fi
}

train() { # options
	df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" "$@"
}

# A model that has learnt a little: $WARM.
warm_up() {
	step "$WARM" train --until "$WARMUP"
}

# Train on the selection, and measure on the target.
train_and_evaluate() {
	step "$OUT/run/checkpoint-$STEPS" train --index "$OUT/index.h5" --until "$STEPS"
	evaluate
}

evaluate() {
	df-eval -m "$OUT/run/checkpoint-$STEPS" "$OUT/val.h5" >"$OUT/eval.tmp"
	mv "$OUT/eval.tmp" "$OUT/eval.txt"
	cat "$OUT/eval.txt"
}

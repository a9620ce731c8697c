#!/bin/sh
# Selection by the drop of the loss, end to end (DataFlex): the first choice is uniform, and its losses are the
# reference of the later ones.  Each of WINDOWS windows trains on its own choice.
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/delta-loss.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `delta-loss.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

WINDOWS=${WINDOWS:-4} # selections between the warm-up and the end

pack
warm_up

at=$WARMUP
for c in $(seq "$WINDOWS"); do
	model=$OUT/run/checkpoint-$at
	losses=$OUT/loss.$c.h5 index=$OUT/index.$c.h5
	next=$((WARMUP + (STEPS - WARMUP) * c / WINDOWS))
	reference=
	[ "$c" -eq 1 ] || reference="--reference $OUT/loss.1.h5 --ordinal $c --update-times $WINDOWS"
	step "$losses" df-grad -m "$model" --losses "$OUT/pool.h5" -o "$losses"
	# shellcheck disable=SC2086 # words
	step "$index" df-score delta-loss --train "$losses" $reference --step "$at" -n "$SELECT" -o "$index"
	step "$OUT/run/checkpoint-$next" train --index "$index" --until "$next"
	at=$next
done
cp "$index" "$OUT/index.h5"
train_and_evaluate

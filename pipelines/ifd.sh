#!/bin/sh
# Selection by instruction-following difficulty, end to end: the responses that their prompts help least with
# (Li et al. 2023, arXiv 2308.12032).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/ifd.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `ifd.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

pack --no-prompt "$OUT/alone.h5" # the rows without their prompts, too
warm_up

step "$OUT/pool.loss.h5" df-grad -m "$WARM" --losses "$OUT/pool.h5" -o "$OUT/pool.loss.h5"
step "$OUT/alone.loss.h5" df-grad -m "$WARM" --losses "$OUT/alone.h5" -o "$OUT/alone.loss.h5"

step "$OUT/index.h5" df-score ifd --train "$OUT/pool.loss.h5" --no-prompt "$OUT/alone.loss.h5" -n "$SELECT" --short truncate -o "$OUT/index.h5"
train_and_evaluate

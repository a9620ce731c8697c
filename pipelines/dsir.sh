#!/bin/sh
# DSIR, end to end: rows drawn so that their n-grams look like a target's (Xie et al. 2023, arXiv 2302.03169).  No model
# is needed to choose.
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/dsir.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `dsir.mk` runs the same steps with make.
. "$(dirname "$0")/common.sh"

MIN_LENGTH=${MIN_LENGTH:-100} # rows of fewer words are left out

pack
step "$OUT/index.h5" df-score dsir --train "$OUT/pool.h5" --target "$OUT/val.h5" --tokenizer "$TOKENIZER" \
	--min-length "$MIN_LENGTH" -n "$SELECT" -o "$OUT/index.h5"
warm_up
train_and_evaluate

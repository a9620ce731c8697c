#!/bin/sh
# NICE, end to end: as less.sh, but the target is a reward instead of given answers.  After the warm-up the
# model answers the target's prompts many times, a program or a reward model judges the answers, and training
# samples score by their influence on the expected reward (Wang et al. 2025).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/nice.sh
#
# Rewards come from one of
#   MATCH=strip            the answer is that of the data, 1 or 0 (the default; df-eval --match)
#   REWARD='my-program'    reads df-sample's JSON lines, prints rewards as df-grad(1) reads them
#   JUDGE=reward-model     a reward model with the same tokenizer
#
# common.sh has the other settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `nice.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

SAMPLES=${SAMPLES:-20}        # answers to each prompt
TEMPERATURE=${TEMPERATURE:-1} # of their draws
MAX_TOKENS=${MAX_TOKENS:-128} # most tokens of an answer
POLICY=${POLICY:-vanilla}     # which answers count (df-grad --policy)
MATCH=${MATCH:-strip}
REWARD=${REWARD:-}
JUDGE=${JUDGE:-}

pack
warm_up # influence is measured on a model that has learnt a little

# Its own answers, as tokens and as text.
if ! [ -e "$OUT/draws.h5" ] || ! [ -e "$OUT/draws.jsonl" ]; then
	df-sample -m "$WARM" "$OUT/val.h5" -n "$SAMPLES" --temperature "$TEMPERATURE" --top-k 50 --top-p 0.95 \
		--max-new-tokens "$MAX_TOKENS" -o "$OUT/draws.h5" --json "$OUT/draws.jsonl"
fi

if ! [ -e "$OUT/rewards" ]; then
	if [ -n "$JUDGE" ]; then
		df-eval -m "$JUDGE" "$OUT/draws.h5" -o "$OUT/rewards.tmp"
	elif [ -n "$REWARD" ]; then
		sh -c "$REWARD" <"$OUT/draws.jsonl" >"$OUT/rewards.tmp"
	else
		df-eval --completions "$OUT/draws.jsonl" --match "$MATCH" --details "$OUT/rewards.tmp"
	fi
	mv "$OUT/rewards.tmp" "$OUT/rewards"
fi

# Adam's step on each training sample, and the policy gradient of each prompt.
step "$OUT/pool.proj.h5" df-grad -m "$WARM" --form adam --project "$DIM" "$OUT/pool.h5" -o "$OUT/pool.proj.h5"
step "$OUT/val.proj.h5" df-grad -m "$WARM" --rewards "$OUT/rewards" --policy "$POLICY" --project "$DIM" "$OUT/draws.h5" \
	-o "$OUT/val.proj.h5"

step "$OUT/index.h5" df-score nice --train "$OUT/pool.proj.h5" --val "$OUT/val.proj.h5" -n "$SELECT" -o "$OUT/index.h5"
train_and_evaluate

# NICE as a makefile:
#
#   make -j -f pipelines/nice.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `nice.sh`, but answers and the gradients of the pool are computed in SHARDS parts,
# in parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

SAMPLES     ?= 20# answers to each prompt
TEMPERATURE ?= 1# of their draws
MAX_TOKENS  ?= 128# most tokens of an answer
POLICY      ?= vanilla# which answers count (df-grad --policy)
# Rewards: exact answers, or a command that reads df-sample's JSON lines, or the directory of a reward model.
MATCH       ?= strip
REWARD      ?=
JUDGE       ?=

DRAWS = $(call parts,draws)
LINES = $(DRAWS:.h5=.jsonl)
.PRECIOUS: $(DRAWS) $(LINES) $(OUT)/draws.jsonl $(OUT)/rewards $(OUT)/val.proj.h5

# Answers: tokens and lines of a part come from one command.  The lines appear first.
$(DRAWS): $(OUT)/draws.%-of-$(COUNT).h5: $(READY) $(OUT)/val.h5
	df-sample -m $(WARM) $(OUT)/val.h5 -n $(SAMPLES) --temperature $(TEMPERATURE) --top-k 50 --top-p 0.95 \
	    --max-new-tokens $(MAX_TOKENS) --shard $*/$(SHARDS) $(ONE_EACH) -o $(OUT)/draws.h5 --json $(OUT)/draws.jsonl

$(OUT)/draws.jsonl: $(DRAWS)
	cat $(LINES) >$@.tmp
	mv $@.tmp $@

$(OUT)/rewards: $(OUT)/draws.jsonl
ifneq ($(JUDGE),)
	df-eval -m '$(JUDGE)' $(call set,draws) -o $@.tmp
else ifneq ($(REWARD),)
	( $(REWARD) ) <$(OUT)/draws.jsonl >$@.tmp
else
	df-eval --completions $(OUT)/draws.jsonl --match $(MATCH) --details $@.tmp
endif
	mv $@.tmp $@

$(OUT)/val.proj.h5: $(READY) $(DRAWS) $(OUT)/rewards
	$(GRAD) --rewards $(OUT)/rewards --policy $(POLICY) $(call set,draws) -o $@

$(OUT)/index.h5: $(PROJECTIONS) $(OUT)/val.proj.h5
	df-score nice --train $(call set,pool.proj) --val $(OUT)/val.proj.h5 -n $(SELECT) -o $@

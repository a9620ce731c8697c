# Selection by perplexity as a makefile:
#
#   make -j -f pipelines/ppl.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `ppl.sh`, but the losses are computed in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

BAND ?= 0.2,0.9# quantiles of the losses that are considered
PARTS = $(call parts,pool.loss)
.PRECIOUS: $(PARTS)

$(PARTS): $(OUT)/pool.loss.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	df-grad -m $(WARM) --losses --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.loss.h5

$(OUT)/index.h5: $(PARTS)
	df-score ppl --train '$(OUT)/pool.loss.*-of-$(COUNT).h5' --band $(BAND) -n $(SELECT) -o $@

# Selection by perplexity as a makefile:
#
#   make -j -f pipelines/ppl.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `ppl.sh`, but the losses are computed in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

BAND ?= 0.2,0.9# quantiles of the losses that are considered

$(OUT)/index.h5: $(LOSSES)
	df-score ppl --train $(call set,pool.loss) --band $(BAND) -n $(SELECT) -o $@

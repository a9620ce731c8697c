# The loss selection as a makefile:
#
#   make -j -f pipelines/loss.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `loss.sh`, but the losses are computed in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

FOCUS ?= medium# low, medium or high

$(OUT)/index.h5: $(LOSSES)
	df-score loss --train $(call set,pool.loss) --focus $(FOCUS) -n $(SELECT) -o $@

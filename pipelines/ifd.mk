# Selection by instruction-following difficulty as a makefile:
#
#   make -j -f pipelines/ifd.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `ifd.sh`, but the losses are computed in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

PACK_MORE = --no-prompt $(OUT)/alone.h5# the rows without their prompts, too
ALONE     = $(call parts,alone.loss)
.PRECIOUS: $(ALONE)

$(ALONE): $(OUT)/alone.loss.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	df-grad -m $(WARM) --losses --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/alone.h5 -o $(OUT)/alone.loss.h5

$(OUT)/index.h5: $(LOSSES) $(ALONE)
	df-score ifd --train $(call set,pool.loss) --no-prompt $(call set,alone.loss) -n $(SELECT) --short truncate -o $@

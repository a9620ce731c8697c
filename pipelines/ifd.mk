# Selection by instruction-following difficulty as a makefile:
#
#   make -j -f pipelines/ifd.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `ifd.sh`, but the losses are computed in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

PACK_MORE   = --no-prompt $(OUT)/alone.h5# the rows without their prompts, too
PARTS       = $(call parts,pool.loss)
ALONE_PARTS = $(call parts,alone.loss)
.PRECIOUS: $(PARTS) $(ALONE_PARTS)

$(PARTS): $(OUT)/pool.loss.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	df-grad -m $(WARM) --losses --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.loss.h5

$(ALONE_PARTS): $(OUT)/alone.loss.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	df-grad -m $(WARM) --losses --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/alone.h5 -o $(OUT)/alone.loss.h5

$(OUT)/index.h5: $(PARTS) $(ALONE_PARTS)
	df-score ifd --train '$(OUT)/pool.loss.*-of-$(COUNT).h5' --no-prompt '$(OUT)/alone.loss.*-of-$(COUNT).h5' \
	    -n $(SELECT) --short truncate -o $@

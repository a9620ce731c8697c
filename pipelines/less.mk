# LESS as a makefile:
#
#   make -j -f pipelines/less.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `less.sh`, but the gradients of the pool are computed in SHARDS parts, in parallel
# with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

.PRECIOUS: $(OUT)/val.proj.h5

$(OUT)/val.proj.h5: $(READY) $(OUT)/val.h5
	$(GRAD) --form sgd $(OUT)/val.h5 -o $@

$(OUT)/index.h5: $(PROJECTIONS) $(OUT)/val.proj.h5
	df-score less --train $(call set,pool.proj) --val $(OUT)/val.proj.h5 -n $(SELECT) -o $@

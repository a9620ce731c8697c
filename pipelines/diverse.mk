# The best that differ as a makefile:
#
#   make -j -f pipelines/diverse.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `diverse.sh`, but the gradients of the pool are computed in SHARDS
# parts, in parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

THRESHOLD ?= 0.9# the largest cosine of two chosen rows
.PRECIOUS: $(OUT)/val.proj.h5 $(OUT)/scores.h5

$(OUT)/val.proj.h5: $(READY) $(OUT)/val.h5
	$(GRAD) --form sgd $(OUT)/val.h5 -o $@

$(OUT)/scores.h5: $(PROJECTIONS) $(OUT)/val.proj.h5
	df-score less --train $(call set,pool.proj) --val $(OUT)/val.proj.h5 --scores-output $@

$(OUT)/index.h5: $(OUT)/scores.h5 $(EMBEDDINGS)
	df-score diverse --train $(call set,pool.emb) --scores $(OUT)/scores.h5 --threshold $(THRESHOLD) -n $(SELECT) -o $@

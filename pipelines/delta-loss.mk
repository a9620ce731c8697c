# Selection by the drop of the loss as a makefile:
#
#   make -j -f pipelines/delta-loss.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `delta-loss.sh`.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

WINDOWS ?= 4# selections between the warm-up and the end

# Window c trains from step $(call at,c-1) to $(call at,c).
at    = $(shell expr $(WARMUP) + \( $(STEPS) - $(WARMUP) \) '*' $(1) / $(WINDOWS))
after = $(OUT)/run/checkpoint-$(call at,$(1))
.PRECIOUS: $(OUT)/loss.%.h5 $(OUT)/index.%.h5

# $(1): the window, $(2): the one before.
define window
$(OUT)/loss.$(1).h5: $(call after,$(2))/df_state.json
	df-grad -m $(call after,$(2)) --losses $(OUT)/pool.h5 -o $$@
$(OUT)/index.$(1).h5: $(OUT)/loss.$(1).h5
	df-score delta-loss --train $$< $(if $(filter-out 1,$(1)),--reference $(OUT)/loss.1.h5 --ordinal $(1) --update-times $(WINDOWS)) \
	    --step $(call at,$(2)) -n $(SELECT) -o $$@
$(if $(filter-out $(WINDOWS),$(1)),
$(call after,$(1))/df_state.json: $(OUT)/index.$(1).h5
	$(TRAIN) --index $$< --until $(call at,$(1))
)
endef
$(foreach c,$(shell seq $(WINDOWS)),$(eval $(call window,$(c),$(shell expr $(c) - 1))))

# The last window is common.mk's training.
$(OUT)/index.h5: $(OUT)/index.$(WINDOWS).h5
	cp $< $@

# Dynamic LESS as a makefile:
#
#   make -j -f pipelines/dynamic-less.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `dynamic-less.sh`, but the gradients of the pool are computed in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

WINDOWS ?= 4# selections between the warm-up and the end

# Window c trains from step $(call at,c-1) to $(call at,c).
at    = $(shell expr $(WARMUP) + \( $(STEPS) - $(WARMUP) \) '*' $(1) / $(WINDOWS))
after = $(OUT)/run/checkpoint-$(call at,$(1))
.PRECIOUS: $(OUT)/pool.proj.% $(OUT)/val.proj.%.h5 $(OUT)/index.%.h5

# $(1): the window, $(2): the model at its beginning, $(3): that at its end.
define window
$(call parts,pool.proj.$(1)): $(OUT)/pool.proj.$(1).%-of-$(COUNT).h5: $(2)/df_state.json
	df-grad -m $(2) --form adam --project $(DIM) --shard $$*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.proj.$(1).h5
$(OUT)/val.proj.$(1).h5: $(2)/df_state.json $(OUT)/val.h5
	df-grad -m $(2) --form sgd --project $(DIM) $(OUT)/val.h5 -o $$@
$(OUT)/index.$(1).h5: $(call parts,pool.proj.$(1)) $(OUT)/val.proj.$(1).h5
	df-score less --train $(call set,pool.proj.$(1)) --val $(OUT)/val.proj.$(1).h5 -n $(SELECT) -o $$@
$(if $(filter-out $(WINDOWS),$(1)),
$(3)/df_state.json: $(OUT)/index.$(1).h5
	$(TRAIN) --index $$< --until $(call at,$(1))
)
endef
$(foreach c,$(shell seq $(WINDOWS)),$(eval $(call window,$(c),$(call after,$(shell expr $(c) - 1)),$(call after,$(c)))))

# The last window is common.mk's training.
$(OUT)/index.h5: $(OUT)/index.$(WINDOWS).h5
	cp $< $@

# Ways to mix domains, on texts that any Debian machine has: what a model learns of each domain with equal numbers of steps.
#
#   make -j2 -f pipelines/compare-mix.mk [SEEDS="1 2 3"] [OUT=compare-mix] [DATA=data] [STEPS=240]
#
# Domains (compare/domains.sh): Python's library, C headers, manual pages, changelogs; and texts of Wikipedia and the web
# where DATA has wiki_demo.jsonl and c4_demo.jsonl.  The largest is five times as large as the smallest.  A tiny Llama is
# trained from scratch for STEPS steps of BATCH rows of 240 bytes, with rows
#
#   size      in proportion to the sizes of the domains: the default, as if there were no mixture
#   uniform   of all domains equally
#   doremi    in proportions that DoReMi finds: the reference is "size", the proxy a model of the same size;
#             doremi-gentle: with eta 0.1 and smoothing 0.01, as in DataFlex's example
#   odm       in proportions that follow the losses while it trains (the paper's rule); odm-repo: the authors' program's
#
# and measured on documents that are in no pool.  Each seed has its own held-out documents, rows and initial weights.
# Table: OUT/table.txt; pictures: OUT/mix.svg, and OUT/SEED/*.svg of the proportions.
#
# Stop it at any time and run it again: finished files are kept.

SEEDS   ?= 1 2 3
OUT     ?= compare-mix# everything goes here
DATA    ?= data
STEPS   ?= 240
BATCH   ?= 16
UPDATE  ?= 10# steps between two updates of ODM
METHODS ?= size uniform doremi doremi-gentle odm odm-repo

HERE := $(dir $(lastword $(MAKEFILE_LIST)))compare

ifndef SEED # ---- all seeds, and the table

.PHONY: all run
all: $(foreach s,$(SEEDS),$(OUT)/$(s)/results.txt)
	cat $^ >$(OUT)/results.txt
	$(HERE)/mix-table.sh $(OUT) $(METHODS) >$(OUT)/table.txt.tmp
	mv $(OUT)/table.txt.tmp $(OUT)/table.txt
	cat $(OUT)/table.txt

run:
$(OUT)/%/results.txt: run
	@$(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) SEED=$*

else # ---- one seed

B     := $(OUT)/$(SEED)
Q     := -q -j 1
TRAIN  = df-train configs/tiny-pt.yaml $(Q) model_name_or_path=pipelines/compare/model seed=$(SEED) tokenized_path=$(B)/pool.h5 \
	per_device_train_batch_size=$(BATCH) save_strategy=no train_type=dynamic_mix train_step=$(STEPS)

.PHONY: all
all: $(B)/results.txt
.PRECIOUS: $(B)/%

$(B)/results.txt: $(METHODS:%=$(B)/%.result)
	cat $^ >$@.tmp
	mv $@.tmp $@

$(B)/pool.h5 $(B)/test.h5 &:
	@mkdir -p $(B)
	$(HERE)/domains.sh $(SEED) $(B) '$(DATA)'

# ---- DoReMi's first two steps

$(B)/reference.h5: $(B)/size.result
	df-grad $(Q) -m $(B)/run.size --losses --token-loss $(B)/pool.h5 -o $@

# $(1): the method, $(2): the proxy's parameters.  Its proportions are those of the method's run.
define doremi
$(B)/run.proxy.$(1)/domain_weights.h5: $(B)/reference.h5
	$$(TRAIN) output_dir=$(B)/run.proxy.$(1) component_name=doremi component_params.reference_losses=$$< $(2) update_step=$(STEPS)
	df-show --plot $(B)/proxy.$(1).svg $(B)/run.proxy.$(1)
$(B)/$(1).result: $(B)/run.proxy.$(1)/domain_weights.h5
KEYS_$(1) = static_mix=true init_mixture_proportions=$(B)/run.proxy.$(1)/domain_weights.h5
endef
$(eval $(call doremi,doremi))
$(eval $(call doremi,doremi-gentle,component_params.eta=0.1 component_params.smoothing=0.01))

# ---- the runs

ODM           = component_name=odm update_step=$(UPDATE)
KEYS_size     = static_mix=true mixture_sample_rule=stratified
KEYS_uniform  = static_mix=true mixture_sample_rule=uniform
KEYS_odm      = $(ODM)
KEYS_odm-repo = $(ODM) component_params.variant=repo

# A line for each domain: seed, method, domain, targets, loss, mean proportion of the rows.
$(B)/%.result: $(B)/pool.h5
	$(TRAIN) output_dir=$(B)/run.$* $(KEYS_$*)
	df-show --plot $(B)/$*.svg $(B)/run.$*
	df-eval $(Q) -m $(B)/run.$* $(B)/test.h5 | $(HERE)/mix-result.sh $(SEED) $* $(B)/run.$*/mixture_log.jsonl >$@.tmp
	mv $@.tmp $@

endif

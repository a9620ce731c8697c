# Weights of samples: what a model learns from the same rows if each step's samples count by their losses or their nearness.
#
#   make -j2 -f pipelines/compare-weigh.mk [SCENES="noisy difficulty"] [SEEDS="1 2 3"] [OUT=compare-weigh]
#
# A scene is a pool with a known right answer, made by the demo's generator (compare/weigh-data.sh):
#
#   noisy       the target skill; a third of the rows have wrong answers.  Measured on right ones.
#   difficulty  six skills, some of which are learnt in a few steps and some hardly at all.  Measured on all of them.
#
# A tiny Llama is trained from scratch for STEPS steps of 32 rows; from step WARMUP on
#
#   none        each target token counts the same: ordinary training
#   uniform     each sample counts the same: what the methods below begin from
#   linupper .. weights by loss, all strategies of Sow et al. 2025
#   adapt       by nearness to rows of the target, each in its own right; adapt-t0.1: at temperature 0.1, of mean 1
#   joint       by nearness and by what the step's other samples already say (joint_update_aware)
#
# The anchors of adapt and joint are rows like those measured on, but others.  Tables: OUT/table.txt; pictures:
# OUT/SCENE.svg, and OUT/SCENE/SEED/METHOD.svg with the weights.
#
# Stop it at any time and run it again: finished files are kept.

SCENES  ?= noisy difficulty
SEEDS   ?= 1 2 3
OUT     ?= compare-weigh# everything goes here
STEPS   ?= 400
WARMUP  ?= 50
METHODS ?= none uniform linupper identity upper quadratic extremes adapt adapt-t0.1 joint

HERE := $(dir $(lastword $(MAKEFILE_LIST)))compare

ifndef SCENE # ---- all scenes and seeds, and the tables

.PHONY: all run
all: $(foreach s,$(SCENES),$(OUT)/$(s)/results.txt)
	$(HERE)/weigh-table.sh $(OUT) $(SCENES) >$(OUT)/table.txt.tmp
	mv $(OUT)/table.txt.tmp $(OUT)/table.txt
	cat $(OUT)/table.txt

.SECONDEXPANSION:
$(OUT)/%/results.txt: $$(foreach seed,$(SEEDS),$(OUT)/%/$$(seed)/results.txt)
	cat $^ >$@.tmp
	mv $@.tmp $@

run:
define seed_of_scene
$(OUT)/$(1)/$(2)/results.txt: run
	@$$(MAKE) --no-print-directory -f $$(firstword $$(MAKEFILE_LIST)) SCENE=$(1) SEED=$(2)
endef
$(foreach s,$(SCENES),$(foreach seed,$(SEEDS),$(eval $(call seed_of_scene,$(s),$(seed)))))

else # ---- one scene with one seed

B     := $(OUT)/$(SCENE)/$(SEED)
Q     := -q -j 1
TRAIN  = df-train demo/train.yaml $(Q) seed=$(SEED) tokenized_path=$(B)/pool.h5 eval_strategy=no save_strategy=no
WEIGH  = train_type=dynamic_weight max_steps=-1 eval_tokenized_path=$(B)/val.h5 warmup_step=$(WARMUP) train_step=$(STEPS)

.PHONY: all
all: $(B)/results.txt
.PRECIOUS: $(B)/%

$(B)/results.txt: $(METHODS:%=$(B)/%.result)
	cat $^ >$@.tmp
	mv $@.tmp $@

$(B)/pool.h5 $(B)/val.h5 $(B)/test.h5 &:
	@mkdir -p $(B)
	$(HERE)/weigh-data.sh $(SCENE) $(SEED) $(B)

KEYS_none       = max_steps=$(STEPS)
KEYS_adapt      = $(WEIGH) component_name=adapt
KEYS_adapt-t0.1 = $(WEIGH) component_name=adapt component_params.tau=0.1 component_params.weight_norm=mean1
KEYS_joint      = $(WEIGH) component_name=joint_update_aware
by_loss         = $(WEIGH) component_name=loss component_params.strategy=$(1)

# A line for each dataset: seed, method, dataset, targets, loss, exact answers in %.
$(B)/%.result: $(B)/pool.h5
	$(TRAIN) output_dir=$(B)/run.$* $(or $(KEYS_$*),$(call by_loss,$*))
	df-show --plot $(B)/$*.svg $(B)/run.$*
	df-eval $(Q) -m $(B)/run.$* $(B)/test.h5 | \
	    awk 'NR > 1 && $$1 != "overall" { sub("%", "", $$NF); print "$(SEED)", "$*", $$1, $$3, $$4, $$NF }' >$@.tmp
	mv $@.tmp $@

endif

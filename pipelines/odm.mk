# Online data mixing as a makefile:
#
#   make -f pipelines/odm.mk DATA=mydata POOL=wiki,c4 TARGET=wiki=50,c4=50
#
# The same steps, files and bytes as `odm.sh`.  common.mk has the settings, and the rules that all methods share.
UPDATE      ?= 20# steps between two updates
VARIANT     ?= paper# or dataflex, repo
PROPORTIONS ?=# of the first WARMUP steps: a number for each dataset; nothing: all equal

# Rows in the initial proportions for WARMUP steps, then an update every UPDATE steps.
FINISH_NEEDS = $(OUT)/pool.h5
FINISH       = $(TRAIN) train_type=dynamic_mix component_name=odm component_params.variant=$(VARIANT) \
	warmup_step=$(WARMUP) update_step=$(UPDATE) train_step=$(STEPS) $(PROPORTIONS:%=init_mixture_proportions=%)

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

all: $(OUT)/run.svg
$(OUT)/run.svg: $(FINAL)/df_state.json
	df-show --plot $@ $(OUT)/run

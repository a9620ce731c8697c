#!/bin/bash
# shellcheck disable=SC2086 # lists of words
# Every example configuration of DataFlex, unchanged, to its end on tiny models: minutes.
#
#   tests/cmd/dataflex-configs.sh [DIR]
#
# DIR (absolute): where train_lora, train_full, merge_lora, test and components.yaml are; ../shared/golden/dataflex-configs.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/plan-fixture.sh"
DS=${1:-$SRC/../shared/golden/dataflex-configs}
fixture_data
fixture_models

# Small windows; the lengths of the runs are otherwise the files' own, where these are not days.
small='cutoff_len=64 per_device_train_batch_size=2 gradient_accumulation_steps=2 warmup_step=5 update_step=4'
for yaml in $(cd "$DS" && find train_lora train_full test -name '*.yaml' | sort && find merge_lora -name '*.yaml' | sort); do
	name=$(basename "$yaml" .yaml)
	[ ! -e "$name" ] || name=$name-$(dirname "$yaml" | tr / -)
	more=$small
	case $yaml in
	merge_lora/llama3*) more="adapter_name_or_path=less export_dir=$name" ;;
	merge_lora/qwen*) more="adapter_name_or_path=doremi_step2_dynamic_qwen_pt_lora export_dir=$name" ;;
	*/nice.yaml) more="$small component_params.mc_samples=2 component_params.max_new_tokens=8" ;;
	esac
	if grep -q '^train_step' "$DS/$yaml"; then
		more="$more train_step=20"
		! grep -q '^max_steps' "$DS/$yaml" || more="$more max_steps=20"
	fi
	case $yaml in
	merge_lora/*) ;;
	*) more="$more output_dir=$name" ;;
	esac
	ok "$yaml plans" df-plan -q "$DS/$yaml" $FIXTURE_MODELS --data data $more -o "$name.mk"
	ok 'and runs to its end' make -j2 -f "$name.mk"
	ok 'after which nothing is to be done' make -q -f "$name.mk"
done
done_testing

#!/bin/bash
# shellcheck disable=SC2046,SC2086,SC2016 # lists of words, and a $ in a name
# df-plan: what it prints, that make runs it and goes on with it, and that what is wrong is found before anything runs.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/plan-fixture.sh"
fixture_data
fixture_models

cat >sft.yaml <<'YAML'
model_name_or_path: llama
finetuning_type: lora
lora_rank: 4
dataset_dir: data
dataset: alpaca_en_demo, alpaca_zh_demo
eval_dataset: mmlu_eval
template: llama3
cutoff_len: 64
overwrite_cache: true
deepspeed: ds_z3_config.json
output_dir: sft
max_steps: 6
per_device_train_batch_size: 4
learning_rate: 1.0e-3
logging_steps: 2
YAML
{
	grep -v 'max_steps' sft.yaml | sed 's/^output_dir.*/output_dir: less/; s/^dataset:.*/dataset: alpaca_en_demo/'
	cat <<-'YAML'
	train_type: dynamic_select
	component_name: less
	component_params: {proj_dim: 64, seed: 7}
	warmup_step: 3
	update_step: 2
	update_times: 2
	num_train_epochs: 1.0
	YAML
} >less.yaml

# all_of MAKEFILE: make runs it to its end.
all_of()
{
	make -j2 -f "$1" >make.log 2>&1 || { tail -5 make.log; return 1; }
}

# ---- a static run ----

ok 'a run' df-plan -q sft.yaml
prints 'packs its datasets' '^	df-pack .*--template llama3'
prints 'trains' '^	df-train sft.yaml '
prints 'evaluates' '^	df-eval -m sft sft/eval.h5'
prints 'says what has no effect' '# - no effect here: .*deepspeed.*overwrite_cache|# - no effect here: .*overwrite_cache.*deepspeed'
cp "$T/out" sft.mk
ok 'make runs it' all_of sft.mk
ok 'to an evaluation' grep -q '^mmlu_eval ' sft/eval.txt
ok 'and a picture' grep -q '</svg>' sft/loss.svg
ok 'again there is nothing to do' make -q -f sft.mk
ok 'nor from a pipe' sh -c 'df-plan sft.yaml | make -q -f -'
sed -i 's/^learning_rate/# a remark\nlearning_rate/' sft.yaml
ok 'nor after a remark in the YAML' sh -c 'df-plan sft.yaml | make -q -f -'
exits 2 'other settings are not half of a run' sh -c 'df-plan sft.yaml learning_rate=0.5 | make -f -'
says 'but refused' 'sft has a run with other settings: remove it'
ok 'and the run is still whole' make -q -f sft.mk
ok 'another place' sh -c 'df-plan sft.yaml output_dir=sft2 | make -f -'
same 'gives the same model' sft2/adapter_model.safetensors sft/adapter_model.safetensors
rm sft2/pool.h5
ok 'an intermediate file may go' sh -c 'df-plan sft.yaml output_dir=sft2 | make -q -f -'

df-plan -q sft.yaml dataset=code output_dir=changed max_steps=2 >changed.mk
ok 'a run on data' all_of changed.mk
first=$(sed -n 1p data/code.jsonl)
printf '%s\n' "$first" >>data/code.jsonl
ok 'that changed' sh -c 'df-plan -q sft.yaml dataset=code output_dir=changed max_steps=2 | make -n -f -'
prints 'packs them again' '^df-pack '
exits 2 'and the run does not go on' sh -c 'df-plan -q sft.yaml dataset=code output_dir=changed max_steps=2 | make -f -'
says 'with other tokens' 'df-train: .*changed'

mkdir 'a $b'
ok 'names that need quotes' df-plan sft.yaml 'output_dir="a $b/it #1"' max_steps=2 -o quotes.mk
ok 'are quoted' all_of quotes.mk
ok 'for make and for sh' test -s 'a $b/it #1/eval.txt'
exits 64 'names that no rule can have' df-plan sft.yaml output_dir='a%b'
says 'are named' "'%'"
is_empty 'and nothing is printed' "$(cat "$T/out")"
ok 'into a file' df-plan sft.yaml -o sft3.mk
same 'the same text' sft3.mk sft.mk

# ---- selections ----

ok 'a run with selections' df-plan -q less.yaml
cp "$T/out" less.mk
is 'two of them' "$(grep -c '^	df-score less ' less.mk)" 2
is 'measured in parts' "$(grep -c '^	df-grad .*--shard' less.mk)" 2
prints 'with the parameters of the method' 'df-grad -m less/checkpoint-3 --form adam --project 64 --seed 7'
ok 'make stops at a checkpoint' sh -c 'make -f less.mk less/checkpoint-5/df_state.json'
ok 'and goes on' all_of less.mk
ok 'to nothing to do' make -q -f less.mk
ok 'a straight run' sh -c 'df-plan less.yaml output_dir=straight | make -j2 -f -'
same 'ends in the same model' straight/adapter_model.safetensors less/adapter_model.safetensors
ok 'one part' df-plan -q --shards 1 less.yaml
prints 'is one file' '^less/step-3/pool.grad.h5:'
ok 'a kill' sh -c 'df-plan less.yaml output_dir=killed >killed.mk
	timeout -s KILL 0.7 make -f killed.mk; df-plan less.yaml output_dir=killed | make -j2 -f -'
same 'changes nothing' killed/adapter_model.safetensors less/adapter_model.safetensors
exits 2 'other parameters' sh -c 'df-plan less.yaml component_params.proj_dim=32 | make -f -'
says 'are another run' 'has a run with other settings'
ok 'several checkpoints' df-plan -q less.yaml component_params.checkpoints=2
prints 'are summed' 'df-score less --train .less/step-3/.* --val .*'
ok 'windows by the rows of the data' df-plan -q less.yaml update_times=-1 output_dir=epochs
is 'which are counted' "$(grep -c '^	df-score less ' "$T/out")" 6
exits 78 'packed rows are not' df-plan -q less.yaml update_times=-1 output_dir=epochs neat_packing=true
says 'but can be given' '--rows N'
ok 'as an option' df-plan -q less.yaml update_times=-1 output_dir=epochs neat_packing=true --rows 20

for method in cluster_less nice loss delta_loss near tsds rds dsir ppl ifd diverse random static custom; do
	more=
	case $method in
	nice) more='component_params.mc_samples=2 component_params.max_new_tokens=4' ;;
	dsir) more=component_params.min_length=1 ;;
	esac
	ok "$method" sh -c "df-plan less.yaml component_name=$method component_params=null output_dir=run-$method $more >$method.mk"
done
for method in delta_loss nice tsds cluster_less; do
	ok "make runs $method" all_of $method.mk
	ok 'to its end' test -s run-$method/eval.txt
done

# ---- what is wrong is found before anything runs ----

# refused STATUS MESSAGE WORDS...: nothing is printed on standard output.
refused()
{
	status=$1
	message=$2
	shift 2
	exits "$status" "refused: $*" df-plan less.yaml output_dir=none "$@"
	says 'with the reason' "$message"
	is_empty 'and nothing is printed' "$(cat "$T/out")"
}
refused 78 'update_step.* must be at least 1' update_step=0
refused 78 "dataset: .*'alpaca_en_dem'|alpaca_en_dem" dataset=alpaca_en_dem
refused 78 'did you mean .*less' component_name=lees
refused 78 'proj_dmi.*did you mean proj-dim' component_params.proj_dmi=3
refused 78 "focus|'much'" component_name=loss component_params=null component_params.focus=much
refused 78 'give --model nothing=DIR' model_name_or_path=nothing
refused 66 'there is no model in nowhere' --model llama=nowhere
refused 64 'expected NAME=DIR' --model llama
refused 78 "unknown key 'warmup_stp'; did you mean 'warmup_step'" warmup_stp=3
refused 78 'quantization_bit: weights are never quantised' quantization_bit=4
refused 78 'a target: give eval_dataset or val_size' eval_dataset=null
refused 78 'update_step: a window of 20 steps has 80 rows, and there are only 60' update_step=20
refused 78 'warmup_step: .*at least 1 step comes before' warmup_step=0
refused 64 'exclude each other' --dot --slurm
refused 66 'data2' --data data2
refused 78 'embedding_model_name_or_path: there is no model in' component_name=near component_params=null \
	component_params.embedding_model_name_or_path=missing
mix='train_type=dynamic_mix component_params=null dataset=alpaca_en_demo,alpaca_zh_demo'
refused 78 'init_mixture_proportions' $mix component_name=odm 'init_mixture_proportions=[1,2,3]'
refused 78 'needs a reference' $mix component_name=doremi
refused 78 'reference_model_path: there is no model in /path/to/x: give --model /path/to/x=DIR' $mix component_name=doremi \
	component_params.reference_model_path=/path/to/x
refused 78 'component_name' $mix component_name=dorem
refused 78 'the evaluation set: give eval_dataset or val_size' train_type=dynamic_weight component_name=adapt component_params=null \
	eval_dataset=null
mv llama/tokenizer.json llama/hidden
refused 78 'llama has no tokenizer.json: give --tokenizer' cutoff_len=64
mv llama/hidden llama/tokenizer.json
is_empty 'and nothing was made' "$(ls -d none 2>/dev/null)"

# ---- DataFlex's examples, unchanged ----

DS=$SRC/../shared/golden/dataflex-configs
if [ -d "$DS" ]; then
	for yaml in $(cd "$DS" && find train_lora train_full merge_lora test -name '*.yaml' | sort); do
		case $yaml in
		merge_lora/*) more='adapter_name_or_path=sft export_dir=merged' ;;
		*) more='cutoff_len=64 per_device_train_batch_size=2 gradient_accumulation_steps=2' ;;
		esac
		exits 0 "$yaml" df-plan -q "$DS/$yaml" $FIXTURE_MODELS --data data $more
		cp "$T/out" "$(basename "$yaml").mk"
		ok 'is a makefile' sh -c "make -n -f $(basename "$yaml").mk"
	done
	# what ends a run, as far as the file says it
	steps()
	{
		echo "train_step=$1"
		! grep -q '^max_steps' "$DS/$2" || echo "max_steps=$1"
	}
	small='cutoff_len=64 per_device_train_batch_size=2 gradient_accumulation_steps=1 warmup_step=4 update_step=3'
	for yaml in train_lora/selectors/less.yaml train_lora/mixers/doremi_step2_dynamic_qwen_pt_lora.yaml \
		train_lora/weighters/adapt.yaml train_full/mixers/dynamic_moe_mixer.yaml; do
		name=ds-$(basename "$yaml" .yaml)
		df-plan -q "$DS/$yaml" $FIXTURE_MODELS --data data $small $(steps 12 "$yaml") output_dir="$name" >"$name.mk"
		ok "$yaml runs" all_of "$name.mk"
		ok 'to an evaluation' test -s "$name/eval.txt"
	done
	ok 'the adapter is merged' all_of llama3_lora_sft.yaml.mk
	ok 'into a model' test -s merged/config.json
else
	skip "DataFlex's examples" 'no ../shared'
fi

done_testing

#!/bin/bash
# Twenty steps of df-train with weights of samples, of domains, and with mixtures, against PyTorch
# (tests/golden/weighted.py): losses and gradient norms step by step, weights, alpha, proportions.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/run_numbers.sh"
R=$SRC/tests/golden/dataflex_runs
W=$SRC/tests/golden/weighted

# Both compute in float32, in another order: a step of Adam multiplies 1e-7 by less than 2.
LOSS=1e-5
# Relative to a norm, whose square is a sum over 24,000 parameters.
NORM=2e-5
# Of w_i n, n = 8, and of an effective number that is a sum over 8: of w_i, 2e-6.  Losses differ by 3e-7, and in h are
# divided by their range, 0.1 to 0.5, and by r.
WEIGHT=2e-5
ALPHA=1e-6

ok 'tokens' df-pack -q --dataset-dir "$R/data" --template default --tokenizer "$R/model" --cutoff-len 256 \
	--dataset sums,words,names -o pool.h5
ok 'anchors' df-pack -q --dataset-dir "$R/data" --template default --tokenizer "$R/model" --cutoff-len 256 \
	--dataset anchors -o anchors.h5

# want NAME WHAT: its lines, without the word and the step
want()
{
	sed -n "s/^$2 [0-9]* //p" "$W/$1.txt"
}

# run NAME KEY=VALUE..: 20 steps of 8 rows
run()
{
	ok "$1" df-train -q model_name_or_path="$R/model" finetuning_type=full tokenized_path=pool.h5 output_dir="$1" \
		lr_scheduler_type=constant learning_rate=2e-3 weight_decay=0.1 per_device_train_batch_size=8 save_steps=1 logging_steps=1 \
		"${@:2}"
	losses "$1" 20 >got
	want "$1" loss >want.txt
	near '  losses' got want.txt $LOSS
	sed -n 's/.*"grad_norm": \(.*\),.*/\1/p' "$1/trainer_state.json" >got
	want "$1" norm >want.txt
	near '  norms of the gradient' got want.txt $NORM
}

run plain max_steps=20 disable_shuffling=true

# --- weights of samples ---

# weighed NAME KEY=VALUE..: from the third step on, rows in their order
weighed()
{
	run "$1" disable_shuffling=true train_type=dynamic_weight train_step=20 warmup_step=2 eval_tokenized_path=anchors.h5 \
		"${@:2}"
	sed -nE 's/.*"min": ([^,]*), "mean": ([^,]*), "max": ([^,]*), "effective": ([^,]*),.*/\1 \2 \3 \4/p' \
		"$1/weight_log.jsonl" | grep -v null >got
	want "$1" weights >want.txt
	near '  weights: least, mean, largest, effective number' got want.txt "${limit:-$WEIGHT}"
}

weighed linupper component_name=loss component_params.strategy=linupper component_params.r=0.4
weighed quadratic component_name=loss component_params.strategy=quadratic component_params.r=0.4 component_params.delta=0.8
weighed extremes component_name=loss component_params.strategy=extremes
weighed linupper-micro component_name=loss component_params.r=0.4 per_device_train_batch_size=4 gradient_accumulation_steps=2
# The sigmoid of 9: its weights differ from 1, and from each other, by 1e-4.
limit=1e-8 weighed adapt component_name=adapt component_params.tau=0.1 component_params.refresh_interval=5
limit=1e-6 weighed adapt-micro component_name=adapt component_params.tau=1 component_params.refresh_interval=5 \
	component_params.weight_norm=mean1 per_device_train_batch_size=4 gradient_accumulation_steps=2
weighed joint component_name=joint_update_aware component_params.target_update_step=5
weighed joint-targets component_name=joint_update_aware component_params.target_update_step=5 component_params.beta=1 \
	component_params.pooling=mean_pool
cat >by_id.sh <<'SH'
while read -r line; do
	echo "$line" | awk -F '[][]' '{
		n = split($2, id, ",")
		for (i = 1; i <= n; i++) printf "%s%g", (i > 1 ? "," : "["), id[i] % 5 / 2
		print "]"
	}'
done
SH
weighed custom component_name=custom component_params.program='sh by_id.sh' warmup_step=0

# A group of the whole step is one micro-batch, however it is split.
want linupper loss >want.txt
ok 'linupper, the step as a group' df-train -q model_name_or_path="$R/model" finetuning_type=full tokenized_path=pool.h5 \
	output_dir=split lr_scheduler_type=constant learning_rate=2e-3 weight_decay=0.1 per_device_train_batch_size=2 \
	gradient_accumulation_steps=4 save_steps=1 disable_shuffling=true train_type=dynamic_weight train_step=20 warmup_step=2 \
	component_name=loss component_params.r=0.4 component_params.group=step
losses split 20 >got
near '  the losses of one micro-batch' got want.txt $LOSS

# --- mixtures ---

# mixed NAME KEY=VALUE..: also the proportions and rows of windows
mixed()
{
	run "$1" train_type=dynamic_mix train_step=20 warmup_step=4 "${@:2}"
}

# logged FILE NAME: the numbers of a list in each line; - for null
logged()
{
	sed -nE 's/.*"'"$2"'": \[([^]]*)\].*/\1/p' "$1/mixture_log.jsonl" | tr -d , | sed 's/null/-/g'
}

for run in doremi doremi-repo; do
	case $run in
	doremi) how="component_params.eta=1 component_params.smoothing=1e-3" ;;
	*) how="component_params.profile=repo component_params.reweight_eta=0.5 component_params.reweight_eps=0.01 init_mixture_proportions=[0.5,0.25,0.25]
		per_device_train_batch_size=2 gradient_accumulation_steps=4" ;;
	esac
	# shellcheck disable=SC2086 # words
	mixed $run component_name=doremi component_params.reference_model_path="$R/reference" update_step=4 $how
	logged $run weights >got
	want $run alpha >want.txt
	near '  alpha of each step' got want.txt $ALPHA
	logged $run excess >got
	want $run excess >want.txt
	near '  excess losses by domain' got want.txt $LOSS
	column_of $run/domain_weights.h5 domain_weight >got
	want $run average | tr ' ' '\n' >want.txt
	near '  their mean is the result' got want.txt $ALPHA
done
# The same from losses that were computed once.
ok 'losses of the reference' df-grad -q --losses --token-loss -m "$R/reference" pool.h5 -o reference.h5
mixed doremi component_name=doremi component_params.reference_losses=reference.h5 update_step=4 overwrite_output_dir=true
logged doremi weights >got
want doremi alpha >want.txt
near '  alpha of each step' got want.txt $ALPHA

mixed odm component_name=odm update_step=2 'init_mixture_proportions=[2,1,1]' component_params.warmup_steps=0
logged odm proportions >got
want odm proportions >want.txt
near '  proportions of each window' got want.txt $ALPHA
mixed odm-repo component_name=odm update_step=4 component_params.variant=repo component_params.warmup_steps=0
logged odm-repo proportions >got
want odm-repo proportions >want.txt
near '  proportions of each window' got want.txt $ALPHA

done_testing

#!/bin/bash
# Real runs of DataFlex (tests/golden/dataflex_runs, made by make_dataflex_runs.py), done again: the same tokens, the same
# rows in windows of df-train --index, the same losses step by step; what its selectors chose, by our programs on our
# checkpoints.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/run_numbers.sh"
R=$SRC/tests/golden/dataflex_runs

# Both compute in float32, in another order; twenty steps of Adam with this learning rate make 1e-6 of that.
LIMIT=1e-5

# key RUN KEY DEFAULT: of its configuration
key()
{
	v=$(sed -n 's/^"config": .*"'"$2"'": "\{0,1\}\([^",}]*\).*/\1/p' "$R/$1.json")
	echo "${v:-$3}"
}

# windows RUN: "step rows.." of each window; losses_of RUN: the loss of each step, the sum over its micro-batches
windows()
{
	sed -nE 's/^ *\{"step": ([0-9]+), "kind": "(warmup|select|snapshot)".*"rows": \[([^]]*)\].*/\1 \3/p' "$R/$1.json" | tr -d ,
}

losses_of()
{
	awk '/^"steps"/ { on = 1; next } on && /"loss"/ {
		n = split($0, part, /"loss": /); sum = 0
		for (i = 2; i <= n; i++) sum += part[i]
		printf "%.9g\n", sum
	}' "$R/$1.json"
}

pack()
{
	df-pack -q --dataset-dir "$R/data" --template default --tokenizer "$R/model" --cutoff-len 256 "$@"
}

# train RUN KEY=VALUE.. [OPTION..]
train()
{
	df-train -q model_name_or_path="$R/model" finetuning_type=full lr_scheduler_type=constant save_steps=1 logging_steps=1 \
		per_device_train_batch_size="$(key "$1" per_device_train_batch_size)" \
		gradient_accumulation_steps="$(key "$1" gradient_accumulation_steps 1)" \
		learning_rate="$(key "$1" learning_rate)" "${@:2}"
}

ok 'the rows of selections' pack --dataset sums -o sums.h5
ok 'the rows of mixtures' pack --dataset sums,words,names -o mixed.h5
ok 'anchors' pack --dataset anchors -o anchors.h5

# --- window by window ---

# replay RUN TOKENS: a window's rows are an index, and the run goes on from the last checkpoint
replay()
{
	last=$(losses_of "$1" | wc -l)
	windows "$1" >windows.txt
	awk -v last="$last" 'NR > 1 { print $1 } END { print last }' windows.txt >ends
	paste -d ' ' ends windows.txt | while read -r end _ rows; do
		echo "$rows" | tr ' ' '\n' >list
		df-show -q --import list -o index.h5 "$2" && train "$1" tokenized_path="$2" output_dir="run-$1" max_steps="$last" \
			--index index.h5 --until "$end" || exit 1
	done >out 2>err
	report $? "$1: $(wc -l <windows.txt) windows with DataFlex's rows"
	losses "run-$1" "$last" >got
	losses_of "$1" >want.txt
	near "$1: the losses of all $last steps" got want.txt $LIMIT
}

for run in select-random select-fraction select-steps select-epoch select-loss select-delta-loss select-less; do
	replay $run sums.h5
done
# B23 a: of DoReMi's run, too: although its alpha goes to 0.99 for one domain, the losses are those without weights.
for run in mix-fixed mix-static mix-random mix-epoch mix-odm mix-odm-accumulated mix-doremi; do
	replay $run mixed.h5
done

# --- what selectors saw and chose, on our checkpoints of the same steps ---

# selected RUN STEP NAME: a list of numbers of the selection after STEP steps
selected()
{
	sed -nE 's/^ *\{"step": '"$2"', "kind": "select".*"'"$3"'": \[([^]]*)\].*/\1/p' "$R/$1.json" | tr -d ' ' | tr ',' '\n'
}

# A checkpoint of our run, not that of a step after it with other rows: it is the model that selected.
for step in 2 5; do
	ok "losses after $step steps" df-grad -q --losses -m run-select-loss/checkpoint-$step sums.h5 -o losses.h5
	column_of losses.h5 loss >got
	selected select-loss $step losses >want.txt
	near 'as DataFlex computed them' got want.txt $LIMIT
done
is 'the rows that it chose have these losses' "$(selected select-loss 5 rows | while read -r row; do
	sed -n "$((row + 1))p" want.txt
done | paste - <(selected select-loss 5 loss) | awk '{ d = $1 - $2; bad += d > 2e-6 || d < -2e-6 } END { print NR, bad + 0 }')" '12 0'

for step in 2 4 6; do
	ok "losses after $step steps" df-grad -q --losses -m run-select-delta-loss/checkpoint-$step sums.h5 -o delta-$step.h5
	column_of delta-$step.h5 loss >got
	selected select-delta-loss $step losses >want.txt
	near 'as DataFlex computed them for the drop' got want.txt $LIMIT
done

# scores TRAIN VAL: cosines of whole gradients, the mean over the targets
scores()
{
	{
		column_of "$2" gradient
		echo train
		column_of "$1" gradient
	} | awk -v d="$D" '
	function unit(k) { norm = 0; for (k = 0; k < d; k++) norm += g[k] * g[k]; norm = sqrt(norm) }
	$1 == "train" { train = 1; for (k = 0; k < d; k++) mean[k] /= n; next }
	{ g[at++] = $1 }
	at == d {
		at = 0; unit()
		if (train) { dot = 0; for (k = 0; k < d; k++) dot += g[k] * mean[k]; printf "%.9g\n", dot / norm }
		else { n++; for (k = 0; k < d; k++) mean[k] += g[k] / norm }
	}'
}

# LESS without projection: DataFlex's projector was the identity, in half precision (B19).  B12 does not show: the model
# has no dropout.
for step in 3 5; do
	ok "gradients after $step steps" df-grad -q -m run-select-less/checkpoint-$step --form adam sums.h5 -o train.h5
	ok 'of the targets' df-grad -q -m run-select-less/checkpoint-$step --form sgd anchors.h5 -o val.h5
	D=23808 # trainable parameters
	scores train.h5 val.h5 >score
	selected select-less $step rows >rows.txt
	selected select-less $step train_eval_similarity >want.txt
	while read -r row; do sed -n "$((row + 1))p" score; done <rows.txt >got
	near 'LESS: the scores of the rows that DataFlex chose' got want.txt 5e-5
	is 'these are the best, in this order' \
		"$(awk '{ print $1, NR - 1 }' score | sort -gr | head -n 8 | awk '{ print $2 }' | tr '\n' ' ')" "$(tr '\n' ' ' <rows.txt)"
	ok 'projected' df-project -q -k 8192 train.h5 -o train.proj.h5
	ok 'the targets, projected' df-project -q -k 8192 val.h5 -o val.proj.h5
	ok 'df-score less' df-score -q less --train train.proj.h5 --val val.proj.h5 -n 8 -o less.h5 --scores-output scores.h5
	column_of scores.h5 score >got
	near 'its scores, but for the projection' got score 0.02 # 1 / sqrt(8192) is 0.011
done

# --- WeightTrainer: the whole run, with its keys ---

# weighed RUN KEY=VALUE..: DataFlex's keys, what our methods need to be like its, and rows in their order
weighed()
{
	last=$(losses_of "$1" | wc -l)
	ok "$1 with its keys" train "$1" tokenized_path=mixed.h5 output_dir="run-$1" disable_shuffling=true \
		train_type=dynamic_weight warmup_step=3 train_step="$(key "$1" train_step)" \
		num_train_epochs="$(key "$1" num_train_epochs 3)" "${@:2}"
	losses "run-$1" "$last" >got
	losses_of "$1" >want.txt
	# What training_step returns has been divided by the accumulation, and before the first weights once too often.
	accum=$(key "$1" gradient_accumulation_steps 1)
	awk -v n="$accum" '{ print NR <= 3 ? $1 * n : $1 }' want.txt >scaled
	near "$1: the losses of all $last steps" got scaled $LIMIT
	# The least and largest weight of each step, relative to the plain mean of a micro-batch.
	awk -v n=$((8 / accum)) '/^"steps"/ { on = 1; next } on && /"weight"/ {
		least = 1e9; most = 0
		m = split($0, part, /"weight": \[/)
		for (i = 2; i <= m; i++) {
			k = split(substr(part[i], 1, index(part[i], "]") - 1), w, ", ")
			for (j = 1; j <= k; j++) { if (w[j] < least) least = w[j]; if (w[j] > most) most = w[j] }
		}
		print least * n, most * n
	}' "$R/$1.json" >want.txt
	sed -nE 's/.*"min": ([^,]*), .*"max": ([^,]*), "effective".*/\1 \2/p' "run-$1/weight_log.jsonl" | grep -v null |
		awk '{ printf "%.9g %.9g\n", $1, $2 }' >got
	near "$1: the least and the largest weight of each step" got want.txt 5e-5 # of w_i n, and DataFlex's are float32
}

weighed weight-linupper component_name=loss
weighed weight-uniform component_name=loss component_params.strategy=uniform component_params.compat=dataflex # B26
weighed weight-quadratic component_name=loss component_params.strategy=quadratic component_params.delta=2
weighed weight-extremes component_name=loss component_params.strategy=extremes
weighed weight-accumulated component_name=loss
weighed weight-adapt component_name=adapt eval_tokenized_path=anchors.h5 component_params.tau=0.1 \
	component_params.refresh_interval=3 component_params.reduce=sum # B27
weighed weight-custom component_name=custom

# --- SelectTrainer: a run that asks for rows when DataFlex's did ---

# asks RUN: each time with the rows that DataFlex's selector chose; the steps after which it stops
asks()
{
	run="train $1 tokenized_path=sums.h5 output_dir=asks-$1 disable_shuffling=true train_type=dynamic_select
		component_name=random warmup_step=$(key "$1" warmup_step) update_step=$(key "$1" update_step)
		update_times=$(key "$1" update_times) train_step=$(key "$1" train_step 0)
		num_train_epochs=$(key "$1" num_train_epochs 3)"
	sed -nE 's/^ *\{"step": ([0-9]+), "kind": "select".*"rows": \[([^]]*)\].*/\1 \2/p' "$R/$1.json" | tr -d , >windows.txt
	ls="ls -d asks-$1/checkpoint-*"
	# shellcheck disable=SC2086 # words
	exits 64 "$1: without an index it stops" $run
	while read -r _ rows; do
		$ls | sed 's/.*-//' | sort -n | tail -n 1
		echo "$rows" | tr ' ' '\n' >list
		df-show -q --import list -o index.h5 sums.h5 >out 2>err
		$run --index index.h5 >out 2>err
	done <windows.txt >got
	cut -d ' ' -f 1 windows.txt >want.txt
	near "$1: it asks after these steps" got want.txt 0
	$ls | sed 's/.*-//' | sort -n | tail -n 1 >got
	losses_of "$1" | wc -l >want.txt
	near "$1: and ends after this" got want.txt 0
}

for run in select-random select-fraction select-steps select-epoch; do
	asks $run
done

# --- B04 and B28: its draws of a warm-up, and its length of a mixture run, on request ---

# steps_of DIR N: the losses of its first N steps
warm=$(key select-random warmup_step)
select="train select-random tokenized_path=sums.h5 disable_shuffling=true train_type=dynamic_select component_name=random
	warmup_step=$warm update_step=3 update_times=2 num_train_epochs=2"
# shellcheck disable=SC2086 # words
ok 'a warm-up as DataFlex draws it' $select output_dir=warm warmup_draw=dataflex --until "$warm"
losses warm "$warm" >got
losses_of select-random | head -n "$warm" >want.txt
near 'has its losses' got want.txt $LIMIT
# shellcheck disable=SC2086 # words
ok 'with another seed of the selector' $select output_dir=warm2 warmup_draw=dataflex component_params.seed=7 --until "$warm"
! cmp -s warm/checkpoint-"$warm"/model.safetensors warm2/checkpoint-"$warm"/model.safetensors
report $? 'other rows come'
df-train -q model_name_or_path="$R/model" finetuning_type=full tokenized_path=mixed.h5 output_dir=none \
	per_device_train_batch_size=4 train_type=dynamic_mix component_name=random warmup_step=2 update_step=3 update_times=2 \
	train_step=20 mix_steps=dataflex --plan >out 2>err
is 'update_times before train_step' "$(tail -n 1 out | cut -f 1) $(grep -c 'train_step has no effect with mix_steps: dataflex: the run has 8 steps' err)" '8 1'

# --- B20: stratified and uniform keep their proportions in DataFlex; ours asks which is meant ---

mix="train mix-stratified tokenized_path=mixed.h5 output_dir=rule train_type=dynamic_mix warmup_step=2 update_step=3
	update_times=2"
for c in random "static component_params.proportions=[2,1,1]" odm "doremi component_params.reference_model_path=$R/reference"; do
	# shellcheck disable=SC2086 # words
	exits 78 "stratified, and ${c%% *}" $mix mixture_sample_rule=stratified component_name=$c
	says '  says what to give' 'mixture_sample_rule: stratified would keep its proportions, but [a-z]+ (changes them|has its own): give mixture'
done
[ ! -e rule ]
report $? 'and nothing is written'
# shellcheck disable=SC2086 # words
ok 'a component that keeps them, too' $mix mixture_sample_rule=stratified component_name=static
# shellcheck disable=SC2086 # words
ok "uniform is DoReMi's rule" $mix mixture_sample_rule=uniform component_name=doremi \
	component_params.reference_model_path="$R/reference" overwrite_output_dir=true

done_testing

#!/bin/sh
# df-train: the ways to fine-tune as typed (freezing, adapters with all their options, packed rows), killed in the middle
# and run again to the same bytes; and what evaluations decide: the best model, early stopping, plateaus.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

rows() # WORD N SEED: questions and answers
{
	awk -v word="$1" -v n="$2" -v seed="$3" 'BEGIN {
		srand(seed); printf "["
		for (i = 0; i < n; i++) {
			a = int(rand() * 90); b = int(rand() * 9)
			printf "%s{\"instruction\": \"%s %d %d\", \"output\": \"%d\"}", i ? "," : "", word, a, b, a + b
		}
		print "]"
	}'
}
rows add 50 5 >add.json
rows plus 40 6 >plus.json
echo '{"add": {"file_name": "add.json"}, "plus": {"file_name": "plus.json"}}' >dataset_info.json
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	"$SRC/configs/models/tiny-llama/config.json" >small/config.json
cat >run.yaml <<'YAML'
model_name_or_path: base
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
learning_rate: 5e-3
max_steps: 24
lr_scheduler_type: cosine
warmup_steps: 2
logging_steps: 2
save_steps: 6
YAML
pack="df-pack -q --dataset-dir . --template alpaca --tokenizer bytes --cutoff-len 420"
both="--dataset add,plus --holdout add=10 --holdout plus=10"
ok 'rows' $pack $both --holdout-output val.h5 -o rows.h5
ok 'packed rows' $pack $both --packing --holdout-output val.plain.h5 -o plain.h5
ok 'neatly packed rows' $pack $both --neat-packing --holdout-output val.neat.h5 -o neat.h5
ok 'a model to begin with' df-train run.yaml -q model_name_or_path=small train_from_scratch=true finetuning_type=full \
	tokenized_path=rows.h5 output_dir=base

# --- packed rows are the rows they are made of ---

loss() { df-eval -q --json -m base "$1" | grep -Eo '"loss": [0-9.]+' | head -n 1 | cut -d' ' -f2; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; print (a != "" && d * d <= 1e-10 * a * a) }'; }
a=$(loss val.h5)
is 'the loss of neat packs is that of their rows' "$(near "$a" "$(loss val.neat.h5)")" 1
is 'that of plain packs is another' "$(near "$a" "$(loss val.plain.h5)")" 0
df-grad -q -m base --losses neat.h5 -o neat.loss.h5
df-grad -q -m base --losses --block-rows 1 neat.h5 -o neat.loss1.h5
id='s/^ *id *//p'
is 'df-grad takes packs, in any blocks' "$(df-show neat.loss.h5 | sed -n "$id")" "$(df-show neat.loss1.h5 | sed -n "$id")"

# --- every way, killed and run again ---

# Times are the only bytes that may differ between two runs.
same_run()
{
	for d in "$2" "$3"; do
		(cd "$d" && find . -type f | LC_ALL=C sort | while read -r f; do
			sed -E 's/"(elapsed_time|remaining_time|[a-z_]*(runtime|per_second))": *("[^"]*"|[0-9.e+-]+)//g' "$f" |
				cksum | sed "s|\$| $f|"
		done) >"$d.sum"
	done
	same "$1" "$2.sum" "$3.sum"
}
way() # NAME KEY=VALUE...
{
	name=$1
	shift
	ok "$name: a whole run" df-train run.yaml -q output_dir="$name" "$@"
	# Killed as soon as there is a checkpoint; wherever that is, the next run ends with the same bytes.
	df-train run.yaml -q -j 1 output_dir="$name.killed" "$@" 2>/dev/null &
	pid=$!
	while kill -0 $pid 2>/dev/null && [ ! -e "$name.killed/checkpoint-6" ]; do sleep 0.02; done
	kill -KILL $pid 2>/dev/null
	wait $pid 2>/dev/null
	ok "$name: run again" df-train run.yaml -q output_dir="$name.killed" "$@"
	same_run "$name: the bytes of an undisturbed run" "$name" "$name.killed"
	ok "$name: activations computed again" df-train run.yaml -q output_dir="$name.again" gradient_checkpointing=true "$@"
	same_run "$name: change no bit" "$name" "$name.again"
}
way lora tokenized_path=neat.h5 lora_rank=4 lora_dropout=0.2 use_rslora=true loraplus_lr_ratio=4 additional_target=lm_head
way plain tokenized_path=plain.h5 lora_rank=4 lora_dropout=0.1 lora_target=q_proj,v_proj
way freeze tokenized_path=neat.h5 finetuning_type=freeze freeze_trainable_layers=1 freeze_extra_modules=norm
ok 'a frozen checkpoint has what trained' df-grad -q -m freeze/checkpoint-24 --form adam --project 16 val.h5 -o f.proj.h5
[ "$(wc -c <freeze/checkpoint-24/optimizer.safetensors)" -lt "$(wc -c <base/checkpoint-24/optimizer.safetensors)" ]
report $? 'and moments of that only'

ok 'dropout, another seed' df-train run.yaml -q tokenized_path=plain.h5 output_dir=seed lora_rank=4 lora_dropout=0.1 \
	lora_target=q_proj,v_proj disable_shuffling=true seed=1 max_steps=4
ok 'the same, without it' df-train run.yaml -q tokenized_path=plain.h5 output_dir=none lora_rank=4 \
	lora_target=q_proj,v_proj disable_shuffling=true seed=1 max_steps=4
! cmp -s seed/adapter_model.safetensors none/adapter_model.safetensors
report $? 'dropout does something'

# --- the keys of df-pack must be the tokens' ---

refuse()
{
	exits 78 "refused: $*" df-train run.yaml output_dir=nope tokenized_path=neat.h5 "$@"
	[ ! -e nope ]
	report $? '  and nothing is made'
}
refuse neat_packing=false
says '  and why' 'neat_packing \(override\)?.*is false, but neat.h5 was packed with true|neat_packing.*is false'
refuse mix_strategy=interleave_under
says '  and why' 'was packed with "concat"'
refuse val_size=0.1
says '  and why' 'val_size.* was packed with 0'
ok 'the same keys are fine' df-train run.yaml -q output_dir=fine tokenized_path=neat.h5 max_steps=1 neat_packing=true \
	packing=true mix_strategy=concat val_size=0 cutoff_len=420 template=alpaca

# --- what evaluations decide ---

eval="df-train run.yaml tokenized_path=rows.h5 eval_tokenized_path=val.h5 eval_strategy=steps eval_steps=3"
ok 'each dataset by itself' $eval -q output_dir=each eval_on_each_dataset=true compute_accuracy=true max_steps=6
is 'in the log' "$(grep -c '"eval_add_loss": [0-9.]*.*"eval_plus_loss": ' each/trainer_log.jsonl)" 2
is 'and the state' "$(grep -c '"eval_add_loss"' each/trainer_state.json)" 2
is 'with the accuracy' "$(grep -c '"eval_accuracy": 0\.[0-9]*' each/all_results.json)" 1
ok 'gone on with' $eval -q output_dir=each eval_on_each_dataset=true compute_accuracy=true max_steps=6 resume_from_checkpoint=true
is 'nothing is lost' "$(grep -c '"eval_plus_loss"' each/trainer_state.json)" 2

# The learning rate rises until the loss gets worse, so that an early checkpoint is the best.
best="$eval learning_rate=0.05 lr_scheduler_type=constant_with_warmup warmup_steps=24 max_grad_norm=0 load_best_model_at_end=true save_steps=3 lora_rank=4"
ok 'the best model at the end' $best output_dir=best
says 'is an earlier one' 'the best model is that of step [0-9]+ \(loss '
step=$(sed -n 's/.*"best_model_checkpoint": "checkpoint-\([0-9]*\)".*/\1/p' best/trainer_state.json)
same 'its weights are the final ones' "best/checkpoint-$step/adapter_model.safetensors" best/adapter_model.safetensors
min=$(grep -o '"eval_loss": [0-9.e+]*' best/trainer_log.jsonl | cut -d' ' -f2 | sort -g | head -n 1)
is 'its loss is the lowest' "$(sed -n 's/.*"best_metric": \(.*\),/\1/p' best/trainer_state.json)" "$min"
ok 'few checkpoints' $best -q output_dir=few save_total_limit=1
is 'the newest and the best are kept' "$(cd few && echo checkpoint-*)" "$(printf '%s\n' checkpoint-24 checkpoint-$step | sort | tr '\n' ' ' | sed 's/ $//')"
same 'the same model' best/adapter_model.safetensors few/adapter_model.safetensors
ok 'halfway' $best -q output_dir=half --until 13
ok 'and to the end' $best -q output_dir=half
same 'the same model, stopped on the way' best/adapter_model.safetensors half/adapter_model.safetensors

stop="$best early_stopping_steps=2"
ok 'no better twice' $stop output_dir=early
says 'ends the run' 'the run ends early'
last=$(sed -n 's/.*"step": \([0-9]*\),.*/\1/p' early/df_state.json | head -n 1)
is 'two evaluations after the best' "$last" "$((step + 6))"
ok 'run again' $stop output_dir=early
says 'it is over' "all $last steps are done"
ok 'with more patience' $best early_stopping_steps=20 -q output_dir=early
is 'it goes on' "$(sed -n 's/.*"step": \([0-9]*\),.*/\1/p' early/df_state.json | head -n 1)" 24
ok 'killed before it stops' $stop -q output_dir=early2 --until 4
ok 'and run again' $stop -q output_dir=early2
is 'stops at the same step' "$(sed -n 's/.*"step": \([0-9]*\),.*/\1/p' early2/df_state.json | head -n 1)" "$last"

plateau="$eval -q learning_rate=0.3 max_grad_norm=0 lr_scheduler_type=reduce_lr_on_plateau lora_rank=4 logging_steps=3 lr_scheduler_kwargs.patience=0 lr_scheduler_kwargs.factor=0.5"
ok 'a plateau' $plateau output_dir=plateau
is 'lowers the rate' "$(grep -o '"lr": [0-9.e-]*' plateau/trainer_log.jsonl | cut -d' ' -f2 | awk 'NR == 1 { first = $1 } { last = $1 } END { print (first == 0.3 && last < 0.3) }')" 1
ok 'half of it' $plateau output_dir=plateau2 --until 7
ok 'and the rest' $plateau output_dir=plateau2
same 'the same rates' plateau/adapter_model.safetensors plateau2/adapter_model.safetensors

exits 78 'a metric that is not there' $eval output_dir=nope load_best_model_at_end=true save_steps=3 metric_for_best_model=bleu
says 'is named' "metric_for_best_model: there is no 'bleu'"
exits 78 'save_steps beside eval_steps' $eval output_dir=nope load_best_model_at_end=true save_steps=4
says 'are named' 'to be a multiple of eval_steps'
ok 'the loss of one dataset' $eval -q output_dir=one eval_on_each_dataset=true metric_for_best_model=plus_loss \
	load_best_model_at_end=true save_steps=3 max_steps=6
exits 78 'no such module' df-train run.yaml output_dir=nope tokenized_path=rows.h5 finetuning_type=freeze freeze_trainable_modules=mpl
says 'says so' "no layer has a 'mpl'"
is_empty 'no temporary files are left' "$(find . -name '.*df-*')"

done_testing

#!/bin/sh
# df-train: the loop's commands as typed, stopping and going on with the same
# bytes, windows, weights, lineage, and what is refused.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

# Small rows of two domains, from a seed.
awk 'BEGIN {
	srand(5); printf "["
	for (i = 0; i < 60; i++) {
		a = int(rand() * 90); b = int(rand() * 9)
		printf "%s{\"instruction\": \"%d + %d\", \"output\": \"%d\"}", i ? "," : "", a, b, a + b
	}
	print "]"
}' >add.json
awk 'BEGIN {
	srand(6); printf "["
	for (i = 0; i < 60; i++) {
		printf "%s{\"instruction\": \"again\", \"input\": \"", i ? "," : ""
		w = ""; for (j = 0; j < 4 + i % 5; j++) w = w sprintf("%c", 97 + int(rand() * 26))
		printf "%s\", \"output\": \"%s\"}", w, w
	}
	print "]"
}' >copy.json
echo '{"add": {"file_name": "add.json"}, "copy": {"file_name": "copy.json"}}' >dataset_info.json
cp -r "$SRC/configs" .
cat >small.yaml <<'YAML'
model_name_or_path: small
train_from_scratch: true
finetuning_type: full
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
learning_rate: 5e-3
max_steps: 24
lr_scheduler_type: cosine
warmup_steps: 2
logging_steps: 2
save_steps: 6
YAML
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	configs/models/tiny-llama/config.json >small/config.json
pack="df-pack -q --dataset-dir . --template alpaca --tokenizer bytes --cutoff-len 256"
ok 'a pool' $pack --dataset add,copy --holdout add=10 --holdout-output val.h5 -o pool.h5
ok 'another pool' $pack --dataset add -o other.h5
train="df-train small.yaml -q tokenized_path=pool.h5"

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

# --- the files of a run ---

ok 'a whole run' $train output_dir=whole
for f in model.safetensors config.json tokenizer.json trainer_state.json train_results.json all_results.json; do
	[ -s "whole/$f" ]
	report $? "it leaves $f"
done
is 'checkpoints at save_steps' "$(echo whole/checkpoint-*)" \
	"whole/checkpoint-12 whole/checkpoint-18 whole/checkpoint-24 whole/checkpoint-6"
is 'a log line every logging_steps' "$(grep -c '"loss"' whole/trainer_log.jsonl)" 12
is 'the loss goes down' "$(sed -E 's/.*"loss": ([0-9.]+),.*/\1/' whole/trainer_log.jsonl |
	awk 'NR == 1 { first = $1 } { last = $1 } END { print (last < 0.8 * first) }')" 1
grep -q '"global_step": 24' whole/trainer_state.json
report $? 'trainer_state.json counts steps'
ok 'a finished run has nothing to do' df-train small.yaml tokenized_path=pool.h5 output_dir=whole
says 'and says so' 'all 24 steps are done'

# --- stopping and going on ---

ok 'until a step between saves' $train output_dir=parts --until 7
is 'its checkpoint is there' "$(echo parts/checkpoint-*)" "parts/checkpoint-6 parts/checkpoint-7"
[ ! -e parts/all_results.json ]
report $? 'the run is not at its end'
ok 'the same again' df-train small.yaml tokenized_path=pool.h5 output_dir=parts --until 7
ok 'on to the end, one thread' $train output_dir=parts -j 1
rm -rf parts/checkpoint-7
same_run 'the bytes of an undisturbed run' whole parts
ok 'a step of the past that is there' $train output_dir=whole --until 12
exits 64 'a step of the past that is gone' $train output_dir=whole --until 13
says 'says what to do' 'overwrite_output_dir=true'

# Signals until the run is through; on a slow machine each is given more time than the last. One that comes while the
# program starts, before it can catch it, ends it (138).
rounds=0
status=75
while { [ $status -eq 75 ] || { [ $status -eq 138 ] && [ ! -s err ]; }; } && [ $rounds -lt 30 ]; do
	$train output_dir=signals 2>err &
	pid=$!
	sleep "$(awk -v i=$rounds 'BEGIN { print 0.2 * 1.25 ^ i }')"
	kill -USR1 $pid 2>/dev/null
	wait $pid
	status=$?
	rounds=$((rounds + 1))
done
is "signalled $rounds times, it ends well" $status 0
same_run 'and with the bytes of an undisturbed run' whole signals
cp -r whole killed
rm -rf killed/checkpoint-18 killed/checkpoint-24 killed/all_results.json
mkdir killed/.checkpoint-18.df-tmp
echo '{"current_steps": 13, "lo' >>killed/trainer_log.jsonl
ok 'after a kill' $train output_dir=killed
same_run 'the bytes of an undisturbed run, no line twice' whole killed
is_empty 'leftovers are gone' "$(find killed -name '.*df-*')"

# --- evaluation, limits ---

ok 'evaluating on the way' $train output_dir=eval eval_tokenized_path=val.h5 eval_strategy=steps eval_steps=6 \
	save_total_limit=2
is 'evaluations' "$(grep -c '"eval_loss"' eval/trainer_log.jsonl)" 4
is 'the newest checkpoints are kept' "$(echo eval/checkpoint-*)" "eval/checkpoint-18 eval/checkpoint-24"
cmp -s eval/model.safetensors whole/model.safetensors
report $? 'evaluating changes no weight'
ok 'models only' $train output_dir=only save_only_model=true max_steps=12
[ ! -e only/checkpoint-6/optimizer.safetensors ]
report $? 'have no optimizer'

# --- LoRA ---

ok 'adapters' $train model_name_or_path=whole train_from_scratch=false finetuning_type=lora lora_rank=4 \
	output_dir=lora max_steps=8
[ -s lora/adapter_model.safetensors ] && [ -s lora/checkpoint-6/adapter_config.json ]
report $? 'leave an adapter'
ok 'adapters until a step' $train model_name_or_path=whole train_from_scratch=false finetuning_type=lora lora_rank=4 \
	output_dir=lora2 max_steps=8 --until 3
ok 'adapters go on' $train model_name_or_path=whole train_from_scratch=false finetuning_type=lora lora_rank=4 \
	output_dir=lora2 max_steps=8
same 'with the same bytes' lora/adapter_model.safetensors lora2/adapter_model.safetensors
lora="$train train_from_scratch=false finetuning_type=lora lora_rank=4 max_steps=4 save_steps=2"
exits 78 'an adapter as the model' $lora model_name_or_path=lora output_dir=nest
says 'says where it belongs' 'model_name_or_path: lora is an adapter: .* adapter_name_or_path'
exits 78 'nor with all weights' $lora model_name_or_path=lora finetuning_type=full output_dir=nest
ok 'an adapter trained further' $lora model_name_or_path=whole adapter_name_or_path=lora lora_rank=9 output_dir=further
grep -q '"r": 4,' further/adapter_config.json && grep -q '"base_model_name_or_path": "whole"' further/adapter_config.json
report $? 'keeps its rank and names its base'
! cmp -s lora/adapter_model.safetensors further/adapter_model.safetensors
report $? 'and learns'
ok 'half of that' $lora model_name_or_path=whole adapter_name_or_path=lora output_dir=further2 --until 2
ok 'the other half' $lora model_name_or_path=whole adapter_name_or_path=lora output_dir=further2
same 'gives the same bytes' further/adapter_model.safetensors further2/adapter_model.safetensors
exits 65 'a whole model as the adapter' $lora model_name_or_path=whole adapter_name_or_path=whole output_dir=nest
says 'is told apart' 'whole is a whole model'
exits 78 'an adapter for all weights' $train finetuning_type=full adapter_name_or_path=lora output_dir=nest
[ ! -e nest ]
report $? 'nothing is made of these'
mkdir away
ok 'a checkpoint of an adapter, its base found from the working directory' df-eval -q -m lora/checkpoint-6 val.h5
mv "$T/out" here
(cd away && exec df-eval -q -m ../lora/checkpoint-6 ../val.h5) >out 2>err
is 'elsewhere it is not found' $? 66
says 'and the message tells what to do' "base model 'whole' is not here; name its directory"
(cd away && exec df-eval -q -m ../lora/checkpoint-6 --base ../whole ../val.h5) >there 2>err
same 'with --base it is' there here
exits 65 'other tokens for an adapter' df-train small.yaml -q model_name_or_path=whole train_from_scratch=false \
	finetuning_type=lora tokenized_path=other.h5 output_dir=lora
says 'says how to' 'adapter_name_or_path=lora/checkpoint-'

# --- another start ---

ok 'from a checkpoint elsewhere' $train output_dir=fork resume_from_checkpoint=whole/checkpoint-18
same 'gives the same end' whole/model.safetensors fork/model.safetensors
ok 'with another schedule' df-train small.yaml tokenized_path=pool.h5 output_dir=fork2 --until 19 \
	resume_from_checkpoint=whole/checkpoint-18 learning_rate=4e-3 lr_scheduler_kwargs.num_cycles=1 seed=42
says 'names what changed, and no more' 'trained with another learning_rate, lr_scheduler_kwargs; going on'
ok 'overwriting starts anew' $train output_dir=fork overwrite_output_dir=true --until 2
is 'nothing old is left' "$(cd fork && echo checkpoint-* all_results.json*)" 'checkpoint-2 all_results.json*'
exits 65 'other tokens in the same run' df-train small.yaml tokenized_path=other.h5 output_dir=fork
says 'it says which disagree' 'trained on tokens [0-9a-f]{32}'

# --- refused ---

exits 64 'no configuration' df-train
exits 66 'a missing configuration' df-train no.yaml
exits 78 'a missing key' df-train small.yaml output_dir=x
says 'is named' 'tokenized_path is required'
exits 78 'a mistyped override' $train output_dir=x learning_rat=1
says 'gets a suggestion' "did you mean 'learning_rate'"
exits 78 'a template that the tokens do not have' $train output_dir=x template=llama3
says 'names both' 'template is llama3, but pool\.h5 was packed with "alpaca"'
ok 'the one they have' $train output_dir=x template=alpaca cutoff_len=256 max_steps=1
exits 66 'no tokens' df-train small.yaml -q tokenized_path=no.h5 output_dir=x
exits 65 'divergence' $train output_dir=nan learning_rate=1e30 max_grad_norm=0
says 'names the step and a sample' 'step [0-9]+: .* not finite; samples? [0-9]+'
[ ! -e nan/checkpoint-6 ]
report $? 'nothing is saved'
ok 'a dry run' df-train small.yaml tokenized_path=pool.h5 output_dir=dry -n
prints 'tells the steps' '^steps +1 to 24 of 24'
[ ! -e dry ]
report $? 'and leaves nothing'
all=$(sed -n 's/.*activations about \([0-9.]*\) MB.*/\1/p' "$T/out")
ok 'a dry run of the last layer alone' df-train small.yaml tokenized_path=pool.h5 output_dir=dry -n \
	model_name_or_path=whole/checkpoint-18 train_from_scratch=false finetuning_type=freeze freeze_trainable_layers=1
is 'keeps the activations of that layer' "$(sed -n 's/.*activations about \([0-9.]*\) MB.*/\1/p' "$T/out")" \
	"$(awk -v all="$all" 'BEGIN { printf "%.1f", all / 2 }')"
ok 'a dry run from a checkpoint' df-train small.yaml tokenized_path=pool.h5 output_dir=dry \
	resume_from_checkpoint=whole/checkpoint-18 -n
prints 'counts from there' '^steps +19 to 24 of 24'
ok 'a dry run of starting anew' df-train small.yaml tokenized_path=pool.h5 output_dir=parts overwrite_output_dir=true -n
prints 'counts from the beginning' '^steps +1 to 24 of 24'
[ -e parts/checkpoint-12 ]
report $? 'and removes nothing'

# --- windows ---

if command -v df-score >/dev/null && command -v df-grad >/dev/null; then
	ok 'projections' df-grad -q -m whole/checkpoint-12 --form sgd --project 64 pool.h5 -o pool.proj.h5
	ok 'a target' df-grad -q -m whole/checkpoint-12 --form sgd --project 64 val.h5 -o val.proj.h5
	ok 'an index' df-score less -q --train pool.proj.h5 --val val.proj.h5 -n 40 -o index.h5
	ok 'a warm-up' $train output_dir=sel --until 6
	ok 'a window' df-train small.yaml tokenized_path=pool.h5 output_dir=sel --index index.h5 --until 12
	says 'an index too short is taken again' 'starts again from its first row'
	ok 'a warm-up' $train output_dir=sel2 --until 6
	ok 'half a window' $train output_dir=sel2 --index index.h5 --until 9
	ok 'the other half' $train output_dir=sel2 --index index.h5 --until 12
	same 'a window in two parts' sel/checkpoint-12/model.safetensors sel2/checkpoint-12/model.safetensors
	grep -q '"window": 6,' sel2/checkpoint-12/df_state.json
	report $? 'began at its first step'
	ok 'the window again' df-train small.yaml tokenized_path=pool.h5 output_dir=sel --index index.h5 --until 12
	ok 'another index' df-score random -q --train pool.proj.h5 -n 40 -o random.h5
	exits 65 'is not taken for it' $train output_dir=sel --index random.h5 --until 12
	says 'says what to do' 'remove it to train again'
	! cmp -s sel/checkpoint-12/model.safetensors whole/checkpoint-12/model.safetensors
	report $? 'and trains on other rows'
	exits 65 'an index for other tokens' df-train small.yaml -q tokenized_path=other.h5 output_dir=y --index index.h5
	says 'names both' 'was made for tokens'
else
	skip 'windows' 'df-score and df-grad are not built'
fi

done_testing

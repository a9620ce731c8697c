#!/bin/sh
# df-train with train_type: dynamic_mix: rows by quotas, the log, DoReMi, ODM and dynamic MoE in the loop, the same bytes
# after a stop or a kill, and what is refused before any work.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

# Rows of three domains, of different sizes and difficulty.
awk 'BEGIN {
	srand(5)
	for (i = 0; i < 40; i++)
		printf "{\"instruction\": \"%d + %d\", \"output\": \"%d\"}\n", i, 3 * i % 17, i + 3 * i % 17 >"sums.jsonl"
	for (i = 0; i < 24; i++)
		printf "{\"instruction\": \"again %d\", \"output\": \"aaaa\"}\n", i >"easy.jsonl"
	for (i = 0; i < 30; i++) {
		w = ""; for (j = 0; j < 6; j++) w = w sprintf("%c", 97 + int(rand() * 26))
		printf "{\"instruction\": \"word\", \"output\": \"%s\"}\n", w >"hard.jsonl"
	}
}'
cat >dataset_info.json <<'END'
{ "sums": { "file_name": "sums.jsonl" }, "easy": { "file_name": "easy.jsonl" }, "hard": { "file_name": "hard.jsonl" } }
END
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	"$SRC/configs/models/tiny-llama/config.json" >small/config.json
cat >small.yaml <<'END'
model_name_or_path: small
train_from_scratch: true
finetuning_type: full
per_device_train_batch_size: 6
gradient_accumulation_steps: 1
learning_rate: 5e-3
lr_scheduler_type: constant
logging_steps: 2
save_steps: 100
tokenized_path: pool.h5
train_type: dynamic_mix
warmup_step: 4
update_step: 3
update_times: 3
END
ok 'a pool of three domains, and rows of two that are evaluated' df-pack -q --dataset-dir . --template alpaca \
	--tokenizer bytes --cutoff-len 128 --dataset sums,easy,hard --holdout sums=6 --holdout easy=4 \
	--holdout-output val.h5 -o pool.h5
train="df-train small.yaml -q"

# log FILE KEY: the values of a member, one line each
log()
{
	sed -E "s/.*\"$2\": (\[[^]]*\]|[^,}]*).*/\1/" "$1/mixture_log.jsonl"
}
# Times are the only bytes that may differ between two runs.
same_run()
{
	for d in "$2" "$3"; do
		(cd "$d" && find . -type f ! -path './checkpoint-*' | LC_ALL=C sort | while read -r f; do
			sed -E 's/"(elapsed_time|remaining_time|[a-z_]*(runtime|per_second))": *("[^"]*"|[0-9.e+-]+)//g' "$f" |
				cksum | sed "s|\$| $f|"
		done) >"$d.sum"
	done
	same "$1" "$2.sum" "$3.sum"
}

# --- proportions that do not change ---

ok 'a static mixture' $train output_dir=static static_mix=true train_step=10 init_mixture_proportions=0.5,0.25,0.25
is 'has one line in its log' "$(wc -l <static/mixture_log.jsonl)" 1
is 'with the proportions' "$(log static proportions)" '[0.5, 0.25, 0.25]'
ok 'random proportions' $train output_dir=random component_name=random
is 'are drawn at the updates' "$(log random step | tr '\n' ' ')" '0 4 7 10 '
is 'others each time' "$(log random proportions | sort -u | wc -l)" 4
ok 'a rule gives the initial proportions' $train output_dir=strat static_mix=true train_step=4 mixture_sample_rule=stratified
is 'by the sizes of the datasets' "$(log strat proportions)" '[0.40476190476190477, 0.23809523809523808, 0.35714285714285715]'

# --- ODM ---

odm="$train component_name=odm component_params.warmup_steps=0"
ok 'ODM' $odm output_dir=odm
ok 'ODM, in parts' $odm output_dir=parts --until 5
ok 'from within a window' $odm output_dir=parts --until 7
ok 'from an event' $odm output_dir=parts
same_run 'the same bytes' odm parts
ok 'ODM on four threads' $odm output_dir=four --threads 4
same_run 'the same bytes again' odm four

# --- DoReMi ---

ok 'a reference' $train output_dir=ref static_mix=true train_step=6
ok 'its losses' df-grad -q --losses --token-loss --model ref -o ref.h5 pool.h5
doremi="$train component_name=doremi"
ok 'DoReMi with losses in a file' $doremi component_params.reference_losses=ref.h5 output_dir=file
ok 'DoReMi with the model' $doremi component_params.reference_model_path=ref output_dir=model
same 'the same model' file/model.safetensors model/model.safetensors
same 'the same log' file/mixture_log.jsonl model/mixture_log.jsonl
is 'a line at logging_steps and at the end' "$(log file step | tr '\n' ' ')" '2 4 6 8 10 12 13 '
ok 'the weights are a file' $train output_dir=main static_mix=true train_step=4 \
	init_mixture_proportions=file/domain_weights.h5
done_testing

#!/bin/sh
# df-train with train_type: dynamic_mix: rows by quotas, the log, DoReMi, ODM and dynamic MoE in the loop, the same bytes
# after a stop or a kill, and what is refused before any work.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/kill_resume.sh"

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
# --- proportions that do not change ---

ok 'a static mixture' $train output_dir=static static_mix=true train_step=10 init_mixture_proportions=0.5,0.25,0.25
is 'has one line in its log' "$(wc -l <static/mixture_log.jsonl)" 1
is 'with the proportions' "$(log static proportions)" '[0.5, 0.25, 0.25]'
ok 'random proportions' $train output_dir=random component_name=random
# Rows of easy have 7 targets, those of hard 9; the rest of a window is of sums.
awk -F'[][]' '
{
	if (NR > 1) {
		split($6, n, ", ")
		rows = NR == 2 ? 24 : 18; left = rows
		for (i = 1; i <= 3; i++) { q[i] = int(rows * p[i]); f[i] = rows * p[i] - q[i]; left -= q[i] }
		for (; left > 0; left--) { b = 1; for (i = 2; i <= 3; i++) if (f[i] > f[b]) b = i; q[b]++; f[b] = -1 }
		if (n[2] != 7 * q[2] || n[3] != 9 * q[3]) { print "line " NR ": " $6 ", not " 7 * q[2] ", " 9 * q[3]; bad = 1 }
	}
	split($4, p, ", ")
}
END { exit bad || NR < 4 }' random/mixture_log.jsonl >"$T/out" 2>&1
report $? 'a window has the rows that its proportions say, by largest remainder'
is 'are drawn at the updates' "$(log random step | tr '\n' ' ')" '0 4 7 10 '
is 'others each time' "$(log random proportions | sort -u | wc -l)" 4
ok 'a rule gives the initial proportions' $train output_dir=strat static_mix=true train_step=4 mixture_sample_rule=stratified
is 'by the sizes of the datasets' "$(log strat proportions)" '[0.40476190476190477, 0.23809523809523808, 0.35714285714285715]'

# --- ODM ---

odm="$train component_name=odm component_params.warmup_steps=0"
ok 'ODM' $odm output_dir=odm
ok 'a longer one' $odm output_dir=long update_times=14 update_step=1 warmup_step=1
ok 'ODM, in parts' $odm output_dir=parts --until 5
ok 'from within a window' $odm output_dir=parts --until 7
ok 'from an event' $odm output_dir=parts
rm -rf parts/checkpoint-5 parts/checkpoint-7
same_run 'the same bytes' odm parts
# R <- 0.9 R + 0.1 loss / p, eps, p = (1 - K eps) softmax(eps_before R) + eps: from the losses of the log, in awk.
awk -F'[][]' '
function split_to(text, to,    n, v, i) { n = split(text, v, ", "); for (i = 1; i <= n; i++) to[i] = v[i]; return n }
{
	k = split_to($4, p); split_to($8, loss)
	if (NR == 1) { before = 1 / k; for (i = 1; i <= k; i++) { pi[i] = p[i]; R[i] = 0 } next }
	eps = sqrt(log(k) / (k * (NR - 1))); eps = eps < 1 / k ? eps : 1 / k
	z = 0
	for (i = 1; i <= k; i++) { if (loss[i] != "null") R[i] = 0.9 * R[i] + 0.1 * loss[i] / pi[i]; z += exp(before * R[i]) }
	for (i = 1; i <= k; i++) {
		pi[i] = (1 - k * eps) * exp(before * R[i]) / z + eps
		if ((p[i] - pi[i]) ^ 2 > 1e-18) { print "line " NR ": " p[i] ", not " pi[i]; bad = 1 }
	}
	before = eps
}
END { exit bad || NR < 12 }' long/mixture_log.jsonl >"$T/out" 2>&1
report $? 'the proportions of its log follow from its losses'
is 'and are not equal' "$(log long proportions | tail -n 1 | grep -c 0.3333333333333333)" 0
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

# Beyond DF_TOKEN_CACHE the losses are read when they are wanted.
ok 'losses that are read on demand' env DF_TOKEN_CACHE=0 $doremi component_params.reference_losses=ref.h5 output_dir=demand
same 'the same model' file/model.safetensors demand/model.safetensors
same 'the same log' file/mixture_log.jsonl demand/mixture_log.jsonl

# --- what a checkpoint knows of its run ---

cat >components.yaml <<'END'
mixers:
  mine: { name: odm, params: { alpha: 0.9, warmup_steps: 0 } }
END
mine="$train component_name=mine components_cfg_file=components.yaml"
ok 'parameters from a file' $mine output_dir=told --until 5
sed -i 's/alpha: 0.9/alpha: 0.5/; s/warmup_steps: 0/min_eps: 0.1/' components.yaml
ok 'which then changes' $mine output_dir=told
says 'is named: the key, its place, the new value, and the old one' \
	'components.yaml:2: odm alpha is 0.5, but told/checkpoint-5 was trained with 0.9; going on with the new value'
says 'one that is gone' 'odm warmup_steps is not given, but told/checkpoint-5 was trained with 0;'
says 'one that is new' 'odm min_eps is 0.1, but told/checkpoint-5 was trained with none;'
ok 'the same again' $mine output_dir=told
[ "$(grep -c 'was trained with' "$T/err")" = 0 ]
report $? 'says nothing'
ok 'DoReMi up to a step' $doremi component_params.reference_losses=ref.h5 output_dir=against --until 5
df-grad -q --losses --token-loss --model main -o main.h5 pool.h5
exits 65 'with another reference' $doremi component_params.reference_losses=main.h5 output_dir=against
says 'is refused' 'against/checkpoint-5 was trained against another reference .losses [0-9a-f]{32}. than main.h5 .losses [0-9a-f]{32}.: give that again, or'
cp ref.h5 moved.h5
ok 'but not for its name' $doremi component_params.reference_losses=moved.h5 output_dir=against
same 'the same model as in one go' file/model.safetensors against/model.safetensors
exits 64 'a reference that the run would replace' $doremi component_params.reference_model_path=ref output_dir=ref \
	overwrite_output_dir=true
says 'is named' 'reference_model_path'
cp file/domain_weights.h5 given.h5
static="$train static_mix=true train_step=6 init_mixture_proportions=given.h5"
ok 'proportions in a file' $static output_dir=given --until 3
df-mix static -q --domains sums,easy,hard --proportions 5,3,2 -o given.h5
ok 'which then changes' $static output_dir=given
says 'does not matter any more, and is named' 'init_mixture_proportions: 0.5 of .sums., but given/checkpoint-3 began with 0\.[0-9]+, which stays'
is 'the run has those that it began with' "$(log given proportions)" "$(log main proportions)"

# --- rows ---

$train output_dir=rows static_mix=true train_step=10 disable_shuffling=true init_mixture_proportions=0.5,0.3,0.2 \
	per_device_train_batch_size=1 logging_steps=1 >/dev/null 2>&1
is 'quotas of 10 rows at 0.5, 0.3, 0.2, domain after domain' \
	"$(cut -d, -f1,3 rows/trainer_log.jsonl | wc -l) $(log rows proportions)" '10 [0.5, 0.3, 0.2]'

# --- a kill at any moment ---

for method in odm doremi; do
	args="component_name=$method component_params.warmup_steps=0 save_steps=2 update_times=8"
	[ $method = odm ] || args="component_name=doremi component_params.reference_losses=ref.h5 save_steps=2 update_times=8 \
		gradient_accumulation_steps=2 eval_strategy=steps eval_steps=5 eval_tokenized_path=val.h5 eval_on_each_dataset=true"
	ok "$method without an interruption" $train $args output_dir=$method-whole
	ok "$method, killed again and again, comes to its end" kill_resume 0.4 $train $args output_dir=$method-killed
	[ $n_kills -gt 0 ]
	report $? 'there were kills'
	same_run "$method: and to the same bytes" $method-whole $method-killed
done
is 'evaluation by dataset in such a run' "$(grep -c eval_sums_loss doremi-whole/trainer_log.jsonl)" 5

# --- experts ---

mkdir moe
cat >moe/config.json <<'END'
{ "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "vocab_size": 259, "hidden_size": 32,
  "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-05,
  "rope_theta": 10000.0, "initializer_range": 0.2, "tie_word_embeddings": false, "hidden_act": "silu",
  "torch_dtype": "float32" }
END
moe="df-train small.yaml -q model_name_or_path=moe component_name=dynamic_moe freeze_gate=true"
ok 'dynamic MoE on reserved rows' $moe output_dir=moe1 component_params.eval_samples=8
is 'proportions change at each update' "$(log moe1 proportions | sort -u | wc -l)" 4
ok 'in parts' $moe output_dir=moe2 component_params.eval_samples=8 --until 7
ok 'to the end' $moe output_dir=moe2 component_params.eval_samples=8
rm -rf moe2/checkpoint-7
same_run 'the same bytes' moe1 moe2
ok 'measured in all layers, at the first step' $moe output_dir=moe3 warmup_step=0 component_params.layers=all
is 'an update before it' "$(log moe3 step | head -n 1)" 0
ok 'held-out rows of the evaluation tokens' df-train small.yaml -q model_name_or_path=moe component_name=dynamic_moe \
	mixer_eval_dataset=sums,easy,sums eval_tokenized_path=val.h5 output_dir=moe4
exits 78 'a dense model has no loads' $train component_name=dynamic_moe output_dir=bad
says 'and the message says so' 'dense'
exits 78 'one evaluation dataset for each domain' $moe mixer_eval_dataset=sums,easy eval_tokenized_path=val.h5 output_dir=bad
says 'with both numbers' '2 datasets, but 3 domains'
exits 78 'with tokens' $moe mixer_eval_dataset=sums,easy,hard output_dir=bad
says 'whose key is named' 'eval_tokenized_path'
exits 78 'and rows' $moe mixer_eval_dataset=sums,easy,hard eval_tokenized_path=val.h5 output_dir=bad
says 'of that name' "no rows of 'hard'"

# --- a mixer of one's own ---

if command -v cc >/dev/null 2>&1; then
	build() { cc -std=c11 -Wall -Wextra -Wno-missing-field-initializers -shared -fPIC -O1 "-I$SRC/lib" "$1" -o "$2" -lm; }
	custom="$train component_name=custom component_params.plugin"
	sed 's/"inverse",/"odm",/' "$SRC/tests/plugin/inverse.c" >taken.c
	sed 's/exp(-s->nll/log(-s->nll/' "$SRC/tests/plugin/inverse.c" >wrong.c
	ok 'inverse.c compiles' build "$SRC/tests/plugin/inverse.c" inverse.so
	ok 'a plug-in mixes' $custom=inverse.so component_params.temperature=2 output_dir=plugin
	is 'its name is in the log' "$(log plugin method | sort -u)" '"inverse"'
	is 'proportions change at each update' "$(log plugin proportions | sort -u | wc -l)" 4
	ok 'in parts' $custom=inverse.so component_params.temperature=2 output_dir=plugin2 --until 8
	ok 'to the end' $custom=inverse.so component_params.temperature=2 output_dir=plugin2
	rm -rf plugin2/checkpoint-8
	same_run 'the same bytes' plugin plugin2
	ok 'the same mixer on files' df-mix --plugin inverse.so inverse -q --losses ref.h5 --temperature 2 -o inverse.h5
	ok 'which goes on from them' df-mix --plugin inverse.so inverse -q --losses ref.h5 --state inverse.h5 -o inverse2.h5
	ok 'its options' df-mix --plugin inverse.so inverse -h
	prints 'are there' 'temperature'
	exits 64 'a method that it does not have' df-mix --plugin inverse.so odm --losses ref.h5 -o none.h5
	says 'says which it has' "'odm' is no method of it, it has inverse"
	exits 78 'an option that it does not have' $custom=inverse.so component_params.temprature=1 output_dir=bad
	says 'suggests' 'did you mean temperature'
	build taken.c taken.so && exits 65 'a name that is taken' $custom=taken.so output_dir=bad
	says 'says so' "its mixer is called 'odm', as one of df-mix's own"
	build wrong.c wrong.so && exits 65 'proportions that are no numbers' $custom=wrong.so output_dir=wrong
	says 'are refused' 'inverse gives domain 0, sums the proportion -?nan'
else
	skip 'a mixer in a plug-in' 'no cc here'
fi
exits 66 'a plug-in that is not there' $train component_name=custom component_params.plugin=none.so output_dir=bad
says 'says so' 'none.so: No such file'
exits 65 'a file that is none' $train component_name=custom component_params.plugin=pool.h5 output_dir=bad
says 'says so' 'pool.h5: it cannot be loaded'
exits 78 'custom without one' $train component_name=custom output_dir=bad
says 'asks for it' 'custom needs the parameter plugin'

# --- what is refused, before any work ---

exits 78 'proportions that do not fit' $train static_mix=true train_step=4 init_mixture_proportions=0.5,0.5 output_dir=bad
says 'with the names of the domains' '2 numbers, but 3 domains .sums, easy, hard'
exits 78 'a component that is not there' $train component_name=doremy output_dir=bad
says 'with the nearest' "did you mean 'doremi'"
exits 78 'update_step 0' $train component_name=odm update_step=0 output_dir=bad
says 'names the key' 'update_step'
exits 78 'DoReMi without a reference' $doremi output_dir=bad
says 'names the keys' 'component_params.reference_losses'
exits 78 'a rule that would keep the proportions' $odm mixture_sample_rule=uniform output_dir=bad
says 'with what to do' 'static_mix: true'
exits 78 'a parameter that is not there' $doremi component_params.reference_loss=ref.h5 output_dir=bad
says 'with the nearest one' 'did you mean'
ok 'an index' df-score random -q --train pool.h5 -n 5 -o index.h5
exits 64 'has no place' $train component_name=random --index index.h5 output_dir=bad
says 'since rows are drawn' 'draws its rows itself'
ok 'weights of samples may be with a mixture' $train component_name=random output_dir=dft use_dft_loss=true
exits 78 'but not with DoReMi' $doremi component_params.reference_losses=ref.h5 use_dft_loss=true output_dir=bad
ok 'losses without those of targets' df-grad -q --losses --model ref -o plain.h5 pool.h5
exits 65 'are no reference' $doremi component_params.reference_losses=plain.h5 output_dir=bad
says 'with how to make one' 'token-loss'
df-pack -q --dataset-dir . --template default --tokenizer bytes --cutoff-len 128 --dataset sums,easy,hard -o other.h5
df-grad -q --losses --token-loss --model ref -o otherref.h5 other.h5
exits 65 'losses of other tokens' $doremi component_params.reference_losses=otherref.h5 output_dir=bad
says 'are refused by name' 'otherref.h5 has the losses of tokens'
cp -r ref other
sed -i 's/"tokenizer": "bytes"/"tokenizer": "0123456789abcdef0123456789abcdef"/' other/df_state.json
exits 65 'a reference with another tokenizer' $doremi component_params.reference_model_path=other output_dir=bad
says 'is refused by name' "tokenizer 'bytes', the checkpoint other"
exits 78 'two references' $doremi component_params.reference_model_path=ref component_params.reference_losses=ref.h5 \
	output_dir=bad
[ ! -e bad ]
report $? 'nothing was made'
exits 65 'another method in the same directory' $train component_name=random output_dir=parts update_times=9
exits 78 'another window in the middle of a run' $odm output_dir=file update_step=5
done_testing

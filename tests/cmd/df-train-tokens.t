#!/bin/sh
# df-train and df-eval over more tokens than are kept in memory: the same bytes as from memory, and files that are
# damaged where a run comes to later.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

rows() # WORD N SEED: questions and answers of many lengths
{
	awk -v word="$1" -v n="$2" -v seed="$3" 'BEGIN {
		srand(seed); printf "["
		for (i = 0; i < n; i++) {
			s = ""; for (k = 0; k < 5 + i % 40; k++) s = s " " int(rand() * 1000)
			printf "%s{\"instruction\": \"%s%s\", \"output\": \"%s\"}", i ? "," : "", word, s, s
		}
		print "]"
	}'
}
rows add 500 5 >add.json
rows plus 300 6 >plus.json
echo '{"add": {"file_name": "add.json"}, "plus": {"file_name": "plus.json"}}' >dataset_info.json
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 16/' -e 's/"intermediate_size": 344/"intermediate_size": 32/' \
	"$SRC/configs/models/tiny-llama/config.json" >small/config.json
cat >run.yaml <<'YAML'
model_name_or_path: small
train_from_scratch: true
finetuning_type: full
per_device_train_batch_size: 4
gradient_accumulation_steps: 2
learning_rate: 5e-3
max_steps: 16
logging_steps: 2
save_steps: 8
YAML
pack="df-pack -q --dataset-dir . --template alpaca --tokenizer bytes --cutoff-len 512"
ok 'a pool of several pieces' $pack --dataset add,plus --holdout add=60 --holdout-output val.h5 -o pool.h5
ok 'packed rows' $pack --dataset add,plus --packing -o packed.h5
ok 'neatly packed rows' $pack --dataset add,plus --neat-packing -o neat.h5
ok 'an index' df-score random -q --train pool.h5 -n 50 -o index.h5
df-train run.yaml tokenized_path=pool.h5 output_dir=dry -n >plan
is 'it has more than four pieces' "$(awk '$1 == "tokens" { print ($2 > 4 * 16384) }' plan)" 1

# cached N CMD ...: with N MiB of tokens in memory
cached()
{
	DF_TOKEN_CACHE=$1
	export DF_TOKEN_CACHE
	shift
	status=0
	"$@" || status=$?
	unset DF_TOKEN_CACHE
	return $status
}

# same_model 'what' TOKENS KEY=VALUE ...: trained from memory and from the smallest cache
same_model()
{
	what=$1
	tokens=$2
	shift 2
	rm -rf kept read
	ok "$what, from memory" df-train run.yaml -q tokenized_path="$tokens" output_dir=kept "$@"
	ok "$what, read on demand" cached 0 df-train run.yaml -q tokenized_path="$tokens" output_dir=read "$@"
	same "$what: the same model" kept/model.safetensors read/model.safetensors
	same "$what: the same moments" kept/checkpoint-16/optimizer.safetensors read/checkpoint-16/optimizer.safetensors
	grep -o '"loss": [^,]*' kept/trainer_log.jsonl >kept.loss
	grep -o '"loss": [^,]*' read/trainer_log.jsonl >read.loss
	same "$what: the same losses" kept.loss read.loss
}
same_model 'shuffled rows' pool.h5
cp -R kept whole
same_model 'rows in their order' pool.h5 disable_shuffling=true streaming=true buffer_size=128
same_model 'packed rows' packed.h5
same_model 'neatly packed rows' neat.h5
same_model 'an index' pool.h5 --index index.h5
same_model 'evaluations' pool.h5 eval_strategy=steps eval_steps=4 eval_tokenized_path=val.h5 compute_accuracy=true

ok 'the first part of a run' cached 0 df-train run.yaml -q tokenized_path=pool.h5 output_dir=parts --until 7
ok 'the rest of it' cached 1 df-train run.yaml -q tokenized_path=pool.h5 output_dir=parts
same 'together they are the whole run' whole/model.safetensors parts/model.safetensors

for t in pool packed neat; do
	ok "losses of $t.h5 from memory" df-eval -q --json -m whole $t.h5
	cp out kept.json
	ok "losses of $t.h5 on demand" cached 0 df-eval -q --json -m whole $t.h5
	cp out read.json
	same 'they are the same' read.json kept.json
done

ok 'a dry run' cached 0 df-train run.yaml tokenized_path=pool.h5 output_dir=dry -n
prints 'does not read the tokens' 'tokens .*\(read as they are trained on\)'
exits 64 'a size that is none' cached lots df-train run.yaml tokenized_path=pool.h5 output_dir=dry -n
says 'is named' 'DF_TOKEN_CACHE'

# --- damage where a run comes to it ---

# A stretch of the second half is overwritten: pieces of some rows, and of no index.
size=$(wc -c <pool.h5)
cp pool.h5 good.h5
cached 0 df-train run.yaml -q tokenized_path=pool.h5 output_dir=broken --until 8
printf 'damage damage damage damage' | dd of=pool.h5 bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
exits 65 'a damaged pool' cached 0 df-train run.yaml -q tokenized_path=pool.h5 output_dir=broken max_steps=400
says 'the step, the sample, the file and the place' 'step [0-9]+: sample [0-9]+: pool.h5: dataset .tokens/ids., rows from [0-9]+: damaged'
ok 'the checkpoint from before is there' test -e broken/checkpoint-8/model.safetensors
ok 'and nothing partial' test ! -e broken/model.safetensors
exits 65 'from memory it is told at once' df-train run.yaml -q tokenized_path=pool.h5 output_dir=never
says 'with its place' 'pool.h5: dataset .tokens/ids., rows from [0-9]+: damaged'
[ ! -e never ]
report $? 'and nothing is made'
exits 65 'an evaluation comes to it' cached 0 df-eval -q -m whole pool.h5
says 'with its place' 'sample [0-9]+: pool.h5: dataset .tokens/ids.'
find broken -name 'checkpoint-*' ! -name checkpoint-8 -prune -exec rm -rf {} +
cp good.h5 pool.h5
ok 'once it is whole again the same command goes on' cached 0 df-train run.yaml -q tokenized_path=pool.h5 output_dir=broken
same 'to the same model' whole/model.safetensors broken/model.safetensors

done_testing

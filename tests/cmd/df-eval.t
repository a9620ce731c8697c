#!/bin/sh
# df-eval: the numbers, that nothing but model and tokens changes them, and
# what is refused.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

# Two domains: one that can be learnt by heart, one that cannot.
awk 'BEGIN { printf "["; for (i = 0; i < 40; i++) printf "%s{\"instruction\": \"say it\", \"output\": \"ok\"}", i ? "," : ""; print "]" }' >same.json
awk 'BEGIN { srand(3); printf "["; for (i = 0; i < 40; i++) printf "%s{\"instruction\": \"any\", \"output\": \"%d\"}", i ? "," : "", rand() * 1e9; print "]" }' >random.json
echo '{"same": {"file_name": "same.json"}, "random": {"file_name": "random.json"}}' >dataset_info.json
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	"$SRC/configs/models/tiny-llama/config.json" >small/config.json
pack="df-pack -q --dataset-dir . --template default --tokenizer bytes --cutoff-len 64"
ok 'tokens' $pack --dataset same,random -o pool.h5
ok 'tokens of one domain' $pack --dataset same -o same.h5
ok 'a model' df-train -q model_name_or_path=small train_from_scratch=true finetuning_type=full tokenized_path=pool.h5 \
	output_dir=run max_steps=60 learning_rate=1e-2 logging_steps=20 eval_tokenized_path=pool.h5 eval_strategy=steps \
	eval_steps=60 lr_scheduler_type=constant

# value PATH KEY FILE: the number of KEY in the line of PATH
value()
{
	sed -nE "s/.*\"$1\": \\{.*\"$2\": ([-+0-9.e]+|null).*/\\1/p" "$3"
}

ok 'a table' df-eval -q -m run/checkpoint-60 pool.h5
prints 'has each domain' '^same +40 '
prints 'and all' '^overall +80 '
ok 'JSON' df-eval -q --json -m run/checkpoint-60 pool.h5
cp out all.json
is 'the loss is that of training' "$(value overall loss all.json | cut -c 1-10)" \
	"$(sed -nE 's/.*"eval_loss": ([0-9.]+),.*/\1/p' run/trainer_log.jsonl | cut -c 1-10)"
is 'perplexity is its exponential' "$(awk -v l="$(value overall loss all.json)" -v p="$(value overall perplexity all.json)" \
	'BEGIN { d = exp(l) / p - 1; print (d < 1e-6 && d > -1e-6) }')" 1
is 'what is known by heart is exact' "$(value same exact_accuracy all.json)" 1
is 'what is random is not' "$(value random exact_accuracy all.json | awk '{ print ($1 < 0.2) }')" 1
is 'targets add up' "$(value overall targets all.json)" "$(($(value same targets all.json) + $(value random targets all.json)))"

ok 'one thread, small blocks' df-eval -q -j 1 --batch-tokens 1 --json -m run/checkpoint-60 pool.h5
cp out one.json
same 'change nothing' one.json all.json
ok 'large blocks' df-eval -q --batch-tokens 100000 --json -m run/checkpoint-60 pool.h5
cp out large.json
same 'change nothing either' large.json all.json
ok 'a domain alone' df-eval -q --json -m run same.h5
is 'has the loss it had' "$(value same loss out)" "$(value same loss all.json)"

cp -r run/checkpoint-60 other
sed -i 's/"tokenizer": "bytes"/"tokenizer": "00000000000000000000000000000000"/' other/df_state.json
exits 65 'a checkpoint of another tokenizer' df-eval -m other pool.h5
says 'names both' '0{32}.*bytes'
rm other/df_state.json
ok 'a model that does not say' df-eval -m other same.h5
says 'gets a line' 'not known which tokenizer'
exits 64 'no model' df-eval pool.h5
exits 64 'no tokens' df-eval -m run
exits 66 'a missing model' df-eval -m nowhere pool.h5
exits 66 'missing tokens' df-eval -m run nothing.h5
head -c 3000 pool.h5 >cut.h5
exits 65 'damaged tokens' df-eval -m run cut.h5
says 'are named' 'cut\.h5'

done_testing

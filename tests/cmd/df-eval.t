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
says 'names both' 'bytes.*0{32}'
rm -f other/df_state.json other/tokenizer.json
ok 'a model that does not say' df-eval -m other same.h5
says 'gets a line' 'not known which tokenizer'
exits 64 'no model' df-eval pool.h5
exits 64 'subjects of tokens' df-eval -m run --subjects x pool.h5
says 'are told' '--subjects is for --mmlu'
exits 64 'stop texts of tokens' df-eval -m run --stop x pool.h5
says 'are told, too' '--stop is for --dataset'
for o in split=test shots=5; do
	exits 64 "--$o of tokens" df-eval -m run pool.h5 --$o
	says 'is refused' 'is for --mmlu$'
	exits 64 "--$o of answers" df-eval -m run --dataset same --$o
done
for o in match=strip max-new-tokens=128 dataset-dir=.; do
	exits 64 "--$o of tokens" df-eval -m run pool.h5 --$o
	exits 64 "--$o of questions" df-eval -m run --mmlu . --$o
	says 'is refused' 'is for --dataset( and --completions)?$'
done
exits 64 'a label of questions' df-eval -m run --mmlu . --label 0
says 'is refused, the default too' '--label is for tokens'
exits 64 'a label of a language model' df-eval -m run same.h5 --label 0
exits 64 'slots of tokens' df-eval -m run same.h5 --slots 1
says 'are refused' '--slots is for --mmlu and --dataset'
exits 64 'no tokens' df-eval -m run
exits 66 'a missing model' df-eval -m nowhere pool.h5
exits 66 'missing tokens' df-eval -m run nothing.h5
head -c 3000 pool.h5 >cut.h5
exits 65 'damaged tokens' df-eval -m run cut.h5
says 'are named' 'cut\.h5'

# --- multiple choice ---
q=$SRC/tests/golden/mmlu
ok 'multiple choice' df-eval -q -m $q/model --mmlu $q --shots 3 --details d.jsonl
prints 'a subject by letter, by text and normalised' \
	'^abstract_algebra +7 +42\.86% \+-20\.20 +0\.00% \+- 0\.00 +28\.57% \+-18\.44$'
prints 'all questions' '^all questions +21 '
prints 'the mean of subjects' '^mean of subjects +31\.3[0-9]% '
is 'a line for each question' "$(wc -l <d.jsonl)" 21
ok 'as JSON' df-eval -q -m $q/model --mmlu $q --shots 3 --json
prints 'with errors' '"overall": \{"questions": 21, "letter": 0\.28[0-9]*, "letter_stderr": 0\.1[0-9]*, "text": '
ok 'one at a time' df-eval -q -m $q/model --mmlu $q --shots 3 --slots 1 -j 1 --details one.jsonl
same 'gives the same bytes' one.jsonl d.jsonl
ok 'one subject, letters only' df-eval -q -m $q/model --mmlu $q --shots 0 --subjects virology --letters-only
is 'is two lines and its mean' "$(wc -l <out)" 4
ok 'bytes: a letter is two tokens' df-eval -q -m run/checkpoint-60 --mmlu $q --shots 1 --subjects virology
ok 'through a template' df-eval -q -m $q/model --mmlu $q --shots 2 --template qwen --details template.jsonl
! cmp -s template.jsonl d.jsonl
report $? 'is asked in other words'
exits 66 'no such questions' df-eval -q -m run/checkpoint-60 --mmlu nowhere
exits 65 'more solved ones than there are' df-eval -q -m $q/model --mmlu $q --shots 6
says 'says how many there are' '5 questions of the 6'
mkdir -p long/test
awk 'BEGIN { for (i = 0; i < 200000; i++) printf "a "; print ",b,c,A" }' >long/test/x_test.csv
df-eval -m $q/model --mmlu long --shots 0 --letters-only >out 2>err &
pid=$!
wait_for grep -q warning err
kill $pid
wait $pid
is 'SIGTERM while a long question is read' $? 75
says 'which is longer than the model knows' 'warning: questions grow to 400[0-9]{3} tokens and more, the model was made for 4096'
exits 64 'questions and tokens' df-eval -m run/checkpoint-60 --mmlu $q same.h5
exits 64 'scores of questions' df-eval -m run/checkpoint-60 --mmlu $q -o scores.h5

# --- exact answers ---
match="df-eval -q -m run/checkpoint-60 --dataset-dir . --dataset same,random --template default --max-new-tokens 16"
ok 'exact answers' $match --details a.jsonl
prints 'by domain' '^same +40 +0 +100\.00% '
prints 'and all' '^overall +80 '
is 'a line for each answer' "$(wc -l <a.jsonl)" 80
cp out report
ok 'answers that are printed' $match --details -
cat a.jsonl report >both
cp out printed
same 'come before the report' both printed
is 'which says whether it is right' "$(grep -c '"completion": "ok", "answer": "ok", "finish": "eos", "match": true' a.jsonl)" 40
ok 'as JSON' $match --json
prints 'as JSON, by domain' '"same": \{"samples": 40, "cut": 0, "match": 1, "match_stderr": 0\}'
ok 'by numbers' $match --match number --json
prints 'there is none in the first' '"same": \{"samples": 40, "cut": 0, "match": 0,'
exits 64 'no such dataset' sh -c "$match,third || exit 64"

# --- a reward model: the language model's head under another name scores 259 labels ---
exits 65 'tokens of another vocabulary' df-eval -q -m "$SRC/tests/golden/model/llama-scores" same.h5
cp -r run/checkpoint-60 judge
sed -i 's/"LlamaForCausalLM"/"LlamaForSequenceClassification"/; s/"vocab_size"/"num_labels": 259, "vocab_size"/' judge/config.json
exits 65 'a head without weights' df-eval -q -m judge same.h5
says 'says which' 'score.weight'
sed -i 's/"lm_head.weight"/"score.weight"  /' judge/model.safetensors
ok 'scores' df-eval -q -m judge pool.h5 --label 111 -o s.h5
prints 'of each label, by domain' '^same +111 +40 +[-0-9.]+ +[-0-9.e]+$'
ok 'are an artefact' df-show s.h5
prints 'of scores' '^s.h5: scores, 80 rows'
prints 'with domains' '^ *random +40 '
ok 'small batches, one thread' df-eval -q -j 1 --batch-tokens 1 -m judge pool.h5 --label 111 -o one.h5
same 'give the same bytes' one.h5 s.h5
ok 'as JSON' df-eval -q -m judge pool.h5 --json
prints 'with means and deviations' '^  "overall": \{"score": \[[-0-9.]+, .*\], "deviation": \[.*\], "samples": 80\},$'
ok 'a selection by them' df-score -q custom --train pool.h5 --scores s.h5 -n 10 -o chosen.h5
exits 64 'a label that is none' df-eval -q -m judge pool.h5 --label 259
exits 64 'scores of a language model' df-eval -q -m run/checkpoint-60 pool.h5 -o s2.h5
exits 69 'a classifier cannot generate' df-sample -q -m judge pool.h5

done_testing

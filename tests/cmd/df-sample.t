#!/bin/sh
# df-sample: prompts from everywhere, the same completions whatever runs beside
# them, and that other programs read what it writes.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

# A model that knows one answer by heart.
awk 'BEGIN { printf "["; for (i = 0; i < 24; i++) printf "%s{\"instruction\": \"say it\", \"output\": \"ok, said\"}", i ? "," : ""; print "]" }' >same.json
awk 'BEGIN { printf "["; for (i = 0; i < 24; i++) printf "%s{\"instruction\": \"count %d\", \"output\": \"%d\"}", i ? "," : "", i, i * i; print "]" }' >count.json
echo '{"same": {"file_name": "same.json"}, "count": {"file_name": "count.json"}}' >dataset_info.json
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	"$SRC/configs/models/tiny-llama/config.json" >small/config.json
pack="df-pack -q --dataset-dir . --template default --tokenizer bytes --cutoff-len 64"
ok 'tokens' $pack --dataset same,count -o pool.h5
ok 'a model' df-train -q model_name_or_path=small train_from_scratch=true finetuning_type=full tokenized_path=pool.h5 \
	output_dir=run max_steps=80 learning_rate=1e-2 logging_steps=40 lr_scheduler_type=constant
m=run/checkpoint-80

# --- greedy ---
ok 'lines' df-sample -q -m $m pool.h5 --max-new-tokens 16
cp out lines
is 'one for each row' "$(wc -l <lines)" 48
prints 'what is known by heart' '^\{"id": 0, "sample": 0, "domain": "same", "prompt": "Human: say it<.eos.>\\nAssistant:", "completion": "ok, said", "answer": "ok, said", "tokens": [0-9]+, "finish": "eos", "logprob": -0\.[0-9]+\}$'
ok 'of the datasets' df-sample -q -m $m --dataset-dir . --dataset same,count --template default --max-new-tokens 16
prints 'what the data says stands beside' '"domain": "count".*"answer": "4"'
cp out from_dataset
same 'prompts and answers are those of df-pack' lines from_dataset
printf '%s\n' '{"instruction": "say it"}' '{"instruction": "say it", "output": "ok, said"}' >asked.jsonl
echo '{"asked": {"file_name": "asked.jsonl"}, "bare": {"file_name": "bare.jsonl"}}' >dataset_info.json
head -n 1 asked.jsonl >bare.jsonl
for d in asked bare; do
	ok "of $d rows" df-sample -q -m $m --dataset-dir . --dataset $d --template default --max-new-tokens 16
	prints 'an answer is not needed' '^\{"id": 0, .*"completion": "ok, said"'
done
echo '{"same": {"file_name": "same.json"}, "count": {"file_name": "count.json"}}' >dataset_info.json
echo 'say it' >prompts.txt
ok 'of a text' df-sample -q -m $m --prompts prompts.txt --template default --max-new-tokens 16
is 'is the same' "$(sed 's/.*"completion"/"completion"/' out)" "$(head -n 1 lines | sed 's/.*"completion"/"completion"/; s/ "answer": "ok, said",//')"
printf '"say it"\n\n{"prompt": "say it", "answer": "no", "system": ""}\n' >prompts.jsonl
ok 'of JSON lines' df-sample -q -m $m --prompts prompts.jsonl --template default --max-new-tokens 16
is 'ids are lines' "$(sed -nE 's/^\{"id": ([0-9]+),.*/\1/p' out | tr '\n' ' ')" '0 2 '
prints 'an answer of theirs' '"answer": "no"'
ok 'texts as they are' sh -c "printf 'Human: say it\nAssistant:\n' | df-sample -q -m $m --prompts - --max-new-tokens 3 --ignore-eos"
is 'a line each' "$(wc -l <out)" 2
prints 'cut to length' '"tokens": 3, "finish": "length"'
ok 'a stop text' df-sample -q -m $m pool.h5 --max-samples 1 --max-new-tokens 16 --stop 'nothing' --stop ', s'
prints 'ends it in front' '"completion": "ok", "answer": "ok, said", "tokens": [0-9]+, "finish": "stop"'
ok 'no eos' df-sample -q -m $m pool.h5 --max-samples 1 --max-new-tokens 20 --ignore-eos
prints 'goes on' '"tokens": 20, "finish": "length"'
ok 'whole rows' df-sample -q -m $m pool.h5 --max-samples 1 --max-new-tokens 2 --whole
prints 'are continued' '"prompt": "Human: say it<.eos.>\\nAssistant:ok, said'

# --- drawn ---
draw="df-sample -q -m $m pool.h5 -n 3 --temperature 1.5 --top-k 80 --top-p 0.95 --max-new-tokens 10"
ok 'draws' $draw --slots 16 -o d.h5 --json d.jsonl
is 'three of each' "$(wc -l <d.jsonl)" 144
ok 'one at a time, one thread' $draw --slots 1 -j 1 -o one.h5
same 'are the same bytes' one.h5 d.h5
ok 'all at once, three threads' $draw --slots 1000 -j 3 -o all.h5
same 'so are these' all.h5 d.h5
ok 'fewer of each' df-sample -q -m $m pool.h5 -n 1 --temperature 1.5 --top-k 80 --top-p 0.95 --max-new-tokens 10
cp out one.jsonl
grep '"sample": 0' d.jsonl >first.jsonl
same 'are the first of them' one.jsonl first.jsonl
for i in 1 2 3; do
	ok "part $i" $draw --shard $i/3 -o part.h5
done
df-show d.h5 | sed -n 's/^  id *//p' >id.whole
df-show 'part.0*.h5' | sed -n 's/^  id *//p' >id.parts
same 'the parts are the whole' id.whole id.parts
ok 'through a pipe' sh -c "$draw -o - | df-show - | grep completions"
ok 'another seed' $draw --seed 43 -o other.h5
! cmp -s d.h5 other.h5
report $? 'is another draw'

# --- readers ---
ok 'losses of completions' df-grad -q -m $m --losses d.h5 -o l.h5
ok 'gradients of completions' df-grad -q -m $m --project 64 d.h5 -o g.h5
ok 'evaluation on completions' df-eval -q -m $m --json d.h5
sum=$(awk -F '"logprob": ' '{ s -= $2 } END { printf "%.6g", s }' d.jsonl)
is 'the log-probabilities are the loss' "$(sed -nE 's/.*"overall": .*"targets": ([0-9]+), "loss": ([-+0-9.e]+).*/\1 \2/p' out |
	awk -v s="$sum" '{ d = $1 * $2 / s - 1; print (d < 1e-5 && d > -1e-5) }')" 1
ok 'a selection on completions' $draw -o again.h5
ok 'training on completions' df-train -q model_name_or_path=$m finetuning_type=full tokenized_path=d.h5 output_dir=self \
	max_steps=2 logging_steps=1
ok 'a directory of them' sh -c "mkdir parts && mv part.0* parts && df-grad -q -m $m --losses parts -o p.h5"
df-show l.h5 | sed -n 's/^  id *//p' >id.whole
df-show p.h5 | sed -n 's/^  id *//p' >id.parts
same 'has the losses of the whole' id.whole id.parts

# --- refused ---
exits 64 'no model' df-sample pool.h5
exits 64 'no prompts' df-sample -m $m
exits 64 'two kinds of prompts' df-sample -m $m pool.h5 --prompts prompts.txt
exits 64 'top-p without a temperature' df-sample -m $m pool.h5 --top-p 0.9
says 'says what to do' '--temperature'
exits 64 'many greedy ones' df-sample -m $m pool.h5 -n 2
exits 64 'an empty stop text' df-sample -m $m pool.h5 --stop ''
exits 64 'two streams' df-sample -m $m pool.h5 -o - --json -
exits 64 'one file for both' df-sample -m $m pool.h5 -o both.h5 --json both.h5
says 'names it' 'both\.h5'
exits 64 'a system text without a template' df-sample -m $m --prompts prompts.txt --default-system be
says 'says what it needs' '--template'
exits 66 'a missing model' df-sample -m nowhere pool.h5
exits 66 'missing texts' df-sample -m $m --prompts nothing.txt
exits 71 'more than memory' df-sample -q -m $m pool.h5 --max-new-tokens 16777216 --slots 48 -o never.h5
says 'says how much' 'MiB are free'
[ ! -e never.h5 ]
report $? 'leaves nothing'
printf '{"prompt": 3}\n' >bad.jsonl
exits 65 'a prompt that is none' df-sample -m $m --prompts bad.jsonl
says 'has its line' 'bad.jsonl: line 1: .prompt.: expected a string'
printf '"a"\n{"a": 1,,}\n' >bad.jsonl
exits 65 'a line that is no JSON' df-sample -m $m --prompts bad.jsonl
says 'has its place, once' 'df-sample: bad.jsonl: line 2: column [0-9]+: [^:]+$'
printf 'a\377b\n' >bad.txt
exits 65 'a text that is not UTF-8' df-sample -m $m --prompts bad.txt
says 'has its line, too' 'bad.txt: line 1: '
: >empty.txt
exits 65 'no text at all' df-sample -m $m --prompts empty.txt
ok 'rows of plain text' df-pack -q --dataset-dir . --dataset same --stage pt --no-packing --template empty --tokenizer bytes -o pt.h5
exits 65 'have nothing in front of their first target' df-sample -m $m pt.h5
says 'says so' 'before its first target'
ok 'and are continued whole' df-sample -q -m $m pt.h5 --whole --max-new-tokens 2

# --- what a model's directory says ---
cp -r "$SRC/tests/golden/mmlu/model" hf
exits 65 'tokens that are not those of the directory' df-sample -m hf pool.h5 -o never.h5
says 'names them' 'pool\.h5.*bytes.*hf'
exits 65 'nor are their losses taken' df-grad -q -m hf --losses pool.h5 -o never.h5
says 'by the same name' 'pool\.h5.*bytes.*hf'
exits 65 'nor their mean' df-eval -q -m hf pool.h5
for eos in '["a"]' '"a"' 2.5 '{}'; do
	echo "{\"eos_token_id\": $eos}" >hf/generation_config.json
	exits 65 "an end that is $eos" df-sample -m hf --prompts prompts.txt
	says 'has its file' 'hf/generation_config\.json.*eos_token_id'
done
sed -i 's/"rope_scaling": null/"rope_scaling": {"factor": 2.0}/' hf/config.json
exits 65 'a rotary factor of no type' df-sample -m hf --prompts prompts.txt
says 'has its key' 'config\.json.*rope_scaling.*rope_type'
sed -i 's/"rope_scaling": .*/"rope_scaling": null,/' hf/config.json
echo '[]' >hf/generation_config.json
exits 65 'no object' df-sample -m hf --prompts prompts.txt
for eos in null '[2, 1000000]' 0; do
	echo "{\"eos_token_id\": $eos}" >hf/generation_config.json
	ok "an end that is $eos" df-sample -q -m hf --prompts prompts.txt --max-new-tokens 1
done

# A prompt that takes minutes: who asks to stop does not wait for its end.
awk 'BEGIN { for (i = 0; i < 200000; i++) printf "a " }' >long.txt
df-sample -m $m --prompts long.txt >out 2>err &
pid=$!
wait_for grep -q warning err
kill $pid
wait $pid
is 'SIGTERM while a long prompt is read' $? 75
says 'which is longer than the model knows' 'warning: sequences may grow to 400[0-9]{3} tokens, the model was made for '
n=$([ -n "${DF_SANITIZED-}" ] && echo 20 || echo 400)
say_it="df-sample -q -m $m pool.h5 --temperature 1 -n $n --max-new-tokens 40 --ignore-eos"
timeout --preserve-status 0.5 $say_it -o cut.h5 2>err
ok 'what was done before a SIGTERM' $say_it -o cut.h5
ok 'without' $say_it -o straight.h5
same 'is the same' cut.h5 straight.h5

# --- a reader that leaves ---
seq 3000 >many.txt
df-sample -q -m $m --prompts many.txt --max-new-tokens 1 2>err | head -n 1 >out
is 'lines into head end in silence' "$(wc -l <out) $(wc -c <err)" '1 0'
df-sample -q -m $m --prompts many.txt --max-new-tokens 1 -o - 2>err | head -c 10 >out
is 'a stream, too' "$(wc -c <out) $(wc -c <err)" '10 0'

done_testing

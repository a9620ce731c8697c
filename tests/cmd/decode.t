#!/bin/sh
# Tokens become text again: what any program wrote, of any template, is decoded without more than its tokenizer's name.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

GOLDEN=$SRC/tests/golden
cat >data.json <<'END'
[{"instruction": "Größe?", "input": "a < b", "output": "groß\n", "system": "Be brief.", "history": [["q", "a"]]}]
END
cat >calls.json <<'END'
[{"conversations": [{"from": "human", "value": "what is the time?"},
  {"from": "function_call", "value": "{\"name\": \"time\", \"arguments\": {\"zone\": \"UTC\"}}"},
  {"from": "observation", "value": "12:00"},
  {"from": "gpt", "value": "<think>\nnoon\n</think>\n\nIt is noon."}],
  "tools": "[{\"name\": \"time\", \"description\": \"the time\", \"parameters\": {\"type\": \"object\", \"properties\": {\"zone\": {\"type\": \"string\"}}, \"required\": []}}]"}]
END
echo '[{"text": "one <|im_end|> two"}]' >text.json
cat >dataset_info.json <<'END'
{"data": {"file_name": "data.json", "columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}},
 "calls": {"file_name": "calls.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}},
 "text": {"file_name": "text.json", "columns": {"prompt": "text"}}}
END
pack="df-pack -q --dataset-dir . --date 2026-01-01"

# round_trip DATASET TEMPLATE TOKENIZER [DECODE-OPTION...]: packed and decoded, it is what df-pack shows.
# Returns 69 where the template wants tokens that the tokenizer lacks.
round_trip()
{
	of="--dataset $1 --template $2 --tokenizer $3"
	shift 3
	$pack $of -o row.h5 --show-example 0 >shown 2>err || return
	df-show "$@" --decode 0 row.h5 >decoded 2>err || return
	tail -n +2 shown >want
	tail -n +2 decoded >got
	[ -s want ] && cmp -s want got
}

# teach: the token that the last round trip missed, to the tokenizer in taught/
teach()
{
	mkdir -p taught
	cp "$GOLDEN/templates/tokenizer/tokenizer_config.json" taught
	token=$(sed -n "s/.*the tokenizer has no token '\(.*\)'$/\1/p" err)
	[ -n "$token" ] || return
	grep -qF "\"$token\"" taught/tokenizer.json 2>/dev/null && return
	id=$((${id:-399} + 1))
	taught="${taught-}{\"id\": $id, \"content\": \"$token\", \"special\": true, \"normalized\": false, \"single_word\": false, \"lstrip\": false, \"rstrip\": false},"
	sed "s/\"added_tokens\": \[/&$taught/" "$GOLDEN/templates/tokenizer/tokenizer.json" >taught/tokenizer.json
}

# added: the tokens that row.h5 says its template added
added()
{
	df-show row.h5 | sed -n 's/^ *added_token\.\([0-9]* .*\)/\1/p' | tr -s ' ' | paste -sd ' '
}

# --- every template -------------------------------------------------------------------------------------------------------

n=0
for template in $(df-pack --list-templates | sed 's/ .*//'); do
	rc=0
	round_trip data $template bytes || rc=$?
	[ $rc = 69 ] || [ -z "$(added)" ] || n=$((n + 1))
	while [ $rc = 69 ] && teach; do # its tokens are in its models' tokenizers only
		rc=0
		round_trip data $template taught --tokenizer taught || rc=$?
	done
	report $rc "$template"
	[ $rc = 0 ] || sed 's/^/# /' err
done
[ $n -ge 30 ]
report $? "$n of them add tokens to bytes"
for template in qwen qwen3 llama3 mistral glm4 deepseekr1 default; do
	round_trip calls $template bytes
	report $? "$template: tools, results, a thought"
done

# --- every tokenizer ------------------------------------------------------------------------------------------------------

for dir in "$GOLDEN"/tokenizer/*/; do
	[ -f "$dir/tokenizer.json" ] || continue
	for template in qwen empty; do
		round_trip data $template "$dir" --tokenizer "$dir"
		report $? "$(basename "$dir"): $template"
	done
done
exits 64 'a tokenizer that is not named' df-show --decode 0 row.h5
says 'is asked for' 'name the tokenizer to decode it with \(--tokenizer\)$'
$pack --dataset data --template qwen --tokenizer bytes -o qwen.h5 2>err
ok 'another tokenizer, that happens to have its ids' df-show --decode 0 --tokenizer "$GOLDEN/tokenizer/gpt2" qwen.h5
is 'does not get its tokens' "$(grep -c 'im_end' out)" 0

# --- a template of one's own ----------------------------------------------------------------------------------------------

cat >own.yaml <<'END'
name: qwen
user: "<ask>{{content}}<answer>"
assistant: ["{{content}}", {token: "<end>"}]
stop_words: ["<end>", "<end\"2>"]
replace_eos: true
END
round_trip data own.yaml bytes
report $? 'a template of my own'
is 'whose tokens are in the file' "$(added)" '259 "<end>" 260 "<end\"2>"'
ok 'the same with its file' df-show --decode 0 --template own.yaml row.h5
tail -n +2 out >got
same 'is the same' got want
exits 65 'another template' df-show --decode 0 --template qwen row.h5
says 'is refused' 'row.h5 was not made with tokenizer bytes and template qwen'
exits 64 'one that is not there' df-show --decode 0 --template qwenn row.h5
says 'says so' "unknown template 'qwenn'"

# --- every program that writes tokens -------------------------------------------------------------------------------------

is 'they are all here' "$(cd "$SRC" && grep -lE -e '->kind = DF_KIND_(TOKENS|COMPLETIONS)' cmd/*.c lib/*/*.c | paste -sd ' ')" \
	'cmd/df-pack.c cmd/df-sample.c'

# decodes 'what' FILE: without options, with the text of an added token
decodes()
{
	ok "$1" df-show --decode 0 $2
	prints '  has its added token' 'im_end'
}
of="--template qwen --tokenizer bytes"
$pack --dataset data,calls $of --holdout calls=1 --holdout-output held.h5 -o pool.h5 2>err
decodes 'a pool' pool.h5
decodes 'what was held out' held.h5
$pack --dataset data,calls $of --neat-packing -o neat.h5 2>err
decodes 'packs' neat.h5
$pack --dataset text --stage pt --no-packing $of -o text.h5 2>err
decodes 'documents' text.h5
$pack --dataset data $of -o - 2>err | cat >stream
decodes 'a stream' - <stream
exits 64 'a sample that the stream has not' df-show --decode 1 - <stream
says 'is not found' 'standard input: no sample 1 in its 1 rows'
$pack --dataset data $of -o part.00001-of-00002.h5 2>err
$pack --dataset data $of -o part.00002-of-00002.h5 2>err
df-show --link linked.h5 part.h5 2>err
decodes 'a link' linked.h5

mkdir model
sed -e 's/"vocab_size": [0-9]*/"vocab_size": 270/' -e 's/"max_position_embeddings": [0-9]*/"max_position_embeddings": 1024/' \
	"$SRC/demo/model/config.json" >model/config.json
ok 'a model' df-train -q model_name_or_path=model train_from_scratch=true finetuning_type=full tokenized_path=pool.h5 \
	output_dir=run max_steps=1
sample="df-sample -q -m run/checkpoint-1 --tokenizer bytes --max-new-tokens 2"
echo 'what?' >prompts.txt
ok 'completions of texts' $sample --prompts prompts.txt --template qwen -o c.h5
decodes 'are tokens' c.h5
ok 'completions of texts, with a template of my own' $sample --prompts prompts.txt --template own.yaml -o c.h5
ok 'are tokens' df-show --decode 0 c.h5
prints 'which are read' '<ask>what[?]<answer>'
ok 'completions of datasets' $sample --dataset-dir . --dataset data --template qwen -o c.h5
decodes 'are tokens' c.h5
ok 'completions of tokens' $sample pool.h5 -o c.h5 --json c.jsonl
decodes 'are tokens' c.h5
is 'and lines, of the same prompts' "$(grep -c 'system.nBe brief.<|im_end|>' c.jsonl)" 1
ok 'completions of completions' df-sample -q -m run/checkpoint-1 c.h5 --whole --max-new-tokens 1 -o cc.h5
decodes 'are tokens' cc.h5

done_testing

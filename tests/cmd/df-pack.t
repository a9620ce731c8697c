#!/bin/bash
# df-pack: the command line, what it writes, and what it refuses.
. "$(dirname "$0")/lib.sh"

# Two small datasets in alpaca's form, one in ShareGPT's, one of plain text.
rows()
{
	i=0
	while [ $i -lt "$2" ]; do
		[ $i -eq 0 ] || echo ','
		echo "{\"instruction\": \"$1 $i\", \"input\": \"\", \"output\": \"answer $((i * i))\"}"
		i=$((i + 1))
	done
}
mkdir data
{ echo '['; rows first 700; echo ']'; } >data/alpaca_en.json
{ echo '['; rows 第二 300; echo ']'; } >data/alpaca_zh.json
cat >data/chats.jsonl <<'END'
{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
{"conversations": [{"from": "human", "value": "q"}]}
{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": "[{\"name\": \"f\", \"parameters\": {\"properties\": {}}}]"}
{"conversations": [{"from": "gpt", "value": "q"}, {"from": "human", "value": "a"}]}
END
mkdir data/web
seq 1 400 | sed 's/^/Document number /' >data/web/1.txt
seq 401 500 | sed 's/^/Document number /' >data/web/2.txt
awk 'BEGIN { for (i = 0; i < 20; i++) { for (k = 0; k < 4000; k++) printf "%d ", k; print i } }' >data/long.txt
cat >data/dataset_info.json <<'END'
{
  "alpaca_en": { "file_name": "alpaca_en.json" },
  "alpaca_zh": { "file_name": "alpaca_zh.json" },
  "chats": { "file_name": "chats.jsonl", "formatting": "sharegpt",
             "columns": { "messages": "conversations", "tools": "tools" } },
  "long": { "file_name": "long.txt", "columns": { "prompt": "text" } },
  "web": { "file_name": "web", "columns": { "prompt": "text" } },
  "hub": { "hf_hub_url": "somebody/something" },
  "table": { "file_name": "table.parquet" }
}
END
pack()
{
	df-pack --dataset-dir data --tokenizer bytes --compress gzip "$@" # what h5dump reads without a plugin
}
two()
{
	pack --dataset alpaca_en,alpaca_zh --template alpaca --cutoff-len 256 "$@"
}

# count FILE DATASET: its length, by h5dump (which knows nothing of us)
count()
{
	h5dump -H -d "$2" "$1" | sed -n 's/.*SIMPLE { ( \([0-9]*\) ).*/\1/p'
}
# values FILE DATASET: its elements on one line
values()
{
	h5dump -d "$2" -y -w 0 "$1" | sed -n '/DATA {/,/}/p; /ATTRIBUTE/q' | grep -v '[{}]' | tr -d ' \n'
}
param()
{
	h5dump -a df_params "$1" | grep -Eo "\"$2\": [^,}]*" | head -n 1
}

hold=(--holdout alpaca_zh=50 --holdout-output)
ok 'a pool and held out rows' two "${hold[@]}" val.h5 -o pool.h5
is 'rows of the pool' "$(count pool.h5 sample/id)" 950
is 'rows held out' "$(count val.h5 sample/id)" 50
is 'ids count from 0 in each' "$(values val.h5 sample/id)" "$(seq -s, 0 49)"
is 'held out rows are of their dataset' "$(values val.h5 sample/domain | tr -d ,)" "$(printf '1%.0s' $(seq 50))"
both=$( (values pool.h5 sample/source_row; echo ,; values val.h5 sample/source_row) | tr -d '\n' | tr , '\n' | sort -n | uniq -c |
	awk '{ print $1 }' | sort -n | uniq -c | tr -s ' ' | tr '\n' ';')
is 'every source row is in exactly one of the two' "$both" ' 400 1; 300 2;'
is 'which split a file is' "$(param val.h5 split)" '"split": "holdout"'
is 'the tokenizer is in the parameters' "$(param pool.h5 tokenizer)" '"tokenizer": "bytes"'

sleep 1 # so that a time in the file would show
ok 'with other threads' two "${hold[@]}" val3.h5 -o pool3.h5 -j 3
same 'the same pool, byte for byte' pool.h5 pool3.h5
same 'the same held out rows' val.h5 val3.h5
ok 'with another seed' two "${hold[@]}" val4.h5 -o pool4.h5 --seed 7
[ "$(values val.h5 sample/source_row)" != "$(values val4.h5 sample/source_row)" ]
report $? 'other rows are held out'
ok 'a part of a dataset, first rows only' two --max-samples 100 --holdout alpaca_zh=0.25 --holdout-output v.h5 -o p.h5
is 'a quarter of 100' "$(count v.h5 sample/id)" 25

ok 'rows that are dropped' pack --dataset chats --template chatml -o chats.h5
says 'are counted by reason' "dataset 'chats': 1 of 4 rows dropped: a last turn without an answer"
says 'each of them' "1 of 4 rows dropped: roles unknown or out of order"
says 'new tokens are spoken of' 'resize_vocab'
is 'and kept in the parameters' "$(param chats.h5 'dropped.odd_turns')" '"dropped.odd_turns": 1'
is 'the kept ones say where they were' "$(values chats.h5 sample/source_row)" '0,2'

ok 'answers that do not fit' two --cutoff-len 8 -o short.h5
says 'rows without a target are counted' "dataset 'alpaca_en': 700 of 700 kept rows have nothing left of their answers within --cutoff-len"

# A row of which nothing can be learnt is dropped or kept as LLaMA-Factory does it, and always counted under its reason.
# reasons 'what' DATA PATTERN... -- OPTIONS...: the warnings about the rows are as many as the patterns, and match them
reasons()
{
	what=$1
	printf '%s\n' "$2" >data/odd.jsonl
	shift 2
	patterns=()
	while [ "$1" != -- ]; do
		patterns+=("$1")
		shift
	done
	shift
	ok "$what" pack --dataset odd -o odd.h5 "$@"
	for pattern in "${patterns[@]}"; do
		says "  $pattern" "^df-pack: warning: dataset 'odd': $pattern"
	done
	is '  no other reason' "$(grep -c "warning: dataset 'odd'" err)" "${#patterns[@]}"
}
sed -i '2i "odd": { "file_name": "odd.jsonl" },' data/dataset_info.json
cat >bare.yaml <<'YAML'
user: "{{content}}"
assistant: "{{content}}"
YAML
{ cat bare.yaml; echo 'efficient_eos: true'; } >late.yaml
full='{"instruction": "question", "output": "answer"}'
reasons 'rows as they should be' "$full" -- --template default
reasons 'no answer, and an empty one' "$full
{\"instruction\": \"q\"}
{\"instruction\": \"q\", \"output\": null}
{\"instruction\": \"q\", \"output\": \"\"}" '2 of 4 rows dropped: no response' '1 of 2 kept rows have no text to learn' -- --template default
is '  the empty one stays, as in LLaMA-Factory' "$(values odd.h5 sample/source_row)" 0,3
reasons 'an empty answer beside a question to learn' "$full
{\"instruction\": \"q\", \"output\": \"\"}" -- --template default --train-on-prompt
reasons 'an empty row' "$full
{\"output\": \"\"}" '1 of 2 rows dropped: not a single token' -- --template ./bare.yaml
reasons 'an answer without an end' "$full
{\"instruction\": \"q\", \"output\": \"\"}" '1 of 2 kept rows have no text' -- --template ./bare.yaml
reasons 'a row cut to length' "$full
{\"instruction\": \"1234567890123456789012345678901234567890\", \"output\": \"1\"}" -- --template default --cutoff-len 30
reasons 'an answer cut away' "$full
{\"instruction\": \"1234567890123456789012345678901234567890\", \"output\": \"12\"}" \
	'1 of 2 kept rows have nothing left of their answers' -- --template ./bare.yaml --cutoff-len 4
reasons 'an answer cut away before its eos' "$full
{\"instruction\": \"1234567890123456789012345678901234567890\", \"output\": \"12\"}" \
	'1 of 2 kept rows have nothing left of their answers' -- --template ./late.yaml --cutoff-len 5
reasons 'only the last answer' "$full
{\"instruction\": \"q\", \"output\": \"\", \"history\": [[\"a\", \"b\"]]}" '1 of 2 kept rows have no text' -- --template default --mask-history
reasons 'a thought and nothing else' "$full
{\"instruction\": \"q\", \"output\": \"<think>\\nwell\\n</think>\\n\\n\"}" '1 of 2 kept rows have no text' -- --template qwen3 --enable-thinking false
for packing in packing no-packing; do
	reasons "an empty document, $packing" "$full
{\"instruction\": \"\"}
{\"output\": \"a\"}" '2 of 3 kept rows have no text to learn' -- --template default --stage pt --$packing
done

ok 'plain text' pack --dataset web --stage pt --template default --cutoff-len 64 -o web.h5
n=$(count web.h5 tokens/ids)
is 'packing loses no token' "$n" "$(cat data/web/*.txt | wc -c)" # a line's newline counts for its eos
is 'blocks are full but for the last' "$(count web.h5 sample/id)" $(((n + 63) / 64))
ok 'packed as LLaMA-Factory does' pack --dataset web --stage pt --template default --cutoff-len 64 --pack-batch 100 -o web.h5
lost=$(cat data/web/*.txt | awk '{ start[NR % 100] = sum; sum += length($0) + 1 }
	NR % 100 == 0 { tokens += sum % 64; for (i in start) documents += start[i] >= sum - sum % 64; sum = 0 }
	END { print tokens " tokens at the ends of batches thrown away [(]--pack-batch[)], " documents " documents entirely" }')
says 'with losses that are spoken of' "$lost"
ok 'documents as rows' pack --dataset web --stage pt --template default --no-packing -o web.h5
is 'one each' "$(count web.h5 sample/id)" 500

# Packed examples: every one of them once, no pack too long.
ok 'packed examples' two --neat-packing -o neat.h5
is 'whose sum is that of the rows' "$(count neat.h5 tokens/ids)" "$(values neat.h5 tokens/offsets | tr , '\n' | tail -n 1)"
is 'every example is in a pack' "$(values neat.h5 tokens/position | tr , '\n' | grep -cx 0)" 1000
is 'with a sequence each' "$(count neat.h5 tokens/sequence)" "$(count neat.h5 tokens/ids)"
longest=$(values neat.h5 tokens/offsets | tr , '\n' | awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { print most }')
[ "$longest" -le 255 ]
report $? 'no pack is longer than cutoff_len - 1'
is 'the examples are counted' "$(param neat.h5 examples)" '"examples": 1000'
ok 'plain packs' two --packing -o plain.h5
is 'hold the same' "$(values plain.h5 tokens/position)" "$(values neat.h5 tokens/position)"
ok 'without sequences' sh -c '! h5dump -H -d tokens/sequence plain.h5'
ok 'packed and cut anew' two --neat-packing -j 3 -o neat3.h5
same 'the same packs on other threads' neat.h5 neat3.h5
ok 'a whole file' df-show --check neat.h5
ok 'packs in a stream' sh -c 'df-pack --dataset-dir data --tokenizer bytes --dataset alpaca_en,alpaca_zh --template alpaca \
	--cutoff-len 256 --neat-packing -q -o - | df-show - | sed -n "s/^ *id *//p" >id.txt'
is 'are the packs of the file' "$(cat id.txt)" "$(df-show neat.h5 | sed -n 's/^ *id *//p')"
ok 'a pack for the eyes' two --neat-packing --cutoff-len 400 --show-example 0
prints 'how many examples' '^row 0: dataset alpaca_zh, source row [0-9]+, [0-9]+ tokens, [0-9]+ targets, 2 examples$'
prints 'each by itself' '^--- example 2, target, '
ok 'the same from the file' df-show --decode 0 neat.h5
prints 'its one example' '^--- example 1, prompt, '

# Mixtures: the proportions and the rules to stop.
domains()
{
	values "$1" sample/domain | tr , '\n' | sort | uniq -c | awk '{ print $2 ":" $1 }' | tr '\n' ' '
}
ok 'in turn, until one is used up' two --mix-strategy interleave_under -o m.h5
is 'as many of each' "$(domains m.h5)" '0:300 1:300 '
is 'alternating' "$(values m.h5 sample/domain | cut -c -7)" 0,1,0,1
ok 'in turn, until all are used up' two --mix-strategy interleave_over -o m.h5
is 'as many of each, rows again' "$(domains m.h5)" '0:700 1:700 '
ok 'in turn, each row once' two --mix-strategy interleave_once -o m.h5
is 'all rows' "$(domains m.h5)" '0:700 1:300 '
ok 'drawn' two --mix-strategy interleave_over --interleave-probs 0.2,0.8 -o m.h5
is 'the rarer one is used up once' "$(domains m.h5 | grep -o '^0:[0-9]*')" 0:700
share=$(values m.h5 sample/domain | tr , '\n' | awk '{ n += $1 } END { print (n / NR > 0.77 && n / NR < 0.83) }')
is 'a fifth against four' "$share" 1 # of 3500 draws: four standard deviations are 0.027
ok 'drawn again' two --mix-strategy interleave_over --interleave-probs 0.2,0.8 -j 3 -o m3.h5
same 'the same bytes on other threads' m.h5 m3.h5
ok 'drawn with another seed' two --mix-strategy interleave_over --interleave-probs 0.2,0.8 --seed 1 -o m4.h5
[ "$(values m.h5 sample/domain)" != "$(values m4.h5 sample/domain)" ]
report $? 'another order'

# num_samples: rows drawn once each, more than there are again.
sed 's/"alpaca_zh.json"/"alpaca_zh.json", "num_samples": 650/; s/"alpaca_en.json"/"alpaca_en.json", "num_samples": 50/' \
	data/dataset_info.json >data/few.json
mkdir -p drawn && cp data/few.json drawn/dataset_info.json && cp data/*.json drawn/ && cp data/few.json drawn/dataset_info.json
ok 'rows drawn' two --dataset-dir drawn -o d.h5
is 'so many of each' "$(domains d.h5)" '0:50 1:650 '
is 'no row twice before all are taken' "$(values d.h5 sample/source_row | tr , '\n' | sed -n '51,350p' | sort -un | wc -l)" 300
is 'it is recorded' "$(param d.h5 num_samples)" '"num_samples": "alpaca_en=50'
ok 'the first of the drawn' two --dataset-dir drawn --max-samples 20 -o d20.h5
is 'are the same rows' "$(values d20.h5 sample/source_row | cut -d, -f 1-20)" "$(values d.h5 sample/source_row | cut -d, -f 1-20)"

# Validation: a part of everything, or datasets of their own.
ok 'a tenth of all' two --val-size 0.1 --holdout-output v.h5 -o p.h5
is 'held out' "$(count v.h5 sample/id)" 100
is 'the rest is left' "$(count p.h5 sample/id)" 900
is 'of both datasets' "$(values v.h5 sample/domain | tr , '\n' | sort -u | tr '\n' ' ')" '0 1 '
ok 'so many rows' two --val-size 30 --holdout-output v.h5 -o p.h5
is 'exactly' "$(count v.h5 sample/id)" 30
ok 'rows that come again' two --mix-strategy interleave_over --val-size 0.1 --holdout-output v.h5 -o p.h5
values p.h5 sample/domain | tr , '\n' >p.domain && values p.h5 sample/source_row | tr , '\n' | paste p.domain - | sort -u >p.rows
values v.h5 sample/domain | tr , '\n' >v.domain && values v.h5 sample/source_row | tr , '\n' | paste v.domain - | sort -u >v.rows
is_empty 'are never on both sides' "$(comm -12 p.rows v.rows)"
ok 'another dataset' pack --dataset alpaca_en --eval-dataset alpaca_zh --template alpaca --holdout-output v.h5 -o p.h5
is 'is held out whole' "$(count v.h5 sample/id)" 300
is 'under its name' "$(domains v.h5)" '1:300 '
ok 'the same dataset' pack --dataset alpaca_en --eval-dataset alpaca_en --template alpaca --holdout-output v.h5 -o p.h5
is 'is evaluated on, too' "$(count v.h5 sample/id) $(count p.h5 sample/id)" '700 700'

stream()
{
	set -o pipefail
	pack --dataset long --stage pt --template default -o "$1" -q | cat >long.bin
	set +o pipefail
}
ok 'a stream into a pipe, of more than HDF5 takes at a time' stream -
ok 'the same into a file' pack --dataset long --stage pt --template default -o long.h5
id='s/^ *id *//p'
is 'both hold the same' "$(df-show long.bin | sed -n "$id")" "$(df-show long.h5 | sed -n "$id")"

ok 'a row for the eyes' pack --dataset alpaca_en --template alpaca --show-example 3
prints 'its place' '^row 3: dataset alpaca_en, source row 3, [0-9]+ tokens, 11 targets'
prints 'its text' '^first 3$'
prints 'where the targets begin' '^--- target, 11 tokens$'
prints 'its targets' '^answer 9<\|eos\|>$'
prints 'its ids, targets marked' ' 10 \*97 '
prints 'its pieces of text' ' ":" "\\n" \*"a" \*"n"'
ok 'the templates' df-pack --list-templates
prints 'one a line' '^qwen  '
ok 'without a template' pack --dataset alpaca_en -o e.h5
says 'empty is used' "no --template is given; using 'empty'"

# Templates of the user's own, thoughts, and the openai format's quirk.
cat >mine.yaml <<'END'
like: chatml
user: "[{{content}}]"
assistant: ["{{content}}", {eos_token}]
END
ok 'a template from a file' pack --dataset alpaca_en --template ./mine.yaml --show-example 0
prints 'its text' '^\[first 0\]$'
ok 'a reasoning template' pack --dataset alpaca_en --template qwen3 --show-example 0
prints 'an empty thought is learnt' '^--- target, 29 tokens$'
ok 'without thinking' pack --dataset alpaca_en --template qwen3 --enable-thinking false --show-example 0
prints 'it is part of the question' '^--- target, 10 tokens$'
cat >data/openai.jsonl <<'END'
{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
END
sed -i '2i "openai": { "file_name": "openai.jsonl", "formatting": "openai", "columns": { "messages": "messages" }, "tags": { "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system", "observation_tag": "tool", "function_tag": "function" } },' data/dataset_info.json
ok 'the openai format' pack --dataset openai --template chatml --show-example 0
prints 'with the quirk' '^detailed thinking off'
ok 'the openai format plain' pack --dataset openai --template chatml --no-openai-quirk --show-example 0
matches_not=$(grep -c detailed "$T/out")
is 'without' "$matches_not" 0

# What is refused, and how.  No output may appear.
refuse()
{
	code=$1
	regex=$2
	shift 2
	exits "$code" "refused: $*" pack --template alpaca -o no.h5 "$@"
	says '  and why' "$regex"
	[ ! -e no.h5 ]
	report $? '  and nothing is written'
}
refuse 64 '--dataset is missing'
refuse 78 "did you mean 'alpaca_en'" --dataset alpaca_eng
refuse 69 "hf_hub_url" --dataset hub
refuse 69 'convert to .jsonl' --dataset table
refuse 78 'nothing is downloaded' --dataset-dir ONLINE --dataset x
refuse 66 'no/such/dir/dataset_info.json' --dataset-dir no/such/dir --dataset x
refuse 64 "did you mean 'alpaca'" --dataset alpaca_en --template alpca
refuse 64 'need --holdout-output' --dataset alpaca_en --holdout alpaca_en=5
refuse 64 'only 700 can be used' --dataset alpaca_en --holdout alpaca_en=701 --holdout-output nov.h5
refuse 64 'not among the datasets' --dataset alpaca_en --holdout alpaca_zh=5 --holdout-output nov.h5
refuse 64 'stage sft' --dataset web --stage pt --neat-packing
refuse 64 'exclude each other' --dataset alpaca_en --neat-packing --no-packing
refuse 64 'needs --packing' --dataset alpaca_en --pack-batch 5
refuse 64 'exclude each other' --dataset alpaca_en --val-size 5 --holdout alpaca_en=5 --holdout-output nov.h5
refuse 64 'exclude each other' --dataset alpaca_en --val-size 5 --eval-dataset alpaca_zh --holdout-output nov.h5
refuse 64 'only 700 rows can be used' --dataset alpaca_en --val-size 701 --holdout-output nov.h5
refuse 64 'a fraction between 0 and 1' --dataset alpaca_en --val-size 1.5 --holdout-output nov.h5
refuse 64 'needs --holdout, ' --dataset alpaca_en --holdout-output nov.h5
refuse 64 '1 probabilities for 2' --dataset alpaca_en,alpaca_zh --mix-strategy interleave_over --interleave-probs 1
refuse 64 'sum to 0.8' --dataset alpaca_en,alpaca_zh --mix-strategy interleave_over --interleave-probs 0.4,0.4
refuse 64 'for interleaved' --dataset alpaca_en,alpaca_zh --interleave-probs 0.5,0.5
refuse 64 'exclude each other' --dataset alpaca_en --train-on-prompt --mask-history
refuse 64 'datasets are named with --dataset' alpaca_en
refuse 64 'would both write to standard output' --dataset alpaca_en --show-example 0 -o -
head -c 20000 data/alpaca_en.json >data/alpaca_zh.json
refuse 65 'alpaca_zh.json: row [0-9]+ \(line [0-9]+, column 1\): the file ends inside' --dataset alpaca_en,alpaca_zh
echo '[{"instruction": "i", "output": 5}]' >data/alpaca_zh.json
refuse 65 "alpaca_zh.json: row 0 \(line 1\): 'output': expected a string" --dataset alpaca_en,alpaca_zh
printf 'ok\nnot \377 UTF-8\n' >data/web/1.txt
exits 65 'text that is not UTF-8' pack --dataset web --stage pt --template default -o no.h5
says '  is named by its row' '1.txt: row 1 \(line 2\)'
exits 73 'an output that cannot be' pack --dataset alpaca_en --template alpaca -o no/such/dir/x.h5
exits 64 'a row that is not there' pack --dataset alpaca_en --template alpaca --show-example 700
is_empty 'no temporary files are left' "$(find . -name '.*df-*')"

# The examples of the manual run as they stand.
{ echo '['; rows zh 300; echo ']'; } >data/alpaca_zh.json
seq 1 400 >data/web/1.txt
mkdir examples
cp -r data examples/
sed -n '/^.Sh EXAMPLES/,/^.Sh SEE/p' "$SRC/man/df-pack.1" | sed -n '/^.Bd/,/^.Ed/{//!p;}' | sed 's/\\e$/\\/' >examples/run.sh
is 'the manual has three examples' "$(grep -c '^df-pack' examples/run.sh)" 3
ok 'examples in the manual' sh -ec 'cd examples && . ./run.sh'

done_testing

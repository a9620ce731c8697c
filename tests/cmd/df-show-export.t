#!/bin/bash
# df-show --export: the chosen rows as files of their source's format, which every program reads at once.
# shellcheck disable=SC2046,SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

mkdir data
cat >data/en.json <<'END'
[{"instruction": "Add 1 and 2.", "input": "", "output": "3", "w": 1.50e3},
 {"output": "yes, no \u00e9\/", "instruction": "Say <yes> & \"no\".", "input": null},
  {
    "instruction": "Count.",
    "input": "to, \"\n\" two",
    "output": "1 2\n",
    "big": 0.100000000000000005550
  }]
END
cat >data/zh.jsonl <<'END'
{"output": "你好！", "instruction": "你好", "input": ""}

{"instruction":"b","input":"","output":"B"} _
{"instruction":"","output":""}
{"instruction":"c","input":"","output":"C"}
END
sed -i 's/_$/ /' data/zh.jsonl # white space at the end
cat >data/chat.jsonl <<'END'
{"talk": [{"who": "bot", "says": "dropped: it begins with an answer"}]}
{"talk": [{"who": "user", "says": "hi"}, {"who": "bot", "says": "hello"}], "id": 7}
{"talk": [{"who": "user", "says": "bye"}, {"who": "bot", "says": "see you"}], "id": 8}
END
cat >data/oa.json <<'END'
[{"messages": [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]}]
END
printf 'a line\r\n\nthe last' >data/text.txt
cat >data/dataset_info.json <<'END'
{
  "en": {"file_name": "en.json"},
  "zh": {"file_name": "zh.jsonl", "columns": {"prompt": "instruction", "query": "input", "response": "output"}},
  "chat": {"file_name": "chat.jsonl", "formatting": "sharegpt", "columns": {"messages": "talk"},
           "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "user", "assistant_tag": "bot"}},
  "oa": {"file_name": "oa.json", "formatting": "openai", "columns": {"messages": "messages"},
         "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"}},
  "a/b": {"file_name": "zh.jsonl"},
  "a_b": {"file_name": "zh.jsonl"},
  "text": {"file_name": "text.txt", "columns": {"prompt": "text"}}
}
END
pack="df-pack -q --template default --tokenizer bytes --cutoff-len 64"
here="$pack --dataset-dir data"

# tokens FILE: the tokens and targets of each row, in the order of the file
tokens()
{
	rows=$(df-show --json "$1" | sed 's/.*"kind": "tokens", "rows": \([0-9]*\).*/\1/')
	for i in $(seq 0 $((rows - 1))); do
		df-show --json --decode $i "$1" | sed 's/^.*"ids"/"ids"/'
	done
}

# index FILE POOL ID...: the ids as an index
index()
{
	printf '%s\n' "${@:3}" >ids.txt
	df-score custom -q --train "$2" --index ids.txt -n $(($# - 2)) -o "$1"
}


# --- one file ---

mkdir to
ok 'a pool' $here --dataset en,zh -o pool.h5
ok 'a pool of one description' $here --dataset en -o en.h5
ok 'an index' index index.h5 en.h5 2 0 2
ok 'lines' df-show -q --export to/sub.jsonl index.h5
cat >want <<'END'
{"instruction": "Count.", "input": "to, \"\n\" two", "output": "1 2\n", "big": 0.100000000000000005550}
{"instruction": "Add 1 and 2.", "input": "", "output": "3", "w": 1.50e3}
{"instruction": "Count.", "input": "to, \"\n\" two", "output": "1 2\n", "big": 0.100000000000000005550}
END
same 'records are as they were, on a line each' to/sub.jsonl want
printf '{\n  "sub": {\n    "file_name": "sub.jsonl"\n  }\n}\n' >want
same 'and described' to/dataset_info.json want
cp to/sub.jsonl first
ok 'the same again' df-show -q --export to/sub.jsonl index.h5
same 'the same bytes' to/sub.jsonl first
exits 64 'another file there' df-show -q --export to/more.json index.h5
says 'says how' '^df-show: to/dataset_info.json: is there already; --merge-info adds the dataset .more. to it$'
is 'nothing was written' "$(cd to && echo *)" 'dataset_info.json sub.jsonl'
printf '{"x": {"file_name": "x.json"},\n  "sub": {\n    "file_name": "sub.jsonl"\n  } }  \n' >to/dataset_info.json
ok 'is asked for' df-show -q --export to/more.json --merge-info index.h5
printf '{"x": {"file_name": "x.json"},\n  "sub": {\n    "file_name": "sub.jsonl"\n  },\n  "more": {\n    "file_name": "more.json"\n  }\n}\n' >want
same 'what was there stays as it was' to/dataset_info.json want
cat >want <<'END'
[
  {
    "instruction": "Count.",
    "input": "to, \"\n\" two",
    "output": "1 2\n",
    "big": 0.100000000000000005550
  },
{"instruction": "Add 1 and 2.", "input": "", "output": "3", "w": 1.50e3},
  {
    "instruction": "Count.",
    "input": "to, \"\n\" two",
    "output": "1 2\n",
    "big": 0.100000000000000005550
  }
]
END
same 'an array looks like its source' to/more.json want
cp to/dataset_info.json first
ok 'again' df-show -q --export to/more.json --merge-info index.h5
same 'has its entry already' to/dataset_info.json first
mkdir other
echo '{"sub": {"file_name": "y.json"}}' >other/dataset_info.json
exits 64 'another dataset of this name' df-show -q --export other/sub.json --merge-info index.h5
says 'says so' "other/dataset_info.json: describes another dataset 'sub'"
for text in '[]' '{"a": 1' '{"a": {}, "a": {}}'; do
	echo "$text" >other/dataset_info.json
	exits $([ "$text" = '[]' ] && echo 78 || echo 65) "a description that is none: $text" \
		df-show -q --export other/sub.json --merge-info index.h5
done
is 'nothing is there' "$(ls other)" dataset_info.json
echo '{}' >other/dataset_info.json
ok 'into an empty one' df-show -q --export other/sub.json --merge-info index.h5
is 'it is read' "$(df-pack --dataset-dir other --list-datasets)" sub
cp -r data own
ok 'beside its source' df-show -q --dataset-dir own --export own/sub.json --merge-info index.h5
is 'the description of the source has one more' "$(df-pack --dataset-dir own --list-datasets | tail -n 2 | tr '\n' ' ')" 'text sub '
exits 64 'over its source' df-show -q --dataset-dir own --export own/en.json --merge-info index.h5
says 'both are named' ' own/en.json: would replace own/en.json, which this command reads'
same 'and the source is as it was' own/en.json data/en.json
exits 64 'over the index' df-show -q --export index.h5/ index.h5
ok 'to standard output' df-show -q --export - index.h5
is 'as lines' "$(wc -l <out)" 3

# --- what is trained on is what was chosen ---

# round NAME FORMAT DATASETS COUNT: pack, choose, export, pack; the tokens are those that the index chose
round()
{
	rm -rf r
	mkdir r
	ok "$1: pack" $here $5 --dataset "$3" -o r/pool.h5
	ok "$1: choose" df-score random -q --seed 5 --train r/pool.h5 -n "$4" --short replace -o r/index.h5
	ok "$1: export" df-show -q --export "r/$2" r/index.h5
	case $2 in
	*.*) ok "$1: pack again" $pack $5 --dataset-dir r --dataset "${2%.*}" -o r/again.h5 ;;
	*) ok "$1: pack again" $pack $5 --dataset-dir "r/$2" --dataset "$3" -o r/again.h5 ;;
	esac
	tokens r/pool.h5 >r/pool.tokens
	h5dump -y -w 1 -d index r/index.h5 | grep -oE '^ *[0-9]+' | while read -r id; do
		sed -n $((id + 1))p r/pool.tokens
	done >r/want
	tokens r/again.h5 >r/got
}
if command -v h5dump >/dev/null; then
	for name in some.jsonl some.json; do
		round "alpaca, $name" $name en,a/b 5
		same 'the tokens are those that were chosen, in their order' r/got r/want
		round "sharegpt, $name" $name chat 3
		same 'the tokens are those that were chosen, in their order' r/got r/want
		round "openai, $name" $name oa 2
		same 'the tokens are those that were chosen, in their order' r/got r/want
	done
	round 'text' some.txt text 4 '--stage pt --no-packing'
	same 'the tokens are those that were chosen, in their order' r/got r/want
	round 'a directory' some en,zh,chat,oa 9
	LC_ALL=C sort r/got >got
	LC_ALL=C sort r/want >want
	same 'the tokens are those that were chosen' got want
else
	skip 'what is trained on is what was chosen' 'no h5dump'
fi

# --- a file for each dataset ---

ok 'an index of both' index both.h5 pool.h5 4 0 3 6
exits 64 'different columns in one file' df-show -q --export to/all.jsonl both.h5
says 'says which, and how' "datasets 'en' and 'zh' differ in format, columns or tags .* name a directory \('to/all'\)"
ok 'a directory' df-show -q --export all both.h5
is 'of a file for each' "$(cd all && echo *)" 'dataset_info.json en.json zh.jsonl'
printf '{"instruction":"b","input":"","output":"B"}  \n{"output": "你好！", "instruction": "你好", "input": ""}\n{"instruction":"c","input":"","output":"C"}\n' >want
same 'in the order of the index, byte for byte' all/zh.jsonl want
is 'their names are those of the sources' "$(df-pack --dataset-dir all --list-datasets | tr '\n' ' ')" 'en zh '
ok 'again' df-show -q --export all both.h5
ok 'one of the datasets only' df-show -q --dataset zh --export zh.jsonl both.h5
same 'the same lines' zh.jsonl want
exits 64 'a dataset that is not there' df-show -q --dataset zz --export zz.jsonl both.h5
says 'says which is meant' "--dataset: unknown dataset 'zz'; did you mean 'zh'"
touch all/mine
exits 64 'a directory with something else in it' df-show -q --export all both.h5
says 'names it' "all: is there already, and has 'mine', which would be lost"
[ -e all/mine ] && [ -e all/en.json ]
report $? 'all is as it was'
exits 64 'merged into a directory' df-show -q --merge-info --export new both.h5
ok 'names that are no names of files' $here --dataset a/b,a_b -o slash.h5
ok 'each gets one' df-show -q --export slash slash.h5
is 'of its own' "$(cd slash && echo *)" 'a_b-1.jsonl a_b.jsonl dataset_info.json'
exits 64 'a name with a comma' df-show -q --export a,b.json index.h5

# --- tokens themselves; scores ---

rm -f dataset_info.json
ok 'all rows of tokens' df-show -q --dataset zh --export tokens.jsonl pool.h5
grep -v '^$' data/zh.jsonl >want
same 'are all rows of the source' tokens.jsonl want
rm -f dataset_info.json tokens.jsonl zh.jsonl
printf '0\t0.1\n1\tnan\n2\t-1.5e-9\n' >scores.txt
ok 'scores' df-score custom -q --train en.h5 --scores scores.txt -n 3 --allow-invalid -o scored.h5
ok 'with scores' df-show -q --with-scores my_ --export scored.json scored.h5
cat >want <<'END'
[
{"instruction": "Add 1 and 2.", "input": "", "output": "3", "w": 1.50e3, "my_rank": 0, "my_score": 0.1},
  {
    "instruction": "Count.",
    "input": "to, \"\n\" two",
    "output": "1 2\n",
    "big": 0.100000000000000005550,
    "my_rank": 1,
    "my_score": -1.5e-09
  },
 {"output": "yes, no \u00e9\/", "instruction": "Say <yes> & \"no\".", "input": null, "my_rank": 2, "my_score": null}
]
END
same 'they are the last members' scored.json want
ok 'they are packed all the same' $pack --dataset-dir . --dataset scored -o again.h5
tokens en.h5 | sed -n '1p;3p' >want
tokens again.h5 | sed -n '1,2p' >got
same 'to the same tokens' got want
ok 'chosen from what has them' index again.i.h5 again.h5 1
exits 64 'the same names again' df-show -q --dataset-dir . --with-scores my_ --export third.json --merge-info again.i.h5
says 'names the row and the column' "scored.json: row 1 \(line 3\): has a column 'my_rank' already; choose another prefix"
ok 'other names' df-show -q --dataset-dir . --with-scores x_ --export third.json --merge-info again.i.h5
ok 'an empty prefix' df-show -q --with-scores= --export - index.h5
prints 'a method without scores: the rank only' '"output": "3", "w": 1.50e3, "rank": 1\}$'
rm -f dataset_info.json

ok 'the same rows under other names' $here --dataset en,a/b -o same.h5
ok 'an index of them' index same.i.h5 same.h5 6 1
ok 'are those of their datasets' df-show -q --export - same.i.h5
rm same.*

# --- what does not belong together ---

exits 66 'the pool is not there' sh -c 'mkdir away; cp index.h5 away; exec df-show -q --export x.json away/index.h5'
says 'says so' 'away/index.h5: its tokens, [0-9a-f]{12}, are neither beside it nor named after it'
ok 'the pool is named' df-show -q --export x.json away/index.h5 en.h5
rm -f x.json dataset_info.json
cp -r data changed
printf ' ' >>changed/en.json
exits 65 'the source was changed' df-show -q --dataset-dir changed --export x.json index.h5
says 'says so' "dataset 'en': its files, or how .* are not those that en.h5 was made from"
sed 's/"en": {/&"columns": {"prompt": "input", "response": "output"}, /' data/dataset_info.json >changed/dataset_info.json
cp data/en.json changed
exits 65 'other columns' df-show -q --dataset-dir changed --export x.json index.h5
exits 66 'no dataset_info.json' df-show -q --dataset-dir absent --export x.json index.h5
echo '{"zh": {"file_name": "zh.jsonl"}}' >changed/dataset_info.json
exits 78 'without the dataset' df-show -q --dataset-dir changed --export x.json index.h5
ok 'a packed pool' $here --dataset en --neat-packing -o packed.h5
ok 'an index of it' df-score random -q --train packed.h5 -n 1 -o packed.i.h5
exits 69 'packs do not say what is in them' df-show -q --export x.json packed.i.h5
says 'says so' 'packed.h5: a row of it is packed of several source rows'
exits 69 'nor do blocks' sh -c "$here --stage pt --dataset text -o blocks.h5 && exec df-show -q --export x.txt blocks.h5"
exits 64 'text as JSON' sh -c "$here --stage pt --no-packing --dataset text -o lines.h5 && exec df-show -q --export x.json lines.h5"
exits 64 'JSON as text' df-show -q --export x.txt index.h5
exits 64 'scores of text' df-show -q --with-scores s_ --export x.txt lines.h5
ok 'an empty index' sh -c ': >none.txt; df-score custom -q --train en.h5 --index none.txt -n 0 -o none.h5'
exits 65 'nothing to write' df-show -q --export x.json none.h5
says 'says so' 'none.h5: chooses no row$'
exits 65 'scores are not a choice' sh -c 'df-score custom -q --train en.h5 --scores scores.txt --allow-invalid --scores-output s.h5 && exec df-show -q --export x.json s.h5 en.h5'
exits 64 'two things at once' df-show --export x.json --check index.h5
exits 64 'an option of another task' df-show --with-scores x index.h5
says 'says whose it is' '--with-scores is for --export'
exits 66 'no index' df-show --export x.json absent.h5
[ ! -e x.json ] && [ ! -e dataset_info.json ]
report $? 'nothing was written'

done_testing

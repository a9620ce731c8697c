#!/bin/bash
# df-show --export: the chosen rows as files of their source's format, which every program reads at once.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

mkdir data
cat >data/en.json <<'END'
[{"instruction": "Add 1 and 2.", "input": "", "output": "3", "w": 1.50e3},
 {"output": "yes, no \u00e9\/", "instruction": "Say <yes> & \"no\".", "input": null},
  {
    "instruction": "Count.",
    "input": "to, \"\n\" two",
    "output": "1 2\n",
    "big": 123456789012345678901234567890
  }]
END
cat >data/zh.jsonl <<'END'
{"output": "你好！", "instruction": "你好", "input": ""}

{"instruction":"b","input":"","output":"B"}  
{"instruction":"","output":""}
{"instruction":"c","input":"","output":"C"}
END
cat >data/chat.jsonl <<'END'
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
	rows=$(df-show --json "$1" | sed 's/.*"rows": \([0-9]*\).*/\1/')
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

ok 'a pool' $here --dataset en,zh -o pool.h5
ok 'a pool of one description' $here --dataset en -o en.h5
ok 'an index' index index.h5 en.h5 2 0 2

#!/bin/sh
# data.sh SCENE SEED DIR DATA - the pool of a scene (../compare.mk), its target and its test, as tokens in DIR.
#
#   pool.h5   what to choose from; its domains are the parts of the scene
#   alone.h5  the same rows without their prompts, for IFD; not of texts
#   val.h5    the target: what the methods see of it
#   test.h5   other rows of the target, for the evaluation alone
#   budget    a tenth of the pool's tokens
set -eu
scene=$1 seed=$2 dir=$3 data=$4
rows=$dir/rows
mkdir -p "$rows"

# Text as JSON Lines: lines are joined until a row has 240 characters; N rows from file names on standard input, from
# every file the same number of characters at most.
pieces() { # rows
	while read -r file; do
		case $file in
		*.gz) gzip -dc "$file" ;;
		*) cat "$file" ;;
		esac | LC_ALL=C tr -cd '\011\012\040-\176' | head -c 12000 | awk 'NR > 20 || !/^[.#"\/ *]/'
		printf '\014\n' # a row does not go on in the next file
	done | awk -v n="$1" '
		function put() {
			if (length(text) < 240 || made >= n) { text = ""; return }
			text = substr(text, 1, 240)
			gsub(/\n/, "\001", text)
			print text
			text = ""; made++
		}
		/^\014/ { text = ""; next }
		/^[ \t]*$/ { next }
		{ text = text $0 "\n"; if (length(text) >= 240) put() }' |
		sed 's/\\/&&/g; s/"/\\"/g; s/\t/\\t/g; s/\x01/\\n/g; s/.*/{"text": "&"}/'
}

# Every 20th row from the seed on is the target, every 20th after it the test.
split_rows() { # name, of standard input
	awk -v val=$((seed * 2 % 20)) -v name="$rows/$1" '
		{ print > (name (NR % 20 == val ? ".val" : NR % 20 == val + 1 ? ".test" : ".pool") ".jsonl") }'
}

# A pretty-printed array of records as JSON Lines.
records() {
	awk '/^ *\{/ { r = "" } { sub(/^ */, ""); r = r $0 } /^\},?$/ { sub(/,$/, "", r); print r }' "$1"
}

pack() { # dataset, output, further options
	sets=$1 out=$2
	shift 2
	df-pack -q --dataset-dir "$rows" --dataset "$sets" --tokenizer bytes "$@" -o "$dir/$out.h5"
}

case $scene in
skills)
	generate "$rows" "$seed"
	pool=reverse,shout,add,order,continue,noise,foreign,again,translate val=val test=test
	set -- --template default --cutoff-len 128
	;;
bilingual)
	for set in alpaca_en_demo alpaca_zh_demo; do
		records "$data/$set.json" | split_rows $set
	done
	cat "$rows/alpaca_en_demo.val.jsonl" "$rows/alpaca_en_demo.test.jsonl" >>"$rows/alpaca_en_demo.pool.jsonl"
	printf '{ "chinese": {"file_name": "%s"}, "english": {"file_name": "%s"}, "val": {"file_name": "%s"}, "test": {"file_name": "%s"} }\n' \
		alpaca_zh_demo.pool.jsonl alpaca_en_demo.pool.jsonl alpaca_zh_demo.val.jsonl alpaca_zh_demo.test.jsonl >"$rows/dataset_info.json"
	pool=english,chinese val=val test=test
	set -- --template default --cutoff-len 256
	;;
found)
	pool='' info=''
	for set in web wikipedia manuals headers python; do
		case $set in
		python) files=$(find /usr/lib/python3* -name '*.py' -size +8k 2>/dev/null) ;;
		headers) files=$(find /usr/include -name '*.h' -size +8k 2>/dev/null) ;;
		manuals) files=$(find /usr/share/man/man[1-8] -name '*.gz' -size +3k 2>/dev/null) ;;
		wikipedia) files=$(ls "$data/wiki_demo.jsonl" 2>/dev/null) ;;
		web) files=$(ls "$data/c4_demo.jsonl" 2>/dev/null) ;;
		esac || true
		[ -n "$files" ] || continue
		case $set in
		python | headers | manuals)
			printf '%s\n' "$files" | LC_ALL=C sort | awk -v s="$seed" '(NR + s) % 5 == 0' | pieces 600
			;;
		*) # the texts of the file, cut
			sed -n 's/^{"text": "\(.*\)".*/\1/p' "$files" | LC_ALL=C tr -cd '\012\040-\176' | sed 's/\\[nrt"]/ /g; s/\\u....//g; s/\\//g' |
				awk -v s="$seed" '{ for (i = 1 + 240 * (s % 3); i + 240 <= length($0) && i < 3000; i += 720) print "{\"text\": \"" substr($0, i, 240) "\"}" }' | head -n 600
			;;
		esac | split_rows $set
		if [ $set != python ]; then
			cat "$rows/$set.val.jsonl" "$rows/$set.test.jsonl" >>"$rows/$set.pool.jsonl"
		fi
		pool=$pool${pool:+,}$set
		info="$info \"$set\": {\"file_name\": \"$set.pool.jsonl\", \"columns\": {\"prompt\": \"text\"}},"
	done
	case $pool in
	*,python) ;;
	*) echo "data.sh: found: no Python library in /usr/lib and nothing beside it" >&2 && exit 66 ;;
	esac
	printf '{%s "val": {"file_name": "python.val.jsonl", "columns": {"prompt": "text"}}, "test": {"file_name": "python.test.jsonl", "columns": {"prompt": "text"}} }\n' \
		"$info" >"$rows/dataset_info.json"
	val=val test=test
	set -- --stage pt --template empty --cutoff-len 256
	;;
*)
	echo "data.sh: $scene: no such scene" >&2
	exit 64
	;;
esac

pack "$val" val "$@"
pack "$test" test "$@"
[ "$scene" = found ] || set -- "$@" --no-prompt "$dir/alone.h5"
pack "$pool" pool "$@"
df-show --json "$dir/pool.h5" | sed -n 's/.*"tokens\/ids": {[^}]*}, "values": \([0-9]*\).*/\1/p' | awk '{ print int($1 / 10) }' >"$dir/budget.tmp"
mv "$dir/budget.tmp" "$dir/budget"

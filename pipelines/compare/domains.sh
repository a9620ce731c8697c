#!/bin/sh
# domains.sh SEED DIR DATA - texts of this machine as domains (../compare-mix.mk), as tokens in DIR.
#
#   pool.h5     to train on: python, headers, manuals, changelogs; wikipedia and web if DATA has them
#   test.h5     rows of other documents of each domain
#
# Of each domain the same number of documents, spread over the sorted list of all; so the same machine gives the same
# rows.  SEED decides which tenth of the documents is held out.
set -eu
seed=$1 dir=$2 data=$3
docs=80     # of each domain
chars=12000 # of a document, at most
row=240    # characters of a row
rows=$dir/rows
mkdir -p "$rows"

spread() { # of the lines on standard input, $docs that lie evenly
	LC_ALL=C sort | awk -v n=$docs '{ line[NR] = $0 } END { for (i = 0; i < n && i < NR; i++) print line[1 + int(i * (NR > n ? NR / n : 1))] }'
}

# Documents of plain text, each followed by a form feed.
texts() {
	while read -r file; do
		case $file in
		*/man/*) mandoc -T ascii "$file" 2>/dev/null | col -b ;;
		*.gz) gzip -dc "$file" ;;
		*) cat "$file" ;;
		esac | LC_ALL=C tr -cd '\011\012\040-\176' | head -c $chars
		printf '\n\014\n'
	done
}

# The same from JSON lines that begin with a text.
lines() {
	sed -n 's/^{"text": "\(.*\)".*/\1/p' "$1" | spread | LC_ALL=C tr -cd '\012\040-\176' | cut -c 1-$chars |
		sed 's/\\\\/\\/g; s/\\n/\n/g; s/\\"/"/g; s/\\u....//g; s/\\[rt]/ /g; s/$/\n\f/'
}

# Rows of JSON: NAME.jsonl, and of every tenth document at most 8 rows in NAME.test.jsonl.
cut_rows() { # name
	awk -v row=$row -v held=$((seed % 10)) -v name="$rows/$1" '
		BEGIN { printf "" >(name ".rows"); printf "" >(name ".test.rows") }
		function put(s) {
			if (doc % 10 == held && made++ >= 8) return
			gsub(/\n/, "\001", s)
			print s >(name (doc % 10 == held ? ".test.rows" : ".rows"))
		}
		/^\014/ { doc++; made = 0; text = ""; next }
		/^[ \t]*$/ { next }
		{ for (text = text $0 "\n"; length(text) >= row; text = substr(text, row + 1)) put(substr(text, 1, row)) }'
	for part in "$1" "$1.test"; do
		sed 's/\\/&&/g; s/"/\\"/g; s/\t/\\t/g; s/\x01/\\n/g; s/.*/{"text": "&"}/' "$rows/$part.rows" >"$rows/$part.jsonl"
		rm "$rows/$part.rows"
	done
}

pool='' info=''
for set in python headers manuals changelogs wikipedia web; do
	case $set in
	python) find /usr/lib/python3* -name '*.py' -size +4k 2>/dev/null | spread | texts ;;
	headers) find /usr/include -name '*.h' -size +4k 2>/dev/null | spread | texts ;;
	manuals)
		if command -v mandoc >/dev/null && command -v col >/dev/null; then
			find /usr/share/man/man[1-8] -type f -name '*.gz' -size +2k 2>/dev/null | spread | texts
		fi
		;;
	changelogs) find /usr/share/doc -path '*/changelog*.gz' -type f -size +2k 2>/dev/null | spread | texts ;;
	wikipedia) [ ! -e "$data/wiki_demo.jsonl" ] || lines "$data/wiki_demo.jsonl" ;;
	web) [ ! -e "$data/c4_demo.jsonl" ] || lines "$data/c4_demo.jsonl" ;;
	esac | cut_rows $set
	if ! [ -s "$rows/$set.jsonl" ] || ! [ -s "$rows/$set.test.jsonl" ]; then
		continue # this machine has none
	fi
	pool=$pool${pool:+,}$set
	for part in '' .test; do
		info="$info${info:+, }\"$set$part\": {\"file_name\": \"$set$part.jsonl\", \"columns\": {\"prompt\": \"text\"}}"
	done
done
case $pool in
*,*) ;;
*) echo "domains.sh: fewer than two domains here: ${pool:-none}" >&2 && exit 66 ;;
esac
printf '{%s}\n' "$info" >"$rows/dataset_info.json"

pack() { # datasets, output
	df-pack -q --dataset-dir "$rows" --dataset "$1" --stage pt --template empty --tokenizer bytes --cutoff-len 256 -o "$dir/$2.h5"
}
pack "$(echo "$pool" | sed 's/[a-z]*/&.test/g')" test
pack "$pool" pool

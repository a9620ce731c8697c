#!/bin/bash
# df-show --import: an index of what a list names, checked against the tokens that it is for.
# shellcheck disable=SC2059,SC2086 # commands are words, lists are formats
. "$(dirname "$0")/lib.sh"
command -v h5dump >/dev/null || skip_all 'no h5dump here'

mkdir data
cat >data/en.jsonl <<'END'
{"uid": "a", "n": 1, "instruction": "one", "output": "1", "kind": "number"}
{"uid": "b", "n": 2, "instruction": "two", "output": "2", "kind": "number", "x": 1.50}
{"uid": "#c", "n": 3, "instruction": "three", "output": "3"}
{"uid": "", "n": -4, "instruction": "four", "output": "4", "kind": "word", "x": true}
{"uid": "e\u00e9\ne", "n": 5, "instruction": "five", "output": "5", "kind": null}
END
echo '[{"uid": "z", "instruction": "zwei", "output": "2"}, {"uid": "b", "instruction": "bb", "output": "B"}]' >data/de.json
printf 'line one\nline two\nline one\n' >data/text.txt
cat >data/dataset_info.json <<'END'
{"en": {"file_name": "en.jsonl"}, "de": {"file_name": "de.json"}, "some": {"file_name": "en.jsonl", "num_samples": 12},
 "text": {"file_name": "text.txt", "columns": {"prompt": "text"}}}
END
pack="df-pack -q --dataset-dir data --template default --tokenizer bytes --cutoff-len 64"
ok 'one dataset' $pack --dataset en -o en.h5
ok 'two' $pack --dataset en,de -o both.h5
ok 'rows that occur several times' $pack --dataset some -o some.h5
ok 'text' $pack --stage pt --no-packing --dataset text -o text.h5
ok 'packs' $pack --dataset en --neat-packing -o packs.h5

# ids: those of index.h5, in its order
ids()
{
	h5dump -y -w 1 -d "${2-index}" "$1" | sed -n '/DATA {/,/}/p' | grep -oE '^ *[0-9]+' | tr -d ' \n' | sed 's/./& /g'
}

# makes 'what' IDS LIST OPTION... POOL: the list is a text
makes()
{
	printf "$3" >list
	ok "$1" df-show -q --import list "${@:4}" -o index.h5
	is '  its ids' "$(ids index.h5)${2##*[0-9] }" "$2" # of none: a blank
}

# refuses STATUS 'what' LIST MESSAGE OPTION... POOL
refuses()
{
	rm -f no.h5
	printf "$3" >list
	exits "$1" "$2" df-show -q --import list "${@:5}" -o no.h5
	says '  says so' "$4"
	[ ! -e no.h5 ]
	report $? '  and writes nothing'
}

# --- ids ---

makes 'ids' '4 0 4 ' '4\n\n# a comment\n0\r\n4' en.h5
says 'those that occur again are counted' 'warning: list: 1 of 3 ids occur more than once'
ok 'its lineage' df-show --lineage index.h5
prints 'the tokens' 'tokens +en\.h5: tokens, 5 rows'
prints 'the list' 'list +source'
ok 'it is an index' df-show index.h5
prints 'of datasets' '^  en +3 '
cp index.h5 first.h5
ok 'the same from standard input' sh -c 'df-show -q --import - -o index.h5 en.h5 <list'
same 'the same bytes' index.h5 first.h5
makes 'JSON lines' '4 0 ' '{"id": 4, "more": []}\n{"id": "0"}\n' en.h5
makes 'a JSON array' '4 0 ' ' [{"id": 4},\n{"id": 0}]' en.h5
makes 'ids of packs' '0 ' '0\n' packs.h5
makes 'an empty list' ' ' '' en.h5
makes 'of one dataset' '5 ' '5' --dataset de both.h5
refuses 65 'an id beyond' '0\n5\n' 'list: line 2: id 5 is not in en\.h5; --skip-missing' en.h5
refuses 65 'an id of another dataset' '0\n' 'list: line 1: id 0 is not in both\.h5' --dataset de both.h5
refuses 65 'no number' '0\nx\n' "list: line 2: expected a number from 0, found 'x'" en.h5
refuses 65 'a negative number' '\055' "list: line 1: expected a number" en.h5
refuses 65 'too large a number' '99999999999999999999' "list: line 1: expected a number" en.h5
refuses 65 'a broken number' '1.5' "found '1\.5'" en.h5
refuses 65 'no text' '1\n\0001' "list: line 2: neither text nor JSON" en.h5
refuses 65 'JSON without the member' '{"id": 1}\n{"uid": 1}' "list: row 1: no member 'id'" en.h5
refuses 65 'JSON with something else' '{"id": [1]}' "list: row 0: 'id': expected a string or number, found an array" en.h5
refuses 65 'JSON that is broken' '{"id": 1' 'list: row 0: JSON' en.h5
refuses 65 'an array that is cut' '[{"id": 1}, ' 'truncated' en.h5
refuses 65 'the same member twice' '{"id": 1, "id": 2}' 'list: row 0' en.h5
makes 'missing ones left out' '1 ' '7\n1\n8' --skip-missing en.h5
says 'and counted' 'warning: list: 2 of 3 entries name no row and are left out'

# --- rows of the source ---

makes 'rows' '3 1 ' '3\n1\n' --by row en.h5
makes 'rows of two datasets' '6 0 5 ' 'de\t1\nen\t0\nde\t0\n' --by row both.h5
makes 'rows of one of them' '6 5 ' '1\n0\n' --by row --dataset de both.h5
makes 'rows in JSON' '6 0 ' '{"dataset": "de", "row": 1}\n{"row": 0, "dataset": "en"}' --by row both.h5
makes 'a row that was drawn several times' "$(ids some.h5 sample/source_row | tr -d ' ' | grep -o . | grep -n 2 | cut -d: -f1 |
	while read -r i; do printf '%d ' $((i - 1)); done)" '2' --by row some.h5
refuses 64 'of which dataset' '0\n' 'list: line 1: row 0 of which dataset\? both\.h5 has several' --by row both.h5
refuses 65 'of another dataset' 'fr\t0\n' "list: line 1: 'fr' is none of the datasets of both\.h5" --by row both.h5
refuses 65 'a row beyond' 'de\t2\n' 'list: line 1: row 2 is not in both\.h5' --by row both.h5
refuses 69 'rows of packs' '0\n' 'packs\.h5: a row of it is packed of several source rows' --by row packs.h5
ok 'held out rows' $pack --dataset en --holdout en=2 --holdout-output held.h5 -o rest.h5
held=$(ids held.h5 sample/source_row | cut -d' ' -f1)
refuses 65 'are not in the pool' "$held" "row $held is not in rest\.h5" --by row rest.h5
makes 'but in their own tokens' '0 ' "$held" --by row held.h5

# --- a column ---

makes 'values' '1 0 1 ' 'b\na\nb\n' --column uid en.h5
makes 'numbers' '2 3 ' '3\n-4\n' --column n en.h5
makes 'other scalars' '1 3 ' '1.5\ntrue\n' --column x en.h5
makes 'a value that many rows have' '3 0 1 ' 'word\nnumber\n' --column kind en.h5
makes 'a value that looks like a comment' '2 ' '#c\n' --column uid en.h5
makes 'values of JSON' '4 3 ' '{"uid": "e\\u00e9\\ne"}\n{"uid": ""}\n' --by column --column uid en.h5
makes 'in every dataset' '1 6 ' 'b' --column uid both.h5
makes 'in one' '6 ' 'b' --column uid --dataset de both.h5
makes 'lines of text' '0 2 ' 'line one' --column text text.h5
refuses 65 'a value that is not there' 'a\nq\n' "list: line 2: the value q is not in en\.h5" --column uid en.h5
refuses 78 'a column that is not there' 'a\n' "no row has the column 'uidd'; did you mean 'uid'" --column uidd en.h5
makes 'missing values left out' '0 ' 'a\nq\n' --skip-missing --column uid en.h5
refuses 64 'a column that is not named' 'a\n' 'by column and --column' --by column en.h5
refuses 64 'a column, but ids' '1\n' 'by column and --column' --by id --column uid en.h5
refuses 66 'no dataset_info.json' 'a\n' 'absent' --column uid --dataset-dir absent en.h5
cp -r data changed
printf '\n' >>changed/en.jsonl
refuses 65 'a source that was changed' 'a\n' "dataset 'en': its files" --column uid --dataset-dir changed en.h5

# --- there and back ---

ok 'an export' df-show -q --dataset en --export some.jsonl both.h5
sed -n '4p;2p' some.jsonl >filtered.jsonl
ok 'some rows of it' df-show -q --import filtered.jsonl --column n -o index.h5 en.h5
is 'are the same samples' "$(ids index.h5)" '1 3 '
ok 'export again' df-show -q --export again.jsonl --merge-info index.h5
same 'the same rows' again.jsonl filtered.jsonl

exits 64 'no -o' df-show --import list en.h5
exits 64 'over the list' df-show --import list -o list en.h5
exits 64 'over the tokens' df-show --import list -o en.h5 en.h5
exits 65 'not tokens' df-show --import list -o no.h5 index.h5
exits 66 'no list' df-show --import absent -o no.h5 en.h5

done_testing

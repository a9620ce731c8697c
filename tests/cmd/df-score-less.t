#!/bin/bash
# df-score less against the formula of princeton-nlp/LESS and against DataFlex's class (tests/golden/less.py).
. "$(dirname "$0")/lib.sh"
G=$SRC/tests/golden/less

# column_of FILE COLUMN: its values, one a line
column_of()
{
	h5dump -y -w 0 -m %.9g -d "$2" "$1" | awk '/DATA {/ { inside = 1; next } /}/ && inside { exit } inside' | tr -d ' ' |
		tr ',' '\n' | sed '/^$/d'
}

# near 'what' GOT WANT LIMIT: lines of numbers, as many, none further apart
near()
{
	worst=$(paste "$2" "$3" | awk -v limit="$4" 'NF != 2 { bad = 1 } { d = $1 - $2; d = d < 0 ? -d : d; if (d > w) w = d }
		END { printf "%.2g", w; exit bad || NR == 0 || !(w <= limit) }')
	report $? "$1 (largest difference $worst)"
}

sets=
for i in 0 1 2; do sets="$sets --train $G/train.$i.h5 --val $G/val.$i.h5"; done
weights=1.6877e-5,1.2859e-5,7.7030e-6

# less NAME OPTIONS: three checkpoints; NAME.txt has the scores
less()
{
	# shellcheck disable=SC2086 # words
	ok "$1" df-score -q less $sets --ckpt-weights $weights -n 10 -o index.h5 --scores-output scores.h5 "${@:2}"
	column_of scores.h5 score >"$1.txt"
}

# Scores are float32 of a float64 sum: half a unit in the last place of numbers below 1, and the rows' own float32.
less labels --subtasks "$G/labels"
near 'unequal subtasks' labels.txt "$G/scores.labels" 1e-7
is 'the index has the best, in order' "$(column_of index.h5 index | tr '\n' ' ')" \
	"$(awk '{ print $1, NR - 1 }' "$G/scores.labels" | sort -gr | head -n 10 | awk '{ print $2 }' | tr '\n' ' ')"
less equal --subtasks "$G/equal"
near 'equal subtasks, as its reshape groups them' equal.txt "$G/scores.equal" 1e-7
less mean --agg mean
near 'the mean over all validation rows' mean.txt "$G/scores.mean" 1e-7
less one --subtasks none
same 'one subtask: the best is the mean' one.txt mean.txt
less compat --compat dataflex
same '--compat dataflex is this mean' compat.txt mean.txt
ok 'the file has its parameters' h5dump -a df_params scores.h5
prints 'this among them' 'compat.*dataflex.*agg.*mean'

sets=${sets//val./swapped.}
less swapped --subtasks "$G/swapped"
same 'the order of validation rows changes no bit' swapped.txt labels.txt

# The numbers of DataFlex are float32 sums of float16 rows.
for i in 0 1; do
	n=$(wc -l <"$G/dataflex.$i.selected")
	ok "DataFlex's case $i" df-score -q --compat dataflex -n "$n" -o d.h5 less --train "$G/dataflex.$i.train.h5" \
		--val "$G/dataflex.$i.val.h5"
	is 'chooses the same rows in the same order' "$(column_of d.h5 index)" "$(cut -f1 "$G/dataflex.$i.selected")"
	column_of d.h5 score >got
	cut -f2 "$G/dataflex.$i.selected" >want
	near 'with the same scores' got want 1e-6
done
exits 64 'subtasks do not go with it' df-score --compat dataflex less --train "$G/train.0.h5" --val "$G/val.0.h5" \
	--subtasks "$G/labels" -o x.h5
done_testing

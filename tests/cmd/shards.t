#!/bin/bash
# --shard in a Slurm array, in every program that has it: a task that is submitted again is the part that it was, or is
# refused; it never does the whole job, nor begins another set.
# shellcheck disable=SC2046,SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

awk 'BEGIN { for (i = 0; i < 300; i++) print "{\"text\": \"the fox " i "\"}" }' >texts.jsonl

# work PROGRAM: its command, without --shard and -o
work()
{
	case $1 in
	df-grad) echo "df-grad -q -m $CKPT --form sgd --project 16 --block-rows 4 val.h5" ;;
	df-embed) echo "df-embed -q -m $SRC/tests/golden/embed/bert texts.jsonl" ;;
	df-sample) echo "df-sample -q -m $CKPT --max-new-tokens 2 val.h5" ;;
	esac
}

# task ID MIN MAX STEP COUNT COMMAND...: as Slurm starts it
task()
{
	env SLURM_ARRAY_TASK_ID=$1 SLURM_ARRAY_TASK_MIN=$2 SLURM_ARRAY_TASK_MAX=$3 SLURM_ARRAY_TASK_STEP=$4 \
		SLURM_ARRAY_TASK_COUNT=$5 "${@:6}"
}

here()
{
	(cd "$1" && find . -type f | LC_ALL=C sort | tr '\n' ' ')
}

seen=0
for path in "$BUILD"/bin/df-*; do
	p=$(basename "$path")
	"$p" --list-options | grep -q '^shard	' || continue
	seen=$((seen + 1))
	cmd=$(work "$p")
	[ -n "$cmd" ]
	report $? "$p has --shard: this test knows its command" || continue
	mkdir "$p"
	ok "$p: the whole" $cmd -o $p.h5
	for i in 1 2 4; do
		ok "$p: task $i of 1-4" task $i 1 4 1 4 $cmd --shard auto -o $p/x.h5
	done
	three="./x.00001-of-00004.h5 ./x.00002-of-00004.h5 ./x.00004-of-00004.h5 "
	exits 64 "$p: task 3 alone" task 3 3 3 1 1 $cmd --shard auto -o $p/x.h5
	says 'says what to type' 'give --shard auto/N, or --shard 3/N$'
	for t in '2 2 4 2 2' '4 2 4 2 2' '3 3 4 1 2' '1 1 1 1 1' '0 0 0 1 1' '3 1 8 1 8'; do
		exits 64 "$p: task $t beside parts of four" task $t $cmd --shard auto -o $p/x.h5
		says 'names the parts and the one that is missing' \
			'parts of 4 lie beside the output \(x\.00001-of-00004\.h5, .*as in --shard 3/4'
	done
	exits 64 "$p: auto in no array beside parts" $cmd --shard auto -o $p/x.h5
	is 'nothing is written' "$(here "$p")" "$three"
	exits 64 "$p: auto/4 in an array from 0" task 2 0 3 1 4 $cmd --shard auto/4 -o $p/x.h5
	says 'says how to count' 'SLURM_ARRAY_TASK_ID \+ 1\)\)/4$'
	exits 64 "$p: auto/4 in no array" $cmd --shard auto/4 -o $p/x.h5
	is 'nothing is written either' "$(here "$p")" "$three"
	ok "$p: auto/4 is the third" task 3 3 3 1 1 $cmd --shard auto/4 -o $p/x.h5
	is 'it fills the set' "$(here "$p")" "${three%./x.00004*}./x.00003-of-00004.h5 ./x.00004-of-00004.h5 "
	exits 64 "$p: a full set" task 1 1 1 1 1 $cmd --shard auto -o $p/x.h5
	says 'is said to be full' 'all 4 parts of 4'
	ok "$p: the same array again" task 2 1 4 1 4 $cmd --shard auto -o $p/x.h5
	ok "$p: a count that is given" $cmd --shard 1/2 -o $p/x.h5

	# What was begun counts as well as what is done; other names do not.
	mkdir $p/begun
	: >$p/begun/.x.00002-of-00003.h5.df-work
	exits 64 "$p: a part of three that was begun" task 1 1 2 1 2 $cmd --shard auto -o $p/begun/x.h5
	says 'the part to do is the first that is missing' '\(\.x\.00002-of-00003\.h5\.df-work\).*--shard 1/3;'
	for f in xx.00001-of-00003.h5 x.y.00001-of-00003.h5 x.1-of-3.h5; do : >"$p/begun/$f"; done
	rm $p/begun/.x.*
	ok "$p: parts of other files" task 1 1 2 1 2 $cmd --shard auto -o $p/begun/x.h5
	mkdir "$p/[ab]*"
	ok "$p: in a directory with a hard name" task 1 1 2 1 2 $cmd --shard auto -o "$p/[ab]*/x.h5"
	exits 64 "$p: parts there" task 2 2 2 1 1 $cmd --shard auto -o "$p/[ab]*/x.h5"
	exits 64 "$p: parts there, too" task 1 1 1 1 1 $cmd --shard auto -o "$p/[ab]*/x.h5"
	says 'are found' '--shard 2/2;'
done
[ $seen -ge 3 ]
report $? 'programs with --shard were found'

# Lines beside the rows have the part in their name too: no task writes over another's.
mkdir lines
draw="$(work df-sample) -n 2 --temperature 1"
ok 'lines of all' $draw --json lines.jsonl
for i in 1 2 3; do
	ok "lines of part $i" $draw --shard $i/3 --json lines/x.jsonl -o lines/x.h5
done
is 'each has its files' "$(here lines)" "$(for i in 1 2 3; do
	printf './x.0000%d-of-00003.h5 ./x.0000%d-of-00003.jsonl ' $i $i
done)"
cat lines/x.0*.jsonl >joined
same 'together they are all' lines.jsonl joined
ok 'a part that is printed' $draw --shard 2/3 --json -
cp out printed
same 'is the same' printed lines/x.00002-of-00003.jsonl
rm lines/*.h5
exits 64 'lines of one task beside parts of three' task 1 1 1 1 1 $draw --shard auto --json lines/x.jsonl
says 'names the parts' 'all 3 parts of 3 .*x\.00001-of-00003\.jsonl'
mv lines/x.00001-of-00003.jsonl input.00001-of-00002.jsonl
cp input.00001-of-00002.jsonl before
exits 64 'a part that is an input' df-sample -q -m $CKPT --prompts input.00001-of-00002.jsonl --json input.jsonl --shard 1/2
same 'is not written' before input.00001-of-00002.jsonl

done_testing

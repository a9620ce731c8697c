#!/bin/bash
# df-score: the methods on files, and what does not belong together.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

df-grad -q -m $CKPT --form adam --project 64 pool.h5 -o pool.proj.h5
df-grad -q -m $CKPT --form sgd --project 64 val.h5 -o val.proj.h5

index_of()
{
	text_of "$1" index
}

# --- less ------------------------------------------------------------------------------------------------------------

ok 'the methods' df-score --list
prints 'less is one' '^less  +projections +yes +gradients '
prints 'random reads anything' '^random  +any rows +no +none '
ok 'less' df-score less --train pool.proj.h5 --val val.proj.h5 -n 8 -o less.h5 --scores-output scores.h5
says 'the domains of the choice' 'chose 8 of 34 rows: sums [0-9]+/20, turns [0-9]+/14'
is 'eight ids' "$(h5ls less.h5/index)" 'index                    Dataset {8}'
is 'the index begins with the best rank' "$(index_of less.h5 | cut -d, -f1)" \
	"$(text_of scores.h5 rank | tr , '\n' | grep -nx 0 | awk -F: '{ print $1 - 1 }')"
ok 'a percentage' df-score -q less --train pool.proj.h5 --val val.proj.h5 -n 25% -o quarter.h5
is 'is rounded down' "$(h5ls quarter.h5/index)" 'index                    Dataset {8}'
ok 'no rows' df-score -q less --train pool.proj.h5 --val val.proj.h5 -n 0 -o none.h5
is 'an empty index' "$(h5ls none.h5/index | grep -c '{0')" 1
ok 'one subtask: mean and max agree' df-score -q less --agg mean --train pool.proj.h5 --val val.proj.h5 -n 8 -o mean.h5
is 'in every row' "$(index_of mean.h5)" "$(index_of less.h5)"
printf 'a\nb\na\nb\na\nb\n' >labels
ok 'labelled subtasks' df-score -q less --subtasks labels --train pool.proj.h5 --val val.proj.h5 -n 8 -o sub.h5
printf '5\tb\n0\ta\n1\tb\n2\ta\n3\tb\n4\ta\n' >labels.id
ok 'the same by id' df-score -q less --subtasks labels.id --train pool.proj.h5 --val val.proj.h5 -n 8 -o sub.id.h5
is 'choose the same' "$(index_of sub.id.h5)" "$(index_of sub.h5)"
ok 'two checkpoints' df-score -q less --train pool.proj.h5 --val val.proj.h5 --train pool.proj.h5 --val val.proj.h5 \
	--ckpt-weights 3e-5,1e-5 -n 8 -o two.h5
is 'the same one twice changes nothing' "$(index_of two.h5)" "$(index_of less.h5)"
for mode in cycle replace truncate; do
	ok "40 of 34, $mode" df-score -q less --short $mode --train pool.proj.h5 --val val.proj.h5 -n 40 -o $mode.h5
done
is 'cycle begins anew' "$(index_of cycle.h5 | cut -d, -f35-40)" "$(index_of cycle.h5 | cut -d, -f1-6)"
is 'truncate ends' "$(h5ls truncate.h5/index)" 'index                    Dataset {34}'
for threads in 1 2 3 4; do
	ok "$threads threads" df-score -q -j $threads less --train pool.proj.h5 --val val.proj.h5 -n 8 -o j.h5 --scores-output js.h5
	same 'write the same index' j.h5 less.h5
	same 'and the same scores' js.h5 scores.h5
done
exits 64 '40 of 34' df-score less --train pool.proj.h5 --val val.proj.h5 -n 40 -o x.h5
says 'is an error by default' 'asked for 40 rows, but only 34 are valid'

# --- the method's name comes first ----------------------------------------------------------------------------------------

exits 64 'an option of another method' df-score random --train pool.h5 --agg mean -n 3 -o x.h5
says 'says whose it is' '^df-score: --agg belongs to less'
exits 64 'one of two others' df-score less --train pool.proj.h5 --val val.proj.h5 --index less.h5 -o x.h5
says 'says both' 'belongs to combine and static and custom'
exits 64 'an input of another method' df-score random --train pool.h5 --val val.proj.h5 -n 3 -o x.h5
says 'is not passed over' '--val belongs to less'
exits 64 "a method's option before its name" df-score --agg mean less --train pool.proj.h5 --val val.proj.h5 -o x.h5
says 'comes too early' 'only after that word'
exits 64 'an option that only begins like one' df-score less --train pool.proj.h5 --val val.proj.h5 --scores x.h5
says 'is no abbreviation' '--scores belongs to semdedup'
ok 'common options may stand before it' df-score -q -j 2 --count=8 -o first.h5 less --train pool.proj.h5 --val val.proj.h5
same 'and mean the same' first.h5 less.h5
exits 64 'no method' df-score --train pool.h5 -o x.h5
says 'asks for one' 'which method'
exits 64 'two sets where one is read' df-score random --train pool.h5 --train val.h5 -n 3 -o x.h5
says 'one is read' '--train is given 2 times'
touch less random
ok 'a file of the name is no input' df-score -q random --train pool.h5 -n 3 -o random
rm -f less random
exits 64 'scores of a method without' df-score -q random --train pool.h5 -n 3 --scores-output x.h5
says 'there are none' 'without scores'

# --- what does not belong together --------------------------------------------------------------------------------------

df-grad -q -m $CKPT --form sgd --project 64 --seed 7 val.h5 -o val.seed.h5
exits 65 'another seed' df-score less --train pool.proj.h5 --val val.seed.h5 -n 8 -o x.h5
says 'names seed and files' 'val.seed.h5.*seed|seed.*val.seed.h5'
df-grad -q -m $CKPT --form sgd --project 32 val.h5 -o val.k.h5
exits 65 'another size' df-score less --train pool.proj.h5 --val val.k.h5 -n 8 -o x.h5
df-grad -q -m $CKPT --form sgd --project 64 --type sjlt val.h5 -o val.type.h5
exits 65 'another type' df-score less --train pool.proj.h5 --val val.type.h5 -n 8 -o x.h5
df-train -q train.yaml output_dir=run2 --until 1
df-grad -q -m run2/checkpoint-1 --form sgd --project 64 val.h5 -o val.ckpt.h5
exits 65 'another checkpoint' df-score less --train pool.proj.h5 --val val.ckpt.h5 -n 8 -o x.h5
says 'says so' 'checkpoint'
exits 65 'the wrong kind' df-score less --train pool.h5 --val val.proj.h5 -n 8 -o x.h5
exits 64 'a set without its target' df-score less --train pool.proj.h5 -n 8 -o x.h5
exits 64 'weights for another number of checkpoints' df-score less --train pool.proj.h5 --val val.proj.h5 \
	--ckpt-weights 1,2 -n 8 -o x.h5
exits 64 'weights that are none' df-score less --train pool.proj.h5 --val val.proj.h5 --ckpt-weights '' -n 8 -o x.h5
exits 64 'a weight left out' df-score less --train pool.proj.h5 --val val.proj.h5 --train pool.proj.h5 --val val.proj.h5 \
	--ckpt-weights 1,,2 -n 8 -o x.h5
exits 64 'weights of zero' df-score less --train pool.proj.h5 --val val.proj.h5 --ckpt-weights 0 -n 8 -o x.h5
exits 64 'an unknown method' df-score les --train pool.proj.h5 -n 8 -o x.h5
says 'suggests one' "did you mean 'less'"
printf 'a\nb\n' >labels.short
exits 64 'subtasks of a mean' df-score less --agg mean --subtasks labels --train pool.proj.h5 --val val.proj.h5 -o x.h5
says 'would have no effect' 'labels would have no effect'
exits 65 'labels for a part' df-score less --subtasks labels.short --train pool.proj.h5 --val val.proj.h5 -o x.h5

# --- random, static, custom --------------------------------------------------------------------------------------------------

ok 'random' df-score -q random --train pool.h5 -n 10 -o r1.h5
ok 'random again' df-score -q random --train pool.h5 -n 10 -o r2.h5
same 'is the same' r1.h5 r2.h5
is 'it is named as the maker' "$(h5dump -a df_tool r1.h5 | grep -c '"df-score"')" 1
ok 'random, of projections' df-score random --train pool.proj.h5 -n 10 -o r4.h5
is 'draws the same' "$(index_of r4.h5)" "$(index_of r1.h5)"
is 'and says the domains' "$(text_of r4.h5 sample/domain)" "$(text_of r1.h5 sample/domain)"
df-score -q random --train pool.h5 -n 10 --step 1 -o r3.h5
is 'another step is not' "$([ "$(index_of r1.h5)" = "$(index_of r3.h5)" ] || echo differs)" differs
ok "PyTorch's draws" df-score -q random --rng torch --train val.h5 -n 6 -o torch.h5
is 'torch.randperm(6), seed 42' "$(index_of torch.h5)" '0,3,2,4,1,5'
ok 'static' df-score -q static --train val.h5 -o static.h5
is 'is everything' "$(index_of static.h5)" '0,1,2,3,4,5'
ok 'scores as text' sh -c 'printf "0.2\nnan\n0.9\n0.9\n-1\n0\n" >s && df-score -q custom --train val.h5 --scores s -n 4 -o c.h5'
is 'best first, equal by id, nan last' "$(index_of c.h5)" '2,3,0,5'
exits 64 'nan is not chosen' df-score -q custom --train val.h5 --scores s -n 6 -o x.h5
ok 'unless allowed' df-score -q custom --train val.h5 --scores s -n 6 --allow-invalid -o c.h5
is 'then last' "$(index_of c.h5)" '2,3,0,5,4,1'
ok 'a scores artefact' df-score -q custom --train pool.h5 --scores scores.h5 -n 8 -o c2.h5
is 'ranks as its maker did' "$(index_of c2.h5)" "$(index_of less.h5)"
printf '0\n1\n0.5\n' >few
exits 65 'too few scores' df-score -q custom --train val.h5 --scores few -n 2 -o x.h5
printf '0\t1\n0\t2\n' >twice
exits 65 'a score twice' df-score -q custom --train val.h5 --scores twice -n 2 -o x.h5
printf '3\n1\n3\n' >ids
ok 'ids as text' df-score custom --train val.h5 --index ids -o c3.h5
is 'in their order' "$(index_of c3.h5)" '3,1,3'
says 'repeated ones are mentioned' '1 of 3 ids occur more than once'
printf '6\n' >beyond
exits 65 'an id out of range' df-score custom --train val.h5 --index beyond -o x.h5
says 'is named with its line' 'beyond:1: id 6 is out of range'
# shellcheck disable=SC2016
ok 'a program' df-score -q custom --train val.h5 -n 3 --step 4 --program 'seq $DF_STEP -1 $((DF_STEP - DF_N + 1)) >$DF_OUT' -o p.h5
is 'its choice' "$(index_of p.h5)" '4,3,2'
exits 65 'a program that fails' df-score custom --train val.h5 -n 3 --program 'exit 3' -o x.h5
says 'with its status' 'failed with status 3'
exits 65 'a program that writes nothing' df-score custom --train val.h5 -n 3 --program true -o x.h5
# shellcheck disable=SC2016
ok 'a program with a pipe that ends early' df-score custom --train val.h5 -n 2 --program 'yes 1 | head -n 2 >$DF_OUT' -o p2.h5
is 'hears of it as programs do' "$(grep -ci pipe "$T/err")" 0
# SIGTERM ends the program, and with it the wait.
df-score custom --train val.h5 -n 1 --program 'touch runs; exec sleep 600' -o x.h5 2>err &
pid=$!
wait_for test -e runs
kill -TERM $pid
wait $pid
is 'SIGTERM while a program runs' $? 75
says 'is told as that' "stopped by a signal while 'touch runs; exec sleep 600' ran"
exits 65 'an index for other tokens' df-score static --train val.h5 --index less.h5 -o x.h5
exits 64 'custom with nothing' df-score custom --train val.h5 -n 3 -o x.h5
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"

done_testing

#!/bin/bash
# df-score combine: sums of ranks, z-scores and scores, intersections of indices, quotas of domains.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

index_of()
{
	text_of "$1" index
}
# scores_of FILE: one line, three decimals
scores_of()
{
	text_of "$1" score | tr , '\n' | sed 's/-nan/nan/' | awk '{ if ($1 != "nan") $1 = sprintf("%.3f", $1); print $1 }' | paste -sd,
}
combine()
{
	df-score "$@" --train val.h5
}

# 6 rows: two files of text.
printf '%s\n' 10 20 30 40 50 60 >a
printf '%s\n' 5 5 1 9 nan 7 >b
ok 'ranks' combine -q combine --scores a --scores b --allow-invalid -o i.h5 --scores-output s.h5
is 'are added, equal ones at their mean rank, nan is invalid' "$(scores_of s.h5)" '0.188,0.287,0.200,0.800,nan,0.875'
is 'best first, what is invalid last' "$(index_of i.h5)" '5,3,1,2,0,4'
ok 'weights' combine -q combine --scores a --scores b --weights 3,-1 -n 5 -o i.h5 --scores-output s.h5
is 'a negative one turns the file around' "$(scores_of s.h5)" '-0.094,0.056,0.300,0.200,nan,0.562'
ok 'z-scores' combine -q combine --scores a --scores b --by zscore -n 5 -o i.h5 --scores-output s.h5
is 'by mean and deviation of each file' "$(scores_of s.h5)" '-0.807,-0.515,-0.976,0.825,nan,1.033'
ok 'scores' combine -q combine --scores a --scores b --by score --weights 1,1 -n 5 -o i.h5 --scores-output s.h5
is 'as they are' "$(scores_of s.h5)" '7.500,12.500,15.500,24.500,nan,33.500'
ok 'one file alone' combine -q combine --scores a -n 2 -o i.h5
is 'ranks as custom does' "$(index_of i.h5)" '5,4'
is 'the parameters are recorded' "$(lineage_of i.h5 | grep -c '"by": "rank", "weights": "1')" 1
exits 64 'an invalid row is not chosen' combine combine --scores a --scores b -n 6 -o x.h5
says 'without being asked for' 'asked for 6 rows, but only 5 are valid'

# --- indices ------------------------------------------------------------------------------------------------------------

printf '%s\n' 4 1 3 1 0 >one
printf '%s\n' 0 5 1 4 >two
ok 'the rows of two indices' combine -q combine --index one --index two -o i.h5
is 'in the order of the first' "$(index_of i.h5)" '4,1,0'
ok 'by scores' combine combine --scores a --index one --index two -n 2 -o i.h5 --scores-output s.h5
is 'the best of them' "$(index_of i.h5)" '4,1'
is 'the scores have no others' "$(scores_of s.h5)" '0.000,0.200,nan,nan,0.800,nan'
is 'which is no fault of theirs' "$(grep -c 'no finite score' "$T/err")" 0
ok 'another method goes on from them' combine -q custom --scores s.h5 --short truncate -n 5 -o i.h5
is 'with the same rows' "$(index_of i.h5)" '4,1,0'
exits 64 'more than there are' combine combine --scores a --index one --index two -n 4 -o x.h5
says 'is an error' 'only 3 are valid'
ok 'or all' combine -q combine --scores a --index one --index two --short truncate -n 4 -o i.h5
is 'of them' "$(index_of i.h5)" '4,1,0'
printf '1\n' >not
ok 'without excluded rows' combine -q combine --scores a --index one --index two --exclude not -o i.h5
is 'two are left' "$(index_of i.h5)" '4,0'
printf '5\n' >three
ok 'nothing in common' combine -q combine --index one --index three -n 0 -o i.h5
is 'is an empty index' "$(h5ls i.h5/index | grep -c '{0')" 1

# --- quotas: sums has 20 rows of 34, turns 14 ---------------------------------------------------------------------------------

seq 34 >up # the last row is the best: turns are
pool()
{
	df-score "$@" --train pool.h5
}
ok 'without quotas' pool combine --scores up -n 14 -o i.h5
says 'one domain gets all' 'chose 14 of 34 rows: sums 0/20, turns 14/14'
ok 'proportional' pool combine --scores up --quota proportional -n 10 -o i.h5
says 'by the largest remainder' 'sums 6/20, turns 4/14'
is 'the best of each, by score' "$(index_of i.h5)" '33,32,31,30,19,18,17,16,15,14'
ok 'named shares' pool combine --scores up --quota turns=1,sums=3 -n 9 -o i.h5
says 'divided by their sum' 'sums 7/20, turns 2/14'
ok 'a domain that is not named' pool combine --scores up --quota sums=1 -n 3 -o i.h5
says 'gets nothing' 'sums 3/20, turns 0/14'
ok 'a percentage' pool combine --scores up --quota sums=0.5,turns=0.5 -n 25% -o i.h5
says 'of all rows' 'sums 4/20, turns 4/14'
exits 64 'a domain with too few' pool combine --scores up --quota turns=0.9,sums=0.1 -n 20 -o x.h5
says 'is named' "domain 'turns': asked for 18 rows, but only 14 are valid"
ok 'cycle' pool combine --scores up --quota turns=0.9,sums=0.1 -n 20 --short cycle -o i.h5
is 'repeats its best, after all first ones' "$(index_of i.h5)" '33,32,31,30,29,28,27,26,25,24,23,22,21,20,19,18,33,32,31,30'
ok 'truncate' pool combine --scores up --quota turns=0.9,sums=0.1 -n 20 --short truncate -o i.h5
says 'takes what there is' 'sums 2/20, turns 14/14'
ok 'replace' pool combine --scores up --quota turns=0.9,sums=0.1 -n 20 --short replace -o i.h5
says 'draws' 'chose 20 of 34 rows: sums 2/20, turns 18/14'
ok 'tokens' pool combine --scores up --quota proportional -n 500tok -o i.h5
says 'both domains' 'sums [1-9][0-9]*/20, turns [1-9][0-9]*/14'
seq 0 2 33 >even
ok 'in the order of an index' pool combine --index even --quota proportional -n 5 -o i.h5
is 'the first of each domain' "$(index_of i.h5)" '0,2,4,20,22'
exits 64 'a domain that there is not' pool combine --scores up --quota sum=1 -n 3 -o x.h5
says 'the nearest is named' "did you mean 'sums'"
for bad in 'sums' 'sums=' 'sums=x' 'sums=-1' 'sums=1,sums=2' 'sums=0' '' ',' 'sums=nan' 'sums=1e999'; do
	exits 64 "shares '$bad'" pool combine --scores up --quota "$bad" -n 3 -o x.h5
	says 'say what is wrong' '^df-score: --quota: '
done
exits 64 'quotas of everything' pool combine --scores up --quota proportional -o x.h5
says 'need an amount' '-n is missing'

# --- and then those that differ --------------------------------------------------------------------------------------

df-embed -q -m $CKPT pool.h5 -o emb.h5
ok 'combine' pool combine -q --scores up --index even --short truncate -n 34 -o i.h5 --scores-output s.h5
ok 'then diverse' df-score diverse --train emb.h5 --scores s.h5 --threshold 0.99999 --short truncate -n 34 -o d.h5
is 'takes the best first' "$(index_of d.h5 | cut -d, -f1)" 32
is_empty 'and none that combine left out' "$(index_of d.h5 | tr , '\n' | awk '$1 % 2')"

# --- refusals -------------------------------------------------------------------------------------------------------------------

exits 64 'nothing to combine' combine combine -n 3 -o x.h5
says 'says what it needs' 'needs --scores FILE, --index FILE or both'
for bad in 1 1,2,3 0,0 '1,' a,b 1e308,1e308; do
	exits 64 "weights '$bad' of two" combine combine --scores a --scores b --weights "$bad" -n 3 -o x.h5
	says 'are refused' '^df-score: --weights: '
done
exits 64 'weights of nothing' combine combine --index one --weights 1 -n 3 -o x.h5
df-score -q random --train pool.h5 -n 3 -o other.h5
exits 65 'an index of other tokens' combine combine --index other.h5 -n 3 -o x.h5
says 'names it' 'other.h5 was made for tokens'
printf '1\n2\n' >few
exits 65 'too few scores' combine combine --scores a --scores few -n 3 -o x.h5
says 'name the file' '^df-score: few: '
exits 66 'no such file' combine combine --scores nowhere -n 3 -o x.h5
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"

done_testing

#!/bin/bash
# df-show --why: what the files say about the choice of a sample, and which file would say more.
# shellcheck disable=SC2046,SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
command -v h5dump >/dev/null || skip_all 'no h5dump here'
. "$SRC/tests/cmd/grad_data.sh"

df-train -q train.yaml --until 5 >setup.log 2>&1
for m in 3 5; do
	df-grad -q -m run/checkpoint-$m --form adam --project 16 pool.h5 -o pool.$m.h5
	df-grad -q -m run/checkpoint-$m --form sgd --project 16 val.h5 -o val.$m.h5
done
less="df-score less -q --train pool.3.h5 --train pool.5.h5 --val val.3.h5 --val val.5.h5 --ckpt-weights 3,1"
ok 'a choice' $less -n 10 -o index.h5 --scores-output scores.h5
text_of index.h5 index | tr ',' '\n' >chosen
text_of scores.h5 score | tr ',' '\n' >scores
text_of scores.h5 rank | tr ',' '\n' >ranks

# why ID OPTION..: as JSON; value KEY: of what it said
why()
{
	ok "why $1${2+, }${*:2}" df-show --json --why "$@"
}
value()
{
	sed -nE 's/.*"'"$1"'": (-?[0-9.e+-]+|"[^"]*"|true|false)[],}].*/\1/p' "$T/out"
}
near()
{
	awk -v a="$2" -v b="$3" 'BEGIN { d = a - b; exit !(a != "" && b != "" && (d < 0 ? -d : d) < 1e-6) }'
	report $? "$1 ($2, $3)"
}

# --- chosen, and not ---

first=$(sed -n 1p chosen)
why $first index.h5
is 'it is chosen' "$(value chosen)" true
is 'its place' "$(value place)" 0
is 'its rank' "$(value rank)" 0
near 'its score' "$(value score)" "$(sed -n $((first + 1))p scores)"
near 'the lowest one' "$(value threshold)" "$(sort -g scores | tail -n 10 | head -n 1)"
last=$(grep -n '^33$' ranks | cut -d: -f1)
last=$((last - 1))
why $last index.h5
is 'it is not chosen' "$(value chosen)" false
is 'its rank' "$(value rank)" 33
ok 'in words' df-show --why $last index.h5
prints 'the verdict' "^index\.h5: sample $last, (sums|turns) row [0-9]+: not chosen, its score is below that of all that were\$"
prints 'its text' '^  text +\.\.".*" > ".*<\|eos\|>.*"$'
prints 'the threshold' '^  score +-?[0-9.e-]+; the lowest that was chosen is '
is 'nothing would tell more' "$(grep -c 'tell more' out)" 0

# --- its influence is LESS's score ---

for id in $first $last 17; do
	why $id index.h5
	near "the mean of the influences of $id" "$(value turns)" "$(sed -n $((id + 1))p scores)"
done
is 'validation rows are of the target' "$(grep -o 'turns row' out | wc -l)" 5
# All six validation rows, one at a time: each one's influence is the score that it alone gives.
influence=$(sed -nE 's/.*"validation": \[\{"id": ([0-9]+), "influence": ([^,]+),.*/\1 \2/p' out)
best=${influence% *}
for id in 0 1 2 3 4 5; do echo "$id$(printf '\t')$([ $id = $best ] && echo best || echo other)"; done >tasks
ok 'each validation row in a subtask' $less --subtasks tasks -n 34 -o one.h5 --scores-output one.s.h5
near 'the score is that of the best one' "${influence#* }" "$(text_of one.s.h5 score | tr ',' '\n' | sed -n 18p)"
ok 'subtasks of a file' df-show --why 17 one.h5
is 'are not shown: which rows are whose is not recorded' "$(grep -c '^  subtask' out)" 0
ok 'the mean of the directions' $less --val-agg cosine-of-mean -n 5 -o mean.h5
ok 'has no influences that add up' df-show --why 17 mean.h5
is 'so none are shown as a score' "$(grep -c '^  subtask' out)" 0

# --- what is not there is asked for ---

mkdir alone
cp index.h5 alone
ok 'the index alone' df-show --why $first alone/index.h5
prints 'it is chosen' ": chosen, place 0 of 10\$"
prints 'the tokens would tell more' '^    the tokens, [0-9a-f]{12}: the text'
prints 'the scores' '^    --scores-output of df-score: rank'
prints 'the projections' '^    the train projections, [0-9a-f]{12}: its influence'
ok 'a sample that is not in it' df-show --why $last alone/index.h5
prints 'its score is not known' '^  score +not known; the lowest that was chosen is '
ok 'as JSON' df-show --json --why $last alone/index.h5
prints 'it says so too' '"more": \["the tokens, '
ok 'the files are named' df-show --why $last alone/index.h5 pool.h5 pool.3.h5 pool.5.h5 val.3.h5 val.5.h5 val.h5
prints 'the score follows from the projections' '^  score +-?[0-9]'
cp pool.h5 val.h5 pool.?.h5 val.?.h5 alone
rm alone/val.5.h5
ok 'one checkpoint is not there' df-show --why $last alone/index.h5
prints 'it is named' '^    the validation projections, [0-9a-f]{12}: '
is 'and there is no half of a sum' "$(grep -c 'subtask\|that it serves' out)" 0

# --- other reasons ---

sed -n 1,3p chosen >no.txt
ok 'an index to exclude' df-score custom -q --train pool.h5 --index no.txt -n 3 -o no.h5
ok 'others' df-score less -q --train pool.3.h5 --val val.3.h5 --exclude no.h5 -n 5 -o rest.h5
ok 'excluded' df-show --why $first rest.h5
prints 'it says so' ': not chosen, it was excluded$'
seq 34 | sed 's/^5$/nan/' >scores.txt
ok 'a score that is none' df-score custom -q --train pool.h5 --scores scores.txt -n 3 -o nan.h5 --scores-output nan.s.h5
ok 'invalid' df-show --why 4 nan.h5
prints 'it says so' ': not chosen, it is invalid: its score is not finite$'
printf '4\n4\n7\n4\n' >again.txt
ok 'several times' df-score custom -q --train pool.h5 --index again.txt -n 4 -o again.h5
ok 'is chosen' df-show --why 4 again.h5
prints 'as often' ': chosen, place 0 of 4 and 2 more$'
ok 'a draw' df-score random -q --train pool.h5 -n 3 -o random.h5
ok 'has no score' df-show --why 0 random.h5
is 'and says none' "$(grep -c '^  score\|tell more' out)" 0

# --- what is like it, and whose neighbour it is ---

has()
{
	df-score --list | grep -q "^$1 "
}
if has semdedup && has near; then
	ok 'embeddings' df-embed -q -m $CKPT pool.h5 -o pool.emb.h5
	ok 'of the target' df-embed -q -m $CKPT val.h5 -o val.emb.h5
	ok 'near-duplicates' df-score semdedup -q --train pool.emb.h5 --eps 0.01 --pairs pairs.h5 -o dedup.h5
	fallen=$(text_of pairs.h5 sample/id | cut -d, -f1)
	cause=$(text_of pairs.h5 neighbour | cut -d, -f1)
	why $fallen dedup.h5
	is 'there is one before it' "$(sed -nE 's/.*"duplicates_before": \[\{"id": ([0-9]+), .*/\1/p' out)" "$cause"
	near 'by the cosine' "$(value cosine)" "$(text_of pairs.h5 distance | cut -d, -f1)"
	ok 'in words' df-show --why $fallen dedup.h5
	prints 'the verdict' ": not chosen, it is a near-duplicate of $cause\$"
	why $cause dedup.h5
	prints 'which has it after it' "\"duplicates_after\": \[.*\"id\": $fallen,"
	ok 'neighbours' df-score near -q --train pool.emb.h5 --query val.emb.h5 --max-k 4 -n 4 --neighbours-output knn.h5 -o near.h5
	id=$(text_of knn.h5 neighbour | cut -d, -f2)
	why $id near.h5
	prints 'whose neighbour it is' '"queries": \[.*"id": 0, "distance": [^,]+, "rank": 1, "text": '
	near 'at this distance' "$(sed -nE 's/.*"id": 0, "distance": ([^,]+), "rank": 1.*/\1/p' out)" "$(text_of knn.h5 distance | cut -d, -f2)"
	ok 'in words' df-show --why $id near.h5
	prints 'the list' '^  target rows whose neighbour it is, .*with the distance:$'
	rm knn.h5
	ok 'without the table' df-show --why $id near.h5
	prints 'it is asked for' '^    --neighbours-output of df-score near: '
else
	skip 'what is like it, and whose neighbour it is' 'no such methods'
fi
if has cluster; then
	ok 'embeddings' df-embed -q -m $CKPT pool.h5 -o pool.emb.h5
	ok 'clusters' df-score cluster -q --train pool.emb.h5 --num-clusters 4 -o reps.h5 --scores-output clusters.h5
	id=$(text_of reps.h5 index | cut -d, -f1)
	why $id reps.h5
	number=$(text_of clusters.h5 cluster | tr ',' '\n' | sed -n $((id + 1))p)
	is 'the cluster' "$(value cluster)" "$number"
	is 'and how many are in it' "$(value cluster_rows)" "$(text_of clusters.h5 cluster | tr ',' '\n' | grep -cx "$number")"
else
	skip 'the cluster' 'no such method'
fi

# --- what cannot be ---

exits 64 'no such sample' df-show --why 34 index.h5
says 'says so' 'pool\.h5: no sample 34 in its 34 rows'
exits 64 'no number' df-show --why x index.h5
says 'says which option' '^df-show: --why: '
exits 65 'not an index' df-show --why 1 pool.h5
exits 66 'no file' df-show --why 1 absent.h5
exits 64 'two things at once' df-show --why 1 --decode 1 index.h5

done_testing

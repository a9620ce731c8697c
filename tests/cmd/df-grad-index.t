#!/bin/bash
# df-grad --index: the rows that an index names have the numbers that they have among all rows; in blocks, shards, after
# an interruption; what an index cannot name.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

# rows FILE COLUMN WIDTH: a line for each row: its id and the numbers of the column, sorted by id
# shellcheck disable=SC2046 # as many words as columns
rows()
{
	paste -d' ' <(text_of "$1" sample/id | tr , '\n') <(text_of "$1" "$2" | tr , '\n' | paste -d, $(yes -- - | head -n "$3")) |
		LC_ALL=C sort
}
# some IDS...: the index of these ids
some()
{
	printf '%s\n' "$@" >ids
	df-score -q static --train pool.h5 --index ids -o some.h5
}
ids='33 5 6 7 5 20 0 21 33 12'
distinct='0 12 20 21 33 5 6 7'
# shellcheck disable=SC2086
ok 'an index with repeated ids' some $ids

for output in '--form adam --project 16:projection:16' '--form sgd --project 16 --type sjlt:projection:16' '--losses:loss:1'; do
	IFS=: read -r how column width <<<"$output"
	# shellcheck disable=SC2086
	df-grad -q -m $CKPT $how pool.h5 -o all.h5 2>err
	# shellcheck disable=SC2086
	ok "$how" df-grad -q -m $CKPT $how --index some.h5 pool.h5 -o got.h5
	is 'each distinct id once' "$(text_of got.h5 sample/id | tr , '\n' | LC_ALL=C sort | tr '\n' ' ')" "$distinct "
	is 'in the order of the tokens' "$(text_of got.h5 sample/id)" '0,5,6,7,12,20,21,33'
	# shellcheck disable=SC2086
	is 'with the numbers that they have among all rows' "$(rows got.h5 $column $width)" \
		"$(LC_ALL=C join <(tr ' ' '\n' <<<"$distinct") <(rows all.h5 $column $width))"
	is 'and their domains' "$(rows got.h5 sample/domain 1)" \
		"$(LC_ALL=C join <(tr ' ' '\n' <<<"$distinct") <(rows all.h5 sample/domain 1))"
done
ok 'unprojected, through a pipe' bash -c "df-grad -q -m $CKPT --form adam --index some.h5 pool.h5 -o - | df-project -q -k 16 - -o piped.h5"
df-grad -q -m $CKPT --form adam --project 16 --index some.h5 pool.h5 -o fused.h5
is 'the same content as projected on the way' "$(id_of piped.h5)" "$(id_of fused.h5)"
is 'and the same lineage' "$(lineage_of piped.h5)" "$(lineage_of fused.h5)"
is 'which names the index' "$(lineage_of fused.h5 | grep -c "\"index\", \"kind\": \"index\", \"id\": \"$(id_of some.h5)\"")" 1
df-show --lineage fused.h5 >lineage
is 'and df-show shows it' "$(grep -c index lineage)" 1

# The tokens in shards, their names out of order.
df-pack -q --dataset-dir data --dataset sums,turns --template alpaca --tokenizer bytes --cutoff-len 128 \
	--holdout turns=6 --holdout-output val2.h5 --neat-packing -o neat.h5 2>err
ok 'rows of packed sequences' df-score -q static --train neat.h5 -n 2 -o neat.index.h5
df-grad -q -m $CKPT --losses neat.h5 -o neat.all.h5
ok 'have their losses' df-grad -q -m $CKPT --losses --index neat.index.h5 neat.h5 -o neat.some.h5
is 'as among all' "$(rows neat.some.h5 loss 1)" "$(rows neat.all.h5 loss 1 | LC_ALL=C sort | head -n 2)"

# --- blocks, threads, shards -------------------------------------------------------------------------------------------

run="df-grad -q -m $CKPT --form adam --project 100 --index some.h5 --block-rows 3 pool.h5"
# shellcheck disable=SC2086
ok 'small blocks' $run -j 1 -o one.h5
# shellcheck disable=SC2086
ok 'on three threads' $run -j 3 -o three.h5
same 'the same bytes' one.h5 three.h5
# shellcheck disable=SC2086
ok 'poison' $run --device poison -o poison.h5
is 'the same content' "$(id_of poison.h5)" "$(id_of one.h5)"
for i in 3 1 2; do
	# shellcheck disable=SC2086
	ok "part $i of 3" $run --shard $i/3 -o part.h5
done
ok 'the parts are whole' df-show --check part.h5
ok 'and link' df-show --link=linked.h5 part.h5
is 'to the same rows' "$(rows linked.h5 projection 100)" "$(rows one.h5 projection 100)"
# shellcheck disable=SC2086
ok 'what it would cost' df-grad -m $CKPT --form adam --project 100 --index some.h5 --dry-run pool.h5
prints 'counts the picked rows' '^rows +8 in [0-9]+ blocks'

# --- interruptions --------------------------------------------------------------------------------------------------------

many="-j 1 -m $CKPT --form adam --project 2000 --index some.h5 --block-rows 1 pool.h5"
# shellcheck disable=SC2086
LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls df-grad -q $many -o calm.h5
half=$(($(cat calls) / 2))
# shellcheck disable=SC2086
{
	exits 137 'killed halfway' env LD_PRELOAD="$BUILD/tests/killat.so" DF_KILL_AT=$half df-grad -q $many -o again.h5
	is_empty 'no result' "$(ls again.h5 2>/dev/null)"
	exits 75 'stopped soon after' env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=3 df-grad -q $many -o again.h5
	is_empty 'no result' "$(ls again.h5 2>/dev/null)"
	ok 'the same command finishes' df-grad $many -o again.h5
	says 'and says that it goes on' 'going on after [0-9]+ rows that were done before'
}
same 'with the bytes of an undisturbed run' again.h5 calm.h5
is_empty 'nothing is left beside' "$(find . -name '*df-work*')"

# Another index is another job: what was done for the first is not taken.
# shellcheck disable=SC2086
exits 137 'killed halfway' env LD_PRELOAD="$BUILD/tests/killat.so" DF_KILL_AT=$half df-grad -q $many -o other.h5
some 1 2 3
# shellcheck disable=SC2086
ok 'another index under the same name' df-grad -q $many -o other.h5
is 'begins anew' "$(text_of other.h5 sample/id)" '1,2,3'

# --- refusals -------------------------------------------------------------------------------------------------------------

df-score -q random --train val.h5 -n 3 -o val.index.h5
exits 65 'an index of other tokens' df-grad -m $CKPT --losses --index val.index.h5 pool.h5 -o x.h5
says 'names both' 'val.index.h5 was made for tokens [0-9a-f]+, but pool.h5 is [0-9a-f]+'
exits 66 'no such index' df-grad -m $CKPT --losses --index nowhere.h5 pool.h5 -o x.h5
exits 65 'not an index' df-grad -m $CKPT --losses --index one.h5 pool.h5 -o x.h5
exits 65 'text' df-grad -m $CKPT --losses --index ids pool.h5 -o x.h5
df-score -q random --train pool.h5 -n 0 -o none.h5
ok 'an empty index' df-grad -m $CKPT --losses --index none.h5 pool.h5 -o none.losses.h5
says 'is warned of' 'none.h5: no rows'
is 'and makes an empty file' "$(h5ls none.losses.h5/loss | grep -c '{0')" 1
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"

done_testing

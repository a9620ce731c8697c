#!/bin/bash
# df-score semdedup and diverse: on embeddings of a model, and what they refuse.  (test_dedup has the examples.)
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

df-embed -q -m $CKPT pool.h5 -o emb.h5
seq 1 34 >scores

index_of()
{
	text_of "$1" index
}
count()
{
	index_of "$1" | tr , '\n' | grep -c .
}

ok 'semdedup' df-score semdedup --train emb.h5 --eps 0.0001 -o kept.h5 --scores-output all.h5 --pairs pairs.h5
says 'how many are alike' '[0-9]+ of 34 rows are too similar to another one'
says 'and the domains of the others' 'chose [0-9]+ of 34 rows: sums [0-9]+/20, turns [0-9]+/14'
is 'rows that stay and pairs are all rows' $(($(count kept.h5) + $(text_of pairs.h5 sample/id | tr , '\n' | grep -c .))) 34
is 'the pairs know what they are' "$(h5dump -a df_kind pairs.h5 | grep -c neighbours)" 1
is 'of which embeddings' "$(lineage_of pairs.h5 | grep -c "$(id_of emb.h5)")" 1
is 'the index, too' "$(lineage_of kept.h5 | grep -c "$(id_of emb.h5)")" 1
is 'none fell to another that fell' "$(
	text_of pairs.h5 neighbour | tr , '\n' | sort -un >causes
	index_of kept.h5 | tr , '\n' | sort -n >kept
	sort kept >kept.sorted && sort causes | comm -23 - kept.sorted | grep -c .
)" 0
ok 'df-show understands the pairs' df-show pairs.h5
for threads in 1 3; do
	ok "$threads threads" df-score -q -j $threads semdedup --train emb.h5 --eps 0.0001 -o j.h5 --scores-output js.h5 --pairs jp.h5
	same 'write the same index' j.h5 kept.h5
	same 'the same scores' js.h5 all.h5
	same 'the same pairs' jp.h5 pairs.h5
done
ok 'the poisoned device' df-score -q --device poison semdedup --train emb.h5 --eps 0.0001 -o j.h5
same 'writes the same' j.h5 kept.h5
embed_shards()
{
	for i in 1 2 3; do df-embed -q -m $CKPT --shard "$i/3" pool.h5 -o part.h5 || return; done
}
ok 'in shards' embed_shards
ok 'of the embeddings' df-score -q semdedup --train 'part.0*.h5' --eps 0.0001 -o j.h5
is 'the same rows' "$(index_of j.h5)" "$(index_of kept.h5)"
ok 'clusters' df-score -q semdedup --train emb.h5 --eps 0.0001 --clusters 4 --max-iter 5 -o c.h5 --scores-output cs.h5
is 'are told' "$(text_of cs.h5 cluster | tr , '\n' | sort -un | tr '\n' ' ')" '0 1 2 3 '
is 'and compare less' "$([ "$(count c.h5)" -ge "$(count kept.h5)" ] && echo yes)" yes
ok "PyTorch's permutation" df-score -q --rng torch semdedup --train emb.h5 --eps 0 --keep random -o t.h5
df-score -q --rng torch random --train pool.h5 -o r.h5
is 'is that of random' "$(index_of t.h5)" "$(index_of r.h5)"
exits 64 'but not without draws' df-score --rng torch semdedup --train emb.h5 --eps 0.1 -o x.h5
ok 'an amount of tokens' df-score -q semdedup --train emb.h5 --eps 0.0001 -n 250tok --tokens pool.h5 -o tok.h5
is 'is the beginning' "$(index_of tok.h5)" "$(index_of kept.h5 | cut -d, -f1-"$(count tok.h5)")"
head -n 3 kept >exclude
ok 'excluded rows' df-score -q semdedup --train emb.h5 --eps 0.0001 --exclude exclude -o ex.h5
is 'are not there' "$(index_of ex.h5 | tr , '\n' | grep -cxFf exclude)" 0

ok 'diverse' df-score -q diverse --train emb.h5 --scores scores --threshold 0.9999 -n 5 -o d.h5 --pairs dp.h5
is 'the highest score first' "$(index_of d.h5 | cut -d, -f1)" 33
exits 73 'an index that cannot be made' df-score diverse --train emb.h5 --scores scores -n 5 -o no/x.h5 --pairs xp.h5
is_empty 'there are no pairs either' "$(ls xp.h5* 2>/dev/null)"
ok 'without pairs it ends early' df-score -q diverse --train emb.h5 --scores scores --threshold 0.9999 -n 5 -o d2.h5
is 'with the same' "$(index_of d2.h5)" "$(index_of d.h5)"
ok 'semdedup by score' df-score -q semdedup --train emb.h5 --keep score --scores scores --eps 0.0001 -n 5 -o d3.h5
is 'is the same' "$(index_of d3.h5)" "$(index_of d.h5)"
ok 'more than there are' df-score diverse --train emb.h5 --scores scores --threshold 0 -n 30 -o d4.h5
says 'takes what there is' 'asked for 30 rows, took all'
exits 64 'unless it must not' df-score diverse --train emb.h5 --scores scores --threshold 0 -n 30 --short error -o x.h5
ok 'no rows' df-score -q diverse --train emb.h5 --scores scores -n 0 -o none.h5
is 'an empty index' "$(h5ls none.h5/index | grep -c '{0')" 1

exits 64 'semdedup without --eps' df-score semdedup --train emb.h5 -o x.h5
says 'asks for it' 'needs --eps'
exits 64 'a negative one' df-score semdedup --train emb.h5 --eps -0.1 -o x.h5
exits 64 'diverse without scores' df-score diverse --train emb.h5 -o x.h5
exits 64 'scores without --keep score' df-score semdedup --train emb.h5 --eps 0.1 --scores scores -o x.h5
exits 65 'tokens instead of embeddings' df-score semdedup --train pool.h5 --eps 0.1 -o x.h5
exits 64 'the pairs would replace the embeddings' df-score semdedup --train emb.h5 --eps 0.1 --pairs emb.h5 -o x.h5
exits 64 'DataFlex has no such method' df-score --compat dataflex semdedup --train emb.h5 --eps 0.1 -o x.h5
df-score -q random --train val.h5 -n 6 -o other.h5
exits 65 'scores of other tokens' df-score diverse --train emb.h5 --scores other.h5 -o x.h5

done_testing

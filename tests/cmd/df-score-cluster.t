#!/bin/bash
# df-score cluster and cluster-less on real files: embeddings, clusters, gradients of representatives, an index; the same
# on all devices and threads, with representatives in shards; with a cluster for each row it is LESS.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

df-embed -q -m $CKPT pool.h5 -o emb.h5
df-grad -q -m $CKPT --project 64 val.h5 -o val.proj.h5

ok 'clusters' df-score cluster --train emb.h5 --cluster-size 5 -o reps.h5 --scores-output clusters.h5
says 'their number and sizes' '7 clusters of [0-9]+ to [0-9]+ rows'
is 'a cluster of each row' "$(h5ls clusters.h5/cluster)" 'cluster                  Dataset {34}'
is 'none is beyond the seventh' "$(text_of clusters.h5 cluster | tr , '\n' | awk '$1 > 6' | wc -l)" 0
is 'at most three representatives of each' "$(text_of reps.h5 index | tr , '\n' | while read -r id; do
	text_of clusters.h5 cluster | cut -d, -f$((id + 1))
done | sort | uniq -c | awk '$1 > 3' | wc -l)" 0
for how in '-j 1' '-j 3' '--device poison' '--device reference'; do
	# shellcheck disable=SC2086
	ok "$how" df-score -q $how cluster --train emb.h5 --cluster-size 5 -o r.h5 --scores-output c.h5
	same 'the same index' r.h5 reps.h5
	same 'and the same clusters' c.h5 clusters.h5
done
ok 'another step' df-score -q cluster --train emb.h5 --clusters clusters.h5 --step 3 -o reps3.h5 --scores-output c3.h5
is 'has the same clusters' "$(text_of c3.h5 cluster)" "$(text_of clusters.h5 cluster)"
is 'and other representatives' "$([ "$(text_of reps3.h5 index)" = "$(text_of reps.h5 index)" ] || echo other)" other
for way in spherical_kmeans farthest_first lsh random; do
	for kind in nearest farthest mixed; do
		ok "$way, $kind" df-score -q cluster --train emb.h5 --clustering $way --representatives $kind --cluster-size 5 -o r.h5
	done
done

# --- the second stage ---------------------------------------------------------------------------------------------------

less()
{
	df-score -q "$@" --val val.proj.h5 -n 8
}
df-grad -q -m $CKPT --form adam --project 64 --index reps.h5 pool.h5 -o reps.proj.h5
ok 'cluster-less' df-score cluster-less --train clusters.h5 --reps reps.proj.h5 --val val.proj.h5 -n 8 -o index.h5 \
	--scores-output scores.h5
says 'the domains of the choice' 'chose 8 of 34 rows: sums [0-9]+/20, turns [0-9]+/14'
is 'members of a cluster have one score' "$(paste -d' ' <(text_of scores.h5 cluster | tr , '\n') <(text_of scores.h5 score | tr , '\n') |
	sort -u | wc -l)" 7
is 'the index begins with the best rank' "$(text_of index.h5 index | cut -d, -f1)" \
	"$(text_of scores.h5 rank | tr , '\n' | grep -nx 0 | awk -F: '{ print $1 - 1 }')"
df-show --lineage index.h5 >lineage
df-embed -q -m "$SRC/tests/golden/embed/bert" --dataset-dir data --dataset sums,turns --rows pool.h5 --template alpaca -o bert.h5
df-score -q cluster --train bert.h5 --cluster-size 5 -o b.reps.h5 --scores-output b.clusters.h5
df-grad -q -m $CKPT --form adam --project 64 --index b.reps.h5 pool.h5 -o b.proj.h5
ok "clusters of an embedding model's vectors" df-score -q cluster-less --train b.clusters.h5 --reps b.proj.h5 --val val.proj.h5 -n 8 -o b.h5
checkpoint_of()
{
	lineage_of "$1" | grep -o '"kind": "checkpoint", "id": "[0-9a-f]*' | head -n 1
}
is 'the checkpoint of the choice is that of the gradients' "$(checkpoint_of b.h5)" "$(checkpoint_of val.proj.h5)"
is 'the lineage has the index of the representatives' "$(grep -c 'index  reps.h5: index, ' lineage)" 1
for how in '-j 1' '-j 3' '--device poison'; do
	# shellcheck disable=SC2086
	ok "$how" less $how cluster-less --train clusters.h5 --reps reps.proj.h5 -o i.h5
	same 'the same index' i.h5 index.h5
done
for i in 2 1; do
	df-grad -q -m $CKPT --form adam --project 64 --index reps.h5 --block-rows 4 --shard $i/2 pool.h5 -o part.h5
done
ok 'representatives in two parts' less cluster-less --train clusters.h5 --reps part.h5 -o i.h5
same 'the same index' i.h5 index.h5
ok 'one subtask: the mean is the same' less cluster-less --agg mean --train clusters.h5 --reps reps.proj.h5 -o i.h5
is 'in every row' "$(text_of i.h5 index)" "$(text_of index.h5 index)"
ok 'as DataFlex' less cluster-less --compat dataflex --train clusters.h5 --reps reps.proj.h5 -o i.h5
is 'it is the mean' "$(lineage_of i.h5 | grep -c 'agg.*mean')" 1

# A cluster for each row, with the row as its representative: LESS itself.
df-grad -q -m $CKPT --form adam --project 64 pool.h5 -o pool.proj.h5
df-score -q cluster --train emb.h5 --clustering random --num-clusters 34 -o all.h5 --scores-output all.c.h5
df-score -q less --train pool.proj.h5 --val val.proj.h5 -o less.h5
ok 'a cluster for each row' df-score -q cluster-less --train all.c.h5 --reps pool.proj.h5 --val val.proj.h5 -o i.h5
is 'is LESS' "$(text_of i.h5 index)" "$(text_of less.h5 index)"
is 'with its scores' "$(paste -d' ' <(text_of i.h5 score | tr , '\n') <(text_of less.h5 score | tr , '\n') |
	awk '{ d = $1 - $2; if (d > 1e-6 || d < -1e-6) bad++ } END { print NR, bad + 0 }')" '34 0'

# --- refusals -----------------------------------------------------------------------------------------------------------

exits 64 '40 of 34' df-score cluster-less --train clusters.h5 --reps reps.proj.h5 --val val.proj.h5 -n 40 -o x.h5
says 'is an error' 'asked for 40 rows, but only 34 are valid'
exits 64 'no representatives' df-score cluster-less --train clusters.h5 --val val.proj.h5 -o x.h5
says 'they are asked for' 'needs --reps FILE'
exits 65 'scores without clusters' df-score cluster-less --train scores.h5 --reps val.proj.h5 --val val.proj.h5 -o x.h5
says 'representatives of other tokens' "different inputs: 'tokens'"
df-score -q less --train pool.proj.h5 --val val.proj.h5 -o x1.h5 --scores-output plain.h5
exits 65 'a scores file without clusters' df-score cluster-less --train plain.h5 --reps reps.proj.h5 --val val.proj.h5 -o x.h5
says 'says what makes them' 'plain.h5: no clusters are in it: df-score cluster --scores-output makes such a file'
df-train -q train.yaml output_dir=run2 --until 1
df-grad -q -m run2/checkpoint-1 --project 64 val.h5 -o other.proj.h5
exits 65 'a target of another checkpoint' df-score cluster-less --train clusters.h5 --reps reps.proj.h5 --val other.proj.h5 -o x.h5
says 'says so' checkpoint
exits 65 'embeddings that are none' df-score cluster --train pool.proj.h5 -o x.h5
exits 69 "PyTorch's directions" df-score cluster --rng torch --clustering lsh --train emb.h5 -o x.h5
exits 64 'clusters twice' df-score cluster --train emb.h5 --clusters clusters.h5 --num-clusters 3 -o x.h5
says 'one of the two' 'the clusters are there already'
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"

done_testing

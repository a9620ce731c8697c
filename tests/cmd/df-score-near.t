#!/bin/bash
# df-score near, tsds and rds on df-embed's files: from the command line to the index.  The arithmetic and hostile numbers
# are in tests/unit/test_select_near.c.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

df-embed -q -m $CKPT pool.h5 -o pool.emb.h5
df-embed -q -m $CKPT val.h5 -o val.emb.h5

index_of()
{
	text_of "$1" index
}
# n_of FILE DATASET: its length
n_of()
{
	h5ls "$1/$2" | sed -n 's/.*{\([0-9]*\).*/\1/p'
}

ok 'the methods' df-score --list
prints 'near reads embeddings' '^near  +embeddings, neighbours +no +embeddings '
prints 'so does tsds' '^tsds  +embeddings, neighbours +no +embeddings '
prints 'and rds' '^rds  +embeddings +yes +embeddings '

# --- one search, many choices ------------------------------------------------------------------------------------------

ok 'near' df-score near --train pool.emb.h5 --query val.emb.h5 -n 8 -o near.h5 --neighbours-output table.h5
says 'the domains of the choice' 'chose 8 of 34 rows: sums [0-9]+/20, turns [0-9]+/14'
is 'a row of neighbours for each query' "$(h5ls table.h5/neighbour)" 'neighbour                Dataset {6, 34}'
ok 'near by the table' df-score -q near --train pool.emb.h5 --neighbours table.h5 -n 8 -o again.h5
is 'chooses the same' "$(index_of again.h5)" "$(index_of near.h5)"
ok 'tsds by the table' df-score -q tsds --train pool.emb.h5 --neighbours table.h5 -n 8 -o tsds.h5 --scores-output p.h5
ok 'tsds' df-score -q tsds --train pool.emb.h5 --query val.emb.h5 -n 8 -o again.h5 --scores-output p2.h5
is 'chooses the same' "$(index_of again.h5)" "$(index_of tsds.h5)"
is 'with the same probabilities' "$(text_of p2.h5 probability)" "$(text_of p.h5 probability)"
ok 'another step' df-score -q tsds --train pool.emb.h5 --neighbours table.h5 -n 8 --step 1 -o again.h5
is 'has other draws' "$([ "$(index_of tsds.h5)" = "$(index_of again.h5)" ] || echo differs)" differs
ok 'rds' df-score -q rds --train pool.emb.h5 --query val.emb.h5 -n 8 -o rds.h5
is 'on vectors of length one it is near' "$(index_of rds.h5)" "$(index_of near.h5)"
ok 'rds by the best' df-score -q rds --agg max --train pool.emb.h5 --query val.emb.h5 -n 8 -o max.h5 --scores-output s.h5
is 'scores every row' "$(n_of s.h5 score)" 34
exits 64 'near has no scores' df-score -q near --train pool.emb.h5 --query val.emb.h5 -n 8 --scores-output x.h5
says 'and says so' 'without scores'

# --- shards, threads, devices: the same choice ----------------------------------------------------------------------------

mkdir shards
for i in 1 2 3; do df-embed -q -m $CKPT pool.h5 --shard $i/3 -o shards/pool.emb.h5; done
for method in near tsds rds; do
	ok "$method of shards" df-score -q $method --train shards/pool.emb.00003* shards/pool.emb.00001* \
		shards/pool.emb.00002* --query val.emb.h5 -n 8 -o shards.h5
	is 'chooses the same' "$(index_of shards.h5)" "$(index_of $method.h5)"
	for device in openblas poison; do
		ok "$method on $device, one thread" df-score -q -j 1 --device $device $method --train pool.emb.h5 \
			--query val.emb.h5 -n 8 -o device.h5
		is 'chooses the same' "$(index_of device.h5)" "$(index_of $method.h5)"
	done
done

# --- amounts ---------------------------------------------------------------------------------------------------------------

for method in near tsds rds; do
	ok "$method: an amount of tokens" df-score -q $method --train pool.emb.h5 --query val.emb.h5 --tokens pool.h5 \
		-n 400tok -o tokens.h5
	n=$(n_of tokens.h5 index)
	ok 'as many rows' df-score -q $method --train pool.emb.h5 --query val.emb.h5 -n "$n" -o rows.h5
	is 'are the same ones' "$(index_of tokens.h5)" "$(index_of rows.h5)"
	ok "$method: without some rows" df-score -q $method --train pool.emb.h5 --query val.emb.h5 --exclude rows.h5 -n 4 -o 4.h5
	is 'which are not chosen' "$(comm -12 <(index_of rows.h5 | tr , '\n' | sort) <(index_of 4.h5 | tr , '\n' | sort) | wc -l)" 0
done
exits 64 'tsds, independent draws of tokens' df-score -q tsds --sampling multinomial --train pool.emb.h5 --query val.emb.h5 \
	--tokens pool.h5 -n 100tok -o x.h5
ok 'two neighbours of each query, the others at random' df-score -q near --max-k 2 --short fill-random --train pool.emb.h5 \
	--query val.emb.h5 -n 34 -o fill.h5
is 'all rows once' "$(index_of fill.h5 | tr , '\n' | sort -un | wc -l)" 34
exits 64 'fill-random of another method' df-score -q random --short fill-random --train pool.h5 -n 40 -o x.h5
says 'has no meaning' 'random chooses among all rows already'
ok 'too few neighbours' df-score tsds --max-k 2 --alpha 0 --train pool.emb.h5 --query val.emb.h5 -n 2 -o x2.h5
says 'are told' 'larger --max-k'

# --- what does not belong together --------------------------------------------------------------------------------------------

df-train -q train.yaml output_dir=run2 --until 1
df-embed -q -m run2/checkpoint-1 val.h5 -o other.h5
df-embed -q -m $CKPT --pooling mean val.h5 -o mean.h5
df-embed -q -m $CKPT --layer 1 val.h5 -o layer.h5
for method in near tsds rds; do
	for other in other:checkpoint mean:pooling layer:layer; do
		exits 65 "$method: embeddings of another ${other#*:}" df-score $method --train pool.emb.h5 \
			--query "${other%:*}.h5" -n 3 -o x.h5
		says 'are refused by name' "'${other#*:}'"
	done
	exits 65 "$method of tokens" df-score $method --train pool.h5 --query val.h5 -n 3 -o x.h5
	exits 64 "$method without a target" df-score $method --train pool.emb.h5 -n 3 -o x.h5
	exits 64 "$method with two" df-score $method --train pool.emb.h5 --query val.emb.h5 --query val.emb.h5 -n 3 -o x.h5
done
exits 65 'neighbours among other rows' df-score near --train other.h5 --neighbours table.h5 -n 3 -o x.h5
says 'are refused' 'has neighbours among'
exits 64 'a table and a target' df-score near --train pool.emb.h5 --neighbours table.h5 --query val.emb.h5 -n 3 -o x.h5
exits 64 'an impossible alpha' df-score tsds --alpha 1.5 --train pool.emb.h5 --query val.emb.h5 -n 3 -o x.h5
exits 64 'no neighbours' df-score near --max-k 0 --train pool.emb.h5 --query val.emb.h5 -n 3 -o x.h5
exits 64 'a table over its input' df-score near --train pool.emb.h5 --query val.emb.h5 --neighbours-output val.emb.h5 -n 3 -o x.h5
exits 73 'a table that cannot be made' df-score near --train pool.emb.h5 --query val.emb.h5 --neighbours-output no/t.h5 -n 3 -o x.h5
exits 73 'an index that cannot be made' df-score near --train pool.emb.h5 --query val.emb.h5 --neighbours-output t.h5 -n 3 -o no/x.h5
exits 64 'more than the neighbours' df-score near --max-k 1 --train pool.emb.h5 --query val.emb.h5 --neighbours-output t.h5 -n 34 -o x.h5
is_empty 'nothing appears under the names' "$(ls x.h5 t.h5 2>/dev/null)"

# --- a disk that is full when the neighbours are written ---------------------------------------------------------------------

shim=$BUILD/tests/diskfull.so
size=$(wc -c <table.h5)
if [ -z "${DF_SANITIZED-}" ]; then
	for n in 0 200 $((size / 2)); do
		exits $((n ? 74 : 73)) "room for $n bytes" env LD_PRELOAD="$shim" DF_DISK_BYTES=$n df-score -q near \
			--train pool.emb.h5 --query val.emb.h5 -n 8 -o x.h5 --neighbours-output full.h5
		says 'is told with the name' 'full\.h5.*[Nn]o space'
		is_empty 'nothing appears under either name' "$(ls x.h5 full.h5 2>/dev/null)"
	done
	ok 'now there is room' df-score -q near --train pool.emb.h5 --query val.emb.h5 -n 8 -o x.h5 --neighbours-output full.h5
	same 'the bytes of an undisturbed run' full.h5 table.h5
fi

done_testing

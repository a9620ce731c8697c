#!/bin/sh
# TSDS on a Slurm cluster: the stages of ../tsds.sh as jobs, each after those that it needs, and the embeddings of the
# pool as an array.  The files and their bytes are those of tsds.sh.
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 SHARDS=16 pipelines/slurm/tsds.sh
#
# jobs.sh has what the scripts share, and says how to go on after a failure.
# shellcheck source=pipelines/slurm/jobs.sh
. "$(dirname "$0")/jobs.sh"

pack
warm_up

score=
if ! [ -e "$OUT/index.h5" ]; then
	# Hidden states of the model itself; MODEL may name an embedder, or a larger model.
	embed=$(array embed "$pack $warm" "$OUT/pool.emb.h5" df-embed -m "${MODEL:-$WARM}" --pooling position "$OUT/pool.h5")
	query=$(stage query "$pack $warm" "$OUT/val.emb.h5" df-embed -m "${MODEL:-$WARM}" --pooling position "$OUT/val.h5")
	score=$(stage score "$embed $query" "$OUT/index.h5" df-score tsds --train "$(parts "$OUT/pool.emb.h5")" \
		--query "$OUT/val.emb.h5" -n "$SELECT")
fi

train_and_evaluate "$score"

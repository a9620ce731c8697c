#!/bin/sh
# cluster-LESS on a Slurm cluster: the stages of ../cluster-less.sh as jobs, each after those that it needs; the
# embeddings of the pool and the gradients of the representatives as arrays.  The files and their bytes are those of
# cluster-less.sh.
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 SHARDS=16 pipelines/slurm/cluster-less.sh
#
# jobs.sh has what the scripts share, and says how to go on after a failure.
# shellcheck source=pipelines/slurm/jobs.sh
. "$(dirname "$0")/jobs.sh"

pack
warm_up

score=
if ! [ -e "$OUT/index.h5" ]; then
	embed=
	[ -e "$OUT/reps.h5" ] ||
		embed=$(array embed "$pack $warm" "$OUT/pool.emb.h5" df-embed -m "${MODEL:-$WARM}" "$OUT/pool.h5")
	cluster=$(stage cluster "$embed" "$OUT/reps.h5" df-score cluster --train "$(parts "$OUT/pool.emb.h5")" \
		--per-cluster "${PER_CLUSTER:-3}" --scores-output "$OUT/clusters.h5")

	# Gradients of the representatives only.
	grad=$(array grad "$pack $warm $cluster" "$OUT/reps.proj.h5" df-grad -m "$WARM" --form adam --project "$DIM" \
		--index "$OUT/reps.h5" "$OUT/pool.h5")
	val=$(stage val "$pack $warm" "$OUT/val.proj.h5" df-grad -m "$WARM" --form sgd --project "$DIM" "$OUT/val.h5")
	score=$(stage score "$grad $val" "$OUT/index.h5" df-score cluster-less --train "$OUT/clusters.h5" \
		--reps "$(parts "$OUT/reps.proj.h5")" --val "$OUT/val.proj.h5" -n "$SELECT")
fi

train_and_evaluate "$score"

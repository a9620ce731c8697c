#!/bin/sh
# LESS on a Slurm cluster: the stages of ../less.sh as jobs, each after those that it needs, and the gradients of the pool
# as an array.  The files and their bytes are those of less.sh.
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 SHARDS=16 pipelines/slurm/less.sh
#
# jobs.sh has what the scripts share, and says how to go on after a failure.
# shellcheck source=pipelines/slurm/jobs.sh
. "$(dirname "$0")/jobs.sh"

pack
warm_up

score=
if ! [ -e "$OUT/index.h5" ]; then
	grad=$(array grad "$pack $warm" "$OUT/pool.proj.h5" df-grad -m "$WARM" --form adam --project "$DIM" "$OUT/pool.h5")
	val=$(stage val "$pack $warm" "$OUT/val.proj.h5" df-grad -m "$WARM" --form sgd --project "$DIM" "$OUT/val.h5")
	score=$(stage score "$grad $val" "$OUT/index.h5" df-score less --train "$(parts "$OUT/pool.proj.h5")" \
		--val "$OUT/val.proj.h5" -n "$SELECT")
fi

train_and_evaluate "$score"

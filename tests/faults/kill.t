#!/bin/bash
# kill -9 at 30 random instants of df-pack, df-train and df-score, and in the middle of their changes to the file system:
# nothing partial under a final name, and the same command again gives the bytes of an undisturbed run.  SIGTERM: status
# 75, and the same.  kill-grad.t does it to df-grad and df-project.
# shellcheck disable=SC2086,SC2154 # commands are words; they are kill.sh's
. "$(dirname "$0")/../cmd/lib.sh"
. "$SRC/tests/faults/kill.sh"

ok 'projections' df-grad -q -m $m --form adam --project 512 pool.h5 -o pool.proj.h5
ok 'the target projected' df-grad -q -m $m --form sgd --project 512 val.h5 -o val.proj.h5

torture 'df-pack' pack.h5 0 $pack --dataset $sets -j 2 -o pack.h5
torture 'df-pack, two outputs' 'pack2.h5 held.h5' 0 \
	$pack --dataset $sets -j 2 --holdout add=50 --holdout-output held.h5 -o pack2.h5
torture 'df-pack, rows without prompts' 'pack3.h5 answers.h5' 0 \
	$pack --dataset $sets -j 2 --no-prompt answers.h5 -o pack3.h5
torture 'df-train' trained 60 $train output_dir=trained
torture 'df-score' 'index.h5 scores.h5' 0 \
	df-score less --train pool.proj.h5 --val val.proj.h5 -n 100 -o index.h5 --scores-output scores.h5
stopped 'df-train' trained $train output_dir=trained

done_testing

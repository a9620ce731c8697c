#!/bin/bash
# kill -9 and SIGTERM to df-sample: as kill.t; of tokens, what was done before is not done again.
# shellcheck disable=SC2086,SC2154 # commands are words; they are kill.sh's
. "$(dirname "$0")/../cmd/lib.sh"
. "$SRC/tests/faults/kill.sh"

n_kills=$(((n_kills + 2) / 3))
n_calls=$(((n_calls + 1) / 2))
draw="df-sample -j 1 -m $m pool.h5 -n 2 --temperature 1 --top-p 0.9 --max-new-tokens 24 --slots 16"
torture 'df-sample' drawn.h5 40 $draw -o drawn.h5
n_kills=$(((n_kills + 2) / 3))
torture 'df-sample, lines' drawn.jsonl 0 $draw --json drawn.jsonl
stopped 'df-sample' drawn.h5 $draw -o drawn.h5

done_testing

#!/bin/bash
# kill.t for df-score near and tsds, which write the neighbours that they find as a file of its own.
# shellcheck disable=SC2086,SC2154 # commands are words; they are kill.sh's
. "$(dirname "$0")/../cmd/lib.sh"
. "$SRC/tests/faults/kill.sh"

ok 'embeddings' df-embed -q -m $m pool.h5 -o pool.emb.h5
ok 'of the target' df-embed -q -m $m val.h5 -o val.emb.h5

for method in near tsds; do
	torture "df-score $method" 'index.h5 table.h5' 0 \
		df-score $method --train pool.emb.h5 --query val.emb.h5 -n 100 -o index.h5 --neighbours-output table.h5
	rm -f index.h5 table.h5
done

done_testing

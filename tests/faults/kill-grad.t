#!/bin/bash
# kill -9 and SIGTERM to df-grad and df-project: as kill.t, and what was done before is not done again.
# shellcheck disable=SC2086,SC2154 # commands are words; they are kill.sh's
. "$(dirname "$0")/../cmd/lib.sh"
. "$SRC/tests/faults/kill.sh"

k=128
[ -z "${DF_SANITIZED-}" ] || k=16
ok 'gradients' df-grad -q -m $m --form sgd pool.h5 -o pool.grad.h5
ok 'a stream of them' sh -c "df-grad -q -m $m --form sgd --block-rows 16 pool.h5 -o - | cat >pool.stream"
cat >from_stream <<END
#!/bin/sh
exec df-project -j 1 -k $((2 * k)) - -o stream.proj.h5 <pool.stream
END
chmod +x from_stream

torture 'df-grad' grad.h5 60 df-grad -j 2 -m $m --form adam --project $k --block-rows 16 pool.h5 -o grad.h5
torture 'df-project' proj.h5 30 df-project -j 1 -k $((2 * k)) pool.grad.h5 -o proj.h5
n_kills=$(((n_kills + 2) / 3))
torture 'df-project, a stream' stream.proj.h5 30 ./from_stream
stopped 'df-grad' grad.h5 df-grad -j 1 -m $m --form adam --project $k --block-rows 8 pool.h5 -o grad.h5
stopped 'df-project' stream.proj.h5 ./from_stream

done_testing

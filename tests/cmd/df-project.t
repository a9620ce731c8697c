#!/bin/bash
# df-project: streams and files in, faults of both.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

df-grad -q -m $CKPT --block-rows 7 pool.h5 -o grad.h5
df-grad -q -m $CKPT --block-rows 7 pool.h5 -o - | cat >stream
for i in 1 2 3; do
	df-grad -q -m $CKPT --block-rows 7 --shard $i/3 pool.h5 -o parts.h5
done

ok 'from a file' df-project -q -k 90 grad.h5 -o file.h5
ok 'from a stream' df-project -q -k 90 - -o stream.h5 <stream
ok 'from shards' df-project -q -k 90 parts.0*.h5 -o parts.proj.h5
ok 'on one thread' df-project -q -j 1 -k 90 grad.h5 -o one.h5
same 'a stream gives the bytes of the file' stream.h5 file.h5
same 'so do shards' parts.proj.h5 file.h5
same 'and any number of threads' one.h5 file.h5
is 'k columns' "$(h5ls file.h5/projection)" 'projection               Dataset {34, 90}'
is 'inputs are carried over' "$(h5dump -a df_inputs file.h5 | grep '(0)')" "$(h5dump -a df_inputs grad.h5 | grep '(0)')"

df-project -q -k 40 grad.h5 --scale none -o wide.h5
df-project -q -k 12 grad.h5 --scale none -o narrow.h5
h5dump -y -m %.9g -w 0 -d projection -s 0,0 -c 34,12 wide.h5 | sed -n '/DATA {/,$p' >wide.txt
h5dump -y -m %.9g -w 0 -d projection -s 0,0 -c 34,12 narrow.h5 | sed -n '/DATA {/,$p' >narrow.txt
is 'the matrix for 12 columns begins that for 40' "$(grep -c . wide.txt) $(cmp wide.txt narrow.txt && echo same)" \
	"$(grep -c . narrow.txt) same"

ok 'a stream into a stream' sh -c 'df-project -q -k 9 - -o - <stream | cat >proj.stream'
ok 'poison' df-project -q --device poison -k 90 grad.h5 -o poison.h5
is 'the poisoned backend gives the same content' "$(id_of poison.h5)" "$(id_of file.h5)"

head -c "$(($(wc -c <stream) / 2))" stream >half
exits 65 'half a stream' df-project -q -k 90 - -o x.h5 <half
says 'is truncated' 'truncated'
exits 65 'no stream at all' df-project -q -k 90 - -o y.h5 </dev/null
exits 65 'not gradients' df-project -q -k 90 pool.h5 -o x.h5
says 'says what it is' 'tokens'
exits 64 'no dimensions' df-project -q -k 0 grad.h5 -o x.h5
exits 64 'a scale of what has none' df-project -q -k 40 --type sjlt --scale none grad.h5 -o x.h5
says 'says so' 'scale is for --type rademacher'
exits 64 'more nonzeros than columns' df-project -q -k 3 --type sjlt grad.h5 -o x.h5
exits 66 'no file' df-project -q -k 9 nothing.h5 -o x.h5
is_empty 'nothing appears under the name' "$(ls x.h5 y.h5 2>/dev/null)"
ok 'the rest of the stream finishes the job' df-project -q -k 90 - -o x.h5 <stream
same 'with the same bytes' x.h5 file.h5

done_testing

#!/bin/sh
# The library without the commands, and its file without the library.
. "$(dirname "$0")/lib.sh"

ok 'a program that links the library alone' "$BUILD/tests/api_example" x.h5
prints 'reads what it wrote' '^read [0-9a-f]{32}: 100 rows, mean loss 0\.[45]'
id=$(sed -n 's/^wrote //p' "$T/out")
prints 'the digest of the reader is that of the writer' "^read ${id:-none}:"
ok 'h5dump reads the file' h5dump -d /loss -s 0 -c 3 x.h5
prints 'the first values are there' '\(0\): 0\.[0-9]+, 0\.[0-9]+, 0\.[0-9]+'
exits 73 'an error is a status' "$BUILD/tests/api_example" none/x.h5
says 'and one line' '^api_example: none/x.h5: cannot create: No such file or directory$'

if [ -e "$BUILD/tests/api_example_so" ]; then
	ok 'the same with the shared library' "$BUILD/tests/api_example_so" y.h5
	prints 'reads the same' "^read ${id:-none}: 100 rows"
	is 'it needs that one alone of ours' "$(readelf -d "$BUILD/tests/api_example_so" | grep -c 'NEEDED.*\[libdf')" 1
	is 'writes the same' "$(wc -c <x.h5)" "$(wc -c <y.h5)"
fi
done_testing

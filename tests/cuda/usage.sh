#!/bin/sh
# usage.sh OBJECT.o ... - what the kernels of these objects use, from their machine code: a line for each kernel and GPU,
# "file:kernel arch instances registers stack shared", the largest of its instances.
#
# shellcheck shell=sh
set -eu
for o in "$@"; do
	cuobjdump -res-usage "$o" 2>/dev/null | awk -v file="$(basename "$o" .o)" '
	# _Z6tensorI9mma_shape...: the name has as many letters as the number says
	function plain(name) {
		sub(/^_Z/, "", name)
		len = name + 0
		sub(/^[0-9]+/, "", name)
		return substr(name, 1, len)
	}
	function value(key) { return match($0, key ":[0-9]+") ? substr($0, RSTART + length(key) + 1, RLENGTH - length(key) - 1) + 0 : 0 }
	function larger(a, b) { return a > b ? a : b }
	/^arch = / { arch = $3 }
	/Function/ { key = file ":" plain($2) " " arch; n[key]++ }
	/REG:/ {
		reg[key] = larger(reg[key], value("REG"))
		stack[key] = larger(stack[key], value("STACK") + value("LOCAL"))
		shared[key] = larger(shared[key], value("SHARED"))
	}
	END { for (k in n) print k, n[k], reg[k], stack[k], shared[k] }' | sort
done

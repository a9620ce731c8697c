#!/bin/bash
# The machine code of the kernels: no spilled registers, tensor cores where they are meant, registers within tests/cuda/budget.
# It needs cuobjdump and nvdisasm, which are also on PyPI (nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm).
. "$(dirname "$0")/lib.sh"

nvcc=$(make -s --no-print-directory -C "$SRC" nvcc-path 2>/dev/null)
objects=$(make -s --no-print-directory -C "$SRC" "BUILD=$BUILD" cuda-objects 2>/dev/null)
for o in $objects; do
	[ -e "$o" ] || objects=
done
[ -n "$objects" ] || skip_all 'no nvcc here, so no kernels for GPUs'
for folder in "${nvcc%/nvcc}" /usr/local/cuda/bin; do
	PATH=$PATH:$folder
done
if [ -n "${VIRTUAL_ENV:-${CONDA_PREFIX-}}" ]; then
	for folder in "${VIRTUAL_ENV:-$CONDA_PREFIX}"/lib/python3*/site-packages/nvidia/*/bin; do
		PATH=$PATH:$folder
	done
fi
for tool in cuobjdump nvdisasm; do
	command -v $tool >/dev/null 2>&1 || skip_all "no $tool here (on PyPI: nvidia-cuda-$tool)"
done

# shellcheck disable=SC2086 # names of objects are words
"$SRC/tests/cuda/usage.sh" $objects >usage
is 'every file has kernels' "$(cut -d: -f1 usage | sort -u | tr '\n' ' ')" \
	"$(for o in $objects; do basename "$o" .o; done | sort -u | tr '\n' ' ')"
is_empty 'no kernel has a stack' "$(awk '$5 > 0 { print $1, $2 ":", $5, "bytes" }' usage)"
grep -v '^#' "$SRC/tests/cuda/budget" >budget
# Of sm_80 to sm_90a: for later ones, which nobody has tuned, ptxas takes more.
is_empty 'registers are within the budget' "$(awk '
	NR == FNR { most[$1] = $2; next }
	$2 ~ /^sm_(8|9)/ && $4 > ($1 in most ? most[$1] : 64) { print $1, $2 ":", $4 }' budget usage)"
is_empty 'which is of kernels that there are' "$(awk 'NR == FNR { is[$1] = 1; next } !($1 in is) { print $1 }' usage budget)"

# One architecture will do for the rest.
arch=$(cut -d' ' -f2 usage | sort -u | grep -x sm_90a || cut -d' ' -f2 usage | sort -u | head -n 1)
for o in $objects; do
	cuobjdump -arch "$arch" -sass "$o" 2>/dev/null | awk -v file="$(basename "$o" .o)" '
	/Function :/ {
		name = $3
		sub(/^_Z/, "", name)
		len = name + 0
		sub(/^[0-9]+/, "", name)
		kernel = file ":" substr(name, 1, len)
		n[kernel]++
	}
	/ (LDL|STL)[. ]/ { spills[kernel]++ }
	/ HMMA[. ]/ { hmma[kernel]++ }
	/ HGMMA[. ]/ { hgmma[kernel]++ }
	/ LDG[. ]/ { loads[kernel]++ }
	END { for (k in n) print k, spills[k] + 0, hmma[k] + 0, hgmma[k] + 0, loads[k] + 0 }'
done >code
is 'the machine code is readable' "$(cut -d' ' -f1 code | sort)" "$(awk -v a="$arch" '$2 == a { print $1 }' usage | sort)"
is_empty 'no register is spilled' "$(awk '$2 > 0 { print $1 ":", $2 }' code)"
awk -v a="$arch" '$3 == "HMMA" || ($3 == "HGMMA" && a == "sm_90a") { print $1 }' budget | sort >meant
is 'products are on tensor cores where they are meant to be' "$(awk '$3 + $4 > 0 { print $1 }' code | sort)" "$(cat meant)"

done_testing

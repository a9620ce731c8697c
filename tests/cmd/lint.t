#!/bin/bash
# shellcheck disable=SC2046,SC2086,SC2207,SC2016 # lists of file names are words here; none has a space
# What can be told from the source alone.  `make check` runs the cheap part,
# `make lint` (DF_LINT=all) also the format, clang-tidy and shellcheck.
. "$(dirname "$0")/lib.sh"
cd "$SRC" || exit 1

set_flags()
{
	flags=(-std=c11 -Ilib -Icmd -D_GNU_SOURCE '-DDF_VERSION="0"'
		$(pkg-config --cflags hdf5-serial 2>/dev/null | sed 's/-I/-isystem /g'))
	# what rt.c and lt.c of the CUDA backend need; without it they are left out
	nvcc=$(make -s --no-print-directory nvcc-path 2>/dev/null)
	[ -z "$nvcc" ] || flags+=(-isystem "${nvcc%/bin/nvcc}/include")
}
set_flags

# quiet 'what' CMD ...: passes when CMD prints nothing and succeeds
quiet()
{
	what=$1
	shift
	"$@" >"$T/out" 2>"$T/err"
	status=$?
	if [ $status -eq 0 ] && [ ! -s "$T/out" ] && [ ! -s "$T/err" ]; then
		report 0 "$what"
	else
		report 1 "$what"
		head -n 60 "$T/out" "$T/err" | sed 's/^/# /'
	fi
}

# need TOOL 'what': false, and a skipped case, without the tool
need()
{
	command -v "$1" >/dev/null 2>&1 && return 0
	skip "$2" "no $1 here"
	return 1
}

# A *_kernel.h is not a header but a text that is included once per instruction set.  Kernels' headers are C++.
headers_alone()
{
	{
		find lib cmd -name '*.h' ! -name '*_kernel.h' ! -path 'lib/backend/cuda/*'
		sed -n 's,^#include "\(backend/cuda/.*\)"$,lib/\1,p' lib/backend/cuda/*.c
	} | sort -u | while read -r header; do
		echo "#include \"${header#*/}\"" |
			"${CC:-gcc}" "${flags[@]}" -Wall -Wextra -Werror -I"$(dirname "$header")" -fsyntax-only -x c - ||
			echo "$header does not compile alone"
	done
}
quiet 'each header compiles alone' headers_alone

kernel_headers_alone()
{
	find lib/backend/cuda -name '*.h' | sort | while read -r header; do
		echo "#include \"${header#*/}\"" |
			"${CXX:-g++}" -std=c++17 -Ilib -DDF_EMULATOR -Wall -Wextra -Wno-unused-function -Wno-unused-parameter \
				-Wno-unknown-pragmas -Werror -fsyntax-only -x c++ - ||
			echo "$header does not compile alone"
	done
}
! need g++ 'each header of kernels compiles alone' || quiet 'each header of kernels compiles alone' kernel_headers_alone

# What kernels are written in is simt.h: it is all that the emulator knows.
kernels()
{
	grep -nE '\basm\b|__shared__|__syncthreads|__shfl|__global__|__device__|#include <(cuda|cub|cooperative)|\bstd::|atomicAdd|<<<' \
		$(find lib/backend/cuda -name '*.cu' -o -name '*.h' ! -name simt.h)
	true
}
quiet 'kernels use simt.h only' kernels

symbols()
{
	nm -g --defined-only "$BUILD"/libdf.a | awk 'NF == 3 && $3 !~ /^(df_|__asan|__odr_asan)/ { print $3 }'
}
quiet 'every symbol that libdf.a exports begins with df_' symbols

# What a program or a plug-in can call, it can read about: lib/libdf.exports names functions of the installed headers, all of
# which are there.
exports()
{
	nm -D --defined-only "$BUILD"/libdf.so.0 | awk '{ print $3 }' | sort >"$T/exported"
	printf 'include Makefile\napi: ; @echo $(API)\n' | make -s --no-print-directory -f - api >"$T/headers"
	xargs cat <"$T/headers" | grep -oE '\bdf_[a-z0-9_]+\(' | tr -d '(' | sort -u >"$T/declared"
	comm -23 "$T/exported" "$T/declared" | sed 's/$/: exported, and in no installed header/'
	sed '1,/^{/d; s,/\*.*\*/,,' lib/libdf.exports | grep -oE 'df_[a-z0-9_*]+' | while read -r name; do
		grep -qxE "${name//\*/.*}" "$T/exported" || echo "$name: in lib/libdf.exports, and no such function"
	done
}
quiet 'libdf.so exports functions of the installed headers' exports

# The library does not print, exit or abort: cmd/ decides about all three.
printing()
{
	nm -A -u "$BUILD"/libdf.a |
		awk '$NF ~ /^(exit|_exit|abort|printf|puts|putchar|perror|err|errx|warn|warnx|stdout|stderr)$/ { print $1, $NF }'
}
case $BUILD in
*san) skip 'the library prints nothing and never exits' 'sanitizers add such calls' ;;
*) quiet 'the library prints nothing and never exits' printing ;;
esac

# Arrows point one way.
arrows()
{
	awk '
	BEGIN {
		may["base"] = ""
		may["config"] = may["shard"] = may["safetensors"] = may["token"] = may["backend"] = "base"
		may["torch"] = "base safetensors"
		may["chat"] = "base token"
		may["data"] = "base shard token chat"
		may["model"] = "base shard safetensors torch token backend"
		may["project"] = "base shard backend"
		may["rows"] = "base shard model"
		may["export"] = "base config model"
		may["near"] = "base shard backend"
		may["grad"] = "base shard backend model project"
		may["mix"] = "base shard"
		may["select"] = may["grad"] " near token chat data"
		may["weigh"] = "base model"
		may["embed"] = may["sample"] = "base shard token chat data backend model"
		may["eval"] = may["sample"] " sample rows weigh"
		may["train"] = "base config shard token backend model rows eval mix weigh embed grad project"
		may["plan"] = "base config shard chat data model mix select weigh"
		may["show"] = "base shard token chat data"
	}
	/^#include "[a-z]+\// {
		split(FILENAME, path, "/")
		to = $2
		gsub(/^"|\/.*/, "", to)
		from = path[2]
		if (to != from && index(" " may[from] " ", " " to " ") == 0)
			print FILENAME ":" FNR ": lib/" from " must not know lib/" to
	}' $(find lib -name '*.[ch]')
	# What each room keeps to itself.
	grep -nE '\bhid_t\b|\bhsize_t\b' $(find lib cmd -name '*.h' | grep -v '^lib/shard/')
	grep -nE '\bjson_t\b' $(find lib cmd -name '*.h' | grep -v '^lib/base/json')
	grep -nE '#include [<"](jansson|hdf5|yaml)\.h' $(find cmd -name '*.[ch]' | grep -v '^cmd/prog\.c')
	true
}
quiet 'includes follow the arrows between the rooms' arrows

# A room that grows beyond this has become two.
largest_room()
{
	find lib -name '*.[ch]' -exec awk '
	FNR == 1 { split(FILENAME, path, "/") }
	{ lines[path[2]]++ }
	END { for (room in lines) print lines[room], room }' {} + | awk '
	{ lines[$2] += $1; all += $1 }
	END {
		if (all == 0)
			print "no lines in lib"
		for (room in lines)
			if (lines[room] > 0.15 * all)
				printf "lib/%s: %d of %d lines\n", room, lines[room], all
	}'
}
quiet 'no room has more than 15 % of the library' largest_room

# Files that need each other can be read only together.  What a symbol names is defined in one object, used in others.
circles()
{
	# Of the sources that there are: an older build may have left others.
	objects=$(find lib -name '*.c' ! -path 'lib/shard/plugin/*' ! -path 'lib/backend/cuda/*' | sed "s,\(.*\)\.c$,$BUILD/obj/\1.o,")
	# shellcheck disable=SC2086
	nm -A -g $objects | awk '
	{ object = $1; sub(/:.*/, "", object); kind = $(NF - 1); name = $NF }
	kind == "U" { use[object, name] = 1; next }
	{ home[name] = object }
	END {
		for (both in use) {
			split(both, x, SUBSEP)
			if (x[2] in home && home[x[2]] != x[1])
				print x[1], home[x[2]]
		}
	}' | sort -u | tsort 2>&1 >/dev/null | sed "s,$BUILD/obj/,,"
}
quiet 'no two files of the library need each other' circles

text()
{
	files=$(git ls-files '*.c' '*.h' '*.cu' '*.cc' '*.sh' '*.t' '*.mk' '*.yaml' '*.[1-9]' Makefile 2>/dev/null | grep -v '^tests/golden/')
	[ -n "$files" ] || return 0
	grep -nE '[[:space:]]+$' $files
	grep -nE '\b(TODO|FIXME|XXX)\b' $(echo "$files" | grep -v '^tests/cmd/lint\.t$')
	for file in $(echo "$files" | grep -E '\.([ch]|cu|cc)$'); do
		# A string may be longer: breaking it helps nobody who looks for it.
		expand "$file" | awk -v file="$file" 'length($0) > 120 && !/"/ { print file ":" FNR ": longer than 120 columns" }'
	done
	true
}
quiet 'no trailing space, no loose ends, no line beyond 120 columns' text

# One dialect of C (CONTRIBUTING.md), as far as a pattern can tell.
dialect()
{
	files=$(find lib cmd -name '*.[ch]')
	grep -nE '\bsizeof [^(]|\bsizeof\(\*[a-z]+ ' $files | sed 's/$/	: sizeof(x)/'
	grep -nE '!(str|strn|strcase|strncase|mem)cmp\(' $files | sed 's/$/	: strcmp() == 0/'
	grep -nE '\bint rc = 0|\bif \(!?rc(\)| [&|])' $files | sed 's/$/	: rc is compared with DF_OK/'
	true
}
quiet 'the C is of one dialect' dialect

# Other programs' results stay small: a repository is cloned whole.
golden_size()
{
	du -sk --apparent-size tests/golden | awk '$1 > 10240 { print "tests/golden: " $1 " KiB, of at most 10240" }'
}
quiet 'tests/golden is no larger than 10 MB' golden_size

if need mandoc 'manual pages are well-formed'; then
	pages=$(find man -name '*.[1-9]' | sort)
	[ -z "$pages" ] || quiet 'manual pages are well-formed' mandoc -Tlint -Wwarning $pages
fi

programs_and_pages()
{
	for program in cmd/df-*.c; do
		name=$(basename "$program" .c)
		[ ! -e "$program" ] || [ -e "man/$name.1" ] || echo "$name has no page"
	done
	for page in man/*.1; do
		name=$(basename "$page" .1)
		[ ! -e "$page" ] || [ -e "cmd/$name.c" ] || echo "$page is of no program"
	done
}
quiet 'every program has a page, every page a program' programs_and_pages

if [ "${DF_LINT-}" = all ]; then
	scripts=$(git ls-files | xargs grep -lE '^#!/bin/(ba)?sh' | grep -v '^\.git/')
	! need shellcheck shellcheck || quiet shellcheck shellcheck -x -e SC1091,SC2317 $scripts
	! need clang-format 'sources are formatted' ||
		quiet 'sources are formatted' clang-format --dry-run -Werror $(find lib cmd tests demo -name '*.c')
	if need clang-tidy clang-tidy; then
		tidy()
		{
			export FLAGS="${flags[*]@Q}"
			# What is CUDA's own is read where CUDA's headers are.
			find lib cmd -name '*.c' ! -path 'lib/shard/plugin/*' | sort | if [ -n "$nvcc" ]; then cat; else grep -v 'cuda/[rl]t'; fi |
				xargs -P 2 -n 1 sh -c 'eval "clang-tidy --quiet $1 -- $FLAGS" 2>/dev/null' tidy
			true
		}
		quiet clang-tidy tidy
	fi
fi

done_testing

# lib.sh - TAP for shell tests; source it first: . "$(dirname "$0")/lib.sh"
#
# A test runs in a scratch directory of its own, with build/bin in the PATH;
# $SRC is the source tree.  The last command's output is in $T/out and $T/err.
#
#   ok 'what' CMD ...            CMD exits with 0
#   exits N 'what' CMD ...       CMD exits with status N
#   prints 'what' REGEX          stdout of the last CMD has a line that matches (grep -E)
#   says 'what' REGEX            the same for stderr
#   is 'what' GOT WANT           two strings are equal, and not empty: two commands that failed are no match
#   is_empty 'what' GOT          a string is empty
#   same 'what' FILE FILE        two files are equal, byte for byte
#   wait_for CMD ...             until CMD succeeds; false after some minutes, for a machine that has much else to do
#   commands                     print every command that has a table of options: programs, and methods of df-score and df-mix
#   skip 'what' 'why'            count a case that cannot run here
#   skip_all 'why'               leave: nothing of this test can run here
#   done_testing                 last line of every test
#
# shellcheck shell=sh

SRC=${DF_SRCDIR:-$(cd "$(dirname "$0")/../.." && pwd)}
BUILD=${DF_BUILD:-$SRC/build}
PATH=$BUILD/bin:$PATH
HDF5_PLUGIN_PATH=$BUILD
export PATH HDF5_PLUGIN_PATH
mkdir -p "$BUILD/test-tmp"
T=$(mktemp -d "$BUILD/test-tmp/$(basename "$0").XXXXXX") || exit 1
trap '[ -n "${KEEP-}" ] || rm -rf "$T"' EXIT
cd "$T" || exit 1
n_cases=0
n_failed=0

# report STATUS WHAT: one case; a failure shows what the last command said.
report()
{
	n_cases=$((n_cases + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n_cases - $2"
	else
		n_failed=$((n_failed + 1))
		echo "not ok $n_cases - $2"
	fi
}

tell()
{
	for stream in out err; do
		[ ! -s "$T/$stream" ] || head -c 4000 "$T/$stream" | sed "s/^/# $stream: /"
	done
}

exits()
{
	want=$1
	what=$2
	shift 2
	got=0
	"$@" >"$T/out" 2>"$T/err" || got=$?
	if [ "$got" -eq "$want" ]; then
		report 0 "$what"
	else
		report 1 "$what"
		printf '%s\n' "exit status $got, expected $want: $*" | sed 's/^/# /'
		tell
	fi
}

ok()
{
	what=$1
	shift
	exits 0 "$what" "$@"
}

matches()
{
	if grep -Eq -- "$3" "$T/$1"; then
		report 0 "$2"
	else
		report 1 "$2"
		echo "# no line matches: $3"
		tell
	fi
}

prints()
{
	matches out "$1" "$2"
}

says()
{
	matches err "$1" "$2"
}

is()
{
	if [ -n "$3" ] && [ "$2" = "$3" ]; then
		report 0 "$1"
	else
		report 1 "$1"
		printf '%s\n' "got:  $2" "want: $3" | sed 's/^/# /'
	fi
}

is_empty()
{
	if [ -z "$2" ]; then
		report 0 "$1"
	else
		report 1 "$1"
		printf '%s\n' "got:  $2" 'want: nothing' | sed 's/^/# /'
	fi
}

same()
{
	if cmp "$2" "$3" >"$T/out" 2>"$T/err"; then
		report 0 "$1"
	else
		report 1 "$1"
		tell
	fi
}

wait_for()
{
	waits=0
	until "$@" 2>/dev/null; do
		sleep 0.02
		waits=$((waits + 1))
		[ $waits -lt 6000 ] || return 1
	done
}

commands()
{
	for command_ in "$BUILD"/bin/df-*; do
		basename "$command_"
	done
	for command_ in df-score df-mix; do
		"$command_" --list | sed "1d; s/ .*//; s/^/$command_ /"
	done
}

skip()
{
	n_cases=$((n_cases + 1))
	echo "ok $n_cases # SKIP $1: $2"
}

skip_all()
{
	echo "1..0 # SKIP $1"
	exit 0
}

done_testing()
{
	echo "1..$n_cases"
	[ "$n_failed" -eq 0 ]
	exit
}

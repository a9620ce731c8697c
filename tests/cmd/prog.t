#!/bin/sh
# What every command does alike, each method of df-score too: -h, --version, mistakes in options, a stdout that fails.
# shellcheck disable=SC2086,SC2094 # commands are words, and a file of that name
. "$(dirname "$0")/lib.sh"

[ -n "$(ls "$BUILD"/bin/df-* 2>/dev/null)" ] || skip_all 'no program is built'

too_wide()
{
	awk 'length($0) > 80 { print FILENAME ": " $0; bad = 1 } END { exit bad }' "$T/help"
}

commands >commands
while read -r p <&3; do
	program=${p%% *}
	ok "$p -h" $p -h
	cp "$T/out" "$T/help"
	prints "$p -h begins with the usage" "^usage: $p( |\$)"
	ok "$p -h fits 80 columns" too_wide
	ok "$p --version" $p --version
	prints "$p --version names itself" "^$program \(df-tools\) [0-9]+\.[0-9]+\.[0-9]+$"
	prints "$p --version names the libraries" 'HDF5 .*zstd .*backends cpu \(.*\), poison'
	ok "$p --list-options" $p --list-options
	awk -F '\t' '$6 == "" { exit 1 } $3 != "flag" && $3 != "count" && $4 == "-" && $5 == "-" { exit 1 } $7 == "" { exit 1 }
		$3 != "operands" { print "--" $1 }' \
		"$T/out" | sort >listed
	report $? "$p --list-options: each line has its columns"
	grep -oE '^  (-[a-zA-Z], |    )--[a-z0-9-]+' "$T/help" | grep -oE -- '--.*' | sort >helped
	echo --version >>helped
	is "$p --list-options has the options of -h" "$(cat listed)" "$(sort helped)"
	exits 64 "$p refuses an unknown option" $p --surely-not-an-option
	says "$p says which" "^$program: unknown option --surely-not-an-option"
	exits 64 "$p suggests the near one" $p --verbos=9x
	exits 64 "$p refuses a DF_THREADS that is none" env DF_THREADS=many $p nothing
	says "$p names it" "^$program: environment variable DF_THREADS: 'many' is not a whole number"
	exits 64 "$p knows its range" env DF_THREADS=5000 $p nothing
	says "$p names that too" "DF_THREADS: 5000 is not in \[1, 4096\]"
	exits 0 "$p -h does not mind" env DF_THREADS=many $p -h
	exits 74 "$p notices that stdout is full" sh -c "$p -h >/dev/full"
	says "$p says so" "^$program: standard output: cannot write: No space left on device"
done 3<commands

# A reader that has seen enough is nobody's mistake: no message.
ok 'a closed pipe makes no noise' sh -c "{ $program --help; echo \$? >status; } | true"
is_empty 'nothing on stderr' "$(cat "$T/err")"

done_testing

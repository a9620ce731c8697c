#!/bin/bash
# shellcheck disable=SC2016,SC2046,SC2086,SC2094 # backquotes are text; names of pages are words; page is a file, too
# The manual says what the programs say: usage, options in their groups and
# order, defaults.  (lint.t: pages are well-formed, and there is one for each
# program; test_config: df-config(5) has the keys of the table.)
. "$(dirname "$0")/lib.sh"
command -v mandoc >/dev/null 2>&1 || skip_all 'no mandoc here'

# page FILE: its text, a paragraph on a line
page()
{
	mandoc -Tascii -O width=999 "$1" | sed 's/.\x08//g'
}

# empty 'what' FILE: passes when nothing was found wrong
empty()
{
	if [ -s "$2" ]; then
		report 1 "$1"
		sed 's/^/# /' "$2"
	else
		report 0 "$1"
	fi
}

# Both lists have "[group]", "--name=ARG" and "-n, --name=ARG" lines, and behind a tab the rest.
help_options()
{
	sed -E ':a; N; $!ba; s/\n {20,}/ /g' "$1" | awk '
	/^[^ ].*:$/ { sub(/( \(.*\))?:$/, ""); print "[" tolower($0) "]"; next }
	/^  -h, --help, --version/ { print "-h, --help\t"; print "--version\t"; exit }
	/^  (    )?-/ {
		if (option != "") print option "\t" text
		line = substr($0, 3)
		sub(/^ +/, "", line)
		option = text = line
		if (match(line, /^-[a-z], /)) { sub(/ .*/, "", option); text = substr(line, 5) } else option = ""
		name = text
		sub(/ .*/, "", name)
		sub(/^[^ ]+ */, "", text)
		option = option (option == "" ? "" : " ") name
		print option "\t" text
		option = ""
		next
	}'
}
# page_options PAGE SECTIONS: the options in the sections whose heading matches
page_options()
{
	awk -v sections="^   ($2)" '
	function flush() { if (option != "") print option "\t" text; option = "" }
	/^   [^ ]/ {
		flush()
		inside = $0 ~ sections
		name = $0
		sub(/^   ((Options|Method): )?/, "", name)
		if (inside) print "[" tolower(name) "]"
		next
	}
	/^[^ ]/ { flush(); inside = 0 }
	inside && /^     -/ {
		flush()
		line = substr($0, 6)
		option = line
		sub(/  .*/, "", option)
		text = substr(line, length(option) + 3)
		if (option ~ /^-[a-z]/) sub(/^-[a-z]( [^ ,]+)?, /, substr(option, 1, 2) ", ", option)
		next
	}
	inside && NF { sub(/^ +/, ""); text = text " " $0 }
	END { flush() }' "$1"
}

# same_options WHAT: options.h, of -h, are options.man, of the manual
same_options()
{
	cut -f1 options.h >names.h
	cut -f1 options.man >names.man
	diff names.h names.man >wrong
	empty "$1: the options of -h (<), in their order, are those of the manual (>)" wrong

	# "[2048]" in -h is "The default is 2048." there, and no other default is claimed.
	awk -F '\t' '
	NR == FNR {
		if (match($2, / \[[^]]*\]$/)) { d = substr($2, RSTART + 2, RLENGTH - 3); sub(/;.*/, "", d); dflt[$1] = d }
		else if (match($2, / \(default: .*\)$/)) dflt[$1] = substr($2, RSTART + 11, RLENGTH - 12)
		next
	}
	{
		said = ""
		if (match($2, /[Tt]he default is /)) { said = substr($2, RSTART + RLENGTH); sub(/[.,:;]? .*|[.,:;]$/, "", said) }
		if (said != dflt[$1]) print $1 ": -h says \"" dflt[$1] "\", the manual \"" said "\""
	}' options.h options.man >wrong
	empty "$1: defaults are those of the table" wrong
}

for program in "$SRC"/cmd/df-*.c; do
	p=$(basename "$program" .c)
	page "$SRC/man/$p.1" >page
	"$p" -h >help

	awk -v p="$p" '/^usage: / { text = substr($0, 8); next } text != "" && /^        / { sub(/^ +/, " "); text = text $0; next }
		{ print text; exit }' help >usage.h
	awk '/^SYNOPSIS/ { inside = 1; next } /^[^ ]/ { inside = 0 } inside && NF { sub(/^ +/, ""); print }' page >usage.man
	is "$p: the synopsis is the usage" "$(cat usage.man)" "$(cat usage.h)"

	help_options help >options.h
	page_options page 'Options: |Common options$' >options.man
	[ "$(grep -c -- -- options.h)" -ge 5 ]
	report $? "$p: options are seen"
	same_options "$p"

	[ "$(wc -l <help)" -le 48 ]
	report $? "$p: -h fits a screen"
	is "$p: the sections" "$(grep '^[A-Z]' page | grep -vE '^(DF-|ENVIRONMENT|FILES)|^df-tools|2026' | tr '\n' ' ')" \
		'NAME SYNOPSIS DESCRIPTION EXIT STATUS EXAMPLES SEE ALSO '
	grep -q "^\.It Xr $p 1" "$SRC/man/df-tools.7"
	report $? "$p: df-tools(7) introduces it"
	grep -q "^    $p  " "$SRC/README.md"
	report $? "$p: so does the README"
	grep -q '^\.Xr df-tools 7$' "$SRC/man/$p.1"
	report $? "$p: it leads to df-tools(7)"
done

# A method of df-score or df-mix has what all methods share, and the options of its section.
for p in df-score df-mix; do
	page "$SRC/man/$p.1" >page
	"$p" -h >help
	help_options help >options.common
	commands | sed -n "s/^$p //p" >methods
	while read -r method; do
		"$p" "$method" -h >help
		help_options help >options
		awk -v group="[$method]" '/^\[/ { inside = $0 == group } inside' options >options.h
		page_options page "Method: $method\$" >options.man
		grep -q "^   Method: $method\$" page
		report $? "$p $method: the manual has a section for it"
		same_options "$p $method"
		diff <(cut -f1 options.common) <(awk -v group="[$method]" '/^\[/ { inside = $0 == group } !inside' options | cut -f1) >wrong
		empty "$p $method: the other options are those of $p" wrong
		[ "$(wc -l <help)" -le 48 ]
		report $? "$p $method: -h fits a screen"
	done <methods
	sed -n 's/^   Method: //p' page | sort >described
	sort methods | diff - described >wrong
	empty "$p: the sections of methods (>) are the methods (<)" wrong
done

# The sections of df-config(5) are the states of its keys (test_config compares names and defaults).
sed -e ':a' -e '/\\$/ { N; s/\\\n//; ta' -e '}' "$SRC/man/df-config.5" |
	awk '/^\.Sh / { state = tolower(substr($0, 5)); sub(/ ?keys ?/, "", state) }
	     /^\.It Ic / { for (i = 3; i <= NF && $i != "Pq"; i++) if ($i != ",") print $i "\t" state }' | sort >states.man
df-train --list-keys | cut -f1,2 | sed 's/ignored$/without effect/; s/checked$/of df-pack/' | sort >states.table
diff states.table states.man >wrong
empty 'df-config(5): states are those of the table' wrong

# The README knows every room, and names only what there is.
for room in "$SRC"/lib/*/; do
	room=lib/$(basename "$room")
	grep -q "^|.*\`$room\`.*|.*|" "$SRC/README.md" || echo "$room is not in the README"
done >wrong
grep -oE '`(lib|cmd|man|tests|configs|pipelines|demo)/[^` ]*`' "$SRC/README.md" | tr -d '`' | while read -r path; do
	[ -e "$SRC/$path" ] || echo "the README names $path"
done >>wrong
empty 'the README finds its way' wrong

# What is referred to exists, here or in other people's manuals.
sed -n 's/^\.\(It \)\{0,1\}Xr \([^ ]*\) \([0-9]\).*/\2 \3/p' "$SRC"/man/*.[1-9] | sort -u | while read -r name section; do
	case $name in
	gnuplot | h5dump | h5ls | make | sysexits) ;;
	*) [ -e "$SRC/man/$name.$section" ] || echo "$name($section)" ;;
	esac
done >wrong
empty 'pages that are referred to exist' wrong

# All that mandoc has to say, but for pages that are not installed.
(cd "$SRC" && mandoc -Tlint man/*.[1-9] 2>/dev/null) | grep -v 'referenced manual not found' >wrong
empty 'mandoc -Tlint is quiet' wrong

# A word of a heading that is the name of a macro (In, At, Em) must not act as one.
for f in "$SRC"/man/*.[1-9]; do
	sed -nE 's/\\&//g; s/^\.S[hs] "?([^"]*)"?$/\1/p' "$f" >headings.source
	page "$f" | sed '1d; $d' | sed -nE 's/^( {3})?([^ ].*)$/\2/p' >headings.page
	diff headings.source headings.page | sed "s|^|$(basename "$f"): |"
	page "$f" | grep -nE '<[a-z.]+>' | while IFS=: read -r n line; do
		word=$(grep -oE '<[a-z.]+>' <<<"$line" | head -n 1)
		grep -qF -- "$word" "$f" || grep -qE '^\.(In|Aq|Ao) ' "$f" || echo "$(basename "$f"):$n: $line"
	done
done >wrong
empty 'headings are as they are written, and no macro acts by chance' wrong

# All that groff has to say, of a page and of a terminal's width.
if command -v groff >/dev/null 2>&1; then
	for f in "$SRC"/man/*.[1-9]; do
		groff -mandoc -Tutf8 -ww "$f" 2>&3 >/dev/null
		groff -mandoc -Tutf8 -ww -rLL=80n -rLT=80n "$f" 2>&3 >/dev/null
	done 3>wrong
	empty 'groff -ww is quiet' wrong
else
	skip 'groff -ww is quiet' 'no groff here'
fi

# Literal text is not broken by the formatter.
for f in "$SRC"/man/*.[1-9]; do
	mandoc -Tascii -O width=80 "$f" | sed 's/.\x08//g' | awk -v f="$f" 'length > 80 { print f ": " $0 }'
done >wrong
empty 'pages fit 80 columns' wrong

# Environment variables, read or set for others.
grep -rhoE '(getenv\(|[^a-z])"(DF_[A-Z]+|[A-Z_]{4,})[="]' "$SRC"/cmd "$SRC"/lib | grep -E 'getenv|"DF_' | grep -oE '[A-Z_]{4,}' |
	sort -u | while read -r name; do
	case $name in
	DF_REEXEC | TERM) ;; # between the program and itself; everybody's
	DF_EMU_*) ;;         # the emulator's, for those who write kernels
	*) grep -qE "^\.(It )?Ev $name" "$SRC"/man/* || echo "$name" ;;
	esac
done >wrong
empty 'environment variables are documented' wrong

done_testing

#!/bin/bash
# Progress on a terminal is one line that never wraps, however narrow the terminal is and becomes.
. "$(dirname "$0")/lib.sh"
command -v script >/dev/null 2>&1 || skip_all 'no script(1) here'
. "$SRC/tests/cmd/grad_data.sh"

# On a terminal of so many columns, and after a while of fewer; SIGTERM ends it after $seconds.
cat >run.sh <<'END'
stty cols "$1"
exec 3<&0 # a command in the background has another standard input
[ $# -eq 1 ] || { sleep $((seconds / 2)) && stty cols "$2" <&3; } &
exec timeout --preserve-status "$seconds" df-train train.yaml output_dir=long num_train_epochs=1000000 save_steps=100000000 \
	logging_steps=100000000
END
# drawn COLUMNS...: the lengths of the lines that a terminal saw, in their order; a slow machine gets more time
drawn()
{
	for seconds in 2 8 32; do
		export seconds
		rm -rf long
		TERM=xterm script -qfec "bash run.sh $*" typescript </dev/null >"$T/out" 2>"$T/err"
		tr '\r' '\n' <typescript | sed -n 's/\x1b\[K//g; /^df-train: [0-9]*\/[0-9]/p; /^df-trai$/p' >lines
		[ "$(wc -l <lines)" -lt 8 ] || break
	done
	awk '{ print length($0) }' lines
}

drawn 200 >wide
[ "$(wc -l <wide)" -ge 3 ]
report $? 'a wide terminal sees lines'
full=$(sort -n wide | tail -n 1)
[ "$full" -ge 45 ]
report $? "  whole ones, of $full columns"
grep -q 'left$' lines
report $? '  to their end'
drawn 30 >narrow
[ "$(wc -l <narrow)" -ge 3 ]
report $? 'a narrow one sees lines'
is '  as long as it is wide, less one' "$(sort -un narrow)" 29
drawn 8 >tiny
is 'a tiny one too' "$(sort -un tiny)" 7
drawn 200 25 >shrunk
[ "$(head -n 1 shrunk)" -gt 24 ]
report $? 'one that is made narrow begins with long lines'
is '  and ends with short ones' "$(tail -n 1 shrunk)" 24
done_testing

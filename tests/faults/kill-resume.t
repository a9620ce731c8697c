#!/bin/bash
# kill -9 to a df-train that went back to a named checkpoint: the same command again goes on, not back, and ends with the
# bytes of an undisturbed run; so does the command without the name, once something was saved.  kill.t does it to plain runs.
# shellcheck disable=SC2086,SC2154 # commands are words; they are kill.sh's
. "$(dirname "$0")/../cmd/lib.sh"
. "$SRC/tests/faults/kill.sh"

# Another learning rate, so that what is left behind differs from what is made; other saves, so that some of it stays.
plain="$train learning_rate=3e-3 save_steps=4 output_dir=trained"

# begin: a run of 18 steps, saved every 3
begin()
{
	rm -rf trained .trained.*
	cp -r run trained
}

# began: the step that the last command went on from
began()
{
	sed -n 's/.*going on from .*checkpoint-\([0-9]*\)$/\1/p' err
}

# torture_back NAME STEP ARGS...: going back to STEP, killed in calls that change the file system
torture_back()
{
	name=$1
	from=$2
	shift 2
	command="$plain resume_from_checkpoint=trained/checkpoint-$from $*"
	begin
	LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls $command >out 2>err || { report 1 "$name: undisturbed"; tell; return; }
	is "$name: goes back" "$(began)" "$from"
	list trained >want.list
	calls=$(cat calls)
	bad=
	killed=0
	went_on=0
	named=0
	for at in $(seq 1 $(((calls + n_calls - 1) / n_calls)) "$calls") "$calls"; do
		begin
		(LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_AT=$at exec $command) >out 2>err
		[ $? -ne 137 ] || killed=$((killed + 1))
		# A directory of that name is a whole checkpoint; the newest of this branch is the one to go on from.
		newest=$(grep -l '"branch"' trained/checkpoint-*/df_state.json | sed 's/.*checkpoint-\([0-9]*\).*/\1/' | sort -n | tail -n 1)
		rm -rf copy
		cp -r trained copy
		$command >out 2>err || bad="$bad call $at: the rerun fails: $(tail -n 1 err);"
		grep -q 'steps are done' err || [ "$(began)" = "${newest:-$from}" ] ||
			bad="$bad call $at: the rerun begins at $(began), not at ${newest:-$from};"
		[ -z "$newest" ] || went_on=$((went_on + 1))
		list trained >made.list
		cmp -s want.list made.list || bad="$bad call $at: the rerun's bytes: $(diff want.list made.list | head -c 300);"
		[ -n "$newest" ] || continue
		# The same without the name.
		rm -rf trained
		mv copy trained
		named=$((named + 1))
		$plain "$@" >out 2>err || bad="$bad call $at, unnamed: fails: $(tail -n 1 err);"
		list trained >made.list
		cmp -s want.list made.list || bad="$bad call $at, unnamed: $(diff want.list made.list | head -c 300);"
	done 2>/dev/null
	echo "# $name: $calls calls; killed in $killed of them; $went_on reruns went on from what was saved"
	is_empty "$name: the bytes of an undisturbed run" "$bad"
	[ $killed -ge 3 ] && [ $went_on -ge 1 ] && [ $((killed - went_on)) -ge 1 ] && [ $named -ge 1 ]
	report $? "$name: kills before and after the first checkpoint"
}

torture_back 'back to step 6' 6
is 'what was passed over stays' "$(cd trained && for c in checkpoint-*; do echo "${c#*-}"; done | sort -n | tr '\n' ' ')" \
	'3 6 8 9 12 15 16 18 '
torture_back 'with a limit' 6 save_total_limit=2
torture_back 'back to the end of a run' 18 max_steps=22

# A signal: 75, and the same command goes on.
begin
command="$plain resume_from_checkpoint=trained/checkpoint-6"
LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls $command >out 2>err
list trained >want.list
begin
exits 75 'SIGTERM on the way' env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=$(($(cat calls) / 4)) $command
ok 'again' $command
says 'goes on from where it was stopped' 'going on from trained/checkpoint-(7|[89]|1[0-9])$'
list trained >made.list
same 'the bytes of an undisturbed run' want.list made.list

# A result that is half-written, of a run that keeps no checkpoint.
command="$train learning_rate=3e-3 save_strategy=no output_dir=kept"
rm -rf kept
LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls $command >out 2>err
list kept >want.list
calls=$(cat calls)
bad=
for at in $(seq $((calls > 30 ? calls - 30 : 1)) "$calls"); do
	rm -rf kept
	(LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_AT=$at exec $command) >out 2>err
	$command >out 2>err || bad="$bad call $at: the rerun fails: $(tail -n 1 err);"
	list kept >made.list
	cmp -s want.list made.list || bad="$bad call $at: $(diff want.list made.list | head -c 300);"
done 2>/dev/null
is_empty "no checkpoints, the last calls of $calls: the rerun's bytes" "$bad"

done_testing

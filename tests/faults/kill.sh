# kill.sh - ways to end a program before its time; kill.t and kill-grad.t source it after lib.sh.
#
#   pool.h5 (320 rows), val.h5, run/checkpoint-18 of a model of 21,000 parameters
#   torture NAME OUTPUTS MIN_REUSED COMMAND...   kill -9 by the clock and in the calls that change the file system
#   stopped NAME OUTPUTS COMMAND...              SIGTERM
#
# shellcheck shell=bash disable=SC2013,SC2034,SC2086 # commands are words, so are numbers

n_kills=${DF_KILLS:-30}   # by the clock
n_calls=${DF_KILLS:-12}   # by the file system's calls, spread over all of them and the last ones of a run
[ -z "${DF_SANITIZED-}" ] || n_kills=3 n_calls=3

mkdir data model
"$BUILD/demo/generate" data 1
sed -e 's/"hidden_size": *64/"hidden_size": 32/; s/"intermediate_size": *192/"intermediate_size": 64/' \
	"$SRC/demo/model/config.json" >model/config.json
sets=translate,reverse,shout,add
pack="df-pack --dataset-dir data --template default --tokenizer bytes --cutoff-len 64"
train="df-train $SRC/demo/train.yaml model_name_or_path=model -j 1 tokenized_path=pool.h5"
train="$train max_steps=18 save_steps=3 eval_strategy=no logging_steps=1 per_device_train_batch_size=4"
m=run/checkpoint-18
ok 'a pool' $pack -q --dataset $sets --max-samples 80 -o pool.h5
ok 'a target' $pack -q --dataset val -o val.h5
ok 'a checkpoint' $train -q output_dir=run

# --- what must hold ---------------------------------------------------------------------------------------------------

# list PATH: every file in it, sorted: its sum, or of JSON its lines, without the times, which are the only bytes of a
# run's directory that may differ.
list()
{
	if [ -d "$1" ]; then
		(cd "$1" && find . -path './.*.df-*' -prune -o -type f ! -name '*.json*' -print0 | xargs -0 -r cksum
		find . -path './.*.df-*' -prune -o -name '*.json*' -print0 | xargs -0 -r grep -H '' |
			sed -E 's/"(elapsed_time|remaining_time|throughput|[a-z_]*(runtime|per_second))": *("[^"]*"|[0-9.e+-]+)/"\1"/g')
	else
		cksum <"$1"
	fi 2>/dev/null | LC_ALL=C sort
}

bad=
reused=0
# whole WHEN: after a kill.  What stands under a final name is as in an undisturbed run; checkpoints have all their
# files; of two outputs the first is never there without the second.  $outputs is set, want/ has the lists.
whole()
{
	for o in $outputs; do
		[ -e "$o" ] || continue
		list "$o" >made.list
		LC_ALL=C comm -23 made.list "want/$o" | grep -v '^./trainer_log.jsonl:' >wrong
		for d in "$o"/checkpoint-*; do
			[ ! -d "$d" ] || grep -F "./${d##*/}/" "want/$o" | LC_ALL=C comm -23 - made.list >>wrong
		done
		[ ! -s wrong ] || bad="$bad $1: partial in $o: $(head -c 200 wrong);"
	done
	set -- $outputs
	[ $# -lt 2 ] || [ ! -e "$1" ] || [ -e "$2" ] || bad="$bad $1 without $2;"
}

# rerun WHEN: $command again.
rerun()
{
	$command >out 2>err || bad="$bad $1: the rerun fails: $(tail -n 1 err);"
	! grep -Eq 'going on (after [1-9]|from)|steps are done' err || reused=$((reused + 1))
	for o in $outputs; do
		list "$o" >made.list
		cmp -s made.list "want/$o" || bad="$bad $1: the rerun makes another $o: $(diff made.list "want/$o" | head -c 200);"
		left=$(find . -maxdepth 2 -name ".$o.*" -o -path "./$o/.*.df-*" | head -n 1)
		[ -z "$left" ] || bad="$bad $1: $left is left behind;"
	done
}

clear_outputs()
{
	for o in $outputs; do
		rm -rf "$o" ".$o".*
	done
}

# undisturbed: what $command makes, its number of calls, and $secs that it takes.
undisturbed()
{
	clear_outputs
	rm -rf want
	mkdir want
	secs=$(date +%s%N)
	LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls $command >out 2>err || { report 1 "$name: undisturbed"; tell; return 1; }
	secs=$(awk -v a="$secs" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e9 }')
	calls=$(cat calls)
	for o in $outputs; do
		list "$o" >"want/$o"
		[ -s "want/$o" ] || { report 1 "$name: makes $o"; return 1; }
	done
}

# torture NAME OUTPUTS MIN_REUSED COMMAND...: of all the reruns at least MIN_REUSED % must find finished work.
torture()
{
	name=$1
	outputs=$2
	min_reused=$3
	shift 3
	command="$*"
	undisturbed || return

	# By the clock.  One that came through was given too much time: the next ones get less.
	bad=
	killed=0
	tries=0
	reused=0
	first=$secs
	while [ $killed -lt "$n_kills" ] && [ $tries -lt $((4 * n_kills + 20)) ]; do
		tries=$((tries + 1))
		pause=$(awk -v t="$secs" -v i=$killed -v n="$n_kills" -v s=$tries \
			'BEGIN { srand(s); printf "%.4f", t * (i + rand()) / n }')
		clear_outputs
		$command >out 2>err &
		pid=$!
		sleep "$pause"
		kill -9 $pid 2>/dev/null
		wait $pid 2>/dev/null
		if [ $? -ne 137 ]; then
			secs=$(awk -v t="$secs" 'BEGIN { print 0.93 * t }')
			continue
		fi
		killed=$((killed + 1))
		whole "after $pause s"
		rerun "after $pause s"
	done
	echo "# $name: one run takes $first s; $killed runs killed by the clock, $tries started, $reused reruns went on"
	is_empty "$name, $n_kills instants: whole or absent, and the rerun's bytes" "$bad"
	is "$name: each was killed while it ran" "$killed" "$n_kills"

	# By the file system's calls: the last six, and others spread evenly.
	bad=
	killed=0
	reused=0
	asked=0
	for at in $(awk -v n="$calls" -v k="$n_calls" 'BEGIN {
		tail = k < 8 ? 1 : 6
		for (i = 0; i < k - tail; i++) { c = 1 + int(i * (n - tail) / (k - tail)); if (c != was) print c; was = c }
		for (c = n - tail + 1; c <= n; c++) if (c > was) print c }'); do
		clear_outputs
		asked=$((asked + 1))
		# In a shell of its own, which would say that it was killed.
		(LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_AT=$at exec $command) >out 2>err
		[ $? -ne 137 ] || killed=$((killed + 1))
		whole "in call $at"
		rerun "in call $at"
	done 2>/dev/null
	echo "# $name: $calls calls change the file system; killed in $killed of them, $reused reruns went on"
	is_empty "$name, $asked calls: whole or absent, and the rerun's bytes" "$bad"
	# Threads may share their calls out a little differently each time.
	[ $killed -ge $((asked - 1)) ]
	report $? "$name: killed in calls"
	[ $((reused * 100)) -ge $((asked * min_reused)) ]
	report $? "$name: at least $min_reused % of the reruns went on from finished work ($reused of $asked)"
}

# stopped NAME OUTPUTS COMMAND...: a signal a third of the way, and one halfway: 75, and the rerun goes on.
stopped()
{
	name=$1
	outputs=$2
	shift 2
	command="$*"
	undisturbed || return
	for part in 3 2; do
		clear_outputs
		bad=
		reused=0
		exits 75 "$name: SIGTERM at one $part. of the run" env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=$((calls / part)) $command
		says "$name: says how to go on" 'the same command goes on from here'
		whole 'SIGTERM'
		rerun 'SIGTERM'
		is_empty "$name: the bytes of an undisturbed run" "$bad"
		is "$name: from the work that was done" "$reused" 1
	done
}

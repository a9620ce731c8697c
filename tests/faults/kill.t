#!/bin/bash
# kill -9 at 30 random instants of each program, and in the middle of its changes to the file system: nothing partial
# under a final name, and the same command again gives the bytes of an undisturbed run, from the work that was done.
# SIGTERM: status 75, and the same.
# shellcheck disable=SC2013,SC2086 # commands are words, so are numbers
. "$(dirname "$0")/../cmd/lib.sh"

n_kills=${DF_KILLS:-30}   # by the clock
n_calls=${DF_KILLS:-16}   # by the file system's calls, spread over all of them and the last ones of a run
[ -z "${DF_SANITIZED-}" ] || n_kills=3 n_calls=3

# --- the material: 320 rows, a model of 21,000 parameters -----------------------------------------------------------

mkdir data model
"$BUILD/demo/generate" data 1
sed -e 's/"hidden_size": *64/"hidden_size": 32/; s/"intermediate_size": *192/"intermediate_size": 64/' \
	"$SRC/demo/model/config.json" >model/config.json
sets=translate,reverse,shout,add
pack="df-pack --dataset-dir data --dataset $sets --template default --tokenizer bytes --cutoff-len 64"
train="df-train $SRC/demo/train.yaml model_name_or_path=model -j 1 tokenized_path=pool.h5"
train="$train max_steps=36 save_steps=3 eval_strategy=no logging_steps=1 per_device_train_batch_size=4"
m=run/checkpoint-36
ok 'a pool' $pack -q --max-samples 80 -o pool.h5
ok 'a target' df-pack -q --dataset-dir data --dataset val --template default --tokenizer bytes --cutoff-len 64 -o val.h5
ok 'a checkpoint' $train -q output_dir=run
ok 'gradients' df-grad -q -m $m --form sgd pool.h5 -o pool.grad.h5
ok 'a stream of them' sh -c "df-grad -q -m $m --form sgd --block-rows 16 pool.h5 -o - | cat >pool.stream"
ok 'projections' df-grad -q -m $m --form adam --project 512 pool.h5 -o pool.proj.h5
ok 'the target projected' df-grad -q -m $m --form sgd --project 512 val.h5 -o val.proj.h5

# --- what must hold ---------------------------------------------------------------------------------------------------

# digest FILE: its bytes; times are the only ones of a run's directory that may differ.
digest()
{
	case $1 in
	*.json | *.jsonl) sed -E 's/"(elapsed_time|remaining_time|throughput|[a-z_]*(runtime|per_second))": *("[^"]*"|[0-9.e+-]+)/"\1"/g' "$1" | cksum ;;
	*) cksum <"$1" ;;
	esac
}

# differs MADE WANTED [partly]: prints what of MADE, a file or directory, is not as in WANTED; with "partly" what is
# not there does not matter, and the log of a run may end early.
differs()
{
	if [ ! -d "$2" ]; then
		[ -n "${3-}" ] && [ ! -e "$1" ] || cmp -s "$1" "$2" || echo "$1"
		return
	fi
	[ -d "$1" ] || { [ -n "${3-}" ] || echo "$1"; return; }
	if [ -z "${3-}" ]; then
		diff <(cd "$1" && find . | LC_ALL=C sort) <(cd "$2" && find . | LC_ALL=C sort) | sed -n 's/^[<>] //p'
	else
		# A checkpoint is there as a whole or not at all.
		for d in "$1"/checkpoint-*; do
			[ ! -d "$d" ] || diff <(cd "$d" && ls -A) <(cd "$2/${d##*/}" && ls -A) >/dev/null || echo "$d"
		done
	fi
	(cd "$1" && find . -type f ! -path '*/.*.df-*') | while read -r f; do
		[ -n "${3-}" ] && [ "$f" = ./trainer_log.jsonl ] && continue
		[ "$(digest "$1/$f")" = "$(digest "$2/$f" 2>/dev/null)" ] || echo "$1/$f"
	done
}

# judge WHEN: after a kill and the rerun; $outputs and $command are set.
bad=
whole()
{
	for o in $outputs; do
		d=$(differs "$o" "want/$o" partly | head -n 2)
		[ -z "$d" ] || bad="$bad $1: partial under its name: $d;"
	done
	# Of two outputs the first is never there without the second.
	set -- $outputs
	[ $# -lt 2 ] || [ ! -e "$1" ] || [ -e "$2" ] || bad="$bad $1 without $2;"
}
rerun()
{
	$command >out 2>err || bad="$bad $1: the rerun fails: $(tail -n 1 err);"
	! grep -Eq 'going on (after [1-9]|from)|steps are done' err || reused=$((reused + 1))
	for o in $outputs; do
		d=$(differs "$o" "want/$o" | head -n 2)
		[ -z "$d" ] || bad="$bad $1: the rerun makes another $d;"
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

# torture NAME OUTPUTS MIN_REUSED COMMAND...: of all the reruns at least MIN_REUSED % must find finished work.
torture()
{
	name=$1
	outputs=$2
	min_reused=$3
	shift 3
	command="$*"
	clear_outputs
	rm -rf want
	mkdir want
	secs=$(date +%s%N)
	LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls $command >out 2>err || { report 1 "$name: undisturbed"; tell; return; }
	secs=$(awk -v a="$secs" -v b="$(date +%s%N)" 'BEGIN { print (b - a) / 1e9 }')
	calls=$(cat calls)
	for o in $outputs; do
		mv "$o" want/
	done

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
	is "$name, $n_kills instants: whole or absent, and the rerun's bytes" "$bad" ''
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
	is "$name, $asked calls: whole or absent, and the rerun's bytes" "$bad" ''
	# Threads may share their calls out a little differently each time.
	[ $killed -ge $((asked - 1)) ]
	report $? "$name: killed in calls"
	[ $((reused * 100)) -ge $((asked * min_reused)) ]
	report $? "$name: at least $min_reused % of the reruns went on from finished work ($reused of $asked)"
}

# --- kill -9 ---------------------------------------------------------------------------------------------------------

torture 'df-pack' pack.h5 0 $pack -j 2 -o pack.h5
torture 'df-pack, two outputs' 'pack2.h5 held.h5' 0 $pack -j 2 --holdout add=50 --holdout-output held.h5 -o pack2.h5
torture 'df-train' trained 60 $train output_dir=trained
torture 'df-grad' grad.h5 60 df-grad -j 2 -m $m --form adam --project 128 --block-rows 16 pool.h5 -o grad.h5
torture 'df-project' proj.h5 30 df-project -j 1 -k 256 pool.grad.h5 -o proj.h5
cat >from_stream <<'END'
#!/bin/sh
exec df-project -j 1 -k 256 - -o stream.proj.h5 <pool.stream
END
chmod +x from_stream
torture 'df-project, a stream' stream.proj.h5 30 ./from_stream
torture 'df-score' 'index.h5 scores.h5' 0 df-score less --train pool.proj.h5 --val val.proj.h5 -n 100 -o index.h5 --scores-output scores.h5

# --- SIGTERM ---------------------------------------------------------------------------------------------------------

# stopped NAME OUTPUTS COMMAND...: a signal a third of the way, and again two thirds: 75, and the rerun goes on.
stopped()
{
	name=$1
	outputs=$2
	shift 2
	command="$*"
	clear_outputs
	rm -rf want
	mkdir want
	LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls $command >out 2>err
	calls=$(cat calls)
	for o in $outputs; do
		mv "$o" want/
	done
	for part in 3 2; do
		clear_outputs
		bad=
		reused=0
		exits 75 "$name: SIGTERM at one $part. of the run" env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=$((calls / part)) $command
		says "$name: says how to go on" 'the same command goes on from here'
		whole 'SIGTERM'
		rerun 'SIGTERM'
		is "$name: the bytes of an undisturbed run" "$bad" ''
		is "$name: from the work that was done" "$reused" 1
	done
}

stopped 'df-train' trained $train output_dir=trained
stopped 'df-grad' grad.h5 df-grad -j 1 -m $m --form adam --project 128 --block-rows 8 pool.h5 -o grad.h5
stopped 'df-project' stream.proj.h5 ./from_stream

done_testing

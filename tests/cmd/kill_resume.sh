# kill_resume.sh - a command killed with SIGKILL at random moments and run again, until it ends by itself; and whether two
# runs of df-train left the same bytes.  Source it after lib.sh.
#
# shellcheck shell=sh

n_kills=0

# kill_resume SECONDS CMD ...: killed again and again, soon after its start and then later each time, up to 32 x SECONDS;
# its status
kill_resume()
{
	most=$1
	shift
	for try in 1 2 3 4 5 6 7 8 9 10 11 12; do
		"$@" >"$T/out" 2>"$T/err" &
		pid=$!
		sleep "$(awk -v n="$try" -v most="$most" -v seed=$$ 'BEGIN { srand(seed + n); print most * 2 ^ (n - 7) * (0.5 + rand() / 2) }')"
		if kill -9 $pid 2>/dev/null; then
			n_kills=$((n_kills + 1))
		fi
		status=0
		wait $pid 2>/dev/null || status=$?
		[ $status -eq 137 ] || return $status
	done
	"$@" >"$T/out" 2>"$T/err"
}

# timeless FILE: a log without the times in it
timeless()
{
	sed -E 's/"(elapsed_time|remaining_time)": "[^"]*"/"\1": ""/g' "$1"
}

# same_run 'what' DIR DIR: the same checkpoints, files of the result and logs, but for times
same_run()
{
	(
		cd "$2" || exit
		find . -type f ! -name '.*' ! -name 'all_results.json' ! -name 'train_results.json' | sort
	) >"$T/files.1"
	(
		cd "$3" || exit
		find . -type f ! -name '.*' ! -name 'all_results.json' ! -name 'train_results.json' | sort
	) >"$T/files.2"
	if ! cmp -s "$T/files.1" "$T/files.2"; then
		report 1 "$1"
		diff "$T/files.1" "$T/files.2" | sed 's/^/# /'
		return
	fi
	while read -r file; do
		case $file in
		*.jsonl)
			timeless "$2/$file" >"$T/log.1"
			timeless "$3/$file" >"$T/log.2"
			cmp "$T/log.1" "$T/log.2"
			;;
		./trainer_state.json) ;; # of the end: has times
		*) cmp "$2/$file" "$3/$file" ;;
		esac
	done <"$T/files.1" >"$T/differ" 2>&1
	if [ -s "$T/files.1" ] && [ ! -s "$T/differ" ]; then
		report 0 "$1"
	else
		report 1 "$1"
		sed 's/^/# /' "$T/differ"
	fi
}

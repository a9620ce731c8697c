# What the scripts beside it share: stages as jobs of a Slurm cluster.  Sourced, not run.
#
# ../common.sh has the settings.  Further ones:
# shellcheck shell=sh disable=SC2086,SC2153 # options are words; WARM is a setting
SHARDS=${SHARDS:-8}       # tasks of an array
JOB=${JOB-}               # options of sbatch for every job: --partition=short --time=30
MODEL_JOB=${MODEL_JOB-}   # more options for jobs that run the model: --cpus-per-task=16 --time=4:00:00
#
# A script submits its jobs and ends; run it where sbatch is, in a directory that all nodes see.  What the jobs say goes
# to OUT/log.  Stages whose files exist are left out: when jobs have failed and the others have ended, run the script
# again, and only what is missing is submitted; of an array, only the missing tasks.

# shellcheck source=/dev/null
. "$(dirname "$0")/../common.sh"
mkdir -p "$OUT/log"

# submit NAME AFTER [OPTION...] -- COMMAND...: a job for when the jobs AFTER (words, or empty) have succeeded; if one of
# them fails, it is cancelled.  Prints its number.
submit() {
	name=$1 after=$(echo $2 | tr ' ' ':') options=$JOB
	shift 2
	for option; do
		shift
		[ "$option" != -- ] || break
		options="$options $option"
	done
	case $1 in
	df-train | df-grad | df-embed | sh) options="$MODEL_JOB $options" ;;
	esac
	id=$(sbatch --parsable --job-name="$name" --output="$OUT/log/$name-%j.txt" ${after:+--dependency=afterok:$after} \
		--kill-on-invalid-dep=yes $options "$(dirname "$0")/job.sbatch" "$@")
	id=${id%%;*} # the name of the cluster
	echo "$name: job $id" >&2
	echo "$id"
}

# stage NAME AFTER FILE COMMAND...: a job whose command makes FILE (its -o), unless it is there.
stage() {
	name=$1 after=$2 file=$3
	shift 3
	[ -e "$file" ] || submit "$name" "$after" -- "$@" -o "$file"
}

# array NAME AFTER FILE COMMAND...: the same in SHARDS parts: a task for each that is not there.
array() {
	name=$1 after=$2 file=$3 tasks=$(missing "$3")
	shift 3
	[ -z "$tasks" ] || submit "$name" "$after" --array="$tasks" --output="$OUT/log/$name-%A-%a.txt" -- \
		"$@" --shard "auto/$SHARDS" -o "$file"
}

# missing FILE: the numbers of its parts that are not there, as --array has them: 3,7,8.
missing() {
	list=
	for i in $(seq "$SHARDS"); do
		[ -e "$(printf '%s.%05d-of-%05d.h5' "${1%.h5}" "$i" "$SHARDS")" ] || list=$list${list:+,}$i
	done
	echo "$list"
}

# parts FILE: the pattern of all its parts.
parts() {
	printf '%s.*-of-%05d.h5' "${1%.h5}" "$SHARDS"
}

# The stages that all methods share, as in ../common.sh.  $pack, $warm: the numbers of their jobs; empty: done before.
pack=
pack() {
	if ! [ -e "$OUT/pool.h5" ] || ! [ -e "$OUT/val.h5" ]; then
		pack=$(submit pack '' -- df-pack --dataset-dir "$DATA" --dataset "$POOL" --template "$TEMPLATE" \
			--tokenizer "$TOKENIZER" --cutoff-len "$CUTOFF" --holdout "$TARGET" --holdout-output "$OUT/val.h5" \
			-o "$OUT/pool.h5")
	fi
}

warm=
warm_up() {
	[ -e "$WARM" ] || warm=$(submit warmup "$pack" -- df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" \
		"output_dir=$OUT/run" --until "$WARMUP")
}

train_and_evaluate() { # jobs that it waits for
	train=
	[ -e "$OUT/run/checkpoint-$STEPS" ] || train=$(submit train "$pack $warm $1" -- df-train "$CONFIG" \
		"tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" --index "$OUT/index.h5" --until "$STEPS")
	# shellcheck disable=SC2016 # of the job's shell
	submit eval "$train" -- sh -c 'df-eval -m "$1" "$2" >"$3.tmp" && mv "$3.tmp" "$3"' sh "$OUT/run/checkpoint-$STEPS" \
		"$OUT/val.h5" "$OUT/eval.txt" >/dev/null
}

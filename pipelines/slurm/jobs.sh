# jobs.sh - what the scripts beside it share: stages as Slurm jobs.  They set OUT, and source it.
#
#   JOB        more options of sbatch for every job:  JOB='--partition=short --time=30'
#   MODEL_JOB  and for those that run the model:      MODEL_JOB='--cpus-per-task=16 --time=4:00:00'
#
# shellcheck shell=sh disable=SC2086 # options are words

# submit NAME AFTER [OPTION...] -- COMMAND...: a job that waits for the jobs AFTER (words; none: empty) to succeed.  Prints
# its number.  When one of them fails, the job is cancelled.
submit()
{
	name=$1
	after=$(echo $2 | tr ' ' ':')
	shift 2
	options=
	while [ "$1" != -- ]; do
		options="$options $1"
		shift
	done
	shift
	id=$(sbatch --parsable --job-name="$name" --output="$OUT/log/$name-%j.txt" ${after:+--dependency=afterok:$after} \
		--kill-on-invalid-dep=yes ${JOB-} $options "$(dirname "$0")/job.sbatch" "$@")
	echo "$name: job ${id%%;*}" >&2
	echo "${id%%;*}"
}

# missing FILE N: the numbers of those of its N shards that are not there, as --array has them.
missing()
{
	list=
	for i in $(seq "$2"); do
		[ -e "$(printf '%s.%05d-of-%05d.h5' "${1%.h5}" "$i" "$2")" ] || list=$list${list:+,}$i
	done
	echo "$list"
}

# shards FILE N: the pattern of its shards.
shards()
{
	printf '%s.*-of-%05d.h5' "${1%.h5}" "$2"
}

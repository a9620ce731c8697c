#!/bin/bash
# pipelines/slurm/ on a real Slurm of two nodes on this machine: the bytes are those of the scripts without Slurm, also
# when a task is put into the queue again, when one is killed, and when its shard alone is made later.
#
# Everything is in this test's directory: munged, slurmctld, two slurmd's, their configuration and what they keep.
# shellcheck disable=SC2086 # options are words
. "$(dirname "$0")/lib.sh"

for program in munged mungekey slurmctld slurmd sbatch srun scontrol squeue; do
	PATH=$PATH:/usr/sbin
	command -v $program >/dev/null 2>&1 || skip_all "no $program here (Debian: slurm-wlm, munge)"
done

# --- a cluster ---

# eventually COMMAND...: again and again until it succeeds; false after two minutes
eventually()
{
	tries=0
	until "$@"; do
		sleep 0.2
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return 1
	done
}

# The path of a socket must be short, and not writable for others.
slurm=$(mktemp -d /tmp/df-slurm.XXXXXX) || exit 1
chmod 755 "$slurm"
pids=
stop_cluster()
{
	for pid in $pids; do
		kill "$pid" 2>/dev/null
	done
	for pid in $pids; do
		wait "$pid" 2>/dev/null
	done
	rm -rf "$slurm"
	[ -n "${KEEP-}" ] || rm -rf "$T"
}
trap stop_cluster EXIT

# Three ports that nobody listens on.
port=$((20000 + $$ % 10000))
while (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null || (exec 3<>/dev/tcp/127.0.0.1/$((port + 1))) 2>/dev/null ||
	(exec 3<>/dev/tcp/127.0.0.1/$((port + 2))) 2>/dev/null; do
	port=$((port + 3))
done

export SLURM_CONF=$slurm/slurm.conf
cat >"$SLURM_CONF" <<END
ClusterName=df
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$slurm/munge.socket,cred_expire=1
SlurmctldPort=$port
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/%n
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=2
NodeName=a NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2
NodeName=b NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2
PartitionName=all Nodes=a,b Default=YES State=UP
END
mkdir "$slurm/state"

# daemon LOG COMMAND...: in the background, until the test ends
daemon()
{
	"${@:2}" >"$slurm/$1.log" 2>&1 &
	pids="$! $pids"
}
mungekey -c -k "$slurm/munge.key" || skip_all 'mungekey does not work here'
daemon munged munged -F --key-file="$slurm/munge.key" --socket="$slurm/munge.socket" --pid-file="$slurm/munge.pid" \
	--log-file="$slurm/munge.out" --seed-file="$slurm/munge.seed"
eventually test -S "$slurm/munge.socket"
daemon slurmctld slurmctld -D -f "$SLURM_CONF"
for node in a b; do
	daemon slurmd-$node slurmd -D -N $node -f "$SLURM_CONF"
done
tries=0
while [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | tr '\n' ' ')" != 'a b ' ]; do
	sleep 0.2
	tries=$((tries + 1))
	[ $tries -lt 150 ] || skip_all "Slurm does not start here: $(grep -h 'error\|fatal' "$slurm"/*.log | head -n 1)"
done

# in_state STATE JOB: pending, running, ..
in_state()
{
	[ "$(squeue -h -j "$2" -o %T 2>/dev/null)" = "$1" ]
}

# No job is there any more.
no_jobs()
{
	[ -z "$(squeue -h)" ]
}

settled()
{
	eventually no_jobs || { squeue >&2; return 1; }
}

# --- data, and the files that Slurm must make ---

mkdir data
"$BUILD/demo/generate" data 1
echo '{"reverse": {"file_name": "reverse.jsonl"}, "translate": {"file_name": "translate.jsonl"}}' >data/dataset_info.json
cp -r "$SRC/configs" .
sed -i -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	configs/models/tiny-llama/config.json
export DATA=data POOL=reverse,translate TARGET=translate=40 WARMUP=24 STEPS=32 SELECT=20% DIM=64 SHARDS=8
ok 'LESS without Slurm' env OUT=sh "$SRC/pipelines/less.sh"

# df-grad as the jobs find it first: the first time that task 3 runs, it is stopped, and task 5 is killed, both in the
# middle of their work.
mkdir first
cat >first/df-grad <<END
#!/bin/bash
export PATH=$BUILD/bin:\$PATH
task=\${SLURM_ARRAY_TASK_ID-0}
if [ \$task = 3 ] && mkdir "$T/stopped" 2>/dev/null; then
	trap 'stop=1' TERM
	touch "$T/waiting"
	while [ -z "\$stop" ]; do sleep 0.1; done
	exec env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=12 df-grad "\$@"
elif [ \$task = 5 ] && mkdir "$T/killed" 2>/dev/null; then
	exec env LD_PRELOAD="$BUILD/tests/killat.so" DF_KILL_AT=12 df-grad "\$@"
fi
exec df-grad "\$@"
END
chmod +x first/df-grad

# --- LESS ---

ok 'LESS is submitted' env PATH="$T/first:$PATH" OUT=sl MODEL_JOB='--cpus-per-task=1' "$SRC/pipelines/slurm/less.sh"
says 'its stages' '^grad: job [0-9]+$'
grad=$(sed -n 's/^grad: job //p' err)
eventually test -e waiting
ok 'task 3 gets the signal of its time limit' scancel --signal=TERM "$(squeue -h -j "${grad}_3" -o %A).0"
eventually in_state PENDING "${grad}_3"
ok 'it is in the queue again' scontrol update "JobId=${grad}_3" StartTime=now # and not after two minutes
ok 'the jobs end' settled
[ -e sl/pool.proj.00003-of-00008.h5 ]
report $? 'task 3 was put into the queue again, and is done'
grep -q 'the same command goes on from here' sl/log/grad-$grad-3.txt
report $? 'it stopped with its work saved'
is 'task 5, killed, left no shard' "$(cd sl && echo pool.proj.*)" \
	"$(printf 'pool.proj.0000%d-of-00008.h5 ' 1 2 3 4 6 7 8 | sed 's/ $//')"
[ ! -e sl/index.h5 ] && [ ! -e sl/run/checkpoint-32 ]
report $? 'what needs it was cancelled'
exits 66 'a score without it' df-score less --train 'sl/pool.proj.*-of-00008.h5' --val sl/val.proj.h5 -n 20% -o no.h5
says 'names the shard, as --array has it' 'sl/pool\.proj\.00005-of-00008\.h5 is missing \(shard 5\)'
mkdir holes
cp sl/pool.proj.0000[1246]*.h5 holes
exits 66 'without four of them' df-show 'holes/pool.proj.*-of-00008.h5'
says 'names all' 'holes/pool\.proj\.00003-of-00008\.h5 and 3 more are missing \(shards 3,5,7-8\)'

ok 'LESS is submitted again' env OUT=sl "$SRC/pipelines/slurm/less.sh"
is 'only what is missing' "$(sed -n 's/: job .*//p' err | tr '\n' ' ')" 'grad score train eval '
grad=$(sed -n 's/^grad: job //p' err)
is 'of the array one task' "$(squeue -h -r -j "$grad" -o %K)" 5
ok 'the jobs end' settled
for f in pool.h5 val.h5 val.proj.h5 index.h5 eval.txt run/checkpoint-24/model.safetensors \
	run/checkpoint-32/model.safetensors run/checkpoint-32/optimizer.safetensors run/checkpoint-32/df_state.json; do
	same "the same $f as without Slurm" sh/$f sl/$f
done

# --- the other methods ---

for method in tsds cluster-less; do
	ok "$method without Slurm" env OUT=sh-$method "$SRC/pipelines/$method.sh"
	ok "$method is submitted" env OUT=sl-$method SHARDS=3 "$SRC/pipelines/slurm/$method.sh"
done
ok 'the jobs end' settled
for method in tsds cluster-less; do
	for f in pool.h5 val.h5 index.h5 eval.txt run/checkpoint-32/model.safetensors; do
		same "$method: the same $f as without Slurm" sh-$method/$f sl-$method/$f
	done
	ok "$method is submitted again" env OUT=sl-$method SHARDS=3 "$SRC/pipelines/slurm/$method.sh"
	is 'nothing is missing' "$(sed -n 's/: job .*//p' err | tr '\n' ' ')" 'eval '
done

# A job that the user cancels does not come back.
ok 'a job' sbatch --parsable -o cancelled.txt "$SRC/pipelines/slurm/job.sbatch" sh -c 'trap "exit 75" TERM; touch runs; while :; do sleep 0.1; done'
job=$(cat out)
eventually test -e runs
ok 'is cancelled' scancel "$job"
ok 'and ends' settled

done_testing

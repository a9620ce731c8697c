# slurm.sh - a Slurm of two nodes on this machine, for a test; source it after lib.sh.
#
# Everything is in this test's directory: munged, slurmctld, two slurmd's, their configuration and what they keep.
# It ends with the test.
#
#   eventually CMD ...    again and again until CMD succeeds; false after ten minutes
#   in_state STATE JOB    PENDING, RUNNING, ..
#   settled               wait until no job is there any more
# shellcheck shell=bash
for program in munged mungekey slurmctld slurmd sbatch srun scontrol squeue; do
	PATH=$PATH:/usr/sbin
	command -v $program >/dev/null 2>&1 || skip_all "no $program here (Debian: slurm-wlm, munge)"
done

# --- a cluster ---

# eventually COMMAND...: again and again until it succeeds; false after ten minutes
eventually()
{
	tries=0
	until "$@"; do
		sleep 0.2
		tries=$((tries + 1))
		[ $tries -lt 3000 ] || return 1
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
	[ $tries -lt 600 ] || skip_all "Slurm does not start here: $(grep -h 'error\|fatal' "$slurm"/*.log | head -n 1)"
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

#!/bin/bash
# df-plan --slurm on a real Slurm of two nodes on this machine: the bytes are those that make makes, also when the training
# is stopped and put into the queue again; and only what is missing is submitted.
. "$(dirname "$0")/lib.sh"
command -v make >/dev/null 2>&1 || skip_all 'no make here'
unset MAKEFLAGS MFLAGS MAKELEVEL # of make check
. "$SRC/tests/cmd/slurm.sh"

cp -r "$SRC/configs" .
mkdir -p build/demo-data first
"$BUILD/demo/generate" build/demo-data 1
# plan OUT OPTION...
plan()
{
	df-plan -q "${@:2}" configs/less.yaml dataset=translate,reverse warmup_step=12 update_step=6 update_times=2 \
		component_params.proj_dim=64 output_dir="$1"
}

# df-train as the jobs find it first: the first time that it trains to step 12, it is stopped.
cat >first/df-train <<END
#!/bin/bash
export PATH=$BUILD/bin:\$PATH
case "\$*" in
*'--until 12')
	if mkdir "$T/stopped" 2>/dev/null; then
		exec env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=3 df-train "\$@"
	fi
	;;
esac
exec df-train "\$@"
END
chmod +x first/df-train

ok 'a plan' plan runs/mk -o less.mk
ok 'make runs it' make -f less.mk
ok 'the same for Slurm' plan runs/sl --slurm --shards 3 -o less.sh
ok 'its jobs are submitted' env PATH="$T/first:$PATH" MODEL_JOB='--cpus-per-task=1' sh less.sh
is 'a job for each stage' "$(sed -n 's/: job .*//p' err | tr '\n' ' ')" \
	'pack train-12 pool-grad-12 target-grad-12 select-12 train-18 pool-grad-18 target-grad-18 select-18 train eval plot-loss '
train=$(sed -n 's/^train-12: job //p' err)
requeued()
{
	[ -e stopped ] && in_state PENDING "$train"
}
eventually requeued
report $? 'the training was stopped, and is in the queue again'
scontrol update "JobId=$train" StartTime=now # and not after two minutes
ok 'the jobs end' settled
grep -q 'run the same command again\|the same command goes on' runs/sl/log/train-12-"$train".txt
report $? 'it stopped with its work saved'
for f in pool.h5 step-12/index.h5 step-18/index.h5 eval.txt model.safetensors checkpoint-18/optimizer.safetensors; do
	same "the same $f as by make" runs/mk/$f runs/sl/$f
done

ok 'submitted again' sh less.sh
is_empty 'nothing is missing' "$(cat err)"
rm runs/sl/step-18/pool.grad.00002-of-00003.h5 runs/sl/step-18/index.h5
ok 'submitted for what is missing' sh less.sh
is 'that, and what comes after it' "$(sed -n 's/: job .*//p' err | tr '\n' ' ')" \
	'pool-grad-18 select-18 train eval plot-loss '
job=$(sed -n 's/^pool-grad-18: job //p' err)
is 'of the array one task' "$(squeue -h -r -j "$job" -o %K)" 2
ok 'the jobs end' settled
same 'the same choice' runs/mk/step-18/index.h5 runs/sl/step-18/index.h5
sed 's/^\(stage train-12\)\.[0-9a-f]*/\1.0123456789abcdef/' less.sh >other.sh
exits 1 'a run does not go on with other settings' sh other.sh
says 'it says what to do' 'remove it, or give another output_dir'

done_testing

#!/bin/bash
# pipelines/slurm/ on a real Slurm of two nodes on this machine: the bytes are those of the scripts without Slurm, also
# when a task is put into the queue again, when one is killed, and when its shard alone is made later.
#
# shellcheck disable=SC2086 # options are words
. "$(dirname "$0")/lib.sh"

. "$SRC/tests/cmd/slurm.sh"

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
	for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2; done # scancel may send it again
	exec env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=3 df-grad "\$@"
elif [ \$task = 5 ] && mkdir "$T/killed" 2>/dev/null; then
	exec env LD_PRELOAD="$BUILD/tests/killat.so" DF_KILL_AT=3 df-grad "\$@"
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

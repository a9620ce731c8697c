#!/bin/bash
# configs/: df-plan makes a plan of each; some are run to their end, and cost what the dry run says.
. "$(dirname "$0")/lib.sh"
command -v make >/dev/null 2>&1 || skip_all 'no make here'
unset MAKEFLAGS MFLAGS MAKELEVEL # of make check

cp -r "$SRC/configs" .
mkdir -p build/demo-data
"$BUILD/demo/generate" build/demo-data 1

check=$(command -v shellcheck) || check=true

# Some of them go on with what others trained.
mkdir runs
cp -r configs/models/nano-llama runs/less
cp -r configs/models/nano-llama runs/doremi_step1
cp -r configs/models/nano-llama runs/less-lora
while read -r yaml; do
	ok "$yaml: a plan" df-plan -q "$yaml"
	prints '  of commands' '^	df-'
	ok '  for Slurm' df-plan -q --slurm "$yaml" -o plan.sh
	ok '  which is a script' "$check" plan.sh
	ok '  as a graph' df-plan -q --dot "$yaml"
	prints '  of boxes' '^	"[a-z0-9-]+" \[label='
	ok '  its cost' df-plan -q -n "$yaml"
	prints '  in all' '^all '
done < <(find configs -name '*.yaml' ! -name 'components.yaml' ! -name 'tiny-*.yaml' | sort)
rm -r runs

# --- the newcomer's, shorter, then adapters on it, and both in one ---

# cell STAGE COLUMN: of the dry run in `cost`, without the sign of an estimate and the unit
cell()
{
	awk -v stage="$1" -v column="$2" '
	NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
	$1 == stage { gsub(/ ([kMG]?B|[kMGT]?FLOP|[kMG]|s|min)( |$)/, " ", $0); $0 = $0; print $at[column] }' cost | tr -d '~'
}
short='warmup_step=20 update_step=10 update_times=2 component_params.proj_dim=256 save_steps=10'
# shellcheck disable=SC2086 # words
plan()
{
	df-plan -q "$@" $short
}
ok 'configs/less.yaml, shorter' plan configs/less.yaml -o less.mk
ok 'runs' make -f less.mk -j2
[ -s runs/less/eval.txt ] && [ -s runs/less/loss.svg ] && [ -s runs/less/model.safetensors ]
report $? 'to a model, its evaluation and a picture'
ok 'its dry run' df-plan -n -q configs/less.yaml warmup_step=20 update_step=10 update_times=2 \
	component_params.proj_dim=256 save_steps=10
cp out cost
is 'steps' "$(cell train-20 steps) $(cell train-30 steps) $(cell train steps) $(cell all steps)" '20 10 10 40'
is 'rows' "$(cell pack rows) $(cell pool-grad-20 rows) $(cell target-grad-30 rows)" '2448 2400 48'
is 'tokens' "$(cell train-20 tokens) $(cell target-grad-20 tokens)" '7840 2352'

# near WHAT GOT WANT PERCENT
near()
{
	awk -v a="$2" -v b="$3" -v p="$4" 'BEGIN { d = a - b; exit !(b > 0 && (d < 0 ? -d : d) <= p / 100 * b) }'
	report $? "$1: $2, really $3"
}
bytes() { cat "$@" | wc -c | awk '{ printf "%.1f\n", $1 / 1e6 }'; }
near 'MB of checkpoints' "$(cell train-20 disk)" "$(bytes runs/less/checkpoint-10/*.safetensors runs/less/checkpoint-20/*.safetensors)" 5
near 'MB of gradients' "$(cell pool-grad-20 disk)" "$(bytes runs/less/step-20/pool.grad.*.h5)" 10
params=$(df-train -n configs/less.yaml train_type=static tokenized_path=runs/less/pool.h5 output_dir=x eval_strategy=no |
	sed -n 's/^parameters *\([0-9]*\).*/\1/p')
is 'parameters' "$params" 115200

ok 'adapters on that model' plan configs/selectors/less.yaml -o lora.mk
ok 'run' make -f lora.mk -j2
ok 'and are merged' df-plan -q configs/merge_lora.yaml -o merge.mk
ok 'by make' make -f merge.mk
ok 'into a model' df-eval -q -m runs/less-merged runs/less/eval.h5
cp out merged
ok 'which is that of the adapters' df-eval -q -m runs/less-lora runs/less/eval.h5
cp out adapters
same 'with the same losses' merged adapters

done_testing

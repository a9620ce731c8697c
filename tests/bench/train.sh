#!/bin/sh
# train.sh - df-train's steps against PyTorch's, on models that are not tiny: full fine-tuning and LoRA.
#
#   PYTHON=python3 POOL=pool.h5 tests/bench/train.sh [MODEL...]     (with build/bin and build/bench in the PATH)
#
# MODEL is a directory beside this script (model-512, model-0.5b).  POOL are tokens of df-pack.  Both sides train the
# same shapes in float32 on the same batch sizes; ours are the seconds of all steps in train_results.json, theirs those
# of torch_train.py, which leaves out two steps to warm up.  In turn, ROUNDS times; the ratio is theirs over ours: above 1, df-train is
# faster.  METHODS, DEVICES, THREADS, STEPS and BATCH may be set.  Needs torch, transformers, peft, h5py, hdf5plugin.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- model-512 model-0.5b

seconds_of() { # device, threads, method, model: our seconds
	rm -rf "$work/run"
	df-train --device "$1" -j "$2" -q model_name_or_path="$work/$4" tokenized_path="$POOL" output_dir="$work/run" \
		finetuning_type="$3" lora_rank=16 lora_alpha=32 per_device_train_batch_size="$batch" gradient_accumulation_steps=1 \
		max_steps="$steps" learning_rate=1e-4 weight_decay=0.1 lr_scheduler_type=cosine save_strategy=no eval_strategy=no
	sed -n 's/.*"train_runtime": \([0-9.]*\).*/\1/p' "$work/run/train_results.json"
}

sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1
for model; do
	steps=${STEPS:-6} batch=${BATCH:-4}
	random_model "$here/$model/config.json" "$work/$model"
	for method in ${METHODS:-full lora}; do
		rank=
		[ "$method" = full ] || rank=16
		for threads in ${THREADS:-2 1}; do
			for device in ${DEVICES:-cpu openblas}; do
				i=0
				while [ $i -lt "${ROUNDS:-3}" ]; do
					ours=$(seconds_of "$device" "$threads" "$method" "$model")
					theirs=$(OMP_NUM_THREADS=$threads "$python" "$here/torch_train.py" "$here/$model" "$POOL" "$steps" "$batch" "$threads" $rank |
						sed -n 's/^seconds \([0-9.]*\).*/\1/p')
					echo "$ours $theirs"
					i=$((i + 1))
				done | awk -v name="$model $method, $steps x $batch, $device, $threads threads" '
					{ r[NR] = $2 / $1; ours = ours " " $1; theirs = theirs " " $2 }
					END {
						for (i = 2; i <= NR; i++)
							for (j = i; j > 1 && r[j - 1] > r[j]; j--) { t = r[j]; r[j] = r[j - 1]; r[j - 1] = t }
						printf "%-48s %.2f  [%.2f .. %.2f]  ours%s  theirs%s\n", name, r[int((NR + 1) / 2)], r[1], r[NR], ours, theirs
					}'
			done
		done
	done
done

#!/bin/bash
# restart.sh - what a window costs besides its steps: the start from a checkpoint and the save, LoRA and full fine-tuning.
#
#   tests/bench/restart.sh [ROUNDS]      (with build/bin and build/bench in the PATH; ROUNDS: 3)
#
# A random model in the shape of Qwen2-0.5B (1 GB, made on the spot) is trained for one step of 32 tokens per run, so each
# run reads the checkpoint of the one before and writes its own: about 25 MB with LoRA, 6 GB with full fine-tuning, which
# needs 8 GB of memory and 14 GB of disk.  One line per round, medians at the end:
#
#   reading   seconds of cat over all files that a start needs, to /dev/null
#   start     from the start of the program until the step can begin
#   save      as df-train says it, with the disk's time
#   peak      memory in MiB
#
# Each with its CPU seconds (user + system) in brackets: on a busy machine these count.  MODEL (a config.json) may be set;
# OUT keeps the files.  Goal: start - reading <= 2 s.
set -eu
rounds=${1:-3}
cd "$(dirname "$0")/../.."
config=$PWD/${MODEL:-tests/bench/model-0.5b/config.json}
work=${OUT:-$(mktemp -d)}
[ -n "${OUT:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work/data"
cd "$work"
[ -e model/model.safetensors ] || random_model "$config" model
awk 'BEGIN { for (i = 0; i < 200; i++) print "row " i }' >data/text.txt
echo '{"text": {"file_name": "text.txt", "columns": {"prompt": "text"}}}' >data/dataset_info.json
df-pack -q --stage pt --dataset-dir data --dataset text --template empty --tokenizer bytes --cutoff-len 32 -o tokens.h5

train() { # KIND STEP: becomes df-train
	exec df-train -v model_name_or_path=model tokenized_path=tokens.h5 output_dir="$1" finetuning_type="$1" max_steps=1000 \
		per_device_train_batch_size=1 save_strategy=no save_total_limit=1 logging_steps=1 learning_rate=1e-5 --until "$2" 2>&1
}
ticks=$(getconf CLK_TCK)

# CPU seconds of process $1, which is still there.
cpu() {
	awk -v hz="$ticks" '{ sub(/.*\) /, ""); print ($12 + $13) / hz }' "/proc/$1/stat"
}

difference() {
	awk -v a="$1" -v b="$2" 'BEGIN { print a - b }'
}

round() { # KIND STEP: one line of numbers
	local kind=$1 step=$2 files line pid t0 real user sys start='' begun='' before='' save='' after='' peak='' TIMEFORMAT='%R %U %S'
	files=("$kind/checkpoint-$((step - 1))"/*.safetensors)
	[ "$kind" = full ] || files+=(model/model.safetensors)
	read -r real user sys < <({ time cat "${files[@]}" >/dev/null; } 2>&1)
	t0=$EPOCHREALTIME
	exec 3< <(
		echo "$BASHPID"
		train "$kind" "$step"
	)
	read -r pid <&3
	while read -r line <&3; do
		case $line in
		*': going on from'*) start=$EPOCHREALTIME begun=$(cpu "$pid") ;;
		*': step '*) before=$(cpu "$pid") ;;
		*': saved '*) after=$(cpu "$pid") save=${line##*(} ;;
		*' peak '*) peak=${line##* peak } ;;
		esac
	done
	exec 3<&-
	[ -n "$peak" ] || { echo "restart.sh: the run of $kind to step $step failed" >&2; exit 1; }
	echo "$real $(difference "$user" "-$sys") $(difference "$start" "$t0") $begun ${save%% *} $(
		difference "$after" "$before") ${peak%% *}"
}

for kind in lora full; do
	rm -rf "$kind"
	(train "$kind" 1 >first.log) || { cat first.log; exit 1; }
	echo "$kind: $(du -chL "$kind"/checkpoint-*/*.safetensors | awk 'END { print $1 }') of checkpoint"
	for ((i = 2; i <= rounds + 1; i++)); do
		round "$kind" "$i"
	done | awk '
		function median(v, n,    i, j, t) {
			for (i = 2; i <= n; i++)
				for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
			return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
		}
		function show(a, b, c, d, e, f, g) {
			printf "  reading %5.2f (%5.2f)  start %5.2f (%5.2f)  save %5.2f (%5.2f)  peak %5d MiB\n", a, b, c, d, e, f, g
		}
		{ for (i = 1; i <= 7; i++) x[i, NR] = $i; show($1, $2, $3, $4, $5, $6, $7); fflush() }
		END {
			for (i = 1; i <= 7; i++) {
				for (k = 1; k <= NR; k++)
					v[k] = x[i, k]
				m[i] = median(v, NR)
			}
			printf "median:\n"
			show(m[1], m[2], m[3], m[4], m[5], m[6], m[7])
			printf "  start - reading: %.2f s, of CPU time %.2f s\n", m[3] - m[1], m[4] - m[2]
		}'
done

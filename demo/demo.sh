#!/bin/sh
# The demonstration: does LESS find the samples that a target needs?
#
# The pool has six skills, 400 rows each.  The target is one of them (translating with an
# invented dictionary), given by 48 held-out rows.  A tiny Llama is trained from scratch.
# After a warm-up on the whole pool, where LESS compares gradients at two checkpoints,
# training continues with 300 rows that LESS selected, with 300 random rows, or with the full
# pool: the same number of steps on rows of the same length, so the same number of training
# tokens.  All are evaluated on 128 rows that were used neither for training nor for selection.
# There are three seeds, each with its own data, model and random numbers.
#
# All files are in build/demo-run (DEMO_OUT); if you run it again, finished steps are skipped.
# shellcheck disable=SC2086 # commands are words
set -eu
cd "$(dirname "$0")/.."

out=${DEMO_OUT:-build/demo-run}
seeds=${SEEDS:-1 2 3}
early=60   # LESS sums over two checkpoints of the warm-up: this one
warmup=100 # and the last one
steps=400
select=300
dim=1024
pool=translate,reverse,shout,add,order,continue

say() { printf '%s\n' "$*"; }
t0=$(date +%s)
mkdir -p "$out"

# make FILE COMMAND...: run the command unless the file exists.
make() {
	[ -e "$1" ] || { shift; "$@"; }
}

for seed in $seeds; do
	d=$out/seed-$seed
	mkdir -p "$d/data"
	say "seed $seed: data, warm-up of $warmup steps"
	make "$d/data/dataset_info.json" generate "$d/data" "$seed"
	for set in pool:$pool val:val test:test; do
		make "$d/${set%%:*}.h5" df-pack -q --dataset-dir "$d/data" --dataset "${set#*:}" --template default \
			--tokenizer bytes --cutoff-len 128 -o "$d/${set%%:*}.h5"
	done
	train="df-train demo/train.yaml -q seed=$seed tokenized_path=$d/pool.h5 eval_tokenized_path=$d/test.h5 max_steps=$steps"
	warm=$d/warm/checkpoint-$warmup
	for at in $early $warmup; do
		make "$d/warm/checkpoint-$at" $train output_dir="$d/warm" --until $at
	done

	say "seed $seed: gradients, scores, selection"
	operands=
	for at in $early $warmup; do
		make "$d/pool.$at.h5" df-grad -q -m "$d/warm/checkpoint-$at" --form adam --project $dim "$d/pool.h5" -o "$d/pool.$at.h5"
		make "$d/val.$at.h5" df-grad -q -m "$d/warm/checkpoint-$at" --form sgd --project $dim "$d/val.h5" -o "$d/val.$at.h5"
		operands="$operands --train $d/pool.$at.h5 --val $d/val.$at.h5"
	done
	make "$d/less.h5" df-score less -q $operands -n $select --scores-output "$d/scores.h5" -o "$d/less.h5"
	make "$d/random.h5" df-score random -q --train "$d/pool.$warmup.h5" -n $select --seed "$seed" -o "$d/random.h5"

	for arm in less random full; do
		say "seed $seed: $((steps - warmup)) steps on the $arm rows"
		index=
		[ $arm = full ] || index="--index $d/$arm.h5"
		make "$d/$arm/model.safetensors" $train output_dir="$d/$arm" resume_from_checkpoint="$warm" $index
		df-eval -q -m "$d/$arm" "$d/test.h5" >"$d/$arm.eval"
	done
done

# --- the table ---

# The share of the target skill in a selection, in percent: domain 0 of the pool.
share() {
	case $2 in
	full) echo 16.7 ;;
	*) df-show --json "$1/$2.h5" | sed -n 's/.*"translate": {"rows": \([0-9]*\)}.*/\1/p' | awk -v n=$select '{ printf "%.1f\n", 100 * $1 / n }' ;;
	esac
}
for seed in $seeds; do
	for arm in less random full; do
		d=$out/seed-$seed
		awk -v arm=$arm -v seed="$seed" -v share="$(share "$d" $arm)" \
			'$1 == "overall" { sub("%", "", $NF); print arm, seed, share, $4, $NF }' "$d/$arm.eval"
	done
done >"$out/results.txt"

awk '
	{ n[$1]++; share[$1] += $3; loss[$1] += $4; acc[$1] += $5
	  if (!($1 in lo) || $5 < lo[$1]) lo[$1] = $5
	  if (!($1 in hi) || $5 > hi[$1]) hi[$1] = $5 }
	END {
		names["less"] = "LESS, 300 rows"; names["random"] = "random, 300 rows"; names["full"] = "full pool, 2400 rows"
		printf "\n%-22s %14s %13s %28s\n", "trained on", "target share", "target loss", "exact answers (min..max)"
		split("less random full", order)
		for (i = 1; i <= 3; i++) { a = order[i]
			printf "%-22s %12.1f %% %13.3f %12.1f %% (%.1f..%.1f)\n", names[a], share[a] / n[a], loss[a] / n[a], acc[a] / n[a], lo[a], hi[a] }
		printf "\nMeans of %d seeds; evaluated on 128 rows of the target skill that were used neither for training nor for selection.\n", n["less"]
	}' "$out/results.txt" | tee "$out/table.txt"

# --- the pictures ---

for arm in less random full; do
	for seed in $seeds; do
		sed -n 's/.*"current_steps": *\([0-9]*\).*"eval_loss": *\([0-9.e-]*\).*/\1 \2/p' \
			"$out/seed-$seed/warm/trainer_log.jsonl" "$out/seed-$seed/$arm/trainer_log.jsonl"
	done | sort -n | awk '
		$1 != step && n { print step, sum / n, lo, hi; n = sum = 0 }
		{ step = $1; sum += $2; if (!n || $2 < lo) lo = $2; if (!n || $2 > hi) hi = $2; n++ }
		END { if (n) print step, sum / n, lo, hi }' >"$out/$arm.curve"
done
gnuplot -e "out='$out'; warmup=$warmup" demo/curves.gp
df-show -q --plot "$out/scores.svg" "$out/seed-${seeds%% *}/scores.h5"

say ""
say "Pictures: $out/curves.svg (and .png), $out/scores.svg.  Total time: $(($(date +%s) - t0)) s."

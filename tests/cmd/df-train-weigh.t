#!/bin/bash
# df-train, train_type: dynamic_weight: each method trains and logs its weights, and a run that is killed, or stopped,
# at any moment goes on to the same bytes.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

plain="df-train -q model_name_or_path=model train_from_scratch=true finetuning_type=full tokenized_path=pool.h5
	per_device_train_batch_size=4 gradient_accumulation_steps=2 save_steps=4 logging_steps=3 learning_rate=1e-3 lr_scheduler_type=constant"
train="$plain train_type=dynamic_weight warmup_step=3 train_step=14 eval_tokenized_path=val.h5"

# A program that gives weights by sample.
cat >teacher.py <<'END'
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    print(json.dumps([1 + (i % 3) / 4 for i in q["id"]]), flush=True)
END

# --- each method -------------------------------------------------------------------------------------------------

# Of the first line, three digits after the point.
three() { head -n 1 "$1/weight_log.jsonl" | sed -E 's/ "mean": [0-9.]+,//; s/([0-9]\.[0-9]{3})[0-9]+/\1/g'; }
last() { sed -n 3p "$1/weight_log.jsonl"; }

methods='loss adapt joint_update_aware custom'
for m in $methods; do
	ok "$m trains" $train component_name=$m output_dir=$m
	is "$m: a line of the log from step 6 on, after the warm-up" "$(sed -E 's/^\{"step": ([0-9]+),.*/\1/' $m/weight_log.jsonl | tr '\n' ' ')" '6 9 12 14 '
	last $m >"$T/out"
	prints "$m: what it says" "\"method\": \"$m\", \"n\": 18, \"min\": [0-9.]+, \"mean\": [0-9.]+, \"max\": .*\"counts\": \["
	is "$m: the warm-up is plain training" "$(head -n 1 $m/trainer_log.jsonl | grep -o '"loss": [0-9.]*')" "$(head -n 1 loss/trainer_log.jsonl | grep -o '"loss": [0-9.]*')"
done
cmp -s loss/model.safetensors custom/model.safetensors
[ $? -eq 1 ]
report $? 'weights matter'
for m in loss adapt joint_update_aware; do
	ok "$m, of the whole step" $train component_name=$m component_params.group=step output_dir=step-$m
	ok "$m, of a step of one micro-batch" $train component_name=$m output_dir=one-$m \
		per_device_train_batch_size=8 gradient_accumulation_steps=1
	is "$m: the same weights, but for roundings in the model" "$(three step-$m)" "$(three one-$m)"
	ok "$m, with three threads" $train --threads 3 component_name=$m output_dir=threads-$m
	same "$m: the same model" $m/model.safetensors threads-$m/model.safetensors
	same "$m: the same log" $m/weight_log.jsonl threads-$m/weight_log.jsonl
done

# --- killed and resumed ------------------------------------------------------------------------------------------

# Killed at any moment, until it is over.
i=0
for m in loss adapt joint_update_aware; do
	i=0
	while [ $i -lt 60 ] && [ ! -e killed-$m/all_results.json ]; do
		i=$((i + 1))
		$train component_name=$m component_params.group=step output_dir=killed-$m save_steps=2 2>/dev/null &
		pid=$!
		sleep "0.0$((RANDOM % 10))"
		[ $i -gt 12 ] || kill -9 $pid 2>/dev/null
		wait $pid 2>/dev/null
	done
	for f in model.safetensors weight_log.jsonl; do
		same "$m, killed $i times: the same $f" step-$m/$f killed-$m/$f
	done
	for until in 5 7 8 11 14; do
		$train component_name=$m component_params.group=step output_dir=until-$m --until $until
	done
	same "$m, in pieces: the same model" step-$m/model.safetensors until-$m/model.safetensors
	same "$m, in pieces: the same log" step-$m/weight_log.jsonl until-$m/weight_log.jsonl
done

# --- custom ------------------------------------------------------------------------------------------------------

if command -v python3 >/dev/null 2>&1; then
	ok 'a program' $train component_name=custom component_params.program='exec python3 teacher.py' output_dir=program
	last program >"$T/out"
	prints 'its weights' '"min": 1, .*"max": 1.5,'
	exits 65 'a program that answers with fewer' $train component_name=custom component_params.program='while read -r x; do echo "[1]"; done' output_dir=bad
	says 'says so' 'step 4: the program .*: the answer must be a list of 4 weights'
else
	skip 'a program that is asked' 'no python3 here'
fi
exits 65 'a program that ends' $train component_name=custom component_params.program='exit 3' output_dir=bad
says 'says how' "the program 'exit 3' ended, with status 3, before it had answered"
exits 65 'weights below 0' $train component_name=custom component_params.program='while read -r x; do echo "[1,1,-1,1]"; done' output_dir=bad
says 'are refused, with the sample' 'custom gives sample [0-9]+ the weight -0.25: it must be a number from 0 up'

if command -v cc >/dev/null 2>&1; then
	build() { cc -std=c11 -Wall -Wextra -Wno-missing-field-initializers -shared -fPIC -O1 "-I$SRC/lib" "$1" -o "$2" -lm; }
	sed 's/"focal"/"loss"/' "$SRC/tests/plugin/focal.c" >taken.c
	sed 's/ exp(-/ exp(999 * /' "$SRC/tests/plugin/focal.c" >wrong.c
	ok 'focal.c compiles' build "$SRC/tests/plugin/focal.c" focal.so
	ok 'a plug-in trains' $train component_name=custom component_params.plugin=focal.so component_params.gamma=0.5 output_dir=plugin
	last plugin >"$T/out"
	prints 'its name is in the log' '"method": "focal", "n": 18, "min": 0.9'
	exits 78 'an option that it does not have' $train component_name=custom component_params.plugin=focal.so component_params.gama=1 output_dir=none
	says 'suggests' "did you mean gamma?"
	build taken.c taken.so && exits 65 'a name that is taken' $train component_name=custom component_params.plugin=taken.so output_dir=none
	says 'says so' "its weigher is called 'loss', as one of df-train's own"
	build wrong.c wrong.so && exits 65 'weights that are no numbers' $train component_name=custom component_params.plugin=wrong.so output_dir=bad
	says 'are refused' 'focal gives sample [0-9]+ the weight -?(nan|inf)'
else
	skip 'a plug-in' 'no cc here'
fi
exits 66 'a plug-in that is not there' $train component_name=custom component_params.plugin=none.so output_dir=none
says 'says so' 'none.so: No such file'
exits 65 'a file that is no plug-in' $train component_name=custom component_params.plugin=pool.h5 output_dir=none
says 'says so' 'pool.h5: it cannot be loaded'

# --- errors before any work --------------------------------------------------------------------------------------

exits 78 'a method that is not there' $train component_name=los output_dir=none
says 'suggests' "unknown weigher 'los'; did you mean 'loss'"
exits 78 'a parameter that is not there' $train component_name=loss component_params.delt=1 output_dir=none
says 'suggests' "delta"
exits 78 'a parameter that cannot be' $train component_name=loss component_params.delta=0 output_dir=none
says 'says so' 'delta is 0, it must be above 0'
exits 78 'no anchors' $plain train_type=dynamic_weight train_step=14 component_name=adapt output_dir=none
says 'says what to give' 'adapt compares samples with the evaluation set, and there is none: give eval_tokenized_path'
exits 78 'weights of targets, too' $train component_name=loss use_dft_loss=true output_dir=none
says 'says so' 'use_dft_loss: it weighs the targets'
[ ! -e none ]
report $? 'nothing was made'
ok 'groups of one sample' ${train/-q/} component_name=loss per_device_train_batch_size=1 output_dir=single
says 'are warned of' 'a group has one sample, which weighs 1: nothing is weighed'

done_testing

#!/bin/bash
# df-train, train_type: dynamic_select: the plan, warm-ups and windows, what a run says at an event, the same bytes after
# stops and kills, and what is refused before any work.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"
. "$SRC/tests/cmd/kill_resume.sh"

plain="df-train model_name_or_path=model train_from_scratch=true finetuning_type=full tokenized_path=pool.h5
	per_device_train_batch_size=4 logging_steps=2 save_steps=2 learning_rate=1e-3 lr_scheduler_type=constant"
select="$plain train_type=dynamic_select component_name=random"
train="$select warmup_step=3 update_step=2 update_times=2 num_train_epochs=1.5"

# --- the plan ---------------------------------------------------------------------------------------------------------

ok 'the plan' $train output_dir=none --plan
is 'all events' "$(tr '\t\n' ' ;' <"$T/out")" 'step what flex_epoch ordinal rows until;0 warm-up 0 0 12 3;3 select 0 1 8 5;5 select 0 2 8 7;7 warm-up 1 0 12 10;10 select 1 1 8 11;11 end 0 0 0 11;'
[ ! -e none ]
report $? 'nothing is made for it'
ok 'of an ordinary run' $plain output_dir=none --plan
prints 'has an end' '^27	end	0	0	0	27$'
ok 'static_full is static' $plain train_type=static_full output_dir=none --plan
prints 'and has the same end' '^27	end	'
ok 'without T, P is an epoch' $select update_step=4 update_times=-1 num_train_epochs=1 output_dir=none --plan
prints 'which begins with a selection if W is 0' '^0	select	0	1	16	4$'

# --- the run ----------------------------------------------------------------------------------------------------------

choose() # the index of step $1
{
	df-score random -q --train pool.h5 -n 8 --step "$1" -o "at$1.h5"
}
choose 3 && choose 5 && choose 10

# walk DIR CMD ...: the run by windows
walk()
{
	dir=$1
	shift
	"$@" $train -q output_dir="$dir" --until 3 && "$@" $train -q output_dir="$dir" --index at3.h5 --until 5 &&
		"$@" $train -q output_dir="$dir" --index at5.h5 --until 7 &&
		"$@" $train -q output_dir="$dir" --until 10 && "$@" $train -q output_dir="$dir" --index at10.h5
}
ok 'window by window' walk whole env
[ -f whole/all_results.json ]
report $? 'comes to its end'
grep -q '"dynamic": {"method": "random", "event_step": 7, "flex_epoch": 1,' whole/checkpoint-10/df_state.json
report $? 'the state says which window it is in'
exits 64 'a run without an index' $train output_dir=alone
says 'says what to do' 'step 3 of 11: rows for steps 4 to 5 must be selected: .df-score random .* -n 8 --step 3 -o FILE. with checkpoint-3, .*--index FILE'
same 'with the checkpoint of the event' alone/checkpoint-3/model.safetensors whole/checkpoint-3/model.safetensors
exits 64 'again' $train output_dir=alone
says 'nothing is trained' 'step 3 of 11: rows for steps 4 to 5'
exits 64 'on to the next event' $train -q output_dir=alone --index at3.h5
says 'and no further' 'step 5 of 11: rows for steps 6 to 7 must be selected anew'
same 'it is the same run' alone/checkpoint-5/model.safetensors whole/checkpoint-5/model.safetensors
exits 65 'the same command again' $train -q output_dir=alone --index at3.h5
says 'is not the next window' 'at3.h5 was selected for step 3; the run needs rows for step 5 .8 rows.'
exits 64 'two windows and a warm-up in two commands' $train -q output_dir=alone --index at5.h5
says 'end at the next selection' 'step 10 of 11: '
ok 'to the end' $train -q output_dir=alone --index at10.h5
same 'it is the same run still' alone/model.safetensors whole/model.safetensors
ok 'what is done already' $train output_dir=alone --index at3.h5 --until 5
says 'is not done again' 'alone/checkpoint-5 is there already'
exits 65 'on other rows' $train output_dir=alone --index at10.h5 --until 5
says 'it was not' 'was not trained on at10.h5'

# A step without a selection: the same rows are trained on by a static run with an index.
df-score random -q --train pool.h5 -n 12 --step 0 -o warm0.h5
df-score random -q --train pool.h5 -n 12 --step 1 -o warm1.h5
ok 'a static run on the rows of a uniform choice' $plain -q max_steps=11 output_dir=static --index warm0.h5 --until 3
same 'trains like a warm-up' static/checkpoint-3/model.safetensors whole/checkpoint-3/model.safetensors
plain2="$select warmup_step=3 update_step=2 update_times=2 num_train_epochs=1.5 disable_shuffling=true"
ok 'a window in the order of its index' $plain2 -q output_dir=ranks --until 3
ok 'too' $plain2 -q output_dir=ranks --until 5 --index at3.h5
ok 'is a static run on it' $plain -q max_steps=11 output_dir=static --index at3.h5 --until 5
same 'to the byte' static/checkpoint-5/model.safetensors ranks/checkpoint-5/model.safetensors
! cmp -s ranks/checkpoint-5/model.safetensors whole/checkpoint-5/model.safetensors
report $? 'as a rule its rows are shuffled'
ok 'the next Flex epoch' $plain2 -q output_dir=ranks --until 7 --index at5.h5
ok 'draws anew' $plain2 -q output_dir=ranks --until 10
ok 'like this' $plain -q max_steps=11 output_dir=static --index at5.h5 --until 7
ok 'and this' $plain -q max_steps=11 output_dir=static --index warm1.h5 --until 10
same 'with the Flex epoch as substream' static/checkpoint-10/model.safetensors ranks/checkpoint-10/model.safetensors

ok 'a warm-up of more rows than there are' $select warmup_step=10 update_step=2 update_times=1 output_dir=many --until 10
says 'says so' 'pool.h5 has 34 rows, fewer than the warm-up takes: they come again'
df-score random -q --train pool.h5 -n 34 --step 0 -o all.h5
ok 'is' $plain -q max_steps=12 output_dir=many2 --index all.h5 --until 10
same 'all rows, and then those again' many/checkpoint-10/model.safetensors many2/checkpoint-10/model.safetensors
df-score random -q --train pool.h5 -n 8 --step 0 -o at0.h5
ok 'without a warm-up' $select -q warmup_step=0 update_step=2 update_times=2 num_train_epochs=1 output_dir=zero --index at0.h5 --until 2
exits 64 'without a warm-up and an index' $select warmup_step=0 update_step=2 output_dir=zero2
says 'rows come before the first step' 'step 0 of 6: rows for steps 1 to 2 must be selected: .* with the model'
[ ! -e zero2 ]
report $? 'nothing is made'
df-score random -q --train pool.h5 -n 5 --step 3 -o few.h5
cp -r whole short && rm -rf short/checkpoint-[4-9] short/checkpoint-1? short/model.safetensors short/all_results.json
ok 'a window with fewer rows than it takes' $train output_dir=short --index few.h5 --until 5
says 'says so' 'few.h5 has 5 rows, but the window takes 8: it starts again from its first'

# --- stops and kills --------------------------------------------------------------------------------------------------

ok 'killed at random moments' walk killed kill_resume 0.4
[ $n_kills -gt 0 ]
report $? 'there were kills'
same_run 'the same bytes' whole killed

cp -r whole inside && rm -rf inside/checkpoint-[5-9] inside/checkpoint-1? inside/model.safetensors inside/all_results.json
exits 64 'inside a window, without its index' $train output_dir=inside
says 'asks for it' 'step 4 is in the window of steps 4 to 5, which trains on an index: give that again'
exits 65 'with another' $train output_dir=inside --index at5.h5
says 'refuses it' 'which trains on another index than at5.h5'
exits 78 'with other windows' $train output_dir=inside --index at3.h5 warmup_step=2
says 'refuses them' 'inside/checkpoint-4 is in the window after step 3; with the keys that are given now it would be in that after step 2: give those'

# --- what is refused before any work ----------------------------------------------------------------------------------

exits 78 'a checkpoint of another train_type' $train output_dir=static
says 'is named' 'train_type: static/checkpoint-10 is of a run with train_type static, not dynamic_select: .* model_name_or_path=static/checkpoint-10 and a new output_dir'
exits 78 'the other way round too' $plain output_dir=whole max_steps=20
says 'named, too' 'of a run with train_type dynamic_select, not static'
exits 78 'no method' $plain train_type=dynamic_select update_step=2 output_dir=none
says 'is missing' 'train_type: dynamic_select needs component_name'
exits 78 'update_step 0' $select output_dir=none
says 'has a place' 'command line: |update_step must be at least 1'
cat >components.yaml <<'END'
selectors:
  random: {name: random, params: {seed: 1}}
mixers:
  bad: {name: random, params: {sed: 1}}
  null: {name: random, params: null}
  wrong: {name: odm, params: {alpha: [1, 2]}}
END
c=components_cfg_file=components.yaml
exits 78 'an unknown component' $train $c component_name=randm output_dir=none
says 'with the nearest' 'components.yaml: selectors has no component .randm.; did you mean .random.'
exits 78 'an unknown parameter' $plain train_type=dynamic_mix update_step=2 $c component_name=bad output_dir=none
says 'with its line' 'components.yaml:4: random has no parameter sed; did you mean seed'
exits 78 'a parameter of another type' $plain train_type=dynamic_mix update_step=2 $c component_name=wrong output_dir=none
says 'with its line, too' 'components.yaml:6: alpha: '
echo 'selectors: [1' >broken.yaml
exits 78 'what is not YAML' $train components_cfg_file=broken.yaml output_dir=none
says 'has a line' 'broken.yaml:2: '
exits 64 'an index for a mixture' $plain train_type=dynamic_mix update_step=2 component_name=random output_dir=none --index at3.h5
says 'is not for it' '--index: a run with train_type dynamic_mix draws its rows itself'
[ ! -e none ]
report $? 'nothing was made'

done_testing

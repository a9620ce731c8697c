#!/bin/bash
# df-train: resume_from_checkpoint.  A named checkpoint wins over newer ones, the same command goes on from what it has
# saved since, and so does the next one.  (kill-resume.t does it with kills.)
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

train="df-train model_name_or_path=model train_from_scratch=true finetuning_type=full tokenized_path=pool.h5
	per_device_train_batch_size=4 max_steps=12 save_steps=2 logging_steps=1 learning_rate=1e-3 lr_scheduler_type=constant"

# begun DIR: ready for a test: a run that has come to step 8
ok 'a run' $train -q output_dir=first --until 8
begun()
{
	rm -rf "$1"
	cp -r first "$1"
}

steps() # of the checkpoints of $1
{
	for c in "$1"/checkpoint-*; do echo "${c##*-}"; done | sort -n | tr '\n' ' '
}

log() # the steps in the log of $1
{
	sed -E 's/.*"current_steps": ([0-9]+),.*/\1/' "$1/trainer_log.jsonl" | tr '\n' ' '
}

# --- the named one wins -----------------------------------------------------------------------------------------------

back='resume_from_checkpoint=run2/checkpoint-4 learning_rate=2e-3'
begun run2
ok 'back to an earlier one' $train output_dir=run2 $back --until 7
says 'says what becomes of the later ones' 'warning: .* back to run2/checkpoint-4; 2 later checkpoints of run2, up to step 8, stay until this run saves the same step or save_total_limit removes them$'
says 'goes on from there' 'going on from run2/checkpoint-4$'
says 'with the step after it' 'step 5/12 '
is 'the later ones stay until they are written anew' "$(steps run2)" '2 4 6 7 8 '
same 'one that is left is the old one' first/checkpoint-8/model.safetensors run2/checkpoint-8/model.safetensors
! cmp -s first/checkpoint-6/model.safetensors run2/checkpoint-6/model.safetensors
report $? 'one that was passed is the new one'
is 'no line of the log is there twice, none of what was left' "$(log run2)" '1 2 3 4 5 6 7 '

# --- the next command -------------------------------------------------------------------------------------------------

cp -r run2 run3
ok 'the same command again' $train output_dir=run2 $back --until 9
says 'goes on where it was' 'going on from run2/checkpoint-7$'
ok 'any other command' $train output_dir=run3 learning_rate=2e-3 --until 9
says 'goes on there too, not from the older step 8' 'going on from run3/checkpoint-7$'
for f in model.safetensors optimizer.safetensors df_state.json trainer_state.json; do
	same "the same $f" run2/checkpoint-9/$f run3/checkpoint-9/$f
done
ok 'an uninterrupted run from there' $train -q output_dir=fresh resume_from_checkpoint=first/checkpoint-4 learning_rate=2e-3 --until 9
same 'makes the same model' fresh/checkpoint-9/model.safetensors run2/checkpoint-9/model.safetensors
is 'its log begins where it does' "$(log fresh)" '5 6 7 8 9 '
ok 'to the end' $train -q output_dir=run2 $back
ok 'and again' $train output_dir=run2 $back
says 'nothing is left to do' 'all 12 steps are done'
ok 'with another configuration' $train output_dir=run2 resume_from_checkpoint=./run2/../run2/checkpoint-4 learning_rate=3e-3 --until 5
says 'it is another command: back again' 'going on from \./run2/\.\./run2/checkpoint-4$'
[ ! -e run2/all_results.json ]
report $? 'the run is not over any more'
ok 'from there' $train output_dir=run2 learning_rate=3e-3 --until 6
says 'the newest by time, not by step' 'going on from run2/checkpoint-5$'
exits 64 'a step that was left behind' $train output_dir=run2 learning_rate=3e-3 --until 5 resume_from_checkpoint=run2/checkpoint-8
says 'says how to get there' 'run2/checkpoint-8 is at step 8 already, and there is no run2/checkpoint-5: give resume_from_checkpoint=run2/checkpoint-5'
ok 'the newest by its name' $train output_dir=run2 learning_rate=3e-3 resume_from_checkpoint=run2/checkpoint-6/ --until 7
[ "$(grep -c warning "$T/err")" -eq 0 ]
report $? 'leaves nothing behind'

# A finished run is sent back and stopped: what it had ended with is not taken for the end of this one.
begun over
ok 'a finished run' $train -q output_dir=over max_steps=8
ok 'is sent back' $train -q output_dir=over max_steps=8 learning_rate=2e-3 resume_from_checkpoint=over/checkpoint-2
same 'and has the new model' over/model.safetensors over/checkpoint-8/model.safetensors
ok 'a longer run, not to its end' $train -q output_dir=over learning_rate=2e-3 --until 10
[ ! -e over/all_results.json ]
report $? 'is not over: the model is still that of step 8'
ok 'its end is moved to where it is' $train -q output_dir=over max_steps=10 learning_rate=2e-3
same 'the model is that of step 10' over/model.safetensors over/checkpoint-10/model.safetensors

# --- save_total_limit -------------------------------------------------------------------------------------------------

begun few
ok 'with a limit' $train -q output_dir=few save_total_limit=2 resume_from_checkpoint=few/checkpoint-2 learning_rate=2e-3 --until 4
is 'the new one and the newest of the others are kept' "$(steps few)" '4 8 '
ok 'the same command again, its start is gone' $train output_dir=few save_total_limit=2 resume_from_checkpoint=few/checkpoint-2 learning_rate=2e-3 --until 6
says 'goes on' 'going on from few/checkpoint-4$'
is 'the oldest is removed' "$(steps few)" '4 6 '
begun one
ok 'a limit of one' $train -q output_dir=one save_total_limit=1 resume_from_checkpoint=one/checkpoint-2 --until 3
is 'keeps the new one' "$(steps one)" '3 '
same 'which goes on as if nothing had been' one/checkpoint-3/model.safetensors one/checkpoint-3/model.safetensors
exits 66 'another one that is gone' $train -q output_dir=few resume_from_checkpoint=few/checkpoint-8
says 'is said to be' 'resume_from_checkpoint: few/checkpoint-8: no such directory'

# --- spellings --------------------------------------------------------------------------------------------------------

begun words
for w in null '~' '' true True yes '"true"' words words/ "$PWD/words"; do
	ok "resume_from_checkpoint=$w" $train output_dir=words "resume_from_checkpoint=$w" -n
	prints 'the newest' '^steps +9 to 12 of 12'
done
for w in false False no; do
	exits 64 "resume_from_checkpoint=$w" $train output_dir=words "resume_from_checkpoint=$w" -n
	says 'says that there is one' 'words/checkpoint-8 exists: give another output_dir'
	ok "resume_from_checkpoint=$w, nothing there" $train output_dir=nowhere "resume_from_checkpoint=$w" -n
done
exits 66 'true, nothing there' $train output_dir=nowhere resume_from_checkpoint=true
ok 'a directory of checkpoints' $train output_dir=words2 resume_from_checkpoint=words --until 10
says 'its newest' 'going on from words/checkpoint-8$'
ok 'again' $train output_dir=words2 resume_from_checkpoint=words --until 11
says 'goes on from its own' 'going on from words2/checkpoint-10$'

# --- what is no checkpoint --------------------------------------------------------------------------------------------

mkdir empty whole
cp -r first/checkpoint-8 light
rm light/optimizer.safetensors
cp first/checkpoint-8/model.safetensors first/checkpoint-8/config.json whole
exits 66 'nothing' $train output_dir=no resume_from_checkpoint=absent
says 'says so' 'resume_from_checkpoint: absent: no such directory'
for d in empty pool.h5; do
	exits 65 "$d" $train output_dir=no resume_from_checkpoint=$d
	says 'says so' "resume_from_checkpoint: $d is not a checkpoint and holds none"
done
exits 65 'a model' $train output_dir=no resume_from_checkpoint=whole
says 'says how to start from it' 'resume_from_checkpoint: whole is a model but not a checkpoint of df-train; .* model_name_or_path'
exits 65 'a checkpoint without an optimizer' $train output_dir=no resume_from_checkpoint=light
says 'says what is missing' 'resume_from_checkpoint: light has no optimizer\.safetensors'
head -c 300 first/checkpoint-8/df_state.json >light/df_state.json
cp first/checkpoint-8/optimizer.safetensors light
exits 65 'a damaged one' $train output_dir=no resume_from_checkpoint=light
says 'says where' 'light/df_state\.json'
exits 65 'nothing in a run that has checkpoints' $train output_dir=words resume_from_checkpoint=empty
[ ! -e no ]
report $? 'nothing is made of these'

# --- --until a step that is past --------------------------------------------------------------------------------------

begun past
exits 64 'a step that was never saved' $train output_dir=past --until 5
says 'is not said to be gone; says where one could go on' 'past/checkpoint-8 is at step 8 already, and there is no past/checkpoint-5: give resume_from_checkpoint=past/checkpoint-4 to train on from there, another output_dir, or overwrite_output_dir=true$'
ok 'that works' $train -q output_dir=past --until 5 resume_from_checkpoint=past/checkpoint-4
ok 'on, with rare saves' $train -q output_dir=past save_steps=100 --until 9
exits 64 'a step that lies on the way that was left' $train output_dir=past --until 8
says 'is not one of this run' 'there is no past/checkpoint-8: give resume_from_checkpoint=past/checkpoint-8'
ok 'one before it was left' $train output_dir=past --until 2
says 'is' 'past/checkpoint-2 is there already'

# --- other batches ----------------------------------------------------------------------------------------------------

# 34 rows: 9 steps of 4, 17 of 2, 5 of 8
for b in '2 8/17 0.47 0.89 seen.again' '8 8/5 1.60 0.89 skipped'; do
	# shellcheck disable=SC2162 # words
	read batch _ now before how <<<"$b"
	begun batches
	ok "batches of $batch" $train output_dir=batches per_device_train_batch_size=$batch --until 9
	says 'what that means for the rows' "another per_device_train_batch_size; going on with the new value; .* at epoch $now where the checkpoint was at $before: rows are $how\$"
done
begun batches
ok 'the same batches in two parts' $train output_dir=batches per_device_train_batch_size=2 gradient_accumulation_steps=2 --until 9
says 'move nothing' 'another per_device_train_batch_size, gradient_accumulation_steps; going on with the new value$'

done_testing

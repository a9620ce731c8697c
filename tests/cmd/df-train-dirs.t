#!/bin/bash
# df-train: what may stand in output_dir.  A model that lies there is not replaced by a slip, and one that the run reads
# never, by whatever path; a run that is started again goes on.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

base="df-train -q tokenized_path=pool.h5 finetuning_type=full per_device_train_batch_size=4 max_steps=4 save_steps=2
	logging_steps=1 learning_rate=1e-3 lr_scheduler_type=constant"
lora="df-train -q tokenized_path=pool.h5 finetuning_type=lora per_device_train_batch_size=4 max_steps=2 logging_steps=1"
ok 'a base model' $base model_name_or_path=model train_from_scratch=true output_dir=made
ok 'an adapter' $lora model_name_or_path=made output_dir=made-lora
mkdir base adapter
cp made/*.safetensors made/config.json made/tokenizer* base
cp made-lora/adapter_* adapter
full="$base model_name_or_path=base"

# listing DIR: its files and what is in them
listing()
{
	(cd "$1" && find . | LC_ALL=C sort && find . -type f -exec cksum {} + | LC_ALL=C sort -k 3)
}

# refused WHAT REGEX COMMAND...: 64, and neither base, adapter nor $d is changed; a dry run says the same
refused()
{
	for dir in base adapter $d; do listing $dir; done >before
	exits 64 "$1" "${@:3}"
	says "$1: says so" "^df-train: (resume_from_checkpoint: )?output_dir: $2"
	exits 64 "$1: -n too" "${@:3}" -n
	for dir in base adapter $d; do listing $dir; done >after
	same "$1: nothing is written" before after
}

# --- a model that lies there ------------------------------------------------------------------------------------------

for f in model.safetensors model.safetensors.index.json model-00001-of-00002.safetensors adapter_model.safetensors \
	pytorch_model.bin pytorch_model.bin.index.json pytorch_model-00001-of-00002.bin adapter_model.bin \
	consolidated.safetensors; do
	d=there
	rm -rf there
	mkdir there
	echo 'a model' >there/$f
	refused "$f" "there holds a model \\($f\\) and no checkpoint of df-train, .* overwrite_output_dir=true" $full output_dir=there
done
refused 'in front of no checkpoint' 'there holds a model' $full output_dir=there resume_from_checkpoint=false
refused 'in front of a named one' 'there holds a model' $full output_dir=there resume_from_checkpoint=made/checkpoint-2
refused 'a link to it' 'there/ holds a model' $full output_dir=there/
ok 'overwrite_output_dir allows it' $full output_dir=there overwrite_output_dir=true --until 2
ok 'and then it is a run' $full output_dir=there
d=theirs
mkdir -p theirs/checkpoint-500
echo 'a model' >theirs/checkpoint-500/model.safetensors
refused 'a checkpoint of another program' 'theirs holds theirs/checkpoint-500, a checkpoint of another program' $full output_dir=theirs
d=made/checkpoint-2
refused 'a checkpoint of a run' 'made/checkpoint-2 holds a model' $full output_dir=made/checkpoint-2
mkdir notes
for f in n.txt training_args.bin optimizer.bin config.json index.json my.safetensors.txt; do echo hi >notes/$f; done
mkdir notes/checkpoint-7 notes/checkpoint-x
ok 'other files only' $full output_dir=notes
ok 'a finished run again' $full output_dir=notes
is 'the notes are there' "$(cat notes/n.txt notes/training_args.bin)" "hi
hi"

# --- a finished run that kept no checkpoint ---------------------------------------------------------------------------

none="$full save_strategy=no"
ok 'no checkpoints' $none output_dir=none
set -- none/checkpoint-*
is 'none' "$1" 'none/checkpoint-*'
listing none >before
ok 'again' ${none/-q/} output_dir=none
says 'nothing is left to do' 'none: all 4 steps are done'
listing none >after
same 'nothing is changed' before after
exits 64 'longer' $none max_steps=6 output_dir=none
says 'there is nothing to go on from' 'none holds the model of a run of 4 steps and no checkpoint'
exits 64 'an earlier step' $none output_dir=none --until 2
says 'is not there, nor is it said that it was' 'none is at step 4 already, and there is no none/checkpoint-2: '
exits 64 'from a named one' $none output_dir=none resume_from_checkpoint=made/checkpoint-2
listing none >after
same 'nothing is changed by all that' before after
# Killed while it wrote its result.
rm none/all_results.json none/model.safetensors
echo 'half a model' >none/model.safetensors
exits 64 'half a result, another command' $none learning_rate=1e-2 output_dir=none
ok 'half a result, the same command' $none output_dir=none
listing none | grep -v '\.json' >after
grep -v '\.json' before >before.models
same 'its bytes' before.models after
[ -e none/all_results.json ]
report $? 'its end'
ok 'from a named one, no checkpoints' $none output_dir=none2 resume_from_checkpoint=made/checkpoint-2
cp none2/model.safetensors none2.want
ok 'again' ${none/-q/} output_dir=none2 resume_from_checkpoint=made/checkpoint-2
says 'nothing is left to do' 'none2: all 4 steps are done'
exits 64 'from another one' $none output_dir=none2 resume_from_checkpoint=none/../made/checkpoint-4
says 'that would be lost' 'none2 holds the model of another run, which the run would replace'
rm none2/all_results.json
echo 'half a model' >none2/model.safetensors
ok 'half a result' ${none/-q/} output_dir=none2 resume_from_checkpoint=made/checkpoint-2
says 'starts at the named one again' 'going on from made/checkpoint-2$'
same 'and gives its bytes' none2/model.safetensors none2.want
ok 'checkpoints without optimizers' $full save_only_model=true output_dir=light
listing light >before
ok 'a finished run of those again' $full save_only_model=true output_dir=light
listing light >after
same 'does nothing' before after
d=light
refused 'the last checkpoint of such a run' 'light/checkpoint-4 holds a model \(model.safetensors\)' \
	$full save_only_model=true output_dir=light/checkpoint-4

# --- models that the run reads ----------------------------------------------------------------------------------------

d=base
ln -s base link
ln -s ../base/model.safetensors notes/linked
for path in base ./base base/ notes/../base link link/ "$PWD/base"; do
	for over in false true; do
		refused "the base model's directory as $path, overwriting: $over" '.* is the directory of model_name_or_path' \
			$full output_dir=$path overwrite_output_dir=$over
	done
done
refused 'reached the other way round' 'base is the directory of model_name_or_path' \
	$base model_name_or_path=link output_dir=base overwrite_output_dir=true
refused 'an adapter into its base' 'base is the directory of model_name_or_path' $lora model_name_or_path=base output_dir=base
d=adapter
refused 'the directory of the adapter to go on with' '.*adapter is the directory of adapter_name_or_path' \
	$lora model_name_or_path=base adapter_name_or_path=adapter output_dir=./adapter overwrite_output_dir=true
d=tied
mkdir tied
ln base/model.safetensors tied
refused 'a hard link of its weights' 'tied/model.safetensors is the file base/model.safetensors of model_name_or_path' \
	$full output_dir=tied overwrite_output_dir=true
rm tied/*
ln -s ../base/model.safetensors tied/model-00001-of-00001.safetensors
refused 'a symbolic link under another name' 'tied/model-00001-of-00001.safetensors is the file' \
	$full output_dir=tied overwrite_output_dir=true
rm tied/*
ln -s ../base/config.json tied
refused 'a symbolic link of its configuration' 'tied/config.json is the file' $full output_dir=tied
rm tied/*
ln base/config.json tied
ln -s ../base/config.json tied/base_config.json
cp base/config.json was
ok 'a hard link of it, which is left alone' $full output_dir=tied --until 2
ok 'to the end' $full output_dir=tied
same 'it is' base/config.json was
d=made
refused 'a checkpoint in output_dir as the model' 'made/checkpoint-2, a checkpoint of it, is the directory of model_name_or_path' \
	$base model_name_or_path=made/checkpoint-2 output_dir=made overwrite_output_dir=true
refused 'the checkpoint itself' 'made/checkpoint-2 is the checkpoint of resume_from_checkpoint itself' \
	$full output_dir=made/checkpoint-2 resume_from_checkpoint=made/checkpoint-2
ok 'a directory in the model' $full output_dir=base/tuned

done_testing

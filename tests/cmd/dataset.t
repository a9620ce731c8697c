#!/bin/bash
# shellcheck disable=SC2046,SC2086 # commands and lists of files are words
# Datasets without the columns that are read, in every program that reads datasets.  Programs and options are those of
# -h, so that an option that names datasets and is not in the table below fails here on the day it is added.
. "$(dirname "$0")/lib.sh"

mkdir data tiny
echo '{"text": "What is two and two?"}' >data/text.jsonl
echo '{"Instruction": "What is two and two?", "output": "4"}' >data/caps.jsonl
echo '{"messages": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}' >data/turns.jsonl
echo '{"instruction": "What is two and two?", "output": "4"}' >data/good.jsonl
cat >data/dataset_info.json <<'INFO'
{
  "text": { "file_name": "text.jsonl" },
  "caps": { "file_name": "caps.jsonl" },
  "turns": { "file_name": "turns.jsonl", "formatting": "sharegpt" },
  "openai": { "file_name": "turns.jsonl", "formatting": "openai" },
  "named": { "file_name": "caps.jsonl", "columns": { "prompt": "Instruction", "response": "answer" } },
  "other": { "file_name": "good.jsonl" },
  "good": { "file_name": "good.jsonl" }
}
INFO
# The columns that a message must name.
declare -A columns=([text]="'text'" [caps]="'Instruction', 'output'" [named]="'Instruction', 'output'"
	[turns]="'messages'" [openai]="'messages'")
sed -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	"$SRC/configs/models/tiny-llama/config.json" >tiny/config.json
pack='df-pack -q --dataset-dir data --template default --tokenizer bytes -o out.h5'
ok 'tokens' $pack --dataset good -o good.h5
ok 'a model' df-train -q model_name_or_path=tiny train_from_scratch=true finetuning_type=full tokenized_path=good.h5 \
	output_dir=run max_steps=1 logging_steps=1

# ways PROGRAM OPTION: the ways in which the option has rows read, each as WRONG DATASETS|RIGHT ONE|COMMAND, where
# DATASET stands for one of them.  False for an option that is not known here.
ways()
{
	all='text caps turns openai named'
	model='-q -m run/checkpoint-1 --dataset-dir data --template default --max-new-tokens 1'
	embed="df-embed -q -m $SRC/tests/golden/embed/bert --dataset-dir data -o out.h5"
	case "$1 $2" in
	'df-pack --dataset')
		echo "$all|good|$pack --dataset DATASET"
		echo "$all|good|$pack --dataset DATASET --neat-packing"
		echo "$all|good|$pack --dataset DATASET --stage pt"
		echo "$all|good|$pack --dataset DATASET --stage pt --no-packing"
		echo "$all|good|$pack --dataset other,DATASET --max-samples 1"
		echo "$all|good|$pack --dataset other,DATASET --mix-strategy interleave_over"
		echo "$all|good|${pack% -o *} --dataset DATASET --show-example 0"
		;;
	'df-pack --eval-dataset') echo "$all|good|$pack --dataset other --eval-dataset DATASET --holdout-output out.val.h5" ;;
	'df-sample --dataset') echo "$all|good|df-sample $model --dataset DATASET -o out.h5 --json out.jsonl" ;;
	'df-eval --dataset') echo "$all|good|df-eval $model --dataset DATASET --details out.jsonl" ;;
	'df-embed --dataset')
		echo "caps turns openai named|text|$embed --dataset DATASET"
		echo "$all|good|$embed --dataset DATASET --column instruction"
		echo "text caps named|good|$embed --dataset DATASET --template alpaca"
		echo "text caps named|good|$embed --dataset DATASET --template dataflex-alpaca"
		;;
	'df-show --dataset') # of tokens: there are none of a dataset without its columns
		echo "|good|df-show -q --dataset-dir data --export - --dataset DATASET good.h5"
		;;
	*) false ;;
	esac
}

written()
{
	find . -maxdepth 1 -name '*out.h5*' -o -maxdepth 1 -name '*out.val*' -o -maxdepth 1 -name '*out.jsonl*'
}

n_options=0
for program in "$BUILD"/bin/df-*; do
	name=$(basename "$program")
	options=$("$program" -h | grep -Eo '^ +(-., )?--[a-z-]*dataset[a-z-]*' | grep -o -- '--.*' | grep -vxE -- '--(dataset-dir|list-datasets)')
	for option in $options; do
		n_options=$((n_options + 1))
		ways "$name" "$option" >ways.txt
		report $? "$name $option is in the table of this test"
		while IFS='|' read -r wrong right command <&3; do
			for d in $wrong; do
				exits 78 "${command//DATASET/$d}" ${command//DATASET/$d}
				says '  which columns are there' "dataset '$d': no row has the column '.* columns are ${columns[$d]}\$"
				is_empty '  no output' "$(written)"
			done
			ok "${command//DATASET/$right}" ${command//DATASET/$right}
			rm -rf $(written)
		done 3<ways.txt
	done
done
exits 1 'an option that is not in the table fails' ways df-pack --new-dataset
[ "$n_options" -ge 5 ]
report $? 'the options were found'

done_testing

#!/bin/sh
# The table of keys and the programs that own them: an option that it names is there, and what df-pack was told is what
# df-train compares.
# shellcheck disable=SC2046,SC2086 # commands and options are words
. "$(dirname "$0")/lib.sh"

# --- options ---

df-train --list-keys >keys
for program in pack merge; do
	df-$program --list-options | cut -f1,5 >$program.options
done
# A key that df-pack and df-merge own has the option of df-pack.
awk -F'\t' '$7 != "-" { print $1 "\t" ($6 ~ /pack/ ? "pack" : "merge") "\t" $7 }' keys >named
while read -r key program option; do
	cut -f1 "$program.options" | grep -qxF -- "$option" || echo "$key: df-$program has no --$option"
done <named >wrong
is_empty 'options that keys name are there' "$(cat wrong)"
[ "$(grep -c 'pack' named)" -ge 22 ] && [ "$(grep -c 'merge' named)" -ge 4 ]
report $? 'and they are many'
is_empty 'each key of df-pack has one' "$(awk -F'\t' '$6 ~ /pack/ && $7 == "-" { print $1 }' keys)"
is_empty 'each key that is compared with the tokens is of df-pack' "$(awk -F'\t' '$2 == "checked" && $6 != "pack"' keys)"
is 'the choices of stage are those of df-pack' "$(sed -n 's/^stage\t.*(one of \(.*\)).*/\1/p' keys)" \
	"$(sed -n 's/^stage\t//p' pack.options | sed 's/|/, /g')"

# --- what is compared ---

for name in a b c; do
	awk -v n=9 'BEGIN { for (i = 0; i < n; i++) printf "{\"instruction\": \"%d + 1\", \"output\": \"%d\"}\n", i, i + 1 }' \
		>$name.jsonl
done
echo '{"a": {"file_name": "a.jsonl"}, "b": {"file_name": "b.jsonl"}, "c": {"file_name": "c.jsonl"}}' >dataset_info.json
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 16/' -e 's/"vocab_size": [0-9]*/"vocab_size": 300/' \
	"$SRC/configs/models/tiny-llama/config.json" >small/config.json
# key, what the tokens are packed with, another value
cat >values <<'EOT'
template qwen3 alpaca
cutoff_len 256 128
max_samples 5 4
train_on_prompt false true
mask_history false true
default_system short long
split_special_tokens false true
tool_format glm4 qwen
enable_thinking false null
preserve_thinking false true
packing true false
neat_packing true false
mix_strategy interleave_under concat
interleave_probs 0.5,0.5 0.9,0.1
val_size 0 0.5
eval_dataset c b
EOT
is 'all of them are here' "$(cut -d' ' -f1 values | sort)" "$(awk -F'\t' '$2 == "checked" { print $1 }' keys | sort)"
# KEY VALUE as the option that the table names
while read -r key value _; do
	option=$(awk -v key="$key" '$1 == key { print $3 }' named)
	case $value in
	true) echo "--$option" ;;
	false) [ "$key" = enable_thinking ] && echo "--$option=$value" || echo "--no-$option" ;;
	*) echo "--$option=$value" ;;
	esac
done <values >options
ok 'tokens' df-pack -q --dataset-dir . --dataset a,b --tokenizer bytes $(cat options) --holdout-output held.h5 -o t.h5
train='df-train -q model_name_or_path=small train_from_scratch=true finetuning_type=full tokenized_path=t.h5 output_dir=o -n'
ok 'what they were packed with' $train $(awk '{ print $1 "=" ($2 ~ /,/ ? "[" $2 "]" : $2) }' values)
while read -r key packed other; do
	exits 78 "another $key" $train "$key=$other"
	says '  is refused' "^df-train: $key is $other, but t.h5 was packed with \"?$packed"
done <values

done_testing

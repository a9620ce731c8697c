# grad_data.sh - what the tests of df-grad, df-project and df-score begin with; source it after lib.sh.
#
#   pool.h5  34 rows of two domains, val.h5 6 rows of one of them
#   run/checkpoint-3  a tiny Llama on bytes after three steps, with its optimiser's state
#
# shellcheck shell=sh

mkdir data model
awk 'BEGIN {
	for (i = 0; i < 20; i++)
		printf "{\"instruction\": \"Add %d and %d.\", \"input\": \"\", \"output\": \"%d\"}\n", i, i + 3, 2 * i + 3
}' >data/sums.jsonl
awk 'BEGIN {
	for (i = 0; i < 20; i++)
		printf "{\"instruction\": \"Say it backwards: %c%c\", \"input\": \"\", \"output\": \"%c%c and so on\"}\n",
			97 + i, 100 + i, 100 + i, 97 + i
}' >data/turns.jsonl
cat >data/dataset_info.json <<'END'
{ "sums": { "file_name": "sums.jsonl" }, "turns": { "file_name": "turns.jsonl" } }
END
cat >model/config.json <<'END'
{ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 259, "hidden_size": 32,
  "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "max_position_embeddings": 256, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "initializer_range": 0.05,
  "tie_word_embeddings": false, "hidden_act": "silu", "torch_dtype": "float32" }
END
cat >train.yaml <<'END'
model_name_or_path: model
train_from_scratch: true
stage: sft
do_train: true
finetuning_type: full
per_device_train_batch_size: 4
gradient_accumulation_steps: 1
learning_rate: 1.0e-3
num_train_epochs: 3.0
lr_scheduler_type: constant
logging_steps: 1
save_steps: 100
tokenized_path: pool.h5
output_dir: run
END
if ! { df-pack -q --dataset-dir data --dataset sums,turns --template alpaca --tokenizer bytes --cutoff-len 128 \
	--holdout turns=6 --holdout-output val.h5 -o pool.h5 && df-train -q train.yaml --until 3; } >setup.log 2>&1; then
	cat setup.log
	echo "Bail out! the test data could not be made"
	exit 1
fi
# shellcheck disable=SC2034
CKPT=run/checkpoint-3

# id_of FILE: its df_id
id_of()
{
	h5dump -a df_id "$1" | sed -n 's/^ *(0): "\(.*\)"$/\1/p'
}

# lineage_of FILE: parameters and inputs
lineage_of()
{
	h5dump -a df_params -a df_inputs "$1" | grep '(0):'
}

# text_of FILE DATASET: its values, one line
text_of()
{
	h5dump -y -w 0 -d "$2" "$1" | awk '/DATA {/ { inside = 1; next } /}/ && inside { exit } inside' | tr -d '\n '
}

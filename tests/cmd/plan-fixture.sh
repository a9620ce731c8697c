# plan-fixture.sh - models and data for DataFlex's example configurations: df-plan.t and dataflex-configs.sh.
#
# shellcheck shell=sh disable=SC2034 # the caller uses it

# fixture_data: data/ has every dataset that the examples name, a few rows each.
fixture_data()
{
	mkdir -p data
	for lang in en zh; do
		for i in $(seq 1 60); do
			printf '{"instruction": "%s add %d and %d", "input": "", "output": "%s %d"}\n' $lang "$i" $((i * 7 % 13)) \
				$lang $((i + i * 7 % 13))
		done >data/alpaca_${lang}_demo.jsonl
	done
	for name in c4 wiki; do
		for i in $(seq 1 40); do
			printf '{"text": "%s %d: the quick brown fox jumps over %d lazy dogs, and then some more of them."}\n' $name "$i" $((i * i))
		done >data/${name}_demo.jsonl
	done
	for name in code math sharegpt orca code_eval math_eval sharegpt_eval orca_eval mmlu_eval; do
		for i in $(seq 1 24); do
			printf '{"instruction": "%s question %d", "input": "", "output": "answer %d"}\n' $name "$i" $((i % 5))
		done >data/$name.jsonl
	done
	{
		echo '{'
		for name in c4 wiki; do
			printf '  "%s_demo": { "file_name": "%s_demo.jsonl", "columns": { "prompt": "text" } },\n' $name $name
		done
		for name in alpaca_en_demo alpaca_zh_demo code math sharegpt orca code_eval math_eval sharegpt_eval orca_eval; do
			printf '  "%s": { "file_name": "%s.jsonl" },\n' $name $name
		done
		echo '  "mmlu_eval": { "file_name": "mmlu_eval.jsonl" }'
		echo '}'
	} >data/dataset_info.json
}

# fixture_model NAME TOKENS <CONFIG.JSON: a directory with weights, two steps from random ones, and with a tokenizer of
# bytes and of these special tokens.
fixture_model()
{
	mkdir -p "$1.config" "$1"
	cat >"$1.config/config.json"
	[ -e tokens.h5 ] || df-pack -q --dataset-dir data --dataset alpaca_en_demo --template default --tokenizer bytes \
		--cutoff-len 64 -o tokens.h5
	df-train -q model_name_or_path="$1.config" train_from_scratch=true finetuning_type=full max_steps=2 \
		per_device_train_batch_size=4 tokenized_path=tokens.h5 output_dir="$1.run" logging_steps=500 || return 1
	cp "$1.run/config.json" "$1.run/tokenizer_config.json" "$1.run/model.safetensors" "$1"
	more=
	id=259
	for token in $2; do
		more="$more, {\"id\": $id, \"content\": \"$token\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}"
		id=$((id + 1))
	done
	sed "s/\(\"<|pad|>\".*\)\$/\1$more/" "$1.run/tokenizer.json" >"$1/tokenizer.json"
	rm -rf "$1.run" "$1.config"
}

# fixture_models: llama, qwen and moe.
fixture_models()
{
	common='"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
		"num_key_value_heads": 1, "vocab_size": 264, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
		"bos_token_id": 256, "eos_token_id": 257'
	fixture_model llama '<|eot_id|> <|eom_id|>' <<-JSON
	{ "architectures": ["LlamaForCausalLM"], "model_type": "llama", $common }
	JSON
	fixture_model qwen '<|im_end|>' <<-JSON
	{ "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": true, $common }
	JSON
	fixture_model moe '' <<-JSON
	{ "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 4,
	  "num_experts_per_tok": 2, $common }
	JSON
}

# The examples' names of models, as words of df-plan.
FIXTURE_MODELS='--model meta-llama/Llama-3.1-8B=llama --model meta-llama/Meta-Llama-3-8B-Instruct=llama
	--model Qwen/Qwen2.5-7B-Instruct=qwen --model /path/to/ckpt/Qwen2.5-0.5B=qwen
	--model /path/to/ckpt/Qwen2.5-1.5B=qwen --model /path/to/LLaMA-MoE-v1-3_5B-2_8=moe
	--model /path/to/dataflex_saves/Qwen2.5-0.5B/doremi_step1_static_qwen_pt_full_result/checkpoint-xxx=qwen'

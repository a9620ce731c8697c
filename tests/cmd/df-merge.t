#!/bin/bash
# shellcheck disable=SC2046,SC2005,SC2010 # lists of file names are words here; none has a space
# df-merge: adapters into their bases, other types, several files; what it refuses.  (test_model_trains compares the
# weights with PEFT's.)
. "$(dirname "$0")/lib.sh"
GOLD=$SRC/tests/golden/lora

cp -r "$GOLD/llama" "$GOLD/additional" .
chmod -R u+w .
echo '{"eos_token_id": 2}' >llama/generation_config.json
echo '{"base": 1}' >llama/tokenizer.json
echo '{"base": 1}' >llama/vocab.json

ok 'an adapter, its base beside it' df-merge -q -m additional -o merged
is 'what a model directory holds' "$(echo $(ls merged))" \
	'config.json generation_config.json model.safetensors tokenizer.json vocab.json'
ok 'into another base' df-merge -q -m additional --base "$GOLD/llama" -o again
same 'gives the same weights' again/model.safetensors merged/model.safetensors
ok 'on the poisoned backend' df-merge -q --device poison -m additional -o poison
same 'too' poison/model.safetensors merged/model.safetensors

echo '{"adapter": 1}' >additional/tokenizer.json
ok 'several files' df-merge -q -m additional --max-shard-size 8KB -o shards
is 'of at most that size' "$(find shards -name '*.safetensors' -size +10k | wc -l)" 0
is 'with an index' "$(grep -c 'safetensors"' shards/model.safetensors.index.json)" \
	"$(grep -ao '"data_offsets"' merged/model.safetensors | wc -l)"
is "the adapter's tokenizer, and nothing of the base's" "$(cat shards/tokenizer.json; ls shards/vocab.json 2>/dev/null)" \
	'{"adapter": 1}'
ok 'and back' df-merge -q -m shards --max-shard-size 0 -o whole
same 'the same weights' whole/model.safetensors merged/model.safetensors

ok 'half the bytes' df-merge -q -m additional --dtype bfloat16 -o bf16
is 'config.json knows' "$(grep -o 'dtype": "[a-z0-9]*' bf16/config.json)" 'dtype": "bfloat16'
ok 'auto leaves the type' df-merge -q -m bf16 -o bf16.again
same 'and the bytes' bf16.again/model.safetensors bf16/model.safetensors

cat >export.yaml <<'YAML'
### Note: DO NOT use quantized model or quantization_bit when merging lora adapters
model_name_or_path: llama
adapter_name_or_path: additional
template: default
trust_remote_code: true
export_dir: exported
export_size: 5
export_device: cpu  # choices: [cpu, auto]
export_legacy_format: false
infer_dtype: float32
YAML
ok "LLaMA-Factory's export file" df-merge -q export.yaml
same 'does the same' exported/model.safetensors merged/model.safetensors
ok 'with another output' df-merge -q export.yaml -o elsewhere --dtype bfloat16
same 'and another type' elsewhere/model.safetensors bf16/model.safetensors

exits 73 'an output that is not empty' df-merge -q -m additional -o merged
says 'is left alone' 'merged: is there already'
exits 64 'no adapter' df-merge -q -o x
exits 64 'no output' df-merge -q -m additional
exits 64 'no size' df-merge -q -m additional -o x --max-shard-size 5XB
says 'says what a size is' '5GB'
exits 64 'a YAML and a model' df-merge -q -m additional export.yaml
exits 66 'no such adapter' df-merge -q -m nothing -o x
exits 65 'a whole model as an adapter' df-merge -q -m merged --base llama -o x
sed 's/^export_size.*/export_quantization_bit: 4/' export.yaml >quant.yaml
exits 78 'quantization' df-merge -q quant.yaml -o x
says 'is named with its line' 'quant.yaml:7: export_quantization_bit'
sed 's/^export_size/export_siz/' export.yaml >typo.yaml
exits 78 'a typo' df-merge -q typo.yaml -o x
says 'is corrected' "did you mean 'export_size'"
sed 's/^adapter_name_or_path.*/adapter_name_or_path: a,b/' export.yaml >two.yaml
exits 78 'two adapters' df-merge -q two.yaml -o x
exits 64 'standard output' df-merge -q -m merged -o -
says 'is no directory' 'a model is a directory'
is_empty 'nothing appears' "$(ls -a | grep -E '^x$|df-tmp')"

done_testing

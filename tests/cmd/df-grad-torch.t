#!/bin/bash
# df-grad --form adam on checkpoints of transformers (tests/golden/optimizer_pt.py), to LESS's selection; and on files
# that are not what their name says.  The numbers themselves: tests/unit/test_moments_torch.c.
. "$(dirname "$0")/lib.sh"
G=$SRC/tests/golden/optimizer

for model in llama qwen3 mixtral lora lora-saved loraplus; do
	ok "$model: Adam's form" df-grad -q -m "$G/$model" --form adam --project 64 "$G/tokens.h5" -o $model.h5
	ok "$model: a target" df-grad -q -m "$G/$model" --form sgd --project 64 "$G/tokens.h5" -o $model.val.h5
	ok "$model: LESS" df-score -q less --train $model.h5 --val $model.val.h5 -n 2 -o $model.index.h5
done
ok 'its parameters' h5dump -a df_params lora.h5
prints "are the file's own" '"form": "adam".*"beta1": 0.85.*"beta2": 0.98.*"eps": 1e-07'

# checkpoint FILE: tiny/ with another optimizer.pt
checkpoint()
{
	rm -rf c
	mkdir c
	cp "$G/tiny/adapter_config.json" "$G/tiny/adapter_model.safetensors" c
	[ -z "${1-}" ] || cp "$1" c/optimizer.pt
}
grad()
{
	exits "$1" "$2" df-grad -m c --base "$SRC/tests/golden/lora/llama" --form adam "$G/tokens.h5" -o x.h5
	says "$3" "$4"
}
checkpoint
grad 66 'no state' 'what to do' '^df-grad: c/optimizer.safetensors: no optimiser state, and no optimizer.pt.*--form sgd'
checkpoint "$G/refused/bitsandbytes.pt"
grad 69 'an 8-bit optimiser' 'its name' "^df-grad: c/optimizer.pt: .*q_proj.lora_A.weight: 'state1': bitsandbytes"
checkpoint "$G/lora/optimizer.pt"
grad 65 "another model's" 'the numbers' 'c/optimizer.pt: groups of 28 \+ 0 parameters do not fit'
checkpoint "$G/refused/unused.pt"
grad 65 'a parameter without moments' 'how many, and the way out' '1 parameters have no moments.*--allow-zero-state'
ok 'unless allowed' df-grad -q -m c --base "$SRC/tests/golden/lora/llama" --form adam --allow-zero-state "$G/tokens.h5" -o y.h5
checkpoint "$SRC/tests/golden/lora/llama/model.safetensors"
grad 65 'not a zip' 'so it says' 'c/optimizer.pt: no end of a zip'

# A pickle that would run a command.
checkpoint "$G/tiny/optimizer.pt"
printf '\200\2cposix\nsystem\nX\15\0\0\0touch exploit\205R.' >data.pkl
if command -v python3 >/dev/null; then
	python3 -c 'import zipfile; zipfile.ZipFile("c/optimizer.pt", "w").write("data.pkl", "optimizer/data.pkl")'
	grad 65 'a pickle that calls a program' 'which' "data.pkl, byte 2: 'posix.system' .* nothing of it was run"
	is_empty 'which did not run' "$(ls exploit c/exploit 2>/dev/null)"
	python3 -c 'import zipfile; zipfile.ZipFile("c/optimizer.pt", "w", 8).write("data.pkl", "optimizer/data.pkl")'
	grad 69 'a compressed one' 'so it says' "entry 'optimizer/data.pkl': it is compressed"
fi
head -c 3000 "$G/tiny/optimizer.pt" >half
checkpoint half
grad 65 'half a file' 'so it says' 'truncated'
is_empty 'nothing was written' "$(ls x.h5 2>/dev/null)"
done_testing

#!/bin/bash
# Whole programs on --device cuda against the CPU, in float32 and in bf16: on the emulator, or, with DF_GPU=1 (make check-gpu),
# on a GPU.  How far they may differ is promise 3 of df-devices(7).
. "$(dirname "$0")/lib.sh"
[ -n "${DF_GPU-}" ] || [ -e "$BUILD/df-cuda-emu.so" ] || skip_all 'no emulator in this build'
[ -z "${DF_SANITIZED-}" ] || skip_all 'ten minutes: under the sanitizers test_ops and test_model_trains run on the emulator'
. "$SRC/tests/cmd/grad_data.sh"
unset DF_CUDA_PLUGIN
if [ -z "${DF_GPU-}" ]; then
	export DF_CUDA_PLUGIN=$BUILD/df-cuda-emu.so
fi

# on TYPE PROGRAM...: the same command on the CPU (cpu.*) or in a type on cuda (f32.*, bf16.*): - is its output's prefix
on()
{
	local type=$1 where='--device cpu'
	[ "$type" = cpu ] || where="--device cuda --compute $type"
	# shellcheck disable=SC2086
	"$2" -q $where "${@:3}"
}
# agrees 'what' DATASET A B CONDITION: of awk, on largest, mean, norm, worst, median, rank (agree.c)
agrees()
{
	local line
	line=$("$BUILD/tests/agree" "$2" "$3" "$4" 2>&1 | tail -n 1)
	echo "$line" | awk "{ largest = \$1; mean = \$2; norm = \$3; worst = \$4; median = \$5; rank = \$6; exit !(NF == 6 && ($5)) }"
	report $? "$1: $line"
}

# --- per sample ------------------------------------------------------------------------------------------------------------

for type in cpu f32 bf16; do
	ok "$type: losses" on $type df-grad -m $CKPT --losses pool.h5 -o $type.loss.h5
	ok "$type: gradients" on $type df-grad -m $CKPT --form sgd pool.h5 -o $type.grad.h5
	ok "$type: projected, in Adam's form" on $type df-grad -m $CKPT --form adam --project 256 pool.h5 -o $type.pool.h5
	ok "$type: of the target" on $type df-grad -m $CKPT --form sgd --project 256 val.h5 -o $type.val.h5
	ok "$type: scores" df-score -q less --train $type.pool.h5 --val $type.val.h5 -n 5 -o $type.index.h5 \
		--scores-output $type.score.h5
	ok "$type: vectors" on $type df-embed -m $CKPT pool.h5 -o $type.embed.h5
done
agrees 'float32: losses' loss cpu.loss.h5 f32.loss.h5 'largest < 1e-5 * 6'
agrees 'float32: gradients' gradient cpu.grad.h5 f32.grad.h5 'worst > 0.99999 && norm < 1e-4'
agrees 'float32: projections' projection cpu.pool.h5 f32.pool.h5 'worst > 0.9999'
agrees 'float32: vectors' embedding cpu.embed.h5 f32.embed.h5 'worst > 0.99999'
agrees 'float32: scores of LESS' score cpu.score.h5 f32.score.h5 'rank >= 0.999'
agrees 'bf16: losses' loss cpu.loss.h5 bf16.loss.h5 'largest <= 0.02 && mean <= 0.003'
agrees 'bf16: gradients' gradient cpu.grad.h5 bf16.grad.h5 'median >= 0.999 && worst >= 0.98'
agrees 'bf16: vectors' embedding cpu.embed.h5 bf16.embed.h5 'worst >= 0.9995'
agrees 'bf16: scores of LESS' score cpu.score.h5 bf16.score.h5 'rank >= 0.995'
ok 'they say' df-show bf16.grad.h5
prints 'how they were computed' 'compute.*bf16'

# A sample's numbers know nothing of its batch, and a command gives the same bytes again.
ok 'again, in other batches' on bf16 df-grad -m $CKPT --form adam --project 256 --block-rows 5 -j 1 pool.h5 -o again.h5
is 'the same bits' "$(text_of again.h5 projection | cksum)" "$(text_of bf16.pool.h5 projection | cksum)"
ok 'some rows' on f32 df-grad -m $CKPT --form sgd val.h5 -o some.h5
ok 'again' on f32 df-grad -m $CKPT --form sgd val.h5 -o some2.h5
same 'the same bytes' some.h5 some2.h5

# --- training, generation ----------------------------------------------------------------------------------------------------

for type in cpu f32 bf16; do
	ok "$type: training" on $type df-train train.yaml output_dir=$type.run --until 4
	ok "$type: its losses" df-grad -q --device cpu -m $type.run/checkpoint-4 --losses pool.h5 -o $type.after.h5
	ok "$type: completions" on $type df-sample -m $type.run/checkpoint-4 pool.h5 --max-new-tokens 6 --max-samples 4 --ignore-eos
	sed -E 's/("logprob": -?[0-9]+\.[0-9]{3})[0-9]*/\1/' "$T/out" >$type.said
done
agrees 'float32: after training' loss cpu.after.h5 f32.after.h5 'largest < 1e-4'
agrees 'bf16: after training' loss cpu.after.h5 bf16.after.h5 'largest <= 0.05 && mean <= 0.01'
is 'float32: the same completions' "$(cksum <f32.said)" "$(cksum <cpu.said)"
ok 'stopped' on bf16 df-train train.yaml output_dir=two --until 2
ok 'and resumed' on bf16 df-train train.yaml output_dir=two --until 4
same 'resuming changes nothing' two/checkpoint-4/model.safetensors bf16.run/checkpoint-4/model.safetensors

# LoRA, with dropout: masks are the CPU's.
for type in cpu f32 bf16; do
	ok "$type: LoRA" on $type df-train train.yaml finetuning_type=lora lora_rank=4 lora_dropout=0.1 train_from_scratch=false \
		model_name_or_path=$CKPT output_dir=$type.lora --until 3
	ok "$type: its gradients" on $type df-grad -m $type.lora/checkpoint-3 --form adam --project 64 val.h5 -o $type.lora.h5
done
agrees 'float32: gradients of adapters' projection cpu.lora.h5 f32.lora.h5 'worst > 0.999'
agrees 'bf16: gradients of adapters' projection cpu.lora.h5 bf16.lora.h5 'median >= 0.99 && worst >= 0.9'

done_testing

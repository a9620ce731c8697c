#!/bin/bash
# --device: what openblas promises whole commands, which OpenBLAS is loaded and how, and what is said where there is none.
# --compute: who computes in bf16, and what asks for it.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"
export DF_OPENBLAS_ALL=1 # the model is small
unset OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS OMP_NUM_THREADS

# --- the same bytes each time -----------------------------------------------------------------------------------------

train()
{
	df-train train.yaml -q --device "$1" -j "$2" output_dir="$3" "${@:4}"
}
ok 'training' train openblas 1 a
ok 'on three threads' train openblas 3 b
same 'threads change nothing' a/model.safetensors b/model.safetensors
ok 'stopped' train openblas 1 c --until 2
ok 'and resumed' train openblas 2 c
same 'resuming changes nothing' a/model.safetensors c/model.safetensors
ok 'the same on cpu' train cpu 2 d
[ "$(wc -c <a/model.safetensors)" -eq "$(wc -c <d/model.safetensors)" ] && ! cmp -s a/model.safetensors d/model.safetensors
report $? 'whose products are rounded otherwise'
ok 'gradients' df-grad -q -j 1 --device openblas -m $CKPT --form adam --project 100 --block-rows 5 pool.h5 -o one.h5
ok 'on three threads' df-grad -q -j 3 --device openblas -m $CKPT --form adam --project 100 --block-rows 5 pool.h5 -o three.h5
same 'threads change nothing' one.h5 three.h5
for i in 2 1; do
	ok "part $i of 2" df-grad -q --device openblas -m $CKPT --form adam --project 100 --block-rows 5 --shard $i/2 pool.h5 -o part.h5
done

# --- bf16 -------------------------------------------------------------------------------------------------------------

ok 'training in bf16' train poison 1 h --compute bf16
ok 'on two threads' train poison 2 i --compute bf16
same 'threads change nothing' h/model.safetensors i/model.safetensors
ok 'stopped' train poison 1 j --compute bf16 --until 2
ok 'and resumed' train poison 2 j --compute bf16
same 'resuming changes nothing' h/model.safetensors j/model.safetensors
[ "$(wc -c <h/model.safetensors)" -eq "$(wc -c <d/model.safetensors)" ] && ! cmp -s h/model.safetensors d/model.safetensors
report $? 'the weights are float32, and others than those of float32'
ok 'the key asks for it, too' train poison 1 k bf16=true
same 'the same run' h/model.safetensors k/model.safetensors
ok 'the command line decides' train poison 1 l bf16=true --compute f32
same 'float32 as on cpu' d/model.safetensors l/model.safetensors
ok 'on the reference' df-grad -q -j 1 --device reference --compute bf16 -m $CKPT --losses pool.h5 -o losses.h5
ok 'gradients' df-grad -q -j 1 --device poison --compute bf16 -m $CKPT --form adam --project 100 pool.h5 -o one.h5
ok 'on three threads' df-grad -q -j 3 --device poison --compute bf16 -m $CKPT --form adam --project 100 pool.h5 -o three.h5
same 'threads change nothing' one.h5 three.h5
ok 'they say' df-show one.h5
prints 'that it was bf16' 'compute.*bf16'
exits 69 'the CPU has no bf16' train cpu 1 m --compute bf16
says 'that is said' 'df-train: --compute: device cpu computes in float32 only'
ok 'the key has no effect there' train cpu 1 m bf16=true
says 'that is said, too' 'no effect here: bf16 \(device cpu computes in float32\)'
same 'float32' d/model.safetensors m/model.safetensors

# --- which library ----------------------------------------------------------------------------------------------------

# with_blas WHAT COMMAND...: with a library of our own, or an empty file, in the place of OpenBLAS
with_blas()
{
	mkdir -p fake
	rm -f fake/*
	for name in libopenblasp.so.0 libopenblas.so.0; do
		case $1 in
		none) : >fake/$name ;;
		*) ln -s "$BUILD/tests/fake_blas.so" fake/$name ;;
		esac
	done
	FAKE_BLAS=$1 LD_LIBRARY_PATH=$T/fake "${@:2}"
}
core='unset'
if grep -q avx512bw /proc/cpuinfo && grep -q avx512dq /proc/cpuinfo && grep -q avx512vl /proc/cpuinfo; then
	core=SkylakeX
	! grep -q avx512_bf16 /proc/cpuinfo || core=Cooperlake
fi
ok 'the version' with_blas parallel df-train --version
prints 'names the library, loaded with the best kernels and one thread' "openblas \(9.8.7, $core 1 1\)"
OPENBLAS_CORETYPE=Prescott OMP_NUM_THREADS=7 ok 'with a wish' with_blas parallel df-train --version
prints 'the wish goes first' 'openblas \(9.8.7, Prescott 1 1\)'
OPENBLAS_CORETYPE='' ok 'with an empty one' with_blas parallel df-train --version
prints 'which is none' "openblas \(9.8.7, $core 1 1\)"

ok 'without the library' with_blas none df-train --version
prints 'the version says so' 'openblas \(not found\), poison'
exits 69 'it cannot be used' with_blas none df-train train.yaml -q --device openblas output_dir=e
says 'that is said' "df-train: device 'openblas': OpenBLAS cannot be loaded \(.*libopenblas.so.0.*\); install it .* or use --device cpu"
ok 'the others do not need it' with_blas none df-grad -q --device cpu -m $CKPT --losses pool.h5 -o losses.h5
exits 69 'a build without threads is refused' with_blas serial df-train train.yaml -q --device openblas output_dir=e
says 'that is said, too' "device 'openblas': .* must not be called by several threads.*libopenblas0-pthread"
[ ! -e e ]
report $? 'nothing is left'

done_testing

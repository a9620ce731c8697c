#!/bin/bash
# --device cuda: the plug-in as it is built here, without a GPU and on the emulator.  Its numbers: tests/ops, emu.t.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"
unset DF_CUDA_PLUGIN
export CUDA_VISIBLE_DEVICES=''

# --- built by nvcc ---------------------------------------------------------------------------------------------------------

nvcc=$(make -s --no-print-directory -C "$SRC" nvcc-path 2>/dev/null)
so=$BUILD/df-cuda.so
if [ -e "$so" ]; then
	ok 'the version' df-train --version
	prints 'says what there is not' 'backends cpu .*, cuda \((no NVIDIA driver here|no NVIDIA GPU here, .*)\)$'
	exits 69 'without a GPU' df-train train.yaml -q --device cuda output_dir=none
	says 'says what to do' "^df-train: device 'cuda': (no NVIDIA driver here|no NVIDIA GPU here, .*); use --device cpu$"
	ok 'automatically' df-train train.yaml -q --until 1 --device auto output_dir=auto
	is_empty 'the CPU is taken without a word' "$(cat "$T/err")"
	is 'the only symbol is the table' "$(nm -D --defined-only "$so" | awk '{ print $3 }')" df_backend_plugin
	[ "$(strip -o small.so "$so" && wc -c <small.so)" -le $((4 << 20)) ]
	report $? "it has at most 4 MB: $(wc -c <small.so)"
	is_empty 'and needs nothing of CUDA' "$(ldd "$so" | grep -iE 'cuda|cublas|not found')"
else
	skip 'the plug-in without a GPU' 'no nvcc here, so no df-cuda.so'
fi

# What lt.h says of cublasLt.h.
if [ -e "${nvcc%/bin/nvcc}/include/cublasLt.h" ]; then
	cat >lt.c <<'END'
#include <cublasLt.h>
#include "backend/cuda/lt.h"
#define SAME(a, b) _Static_assert((int)(a) == (int)(b), #b)
SAME(LT_OP_N, CUBLAS_OP_N);
SAME(LT_OP_T, CUBLAS_OP_T);
SAME(LT_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(LT_R_32F, CUDA_R_32F);
SAME(LT_R_16BF, CUDA_R_16BF);
SAME(LT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(LT_DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(LT_PREF_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(LT_PREF_REDUCTION_MASK, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME(LT_PREF_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(LT_PREF_ALIGNMENT_B, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
SAME(LT_PREF_ALIGNMENT_C, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
SAME(LT_PREF_ALIGNMENT_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(LT_PREF_IMPL_MASK, CUBLASLT_MATMUL_PREF_IMPL_MASK);
SAME(LT_CONFIG_SPLITK_NUM, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
SAME(LT_CONFIG_REDUCTION, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
SAME(LT_REDUCTION_NONE, CUBLASLT_REDUCTION_SCHEME_NONE);
SAME(LT_REDUCTION_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
SAME(LT_IMPL_HMMA, CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA);
SAME(LT_IMPL_SUMS_32F, CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F);
SAME(LT_IMPL_OF_16BF, CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF);
SAME(sizeof(struct lt_algorithm), sizeof(cublasLtMatmulAlgo_t));
SAME(sizeof(struct lt_found), sizeof(cublasLtMatmulHeuristicResult_t));
SAME(offsetof(struct lt_found, workspace), offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
SAME(offsetof(struct lt_found, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
END
	ok 'constants of cuBLASLt' cc -std=c11 "-I$SRC/lib" "-I${nvcc%/bin/nvcc}/include" -fsyntax-only lt.c
else
	skip 'constants of cuBLASLt' 'no cublasLt.h here'
fi

# --- built by g++: the emulator --------------------------------------------------------------------------------------------

export DF_CUDA_PLUGIN=$BUILD/df-cuda-emu.so
ok 'the version' df-train --version
prints 'says that it is emulated' 'backends cpu .*, cuda \(emulated\)$'
exits 69 'a number too large' df-train train.yaml -q --device cuda:1 output_dir=none
says 'is refused' "device 'cuda:1': there is one GPU here, cuda:0$"
for number in x '' 1x -1 99999999999999999999; do
	exits 64 "'$number' as a number" df-train train.yaml -q --device "cuda:$number" output_dir=none
	says 'is refused' "device 'cuda:$number': '$number' is no number of a device$"
done
echo 'int nothing;' >driver.c
cc -shared -fPIC -o libcuda.so.1 driver.c
ok 'automatically' env "LD_LIBRARY_PATH=$T" df-train train.yaml -vv --until 1 output_dir=auto2
is_empty 'the emulator is never taken' "$(grep cuda "$T/err")"
is_empty 'nothing was written' "$(find . -name none)"

done_testing

/*
 * lt.h - what lt.c uses of cublasLt.h, under names of its own.
 */
#ifndef DF_BACKEND_CUDA_LT_H
#define DF_BACKEND_CUDA_LT_H

#include <stddef.h>
#include <stdint.h>

struct lt_algorithm {
	uint64_t data[8];
};
struct lt_found {
	struct lt_algorithm algorithm;
	size_t workspace;
	int state;
	float waves;
	int reserved[4];
};

enum {
	LT_OP_N = 0,
	LT_OP_T = 1,
	LT_COMPUTE_32F = 68,
	LT_R_32F = 0,
	LT_R_16BF = 14,
	LT_DESC_TRANSA = 3,
	LT_DESC_TRANSB = 4,
	LT_PREF_WORKSPACE = 1,
	LT_PREF_REDUCTION_MASK = 3,
	LT_PREF_ALIGNMENT_A = 5,
	LT_PREF_ALIGNMENT_B = 6,
	LT_PREF_ALIGNMENT_C = 7,
	LT_PREF_ALIGNMENT_D = 8,
	LT_PREF_IMPL_MASK = 12,
	LT_CONFIG_SPLITK_NUM = 2,
	LT_CONFIG_REDUCTION = 3,
	LT_REDUCTION_NONE = 0,
	LT_REDUCTION_COMPUTE_TYPE = 2,
	LT_IMPL_HMMA = 0x02,
	LT_IMPL_SUMS_32F = 0x02 << 8,
	LT_IMPL_OF_16BF = 0x02 << 16
};

#endif

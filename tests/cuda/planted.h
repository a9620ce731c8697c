/*
 * planted.h - small kernels with an error in them, or without: what the emulator must find, and must not find.
 */
#ifndef DF_TESTS_CUDA_PLANTED_H
#define DF_TESTS_CUDA_PLANTED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cuda/rt.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is wrong when it is. */
enum planted {
	NO_BARRIER_AFTER_PARTS,     /* a warp's sum is read before it is there */
	SHARED_ARRAY_ONE_SHORT,     /* the launch gives one element less than the kernel uses */
	DIVERGENT_BARRIER,          /* some threads of a block come to sync_block() */
	NO_BARRIER_BEFORE_OVERWRITE, /* a tile is written while others read it */
	NO_ASYNC_WAIT,              /* a copy's destination is read before the wait */
	NO_BARRIER_BEFORE_STAGE,    /* the next stage's copy begins while others read its buffer */
	BLOCKS_WRITE_ONE_ELEMENT,   /* two blocks, one element */
	NO_SYNC_WARP,               /* as the first, within a warp */
	SOURCE_CHANGED_EARLY,       /* a copy's source is overwritten before the wait */
	GLOBAL_ARRAY_ONE_SHORT,     /* one element beyond an allocation */
	NEVER_WRITTEN,              /* a global element that nobody wrote is read */
	ENDED_LANE,                 /* a shuffle from a lane that has ended */
	LANES_IN_TWO_PLACES,        /* half a warp in one shuffle, half in another */
	WARP_IN_TWO_PLACES,         /* half a warp in a shuffle, half in sync_block() */
	BARRIERS_IN_TWO_PLACES,     /* warps in different calls of sync_block() */
	MATRIX_NOT_ALIGNED,         /* ldmatrix of an odd address */
	MATRIX_NOT_SHARED,          /* ldmatrix of global memory */
	COPY_NOT_ALIGNED,           /* cp_async to an odd address */
	PRODUCT_OF_HALF_A_WARP,     /* mma_bf16 when lanes have ended */
	SHARED_STRUCT_TOO_BIG,      /* DF_SHARED() of more than the launch gave */
	NO_ASYNC_FENCE,             /* wgmma_bf16 reads what cp_async wrote */
	NO_WGMMA_FENCE,             /* wgmma_bf16 reads registers that were just written */
	SUMS_READ_EARLY,            /* of wgmma_bf16, before the wait */
	OPERAND_CHANGED_EARLY,      /* of wgmma_bf16, before the wait */
	OPERAND_NOT_AT_1024,        /* its columns begin in the middle of eight */
	N_PLANTED
};
extern const char *const planted_name[N_PLANTED];

/* Run the kernel, with its error or without; *right: are the results as they should be? */
int planted_run(enum planted what, bool error, bool *right, struct df_err *err);

/* d [16,8] = a [16,16] b [16,8] of bf16 bits, row-major all, through ldmatrix and mma_bf16; device memory. */
void planted_product(float *d, const uint16_t *a, const uint16_t *b, rt_stream_t s);
/* y[i] = x[i] + 1, i < n. */
void planted_add1(float *y, const float *x, size_t n, rt_stream_t s);
/* A launch of that size that does nothing. */
void planted_size(size_t blocks, size_t threads, size_t shared_bytes, rt_stream_t s);
/* Sums of n values by shuffles, [blocks] of `threads` each; for the time that it takes. */
void planted_sums(float *y, const float *x, size_t blocks, size_t threads, rt_stream_t s);
/* Conversions on the device: y[i] = the bf16 and f16 bits of x[i]. */
void planted_round(uint16_t *bf16, uint16_t *f16, const float *x, size_t n, rt_stream_t s);

#ifdef __cplusplus
}
#endif
#endif

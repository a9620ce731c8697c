/*
 * simt.h - what kernels are written in: everything that a thread of a GPU can do, as plain functions.
 *
 * It has two bodies.  Under nvcc the functions below are CUDA's own, or a few lines of PTX.  Under g++ (DF_EMULATOR)
 * emu/simt.h answers them: threads are fibers of one host thread, and what is asynchronous on a GPU is late on purpose
 * (emu/emu.h).  So kernels have no inline assembly, no static __shared__, no library, and no cuda*.h of their own.
 *
 *	DF_KERNEL(256) add(float *y, const float *x, size_t n)
 *	{
 *		const size_t i = (size_t)blockIdx.x * 256 + threadIdx.x;
 *
 *		if (i < n)
 *			y[i] += x[i];
 *	}
 *	...
 *	DF_LAUNCH(add, dim(df_blocks_of(n, 256)), dim(256), 0, lane->stream, y, x, n);
 *
 * threadIdx, blockIdx, blockDim and gridDim are CUDA's.  A block's shared memory is one struct, whose size is given at
 * the launch: the emulator allocates exactly that.
 */
#ifndef DF_BACKEND_CUDA_SIMT_H
#define DF_BACKEND_CUDA_SIMT_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef DF_EMULATOR
#define DF_MEMBER inline
#include "backend/cuda/emu/simt.h"
#else

#include <cuda_runtime.h>

/*
 * DF_KERNEL(threads of a block at most, blocks of a processor at least): the second, which may be left out, bounds
 * registers.
 */
#define DF_KERNEL(most_threads, ...) static __global__ __launch_bounds__(most_threads, ##__VA_ARGS__) void
#define DF_DEVICE static __device__ __forceinline__ /* a function of kernels */
#define DF_MEMBER __device__ __forceinline__        /* the same, of a struct */
#define DF_BOTH static __host__ __device__ __forceinline__

/* `type &name` = the block's shared memory, undefined at first. */
#define DF_SHARED(type, name)                                                     \
	extern __shared__ __align__(1024) unsigned char df_shared_memory_[]; \
	type &name = *reinterpret_cast<type *>(df_shared_memory_)

/* Begin a kernel in a stream.  Errors are rt_last_error()'s. */
#define DF_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                               \
	do {                                                                                                    \
		if ((shared_bytes) > 48 * 1024)                                                                 \
			cudaFuncSetAttribute(reinterpret_cast<const void *>(+kernel),                           \
			    cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(shared_bytes));                  \
		(kernel)<<<(grid), (block), (shared_bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__);             \
	} while (0)
static inline dim3
dim(size_t x, size_t y = 1, size_t z = 1)
{
	return dim3((unsigned)x, (unsigned)y, (unsigned)z);
}

/* ---- meetings: all threads of a block, or all 32 lanes of a warp, come to the same call -------------------------- */

DF_DEVICE void sync_block(void) { __syncthreads(); }
DF_DEVICE void sync_warp(void) { __syncwarp(); }
DF_DEVICE unsigned lane_id(void) { return threadIdx.x & 31; } /* blockDim.x is a multiple of 32 wherever it is used */
/* T is a 32-bit type */
template <class T> DF_DEVICE T shuffle(T v, int from) { return __shfl_sync(~0u, v, from); }
template <class T> DF_DEVICE T shuffle_xor(T v, int mask) { return __shfl_xor_sync(~0u, v, mask); }
template <class T> DF_DEVICE T shuffle_up(T v, unsigned by) { return __shfl_up_sync(~0u, v, by); }
template <class T> DF_DEVICE T shuffle_down(T v, unsigned by) { return __shfl_down_sync(~0u, v, by); }
DF_DEVICE uint32_t warp_ballot(bool p) { return __ballot_sync(~0u, p); }

/* ---- integers -------------------------------------------------------------------------------------------------- */

/* Atomics of integers only: their sum does not depend on the order.  They return the old value. */
DF_DEVICE uint32_t atomic_add(uint32_t *p, uint32_t v) { return atomicAdd(p, v); }
DF_DEVICE uint32_t atomic_max(uint32_t *p, uint32_t v) { return atomicMax(p, v); }
DF_DEVICE uint32_t atomic_or(uint32_t *p, uint32_t v) { return atomicOr(p, v); }
DF_DEVICE uint32_t mul_high(uint32_t a, uint32_t b) { return __umulhi(a, b); }
DF_DEVICE int bit_count(uint32_t x) { return __popc(x); }
DF_DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
DF_DEVICE float bits_float(uint32_t x) { return __uint_as_float(x); }

/* 2^x to 2 units in the last place; results below 2^-126 are 0. */
DF_DEVICE float
fast_exp2(float x)
{
	float r;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
	return r;
}

/* ---- 16-bit floats: rounded to nearest even, NaN stays NaN ------------------------------------------------------- */

DF_DEVICE uint16_t
bf16_of(float x)
{
	uint16_t r;

	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
	return r;
}
DF_DEVICE float of_bf16(uint16_t x) { return __uint_as_float((uint32_t)x << 16); }
/* Two in a register, `low` in the lower half. */
DF_DEVICE uint32_t
pack_bf16(float low, float high)
{
	uint32_t r;

	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
	return r;
}
DF_DEVICE uint16_t
f16_of(float x)
{
	uint16_t r;

	asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
	return r;
}
DF_DEVICE float
of_f16(uint16_t x)
{
	float r;

	asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
	return r;
}

/* ---- matrices: a warp's ---------------------------------------------------------------------------------------- */

/*
 * d += a b, m16n8k16 of bf16 with f32 sums.  Lane 4g + t holds (PTX ISA, mma.m16n8k16):
 *	a[0] rows g      columns 2t, 2t+1      b[0] rows 2t, 2t+1    column g      d[0,1] row g      columns 2t, 2t+1
 *	a[1] rows g + 8  columns 2t, 2t+1      b[1] rows 2t+8, 2t+9  column g      d[2,3] row g + 8  columns 2t, 2t+1
 *	a[2] rows g      columns 2t+8, 2t+9
 *	a[3] rows g + 8  columns 2t+8, 2t+9
 */
DF_DEVICE void
mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/*
 * Four 8x8 matrices of 16-bit elements from shared memory; lane 8i + j gives the address of row j of matrix i, 16-byte
 * aligned.  Lane 4g + t gets in r[i] elements 2t, 2t+1 of row g of matrix i; transposed, of column g.
 */
DF_DEVICE void
ldmatrix(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"((uint32_t)__cvta_generic_to_shared(row))
		     : "memory");
}
DF_DEVICE void
ldmatrix_transposed(uint32_t r[4], const void *row)
{
	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
		     : "r"((uint32_t)__cvta_generic_to_shared(row))
		     : "memory");
}

/* ---- copies from global to shared memory that run beside ------------------------------------------------------- */

/* 16 bytes, both sides 16-byte aligned; zeros where `there` is false (then `from` is not read). */
DF_DEVICE void
cp_async(void *to, const void *from, bool there = true)
{
	const uint32_t n = there ? 16 : 0;

	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
		     :
		     : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(n)
		     : "memory");
}
/* End a group of this thread's copies; wait until at most `n` of its groups are under way.  Then sync_block(). */
DF_DEVICE void cp_async_commit(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n> DF_DEVICE void cp_async_wait(void) { asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory"); }

/* ---- matrices: of a warpgroup, four warps, on sm_90a only ------------------------------------------------------ */

/*
 * wgmma_bf16(): d += a b, m64n64k16 of bf16 with f32 sums, which runs beside.  Warp w of the four has rows 16w ...
 * 16w+15; a lane's part of a is as in mma_bf16(), and so is that of d, with columns 8j ... 8j+7 in d[4j ... 4j+3].  b
 * is in shared memory, column after column: 128 bytes each, the first at a multiple of 1024, of which chunk i, 16
 * bytes, lies at i ^ (column % 8); `at` is swizzled_rows() of the first column, from chunk 0, 2, 4 or 6 on.
 *
 *	... write the registers d and a ...
 *	wgmma_fence();		before the first, and after registers were written
 *	wgmma_bf16(d, a, at); ...
 *	wgmma_commit();		ends a group
 *	wgmma_wait<0>(d);	until at most 0 groups are under way: then d is there, and b may be overwritten
 *
 * What other instructions wrote to shared memory is seen after an async_fence() of the thread that wrote it (or that
 * waited for its copies), then a sync_block().
 */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DF_ON_SM90A 1
#else
#define DF_ON_SM90A 0 /* a kernel of them that runs nevertheless ends in an error */
#endif
DF_DEVICE void
async_fence(void)
{
#if DF_ON_SM90A
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
DF_DEVICE void
wgmma_fence(void)
{
#if DF_ON_SM90A
	asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
DF_DEVICE void
wgmma_commit(void)
{
#if DF_ON_SM90A
	asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
DF_DEVICE uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
DF_DEVICE void
wgmma_bf16(float d[32], const uint32_t a[4], uint64_t at)
{
#if DF_ON_SM90A
	asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0;\n"
		     "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
		     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
		     "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
		     "{%32, %33, %34, %35}, %36, add, 1, 1, 0; }"
		     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
		     "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
		     "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
		     "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(at)
		     : "memory");
#else
	asm volatile("trap;");
#endif
}
template <int n>
DF_DEVICE void
wgmma_wait(float d[32])
{
#if DF_ON_SM90A
	asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
#pragma unroll
	for (int i = 0; i < 32; i++)
		asm volatile("" : "+f"(d[i])::"memory"); /* nothing that reads d moves up */
#endif
}

#endif /* DF_EMULATOR */

/*
 * The descriptor of columns for wgmma_bf16() (PTX ISA, matrix descriptor): the address, 8 columns 1024 bytes apart, the
 * swizzle of 128 bytes.
 */
DF_DEVICE uint64_t
swizzled_rows(const void *first)
{
	return (shared_address(first) & 0x3ffff) >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
	    (uint64_t)1 << 62;
}
#endif

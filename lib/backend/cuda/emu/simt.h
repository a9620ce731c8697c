/*
 * emu/simt.h - the emulator's body of simt.h: the same names with the same meaning, for g++ and clang++.
 *
 * A kernel is a plain function that is called once for each thread, on a stack of its own (emu.h).
 */
#ifndef DF_BACKEND_CUDA_EMU_SIMT_H
#define DF_BACKEND_CUDA_EMU_SIMT_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wunknown-pragmas" /* #pragma unroll */
#ifdef __clang__
#pragma GCC diagnostic ignored "-Wpass-failed"
#endif

#define DF_KERNEL(most_threads, ...) __attribute__((unused)) static void
#define DF_DEVICE __attribute__((unused)) static inline
#define DF_BOTH __attribute__((unused)) static inline

/* ---- CUDA's own types and functions that kernels use ------------------------------------------------------------- */

struct dim3 {
	unsigned x, y, z;
};
#define DF_VECTOR2(name, type, n)                                \
	struct alignas(n) name {                                 \
		type x, y;                                       \
	};                                                       \
	DF_BOTH name make_##name(type x, type y) { return { x, y }; }
#define DF_VECTOR4(name, type, n)                                \
	struct alignas(n) name {                                 \
		type x, y, z, w;                                 \
	};                                                       \
	DF_BOTH name make_##name(type x, type y, type z, type w) { return { x, y, z, w }; }
DF_VECTOR2(float2, float, 8)
DF_VECTOR2(int2, int, 8)
DF_VECTOR2(uint2, unsigned, 8)
DF_VECTOR2(double2, double, 16)
DF_VECTOR2(ushort2, unsigned short, 4)
DF_VECTOR4(float4, float, 16)
DF_VECTOR4(int4, int, 16)
DF_VECTOR4(uint4, unsigned, 16)
DF_VECTOR4(ushort4, unsigned short, 8)
DF_VECTOR4(uchar4, unsigned char, 4)
#undef DF_VECTOR2
#undef DF_VECTOR4

#define DF_MIN_MAX(type)                                                 \
	DF_BOTH type min(type a, type b) { return b < a ? b : a; }       \
	DF_BOTH type max(type a, type b) { return a < b ? b : a; }
DF_MIN_MAX(int)
DF_MIN_MAX(unsigned)
DF_MIN_MAX(long)
DF_MIN_MAX(unsigned long)
DF_MIN_MAX(long long)
DF_MIN_MAX(unsigned long long)
#undef DF_MIN_MAX
DF_BOTH float rsqrtf(float x) { return 1 / sqrtf(x); }
DF_BOTH double rsqrt(double x) { return 1 / sqrt(x); }

/* ---- where a thread is ------------------------------------------------------------------------------------------- */

struct emu_block {
	dim3 index, block_dim, grid_dim;
};
struct emu_thread {
	dim3 index;
	unsigned lane;
	const emu_block *block;
};
/* The thread that runs.  A fiber stays on its thread of the host, so its address is always the same. */
extern __thread emu_thread *emu_now __attribute__((tls_model("initial-exec")));

#define threadIdx (emu_now->index)
#define blockIdx (emu_now->block->index)
#define blockDim (emu_now->block->block_dim)
#define gridDim (emu_now->block->grid_dim)

static inline dim3
dim(size_t x, size_t y = 1, size_t z = 1)
{
	return { (unsigned)x, (unsigned)y, (unsigned)z };
}

/* ---- launches ---------------------------------------------------------------------------------------------------- */

/* A grid that is to run: thread(args) for each of its threads, drop(args) at the end. */
struct emu_launch {
	const char *name;
	dim3 grid, block;
	size_t shared_bytes;
	void (*thread)(const void *args);
	void (*drop)(void *args);
	void *args;
};
void emu_enqueue(const emu_launch &l, void *stream);

template <class T> struct emu_same {
	typedef T type;
};
template <class... P>
static inline void
emu_begin(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, void *stream,
    typename emu_same<P>::type... a)
{
	const auto call = [kernel, a...] { kernel(a...); };
	typedef decltype(call) closure;

	emu_enqueue({ name, grid, block, shared_bytes, [](const void *args) { (*static_cast<closure *>(args))(); },
			[](void *args) { delete static_cast<closure *>(args); }, (void *)new closure(call) },
	    stream);
}
#define DF_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
	emu_begin(#kernel, kernel, grid, block, shared_bytes, (void *)(stream), ##__VA_ARGS__)

void *emu_shared(size_t size, size_t alignment);
#define DF_SHARED(type, name) type &name = *static_cast<type *>(emu_shared(sizeof(type), alignof(type)))

/* ---- meetings ---------------------------------------------------------------------------------------------------- */

/* Where a call is: threads that meet must come from the same place. */
#define DF_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

enum emu_shuffle { EMU_FROM, EMU_XOR, EMU_UP, EMU_DOWN };
uint32_t emu_shuffle(uint32_t v, enum emu_shuffle how, unsigned by, const char *file, int line);
unsigned emu_lane(void);

void sync_block(DF_PLACE);
void sync_warp(DF_PLACE);
uint32_t warp_ballot(bool p, DF_PLACE);
DF_DEVICE unsigned lane_id(void) { return emu_lane(); }

template <class T>
DF_DEVICE T
emu_shuffle_any(T v, enum emu_shuffle how, unsigned by, const char *file, int line)
{
	uint32_t bits;

	static_assert(sizeof(T) == 4, "shuffles are of 32-bit types");
	memcpy(&bits, &v, 4);
	bits = emu_shuffle(bits, how, by, file, line);
	memcpy(&v, &bits, 4);
	return v;
}
template <class T>
DF_DEVICE T
shuffle(T v, int from, DF_PLACE)
{
	return emu_shuffle_any(v, EMU_FROM, (unsigned)from, file, line);
}
template <class T>
DF_DEVICE T
shuffle_xor(T v, int mask, DF_PLACE)
{
	return emu_shuffle_any(v, EMU_XOR, (unsigned)mask, file, line);
}
template <class T>
DF_DEVICE T
shuffle_up(T v, unsigned by, DF_PLACE)
{
	return emu_shuffle_any(v, EMU_UP, by, file, line);
}
template <class T>
DF_DEVICE T
shuffle_down(T v, unsigned by, DF_PLACE)
{
	return emu_shuffle_any(v, EMU_DOWN, by, file, line);
}

/* ---- integers ---------------------------------------------------------------------------------------------------- */

DF_DEVICE uint32_t atomic_add(uint32_t *p, uint32_t v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
DF_DEVICE uint32_t atomic_or(uint32_t *p, uint32_t v) { return __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
DF_DEVICE uint32_t
atomic_max(uint32_t *p, uint32_t v)
{
	uint32_t old = __atomic_load_n(p, __ATOMIC_RELAXED);

	while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return old;
}
DF_DEVICE uint32_t mul_high(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
DF_DEVICE float
fast_exp2(float x)
{
	const float y = exp2f(x);

	return y < 0x1p-126f ? 0.0f : y;
}
DF_DEVICE int bit_count(uint32_t x) { return __builtin_popcount(x); }
DF_DEVICE uint32_t
float_bits(float x)
{
	uint32_t r;

	memcpy(&r, &x, 4);
	return r;
}
DF_DEVICE float
bits_float(uint32_t x)
{
	float r;

	memcpy(&r, &x, 4);
	return r;
}

/* ---- 16-bit floats: to nearest even; a NaN becomes 0x7fff, as PTX's cvt has it ----------------------------------- */

DF_DEVICE uint16_t
bf16_of(float x)
{
	const uint32_t u = float_bits(x);

	return x != x ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
DF_DEVICE float of_bf16(uint16_t x) { return bits_float((uint32_t)x << 16); }
DF_DEVICE uint32_t pack_bf16(float low, float high) { return bf16_of(low) | (uint32_t)bf16_of(high) << 16; }
DF_DEVICE uint16_t
f16_of(float x)
{
	const uint32_t u = float_bits(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;

	if (x != x)
		return 0x7fff;
	if (a >= 0x47800000) /* 2^16 and more */
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000) /* below 2^-14: units of 2^-24; the sum rounds as the FPU does, to nearest even */
		return (uint16_t)(sign | (float_bits(bits_float(a) + 0.5f) - 0x3f000000));
	return (uint16_t)(sign | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13));
}
DF_DEVICE float
of_f16(uint16_t x)
{
	const uint32_t sign = (uint32_t)(x & 0x8000) << 16, a = x & 0x7fff;

	if (a >= 0x7c00)
		return bits_float(sign | 0x7f800000 | (a & 0x3ff) << 13);
	return bits_float(sign | float_bits((a < 0x400 ? (float)a * 0x1p-24f : bits_float((a << 13) + 0x38000000))));
}

/* ---- matrices, and copies that run beside ------------------------------------------------------------------------ */

void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], DF_PLACE);
void ldmatrix(uint32_t r[4], const void *row, DF_PLACE);
void ldmatrix_transposed(uint32_t r[4], const void *row, DF_PLACE);
void cp_async(void *to, const void *from, bool there = true, DF_PLACE);
void cp_async_commit(void);
void emu_async_wait(unsigned n);
template <int n> DF_DEVICE void cp_async_wait(void) { emu_async_wait(n); }

#define DF_WGMMA 1 /* where DF_EMU_ARCH is 90 */
#define DF_ON_SM90A 1
void async_fence(void);
void wgmma_fence(void);
void wgmma_bf16(float d[32], const uint32_t a[4], uint64_t at, DF_PLACE);
void wgmma_commit(void);
void emu_wgmma_wait(unsigned n);
template <int n> DF_DEVICE void wgmma_wait(float *) { emu_wgmma_wait(n); }
uint32_t shared_address(const void *p);

#endif

/*
 * simd.h - functions that are compiled for several vector widths, outside of the backends.
 *
 * A function marked DF_SIMD is compiled for AVX-512, AVX2 and the baseline, and the loader picks.  No contraction is
 * allowed (Makefile); where sums of floats run in explicit lanes, the three give the same bits.
 */
#ifndef DF_BASE_SIMD_H
#define DF_BASE_SIMD_H

/* The sanitizers' instrumentation is not ready when the loader runs the resolvers. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define DF_SIMD __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define DF_SIMD
#endif

#endif

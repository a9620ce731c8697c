/*
 * rng.h - Philox 4x32-10: a random number depends only on its address, not on earlier draws.
 *
 * (seed, tag, substream, i) names a draw; nothing depends on how many draws
 * came before, on threads, shards or restarts.  Salmon et al., SC'11.
 */
#ifndef DF_BASE_RNG_H
#define DF_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Purposes: no two uses of one seed share a tag. */
enum df_rng_tag {
	DF_RNG_PROJECTION = 1,
	DF_RNG_SAMPLE = 2,         /* weighted or uniform sampling without replacement */
	DF_RNG_SAMPLE_REPLACE = 3, /* with replacement */
	DF_RNG_CLUSTER = 4,
	DF_RNG_MIXTURE_ROWS = 5,
	DF_RNG_MIXTURE = 6,
	DF_RNG_GENERATE = 7,
	DF_RNG_SHUFFLE = 8,        /* dataset order */
	DF_RNG_INIT = 9,           /* model and adapter initialisation; substream = parameter row */
	DF_RNG_DROPOUT = 10,
	DF_RNG_DEMO = 11,          /* the demo's generator */
	DF_RNG_SPLIT = 12,         /* hold-out and validation splits */
	DF_RNG_INTERLEAVE = 13,    /* which dataset gives the next row */
	DF_RNG_NUM_SAMPLES = 14,   /* the order in which num_samples takes a dataset's rows */
	DF_RNG_NUM_SAMPLES_MORE = 15 /* rows that it takes again */
};

/* out = Philox4x32-10(ctr, key). */
void df_philox(const uint32_t ctr[4], const uint32_t key[2], uint32_t out[4]);

/* The four words at (seed, tag, substream, i). */
void df_rng_words(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t i, uint32_t out[4]);

/* A uniform double in (0,1) from words 0 and 1 of that draw (53 bits). */
double df_rng_uniform(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t i);

/* u[i] = that of draw first + i, i < n: the same numbers, faster. */
void df_rng_uniforms(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t first, uint64_t n, double *u);

/* A standard normal (Box-Muller over the four words of that draw). */
double df_rng_normal(uint64_t seed, uint32_t tag, uint32_t substream, uint64_t i);

#ifdef __cplusplus
}
#endif
#endif

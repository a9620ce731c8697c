/*
 * clock.h - how long things take.
 */
#ifndef DF_BASE_CLOCK_H
#define DF_BASE_CLOCK_H

#include <time.h>

/* Seconds since some moment; they never run backwards. */
static inline double
df_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

#endif

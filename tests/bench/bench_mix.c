/*
 * bench_mix.c - what a mixture costs: an update of each mixer, and the rows of a window.
 *
 *   bench_mix [DOMAINS [ROWS]]     1000 domains and 1e7 rows
 *
 * CPU time of one thread.  DoReMi updates at each step; the others at events, some hundred steps apart, as the drawer.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "bench.h"
#include "mix/mix.h"

enum { EXPERTS = 64, WINDOW = 100000, REPEAT = 9 };

static double
cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static int
measure(const struct df_mixer *m, size_t k, struct df_err *err)
{
	double *p = NULL, *state = NULL, *load = NULL, times[REPEAT];
	struct df_mix_sum *sum = NULL;
	struct df_mix_seen seen = { .n_domains = k, .n_experts = EXPERTS };
	void *options = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&options, m->defaults_size, 1, "options", err));
	memcpy(options, m->defaults, m->defaults_size);
	DF_TRY(df_alloc(&p, k, sizeof(*p), "proportions", err));
	DF_TRY(df_alloc(&state, m->n_state(k), sizeof(*state), "state", err));
	DF_TRY(df_alloc(&sum, k, sizeof(*sum), "sums", err));
	DF_TRY(df_alloc(&load, k * EXPERTS, sizeof(*load), "loads", err));
	DF_TRY(df_mix_proportions(NULL, "", k, NULL, p, err));
	DF_TRY(m->begin(options, p, k, state, err));
	df_rng_uniforms(1, DF_RNG_DEMO, 0, 0, k * EXPERTS, load);
	for (size_t i = 0; i < k; i++)
		sum[i] = (struct df_mix_sum){ 1000, 10, 3000 + 1000 * load[i], 100 * load[i], 1000 };
	seen.sum = sum;
	seen.load = load;
	for (uint64_t r = 0; r < REPEAT; r++) {
		const double began = cpu();

		seen.step = r + 1;
		if (m->update)
			DF_TRY(m->update(options, state, &seen, err));
		m->propose(options, state, k, seen.step, p);
		if (m->weigh)
			m->weigh(options, state, k, p);
		times[r] = cpu() - began;
	}
	qsort(times, REPEAT, sizeof(*times), compare_doubles);
	printf("%-12s %10.1f us an update\n", m->name, 1e6 * times[REPEAT / 2]);
out:
	free(options);
	free(p);
	free(state);
	free(sum);
	free(load);
	return rc;
}

static int
draw(size_t k, uint64_t n_rows, struct df_err *err)
{
	struct df_drawer_opts o = { .n_rows = n_rows, .n_domains = k, .seed = 1, .shuffle = true };
	struct df_drawer *d = NULL;
	uint64_t *rows = NULL, *cursor = NULL;
	uint16_t *domain = NULL;
	double *p = NULL, times[3];
	int rc = DF_OK;

	DF_TRY(df_alloc(&domain, n_rows, sizeof(*domain), "domains", err));
	DF_TRY(df_alloc(&rows, WINDOW, sizeof(*rows), "window", err));
	DF_TRY(df_alloc(&cursor, k, sizeof(*cursor), "cursors", err));
	DF_TRY(df_alloc(&p, k, sizeof(*p), "proportions", err));
	for (uint64_t i = 0; i < n_rows; i++)
		domain[i] = (uint16_t)(i * k / n_rows);
	o.domain = domain;
	DF_TRY(df_mix_proportions(NULL, "", k, NULL, p, err));
	times[0] = -cpu();
	DF_TRY(df_drawer_new(&d, &o, err));
	times[0] += cpu();
	for (uint64_t w = 0; w < 2; w++) {
		times[1 + w] = -cpu();
		DF_TRY(df_drawer_draw(d, p, w, WINDOW, cursor, rows, err));
		times[1 + w] += cpu();
	}
	printf("drawer of %llu rows in %zu domains: %.3f s to make, first window of %d rows %.3f s, the next %.4f s\n",
	    (unsigned long long)n_rows, k, times[0], WINDOW, times[1], times[2]);
out:
	df_drawer_free(d);
	free(domain);
	free(rows);
	free(cursor);
	free(p);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err err = DF_ERR_INIT;
	int64_t k = 1000, n_rows = 10000000;
	int rc = DF_OK;

	if (argc > 1)
		DF_TRY(df_parse_int(argv[1], 1, DF_MIX_DOMAINS, &k, &err));
	if (argc > 2)
		DF_TRY(df_parse_int(argv[2], k, UINT32_MAX, &n_rows, &err));
	for (size_t i = 0; df_mixers[i]; i++)
		DF_TRY(measure(df_mixers[i], (size_t)k, &err));
	DF_TRY(draw(1, (uint64_t)n_rows, &err));
	DF_TRY(draw((size_t)k, (uint64_t)n_rows, &err));
out:
	if (rc != DF_OK)
		fprintf(stderr, "bench_mix: %s\n", err.msg);
	return df_err_exit_status(rc);
}

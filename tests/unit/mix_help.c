/*
 * mix_help.c - see mix_help.h.
 */
#include "mix_help.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TARGETS 10

struct mix
mix_new(const char *name, size_t k, const double *p0, ...)
{
	struct mix x = { .k = k };
	double equal[MIX_MOST];
	const char *option;
	struct df_err err;
	va_list ap;

	assert_true(k <= MIX_MOST);
	if (df_mixer_find(&x.m, name, &err) != DF_OK)
		fail_msg("%s", err.msg);
	x.options = malloc(x.m->defaults_size);
	assert_non_null(x.options);
	memcpy(x.options, x.m->defaults, x.m->defaults_size);
	va_start(ap, p0);
	while ((option = va_arg(ap, const char *)) != NULL)
		if (df_opt_set(x.m->options, x.options, option, va_arg(ap, const char *), &err) != DF_OK)
			fail_msg("%s", err.msg);
	va_end(ap);
	for (size_t i = 0; i < k; i++)
		equal[i] = 1 / (double)k;
	assert_true(x.m->n_state(k) <= 5 * MIX_MOST);
	if (x.m->check && x.m->check(x.options, k, &err) != DF_OK)
		fail_msg("%s", err.msg);
	if (x.m->begin(x.options, p0 ? p0 : equal, k, x.state, &err) != DF_OK)
		fail_msg("%s", err.msg);
	x.m->propose(x.options, x.state, k, 0, x.p);
	return x;
}

void
mix_free(struct mix *x)
{
	free(x->options);
}

void
mix_loss(struct mix *x, size_t domain, double mean)
{
	x->sum[domain] = (struct df_mix_sum){
		.n_targets = TARGETS, .n = 1, .nll = mean * TARGETS, .excess = mean * TARGETS, .n_excess = TARGETS
	};
}

void
mix_nothing(struct mix *x)
{
	memset(x->sum, 0, sizeof(x->sum));
}

void
mix_update(struct mix *x, uint64_t step)
{
	const struct df_mix_seen seen = { .n_domains = x->k, .sum = x->sum, .step = step };
	struct df_err err;

	if (x->m->update(x->options, x->state, &seen, &err) != DF_OK)
		fail_msg("%s", err.msg);
	mix_nothing(x);
	x->m->propose(x->options, x->state, x->k, step, x->p);
}

void
mix_near(const double *got, const double *want, size_t n, double tolerance, const char *what)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabs(got[i] - want[i]) <= tolerance))
			fail_msg("%s, %zu: %.17g, not %.17g", what, i, got[i], want[i]);
}

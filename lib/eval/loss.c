/*
 * loss.c - blocks of consecutive rows run on the pool, sums are taken in row order.
 */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "eval/loss.h"
#include "weigh/dft.h"

struct run {
	struct df_model *m;
	const struct df_rows *r;
	struct df_blocks blocks;
	struct df_work **work; /* [lanes] */
	struct df_gather *gather;
	float *loss; /* [n rows] */
	uint32_t *n_targets, *n_correct;
	pthread_mutex_t lock; /* protects what follows */
	size_t next, end;     /* block; the first of those that all threads share */
	uint64_t done;
	bool progress, dft;
	size_t bad_block; /* the first block that failed, SIZE_MAX = none */
	int rc;           /* its error */
	struct df_err err;
};

int
df_eval_check_rows(struct df_rows *r, const struct df_model *m, const char *name, struct df_err *err)
{
	bool known;
	int rc;

	DF_TRY(df_model_check_tokenizer(name, df_rows_tokenizer(r), r->name, &known, err));
	if (!known)
		df_info("%s: not known which tokenizer it was trained with; taken to be that of %s", name, r->name);
	rc = df_rows_check_vocab(r, df_model_config(m)->n_vocab, name, err);
out:
	return rc;
}

double
df_eval_loss(const struct df_eval_sum *s)
{
	return s->n_targets ? s->nll / (double)s->n_targets : NAN;
}

double
df_eval_perplexity(const struct df_eval_sum *s)
{
	return exp(df_eval_loss(s));
}

double
df_eval_sample_loss(const struct df_eval_sum *s)
{
	uint64_t n = s->n_samples - s->n_unlabelled - s->n_bad;

	return n ? s->sample_loss / (double)n : NAN;
}

double
df_eval_token_accuracy(const struct df_eval_sum *s)
{
	return s->n_targets ? (double)s->n_correct / (double)s->n_targets : NAN;
}

double
df_eval_exact(const struct df_eval_sum *s)
{
	uint64_t n = s->n_samples - s->n_unlabelled - s->n_bad;

	return n ? (double)s->n_exact / (double)n : NAN;
}

double
df_eval_sample_accuracy(const struct df_eval_sum *s)
{
	uint64_t n = s->n_samples - s->n_unlabelled - s->n_bad;

	return n ? s->sample_accuracy / (double)n : NAN;
}

static int
cut(struct run *e, const struct df_eval_opts *o, struct df_err *err)
{
	const struct df_rows *r = e->r;
	const struct df_backend_traits like = df_backend_traits(df_model_backend(e->m));
	uint64_t *length = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&length, r->n, sizeof(*length), "lengths", err));
	for (uint64_t i = 0; i < r->n; i++)
		length[i] = df_rows_length(r, i);
	rc = df_blocks_cut(
	    &e->blocks, length, r->n, o->max_tokens ? o->max_tokens : like.forward_tokens, o->max_samples, err);
out:
	free(length);
	return rc;
}

static void
run_block(struct run *e, size_t i, size_t lane)
{
	uint64_t first = e->blocks.first[i], n = e->blocks.first[i + 1] - first;
	struct df_losses losses = {
		.loss = e->loss + first, .n_targets = e->n_targets + first, .n_correct = e->n_correct + first
	};
	struct df_err err = DF_ERR_INIT;
	struct df_tokens tokens;
	int rc = DF_OK;

	if (df_stop_requested())
		return;
	if (!e->work[lane])
		DF_TRY(df_work_new(&e->work[lane], e->m, &err));
	if (e->dft)
		df_work_weigh(e->work[lane], df_dft_weigh, NULL);
	DF_TRY(df_gather_range(&e->gather[lane], e->r, first, (size_t)n, &tokens, &err));
	DF_TRY(df_model_loss(e->m, e->work[lane], &tokens, &losses, &err));
out:
	pthread_mutex_lock(&e->lock);
	if (rc != DF_OK && i < e->bad_block) {
		e->bad_block = i;
		e->rc = rc;
		e->err = err;
	}
	e->done += n;
	if (e->progress)
		df_progress(e->done, e->r->n, "samples");
	pthread_mutex_unlock(&e->lock);
}

/* Blocks one after another, until none is left but the last ones, which all threads share. */
static void
run_lane(void *ctx, size_t lane, int worker)
{
	struct run *e = ctx;

	(void)worker;
	for (;;) {
		size_t i;

		pthread_mutex_lock(&e->lock);
		i = e->next++;
		pthread_mutex_unlock(&e->lock);
		if (i >= e->end)
			return;
		run_block(e, i, lane);
	}
}

static void
add(struct df_eval_sum *s, const struct run *e, uint64_t i)
{
	uint32_t n = e->n_targets[i];

	s->n_samples++;
	if (n == 0) {
		s->n_unlabelled++;
		return;
	}
	if (!isfinite(e->loss[i])) {
		s->n_bad++;
		return;
	}
	s->n_targets += n;
	s->n_correct += e->n_correct[i];
	s->n_exact += e->n_correct[i] == n;
	s->nll += (double)e->loss[i] * n;
	s->sample_loss += (double)e->loss[i];
	s->sample_accuracy += (double)e->n_correct[i] / n;
}

static int
sum_up(struct df_eval *out, const struct run *e, struct df_err *err)
{
	int rc;

	out->n_domains = e->r->meta.n_domains ? e->r->meta.n_domains : 1;
	if ((rc = df_alloc(&out->domain, out->n_domains, sizeof(*out->domain), "domains", err)) != DF_OK)
		return rc;
	for (uint64_t i = 0; i < e->r->n; i++) {
		if (e->n_targets[i] > 0 && !isfinite(e->loss[i]) && out->all.n_bad == 0)
			out->bad_id = df_rows_id(e->r, i);
		add(&out->all, e, i);
		add(&out->domain[df_rows_domain(e->r, i)], e, i);
	}
	return DF_OK;
}

int
df_eval_run(struct df_eval *out, struct df_model *m, const struct df_rows *r, struct df_pool *pool,
    const struct df_eval_opts *o, struct df_err *err)
{
	struct run e = {
		.m = m,
		.r = r,
		.progress = o->progress,
		.dft = o->dft,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.bad_block = SIZE_MAX,
	};
	const size_t n_lanes = (size_t)df_backend_workers(df_model_backend(m), df_pool_size(pool));
	int rc = DF_OK;

	*out = (struct df_eval){ 0 };
	DF_TRY(cut(&e, o, err));
	DF_TRY(df_alloc(&e.work, n_lanes, sizeof(*e.work), "lanes", err));
	DF_TRY(df_alloc(&e.gather, n_lanes, sizeof(*e.gather), "lanes", err));
	DF_TRY(df_alloc(&e.loss, r->n, sizeof(*e.loss), "losses", err));
	DF_TRY(df_alloc(&e.n_targets, r->n, sizeof(*e.n_targets), "losses", err));
	DF_TRY(df_alloc(&e.n_correct, r->n, sizeof(*e.n_correct), "losses", err));
	e.end = e.blocks.n - (size_t)df_pool_last(e.blocks.n, (int)n_lanes);
	df_pool_for(pool, n_lanes, run_lane, &e);
	for (size_t i = e.end; i < e.blocks.n; i++)
		run_block(&e, i, 0);
	if (e.rc != DF_OK) {
		rc = e.rc;
		if (err)
			*err = e.err;
		goto out;
	}
	if (df_stop_requested()) {
		rc = df_fail(err, DF_ESTOPPED, "evaluation stopped by a signal");
		goto out;
	}
	rc = sum_up(out, &e, err);
out:
	for (size_t i = 0; i < n_lanes; i++) {
		if (e.work)
			df_work_free(e.work[i]);
		if (e.gather)
			df_gather_release(&e.gather[i]);
	}
	free(e.work);
	free(e.gather);
	df_blocks_release(&e.blocks);
	free(e.loss);
	free(e.n_targets);
	free(e.n_correct);
	return rc;
}

void
df_eval_tell(const struct df_eval *e)
{
	if (e->all.n_bad > 0)
		df_warn("%" PRIu64
			" samples have a loss that is not finite and are left out, the first is sample %" PRIu64,
		    e->all.n_bad, e->bad_id);
	if (e->all.n_unlabelled > 0)
		df_info("%" PRIu64 " samples have no target and count for nothing", e->all.n_unlabelled);
}

void
df_eval_release(struct df_eval *e)
{
	free(e->domain);
	*e = (struct df_eval){ 0 };
}

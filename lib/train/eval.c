/*
 * eval.c - blocks of consecutive rows over the pool, sums in row order.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "train/eval.h"

#define BLOCK_TOKENS 4096

struct block {
	uint64_t first, n;
	int rc;
};

struct run {
	struct df_model *m;
	const struct df_rows *r;
	struct df_work **work; /* [workers] */
	uint64_t **rows;       /* [workers]: scratch */
	struct df_gather *gather;
	struct block *block;
	size_t n_blocks, cap_blocks, n_workers;
	uint64_t widest; /* samples of the largest block */
	float *loss;     /* [n rows] */
	uint32_t *n_correct;
	pthread_mutex_t lock; /* over what follows */
	uint64_t done;
	bool progress;
	size_t bad_block;  /* the first block that failed, n_blocks = none */
	struct df_err err; /* and its error */
};

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

static int
cut(struct run *e, const struct df_eval_opts *o, struct df_err *err)
{
	const struct df_rows *r = e->r;
	size_t max_tokens = o->max_tokens ? o->max_tokens : BLOCK_TOKENS;
	int rc;

	for (uint64_t i = 0; i < r->n;) {
		uint64_t j = i + 1;

		while (j < r->n && r->offsets[j + 1] - r->offsets[i] <= max_tokens &&
		    (o->max_samples == 0 || j - i < o->max_samples))
			j++;
		if ((rc = df_grow(&e->block, &e->cap_blocks, e->n_blocks + 1, sizeof(*e->block), "blocks", err)) !=
		    DF_OK)
			return rc;
		e->block[e->n_blocks++] = (struct block){ i, j - i, DF_OK };
		e->widest = j - i > e->widest ? j - i : e->widest;
		i = j;
	}
	return DF_OK;
}

static void
run_block(void *ctx, size_t i, int worker)
{
	struct run *e = ctx;
	struct block *b = &e->block[i];
	struct df_err err = DF_ERR_INIT;
	struct df_tokens tokens;
	struct df_losses losses = { .loss = e->loss + b->first, .n_correct = e->n_correct + b->first };
	int rc = DF_OK;

	if (df_stop_requested()) {
		b->rc = DF_ESTOPPED;
		return;
	}
	if (!e->work[worker])
		DF_TRY(df_work_new(&e->work[worker], e->m, &err));
	if (!e->rows[worker])
		DF_TRY(df_alloc(&e->rows[worker], e->widest, sizeof(uint64_t), "block", &err));
	for (uint64_t k = 0; k < b->n; k++)
		e->rows[worker][k] = b->first + k;
	DF_TRY(df_gather_batch(&e->gather[worker], e->r, e->rows[worker], (size_t)b->n, &tokens, &err));
	DF_TRY(df_model_loss(e->m, e->work[worker], &tokens, &losses, &err));
out:
	b->rc = rc;
	pthread_mutex_lock(&e->lock);
	if (rc != DF_OK && i < e->bad_block) {
		e->bad_block = i;
		e->err = err;
	}
	e->done += b->n;
	if (e->progress)
		df_progress(e->done, e->r->n, "samples");
	pthread_mutex_unlock(&e->lock);
}

static void
add(struct df_eval_sum *s, const struct run *e, uint64_t i)
{
	uint32_t n = e->r->n_targets[i];

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
}

static int
sum_up(struct df_eval *out, const struct run *e, struct df_err *err)
{
	int rc;

	out->n_domains = e->r->meta.n_domains ? e->r->meta.n_domains : 1;
	if ((rc = df_alloc(&out->domain, out->n_domains, sizeof(*out->domain), "domains", err)) != DF_OK)
		return rc;
	for (uint64_t i = 0; i < e->r->n; i++) {
		if (e->r->n_targets[i] > 0 && !isfinite(e->loss[i]) && out->all.n_bad == 0)
			out->bad_id = e->r->id[i];
		add(&out->all, e, i);
		add(&out->domain[e->r->domain[i]], e, i);
	}
	return DF_OK;
}

int
df_eval_run(struct df_eval *out, struct df_model *m, const struct df_rows *r, struct df_pool *pool,
    const struct df_eval_opts *o, struct df_err *err)
{
	struct run e = { .m = m, .r = r, .progress = o->progress, .lock = PTHREAD_MUTEX_INITIALIZER };
	int rc = DF_OK;

	*out = (struct df_eval){ 0 };
	e.n_workers = (size_t)df_pool_size(pool);
	DF_TRY(cut(&e, o, err));
	e.bad_block = e.n_blocks;
	DF_TRY(df_alloc(&e.work, e.n_workers, sizeof(*e.work), "workers", err));
	DF_TRY(df_alloc(&e.rows, e.n_workers, sizeof(*e.rows), "workers", err));
	DF_TRY(df_alloc(&e.gather, e.n_workers, sizeof(*e.gather), "workers", err));
	DF_TRY(df_alloc(&e.loss, r->n, sizeof(*e.loss), "losses", err));
	DF_TRY(df_alloc(&e.n_correct, r->n, sizeof(*e.n_correct), "losses", err));
	df_pool_for(pool, e.n_blocks, run_block, &e);
	if (e.bad_block < e.n_blocks) {
		rc = e.block[e.bad_block].rc;
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
	for (size_t i = 0; i < e.n_workers; i++) {
		if (e.work)
			df_work_free(e.work[i]);
		if (e.rows)
			free(e.rows[i]);
		if (e.gather)
			df_gather_release(&e.gather[i]);
	}
	free(e.work);
	free(e.rows);
	free(e.gather);
	free(e.block);
	free(e.loss);
	free(e.n_correct);
	return rc;
}

void
df_eval_release(struct df_eval *e)
{
	free(e->domain);
	*e = (struct df_eval){ 0 };
}

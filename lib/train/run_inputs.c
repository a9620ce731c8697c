/*
 * run_inputs.c - what a run is given: tokens, an index, weights.
 *
 * Each names the tokens that it was made for, and all are checked before
 * anything is trained: a run on rows that were chosen from another pool would end without a word.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/faults.h"
#include "base/file.h"
#include "base/inout.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opt.h"
#include "train/checkpoint.h"
#include "train/run_priv.h"

int
df_train_note_files(const struct df_config *c, struct df_err *err)
{
	const struct {
		const char *key, *path;
	} reads[] = { { "model_name_or_path", c->model_name_or_path },
		{ "adapter_name_or_path", c->adapter_name_or_path }, { "tokenized_path", c->tokenized_path },
		{ "eval_tokenized_path", c->eval_tokenized_path } };
	char *path = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < sizeof(reads) / sizeof(reads[0]); i++)
		if (reads[i].path)
			DF_TRY(df_inout_read(reads[i].path, reads[i].key, err));
	for (size_t i = 0; df_checkpoint_logs[i]; i++) {
		free(path);
		path = NULL;
		DF_TRY(df_path_join(&path, c->output_dir, df_checkpoint_logs[i], err));
		DF_TRY(df_inout_write(path, "output_dir", false, err));
	}
	DF_TRY(df_inout_own(c->output_dir, err));
out:
	free(path);
	return rc;
}

/* The digest of n numbers of `size` bytes in their order. */
static void
ordered_id(const void *data, size_t n, size_t size, char hex[DF_DIGEST_HEX])
{
	df_digest_hex(df_hash_bytes(data, n * size, 0), hex);
}

/* An artefact that was made for other tokens does not belong to this run. */
static int
check_lineage(const struct df_set *set, const struct df_rows *rows, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(set);
	const struct df_input *in = df_meta_input(m, "tokens");

	if (!m->has_lineage || !in) {
		df_info("%s does not say which tokens it belongs to; taken for %s", df_set_name(set), rows->name);
		return DF_OK;
	}
	if (strcmp(in->id, rows->meta.id) == 0)
		return DF_OK;
	return df_fail(err, DF_ELINEAGE, "%s was made for tokens %s, but %s is %s", df_set_name(set), in->id,
	    rows->name, rows->meta.id);
}

static int
load_index(struct df_run *r, struct df_err *err)
{
	struct df_set *set = NULL;
	struct df_batch b = DF_BATCH_INIT;
	uint64_t got;
	size_t cap = 0;
	int rc = DF_OK;

	DF_TRY(df_set_open1(&set, DF_KIND_INDEX, "index", r->o->index, err));
	for (;;) {
		DF_TRY(df_set_next(set, 65536, &b, &got, err));
		if (got == 0)
			break;
		DF_TRY(df_grow(&r->index, &cap, r->n_index + got, sizeof(*r->index), "index", err));
		memcpy(r->index + r->n_index, b.col[DF_COL_INDEX].data, got * sizeof(*r->index));
		r->n_index += got;
	}
	DF_TRY(check_lineage(set, &r->rows, err));
	if (r->n_index == 0) {
		rc = df_fail(err, DF_EFORMAT, "%s: no rows to train on", df_set_name(set));
		goto out;
	}
	if (!df_meta_get_double(df_set_meta(set), "step", &r->index_step))
		r->index_step = -1;
	ordered_id(r->index, r->n_index, sizeof(*r->index), r->index_id);
	for (uint64_t i = 0; i < r->n_index; i++) {
		uint64_t id = r->index[i];

		if (!df_rows_find(&r->rows, id, &r->index[i])) {
			rc = df_fail(err, DF_ELINEAGE, "%s: row %" PRIu64 ": %s has no sample %" PRIu64,
			    df_set_name(set), i, r->rows.name, id);
			goto out;
		}
	}
out:
	df_batch_release(&b);
	df_set_close(set);
	return rc;
}

static int
load_weights(struct df_run *r, struct df_err *err)
{
	struct df_idset seen = { 0 };
	struct df_set *set = NULL;
	struct df_batch b = DF_BATCH_INIT;
	uint64_t got, row;
	int rc = DF_OK;

	DF_TRY(df_set_open1(&set, DF_KIND_WEIGHTS, "weights", r->o->weights, err));
	DF_TRY(df_idset_init(&seen, r->rows.n, err));
	DF_TRY(df_alloc(&r->weights, r->rows.n, sizeof(*r->weights), "weights", err));
	do {
		const float *w;
		const uint64_t *id;

		DF_TRY(df_set_next(set, 65536, &b, &got, err));
		w = b.col[DF_COL_WEIGHT].data;
		id = b.col[DF_COL_ID].data;
		if (got > 0 && !w) {
			rc = df_fail(err, DF_EFORMAT, "%s: no sample_weight: weights of domains do not weigh samples",
			    df_set_name(set));
			goto out;
		}
		for (uint64_t i = 0; i < got; i++) {
			if (!df_rows_find(&r->rows, id[i], &row)) {
				rc = df_fail(err, DF_ELINEAGE, "%s: %s has no sample %" PRIu64, df_set_name(set),
				    r->rows.name, id[i]);
				goto out;
			}
			if (!isfinite(w[i]) || w[i] < 0) {
				rc = df_fail(err, DF_EFORMAT,
				    "%s: sample %" PRIu64 ": weight %g is not a number from 0 up", df_set_name(set),
				    id[i], (double)w[i]);
				goto out;
			}
			DF_TRY(df_idset_add(&seen, &row, 1, df_set_name(set), err));
			r->weights[row] = w[i];
		}
	} while (got > 0);
	DF_TRY(check_lineage(set, &r->rows, err));
	DF_TRY(df_idset_check_full(&seen, df_set_name(set), err));
	ordered_id(r->weights, r->rows.n, sizeof(*r->weights), r->weights_id);
out:
	df_idset_release(&seen);
	df_batch_release(&b);
	df_set_close(set);
	return rc;
}

/* "a, b" and "a,b" are the same list. */
static bool
same_words(const char *a, const char *b)
{
	for (; *a != '\0' && *a == *b; a++, b++) {
		if (*a != ',')
			continue;
		a += strspn(a + 1, " ");
		b += strspn(b + 1, " ");
	}
	return *a == *b;
}

/* Does the JSON text of a parameter say the same as the text of a key? */
static bool
says_the_same(const struct df_meta *m, const char *key, const char *text)
{
	const char *json = df_meta_param(m, key);
	double a, b;
	char *s;
	bool same;

	if (!json || !*text)
		return true;
	if (df_meta_get_str(m, key, &s)) {
		same = same_words(s, text);
		free(s);
		return same;
	}
	if (df_meta_get_double(m, key, &a))
		return df_parse_double(text, &b, NULL) == DF_OK && a == b;
	return strcmp(json, text) == 0;
}

/*
 * Does another max_samples take the same rows?  It does if it leaves out none, and the one that the tokens were packed
 * with, if any, left out none either.  How many rows a dataset had is known within bounds only: at least source_end;
 * and all of them together had rows_read, so that one had at most what the others leave of it.
 */
static bool
takes_the_same(const struct df_rows *r, const char *text)
{
	const struct df_meta *m = &r->meta;
	const bool drawn = df_meta_param(m, "num_samples") != NULL; /* source rows are no counts then */
	double packed, read;
	uint64_t least = 0, sum = 0, most;
	int64_t wanted;

	if (df_parse_int(text, 1, INT64_MAX, &wanted, NULL) != DF_OK)
		return false;
	for (size_t i = 0; r->source_end && i < (m->n_domains ? m->n_domains : 1); i++) {
		least = r->source_end[i] > least ? r->source_end[i] : least;
		sum += r->source_end[i];
	}
	if (!df_meta_get_double(m, "max_samples", &packed))
		return drawn || least <= (uint64_t)wanted;
	if (packed == (double)wanted)
		return true;
	if (!df_meta_get_double(m, "rows_read", &read) || !(read >= 0 && read < 0x1p53))
		return false;
	most = drawn || sum > (uint64_t)read ? (uint64_t)read : least + (uint64_t)read - sum;
	return (double)most < packed && most <= (uint64_t)wanted;
}

/* The keys that are df-pack's business must be what df-pack was told. */
static int
check_packed(const struct df_run *r, struct df_err *err)
{
	const struct df_config_map *m = &r->c->packed;
	struct df_faults faults = DF_FAULTS_INIT;
	struct df_buf place = DF_BUF_INIT;
	struct df_err e = DF_ERR_INIT;
	int rc = DF_OK;

	for (size_t i = 0; i < m->n; i++) {
		const char *key = m->v[i].key, *value = m->v[i].value, *packed = df_meta_param(&r->rows.meta, key);

		if (strcmp(key, "max_samples") == 0 && *value ? takes_the_same(&r->rows, value)
							      : says_the_same(&r->rows.meta, key, value))
			continue;
		df_buf_clear(&place);
		df_config_place(r->c, key, &place);
		DF_TRY(df_buf_check(&place, err));
		(void)df_fail(&e, DF_ECONFIG, "%s is %s, but %s was packed with %s", place.data, value, r->rows.name,
		    packed ? packed : "more rows of a dataset");
		(void)df_faults_keep(&faults, &e);
	}
	rc = df_faults_report(&faults, r->c->path, err);
out:
	df_faults_release(&faults);
	df_buf_release(&place);
	return rc;
}

/* Where not all tokens were counted: does any row have a target?  As a rule the first has. */
static int
check_targets(const struct df_rows *rows, struct df_err *err)
{
	struct df_gather g = { 0 };
	struct df_tokens b;
	bool any = rows->counted && rows->n_unlabelled < rows->n;
	int rc = DF_OK;

	for (uint64_t i = 0; !rows->counted && i < rows->n && !any; i++) {
		DF_TRY(df_gather_range(&g, rows, i, 1, &b, err));
		any = g.n_targets[0] > 0;
	}
	if (!any)
		rc = df_fail(err, DF_EFORMAT, "%s: no sample has a target: nothing to learn from", rows->name);
out:
	df_gather_release(&g);
	return rc;
}

int
df_run_inputs(struct df_run *r, struct df_err *err)
{
	const char *const train[] = { r->c->tokenized_path }, *const eval[] = { r->c->eval_tokenized_path };
	int rc = DF_OK;

	DF_TRY(df_rows_load(&r->rows, "training tokens", train, 1, err));
	DF_TRY(check_packed(r, err));
	DF_TRY(check_targets(&r->rows, err));
	if (r->rows.n_unlabelled > 0)
		df_info("%s: %" PRIu64 " of %" PRIu64 " samples have no target and count for nothing", r->rows.name,
		    r->rows.n_unlabelled, r->rows.n);
	r->has_eval = r->c->eval_strategy != DF_STRATEGY_NO;
	if (r->has_eval)
		DF_TRY(df_rows_load(&r->eval_rows, "evaluation tokens", eval, 1, err));
	if (r->o->index)
		DF_TRY(load_index(r, err));
	if (r->o->weights)
		DF_TRY(load_weights(r, err));
out:
	return rc;
}

/* "loss", "accuracy" or "NAME_loss", with or without "eval_" in front. */
static bool
find_metric(struct df_run *r, const char *name)
{
	const struct df_meta *m = &r->eval_rows.meta;

	name += strncmp(name, "eval_", 5) == 0 ? 5 : 0;
	if (strcmp(name, "loss") == 0)
		return true;
	r->metric = DF_METRIC_ACCURACY;
	if (strcmp(name, "accuracy") == 0)
		return r->c->compute_accuracy;
	r->metric = DF_METRIC_DOMAIN;
	for (size_t i = 0; r->c->eval_on_each_dataset && i < m->n_domains; i++) {
		const size_t n = strlen(m->domains[i]);

		r->metric_domain = i;
		if (strncmp(name, m->domains[i], n) == 0 && strcmp(name + n, "_loss") == 0)
			return true;
	}
	return false;
}

int
df_run_metric(struct df_run *r, struct df_err *err)
{
	const struct df_config *c = r->c;
	const char *name = c->metric_for_best_model ? c->metric_for_best_model : "loss";
	const size_t n = strlen(name);

	if (!r->has_eval)
		return DF_OK;
	if (c->eval_on_each_dataset) {
		r->log.name = r->eval_rows.meta.domains;
		r->log.n_names = r->eval_rows.meta.n_domains;
	}
	r->wants_best = c->load_best_model_at_end || r->save_best || c->metric_for_best_model ||
	    c->early_stopping_steps > 0 || r->schedule.type == DF_SCHEDULE_REDUCE_LR_ON_PLATEAU;
	if (!find_metric(r, name))
		return df_fail(err, DF_ECONFIG,
		    "metric_for_best_model: there is no '%.60s': loss is always there, accuracy with compute_accuracy, "
		    "and the NAME_loss of a dataset in %s with eval_on_each_dataset",
		    name, r->eval_rows.name);
	r->best = (struct df_best_opts){
		.greater = c->greater_is_better == DF_BETTER_BY_NAME ? n < 4 || strcmp(name + n - 4, "loss") != 0
								     : c->greater_is_better == DF_BETTER_GREATER,
		.patience = (uint64_t)c->early_stopping_steps,
		.min_delta = c->early_stopping_min_delta,
		.schedule = &r->schedule,
	};
	/* The best of another run has no checkpoint here. */
	if (r->start && !r->start_is_own)
		r->state.best = (struct df_best){ .plateau = r->state.best.plateau };
	/* More patience than the run was stopped with: it goes on. */
	if (r->best.patience == 0 || r->state.best.patience < r->best.patience)
		r->state.best.stopped = false;
	return DF_OK;
}

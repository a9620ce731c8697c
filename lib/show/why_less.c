/*
 * why_less.c - LESS, looked at from one sample: its influence on each validation row.
 *
 * LESS's influence on a subtask is the mean over its rows v of sum_i w_i cos(z_i, v_i), for checkpoints i (Xia et al.
 * 2024, section 4; select/less.c).  Here are the terms of this mean, largest first, and the mean of each subtask.  With
 * --val-agg cosine-of-mean there is no such mean; then the terms only show which rows point the same way.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "show/why.h"

#define NORM_MIN 1e-12 /* of a row that has a direction, as in select/less_math.c */

struct influences {
	struct df_why *w;
	double *value;    /* [n] by id of the validation row */
	uint16_t *domain; /* [n], or NULL */
	uint64_t n;
	const struct df_meta *val; /* of the first validation set, with its domains */
};

/* The i-th input with this role. */
static const struct df_input *
input_number(const struct df_meta *m, const char *role, size_t i)
{
	for (size_t k = 0; k < m->n_inputs; k++)
		if (strcmp(m->inputs[k].role, role) == 0 && i-- == 0)
			return &m->inputs[k];
	return NULL;
}

static double
dot(const float *a, const float *b, size_t k)
{
	double sum = 0;

	for (size_t i = 0; i < k; i++)
		sum += (double)a[i] * (double)b[i];
	return sum;
}

/* *z = the sample's projection (free() it) of length *k; NULL when the set has no such row. */
static int
read_train_row(const char *path, uint64_t id, float **z, size_t *k, struct df_err *err)
{
	const enum df_col cols[] = { DF_COL_ID, DF_COL_PROJECTION };
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *s = NULL;
	uint64_t n;
	int rc;

	*z = NULL;
	DF_TRY(df_set_open1(&s, DF_KIND_PROJECTIONS, "train projections", path, err));
	*k = df_set_width(s, DF_COL_PROJECTION);
	/* Row i usually is sample i; else all ids are read to find it. */
	for (uint64_t first = id < df_set_rows(s) ? id : 0, pass = 0; pass < 2 && !*z; first = 0, pass++) {
		df_set_only(s, cols, 1);
		for (; first < df_set_rows(s) && !*z; first += n) {
			n = pass == 0 ? 1 : df_set_rows(s) - first < 65536 ? df_set_rows(s) - first : 65536;
			DF_TRY(df_set_read(s, first, n, &b, err));
			for (uint64_t i = 0; i < n && !*z; i++) {
				if (((const uint64_t *)b.col[DF_COL_ID].data)[i] != id)
					continue;
				df_set_only(s, cols, 2);
				DF_TRY(df_set_read(s, first + i, 1, &b, err));
				DF_TRY(df_alloc(z, *k, sizeof(**z), "projection", err));
				memcpy(*z, b.col[DF_COL_PROJECTION].data, *k * sizeof(**z));
			}
			if (pass == 0)
				break;
		}
	}
out:
	df_batch_release(&b);
	df_set_close(s);
	return rc;
}

/* value[v] += weight * cos(z, v) for every validation row. */
static int
add_checkpoint(struct influences *x, struct df_set *val, const float *z, size_t k, double weight, struct df_err *err)
{
	const double norm = sqrt(dot(z, z, k));
	struct df_batch b = DF_BATCH_INIT;
	uint64_t n;
	int rc;

	if (df_set_width(val, DF_COL_PROJECTION) != k)
		return df_fail(err, DF_EFORMAT, "%s has %zu dimensions, the training row has %zu", df_set_name(val),
		    df_set_width(val, DF_COL_PROJECTION), k);
	for (;;) {
		const uint64_t *id;
		const uint16_t *domain;

		DF_TRY(df_set_next(val, df_set_scan_rows(val), &b, &n, err));
		if (n == 0)
			break;
		id = b.col[DF_COL_ID].data;
		domain = b.col[DF_COL_DOMAIN].data;
		for (uint64_t i = 0; i < n; i++) {
			const float *v = (const float *)b.col[DF_COL_PROJECTION].data + i * k;
			const double length = sqrt(dot(v, v, k));

			if (id[i] >= x->n) {
				rc = df_fail(
				    err, DF_EFORMAT, "%s: id %" PRIu64 " is out of range", df_set_name(val), id[i]);
				goto out;
			}
			if (norm > NORM_MIN && length > NORM_MIN)
				x->value[id[i]] += weight * dot(z, v, k) / (norm * length);
			else if (!(norm <= NORM_MIN) && !(length <= NORM_MIN))
				x->value[id[i]] = (double)NAN;
			if (domain && x->domain)
				x->domain[id[i]] = domain[i];
		}
	}
out:
	df_batch_release(&b);
	return rc;
}

/* One checkpoint's projections, if both files are there; *there = false otherwise, and it is said which is not. */
static int
one_checkpoint(struct influences *x, size_t i, double weight, bool *there, struct df_err *err)
{
	const struct df_input *train = input_number(x->w->index, "train", i),
			      *val = input_number(x->w->index, "val", i);
	const struct df_kin_file *train_file = train ? df_kin_find(x->w->kin, train->id) : NULL;
	const struct df_kin_file *val_file = val ? df_kin_find(x->w->kin, val->id) : NULL;
	struct df_set *s = NULL;
	float *z = NULL;
	size_t k = 0;
	int rc = DF_OK;

	*there = train_file && val_file;
	if (!train_file)
		df_why_more(x->w, "the train projections%s%.12s: its influence on each validation row",
		    train ? ", " : "", train ? train->id : "");
	if (!val_file)
		df_why_more(x->w, "the validation projections%s%.12s: its influence on each validation row",
		    val ? ", " : "", val ? val->id : "");
	if (!*there)
		goto out;
	DF_TRY(read_train_row(train_file->path, x->w->id, &z, &k, err));
	if (!z) {
		rc = df_fail(err, DF_EUSAGE, "%s: no sample %" PRIu64 " in its %" PRIu64 " rows", train_file->path,
		    x->w->id, train_file->rows);
		goto out;
	}
	DF_TRY(df_set_open1(&s, DF_KIND_PROJECTIONS, "validation projections", val_file->path, err));
	if (!x->value) {
		x->n = df_set_rows(s);
		x->val = &val_file->meta;
		DF_TRY(df_alloc(&x->value, x->n, sizeof(*x->value), "influences", err));
		if (df_set_has(s, DF_COL_DOMAIN))
			DF_TRY(df_alloc(&x->domain, x->n, sizeof(*x->domain), "domains", err));
	}
	DF_TRY(add_checkpoint(x, s, z, k, weight, err));
out:
	free(z);
	df_set_close(s);
	return rc;
}

/* The mean of each domain, where these are the subtasks; of all rows, where there is one. */
static int
subtask_means(struct influences *x, struct df_err *err)
{
	char *names = NULL, *val_agg = NULL, *save = NULL;
	struct df_why *w = x->w;
	size_t cap = 0, n_names = 0;
	int rc = DF_OK;

	if (!df_meta_get_str(w->index, "subtasks", &names) ||
	    (df_meta_get_str(w->index, "val_agg", &val_agg) && strcmp(val_agg, "mean-of-cosine") != 0))
		goto out;
	for (char *name = strtok_r(names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		struct df_why_task t = { .n = 0 };

		n_names++;
		for (uint64_t v = 0; v < x->n; v++) {
			if (strcmp(names, "all") != 0 &&
			    (!x->domain || x->domain[v] >= x->val->n_domains ||
				strcmp(x->val->domains[x->domain[v]], name) != 0))
				continue;
			t.value += x->value[v];
			t.n++;
		}
		if (t.n == 0) /* the names of a file: which rows are whose is not recorded */
			continue;
		t.value /= (double)t.n;
		DF_TRY(df_grow(&w->task, &cap, w->n_tasks + 1, sizeof(*w->task), "subtasks", err));
		DF_TRY(df_strdup(&t.name, name, err));
		w->task[w->n_tasks++] = t;
	}
	/* The score of a sample that is not in the index, without its scores: the best of all subtasks. */
	for (size_t i = 0; !w->has_score && n_names == w->n_tasks && i < w->n_tasks; i++)
		w->score = i ? fmaxf(w->score, (float)w->task[i].value) : (float)w->task[i].value;
	w->has_score |= w->n_tasks > 0 && n_names == w->n_tasks;
out:
	free(names);
	free(val_agg);
	return rc;
}

int
df_why_less(struct df_why *w, const char *tokenizer, const char *template, struct df_err *err)
{
	struct influences x = { .w = w };
	char *weights = NULL, *rest, *text;
	bool there = true;
	int rc = DF_OK;

	if (!df_meta_get_str(w->index, "ckpt_weights", &weights))
		goto out;
	rest = weights;
	for (size_t i = 0; there && (text = strsep(&rest, ",")) != NULL; i++) {
		double weight;

		DF_TRY(df_parse_double(text, &weight, err));
		DF_TRY(one_checkpoint(&x, i, weight, &there, err));
	}
	if (!there || !x.value)
		goto out;
	DF_TRY(subtask_means(&x, err));
	for (uint64_t v = 0; v < x.n; v++)
		if (isfinite(x.value[v]))
			df_why_rank(&w->val, v, x.value[v], 0, true);
	DF_TRY(df_why_texts(w, &w->val, df_meta_input(x.val, "tokens") ? df_meta_input(x.val, "tokens")->id : NULL,
	    tokenizer, template, err));
out:
	free(weights);
	free(x.value);
	free(x.domain);
	return rc;
}

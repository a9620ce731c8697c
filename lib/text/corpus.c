/*
 * corpus.c - the two passes over the datasets.
 *
 * Both are one pipeline: records are found in order, blocks of them converted
 * (and encoded) by any thread, results taken in order again.  A block holds at
 * most BLOCK_ROWS rows and, but for a single larger one, BLOCK_BYTES of text.
 */
#include "text/corpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/pool.h"
#include "base/rng.h"

#define BLOCK_ROWS  256
#define BLOCK_BYTES ((size_t)4 << 20)

/* A kept row's draw: the rows with the smallest keys are held out. */
struct df_draw {
	uint64_t key, row;
};

struct block {
	struct df_record rec[BLOCK_ROWS];
	struct df_encode_info info[BLOCK_ROWS];
	enum df_drop drop[BLOCK_ROWS];
	size_t n;
	size_t part;
	uint32_t columns;
	struct df_encoded rows; /* the kept ones, end to end */
};

struct pass {
	struct df_corpus *c;
	const struct df_encoder *e;
	df_row_fn *emit; /* NULL: the survey */
	void *ctx;
	size_t part;            /* being read */
	struct df_record ahead; /* a record that did not fit into the last block */
	bool has_ahead, enough;
	uint64_t total, done;
	struct df_example *ex;          /* [threads] */
	struct df_encscratch **scratch; /* [threads], encoding only */
};

/* ---- opening ------------------------------------------------------------ */

static int
add_part(
    struct df_corpus *c, const struct df_dataset_info *info, const char *name, enum df_stage stage, struct df_err *err)
{
	struct df_dataset *ds = NULL;
	int rc = 0;

	for (size_t i = 0; i < c->n_parts; i++)
		if (strcmp(df_dataset_name(c->part[i].ds), name) == 0)
			return df_fail(err, DF_EUSAGE, "dataset '%s' is named twice", name);
	if (c->n_parts > UINT16_MAX)
		return df_fail(err, DF_ERANGE, "more than %d datasets", UINT16_MAX + 1);
	DF_TRY(df_dataset_open(&ds, info, name, stage, err));
	DF_TRY(df_grow(&c->part, &c->cap_parts, c->n_parts + 1, sizeof(*c->part), "datasets", err));
	memset(&c->part[c->n_parts], 0, sizeof(*c->part));
	c->part[c->n_parts++].ds = ds;
	ds = NULL;
out:
	df_dataset_free(ds);
	return rc;
}

int
df_corpus_open(
    struct df_corpus *c, const char *dataset_dir, const char *datasets, enum df_stage stage, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	char *list = NULL, *save = NULL;
	int rc = 0;

	DF_TRY(df_dataset_info_open(&info, dataset_dir, err));
	DF_TRY(df_strdup(&list, datasets, err));
	for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		name += strspn(name, " \t");
		name[strcspn(name, " \t")] = '\0';
		if (*name)
			DF_TRY(add_part(c, info, name, stage, err));
	}
	if (c->n_parts == 0)
		rc = df_fail(err, DF_EUSAGE, "no dataset is named");
out:
	free(list);
	df_dataset_info_free(info);
	return rc;
}

void
df_corpus_close(struct df_corpus *c)
{
	for (size_t i = 0; i < c->n_parts; i++) {
		df_dataset_free(c->part[i].ds);
		free(c->part[i].draws);
	}
	free(c->part);
	c->part = NULL;
	c->n_parts = c->cap_parts = 0;
}

int
df_corpus_hold_out(struct df_corpus *c, const char *spec, struct df_err *err)
{
	const char *eq = strrchr(spec, '=');
	const size_t n_name = eq ? (size_t)(eq - spec) : 0;
	double x;
	int rc;

	if (!eq)
		return df_fail(err, DF_EUSAGE, "holdout '%s': expected NAME=N", spec);
	if ((rc = df_parse_double(eq + 1, &x, err)) != 0) {
		df_err_prefix(err, "holdout '%s': ", spec);
		return rc;
	}
	if (!(x > 0) || (x >= 1 && x != floor(x)) || x > 1e15)
		return df_fail(
		    err, DF_EUSAGE, "holdout '%s': expected a number of rows, or a part between 0 and 1", spec);
	for (size_t i = 0; i < c->n_parts; i++) {
		struct df_part *p = &c->part[i];

		if (strlen(df_dataset_name(p->ds)) != n_name || memcmp(df_dataset_name(p->ds), spec, n_name) != 0)
			continue;
		if (p->hold_out || p->hold_fraction > 0)
			return df_fail(err, DF_EUSAGE, "holdout '%s': the dataset already has one", spec);
		if (x < 1)
			p->hold_fraction = x;
		else
			p->hold_out = (uint64_t)x;
		return 0;
	}
	return df_fail(err, DF_EUSAGE, "holdout '%s': '%.*s' is not among the datasets", spec, (int)n_name, spec);
}

/* ---- the pipeline ------------------------------------------------------- */

/* The next record that counts, across datasets: 1, 0 at the end. */
static int
next_record(struct pass *p, struct df_record *rec, struct df_err *err)
{
	int rc;

	if (p->has_ahead) {
		*rec = p->ahead;
		p->has_ahead = false;
		return 1;
	}
	for (; p->part < p->c->n_parts; p->part++) {
		rc = df_dataset_next(p->c->part[p->part].ds, rec, err);
		if (rc < 0 || (rc == 1 && rec->row < p->c->max_samples))
			return rc;
	}
	return 0;
}

static int
read_block(void *ctx, void *batch, struct df_err *err)
{
	struct pass *p = ctx;
	struct block *b = batch;
	size_t nbytes = 0;
	int rc = 0;

	b->n = 0;
	while (b->n < BLOCK_ROWS && !p->enough) {
		struct df_record rec;

		rc = next_record(p, &rec, err);
		if (rc <= 0)
			break;
		if (b->n == 0) {
			b->part = p->part;
		} else if (b->part != p->part || nbytes + rec.n > BLOCK_BYTES) {
			p->ahead = rec;
			p->has_ahead = true;
			break;
		}
		nbytes += rec.n;
		b->rec[b->n++] = rec;
	}
	return rc < 0 ? rc : b->n > 0;
}

static int
work_block(void *ctx, void *batch, int worker, struct df_err *err)
{
	struct pass *p = ctx;
	struct block *b = batch;
	const struct df_dataset *ds = p->c->part[b->part].ds;
	struct df_example *ex = &p->ex[worker];
	int rc = 0;

	b->columns = 0;
	b->rows.ids.n = 0;
	for (size_t i = 0; i < b->n; i++) {
		DF_TRY(df_dataset_convert(ds, &b->rec[i], ex, err));
		b->columns |= ex->columns;
		if (ex->drop == DF_DROP_NONE && df_encode_is_empty(p->e, ex))
			ex->drop = DF_DROP_EMPTY;
		b->drop[i] = ex->drop;
		if (ex->drop != DF_DROP_NONE || !p->emit)
			continue;
		rc = df_encode(p->e, p->scratch[worker], ex, &b->rows, &b->info[i], err);
		if (rc) {
			df_dataset_place(ds, &b->rec[i], err);
			goto out;
		}
	}
out:
	return rc;
}

static uint64_t
draw_key(const struct df_corpus *c, const struct df_dataset *ds, uint64_t row)
{
	const char *name = df_dataset_name(ds);
	const struct df_digest d = df_hash_bytes(name, strlen(name), 0);
	uint32_t w[4];

	df_rng_words(c->seed, DF_RNG_SPLIT, (uint32_t)d.lo, row, w);
	return (uint64_t)w[0] << 32 | w[1];
}

static int
survey_block(struct pass *p, const struct block *b, struct df_err *err)
{
	struct df_part *part = &p->c->part[b->part];
	const bool draws = part->hold_out || part->hold_fraction > 0;
	int rc = 0;

	part->columns |= b->columns;
	part->n_read += b->n;
	if (draws)
		DF_TRY(
		    df_grow(&part->draws, &part->cap_draws, part->n_kept + b->n, sizeof(*part->draws), "draws", err));
	for (size_t i = 0; i < b->n; i++) {
		if (b->drop[i] != DF_DROP_NONE) {
			part->dropped[b->drop[i]]++;
			continue;
		}
		if (draws)
			part->draws[part->n_kept] =
			    (struct df_draw){ draw_key(p->c, part->ds, b->rec[i].row), b->rec[i].row };
		part->n_kept++;
	}
out:
	return rc;
}

static bool
is_held_out(const struct df_corpus *c, const struct df_part *part, uint64_t row)
{
	uint64_t key;

	if (part->n_held == 0)
		return false;
	key = draw_key(c, part->ds, row);
	return key < part->limit_key || (key == part->limit_key && row <= part->limit_row);
}

static int
emit_block(struct pass *p, const struct block *b, struct df_err *err)
{
	struct df_part *part = &p->c->part[b->part];
	size_t at = 0;
	int rc = 0;

	for (size_t i = 0; i < b->n && !p->enough; i++) {
		const struct df_encode_info *info = &b->info[i];
		struct df_encoded_row row = { .domain = (uint16_t)b->part };

		if (b->drop[i] != DF_DROP_NONE)
			continue;
		row.ids = b->rows.ids.v + at;
		row.mask = b->rows.mask + at;
		row.n = info->n;
		row.source_row = b->rec[i].row;
		row.held_out = is_held_out(p->c, part, row.source_row);
		at += info->n;
		part->n_tokens += info->n;
		part->n_truncated += info->truncated;
		part->n_unlabelled += info->n_targets == 0;
		rc = p->emit(p->ctx, &row, err);
		if (rc < 0)
			return rc;
		p->enough = rc > 0;
	}
	return 0;
}

static int
write_block(void *ctx, void *batch, struct df_err *err)
{
	struct pass *p = ctx;
	const struct block *b = batch;
	int rc = p->emit ? emit_block(p, b, err) : survey_block(p, b, err);

	p->done += b->n;
	df_progress(p->done, p->total, p->emit ? "rows" : "rows checked");
	return rc;
}

/* One pass over all datasets. */
static int
run_pass(struct pass *p, struct df_err *err)
{
	const size_t n_threads = (size_t)(p->c->n_threads > 0 ? p->c->n_threads : 1), n_blocks = n_threads + 2;
	struct block **blocks = NULL;
	int rc = 0;

	DF_TRY(df_alloc(&blocks, n_blocks, sizeof(struct block *), "blocks", err));
	for (size_t i = 0; i < n_blocks; i++)
		DF_TRY(df_alloc(&blocks[i], 1, sizeof(*blocks[i]), "blocks", err));
	DF_TRY(df_alloc(&p->ex, n_threads, sizeof(*p->ex), "examples", err));
	DF_TRY(df_alloc(&p->scratch, n_threads, sizeof(struct df_encscratch *), "encoder scratch", err));
	for (size_t i = 0; i < n_threads && p->emit; i++)
		DF_TRY(df_encscratch_new(&p->scratch[i], p->e, err));
	for (size_t i = 0; i < p->c->n_parts; i++)
		df_dataset_rewind(p->c->part[i].ds);
	{
		const struct df_pipeline pl = { read_block, work_block, write_block, p, (void **)blocks, (int)n_blocks,
			(int)n_threads };

		DF_TRY(df_pipeline_run(&pl, err));
	}
out:
	for (size_t i = 0; i < n_blocks && blocks; i++) {
		if (blocks[i])
			df_encoded_release(&blocks[i]->rows);
		free(blocks[i]);
	}
	free(blocks);
	for (size_t i = 0; i < n_threads; i++) {
		if (p->ex)
			df_example_release(&p->ex[i]);
		if (p->scratch)
			df_encscratch_free(p->scratch[i]);
	}
	free(p->ex);
	free(p->scratch);
	return rc;
}

/* ---- the passes --------------------------------------------------------- */

static int
by_key(const void *a, const void *b)
{
	const struct df_draw *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

static int
choose_held_out(struct df_part *p, struct df_err *err)
{
	p->n_held = p->hold_out;
	if (p->hold_fraction > 0)
		p->n_held = (uint64_t)ceil(p->hold_fraction * (double)p->n_kept);
	if (p->n_held == 0)
		return 0;
	if (p->n_held > p->n_kept)
		return df_fail(err, DF_EUSAGE, "dataset '%s': %llu rows are to be held out, but only %llu can be used",
		    df_dataset_name(p->ds), (unsigned long long)p->n_held, (unsigned long long)p->n_kept);
	qsort(p->draws, p->n_kept, sizeof(*p->draws), by_key);
	p->limit_key = p->draws[p->n_held - 1].key;
	p->limit_row = p->draws[p->n_held - 1].row;
	free(p->draws);
	p->draws = NULL;
	p->cap_draws = 0;
	return 0;
}

int
df_corpus_survey(struct df_corpus *c, const struct df_encoder *e, struct df_err *err)
{
	struct pass p = { .c = c, .e = e };
	uint64_t n_kept = 0, n_held = 0;
	int rc = 0;

	DF_TRY(run_pass(&p, err));
	for (size_t i = 0; i < c->n_parts; i++) {
		struct df_part *part = &c->part[i];
		const char *name = df_dataset_name(part->ds);

		if (c->max_samples == UINT64_MAX && part->n_read > 0)
			DF_TRY(df_dataset_check_columns(part->ds, part->columns, err));
		for (enum df_drop d = DF_DROP_NONE + 1; d < DF_DROP_COUNT; d++)
			if (part->dropped[d])
				df_warn("dataset '%s': %llu of %llu rows dropped: %s", name,
				    (unsigned long long)part->dropped[d], (unsigned long long)part->n_read,
				    df_drop_about(d));
		if (part->n_kept == 0)
			df_warn("dataset '%s': no usable row", name);
		DF_TRY(choose_held_out(part, err));
		n_kept += part->n_kept;
		n_held += part->n_held;
	}
	if (n_kept == 0)
		rc = df_fail(err, DF_EFORMAT, "the datasets have no usable row");
	else if (n_held == n_kept)
		rc = df_fail(err, DF_EUSAGE, "all %llu rows are held out; none is left", (unsigned long long)n_kept);
	c->surveyed = rc == 0;
out:
	return rc;
}

int
df_corpus_encode(struct df_corpus *c, const struct df_encoder *e, df_row_fn *emit, void *ctx, struct df_err *err)
{
	struct pass p = { .c = c, .e = e, .emit = emit, .ctx = ctx };

	if (!c->surveyed)
		return df_fail(err, DF_EINTERNAL, "a corpus is surveyed before it is encoded");
	for (size_t i = 0; i < c->n_parts; i++)
		p.total += c->part[i].n_read;
	return run_pass(&p, err);
}

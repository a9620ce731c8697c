/*
 * corpus.c - the two passes over the datasets.
 *
 * Both are the same pipeline: records are found in order, blocks of them are converted (and encoded) by any thread,
 * and results are taken in order again.  A block holds at most BLOCK_ROWS rows and, unless a single row is larger,
 * BLOCK_BYTES of text.
 *
 * Datasets that are simply concatenated are read from front to back.  When rows are drawn (num_samples) or
 * interleaved, a dataset's records are first found and numbered, without parsing them.
 */
#include "data/corpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/words.h"

#define BLOCK_ROWS  256
#define BLOCK_BYTES ((size_t)4 << 20)

/* A kept row's draw: the rows with the smallest keys are held out. */
struct df_draw {
	uint64_t key, row;
	size_t part;
};

struct block {
	struct df_record rec[BLOCK_ROWS];
	size_t part[BLOCK_ROWS];
	struct df_encode_info info[BLOCK_ROWS];
	enum df_drop drop[BLOCK_ROWS];
	size_t n;
	struct df_encoded rows; /* the kept ones, end to end */
};

struct pass {
	struct df_corpus *c;
	const struct df_encoder *e;
	df_row_fn *emit; /* NULL: the survey */
	void *ctx;
	size_t part;            /* being read, when datasets are concatenated */
	uint64_t at;            /* rows read of it, if it is indexed */
	struct df_record ahead; /* a record that did not fit into the last block */
	size_t ahead_part;
	bool has_ahead, enough;
	uint64_t total, done;
	uint64_t n_dropped[2];          /* since the last kept row of training, and since the last held-out one */
	struct df_example *ex;          /* [threads] */
	struct df_encscratch **scratch; /* [threads] */
};

/* ---- opening ------------------------------------------------------------ */

static int
add_part(struct df_corpus *c, const struct df_dataset_info *info, const char *name, bool eval, enum df_data_stage stage,
    struct df_err *err)
{
	struct df_dataset *ds = NULL;
	uint16_t domain = 0;
	bool known = false;
	int rc = DF_OK;

	/* A name is one domain, whether its rows are for training, for evaluation, or for both. */
	for (size_t i = 0; i < c->n_parts; i++) {
		const struct df_part *p = &c->part[i];

		if (strcmp(df_dataset_name(p->ds), name) == 0) {
			if (p->eval == eval)
				return df_fail(err, DF_EUSAGE, "dataset '%s' is named twice", name);
			domain = p->domain;
			known = true;
		} else if (!known && p->domain >= domain) {
			domain = (uint16_t)(p->domain + 1);
		}
	}
	if (c->n_parts > UINT16_MAX)
		return df_fail(err, DF_ERANGE, "more than %d datasets", UINT16_MAX + 1);
	DF_TRY(df_dataset_open(&ds, info, name, stage, err));
	DF_TRY(df_dataset_check_columns(ds, err));
	df_dataset_set_quirk(ds, !c->no_openai_quirk);
	DF_TRY(df_grow(&c->part, &c->cap_parts, c->n_parts + 1, sizeof(*c->part), "datasets", err));
	c->part[c->n_parts++] = (struct df_part){ .ds = ds, .eval = eval, .domain = domain };
	ds = NULL;
out:
	df_dataset_free(ds);
	return rc;
}

static int
add_parts(struct df_corpus *c, const struct df_dataset_info *info, const char *names, bool eval,
    enum df_data_stage stage, struct df_err *err)
{
	char *list = NULL, *save = NULL;
	int rc = DF_OK;

	DF_TRY(df_strdup(&list, names, err));
	for (char *name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		name += strspn(name, " \t");
		name[strcspn(name, " \t")] = '\0';
		if (*name)
			DF_TRY(add_part(c, info, name, eval, stage, err));
	}
out:
	free(list);
	return rc;
}

int
df_corpus_open(struct df_corpus *c, const char *dataset_dir, const char *datasets, const char *eval_datasets,
    enum df_data_stage stage, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	int rc = DF_OK;

	DF_TRY(df_dataset_info_open(&info, dataset_dir, err));
	DF_TRY(add_parts(c, info, datasets, false, stage, err));
	c->n_train = c->n_parts;
	if (c->n_train == 0) {
		rc = df_fail(err, DF_EUSAGE, "no dataset is named");
		goto out;
	}
	if (eval_datasets)
		DF_TRY(add_parts(c, info, eval_datasets, true, stage, err));
out:
	df_dataset_info_free(info);
	return rc;
}

void
df_corpus_close(struct df_corpus *c)
{
	for (size_t i = 0; i < c->n_parts; i++) {
		df_dataset_free(c->part[i].ds);
		free(c->part[i].row);
	}
	free(c->part);
	free(c->draw);
	df_mixer_release(&c->mixer);
	c->part = NULL;
	c->draw = NULL;
	c->n_parts = c->cap_parts = c->n_train = c->n_draws = c->cap_draws = 0;
}

static int
no_such_dataset(const struct df_corpus *c, const char *spec, size_t n_name, struct df_err *err)
{
	const char **names = NULL;
	char *name = NULL;
	int rc;

	DF_TRY(df_alloc(&names, c->n_train + 1, sizeof(*names), "dataset names", err));
	DF_TRY(df_strndup(&name, spec, n_name, err));
	for (size_t i = 0; i < c->n_train; i++)
		names[i] = df_dataset_name(c->part[i].ds);
	rc = df_fail(err, DF_EUSAGE, "holdout '%s': '%s' is not among the datasets", spec, name);
	df_suggest(err, name, names);
out:
	free(names);
	free(name);
	return rc;
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
		    err, DF_EUSAGE, "holdout '%s': expected a number of rows, or a fraction between 0 and 1", spec);
	for (size_t i = 0; i < c->n_train; i++) {
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
	return no_such_dataset(c, spec, n_name, err);
}

/* ---- which rows, in which order ----------------------------------------- */

/* A number for a dataset that depends on its name alone. */
static uint32_t
substream(const struct df_dataset *ds)
{
	const char *name = df_dataset_name(ds);

	return (uint32_t)df_hash_bytes(name, strlen(name), 0).lo;
}

static int
by_key(const void *a, const void *b)
{
	const struct df_draw *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/*
 * num_samples: the rows are shuffled and cut to n; if there are fewer than n, the rest are drawn with replacement.
 */
static int
draw_samples(struct df_part *p, uint64_t seed, uint64_t n_all, uint64_t n, struct df_err *err)
{
	const uint32_t sub = substream(p->ds);
	struct df_draw *draw = NULL;
	uint32_t w[4];
	int rc = DF_OK;

	if (n_all == 0)
		return df_fail(
		    err, DF_EFORMAT, "dataset '%s': num_samples, but it has no rows", df_dataset_name(p->ds));
	DF_TRY(df_alloc(&draw, n_all, sizeof(*draw), "num_samples", err));
	DF_TRY(df_alloc(&p->row, n, sizeof(*p->row), "num_samples", err));
	for (uint64_t i = 0; i < n_all; i++) {
		df_rng_words(seed, DF_RNG_NUM_SAMPLES, sub, i, w);
		draw[i] = (struct df_draw){ (uint64_t)w[0] << 32 | w[1], i, 0 };
	}
	qsort(draw, n_all, sizeof(*draw), by_key);
	for (uint64_t i = 0; i < n; i++)
		p->row[i] = i < n_all
		    ? draw[i].row
		    : (uint64_t)(df_rng_uniform(seed, DF_RNG_NUM_SAMPLES_MORE, sub, i) * (double)n_all);
out:
	free(draw);
	return rc;
}

/* Number the rows of datasets that are not simply read from front to back. */
static int
index_parts(struct df_corpus *c, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < c->n_parts; i++) {
		struct df_part *p = &c->part[i];
		const uint64_t n_samples = df_dataset_num_samples(p->ds);

		if (!n_samples && (p->eval || c->mix == DF_MIX_CONCAT))
			continue;
		DF_TRY(df_dataset_index(p->ds, &p->n_rows, err));
		p->is_indexed = true;
		if (n_samples) {
			DF_TRY(draw_samples(p, c->seed, p->n_rows, n_samples, err));
			p->n_rows = n_samples;
		}
		if (p->n_rows > c->max_samples)
			p->n_rows = c->max_samples;
	}
	if (c->mix == DF_MIX_CONCAT && !c->probs)
		return 0;
	if ((rc = df_mixer_init(&c->mixer, c->mix, c->n_train, c->probs, c->seed, err)) != 0) {
		df_err_prefix(err, "interleave_probs: ");
		return rc;
	}
	for (size_t i = 0; i < c->n_train; i++) {
		c->mixer.length[i] = c->part[i].n_rows;
		if (c->part[i].n_rows == 0)
			return df_fail(
			    err, DF_EFORMAT, "dataset '%s' has no rows to interleave", df_dataset_name(c->part[i].ds));
	}
out:
	return rc;
}

static struct df_record
indexed_record(const struct df_part *p, uint64_t i)
{
	return df_dataset_record(p->ds, p->row ? p->row[i] : i);
}

/* ---- the pipeline ------------------------------------------------------- */

/* The next record that is used, across datasets, and its dataset: 1, 0 at the end. */
static int
next_record(struct pass *p, struct df_record *rec, size_t *part, struct df_err *err)
{
	struct df_corpus *c = p->c;
	uint64_t row;
	int rc;

	if (p->has_ahead) {
		*rec = p->ahead;
		*part = p->ahead_part;
		p->has_ahead = false;
		return 1;
	}
	if (p->part == 0 && c->mix != DF_MIX_CONCAT) {
		if (df_mixer_next(&c->mixer, part, &row)) {
			*rec = indexed_record(&c->part[*part], row);
			return 1;
		}
		p->part = c->n_train;
	}
	for (; p->part < c->n_parts; p->part++, p->at = 0) {
		struct df_part *x = &c->part[p->part];

		*part = p->part;
		if (x->is_indexed) {
			if (p->at == x->n_rows)
				continue;
			*rec = indexed_record(x, p->at++);
			return 1;
		}
		rc = df_dataset_next(x->ds, rec, err);
		if (rc < 0 || (rc == 1 && rec->row < c->max_samples))
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
	int rc = DF_OK;

	b->n = 0;
	while (b->n < BLOCK_ROWS && !p->enough) {
		struct df_record rec;
		size_t part;

		rc = next_record(p, &rec, &part, err);
		if (rc <= 0)
			break;
		if (b->n > 0 && nbytes + rec.n > BLOCK_BYTES) {
			p->ahead = rec;
			p->ahead_part = part;
			p->has_ahead = true;
			break;
		}
		nbytes += rec.n;
		b->part[b->n] = part;
		b->rec[b->n++] = rec;
	}
	return rc < 0 ? rc : b->n > 0;
}

static int
work_block(void *ctx, void *batch, int worker, struct df_err *err)
{
	struct pass *p = ctx;
	struct block *b = batch;
	struct df_example *ex = &p->ex[worker];
	int rc = DF_OK;

	b->rows.ids.n = 0;
	for (size_t i = 0; i < b->n; i++) {
		const struct df_dataset *ds = p->c->part[b->part[i]].ds;

		DF_TRY(df_dataset_convert(ds, &b->rec[i], ex, err));
		if (ex->drop == DF_DROP_NONE && df_encode_is_empty(p->e, ex))
			ex->drop = DF_DROP_EMPTY;
		b->drop[i] = ex->drop;
		if (ex->drop != DF_DROP_NONE)
			continue;
		if (p->emit)
			rc = df_encode(p->e, p->scratch[worker], ex, &b->rows, &b->info[i], err);
		else
			rc = df_encode_check(p->e, p->scratch[worker], ex, err);
		if (rc != DF_OK) {
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
	uint32_t w[4];

	df_rng_words(c->seed, DF_RNG_SPLIT, substream(ds), row, w);
	return (uint64_t)w[0] << 32 | w[1];
}

static int
survey_block(struct pass *p, const struct block *b, struct df_err *err)
{
	struct df_corpus *c = p->c;
	int rc = DF_OK;

	DF_TRY(df_grow(&c->draw, &c->cap_draws, c->n_draws + b->n, sizeof(*c->draw), "draws", err));
	for (size_t i = 0; i < b->n; i++) {
		struct df_part *part = &c->part[b->part[i]];

		part->n_read++;
		if (b->drop[i] != DF_DROP_NONE) {
			part->dropped[b->drop[i]]++;
			continue;
		}
		part->n_kept++;
		if (!part->eval && (c->val_size > 0 || part->hold_out || part->hold_fraction > 0))
			c->draw[c->n_draws++] =
			    (struct df_draw){ draw_key(c, part->ds, b->rec[i].row), b->rec[i].row, b->part[i] };
	}
out:
	return rc;
}

static bool
is_held_out(const struct df_corpus *c, const struct df_part *part, uint64_t row)
{
	uint64_t key;

	if (part->eval)
		return true;
	if (part->n_held == 0)
		return false;
	key = draw_key(c, part->ds, row);
	return key < part->limit_key || (key == part->limit_key && row <= part->limit_row);
}

static int
emit_block(struct pass *p, const struct block *b, struct df_err *err)
{
	size_t at = 0;
	int rc = DF_OK;

	for (size_t i = 0; i < b->n && !p->enough; i++) {
		const struct df_encode_info *info = &b->info[i];
		struct df_part *part = &p->c->part[b->part[i]];
		struct df_encoded_row row = { .domain = part->domain };

		if (b->drop[i] != DF_DROP_NONE) {
			p->n_dropped[part->eval]++;
			continue;
		}
		row.ids = b->rows.ids.v + at;
		row.mask = b->rows.mask + at;
		row.n = info->n;
		row.source_row = b->rec[i].row;
		row.held_out = is_held_out(p->c, part, row.source_row);
		row.n_dropped = p->n_dropped[row.held_out];
		p->n_dropped[row.held_out] = 0;
		at += info->n;
		part->n_tokens += info->n;
		part->n_truncated += info->truncated;
		part->unlearnt[info->unlearnt]++;
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
	int rc = DF_OK;

	DF_TRY(df_alloc(&blocks, n_blocks, sizeof(struct block *), "blocks", err));
	for (size_t i = 0; i < n_blocks; i++)
		DF_TRY(df_alloc(&blocks[i], 1, sizeof(*blocks[i]), "blocks", err));
	DF_TRY(df_alloc(&p->ex, n_threads, sizeof(*p->ex), "examples", err));
	DF_TRY(df_alloc(&p->scratch, n_threads, sizeof(struct df_encscratch *), "encoder scratch", err));
	for (size_t i = 0; i < n_threads; i++)
		DF_TRY(df_encscratch_new(&p->scratch[i], p->e, err));
	for (size_t i = 0; i < p->c->n_parts; i++)
		df_dataset_rewind(p->c->part[i].ds);
	df_mixer_rewind(&p->c->mixer);
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

/* Hold out the first n of these draws, and also all copies of the last one. */
static void
hold(struct df_corpus *c, const struct df_draw *draw, uint64_t n_draws, uint64_t n, size_t first, size_t end)
{
	const struct df_draw last = draw[n - 1];

	while (n < n_draws && draw[n].key == last.key && draw[n].row == last.row)
		n++;
	for (uint64_t i = 0; i < n; i++)
		c->part[draw[i].part].n_held++;
	for (size_t i = first; i < end; i++) {
		c->part[i].limit_key = last.key;
		c->part[i].limit_row = last.row;
	}
}

static int
by_part(const void *a, const void *b)
{
	const struct df_draw *x = a, *y = b;

	return x->part != y->part ? (x->part < y->part ? -1 : 1) : by_key(a, b);
}

/* Hold out what was asked for each dataset, or val_size of all rows. */
static int
choose_held_out(struct df_corpus *c, struct df_err *err)
{
	const struct df_draw *draw = c->draw;
	uint64_t n = (uint64_t)c->val_size;

	if (c->val_size > 0) {
		if (c->val_size < 1)
			n = (uint64_t)ceil(c->val_size * (double)c->n_draws);
		if (n > c->n_draws)
			return df_fail(err, DF_EUSAGE, "val_size %llu, but only %llu rows can be used",
			    (unsigned long long)n, (unsigned long long)c->n_draws);
		if (n == 0)
			return 0;
		qsort(c->draw, c->n_draws, sizeof(*c->draw), by_key);
		hold(c, draw, c->n_draws, n, 0, c->n_train);
		return 0;
	}
	if (c->n_draws > 0)
		qsort(c->draw, c->n_draws, sizeof(*c->draw), by_part);
	for (size_t i = 0; i < c->n_train; i++) {
		const struct df_part *p = &c->part[i];

		n = p->hold_fraction > 0 ? (uint64_t)ceil(p->hold_fraction * (double)p->n_kept) : p->hold_out;
		if (n > p->n_kept)
			return df_fail(err, DF_EUSAGE,
			    "dataset '%s': %llu rows are to be held out, but only %llu can be used",
			    df_dataset_name(p->ds), (unsigned long long)n, (unsigned long long)p->n_kept);
		if (n == 0)
			continue;
		hold(c, draw, p->n_kept, n, i, i + 1);
		draw += p->n_kept;
	}
	return 0;
}

static int
check_options(const struct df_corpus *c, struct df_err *err)
{
	bool holds = c->val_size > 0;

	if (c->val_size < 0 || c->val_size > 1e15 || (c->val_size > 1 && c->val_size != floor(c->val_size)))
		return df_fail(err, DF_EUSAGE, "val_size %g: expected a number of rows, or a fraction between 0 and 1",
		    c->val_size);
	for (size_t i = 0; i < c->n_train; i++) {
		if (holds && (c->part[i].hold_out || c->part[i].hold_fraction > 0))
			return df_fail(
			    err, DF_EUSAGE, "val_size and held out rows of single datasets exclude each other");
	}
	if (holds && c->n_parts > c->n_train)
		return df_fail(err, DF_EUSAGE, "val_size and eval_dataset exclude each other");
	return 0;
}

int
df_corpus_survey(struct df_corpus *c, const struct df_encoder *e, struct df_err *err)
{
	struct pass p = { .c = c, .e = e };
	uint64_t n_kept = 0, n_held = 0;
	int rc = DF_OK;

	DF_TRY(check_options(c, err));
	DF_TRY(index_parts(c, err));
	DF_TRY(run_pass(&p, err));
	DF_TRY(choose_held_out(c, err));
	for (size_t i = 0; i < c->n_parts; i++) {
		struct df_part *part = &c->part[i];
		const char *name = df_dataset_name(part->ds);

		for (enum df_drop d = DF_DROP_NONE + 1; d < DF_DROP_COUNT; d++)
			if (part->dropped[d])
				df_warn("dataset '%s': %llu of %llu rows dropped: %s", name,
				    (unsigned long long)part->dropped[d], (unsigned long long)part->n_read,
				    df_drop_about(d));
		if (part->n_kept == 0)
			df_warn("dataset '%s': no usable row", name);
		if (part->eval)
			part->n_held = part->n_kept;
		else
			n_kept += part->n_kept;
		n_held += part->eval ? 0 : part->n_held;
	}
	if (n_kept == 0)
		rc = df_fail(err, DF_EFORMAT, "the datasets have no usable row");
	else if (n_held == n_kept)
		rc = df_fail(err, DF_EUSAGE, "all %llu rows are held out; none is left", (unsigned long long)n_kept);
	c->surveyed = rc == 0;
out:
	free(c->draw);
	c->draw = NULL;
	c->n_draws = c->cap_draws = 0;
	return rc;
}

int
df_corpus_encode(struct df_corpus *c, const struct df_encoder *e, df_row_fn *emit, void *ctx, struct df_err *err)
{
	struct pass p = { .c = c, .e = e, .emit = emit, .ctx = ctx };

	if (!c->surveyed)
		return df_fail(err, DF_EINTERNAL, "a corpus is surveyed before it is encoded");
	for (size_t i = 0; i < c->n_parts; i++) {
		struct df_part *part = &c->part[i];

		p.total += part->n_read;
		part->n_tokens = part->n_truncated = 0;
		memset(part->unlearnt, 0, sizeof(part->unlearnt));
	}
	return run_pass(&p, err);
}

/*
 * select.h - which samples to train on: one file per method, and what the methods share.
 *
 * A method is a const record.  It reads the artefacts it needs, and leaves a
 * score per row, or an index, or both, in a struct df_selection; ranking,
 * drawing, and what happens when more is asked for than there is are shared, so that
 * they mean the same everywhere.
 *
 * Rows are sample ids: a set with n rows has exactly the ids 0..n-1, in any
 * order of files.  A row whose score is NaN or infinite is *invalid*: it sorts
 * last and is taken only when invalid rows are allowed.  Ties go to the lower id.
 * Scores are ranked in float32 after accumulation in double.
 *
 * Thread rule: a selection belongs to one thread; methods use threads inside.
 */
#ifndef DF_SELECT_SELECT_H
#define DF_SELECT_SELECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"
#include "shard/shard.h"

/* ---- what is asked for ------------------------------------------------------ */

/* More is asked for than there are valid rows. */
enum df_shortage {
	DF_SHORT_DEFAULT, /* the method's own rule */
	DF_SHORT_CYCLE,   /* every valid row as often as the others, then the method's choice for the rest */
	DF_SHORT_ERROR,   /* stop */
	DF_SHORT_REPLACE, /* independent draws with replacement */
	DF_SHORT_TRUNCATE /* as many as there are */
};
#define DF_SHORTAGE_NAMES "default", "cycle", "error", "replace", "truncate"

enum df_less_agg { DF_AGG_MAX, DF_AGG_MEAN }; /* over subtasks; mean: over all validation rows */
enum df_less_val { DF_VAL_MEAN_OF_COSINE, DF_VAL_COSINE_OF_MEAN };
/* What `subtasks` may be besides a file; NULL-terminated. */
extern const char *const df_less_subtasks[];
#define DF_LESS_AGG_NAMES "max", "mean"
#define DF_LESS_VAL_NAMES "mean-of-cosine", "cosine-of-mean"

/* How many rows: a count, or a percentage of all rows (rounded down). */
struct df_amount {
	bool given;
	uint64_t n;
	double percent; /* > 0: use this instead of n */
};
/* "400" or "5%"; DF_EUSAGE. */
int df_amount_parse(const char *s, struct df_amount *a, struct df_err *err) DF_MUST_CHECK;
uint64_t df_amount_of(const struct df_amount *a, uint64_t n_rows); /* n_rows when not given */

struct df_select_opts {
	struct df_amount amount;
	enum df_shortage shortage;
	uint64_t seed;
	uint32_t step;    /* substream of the random numbers */
	bool replacement; /* random */
	bool torch_rng;   /* random: PyTorch's CPU stream instead of Philox */
	bool allow_invalid;
	const struct df_strlist *train; /* [checkpoints] lists of paths; each is one set */
	const struct df_strlist *val;   /* [checkpoints] */
	size_t n_train, n_val;
	const double *ckpt_weights; /* less: [n_train], or NULL = equal */
	size_t n_ckpt_weights;
	const char *subtasks; /* less: "domain", "none" or a file; NULL = domain */
	enum df_less_agg agg;
	enum df_less_val val_agg;
	const char *scores, *index, *program; /* custom; static: index */
	int threads;
};

/* ---- what comes out ----------------------------------------------------------- */

struct df_selection {
	uint64_t n_rows;  /* ids are below this */
	float *score;     /* [n_rows] by id, or NULL: the method does not score */
	uint16_t *domain; /* [n_rows] by id into meta.domains, or NULL: not known */
	uint64_t *index;  /* [n_index] ids in rank order */
	uint64_t n_index;
	uint64_t n_invalid;  /* rows that could not be scored */
	struct df_meta meta; /* params and inputs that shaped it; kind is the writer's to set */
};
#define DF_SELECTION_INIT                         \
	{                                         \
		.n_rows = 0, .meta = DF_META_INIT \
	}
void df_selection_release(struct df_selection *s);

/* ---- methods -------------------------------------------------------------------- */

struct df_selector {
	const char *name, *about;
	enum df_shortage shortage; /* what DF_SHORT_DEFAULT means */
	int (*run)(const struct df_selector *self, const struct df_select_opts *o, struct df_selection *out,
	    struct df_err *err);
};
extern const struct df_selector df_select_less, df_select_random, df_select_static, df_select_custom;
extern const struct df_selector *const df_selectors[];        /* NULL-terminated */
/* DF_EUSAGE suggests the nearest method. */
int df_selector_find(const struct df_selector **out, const char *name, struct df_err *err) DF_MUST_CHECK;

/* ---- shared: ranks and shortages ------------------------------------------------- */

/* order [n] = rows, best first, invalid ones last; *n_valid = how many are finite. */
int df_rank(const float *score, uint64_t n, uint64_t *order, uint64_t *n_valid, struct df_err *err) DF_MUST_CHECK;

/*
 * *index = n rows for a request of n from order [n_valid] (the method's ranking
 * or permutation): its first n, or, when n > n_valid, what `mode` says.
 * free() it.  DF_EUSAGE for DF_SHORT_ERROR, and whenever nothing is valid but something is asked for.
 */
int df_short_take(enum df_shortage mode, const uint64_t *order, uint64_t n_valid, uint64_t n, uint64_t seed,
    uint32_t step, uint64_t **index, uint64_t *n_index, struct df_err *err) DF_MUST_CHECK;

/* Rank out->score, count the invalid, and take the amount asked for: the end of every method that scores. */
int df_select_top(const struct df_selector *self, const struct df_select_opts *o, struct df_selection *out,
    struct df_err *err) DF_MUST_CHECK;

/* ---- shared: draws ----------------------------------------------------------------- */

/*
 * Weighted sampling without replacement, the exponential race (Efraimidis &
 * Spirakis 2006): t_i = -ln(u_i) / w_i, the m smallest win, in order.  weight NULL = all 1; a weight
 * of 0 never wins: *n_out is then less than m.  out has room for min(m, n).
 */
int df_sample_race(const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out,
    uint64_t *n_out, struct df_err *err) DF_MUST_CHECK;
/* m independent draws, probability proportional to weight (NULL = uniform).  DF_EUSAGE when no weight is positive. */
int df_sample_replace(const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out,
    struct df_err *err) DF_MUST_CHECK;
/* The first m of torch.randperm(n), and torch.randint(0, n, (m,)), from a CPU generator with `seed`; n < 2^28. */
int df_sample_torch_perm(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err) DF_MUST_CHECK;
int df_sample_torch_randint(uint64_t n, uint64_t m, uint64_t seed, uint64_t *out, struct df_err *err) DF_MUST_CHECK;

/* ---- shared: inputs ------------------------------------------------------------------ */

/*
 * For methods that only need to know the rows: opens the first --train set (any
 * kind with one row per sample), and fills n_rows, domains and the "tokens" input of
 * out.  DF_EUSAGE when there is none.
 */
int df_select_rows(const struct df_select_opts *o, struct df_selection *out, struct df_err *err) DF_MUST_CHECK;
/* out->domain[id[i]] = domain[i] for n rows of set `name`; a domain that out->meta does not name is DF_EFORMAT. */
int df_select_domains(struct df_selection *out, const uint64_t *id, const uint16_t *domain, uint64_t n,
    const char *name, struct df_err *err) DF_MUST_CHECK;
/* The tokens that a set's rows are: its own id, or its input of that role. NULL when it does not say. */
const char *df_select_tokens_id(const struct df_meta *m);
/*
 * An index: an artefact, or text with an id per line.  Every id must be below n_rows.
 * *n_repeated counts ids that occur again.  *index is yours to free().
 */
int df_select_read_index(const char *path, uint64_t n_rows, const char *tokens_id, uint64_t **index, uint64_t *n,
    uint64_t *n_repeated, struct df_meta *meta, struct df_err *err) DF_MUST_CHECK;
/* Scores [n_rows] by id: a scores or losses artefact, or text, "score" or "id<TAB>score" per line; every id once. */
int df_select_read_scores(const char *path, uint64_t n_rows, const char *tokens_id, float **score, struct df_meta *meta,
    struct df_err *err) DF_MUST_CHECK;
/* Walk a text file: fn gets each line without its end, numbered from 1; empty ones and comments (#) are skipped. */
typedef int df_line_fn(void *ctx, char *line, uint64_t number, struct df_err *err);
int df_select_lines(const char *path, df_line_fn *fn, void *ctx, struct df_err *err) DF_MUST_CHECK;

/* ---- LESS, as arithmetic (less.c reads the artefacts) ------------------------------------ */

/*
 * One checkpoint's targets: c[j] = mean over the validation rows v of subtask j of v / |v| [k] each, in double (with
 * DF_VAL_COSINE_OF_MEAN: the mean of v, divided by its norm).  Sums are kept in twice the precision
 * of a double, so that the order of rows does not matter.
 */
struct df_less {
	size_t k, n_tasks;
	enum df_less_val agg;
	double *hi, *lo;  /* [n_tasks, k]: after df_less_end, hi holds c */
	uint64_t *n_rows; /* [n_tasks] validation rows */
};
int df_less_init(struct df_less *l, size_t k, size_t n_tasks, enum df_less_val agg, struct df_err *err) DF_MUST_CHECK;
void df_less_release(struct df_less *l);
/* false when the row is not finite. */
bool df_less_val_row(struct df_less *l, const float *v, size_t task);
/* DF_EFORMAT when a subtask has no row. */
int df_less_end(struct df_less *l, struct df_err *err) DF_MUST_CHECK;
/*
 * For n rows z [n,k]: out [n,n_tasks] += weight * <z / |z|, c[j]>; NaN for a row that is not finite, += 0 for one of
 * norm <= 1e-12.  A row's bits do not depend on n.
 */
void df_less_train_rows(const struct df_less *l, const float *z, size_t n, double weight, double *out);

#endif

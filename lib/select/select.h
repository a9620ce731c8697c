/*
 * select.h - which samples to train on: one file per method, and what the methods share.
 *
 * A method is a const record (struct df_selector).  It says what it reads and which options it has; df_select_run()
 * opens and checks its inputs and calls it.  The method leaves a score per row, or an index, or both, in a struct
 * df_selection.  Ranks, draws, and what happens when more is asked for than there is are shared, so that they mean the
 * same everywhere.  A new method is a file NAME.c and a line in registry.c (CONTRIBUTING.md).
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

#include "backend/backend.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/mt19937.h"
#include "base/opt.h"
#include "shard/shard.h"

/* ---- what is asked for ------------------------------------------------------ */

/* More is asked for than there are valid rows. */
enum df_shortage {
	DF_SHORT_DEFAULT, /* the method's own rule */
	DF_SHORT_CYCLE,   /* every valid row as often as the others, then the method's choice for the rest */
	DF_SHORT_ERROR,   /* stop */
	DF_SHORT_REPLACE, /* independent draws with replacement */
	DF_SHORT_TRUNCATE, /* as many as there are */
	DF_SHORT_FILL     /* uniform draws from the valid rows that the method did not choose */
};
#define DF_SHORTAGE_NAMES "default", "cycle", "error", "replace", "truncate", "fill-random"

/* How many rows: a count, a percentage of all rows (rounded down), or as many as it takes to have n tokens. */
struct df_amount {
	bool given, tokens;
	uint64_t n;
	double percent;   /* > 0: use this instead of n */
	const char *text; /* as it was given; borrowed */
};
/* "400", "5%", "2000tok", "500ktok", "30Mtok" or "1.5Gtok"; DF_EUSAGE.  `a` borrows s. */
int df_amount_parse(const char *s, struct df_amount *a, struct df_err *err) DF_MUST_CHECK;
uint64_t df_amount_of(const struct df_amount *a, uint64_t n_rows); /* n_rows when not given; not of tokens */

#define DF_SELECT_INPUTS 4 /* at most, of a method */

/*
 * A request.  The caller fills in the first part; df_select_run() opens the sets for the time of the call, in the order
 * of the method's inputs.
 */
struct df_select {
	struct df_amount amount;
	enum df_shortage shortage; /* a method sees its own rule in the place of DF_SHORT_DEFAULT */
	uint64_t seed;
	uint32_t step; /* substream of the random numbers */
	bool allow_invalid;
	bool torch;    /* uniform draws are PyTorch's */
	bool dataflex; /* what DataFlex does differently from the paper, as DataFlex does it */
	bool foreign;  /* the method is not ours: what it does is checked */
	const char *exclude; /* borrowed path of an index whose rows must not be chosen, or NULL */
	const char *tokens;  /* borrowed path of the tokens, for an amount of tokens, or NULL: the train set has them */
	int n_threads;
	struct df_pool *pool;  /* borrowed; NULL = one thread */
	struct df_backend *be; /* borrowed, on that pool; NULL where no method that multiplies matrices is called */
	struct df_strlist paths[DF_SELECT_INPUTS]; /* by input: a path, directory or pattern for each set */
	struct df_strlist more; /* more files of the only train set */

	/* While a method runs. */
	const struct df_selector *method;
	uint8_t *excluded;  /* [n_rows] by id: may not be chosen; NULL: all may */
	uint64_t *n_tokens; /* [n_rows] by id: for an amount of tokens; else NULL */
	struct df_select_sets {
		struct df_set **v; /* [n], opened and checked */
		size_t n;
	} sets[DF_SELECT_INPUTS]; /* by input */
};
/* Frees the lists of paths. */
void df_select_release(struct df_select *in);

/* ---- what comes out ----------------------------------------------------------- */

#define DF_SELECT_GROUPS 4

struct df_selection {
	uint64_t n_rows;  /* ids are below this */
	float *score;     /* [n_rows] by id, or NULL: the method does not score */
	float *tie;       /* [n_rows] by id, or NULL: of equal scores, the larger of these first, then the lower id */
	double *probability; /* [n_rows] by id, of being drawn; or NULL: see df_selection_probabilities() */
	uint8_t *group;      /* [n_rows] by id: the rows of a group have one probability; or NULL */
	double group_probability[DF_SELECT_GROUPS];
	uint32_t *cluster;   /* [n_rows] by id, or NULL */
	uint16_t *domain; /* [n_rows] by id into meta.domains, or NULL: not known */
	uint64_t *index;  /* [n_index] ids in rank order */
	uint64_t n_index;
	uint64_t n_invalid;  /* rows that could not be scored */
	struct df_meta meta; /* params and inputs that shaped it; kind is the writer's to set */
	struct df_writer *also; /* a file of the method's own, to be committed with the index; or NULL */
};
#define DF_SELECTION_INIT                         \
	{                                         \
		.n_rows = 0, .meta = DF_META_INIT \
	}
void df_selection_release(struct df_selection *s);
/* s->probability of every row, where only groups have one. */
int df_selection_probabilities(struct df_selection *s, struct df_err *err) DF_MUST_CHECK;

/* ---- methods -------------------------------------------------------------------- */

/* Which rows an input has. */
enum df_select_join {
	DF_JOIN_ALL,  /* those of the train set: each id once */
	DF_JOIN_SOME, /* some of those, each at most once */
	DF_JOIN_OWN   /* rows of its own, each id from 0 once, and at least one: a target, queries */
};

/* How many sets an input has. */
enum df_select_many {
	DF_SETS_ONE,
	DF_SETS_CHECKPOINTS, /* one for each checkpoint: as many as there are train sets */
	DF_SETS_ANY
};

/* What a method reads: the option --ROLE=FILE, and the checks of what it names. */
struct df_select_input {
	const char *role; /* also of the input in the lineage: "val" */
	const char *name; /* for messages: "validation projections" */
	const char *help; /* of the option */
	enum df_kind kind; /* DF_KIND_ANY: whatever has a row per sample; it says which rows there are, and no more */
	enum df_select_join join;
	enum df_select_many sets;
	bool optional;
	/* The method reads these columns with df_select_scan(), and no others.  NULL: it reads none. */
	const enum df_col *columns;
	size_t n_columns;
	/*
	 * NULL-terminated lists, or NULL.  params: parameters in which its sets agree with the train set of the same
	 * checkpoint and with each other.  common: inputs that they share with that train set.  Without asking: a
	 * matrix that both have is as wide as the train set's; rows of the train set are rows of the same tokens.
	 */
	const char *const *params, *const *common;
};

struct df_selector {
	const char *name, *about; /* about: what it chooses, in a few words */
	/* For --list. */
	const char *model; /* "yes": the choice depends on the model, and is made again as the model learns; or "no" */
	const char *cost;  /* what has to be computed for each row before: "none", "gradients" */
	enum df_shortage shortage;             /* what DF_SHORT_DEFAULT means */
	bool torch, dataflex;                  /* it has uniform draws that can be PyTorch's; it has a DataFlex mode */
	bool fill;                             /* it chooses among some rows only: DF_SHORT_FILL draws others */
	const struct df_select_input *inputs;  /* [n_inputs]: the first is "train", the rows to choose from */
	size_t n_inputs;
	/*
	 * Its own options: a struct with the defaults, and the option table, whose values are DF_OPT_AT(struct,
	 * field).  NULL where there are none.
	 */
	const void *defaults;
	size_t defaults_size;
	const struct df_opt *options;
	/* May be NULL: can these options be followed?  Asked before anything is opened.  DF_EUSAGE. */
	int (*check)(const struct df_select *in, const void *options, struct df_err *err);
	/* out has n_rows, and the domains where the inputs say them; set score, index, and the parameters in meta. */
	int (*run)(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err);
};

extern const struct df_selector *const df_selectors[]; /* NULL-terminated */
/* DF_EUSAGE suggests the nearest method. */
int df_selector_find(const struct df_selector **out, const char *name, struct df_err *err) DF_MUST_CHECK;

/* The table of --list: all methods, and after them `foreign` (may be NULL). */
void df_selector_list(const struct df_selector *foreign, struct df_buf *out);
/* What -h says of a method (NULL: of all) above its options: how to call it, and a sentence about it. */
void df_selector_help(const struct df_selector *m, struct df_buf *synopsis, struct df_buf *about);

/* What the options that all methods share are parsed into. */
struct df_select_words {
	const char *amount;
	int shortage, rng, compat;
	int64_t seed, step;
};
#define DF_SELECT_WORDS_INIT { .seed = 42 }
/* Add the rows of these options to a table, and --train, with the method's help (NULL: any). */
int df_select_rows(const struct df_selector *m, struct df_select *in, struct df_select_words *w,
    struct df_opt_table *t, struct df_err *err) DF_MUST_CHECK;
/* The request that they make.  DF_EUSAGE. */
int df_select_ask(struct df_select *in, const struct df_select_words *w, struct df_err *err) DF_MUST_CHECK;

/* *options = a copy of the method's defaults; free them, and the lists in them, with df_selector_free(). */
int df_selector_defaults(const struct df_selector *m, void **options, struct df_err *err) DF_MUST_CHECK;
void df_selector_free(const struct df_selector *m, void *options); /* accepts NULL for both */
/*
 * Add the rows of the method's own options to a table: of its inputs but the first, which fill in->paths, and of
 * `options`.  The method has both in its section of df-score(1).
 */
int df_selector_rows(const struct df_selector *m, struct df_select *in, void *options, struct df_opt_table *t,
    struct df_err *err) DF_MUST_CHECK;

/*
 * An option "W,W...": weight [n] of n things, which `of` names in messages; all 1 for NULL.  DF_EUSAGE for a list of
 * another length, and for a number below 0 unless these have a meaning.
 */
int df_select_weights(const char *text, size_t n, const char *of, bool negative, double *weight, struct df_err *err)
    DF_MUST_CHECK;

/* And the names of the options of all methods but this one (NULL: of all), so that an error can say whose they are. */
int df_selector_rows_elsewhere(const struct df_selector *m, struct df_opt_table *t, struct df_err *err) DF_MUST_CHECK;

/*
 * Choose.  The sets are opened, checked against each other and closed again.  `out` (DF_SELECTION_INIT; its meta may
 * name the tool) gets the choice, and in its meta all that shaped it.  `options`: as df_selector_defaults() made them.
 * Errors: DF_EUSAGE, DF_ELINEAGE for inputs that do not belong together, those of reading.
 */
int df_select_run(const struct df_selector *m, struct df_select *in, const void *options, struct df_selection *out,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Is what a method left in `s` a choice from n_rows rows that `in` asks for?  Ids in range and not excluded, as many as
 * asked for, arrays (of malloc) long enough, numbers finite where they must be.  DF_EFORMAT says what is wrong.
 */
int df_selection_check(const struct df_select *in, uint64_t n_rows, const struct df_selection *s, struct df_err *err)
    DF_MUST_CHECK;

/* Say in the log what was chosen, and how much of each domain. */
int df_selection_report(const struct df_selection *s, struct df_err *err) DF_MUST_CHECK;
/* Write the index, and every row's score and rank; NULL: not wanted.  No file appears before both are written. */
int df_selection_write(struct df_selection *s, const char *index, const char *scores, struct df_err *err) DF_MUST_CHECK;

/* ---- shared: ranks and shortages ------------------------------------------------- */

/* order [n] = rows, best first, invalid ones last; *n_valid = how many are finite.  DF_ERANGE from 2^32 rows on. */
int df_rank(const float *score, uint64_t n, uint64_t *order, uint64_t *n_valid, struct df_err *err) DF_MUST_CHECK;
/* The same in half the memory: order and scratch [n]. */
int df_rank32(const float *score, uint64_t n, uint32_t *order, uint32_t *scratch, uint64_t *n_valid, struct df_err *err)
    DF_MUST_CHECK;

/*
 * *index = n rows for a request of n from order [n_valid] (the method's ranking
 * or permutation): its first n, or, when n > n_valid, what `mode` says.
 * free() it.  DF_EUSAGE for DF_SHORT_ERROR, and whenever nothing is valid but something is asked for.
 */
int df_short_take(enum df_shortage mode, const uint64_t *order, uint64_t n_valid, uint64_t n, uint64_t seed,
    uint32_t step, uint64_t **index, uint64_t *n_index, struct df_err *err) DF_MUST_CHECK;

/* order [n_rows] = the rows by out->score, and where these are equal by out->tie; as df_rank(). */
int df_selection_rank(const struct df_selection *out, uint64_t *order, uint64_t *n_valid, struct df_err *err)
    DF_MUST_CHECK;
/* Rank out->score, count the invalid, and take the amount asked for: the end of every method that scores. */
int df_select_top(const struct df_select *in, struct df_selection *out, struct df_err *err) DF_MUST_CHECK;
/* Take the amount asked for, by default all, from order [n_order], which the method chose itself.  Excluded rows are
 * left out, here and in the others. */
int df_select_take(const struct df_select *in, const uint64_t *order, uint64_t n_order, struct df_selection *out,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Draw the amount asked for without replacement, each row in proportion to its weight [n_rows] (f64, finite, >= 0;
 * 0 is never drawn), and record the probabilities, the seed and the step.  More than have a weight: as the shortage
 * says; DF_SHORT_REPLACE draws all of them with replacement by the same weights.  Where invalid rows are allowed, those
 * of out->score come last.
 */
int df_select_draw(const struct df_select *in, const double *weight, struct df_selection *out, struct df_err *err)
    DF_MUST_CHECK;
/* The same, always with replacement; the amount is of rows. */
int df_select_draw_replace(const struct df_select *in, const double *weight, struct df_selection *out,
    struct df_err *err) DF_MUST_CHECK;
/*
 * The same with few weights, in an eighth of the memory: weight[g] of the rows of out->group g, where 0 is for rows
 * that are never drawn.  `replacement`: always with replacement; the amount is of rows.
 */
int df_select_draw_groups(const struct df_select *in, const double weight[DF_SELECT_GROUPS], bool replacement,
    struct df_selection *out, struct df_err *err) DF_MUST_CHECK;
/* order [n_rows] = a uniform permutation of all rows for (seed, step), or PyTorch's for seed + step: in->torch. */
int df_select_permute(const struct df_select *in, uint64_t n_rows, uint64_t *order, struct df_err *err) DF_MUST_CHECK;
/*
 * For DF_SHORT_FILL: the rows whose valid [n_rows] is not 0 and that are not in order [*n_order] yet, after it, in a
 * random order for (seed, step).  order has room for n_rows.
 */
int df_select_fill(const struct df_select *in, const uint8_t *valid, uint64_t n_rows, uint64_t *order,
    uint64_t *n_order, struct df_err *err) DF_MUST_CHECK;
/* May id be chosen? */
static inline bool
df_select_may(const struct df_select *in, uint64_t id)
{
	return !in->excluded || !in->excluded[id];
}

/* ---- shared: draws ----------------------------------------------------------------- */

/*
 * Weighted sampling without replacement, the exponential race (Efraimidis &
 * Spirakis 2006): t_i = -ln(u_i) / w_i, the m smallest win, in order.  weight NULL = all 1; a weight
 * of 0 never wins: *n_out is then less than m.  out has room for min(m, n).
 */
int df_sample_race(const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out,
    uint64_t *n_out, struct df_err *err) DF_MUST_CHECK;
/*
 * The same on the threads of a pool (NULL: on one), with the same result.  weight [n], or NULL: all 1; with group [n]:
 * row i has weight[group[i]].
 */
struct df_weights {
	const double *weight;
	const uint8_t *group;
};
int df_sample_race_by(struct df_pool *pool, const struct df_weights *w, uint64_t n, uint64_t m, uint64_t seed,
    uint32_t substream, uint64_t *out, uint64_t *n_out, struct df_err *err) DF_MUST_CHECK;
/* m independent draws, probability proportional to weight (NULL = uniform).  DF_EUSAGE when no weight is positive. */
int df_sample_replace(const double *weight, uint64_t n, uint64_t m, uint64_t seed, uint32_t substream, uint64_t *out,
    struct df_err *err) DF_MUST_CHECK;

/* ---- shared: inputs ------------------------------------------------------------------ */

/*
 * Every row of a set once, on all threads: `work` and `take` as in shard/scan.h, and every id is checked, as the
 * input's `join` says, before `take` sees it.  The first train set fills in the domains of `out` on the way.  A set may
 * be scanned again.
 */
struct df_select_scan {
	const struct df_select *in;
	size_t input, set; /* in->sets[input].v[set] */
	struct df_selection *out;
	int (*work)(void *ctx, struct df_batch *b, void **result, int worker, struct df_err *err);
	int (*take)(void *ctx, const struct df_batch *b, const void *result, struct df_err *err);
	void *ctx;
};
int df_select_scan(const struct df_select_scan *sc, struct df_err *err) DF_MUST_CHECK;
/* Read the columns of an input only; but all where the set's id is still to be made of its rows. */
void df_select_columns(const struct df_select_input *input, struct df_set *set);
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

#endif

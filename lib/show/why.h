/*
 * why.h - what is known about the choice of one sample (private to this room).
 */
#ifndef DF_SHOW_WHY_H
#define DF_SHOW_WHY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "show/kin.h"
#include "show/show.h"

#define DF_WHY_BEST 5 /* rows of a list that are shown */

/* Another sample that has to do with this one. */
struct df_why_row {
	uint64_t id;
	double value;  /* influence, distance or cosine */
	uint64_t rank; /* of a query's neighbours, from 0; unused otherwise */
	char *text;    /* a line of it; NULL: not known */
};
struct df_why_rows {
	struct df_why_row v[DF_WHY_BEST]; /* the best, best first */
	size_t n;
	uint64_t n_all; /* how many there are */
};

struct df_why_task {
	char *name;
	double value;
	uint64_t n; /* validation rows */
};

struct df_why {
	const char *index_path;
	const struct df_meta *index; /* of the index */
	struct df_kin *kin;          /* the files that there are */
	char *method;                /* NULL: not recorded */
	uint64_t id;

	uint64_t n_rows;  /* of the tokens; 0: not known */
	uint64_t n_index; /* rows of the index */
	uint64_t place;   /* of the sample in the index, from 0 */
	uint64_t n_times; /* how often it is there; 0: not chosen */
	bool excluded;

	bool has_score, has_last;
	float score;         /* of the sample */
	float last;          /* the lowest of the index */
	const char *scores;  /* the file of the following, or NULL */
	bool has_rank, has_probability, has_cluster;
	uint64_t rank, n_ranked;
	double probability;
	uint32_t cluster;
	uint64_t cluster_rows; /* samples of it */

	struct df_buf text; /* a line of the sample; empty: not known */
	char *domain;
	uint64_t source_row;
	bool has_row;

	struct df_why_task *task; /* LESS: influence of each subtask */
	size_t n_tasks;
	struct df_why_rows val;        /* LESS: the validation rows with the largest influence */
	struct df_why_rows queries;    /* the target's rows that have it among their neighbours */
	struct df_why_rows earlier;    /* near-duplicates that were preferred to it */
	struct df_why_rows later;      /* near-duplicates that it was preferred to */
	bool pairs_decide;             /* they are of the method that made the index */

	struct df_buf more; /* lines: which file would tell more */
};

/* Put a row into its place among the best; `larger`: of two values the larger one is better. */
void df_why_rank(struct df_why_rows *rows, uint64_t id, double value, uint64_t rank, bool larger);
/* A line of "more": printf. */
void df_why_more(struct df_why *w, const char *fmt, ...) DF_PRINTF(2, 3);
/* The texts of these rows, from the tokens with this id, if they are there. */
int df_why_texts(struct df_why *w, struct df_why_rows *rows, const char *tokens_id, const char *tokenizer,
    const char *template, struct df_err *err) DF_MUST_CHECK;

/* LESS: task and val, from the projections. */
int df_why_less(struct df_why *w, const char *tokenizer, const char *template, struct df_err *err) DF_MUST_CHECK;

int df_why_print(const struct df_why *w, bool json, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;

#endif

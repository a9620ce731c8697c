/*
 * plan.h - one YAML of LLaMA-Factory or DataFlex as a graph of commands, and printers that write it down.
 *
 * A node is a command with the files that it reads and writes.  Nothing here runs anything: make and Slurm do, and they
 * stop, resume and repeat.  A printer is a const record; `make` is the default.
 */
#ifndef DF_PLAN_PLAN_H
#define DF_PLAN_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/opt.h"
#include "config/component.h"
#include "config/config.h"
#include "config/events.h"

/* What a node costs, about; 0: not known. */
struct df_plan_cost {
	double steps, rows, tokens, flops;
	double memory; /* bytes, at its most */
	double disk;   /* bytes that it leaves */
	bool guessed;  /* tokens, and what follows from them, were not counted */
};

struct df_plan_node {
	const char *name;      /* unique, [a-z0-9-]: "train-10", "pool-grad-10" */
	const char *about;     /* a comment: "gradients of the pool at step 10" */
	struct df_strlist argv; /* the command's words, not quoted.  The word DF_PLAN_SHARD, alone, stands for I/N */
	struct df_strlist in, out; /* files; of a directory that appears whole, one file in it */
	bool capture;          /* its standard output is out.v[0] */
	bool whole;            /* the directories of its outputs appear whole: the command makes them */
	size_t shards;         /* 0: one command; else so many, and out has a file for each */
	uint64_t key;          /* digest of its words and of the settings that it reads: another key, another result */
	struct df_plan_cost cost;
};
#define DF_PLAN_SHARD "{shard}"
/*
 * A command whose name begins so is a part of a training run: it goes on with what is there, so that it cannot follow
 * another key (make.c).
 */
#define DF_PLAN_RUN "train"
bool df_plan_goes_on(const struct df_plan_node *n);

/* A file of the plan. */
struct df_plan_file {
	const char *path;
	size_t maker; /* the node that makes it; DF_PLAN_NOBODY: it is there before */
	bool read;    /* by some node */
};
#define DF_PLAN_NOBODY SIZE_MAX

struct df_plan {
	struct df_plan_node *node; /* a node comes after those whose files it reads */
	size_t n, cap;
	const char *out;           /* the directory that everything goes to: output_dir */
	const char *source;        /* the YAML's path */
	struct df_strlist notes;   /* what was mapped or has no effect: printed as comments */
	struct df_events events;
	double rate;               /* operations per second of the machine, for times; 0: not measured */
	void *files, *names; /* (private) found by path, by name: df_plan_file(), df_plan_find() */
	/* (private) the strings above */
	char **text;
	size_t n_text, cap_text;
	bool failed;               /* memory was short: the next df_plan_add() says so */
};
#define DF_PLAN_INIT { 0 }

/*
 * Building a plan.  A node is filled where the caller has it, `struct df_plan_node n = { 0 }`, and moved into the plan.
 * Strings are copied, and live as long as the plan.  What fails for want of memory makes the next df_plan_add() fail,
 * and is no error before.
 */
const char *df_plan_text(struct df_plan *p, const char *fmt, ...) DF_PRINTF(2, 3); /* never NULL */
void df_plan_word(struct df_plan *p, struct df_plan_node *n, const char *fmt, ...) DF_PRINTF(3, 4);
void df_plan_words(struct df_plan *p, struct df_plan_node *n, ...) __attribute__((sentinel)); /* strings, then NULL */
void df_plan_in(struct df_plan *p, struct df_plan_node *n, const char *path);
void df_plan_out(struct df_plan *p, struct df_plan_node *n, const char *path);
/* The parts of the output dir/x.h5: dir/x.00001-of-00004.h5 and so on.  Set n->shards first. */
void df_plan_out_shards(struct df_plan *p, struct df_plan_node *n, const char *path);
/* The node of this name, or NULL; the next df_plan_add() may move it. */
const struct df_plan_node *df_plan_find(const struct df_plan *p, const char *name);
/* The file that nodes read or make, at the time of df_plan_add(); NULL: none does. */
const struct df_plan_file *df_plan_file(const struct df_plan *p, const char *path);
/* n reads all files that node `name` makes. */
void df_plan_after(struct df_plan *p, struct df_plan_node *n, const char *name);
void df_plan_note(struct df_plan *p, const char *fmt, ...) DF_PRINTF(2, 3);
/*
 * The node is complete and becomes the plan's last; *n is empty again.  settings: what the command reads beyond its
 * words, for the key; NULL: nothing.  DF_EINTERNAL: a name or a file that another node has.
 */
int df_plan_add(struct df_plan *p, struct df_plan_node *n, const char *settings, struct df_err *err) DF_MUST_CHECK;

/* A command takes this times its operations divided by the rate of large products. */
#define DF_PLAN_SLOWER 1.5

struct df_plan_opts {
	const char *data;             /* NULL: dataset_dir */
	const char *components;       /* NULL: components_cfg_file */
	const struct df_strlist *models; /* NAME=DIR: the directory in the place of a hub's name */
	const char *tokenizer;        /* NULL: the model's own */
	uint64_t shards;              /* of measurements */
	uint64_t rows;                /* of the training tokens; 0: find out */
	bool price;                   /* fill in what each command costs */
};

/* path: the YAML; words: overrides.  Every error is found here, before anything runs. */
int df_plan_make(struct df_plan *out, const struct df_plan_opts *o, const char *path, const char *const *words,
    size_t n_words, struct df_err *err) DF_MUST_CHECK;
void df_plan_release(struct df_plan *p);

struct df_printer {
	const char *name, *about;
	int (*print)(const struct df_plan *p, struct df_buf *out, struct df_err *err);
};
extern const struct df_printer *const df_printers[]; /* make, slurm, dry-run, dot; NULL-terminated */

#endif

/*
 * tokenizer - encode many texts with a tokenizer, for comparing and for timing.
 *
 *	tokenizer TOKENIZER TEXTS IDS       write the ids of every text
 *	tokenizer TOKENIZER TEXTS [-N]      encode all texts N times (3), print the best rate by CPU time
 *	tokenizer save TOKENIZER DIR        what a checkpoint gets
 *	tokenizer decode TOKENIZER IDS TEXTS
 *
 * TEXTS holds a u32 length before each text, IDS a u32 count before each list
 * of u32 ids.  A word before TOKENIZER: `split` treats special tokens as plain
 * text; `framed=N` adds what stands around a text, in at most N ids (0: no limit);
 * `skip` (decode) leaves special tokens out.
 * tests/golden/tokenizer.py writes the one and reads the other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "token/tokenizer.h"

struct job {
	struct df_tokenizer *t;
	struct df_tokscratch *s;
	struct df_ids ids;
	bool split, skip;
	long framed; /* -1: no */
	const char *texts;
	size_t n;
};

/* Every text once; ids go to `out` unless it is NULL. */
static int
encode_all(struct job *j, FILE *out, size_t *n_ids, struct df_err *err)
{
	uint32_t len, count;
	int rc = DF_OK;

	*n_ids = 0;
	for (size_t at = 0; at + 4 <= j->n; at += len) {
		memcpy(&len, j->texts + at, 4);
		at += 4;
		if (len > j->n - at)
			return df_fail(err, DF_EFORMAT, "truncated at byte %zu", at);
		j->ids.n = 0;
		if (j->framed >= 0)
			DF_TRY(df_tokenizer_encode_framed(
			    j->t, j->s, j->texts + at, len, (size_t)j->framed, &j->ids, NULL, err));
		else
			DF_TRY(df_tokenizer_encode(j->t, j->s, j->texts + at, len, j->split, &j->ids, err));
		*n_ids += j->ids.n;
		count = (uint32_t)j->ids.n;
		if (out != NULL && (fwrite(&count, 4, 1, out) != 1 || fwrite(j->ids.v, 4, count, out) != count))
			return df_fail(err, DF_EIO, "writing ids:");
	}
out:
	return rc;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int
run(struct job *j, int argc, char **argv, struct df_err *err)
{
	double best = 1e30, opened = now(), start;
	int rc, times = argc > 3 ? atoi(argv[3] + 1) : 3;
	char *texts = NULL;
	FILE *out = NULL;
	size_t n_ids = 0;

	DF_TRY(df_tokenizer_open(&j->t, argv[1], err));
	DF_TRY(df_tokscratch_new(&j->s, j->t, err));
	opened = now() - opened;
	DF_TRY(df_file_get(argv[2], (size_t)1 << 32, &texts, &j->n, err));
	j->texts = texts;
	if (argc > 3 && argv[3][0] != '-') {
		out = fopen(argv[3], "wb");
		if (out == NULL) {
			rc = df_fail(err, DF_ECREATE, "%s:", argv[3]);
			goto out;
		}
		DF_TRY(encode_all(j, out, &n_ids, err));
		goto out;
	}
	for (int i = 0; i < times; i++) {
		start = now();
		DF_TRY(encode_all(j, NULL, &n_ids, err));
		if (now() - start < best)
			best = now() - start;
	}
	printf("%.1f MB/s, %.2f M tokens/s, 1 thread, %zu bytes, %zu tokens; opened in %.0f ms\n",
	    1e-6 * (double)j->n / best, 1e-6 * (double)n_ids / best, j->n, n_ids, 1e3 * opened);
out:
	if (out != NULL && fclose(out) != 0)
		rc = df_fail(err, DF_EIO, "%s:", argv[3]);
	free(texts);
	return rc;
}

/* The text of every list of ids; pushed one by one, checking what is said to be settled. */
static int
decode(struct job *j, const char *name, const char *from, const char *to, struct df_err *err)
{
	struct df_buf settled = DF_BUF_INIT;
	struct df_detok *d = NULL;
	char *lists = NULL;
	const char *text;
	FILE *out = NULL;
	size_t n, len, done;
	uint32_t count, id;
	int rc;

	DF_TRY(df_tokenizer_open(&j->t, name, err));
	DF_TRY(df_detok_new(&d, j->t, j->skip, err));
	DF_TRY(df_file_get(from, (size_t)1 << 32, &lists, &n, err));
	out = fopen(to, "wb");
	if (out == NULL) {
		rc = df_fail(err, DF_ECREATE, "%s:", to);
		goto out;
	}
	for (size_t at = 0; at + 4 <= n; at += 4 * (size_t)count) {
		memcpy(&count, lists + at, 4);
		at += 4;
		df_detok_reset(d);
		df_buf_clear(&settled);
		for (size_t i = 0; i < count; i++) {
			memcpy(&id, lists + at + 4 * i, 4);
			DF_TRY(df_detok_push(d, id, err));
			text = df_detok_text(d, &len, &done);
			if (done < settled.len || (settled.len > 0 && memcmp(text, settled.data, settled.len) != 0)) {
				rc = df_fail(err, DF_ERANGE, "settled text changed at id %zu", i);
				goto out;
			}
			df_buf_add(&settled, text + settled.len, done - settled.len);
		}
		DF_TRY(df_detok_end(d, err));
		text = df_detok_text(d, &len, NULL);
		count = (uint32_t)len;
		if (fwrite(&count, 4, 1, out) != 1 || fwrite(text, 1, len, out) != len) {
			rc = df_fail(err, DF_EIO, "%s:", to);
			goto out;
		}
		memcpy(&count, lists + at - 4, 4);
	}
out:
	if (out != NULL && fclose(out) != 0)
		rc = df_fail(err, DF_EIO, "%s:", to);
	df_detok_free(d);
	df_buf_release(&settled);
	free(lists);
	return rc;
}

static int
save(const char *name, const char *dir, struct df_err *err)
{
	struct df_tokenizer *t = NULL;
	int rc;

	DF_TRY(df_tokenizer_open(&t, name, err));
	DF_TRY(df_tokenizer_save(t, dir, err));
out:
	df_tokenizer_free(t);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err err = DF_ERR_INIT;
	struct job j = { .framed = -1 };
	int rc, words = 1;

	for (; argc > words; words++) {
		if (strcmp(argv[words], "split") == 0)
			j.split = true;
		else if (strcmp(argv[words], "skip") == 0)
			j.skip = true;
		else if (strncmp(argv[words], "framed=", 7) == 0)
			j.framed = atol(argv[words] + 7);
		else
			break;
	}
	argc -= words - 1;
	argv += words - 1;
	if (argc < 3 || argc > 5) {
		fprintf(stderr,
		    "usage: tokenizer [split | framed=N] TOKENIZER TEXTS [IDS | -N]\n"
		    "       tokenizer save TOKENIZER DIR\n       tokenizer [skip] decode TOKENIZER IDS TEXTS\n");
		return 64;
	}
	if (argc == 4 && strcmp(argv[1], "save") == 0)
		rc = save(argv[2], argv[3], &err);
	else if (argc == 5 && strcmp(argv[1], "decode") == 0)
		rc = decode(&j, argv[2], argv[3], argv[4], &err);
	else
		rc = run(&j, argc, argv, &err);
	if (rc != DF_OK)
		fprintf(stderr, "tokenizer: %s\n", err.msg);
	df_ids_release(&j.ids);
	df_tokscratch_free(j.s);
	df_tokenizer_free(j.t);
	return df_err_exit_status(rc);
}

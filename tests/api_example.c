/*
 * api_example.c - the library in a page, linked with libdf.a and nothing of ours else.
 *
 *   api_example FILE
 *
 * Writes an artefact of a hundred losses, reads it back, and prints their mean.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/rng.h"
#include "shard/shard.h"

static int
write_losses(const char *path, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_LOSS, DF_COL_N_TOKENS };
	const size_t widths[DF_COL_COUNT] = { 0 };
	uint64_t id[100];
	uint16_t domain[100] = { 0 };
	float loss[100];
	uint32_t n_tokens[100];
	struct df_batch b = { .n = 100 };
	struct df_meta meta = { .kind = DF_KIND_LOSSES };
	struct df_writer *w = NULL;
	char name[DF_DIGEST_HEX];
	int rc;

	for (uint64_t i = 0; i < 100; i++) {
		id[i] = i;
		loss[i] = (float)df_rng_uniform(42, DF_RNG_DEMO, 0, i);
		n_tokens[i] = 7;
	}
	b.col[DF_COL_ID].data = id;
	b.col[DF_COL_DOMAIN].data = domain;
	b.col[DF_COL_LOSS].data = loss;
	b.col[DF_COL_N_TOKENS].data = n_tokens;
	DF_TRY(df_strdup(&meta.tool, "api_example", err));
	DF_TRY(df_meta_add_domain(&meta, "made_up", &domain[0], err));
	DF_TRY(df_writer_open(&w, path, &meta, cols, 4, widths, NULL, err));
	DF_TRY(df_writer_put(w, &b, err));
	DF_TRY(df_writer_commit(w, name, err));
	printf("wrote %s\n", name);
out:
	df_writer_close(w); /* what was not committed disappears */
	df_meta_release(&meta);
	return rc;
}

static int
read_losses(const char *path, struct df_err *err)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *set = NULL;
	uint64_t n = 0, rows = 0;
	double sum = 0;
	int rc;

	DF_TRY(df_set_open1(&set, DF_KIND_LOSSES, "losses", path, err));
	do {
		DF_TRY(df_set_next(set, 30, &b, &n, err));
		for (uint64_t i = 0; i < n; i++)
			sum += ((const float *)b.col[DF_COL_LOSS].data)[i];
		rows += n;
	} while (n > 0);
	printf("read %s: %" PRIu64 " rows, mean loss %.6f\n", df_set_meta(set)->id, rows, sum / (double)rows);
out:
	df_batch_release(&b);
	df_set_close(set);
	return rc;
}

int
main(int argc, char **argv)
{
	struct df_err err = DF_ERR_INIT;
	const char *path = argc > 1 ? argv[1] : "losses.h5";
	int rc = write_losses(path, &err);

	if (rc == DF_OK)
		rc = read_losses(path, &err);
	if (rc != DF_OK)
		fprintf(stderr, "api_example: %s\n", err.msg);
	return df_err_exit_status(rc);
}

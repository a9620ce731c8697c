/*
 * decode.c - one sample of a token shard, readable: runs of prompt and target
 * as text, then the ids with targets marked.
 */
#include "show/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LINE 96 /* columns of the list of ids */

/* *row = the row of the set whose sample id is `id`. */
static int
find_row(struct df_set *s, uint64_t id, struct df_batch *b, uint64_t *row, struct df_err *err)
{
	uint64_t rows = df_set_rows(s), step = 256;
	int rc = DF_OK;

	/* Mostly row i is sample i, and near to it otherwise: look there first. */
	for (uint64_t pass = 0; pass < 2; pass++) {
		uint64_t at = pass == 0 ? id : 0, end = pass == 0 ? (id < rows ? id + 1 : id) : rows;

		for (; at < end && at < rows; at += step) {
			uint64_t n = end - at < step ? end - at : step;

			DF_TRY(df_set_read(s, at, n, b, err));
			for (uint64_t i = 0; i < n; i++) {
				if (((const uint64_t *)b->col[DF_COL_ID].data)[i] == id) {
					*row = at + i;
					return DF_OK;
				}
			}
		}
	}
	rc = df_fail(err, DF_EUSAGE, "%s: no sample %" PRIu64 " in its %" PRIu64 " rows", df_set_name(s), id, rows);
out:
	return rc;
}

static int
open_tokenizer(struct df_tokenizer **out, const struct df_set *s, const char *path, struct df_err *err)
{
	struct df_tokenizer *t = NULL;
	char *recorded = NULL;
	int rc;

	df_meta_get_str(df_set_meta(s), "tokenizer", &recorded);
	if (path == NULL) {
		if (recorded == NULL || strcmp(recorded, "bytes") != 0) {
			rc = df_fail(err, DF_EUSAGE, "%s: --tokenizer says with what to decode it", df_set_name(s));
			goto out;
		}
		path = recorded;
	}
	DF_TRY(df_tokenizer_open(&t, path, err));
	*out = t;
out:
	free(recorded);
	return rc;
}

static void
print_ids(const uint32_t *ids, const uint8_t *mask, uint64_t n, struct df_buf *out)
{
	size_t column = 0;

	for (uint64_t i = 0; i < n; i++) {
		char word[24];
		int len = snprintf(word, sizeof(word), "%s%" PRIu32, mask[i] ? "*" : "", ids[i]);

		if (column > 0 && column + 1 + (size_t)len > LINE) {
			df_buf_putc(out, '\n');
			column = 0;
		}
		df_buf_printf(out, "%s%s", column ? " " : "  ", word);
		column += (size_t)len + (column ? 1 : 2);
	}
	df_buf_putc(out, '\n');
}

static int
print_text(const struct df_tokenizer *t, const uint32_t *ids, const uint8_t *mask, uint64_t n, struct df_buf *out,
    struct df_err *err)
{
	int rc = DF_OK;

	for (uint64_t i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && !mask[end] == !mask[i]; end++)
			;
		df_buf_printf(out, "--- %s, %" PRIu64 " token%s\n", mask[i] ? "target" : "prompt", end - i,
		    end - i == 1 ? "" : "s");
		DF_TRY(df_tokenizer_decode(t, ids + i, (size_t)(end - i), out, err));
		if (out->len > 0 && out->data[out->len - 1] != '\n')
			df_buf_putc(out, '\n');
	}
out:
	return rc;
}

static int
print_json(const struct df_tokenizer *t, const struct df_set *s, uint64_t id, uint64_t row, const char *domain,
    const uint32_t *ids, const uint8_t *mask, uint64_t n, struct df_buf *out, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	int rc;

	DF_TRY(df_tokenizer_decode(t, ids, (size_t)n, &text, err));
	df_buf_puts(out, "{\"file\": ");
	df_buf_json_str(out, df_set_name(s));
	df_buf_printf(out, ", \"id\": %" PRIu64 ", \"row\": %" PRIu64, id, row);
	if (domain) {
		df_buf_puts(out, ", \"domain\": ");
		df_buf_json_str(out, domain);
	}
	df_buf_puts(out, ", \"text\": ");
	df_buf_json_strn(out, text.data ? text.data : "", text.len);
	df_buf_puts(out, ", \"ids\": [");
	for (uint64_t i = 0; i < n; i++)
		df_buf_printf(out, "%s%" PRIu32, i ? ", " : "", ids[i]);
	df_buf_puts(out, "], \"label_mask\": [");
	for (uint64_t i = 0; i < n; i++)
		df_buf_printf(out, "%s%d", i ? ", " : "", mask[i] != 0);
	df_buf_puts(out, "]}\n");
out:
	df_buf_release(&text);
	return rc;
}

int
df_decode(struct df_set *tokens, uint64_t id, const char *tokenizer, bool json, struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(tokens);
	struct df_batch b = DF_BATCH_INIT;
	struct df_tokenizer *t = NULL;
	const char *domain = NULL;
	uint64_t row, n, n_targets = 0;
	const uint32_t *ids;
	const uint8_t *mask;
	int rc;

	DF_TRY(open_tokenizer(&t, tokens, tokenizer, err));
	DF_TRY(find_row(tokens, id, &b, &row, err));
	DF_TRY(df_set_read(tokens, row, 1, &b, err));
	ids = b.col[DF_COL_IDS].data;
	mask = b.col[DF_COL_LABEL_MASK].data;
	n = b.col[DF_COL_IDS].offsets[1];
	for (uint64_t i = 0; i < n; i++) {
		n_targets += mask[i] != 0;
		if (ids[i] >= df_tokenizer_vocab_size(t)) {
			rc = df_fail(err, DF_ELINEAGE,
			    "%s: sample %" PRIu64 " has token %" PRIu32 ", which tokenizer %s does not",
			    df_set_name(tokens), id, ids[i], df_tokenizer_path(t));
			goto out;
		}
	}
	if (df_set_has(tokens, DF_COL_DOMAIN) && *(const uint16_t *)b.col[DF_COL_DOMAIN].data < m->n_domains)
		domain = m->domains[*(const uint16_t *)b.col[DF_COL_DOMAIN].data];
	if (json) {
		DF_TRY(print_json(t, tokens, id, row, domain, ids, mask, n, out, err));
	} else {
		df_buf_printf(out, "%s: sample %" PRIu64, df_set_name(tokens), id);
		if (domain)
			df_buf_printf(out, ", %s", domain);
		if (df_set_has(tokens, DF_COL_SOURCE_ROW))
			df_buf_printf(out, " row %" PRIu64, *(const uint64_t *)b.col[DF_COL_SOURCE_ROW].data);
		df_buf_printf(out, ", %" PRIu64 " tokens, %" PRIu64 " of them targets\n", n, n_targets);
		DF_TRY(print_text(t, ids, mask, n, out, err));
		df_buf_puts(out, "--- ids, * = target\n");
		print_ids(ids, mask, n, out);
	}
	DF_TRY(df_buf_check(out, err));
out:
	df_tokenizer_free(t);
	df_batch_release(&b);
	return rc;
}

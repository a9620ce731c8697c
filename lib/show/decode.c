/*
 * decode.c - one sample of a token shard in readable form: runs of prompt and target as text, then the
 * ids with the text of each, targets marked.
 */
#include "show/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "chat/template.h"
#include "data/provenance.h"

#define LINE       96 /* columns of the list of ids */
#define LINE_CHARS 50 /* characters of a prompt and of its target on one line */

static int
no_sample(const struct df_set *s, uint64_t id, struct df_err *err)
{
	return df_fail(
	    err, DF_EUSAGE, "%s: no sample %" PRIu64 " in its %" PRIu64 " rows", df_set_name(s), id, df_set_rows(s));
}

/* *row = the row of the set whose sample id is `id`. */
static int
find_row(struct df_set *s, uint64_t id, struct df_batch *b, uint64_t *row, struct df_err *err)
{
	uint64_t rows = df_set_rows(s), step = 256;
	int rc = DF_OK;

	/* Row i usually is sample i or near to it: look there first. */
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
	rc = no_sample(s, id, err);
out:
	return rc;
}

/* The same for a stream, which is read to its end so that its writer is not cut off.  The row is the *at-th of b. */
static int
find_in_stream(struct df_set *s, uint64_t id, struct df_batch *b, uint64_t *row, uint64_t *at, struct df_err *err)
{
	struct df_batch next = DF_BATCH_INIT;
	bool found = false;
	uint64_t n;
	int rc;

	for (uint64_t first = 0;; first += n) {
		DF_TRY(df_set_next(s, 256, found ? &next : b, &n, err));
		if (n == 0)
			break;
		for (uint64_t i = 0; i < n && !found; i++) {
			found = ((const uint64_t *)b->col[DF_COL_ID].data)[i] == id;
			*row = first + i;
			*at = i;
		}
	}
	rc = found ? DF_OK : no_sample(s, id, err);
out:
	df_batch_release(&next);
	return rc;
}

/* A user's template may have added tokens that an older file does not record. */
static bool
only_file_knows(const struct df_meta *m)
{
	return df_meta_param(m, "template_digest") && !df_meta_param(m, DF_META_BASE_TOKENIZER);
}

/* The tokenizer that made the tokens, with the tokens that their template added. */
static int
open_tokenizer(
    struct df_tokenizer **out, const struct df_set *s, const char *path, const char *template, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(s);
	const struct df_template *own = NULL;
	struct df_tokenizer *t = NULL;
	char *made_with = NULL;
	bool same;
	int rc;

	df_meta_get_str(m, "tokenizer", &made_with);
	DF_TRY(df_tokenizer_open(&t, path ? path : "bytes", err));
	if (template) {
		DF_TRY(df_template_open(&own, template, err));
		DF_TRY(df_template_add_tokens(own, t, err));
	} else if ((rc = df_tokens_restore(t, m, err)) != DF_OK) {
		df_err_prefix(err, "%s: ", df_set_name(s));
		goto out;
	}
	same = made_with && strcmp(made_with, df_tokenizer_id(t)) == 0;
	if (template && made_with && !same) {
		rc = df_fail(err, DF_ELINEAGE, "%s was not made with tokenizer %s and template %s", df_set_name(s),
		    df_tokenizer_path(t), template);
		goto out;
	}
	if (!path && !same) {
		rc = df_fail(err, DF_EUSAGE, "%s: name the tokenizer to decode it with (--tokenizer)%s", df_set_name(s),
		    only_file_knows(m) ? " and the file of its template (--template)" : "");
		goto out;
	}
	if (!template && !same) { /* another tokenizer is wanted: use it unchanged */
		df_tokenizer_free(t);
		t = NULL;
		DF_TRY(df_tokenizer_open(&t, path, err));
	}
	*out = t;
	t = NULL;
out:
	df_tokenizer_free(t);
	df_template_close(own);
	free(made_with);
	return rc;
}

/* A list of words, broken into lines. */
struct words {
	struct df_buf *out;
	size_t column;
};

static void
put_word(struct words *w, const char *word, size_t nbytes, size_t width)
{
	if (w->column > 0 && w->column + 1 + width > LINE) {
		df_buf_putc(w->out, '\n');
		w->column = 0;
	}
	df_buf_puts(w->out, w->column ? " " : "  ");
	df_buf_add(w->out, word, nbytes);
	w->column += width + (w->column ? 1 : 2);
}

static void
print_ids(const struct df_row_view *r, struct df_buf *out)
{
	struct words w = { out, 0 };

	df_buf_puts(out, "--- ids, * = target\n");
	for (size_t i = 0; i < r->n; i++) {
		char word[24];
		int len = snprintf(word, sizeof(word), "%s%" PRIu32, r->mask[i] ? "*" : "", r->ids[i]);

		put_word(&w, word, (size_t)len, (size_t)len);
	}
	df_buf_putc(out, '\n');
}

/*
 * "text", on one line; a byte that is not (part of) a printable character is shown by its number.  Returns the columns.
 */
static size_t
quote(struct df_buf *out, const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t width = 2, len;

	df_buf_putc(out, '"');
	for (size_t i = 0; i < n; i += len) {
		size_t before = out->len;

		len = df_utf8_len(s + i, n - i);
		if (len == 1 && (s[i] == '"' || s[i] == '\\'))
			df_buf_printf(out, "\\%c", s[i]);
		else if (len == 1 && s[i] == '\n')
			df_buf_puts(out, "\\n");
		else if (len == 1 && s[i] == '\t')
			df_buf_puts(out, "\\t");
		else if (len == 0 || s[i] < 0x20 || s[i] == 0x7F)
			df_buf_printf(out, "\\x%02x", s[i]);
		else
			df_buf_add(out, text + i, len);
		width += len > 1 ? 1 : out->len - before;
		len = len ? len : 1;
	}
	df_buf_putc(out, '"');
	return width;
}

/* ---- a line of text ------------------------------------------------------- */

struct df_line_reader {
	struct df_set *tokens;
	struct df_tokenizer *t;
	struct df_batch b;
};

int
df_line_reader_open(
    struct df_line_reader **out, const char *path, const char *tokenizer, const char *template, struct df_err *err)
{
	struct df_line_reader *r = NULL;
	int rc;

	DF_TRY(df_alloc(&r, 1, sizeof(*r), "text", err));
	r->b = (struct df_batch)DF_BATCH_INIT;
	DF_TRY(df_set_open1(&r->tokens, DF_KIND_TOKENS, "tokens", path, err));
	DF_TRY(open_tokenizer(&r->t, r->tokens, tokenizer, template, err));
	*out = r;
	r = NULL;
out:
	df_line_reader_close(r);
	return rc;
}

void
df_line_reader_close(struct df_line_reader *r)
{
	if (!r)
		return;
	df_batch_release(&r->b);
	df_tokenizer_free(r->t);
	df_set_close(r->tokens);
	free(r);
}

/* Where the last `chars` characters of a text begin, or the first ones end. */
static size_t
cut(const struct df_buf *text, size_t chars, bool last)
{
	size_t at = last ? text->len : 0;

	for (; chars > 0 && (last ? at > 0 : at < text->len); chars--) {
		if (last) {
			for (at--; at > 0 && ((unsigned char)text->data[at] & 0xC0) == 0x80; at--)
				;
		} else {
			const size_t len = df_utf8_len((const unsigned char *)text->data + at, text->len - at);

			at += len ? len : 1;
		}
	}
	return at;
}

/* LINE_CHARS characters of the text of ids [n], the last or the first ones, in quotes on one line. */
static int
quote_tokens(
    const struct df_tokenizer *t, const uint32_t *ids, size_t n, bool last, struct df_buf *out, struct df_err *err)
{
	/* A character has at most four bytes, and a token of none is rare: so many tokens are enough. */
	const size_t most = n < 4 * LINE_CHARS ? n : 4 * LINE_CHARS;
	struct df_buf text = DF_BUF_INIT;
	size_t at;
	int rc;

	ids += last ? n - most : 0;
	for (size_t i = 0; i < most; i++) {
		if (ids[i] >= df_tokenizer_vocab_size(t))
			return df_fail(err, DF_ELINEAGE, "token %" PRIu32 " is not one of tokenizer %s", ids[i],
			    df_tokenizer_path(t));
	}
	DF_TRY(df_tokenizer_decode(t, ids, most, &text, err));
	if (text.len == 0) {
		df_buf_puts(out, "\"\"");
		goto out;
	}
	at = cut(&text, LINE_CHARS, last);
	if (last && (at > 0 || most < n))
		df_buf_puts(out, "..");
	quote(out, last ? text.data + at : text.data, last ? text.len - at : at);
	if (!last && (at < text.len || most < n))
		df_buf_puts(out, "..");
	rc = df_buf_check(out, err);
out:
	df_buf_release(&text);
	return rc;
}

int
df_line_read(struct df_line_reader *r, uint64_t id, struct df_line *line, struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(r->tokens);
	const uint32_t *ids;
	const uint8_t *mask;
	uint64_t row, n, n_prompt = 0;
	int rc;

	DF_TRY(find_row(r->tokens, id, &r->b, &row, err));
	DF_TRY(df_set_read(r->tokens, row, 1, &r->b, err));
	ids = r->b.col[DF_COL_IDS].data;
	mask = r->b.col[DF_COL_LABEL_MASK].data;
	n = r->b.col[DF_COL_IDS].offsets[1];
	*line = (struct df_line){ .rows = df_set_rows(r->tokens) };
	if (df_set_has(r->tokens, DF_COL_DOMAIN) && *(const uint16_t *)r->b.col[DF_COL_DOMAIN].data < m->n_domains)
		line->domain = m->domains[*(const uint16_t *)r->b.col[DF_COL_DOMAIN].data];
	line->has_row = df_set_has(r->tokens, DF_COL_SOURCE_ROW);
	if (line->has_row)
		line->source_row = *(const uint64_t *)r->b.col[DF_COL_SOURCE_ROW].data;
	while (n_prompt < n && !mask[n_prompt])
		n_prompt++;
	DF_TRY(quote_tokens(r->t, ids, n_prompt, true, out, err));
	df_buf_puts(out, " > ");
	DF_TRY(quote_tokens(r->t, ids + n_prompt, n - n_prompt, false, out, err));
out:
	return rc;
}

/* ---- a sample --------------------------------------------------------------- */

static int
print_pieces(const struct df_tokenizer *t, const struct df_row_view *r, struct df_buf *out, struct df_err *err)
{
	struct df_buf piece = DF_BUF_INIT, word = DF_BUF_INIT;
	struct words w = { out, 0 };
	int rc = DF_OK;

	df_buf_puts(out, "--- pieces, * = target\n");
	for (size_t i = 0; i < r->n; i++) {
		size_t width = r->mask[i] != 0;

		df_buf_clear(&piece);
		df_buf_clear(&word);
		DF_TRY(df_tokenizer_decode(t, &r->ids[i], 1, &piece, err));
		if (r->mask[i])
			df_buf_putc(&word, '*');
		width += quote(&word, piece.data ? piece.data : "", piece.len);
		DF_TRY(df_buf_check(&word, err));
		put_word(&w, word.data, word.len, width);
	}
	df_buf_putc(out, '\n');
out:
	df_buf_release(&piece);
	df_buf_release(&word);
	return rc;
}

static int
print_text(const struct df_tokenizer *t, const struct df_row_view *r, struct df_buf *out, struct df_err *err)
{
	size_t example = 0;
	int rc = DF_OK;

	for (size_t i = 0, end; i < r->n; i = end) {
		example += r->position && r->position[i] == 0;
		for (end = i + 1; end < r->n && !r->mask[end] == !r->mask[i] && !(r->position && r->position[end] == 0);
		     end++)
			;
		df_buf_puts(out, "--- ");
		if (r->position)
			df_buf_printf(out, "example %zu, ", example);
		df_buf_printf(
		    out, "%s, %zu token%s\n", r->mask[i] ? "target" : "prompt", end - i, end - i == 1 ? "" : "s");
		DF_TRY(df_tokenizer_decode(t, r->ids + i, end - i, out, err));
		if (out->len > 0 && out->data[out->len - 1] != '\n')
			df_buf_putc(out, '\n');
	}
out:
	return rc;
}

int
df_decode_row(const struct df_tokenizer *t, const struct df_row_view *row, struct df_buf *out, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(print_text(t, row, out, err));
	print_ids(row, out);
	DF_TRY(print_pieces(t, row, out, err));
out:
	return rc;
}

static void
count(const struct df_row_view *row, size_t *n_targets, size_t *n_examples)
{
	*n_targets = *n_examples = 0;
	for (size_t i = 0; i < row->n; i++) {
		*n_targets += row->mask[i] != 0;
		*n_examples += row->position && row->position[i] == 0;
	}
}

int
df_preview_row(const struct df_tokenizer *t, const struct df_row_view *row, uint64_t number, const char *dataset,
    uint64_t source_row, struct df_buf *out, struct df_err *err)
{
	size_t n_targets, n_examples;

	count(row, &n_targets, &n_examples);
	df_buf_printf(out, "row %" PRIu64 ": dataset %s, source row %" PRIu64 ", %zu tokens, %zu targets", number,
	    dataset, source_row, row->n, n_targets);
	if (row->position)
		df_buf_printf(out, ", %zu examples", n_examples);
	df_buf_putc(out, '\n');
	return df_decode_row(t, row, out, err);
}

static int
print_json(const struct df_tokenizer *t, const struct df_set *s, uint64_t id, uint64_t row, const char *domain,
    const struct df_row_view *r, struct df_buf *out, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	int rc;

	DF_TRY(df_tokenizer_decode(t, r->ids, r->n, &text, err));
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
	for (size_t i = 0; i < r->n; i++)
		df_buf_printf(out, "%s%" PRIu32, i ? ", " : "", r->ids[i]);
	df_buf_puts(out, "], \"label_mask\": [");
	for (size_t i = 0; i < r->n; i++)
		df_buf_printf(out, "%s%d", i ? ", " : "", r->mask[i] != 0);
	if (r->position)
		df_buf_puts(out, "], \"position\": [");
	for (size_t i = 0; r->position && i < r->n; i++)
		df_buf_printf(out, "%s%" PRIu32, i ? ", " : "", r->position[i]);
	df_buf_puts(out, "]}\n");
out:
	df_buf_release(&text);
	return rc;
}

int
df_decode(struct df_set *tokens, uint64_t id, const char *tokenizer, const char *template, bool json,
    struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(tokens);
	struct df_batch b = DF_BATCH_INIT;
	struct df_tokenizer *t = NULL;
	const char *domain = NULL;
	uint64_t row, at = 0, first;
	size_t n_targets, n_examples;
	struct df_row_view r;
	int rc;

	DF_TRY(open_tokenizer(&t, tokens, tokenizer, template, err));
	if (df_set_is_stream(tokens)) {
		DF_TRY(find_in_stream(tokens, id, &b, &row, &at, err));
	} else {
		DF_TRY(find_row(tokens, id, &b, &row, err));
		DF_TRY(df_set_read(tokens, row, 1, &b, err));
	}
	first = b.col[DF_COL_IDS].offsets[at];
	r = (struct df_row_view){ (const uint32_t *)b.col[DF_COL_IDS].data + first,
		b.col[DF_COL_POSITION].data ? (const uint32_t *)b.col[DF_COL_POSITION].data + first : NULL,
		(const uint8_t *)b.col[DF_COL_LABEL_MASK].data + first,
		(size_t)(b.col[DF_COL_IDS].offsets[at + 1] - first) };
	count(&r, &n_targets, &n_examples);
	for (size_t i = 0; i < r.n; i++) {
		if (r.ids[i] >= df_tokenizer_vocab_size(t)) {
			rc = df_fail(err, DF_ELINEAGE,
			    "%s: sample %" PRIu64 " has token %" PRIu32 ", which tokenizer %s does not%s",
			    df_set_name(tokens), id, r.ids[i], df_tokenizer_path(t),
			    only_file_knows(m) ? "; --template is the file of the template that may have added it"
					       : "");
			goto out;
		}
	}
	if (df_set_has(tokens, DF_COL_DOMAIN) && ((const uint16_t *)b.col[DF_COL_DOMAIN].data)[at] < m->n_domains)
		domain = m->domains[((const uint16_t *)b.col[DF_COL_DOMAIN].data)[at]];
	if (json) {
		DF_TRY(print_json(t, tokens, id, row, domain, &r, out, err));
	} else {
		df_buf_printf(out, "%s: sample %" PRIu64, df_set_name(tokens), id);
		if (domain)
			df_buf_printf(out, ", %s", domain);
		if (df_set_has(tokens, DF_COL_SOURCE_ROW))
			df_buf_printf(out, " row %" PRIu64, ((const uint64_t *)b.col[DF_COL_SOURCE_ROW].data)[at]);
		df_buf_printf(out, ", %zu tokens, %zu of them targets", r.n, n_targets);
		if (r.position)
			df_buf_printf(out, ", %zu examples", n_examples);
		df_buf_putc(out, '\n');
		DF_TRY(df_decode_row(t, &r, out, err));
	}
	DF_TRY(df_buf_check(out, err));
out:
	df_tokenizer_free(t);
	df_batch_release(&b);
	return rc;
}

/*
 * rewards.c - rewards from an artefact, from JSON lines, or from text.
 */
#include "grad/rewards.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/opt.h"

#define FILE_MAX  ((size_t)1 << 32) /* bytes */
#define READ_ROWS ((uint64_t)1 << 16)

/* What a row is looked up by: its sample id and 0, or its prompt and draw. */
struct key {
	uint64_t a;
	uint32_t b;
	uint64_t row;
};

struct reader {
	const struct df_reward_rows *rows;
	const char *path;
	struct key *by_id, *by_prompt; /* [n], sorted */
	uint8_t *seen;                 /* [n] */
	uint64_t n_seen;
	double *reward;
};

static int
by_key(const void *x, const void *y)
{
	const struct key *p = x, *q = y;

	if (p->a != q->a)
		return p->a < q->a ? -1 : 1;
	return p->b < q->b ? -1 : p->b > q->b;
}

/* The first of the sorted keys that is not below (a, b); NULL: there is none, or it has another a. */
static const struct key *
find(const struct key *keys, uint64_t n, uint64_t a, uint32_t b)
{
	const struct key wanted = { a, b, 0 };
	uint64_t lo = 0, hi = n;

	while (lo < hi) {
		const uint64_t mid = lo + (hi - lo) / 2;

		if (by_key(&keys[mid], &wanted) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && keys[lo].a == a ? &keys[lo] : NULL;
}

/* Which rows there are; no two may be the same. */
static int
sort_keys(struct key **out, const uint64_t *a, const uint32_t *b, const struct df_reward_rows *rows, struct df_err *err)
{
	struct key *keys = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&keys, rows->n, sizeof(*keys), "rewards", err));
	*out = keys;
	for (uint64_t i = 0; i < rows->n; i++)
		keys[i] = (struct key){ a[i], b ? b[i] : 0, i };
	qsort(keys, rows->n, sizeof(*keys), by_key);
	for (uint64_t i = 1; i < rows->n; i++) {
		if (by_key(&keys[i - 1], &keys[i]) == 0) {
			rc = b ? df_fail(err, DF_EFORMAT, "%s: prompt %" PRIu64 " has two completions %" PRIu32,
				     rows->name, keys[i].a, keys[i].b)
			       : df_fail(err, DF_EFORMAT, "%s: id %" PRIu64 " occurs twice", rows->name, keys[i].a);
			goto out;
		}
	}
out:
	return rc;
}

/* "sample 61 (completion 1 of prompt 3)", or "sample 61". */
static const char *
name_row(const struct df_reward_rows *rows, uint64_t row, char name[96])
{
	const int n = snprintf(name, 96, "sample %" PRIu64, rows->id[row]);

	if (rows->draw)
		snprintf(name + n, (size_t)(96 - n), " (completion %" PRIu32 " of prompt %" PRIu64 ")", rows->draw[row],
		    rows->prompt[row]);
	return name;
}

static int
set_reward(struct reader *r, uint64_t row, double x, struct df_err *err)
{
	char name[96];

	if (!isfinite(x))
		return df_fail(
		    err, DF_EFORMAT, "the reward of %s is not a finite number", name_row(r->rows, row, name));
	if (r->seen[row])
		return df_fail(err, DF_EFORMAT, "a second reward of %s", name_row(r->rows, row, name));
	r->seen[row] = 1;
	r->n_seen++;
	r->reward[row] = x;
	return DF_OK;
}

static int
set_by_id(struct reader *r, uint64_t id, double x, struct df_err *err)
{
	const struct key *k = find(r->by_id, r->rows->n, id, 0);

	if (k)
		return set_reward(r, k->row, x, err);
	return r->rows->more ? DF_OK : df_fail(err, DF_EFORMAT, "there is no sample %" PRIu64, id);
}

/* ---- an artefact ------------------------------------------------------------------- */

static int
read_artefact(struct reader *r, const char *role, struct df_meta *meta, struct df_err *err)
{
	static const char advice[] = "; rewards are scores of these very samples";
	struct df_batch b = DF_BATCH_INIT;
	const struct df_input *tokens;
	struct df_set *set = NULL;
	uint64_t n = 0;
	int rc = DF_OK;

	DF_TRY(df_set_open1(&set, DF_KIND_SCORES, role, r->path, err));
	tokens = df_meta_input(df_set_meta(set), "tokens");
	if (tokens && r->rows->tokens_id && strcmp(tokens->id, r->rows->tokens_id) != 0) {
		rc = df_fail(err, DF_ELINEAGE, "%s was made for tokens %s, not %s%s", df_set_name(set), tokens->id,
		    r->rows->tokens_id, advice);
		goto out;
	}
	for (;;) {
		const uint64_t *id;
		const float *score;

		DF_TRY(df_set_next(set, READ_ROWS, &b, &n, err));
		if (!n)
			break;
		id = b.col[DF_COL_ID].data;
		score = b.col[DF_COL_SCORE].data;
		for (uint64_t i = 0; i < n; i++) {
			if ((rc = set_by_id(r, id[i], (double)score[i], err)) != DF_OK) {
				df_err_prefix(err, "%s: ", df_set_name(set));
				goto out;
			}
		}
	}
	if (df_set_meta(set)->id[0])
		DF_TRY(df_meta_add_input(meta, role, df_kind_name(DF_KIND_SCORES), df_set_meta(set)->id, err));
out:
	df_batch_release(&b);
	df_set_close(set);
	return rc;
}

/* ---- JSON lines -------------------------------------------------------------------------- */

static int
reward_of(const struct df_json_value *root, double *x, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(root, "reward");

	if (df_json_type(v) == DF_JSON_BOOL)
		*x = df_json_bool(v, false) ? 1 : 0;
	else if (!df_json_number(v, x))
		return df_fail(err, DF_EFORMAT, "'reward': expected a number, found %s",
		    v ? df_json_type_name(v) : "no such member");
	return DF_OK;
}

static int
row_of(const struct reader *r, uint64_t prompt, int64_t draw, const struct key **row, struct df_err *err)
{
	const struct key *k = find(r->by_prompt, r->rows->n, prompt, draw < 0 ? 0 : (uint32_t)draw);

	*row = NULL;
	if (draw < 0 && k && k + 1 < r->by_prompt + r->rows->n && k[1].a == prompt)
		return df_fail(err, DF_EFORMAT,
		    "'sample' is missing: prompt %" PRIu64 " has more than one completion, and the number says which",
		    prompt);
	if (k && (draw < 0 || k->b == (uint32_t)draw))
		*row = k;
	else if (!r->rows->more && draw < 0)
		return df_fail(err, DF_EFORMAT, "there is no prompt %" PRIu64, prompt);
	else if (!r->rows->more)
		return df_fail(err, DF_EFORMAT, "there is no completion %" PRId64 " of prompt %" PRIu64, draw, prompt);
	return DF_OK;
}

static int
json_line(struct reader *r, const char *line, size_t n, uint64_t number, struct df_err *err)
{
	const struct df_json_value *root;
	struct df_json *doc = NULL;
	const struct key *k;
	int64_t prompt, draw;
	double x = 0;
	int rc;

	DF_TRY(df_json_parse_line(&doc, line, n, err));
	root = df_json_root(doc);
	DF_TRY(df_json_member_int(root, "id", -1, 0, INT64_MAX, &prompt, err));
	DF_TRY(df_json_member_int(root, "sample", -1, 0, UINT32_MAX, &draw, err));
	if (prompt < 0) {
		rc = df_fail(err, DF_EFORMAT, "'id' is missing: the prompt's");
		goto out;
	}
	DF_TRY(row_of(r, (uint64_t)prompt, draw, &k, err));
	DF_TRY(reward_of(root, &x, err));
	if (k)
		rc = set_reward(r, k->row, x, err);
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: line %" PRIu64 ": ", r->path, number);
	df_json_free(doc);
	return rc;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* "number" of row `next`, or "id<TAB>number". */
static int
text_line(struct reader *r, char *line, uint64_t number, uint64_t next, struct df_err *err)
{
	char *tab = strchr(line, '\t');
	int64_t id = 0;
	double x = 0;
	int rc = DF_OK;

	if (tab) {
		*tab = '\0';
		DF_TRY(df_parse_int(line, 0, INT64_MAX, &id, err));
	}
	/* The parser takes finite numbers only, and says what it found. */
	DF_TRY(df_parse_double(tab ? tab + 1 : line, &x, err));
	if (tab)
		rc = set_by_id(r, (uint64_t)id, x, err);
	else if (next < r->rows->n)
		rc = set_reward(r, next, x, err);
	else
		rc = df_fail(err, DF_EFORMAT, "more rewards than samples (%" PRIu64 ")", r->rows->n);
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: line %" PRIu64 ": ", r->path, number);
	return rc == DF_EUSAGE ? DF_EFORMAT : rc;
}

static int
read_lines(struct reader *r, char *text, size_t size, struct df_err *err)
{
	uint64_t number = 0, n_lines = 0;
	int rc = DF_OK;

	if (memchr(text, '\0', size))
		return df_fail(err, DF_EFORMAT, "%s: neither a scores artefact nor text", r->path);
	for (char *line = text, *next; *line; line = next) {
		size_t n = strcspn(line, "\n");

		next = line + n + (line[n] == '\n');
		line[n] = '\0';
		if (n > 0 && line[n - 1] == '\r')
			line[--n] = '\0';
		number++;
		if (n == 0 || line[0] == '#')
			continue;
		if (line[strspn(line, " \t")] == '{')
			DF_TRY(json_line(r, line, n, number, err));
		else
			DF_TRY(text_line(r, line, number, n_lines++, err));
	}
out:
	return rc;
}

/* ---- all of it --------------------------------------------------------------------------------- */

static int
check_full(const struct reader *r, struct df_err *err)
{
	uint64_t first = 0;
	char name[96];

	if (r->n_seen == r->rows->n)
		return DF_OK;
	while (r->seen[first])
		first++;
	return df_fail(err, DF_EFORMAT, "%s: %" PRIu64 " of %" PRIu64 " rewards are missing, the first is that of %s",
	    r->path, r->rows->n - r->n_seen, r->rows->n, name_row(r->rows, first, name));
}

int
df_rewards_read(const char *path, const char *role, const struct df_reward_rows *rows, double *reward,
    struct df_meta *meta, struct df_err *err)
{
	static const char hdf5[8] = "\x89HDF\r\n\x1a\n";
	struct reader r = { .rows = rows, .path = path, .reward = reward };
	char hex[DF_DIGEST_HEX], *text = NULL;
	size_t size;
	int rc;

	DF_TRY(sort_keys(&r.by_id, rows->id, NULL, rows, err));
	DF_TRY(sort_keys(&r.by_prompt, rows->prompt, rows->draw, rows, err));
	DF_TRY(df_alloc(&r.seen, rows->n, 1, "rewards", err));
	DF_TRY(df_file_get(path, FILE_MAX, &text, &size, err));
	if (size >= sizeof(hdf5) && memcmp(text, hdf5, sizeof(hdf5)) == 0) {
		DF_TRY(read_artefact(&r, role, meta, err));
	} else {
		df_digest_hex(df_hash_bytes(text, size, 0), hex);
		DF_TRY(df_meta_add_input(meta, role, "source", hex, err));
		DF_TRY(read_lines(&r, text, size, err));
	}
	rc = check_full(&r, err);
out:
	free(text);
	free(r.by_id);
	free(r.by_prompt);
	free(r.seen);
	return rc;
}

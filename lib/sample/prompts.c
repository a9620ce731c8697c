/*
 * prompts.c - the three sources of prompts.
 */
#include "sample/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "sample/generate.h"

#define TEXTS_MAX ((size_t)1 << 32) /* bytes of a file of texts */

void
df_prompts_release(struct df_prompts *p)
{
	for (size_t i = 0; p->answer != NULL && i < p->n; i++)
		free(p->answer[i]);
	for (size_t i = 0; i < p->n_domains; i++)
		free(p->domains[i]);
	free(p->offsets);
	free(p->ids);
	free(p->id);
	free(p->domain);
	free(p->answer);
	free(p->domains);
	*p = (struct df_prompts){ 0 };
}

int
df_prompts_add(struct df_prompts *p, const uint32_t *ids, size_t n, uint64_t id, uint16_t domain, const char *answer,
    size_t n_answer, struct df_err *err)
{
	const size_t at = p->n > 0 ? (size_t)p->offsets[p->n] : 0;
	int rc;

	DF_TRY(df_grow(&p->offsets, &p->cap_offsets, p->n + 2, sizeof(*p->offsets), "prompts", err));
	DF_TRY(df_grow(&p->ids, &p->cap_ids, at + n, sizeof(*p->ids), "prompts", err));
	DF_TRY(df_grow(&p->id, &p->cap_id, p->n + 1, sizeof(*p->id), "prompts", err));
	DF_TRY(df_grow(&p->domain, &p->cap_domain, p->n + 1, sizeof(*p->domain), "prompts", err));
	DF_TRY(df_grow(&p->answer, &p->cap_answer, p->n + 1, sizeof(*p->answer), "prompts", err));
	p->answer[p->n] = NULL;
	if (answer != NULL)
		DF_TRY(df_strndup(&p->answer[p->n], answer, n_answer, err));
	memcpy(p->ids + at, ids, n * sizeof(*ids));
	p->id[p->n] = id;
	p->domain[p->n] = domain;
	p->offsets[p->n++] = at;
	p->offsets[p->n] = at + n;
	p->longest = n > p->longest ? n : p->longest;
out:
	return rc;
}

int
df_prompts_add_domain(struct df_prompts *p, const char *name, struct df_err *err)
{
	int rc;

	if (p->n_domains > UINT16_MAX)
		return df_fail(err, DF_ERANGE, "more than %d domains", UINT16_MAX + 1);
	DF_TRY(df_grow(&p->domains, &p->cap_domains, p->n_domains + 1, sizeof(*p->domains), "domains", err));
	DF_TRY(df_strdup(&p->domains[p->n_domains], name, err));
	p->n_domains++;
out:
	return rc;
}

/* ---- tokens ---------------------------------------------------------------- */

/* The answer to the prompt that was added last: the text of the first run of targets in ids [n]. */
static int
add_answer(struct df_prompts *p, const uint32_t *ids, const uint8_t *mask, size_t n, const struct df_tokenizer *tok,
    const struct df_ids *eos, struct df_err *err)
{
	struct df_buf text = DF_BUF_INIT;
	size_t n_answer = 0;
	bool ended = false;
	int rc;

	for (; n_answer < n && mask[n_answer] == 1; n_answer++) {
		for (size_t e = 0; e < eos->n; e++)
			ended = ended || eos->v[e] == ids[n_answer];
		if (ended)
			break;
	}
	DF_TRY(df_generate_text(tok, ids, n_answer, &text, err));
	rc = df_strndup(&p->answer[p->n - 1], text.data ? text.data : "", text.len, err);
out:
	df_buf_release(&text);
	return rc;
}

int
df_prompts_tokens(struct df_prompts *p, struct df_set *set, bool whole, uint64_t max_rows,
    const struct df_tokenizer *tok, const struct df_ids *eos, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_IDS, DF_COL_LABEL_MASK };
	const struct df_meta *m = df_set_meta(set);
	struct df_batch b = DF_BATCH_INIT;
	uint64_t got, left = max_rows > 0 ? max_rows : UINT64_MAX;
	int rc = DF_OK;

	for (size_t i = 0; i < m->n_domains; i++)
		DF_TRY(df_prompts_add_domain(p, m->domains[i], err));
	if (!df_set_is_stream(set))
		df_set_only(set, cols, sizeof(cols) / sizeof(cols[0]));
	while (left > 0) {
		const uint64_t *off, *id;
		const uint16_t *domain;
		const uint32_t *ids;
		const uint8_t *mask;

		DF_TRY(df_set_next(set, left < 4096 ? left : 4096, &b, &got, err));
		if (got == 0)
			break;
		off = b.col[DF_COL_IDS].offsets;
		ids = b.col[DF_COL_IDS].data;
		mask = b.col[DF_COL_LABEL_MASK].data;
		id = b.col[DF_COL_ID].data;
		domain = b.col[DF_COL_DOMAIN].data;
		for (uint64_t i = 0; i < b.n && left > 0; i++, left--) {
			size_t n = 0;

			while (n < off[i + 1] - off[i] && (whole || mask[off[i] + n] == 0))
				n++;
			if (n == 0) {
				rc = df_fail(err, DF_EFORMAT,
				    "%s: sample %llu has no token before its first target: there is no prompt",
				    df_set_name(set), (unsigned long long)id[i]);
				goto out;
			}
			DF_TRY(df_prompts_add(p, ids + off[i], n, id[i], domain ? domain[i] : 0, NULL, 0, err));
			if (tok && !whole && n < off[i + 1] - off[i])
				DF_TRY(add_answer(
				    p, ids + off[i] + n, mask + off[i] + n, off[i + 1] - off[i] - n, tok, eos, err));
		}
	}
out:
	df_batch_release(&b);
	return rc;
}

/* ---- datasets -------------------------------------------------------------- */

static int
add_example(struct df_prompts *p, const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex,
    struct df_ids *ids, struct df_err *err)
{
	const struct df_turn *last = ex->n_turns > 0 && ex->n_turns % 2 == 0 ? &ex->turns[ex->n_turns - 1] : NULL;
	int rc;

	ids->n = 0;
	DF_TRY(df_encode_prompt(e, s, ex, ids, err));
	if (ids->n == 0)
		return df_fail(err, DF_EFORMAT, "the prompt has no token");
	rc = df_prompts_add(
	    p, ids->v, ids->n, p->n, (uint16_t)(p->n_domains - 1), last ? last->text : NULL, last ? last->n : 0, err);
out:
	return rc;
}

int
df_prompts_dataset(
    struct df_prompts *p, struct df_dataset *ds, const struct df_encoder *e, uint64_t max_rows, struct df_err *err)
{
	struct df_example ex = DF_EXAMPLE_INIT;
	struct df_encscratch *s = NULL;
	struct df_ids ids = { NULL, 0, 0 };
	uint64_t dropped[DF_DROP_COUNT] = { 0 }, n_read = 0;
	struct df_record rec;
	int rc;

	DF_TRY(df_dataset_check_columns(ds, err));
	DF_TRY(df_prompts_add_domain(p, df_dataset_name(ds), err));
	DF_TRY(df_encscratch_new(&s, e, err));
	while ((rc = df_dataset_next(ds, &rec, err)) == 1 && (max_rows == 0 || rec.row < max_rows)) {
		DF_TRY(df_dataset_convert(ds, &rec, &ex, err));
		n_read++;
		if (ex.drop == DF_DROP_NONE && df_encode_is_empty(e, &ex))
			ex.drop = DF_DROP_EMPTY;
		if (ex.drop != DF_DROP_NONE) {
			dropped[ex.drop]++;
			continue;
		}
		if ((rc = add_example(p, e, s, &ex, &ids, err)) != DF_OK) {
			df_dataset_place(ds, &rec, err);
			goto out;
		}
	}
	rc = rc > 0 ? DF_OK : rc;
	for (enum df_drop d = DF_DROP_NONE + 1; d < DF_DROP_COUNT; d++)
		if (dropped[d] > 0)
			df_warn("dataset '%s': %llu of %llu rows dropped: %s", df_dataset_name(ds),
			    (unsigned long long)dropped[d], (unsigned long long)n_read, df_drop_about(d));
out:
	df_ids_release(&ids);
	df_encscratch_free(s);
	df_example_release(&ex);
	return rc;
}

int
df_prompts_datasets(struct df_prompts *p, const char *dataset_dir, const char *names, enum df_data_stage stage,
    const struct df_encoder *e, uint64_t max_rows, struct df_meta *meta, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	struct df_dataset *ds = NULL;
	char *list = NULL, *save = NULL;
	int rc;

	DF_TRY(df_dataset_info_open(&info, dataset_dir, err));
	DF_TRY(df_strdup(&list, names, err));
	for (char *name = strtok_r(list, ", ", &save); name != NULL; name = strtok_r(NULL, ", ", &save)) {
		DF_TRY(df_dataset_open(&ds, info, name, stage, err));
		DF_TRY(df_prompts_dataset(p, ds, e, max_rows, err));
		if (meta != NULL)
			DF_TRY(df_meta_add_input(meta, name, "source", df_dataset_id(ds), err));
		df_dataset_free(ds);
		ds = NULL;
	}
	if (p->n == 0)
		rc = df_fail(err, DF_EFORMAT, "the datasets have no usable row");
out:
	free(list);
	df_dataset_free(ds);
	df_dataset_info_free(info);
	return rc;
}

/* ---- texts ----------------------------------------------------------------- */

/* What is needed to turn a text into ids. */
struct reader {
	struct df_prompts *p;
	const struct df_encoder *e; /* NULL: the tokenizer alone */
	const struct df_tokenizer *t;
	struct df_encscratch *es;
	struct df_tokscratch *ts;
	struct df_ids ids;
	bool is_json;
};

struct text {
	const char *v;
	size_t n;
};

static int
add_text(struct reader *r, struct text prompt, struct text system, struct text answer, uint64_t id, struct df_err *err)
{
	int rc = DF_OK;

	r->ids.n = 0;
	if (r->e != NULL) {
		struct df_turn turn = { DF_ROLE_USER, prompt.v, prompt.n };
		const struct df_example ex = {
			.turns = &turn, .n_turns = 1, .cap_turns = 1, .system = system.v, .n_system = system.n
		};

		DF_TRY(df_encode_prompt(r->e, r->es, &ex, &r->ids, err));
	} else {
		const uint32_t *before, *after;
		size_t n_before, n_after;

		if (system.n > 0)
			return df_fail(err, DF_EUSAGE, "a system text needs a template");
		df_tokenizer_frame(r->t, &before, &n_before, &after, &n_after);
		DF_TRY(df_ids_add(&r->ids, before, n_before, err));
		DF_TRY(df_tokenizer_encode(r->t, r->ts, prompt.v, prompt.n, false, &r->ids, err));
	}
	if (r->ids.n == 0)
		return df_fail(err, DF_EFORMAT, "the prompt has no token");
	rc = df_prompts_add(r->p, r->ids.v, r->ids.n, id, (uint16_t)(r->p->n_domains - 1), answer.v, answer.n, err);
out:
	return rc;
}

/* A member of a line's object that is a text; {"", 0} when it is absent. */
static int
member(const struct df_json_value *v, const char *key, struct text *out, struct df_err *err)
{
	const struct df_json_value *m = df_json_get(v, key);

	*out = (struct text){ NULL, 0 };
	if (m == NULL || df_json_type(m) == DF_JSON_NULL)
		return DF_OK;
	out->v = df_json_str(m, &out->n);
	if (out->v == NULL)
		return df_fail(err, DF_EFORMAT, "'%s': expected a string, found %s", key, df_json_type_name(m));
	return DF_OK;
}

static int
add_json(struct reader *r, const char *line, size_t n, uint64_t id, struct df_err *err)
{
	struct text prompt, system = { NULL, 0 }, answer = { NULL, 0 };
	const struct df_json_value *root;
	struct df_json *doc = NULL;
	int rc;

	DF_TRY(df_json_parse_line(&doc, line, n, err));
	root = df_json_root(doc);
	prompt.v = df_json_str(root, &prompt.n);
	if (prompt.v == NULL) {
		DF_TRY(member(root, "prompt", &prompt, err));
		DF_TRY(member(root, "system", &system, err));
		DF_TRY(member(root, "answer", &answer, err));
	}
	if (prompt.v == NULL)
		rc = df_fail(err, DF_EFORMAT, "expected a string, or an object with 'prompt'");
	else
		rc = add_text(r, prompt, system, answer, id, err);
out:
	df_json_free(doc);
	return rc;
}

static bool
ends_with(const char *s, const char *end)
{
	const size_t n = strlen(s), k = strlen(end);

	return n >= k && strcmp(s + n - k, end) == 0;
}

static int
add_lines(struct reader *r, const char *text, size_t size, const char *path, uint64_t max_rows, struct df_err *err)
{
	uint64_t row = 0;
	int rc = DF_OK;

	for (size_t at = 0, end; at < size && (max_rows == 0 || row < max_rows); at = end + 1, row++) {
		const char *nl = memchr(text + at, '\n', size - at);
		size_t n;

		end = nl != NULL ? (size_t)(nl - text) : size;
		n = end - at;
		if (n > 0 && text[at + n - 1] == '\r')
			n--;
		if (n == 0)
			continue;
		rc = r->is_json ? add_json(r, text + at, n, row, err)
				: add_text(r, (struct text){ text + at, n }, (struct text){ NULL, 0 },
				      (struct text){ NULL, 0 }, row, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: line %llu: ", path, (unsigned long long)row + 1);
			break;
		}
	}
	return rc;
}

int
df_prompts_texts(struct df_prompts *p, const char *path, const struct df_encoder *e, const struct df_tokenizer *t,
    uint64_t max_rows, struct df_meta *meta, struct df_err *err)
{
	struct reader r = { .p = p, .e = e, .t = t, .is_json = ends_with(path, ".jsonl") || ends_with(path, ".json") };
	const size_t before = p->n;
	char hex[DF_DIGEST_HEX], *text = NULL;
	size_t size;
	int rc;

	DF_TRY(df_prompts_add_domain(p, df_path_base(path), err));
	DF_TRY(df_file_get(path, TEXTS_MAX, &text, &size, err));
	if (e != NULL)
		DF_TRY(df_encscratch_new(&r.es, e, err));
	else
		DF_TRY(df_tokscratch_new(&r.ts, t, err));
	DF_TRY(add_lines(&r, text, size, path, max_rows, err));
	if (p->n == before) {
		rc = df_fail(err, DF_EFORMAT, "%s: no prompt", path);
		goto out;
	}
	if (meta != NULL) {
		df_digest_hex(df_hash_bytes(text, size, 0), hex);
		rc = df_meta_add_input(meta, "prompts", "source", hex, err);
	}
out:
	df_ids_release(&r.ids);
	df_encscratch_free(r.es);
	df_tokscratch_free(r.ts);
	free(text);
	return rc;
}

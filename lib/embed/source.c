/*
 * source.c - rows, block by block: one interface to token artefacts and to texts.
 *
 * A block is long enough to fill batches that are sorted by length, and short enough that threads
 * share the work evenly and a killed run has little to repeat.
 */
#include "embed/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define MAX_ROWS   128
#define MAX_TOKENS 16384
#define MAX_BYTES  65536 /* of records of text */

struct part {
	struct df_dataset *ds;
	uint64_t first, rows; /* the part's rows, among all rows */
};

/* A row of text with an id that is not its row number. */
struct pick {
	uint64_t id, row; /* the row in its part */
	uint16_t part, domain;
};

struct df_embed_source {
	struct df_embed_source_opts o;
	struct df_set *tokens; /* NULL: texts */
	struct part *part;
	size_t n_parts, cap_parts;
	struct pick *pick;        /* [n_rows] or NULL: row i is the i-th of all parts */
	uint64_t n_rows;          /* texts */
	struct df_meta rows_meta; /* metadata of the tokens that pick rows */
	char *name;
	struct df_blocks blocks; /* empty for a stream */
	uint64_t next, end;
};

/* ---- opening ------------------------------------------------------------------- */

static bool
is_text_file(const char *path)
{
	static const char *const ends[] = { ".json", ".jsonl", ".txt" };
	const char *dot = strrchr(df_path_base(path), '.');

	for (size_t i = 0; dot && i < sizeof(ends) / sizeof(ends[0]); i++)
		if (strcmp(dot, ends[i]) == 0)
			return true;
	return false;
}

/* Add a part; takes over ds. */
static int
add_part(struct df_embed_source *s, struct df_dataset *ds, struct df_err *err)
{
	const struct part *last = s->n_parts ? &s->part[s->n_parts - 1] : NULL;
	struct part p = { .ds = ds, .first = last ? last->first + last->rows : 0 };
	int rc = DF_OK;

	for (size_t i = 0; i < s->n_parts; i++)
		if (strcmp(df_dataset_name(s->part[i].ds), df_dataset_name(ds)) == 0) {
			rc = df_fail(err, DF_EUSAGE, "'%s' is named twice", df_dataset_name(ds));
			goto out;
		}
	if (s->n_parts > UINT16_MAX) {
		rc = df_fail(err, DF_ERANGE, "more than %d files of text", UINT16_MAX + 1);
		goto out;
	}
	DF_TRY(df_rowtext_check(ds, s->o.form, s->o.column, err));
	if (df_dataset_num_samples(ds) && !s->o.rows) {
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "dataset '%s': 'num_samples' draws rows: pack it with df-pack, and name its tokens with --rows",
		    df_dataset_name(ds));
		goto out;
	}
	DF_TRY(df_dataset_index(ds, &p.rows, err));
	DF_TRY(df_grow(&s->part, &s->cap_parts, s->n_parts + 1, sizeof(*s->part), "datasets", err));
	s->part[s->n_parts++] = p;
	ds = NULL;
out:
	df_dataset_free(ds);
	return rc;
}

static int
open_datasets(struct df_embed_source *s, struct df_err *err)
{
	struct df_dataset_info *info = NULL;
	struct df_dataset *ds;
	char *list = NULL, *save = NULL;
	int rc = DF_OK;

	DF_TRY(df_dataset_info_open(&info, s->o.dataset_dir, err));
	DF_TRY(df_strdup(&list, s->o.dataset, err));
	for (char *name = strtok_r(list, ", \t", &save); name; name = strtok_r(NULL, ", \t", &save)) {
		DF_TRY(df_dataset_open(&ds, info, name, DF_STAGE_SFT, err));
		DF_TRY(add_part(s, ds, err));
	}
	if (s->n_parts == 0)
		rc = df_fail(err, DF_EUSAGE, "no dataset is named");
out:
	free(list);
	df_dataset_info_free(info);
	return rc;
}

static int
open_files(struct df_embed_source *s, struct df_err *err)
{
	struct df_dataset *ds;
	int rc = DF_OK;

	for (size_t i = 0; i < s->o.n_paths; i++) {
		if (!is_text_file(s->o.paths[i])) {
			rc = df_fail(err, DF_EUSAGE,
			    "%s: tokens and files of text (.json, .jsonl, .txt) together: embed one after the other",
			    s->o.paths[i]);
			goto out;
		}
		DF_TRY(df_dataset_open_file(&ds, s->o.paths[i], DF_STAGE_PT, err));
		DF_TRY(add_part(s, ds, err));
	}
out:
	return rc;
}

/* Find the part of each of the tokens' domains; a single dataset need not have their name. */
static int
match_domains(const struct df_embed_source *s, const struct df_meta *m, uint16_t **part, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(part, m->n_domains + 1, sizeof(**part), "domains", err));
	for (size_t d = 0; d < m->n_domains; d++) {
		size_t i = 0;

		while (i < s->n_parts && strcmp(df_dataset_name(s->part[i].ds), m->domains[d]) != 0)
			i++;
		if (i == s->n_parts && s->n_parts == 1 && m->n_domains == 1)
			i = 0;
		if (i == s->n_parts) {
			rc = df_fail(err, DF_ELINEAGE,
			    "%s: some of its rows come from '%s', which is not among the texts", s->o.rows,
			    m->domains[d]);
			goto out;
		}
		(*part)[d] = (uint16_t)i;
	}
out:
	return rc;
}

/* Add to s->pick a batch of the tokens' ids, domains and source rows. */
static int
pick_rows(
    struct df_embed_source *s, const struct df_batch *b, const uint16_t *part, size_t n_domains, struct df_err *err)
{
	const uint64_t *id = b->col[DF_COL_ID].data, *row = b->col[DF_COL_SOURCE_ROW].data;
	const uint16_t *domain = b->col[DF_COL_DOMAIN].data;

	for (uint64_t i = 0; i < b->n; i++) {
		const uint16_t d = domain ? domain[i] : 0;
		struct pick *p = &s->pick[b->first + i];

		if (domain && d >= n_domains)
			return df_fail(err, DF_EFORMAT, "%s: sample %llu has the domain %u of %zu", s->o.rows,
			    (unsigned long long)id[i], d, n_domains);
		*p = (struct pick){ id[i], row[i], domain ? part[d] : 0, d };
		if (row[i] >= s->part[p->part].rows)
			return df_fail(err, DF_ELINEAGE, "%s: sample %llu is row %llu of '%s', which has %llu",
			    s->o.rows, (unsigned long long)id[i], (unsigned long long)row[i],
			    df_dataset_name(s->part[p->part].ds), (unsigned long long)s->part[p->part].rows);
	}
	return DF_OK;
}

static int
read_rows(struct df_embed_source *s, struct df_err *err)
{
	static const enum df_col cols[] = { DF_COL_ID, DF_COL_DOMAIN, DF_COL_SOURCE_ROW };
	struct df_batch b = DF_BATCH_INIT;
	struct df_set *set = NULL;
	uint16_t *part = NULL;
	const char *packing;
	uint64_t n;
	int rc;

	DF_TRY(df_set_open1(&set, DF_KIND_TOKENS, "rows", s->o.rows, err));
	packing = df_meta_param(df_set_meta(set), "packing");
	if (df_set_is_stream(set) || !df_set_has(set, DF_COL_SOURCE_ROW) || (packing && strcmp(packing, "true") == 0)) {
		rc = df_fail(err, DF_EUNSUPPORTED, "%s does not say which row each of its samples was", s->o.rows);
		goto out;
	}
	DF_TRY(df_meta_copy(&s->rows_meta, df_set_meta(set), err));
	DF_TRY(match_domains(s, &s->rows_meta, &part, err));
	if (!df_set_has(set, DF_COL_DOMAIN) && s->n_parts > 1) {
		rc = df_fail(err, DF_EUNSUPPORTED, "%s does not say which dataset its samples come from", s->o.rows);
		goto out;
	}
	s->n_rows = df_set_rows(set);
	DF_TRY(df_alloc(&s->pick, s->n_rows, sizeof(*s->pick), "rows", err));
	df_set_only(set, cols, 3);
	do {
		DF_TRY(df_set_next(set, df_set_scan_rows(set), &b, &n, err));
		DF_TRY(pick_rows(s, &b, part, s->rows_meta.n_domains, err));
	} while (n > 0);
out:
	df_batch_release(&b);
	df_set_close(set);
	free(part);
	return rc;
}

/* Row i of the texts. */
static struct pick
row_at(const struct df_embed_source *s, uint64_t i)
{
	uint16_t k = 0;

	if (s->pick)
		return s->pick[i];
	while (i - s->part[k].first >= s->part[k].rows)
		k++;
	return (struct pick){ i, i - s->part[k].first, k, k };
}

/* Cut all texts into blocks, by the lengths of their records. */
static int
cut_texts(struct df_embed_source *s, struct df_err *err)
{
	const struct part *last = &s->part[s->n_parts - 1];
	uint64_t *lengths = NULL;
	int rc = DF_OK;

	s->n_rows = last->first + last->rows;
	if (s->o.rows)
		DF_TRY(read_rows(s, err));
	DF_TRY(df_alloc(&lengths, s->n_rows, sizeof(*lengths), "rows", err));
	for (uint64_t i = 0; i < s->n_rows; i++) {
		const struct pick p = row_at(s, i);

		lengths[i] = df_dataset_record(s->part[p.part].ds, p.row).n;
	}
	DF_TRY(df_blocks_cut(&s->blocks, lengths, s->n_rows, MAX_BYTES, MAX_ROWS, err));
out:
	free(lengths);
	return rc;
}

static int
open_tokens(struct df_embed_source *s, struct df_err *err)
{
	uint64_t *lengths = NULL;
	int rc;

	DF_TRY(df_set_open(&s->tokens, DF_KIND_TOKENS, "tokens", s->o.paths, s->o.n_paths, err));
	DF_TRY(df_strdup(&s->name, df_set_name(s->tokens), err));
	if (df_set_is_stream(s->tokens))
		goto out;
	DF_TRY(df_set_lengths(s->tokens, DF_COL_IDS, &lengths, err));
	DF_TRY(df_blocks_cut(&s->blocks, lengths, df_set_rows(s->tokens), MAX_TOKENS, MAX_ROWS, err));
out:
	free(lengths);
	return rc;
}

int
df_embed_source_open(struct df_embed_source **out, const struct df_embed_source_opts *o, struct df_err *err)
{
	struct df_embed_source *s = NULL;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "a source", err));
	s->o = *o;
	s->rows_meta = (struct df_meta)DF_META_INIT;
	if (!o->dataset && !is_text_file(o->paths[0])) {
		DF_TRY(open_tokens(s, err));
	} else {
		DF_TRY(o->dataset ? open_datasets(s, err) : open_files(s, err));
		if (s->n_parts > 1)
			DF_TRY(df_asprintf(
			    &s->name, err, "%s and %zu more", df_dataset_name(s->part[0].ds), s->n_parts - 1));
		else
			DF_TRY(df_strdup(&s->name, df_dataset_name(s->part[0].ds), err));
		DF_TRY(cut_texts(s, err));
	}
	s->end = s->blocks.n;
	*out = s;
	s = NULL;
out:
	df_embed_source_close(s);
	return rc;
}

void
df_embed_source_close(struct df_embed_source *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_parts; i++)
		df_dataset_free(s->part[i].ds);
	df_set_close(s->tokens);
	df_blocks_release(&s->blocks);
	df_meta_release(&s->rows_meta);
	free(s->pick);
	free(s->part);
	free(s->name);
	free(s);
}

/* ---- metadata ------------------------------------------------------------------ */

bool
df_embed_source_is_text(const struct df_embed_source *s)
{
	return !s->tokens;
}

bool
df_embed_source_is_stream(const struct df_embed_source *s)
{
	return s->tokens && df_set_is_stream(s->tokens);
}

bool
df_embed_source_has_domain(const struct df_embed_source *s)
{
	return !s->tokens || df_set_has(s->tokens, DF_COL_DOMAIN);
}

const char *
df_embed_source_name(const struct df_embed_source *s)
{
	return s->name;
}

uint64_t
df_embed_source_blocks(const struct df_embed_source *s)
{
	return s->blocks.n;
}

uint64_t
df_embed_source_rows(const struct df_embed_source *s, uint64_t begin, uint64_t end)
{
	return s->blocks.n ? s->blocks.first[end] - s->blocks.first[begin] : 0;
}

int
df_embed_source_meta(const struct df_embed_source *s, struct df_meta *m, struct df_err *err)
{
	static const char *const forms[] = { DF_ROWTEXT_FORMS };
	int rc = DF_OK;

	if (s->tokens) {
		const struct df_meta *t = df_set_meta(s->tokens);

		if (t->id[0])
			DF_TRY(df_meta_add_input(m, "tokens", df_kind_name(t->kind), t->id, err));
		DF_TRY(df_meta_copy_input(m, t, DF_ROLE_ROWS_OF, err));
		for (size_t i = 0; i < t->n_domains; i++)
			DF_TRY(df_meta_add_domain(m, t->domains[i], NULL, err));
		goto out;
	}
	DF_TRY(df_meta_set_str(m, "text", forms[s->o.form], err));
	if (s->o.form == DF_ROWTEXT_COLUMN)
		DF_TRY(df_meta_set_str(m, "column", s->o.column, err));
	for (size_t i = 0; i < s->n_parts; i++) {
		const struct df_dataset *ds = s->part[i].ds;

		DF_TRY(df_meta_add_input(m, df_dataset_name(ds), "source", df_dataset_id(ds), err));
		if (!s->pick)
			DF_TRY(df_meta_add_domain(m, df_dataset_name(ds), NULL, err));
	}
	if (s->pick && s->rows_meta.id[0])
		DF_TRY(df_meta_add_input(m, "tokens", "tokens", s->rows_meta.id, err));
	for (size_t i = 0; s->pick && i < s->rows_meta.n_domains; i++)
		DF_TRY(df_meta_add_domain(m, s->rows_meta.domains[i], NULL, err));
out:
	return rc;
}

int
df_embed_source_check(const struct df_embed_source *s, const struct df_embedder *e, struct df_err *err)
{
	return s->tokens ? df_model_check_tokens(df_embedder_model(e), df_set_meta(s->tokens), s->name, err) : DF_OK;
}

/* ---- blocks ---------------------------------------------------------------------------- */

void
df_embed_block_release(struct df_embed_block *b)
{
	df_batch_release(&b->in);
	df_batch_release(&b->out);
	df_rowtext_release(&b->text);
	df_ids_release(&b->ids);
	free(b->offsets);
	b->offsets = NULL;
	b->cap_offsets = 0;
}

void
df_embed_source_seek(struct df_embed_source *s, uint64_t begin, uint64_t end)
{
	s->next = begin;
	s->end = end;
}

int
df_embed_next(struct df_embed_source *s, struct df_embed_block *b, struct df_err *err)
{
	const uint64_t *first;
	int rc;

	if (df_embed_source_is_stream(s)) {
		DF_TRY(df_set_next(s->tokens, UINT64_MAX, &b->in, &b->n, err));
		b->first = b->in.first;
		return b->n > 0;
	}
	if (s->next == s->end)
		return 0;
	first = s->blocks.first + s->next++;
	b->first = first[0];
	b->n = first[1] - first[0];
	if (s->tokens)
		DF_TRY(df_set_read(s->tokens, b->first, b->n, &b->in, err));
	return 1;
out:
	return rc;
}

/* Tokens of the block's texts: b->ids over b->offsets; ids and domains of the rows. */
static int
encode_texts(const struct df_embed_source *s, struct df_embed_lane *l, struct df_embed_block *b, uint64_t *id,
    uint16_t *domain, struct df_err *err)
{
	bool cut;
	int rc;

	DF_TRY(df_grow(&b->offsets, &b->cap_offsets, b->n + 1, sizeof(*b->offsets), "rows", err));
	b->ids.n = 0;
	b->offsets[0] = 0;
	for (uint64_t i = 0; i < b->n; i++) {
		const struct pick p = row_at(s, b->first + i);
		const struct df_dataset *ds = s->part[p.part].ds;
		const struct df_record rec = df_dataset_record(ds, p.row);

		DF_TRY(df_rowtext_get(&b->text, ds, &rec, s->o.form, s->o.column, err));
		if ((rc = df_embed_encode(l, b->text.text, b->text.n, &b->ids, &cut, err)) != 0) {
			df_dataset_place(ds, &rec, err);
			goto out;
		}
		b->flaws.n_cut += cut;
		b->offsets[i + 1] = b->ids.n;
		id[i] = p.id;
		domain[i] = p.domain;
	}
out:
	return rc;
}

int
df_embed_block(const struct df_embed_source *s, struct df_embed_lane *l, struct df_embed_block *b, struct df_err *err)
{
	struct df_tokens t = { .n = b->n };
	uint64_t *id = NULL;
	uint16_t *domain = NULL;
	float *vectors = NULL;
	size_t numel;
	int rc;

	b->flaws = (struct df_embed_flaws){ 0 };
	df_batch_clear(&b->out);
	b->out.n = b->n;
	b->out.first = b->first;
	if (s->tokens) {
		b->out.col[DF_COL_ID] = b->in.col[DF_COL_ID];
		b->out.col[DF_COL_DOMAIN] = b->in.col[DF_COL_DOMAIN];
		t.offsets = b->in.col[DF_COL_IDS].offsets;
		t.ids = b->in.col[DF_COL_IDS].data;
		t.position = b->in.col[DF_COL_POSITION].data;
		t.sequence = b->in.col[DF_COL_SEQUENCE].data;
	} else {
		DF_TRY(df_arena_alloc(&b->out.arena, &id, b->n, sizeof(*id), "ids", err));
		DF_TRY(df_arena_alloc(&b->out.arena, &domain, b->n, sizeof(*domain), "domains", err));
		DF_TRY(encode_texts(s, l, b, id, domain, err));
		b->out.col[DF_COL_ID] = (struct df_column_data){ .data = id, .width = 1 };
		b->out.col[DF_COL_DOMAIN] = (struct df_column_data){ .data = domain, .width = 1 };
		t.offsets = b->offsets;
		t.ids = b->ids.v;
	}
	DF_TRY(df_size_mul(b->n, df_embed_lane_width(l), &numel, "vectors", err));
	DF_TRY(df_arena_alloc(&b->out.arena, &vectors, numel, sizeof(*vectors), "vectors", err));
	DF_TRY(df_embed_rows(l, &t, b->out.col[DF_COL_ID].data, vectors, &b->flaws, err));
	b->out.col[DF_COL_EMBEDDING] = (struct df_column_data){ .data = vectors, .width = df_embed_lane_width(l) };
out:
	if (rc != DF_OK && s->tokens)
		df_err_prefix(err, "%s: rows %llu..%llu: ", s->name, (unsigned long long)b->first,
		    (unsigned long long)(b->first + b->n - 1));
	return rc;
}

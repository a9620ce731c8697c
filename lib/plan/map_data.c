/*
 * map_data.c - datasets to tokens: keys that are options of df-pack, and what can be known of the rows beforehand.
 */
#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "base/opt.h"
#include "chat/chat.h"
#include "data/corpus.h"
#include "plan/plan_priv.h"
#include "shard/set.h"

#define NOT_KNOWN "without update_times or train_step the windows depend on the number of rows, which packing decides"

const char *
df_map_packed(const struct df_map *m, const char *key)
{
	const struct df_config_map *p = &m->c->packed;

	if (strcmp(key, "dataset_dir") == 0 && m->o->data)
		return m->o->data;
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->v[i].key, key) == 0)
			return *p->v[i].value ? p->v[i].value : NULL;
	}
	return NULL;
}

static bool
is_true(const struct df_map *m, const char *key)
{
	const char *value = df_map_packed(m, key);

	return value && strcmp(value, "true") == 0;
}

static bool
is_false(const struct df_map *m, const char *key)
{
	const char *value = df_map_packed(m, key);

	return value && strcmp(value, "false") == 0;
}

/* Are several documents or examples in a row? */
static bool
packs(const struct df_map *m)
{
	if (m->c->stage == DF_CONFIG_PT)
		return !is_false(m, "packing");
	return is_true(m, "packing") || is_true(m, "neat_packing");
}

/* ---- the command ------------------------------------------------------------------ */

/* Is the key one that df-pack looks at here, though it is given? */
static bool
applies(const struct df_map *m, const struct df_key *k)
{
	if (!(k->owners & DF_OWNER_PACK) || df_key_status(k, DF_OWNER_PLAN) != DF_KEY_CHECKED)
		return false;
	/* LLaMA-Factory's number of processes, and of rows that they take at once: they shape packs only, if at all */
	if (strncmp(k->name, "preprocessing_", 14) == 0)
		return false;
	return strcmp(k->name, "val_size") != 0 || strcmp(df_map_packed(m, "val_size"), "0") != 0;
}

static void
put_options(const struct df_map *m, struct df_plan_node *n)
{
	for (const struct df_key *k = df_keys(); k->name; k++) {
		const char *value = df_map_packed(m, k->name);

		if (strcmp(k->name, "eval_dataset") == 0)
			value = m->held_sets;
		if (!value || !applies(m, k))
			continue;
		if (k->is_switch)
			df_plan_word(m->p, n, "--%s%s", strcmp(value, "true") == 0 ? "" : "no-", k->option);
		else
			df_plan_words(m->p, n, df_plan_text(m->p, "--%s", k->option), value, NULL);
	}
	if (m->c->stage == DF_CONFIG_PT)
		df_plan_words(m->p, n, "--stage", "pt", NULL);
	if (df_config_given(m->c, "seed"))
		df_plan_words(m->p, n, "--seed", df_plan_text(m->p, "%" PRId64, m->c->seed), NULL);
}

/* Rows of LLaMA-Factory's workers have no effect unless packs are made of them; then losing none is better. */
static void
note_workers(const struct df_map *m)
{
	if (packs(m) && (df_map_packed(m, "preprocessing_num_workers") || df_map_packed(m, "preprocessing_batch_size")))
		df_plan_note(m->p,
		    "preprocessing_num_workers, preprocessing_batch_size: rows are packed without loss, as df-pack does "
		    "it; its --pack-batch and --pack-shards cut them as LLaMA-Factory does");
}

static int
set_tokenizer(struct df_map *m, struct df_err *err)
{
	static const char *const files[] = { "tokenizer.json", "vocab.json", "vocab.txt" };
	bool there = false;

	m->tokenizer = m->o->tokenizer ? m->o->tokenizer : m->model;
	for (size_t i = 0; i < 3 && !m->o->tokenizer && !there; i++) {
		if (df_file_probe_in(m->model, files[i], &there, NULL) != DF_OK)
			there = false;
	}
	if (m->o->tokenizer || there)
		return DF_OK;
	return df_config_fail(
	    m->c, "model_name_or_path", err, "%s has no tokenizer.json: give --tokenizer (bytes, or a path)", m->model);
}

/* ---- what is there ----------------------------------------------------------------- */

/* A number that is an option of df-pack. */
static int
number(const struct df_map *m, const char *key, double least, double *out, struct df_err *err)
{
	const char *value = df_map_packed(m, key);

	if (!value)
		return DF_OK;
	if (df_parse_double(value, out, NULL) != DF_OK || !(*out >= least && *out <= 1e15))
		return df_config_fail(m->c, key, err, "'%.60s' is not a number of at least %g", value, least);
	return DF_OK;
}

struct look {
	struct df_corpus corpus;
	struct df_chat chat;
	double cutoff_len, max_samples;
};

static int
open_all(const struct df_map *m, struct look *l, struct df_err *err)
{
	const char *dir = df_map_packed(m, "dataset_dir");
	struct df_chat_opts how = { .tokenizer = m->tokenizer,
		.template = df_map_packed(m, "template"),
		.need_template = true,
		.encode = { .stage = m->c->stage == DF_CONFIG_PT ? DF_STAGE_PT : DF_STAGE_SFT } };
	int rc;

	l->cutoff_len = 2048;
	DF_TRY(number(m, "cutoff_len", 2, &l->cutoff_len, err));
	DF_TRY(number(m, "max_samples", 0, &l->max_samples, err));
	DF_TRY(number(m, "val_size", 0, &l->corpus.val_size, err));
	how.encode.cutoff_len = (uint32_t)l->cutoff_len;
	how.encode.default_system = df_map_packed(m, "default_system");
	how.encode.tool_format = df_map_packed(m, "tool_format");
	how.encode.train_on_prompt = is_true(m, "train_on_prompt");
	how.encode.mask_history = is_true(m, "mask_history");
	l->corpus.seed = (uint64_t)m->c->seed;
	l->corpus.n_threads = 0;
	if (l->max_samples > 0)
		l->corpus.max_samples = (uint64_t)l->max_samples;
	if ((rc = df_corpus_open(&l->corpus, dir ? dir : "data", df_map_packed(m, "dataset"), m->held_sets,
		 how.encode.stage, err)) != DF_OK)
		df_err_prefix(err, "dataset: ");
	DF_TRY(rc);
	rc = df_chat_open(&l->chat, &how, err);
out:
	return rc;
}

/* The rows of tokens that this very command made, if they are there. */
static int
rows_there(struct df_map *m, uint64_t key, uint64_t *rows, struct df_err *err)
{
	const char *stamp = df_map_file(m, ".plan/pack.%016" PRIx64, key);
	struct df_set *set = NULL;
	int rc;

	if (!df_file_exists(stamp) || !df_file_exists(m->pool))
		return DF_OK;
	if ((rc = df_set_open1(&set, DF_KIND_TOKENS, "training tokens", m->pool, err)) == DF_OK)
		*rows = df_set_rows(set);
	df_set_close(set);
	return rc;
}

/* Do the events of the run depend on the number of rows? */
static bool
needs_rows(const struct df_config *c)
{
	return c->train_type == DF_TRAIN_SELECT && c->update_times <= 0 && c->train_step == 0;
}

/* As many rows as df-pack will keep, without its work: not where several are packed into one, or are interleaved. */
static int
count(struct df_map *m, struct look *l, struct df_err *err)
{
	const char *mix = df_map_packed(m, "mix_strategy");
	struct df_corpus *c = &l->corpus;
	int rc = DF_OK;

	m->rows = m->o->rows;
	DF_TRY(m->rows ? DF_OK : rows_there(m, df_plan_find(m->p, "pack")->key, &m->rows, err));
	for (size_t i = 0; i < c->n_parts; i++) {
		uint64_t n;

		if (c->part[i].eval)
			continue;
		DF_TRY(df_dataset_index(c->part[i].ds, &n, err));
		m->records += n < c->max_samples ? n : c->max_samples;
	}
	if (m->rows || !needs_rows(m->c) || packs(m) || (mix && strcmp(mix, "concat") != 0))
		goto out;
	DF_TRY(df_corpus_survey(c, l->chat.enc, err));
	for (size_t i = 0; i < c->n_parts; i++) {
		if (!c->part[i].eval)
			m->rows += c->part[i].n_kept - c->part[i].n_held;
	}
out:
	return rc;
}

/* What the command reads, by digests. */
static const char *
contents(const struct df_map *m, const struct look *l)
{
	const char *text = df_tokenizer_id(l->chat.tok);

	for (size_t i = 0; i < l->corpus.n_parts; i++)
		text = df_plan_text(m->p, "%s %s", text, df_dataset_id(l->corpus.part[i].ds));
	return text;
}

/* The datasets that are held out: eval_dataset, and what a mixer measures. */
static const char *
held_out_sets(const struct df_map *m)
{
	const char *eval = df_map_packed(m, "eval_dataset"), *more = m->c->mixer_eval_dataset;

	if (!eval || !more)
		return eval ? eval : more;
	return strcmp(eval, more) == 0 ? eval : df_plan_text(m->p, "%s,%s", eval, more);
}

/* ---- all ---------------------------------------------------------------------------- */

int
df_map_tokens(struct df_map *m, struct df_err *err)
{
	struct df_plan *p = m->p;
	struct df_plan_node n = { .name = "pack", .about = "tokens of the datasets" };
	struct look l = { .corpus = DF_CORPUS_INIT };
	const char *val = df_map_packed(m, "val_size");
	const bool held = m->c->mixer_eval_dataset || df_map_packed(m, "eval_dataset") ||
	    (val && strcmp(val, "0") != 0 && strcmp(val, "0.0") != 0);
	int rc = DF_OK;

	if (!df_map_packed(m, "dataset"))
		return df_config_fail(m->c, "dataset", err, "it is required: the datasets to train on");
	m->held_sets = held_out_sets(m);
	DF_TRY(set_tokenizer(m, err));
	DF_TRY(open_all(m, &l, err));
	m->pool = df_map_file(m, "pool.h5");
	df_plan_word(p, &n, "df-pack");
	put_options(m, &n);
	note_workers(m);
	df_plan_words(p, &n, "--tokenizer", m->tokenizer, NULL);
	df_plan_out(p, &n, m->pool);
	if (held) {
		m->held = df_map_file(m, "eval.h5");
		df_plan_words(p, &n, "--holdout-output", m->held, NULL);
		df_plan_out(p, &n, m->held);
	}
	if (m->wants_alone) {
		m->alone = df_map_file(m, "alone.h5");
		df_plan_words(p, &n, "--no-prompt", m->alone, NULL);
		df_plan_out(p, &n, m->alone);
	}
	df_plan_words(p, &n, "-o", m->pool, NULL);
	DF_TRY(df_plan_add(p, &n, contents(m, &l), err));
	rc = count(m, &l, err);
out:
	df_chat_close(&l.chat);
	df_corpus_close(&l.corpus);
	return rc;
}

/* How many rows fit is an error that can be found now: records are at least as many as rows. */
static int
check_windows(const struct df_map *m, struct df_err *err)
{
	const struct df_events *e = &m->p->events;
	const uint64_t rows = m->rows ? m->rows : m->records;
	const uint64_t steps = e->update < e->max_steps ? e->update : e->max_steps;

	if (m->c->train_type != DF_TRAIN_SELECT || packs(m) || rows == 0 || steps * e->per_step <= rows || m->may_cycle)
		return DF_OK;
	return df_config_fail(m->c, "update_step", err,
	    "a window of %" PRIu64 " steps has %" PRIu64 " rows, and there are only %" PRIu64 " to choose from", steps,
	    steps * e->per_step, rows);
}

int
df_map_events(struct df_map *m, struct df_err *err)
{
	const struct df_config *c = m->c;
	const uint64_t per_step = (uint64_t)c->per_device_train_batch_size * (uint64_t)c->gradient_accumulation_steps;
	const uint64_t rows = m->rows ? m->rows : m->records, per_epoch = (rows + per_step - 1) / per_step;
	int rc = DF_OK;

	if (needs_rows(c) && !m->rows)
		return df_config_fail(c, "update_times", err,
		    NOT_KNOWN ": give --rows N, or make %s first (the same command with --rows 1 | make -f - %s)",
		    m->pool, m->pool);
	if (c->train_type == DF_TRAIN_STATIC && c->max_steps <= 0 && rows == 0)
		return DF_OK;
	DF_TRY(df_events_init(&m->p->events, c, rows, per_step, per_epoch ? per_epoch : 1, err));
	rc = check_windows(m, err);
out:
	return rc;
}

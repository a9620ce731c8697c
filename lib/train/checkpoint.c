/*
 * checkpoint.c - saving, finding and removing checkpoints.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/opt.h"
#include "train/checkpoint.h"
#include "train/outdir.h"

#define DELETED ".df-del" /* suffix of a checkpoint that is being removed: .checkpoint-120.df-del */

/* ---- df_state.json -------------------------------------------------------- */

static void
put_best(struct df_buf *b, const struct df_best *x)
{
	const struct df_plateau *p = &x->plateau;

	df_buf_puts(b, "  \"best\": {\"metric\": ");
	df_buf_json_double(b, x->known ? x->metric : NAN);
	df_buf_printf(b, ", \"step\": %llu, \"checkpoint\": %llu, \"patience\": %llu, \"stopped\": %s",
	    (unsigned long long)x->step, (unsigned long long)x->saved, (unsigned long long)x->patience,
	    x->stopped ? "true" : "false");
	df_buf_puts(b, ", \"lr_scale\": ");
	df_buf_json_double(b, p->scale);
	df_buf_puts(b, ", \"lr_metric\": ");
	df_buf_json_double(b, p->known ? p->best : NAN);
	df_buf_printf(b, ", \"lr_patience\": %llu, \"lr_cooldown\": %llu},\n", (unsigned long long)p->n_bad,
	    (unsigned long long)p->cooldown);
}

/* A checkpoint without it was made before evaluations decided anything. */
static int
get_best(const struct df_json_value *v, struct df_best *x, struct df_err *err)
{
	struct {
		const char *key;
		uint64_t *to;
	} counts[] = { { "step", &x->step }, { "checkpoint", &x->saved }, { "patience", &x->patience },
		{ "lr_patience", &x->plateau.n_bad }, { "lr_cooldown", &x->plateau.cooldown } };
	int64_t n;
	int rc = DF_OK;

	x->known = df_json_number(df_json_get(v, "metric"), &x->metric);
	x->plateau.known = df_json_number(df_json_get(v, "lr_metric"), &x->plateau.best);
	DF_TRY(df_json_member_bool(v, "stopped", false, &x->stopped, err));
	DF_TRY(df_json_member_double(v, "lr_scale", 1, &x->plateau.scale, err));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		DF_TRY(df_json_member_int(v, counts[i].key, 0, 0, INT64_MAX, &n, err));
		*counts[i].to = (uint64_t)n;
	}
out:
	if (rc != DF_OK)
		df_err_prefix(err, "best: ");
	return rc;
}

/* Written only if there is a branch: other checkpoints keep their bytes. */
static void
put_branch(struct df_buf *b, const struct df_train_branch *x)
{
	if (x->id[0])
		df_buf_printf(b,
		    "  \"branch\": {\"number\": %llu, \"parent\": %llu, \"step\": %llu, \"checkpoint\": \"%s\"},\n",
		    (unsigned long long)x->number, (unsigned long long)x->parent, (unsigned long long)x->step, x->id);
}

int
df_train_state_save(const struct df_train_state *s, const char *dir, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	char *path = NULL;
	int rc = DF_OK;

	df_buf_printf(&b, "{\n  \"step\": %llu,\n  \"tokens_seen\": %llu,\n  \"samples_without_targets\": %llu,\n",
	    (unsigned long long)s->step, (unsigned long long)s->tokens_seen, (unsigned long long)s->n_skipped);
	df_buf_puts(&b, "  \"loss_sum\": ");
	df_buf_json_double(&b, s->loss_sum);
	df_buf_printf(&b, ",\n  \"loss_steps\": %llu,\n  \"total_loss\": ", (unsigned long long)s->loss_steps);
	df_buf_json_double(&b, s->total_loss);
	df_buf_printf(&b, ",\n  \"total_steps\": %llu,\n  \"eval_pending\": %s,\n  \"interim\": %s,\n",
	    (unsigned long long)s->total_steps, s->eval_pending ? "true" : "false", s->interim ? "true" : "false");
	put_best(&b, &s->best);
	put_branch(&b, &s->branch);
	df_dynamic_put(&s->dynamic, &b);
	df_buf_printf(&b, "  \"window\": %llu,\n  \"index\": \"%s\",\n  \"weights\": \"%s\",\n  \"tokens\": \"%s\",\n",
	    (unsigned long long)s->window, s->index_id, s->weights_id, s->tokens_id);
	df_buf_puts(&b, "  \"tokenizer\": ");
	if (s->tokenizer_id)
		df_buf_json_str(&b, s->tokenizer_id);
	else
		df_buf_puts(&b, "null");
	df_buf_printf(&b, ",\n  \"config\": %s\n}\n", s->config ? s->config : "{}");
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_path_join(&path, dir, DF_STATE_FILE, err));
	rc = df_file_put(path, b.data, b.len, err);
out:
	free(path);
	df_buf_release(&b);
	return rc;
}

/* The text of the value of "config" as it is in the file: the last member. */
static int
config_text(const char *text, char **out, struct df_err *err)
{
	const char *p = strstr(text, "\"config\": "), *end = strrchr(text, '}');

	*out = NULL;
	if (!p || !end)
		return DF_OK;
	p += strlen("\"config\": ");
	while (end > p && (end[-1] == '\n' || end[-1] == ' '))
		end--;
	return df_strndup(out, p, (size_t)(end - p), err);
}

static int
digest(const struct df_json_value *root, const char *key, char out[DF_DIGEST_HEX], struct df_err *err)
{
	const char *s;
	int rc;

	if ((rc = df_json_member_str(root, key, "", &s, err)) != DF_OK)
		return rc;
	if (*s && strlen(s) != DF_DIGEST_HEX - 1)
		return df_fail(err, DF_EFORMAT, "%s: not a digest", key);
	snprintf(out, DF_DIGEST_HEX, "%s", s);
	return DF_OK;
}

static int
get_branch(const struct df_json_value *v, struct df_train_branch *x, struct df_err *err)
{
	struct {
		const char *key;
		uint64_t *to;
	} counts[] = { { "number", &x->number }, { "parent", &x->parent }, { "step", &x->step } };
	int64_t n;
	int rc = DF_OK;

	if (!v)
		return DF_OK;
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		DF_TRY(df_json_member_int(v, counts[i].key, 0, 0, INT64_MAX, &n, err));
		*counts[i].to = (uint64_t)n;
	}
	rc = digest(v, "checkpoint", x->id, err);
out:
	if (rc != DF_OK)
		df_err_prefix(err, "branch: ");
	return rc;
}

int
df_train_state_load(struct df_train_state *s, const char *dir, struct df_err *err)
{
	struct {
		const char *key;
		uint64_t *to;
	} counts[] = { { "step", &s->step }, { "tokens_seen", &s->tokens_seen },
		{ "samples_without_targets", &s->n_skipped }, { "loss_steps", &s->loss_steps },
		{ "total_steps", &s->total_steps }, { "window", &s->window } };
	const struct df_json_value *root;
	struct df_json *j = NULL;
	char *path = NULL, *text = NULL;
	const char *tokenizer;
	int64_t v;
	size_t n;
	int rc = DF_OK;

	*s = (struct df_train_state)DF_TRAIN_STATE_INIT;
	DF_TRY(df_path_join(&path, dir, DF_STATE_FILE, err));
	DF_TRY(df_file_get(path, DF_STATE_MAX, &text, &n, err));
	DF_TRY(df_json_parse(&j, text, n, path, err));
	root = df_json_root(j);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		if ((rc = df_json_member_int(root, counts[i].key, 0, 0, INT64_MAX, &v, err)) != DF_OK)
			goto bad;
		*counts[i].to = (uint64_t)v;
	}
	if ((rc = df_json_member_double(root, "loss_sum", 0, &s->loss_sum, err)) != DF_OK ||
	    (rc = df_json_member_double(root, "total_loss", 0, &s->total_loss, err)) != DF_OK ||
	    (rc = df_json_member_bool(root, "eval_pending", false, &s->eval_pending, err)) != DF_OK ||
	    (rc = df_json_member_bool(root, "interim", false, &s->interim, err)) != DF_OK ||
	    (df_json_get(root, "best") && (rc = get_best(df_json_get(root, "best"), &s->best, err)) != DF_OK) ||
	    (rc = get_branch(df_json_get(root, "branch"), &s->branch, err)) != DF_OK ||
	    (rc = df_dynamic_get(&s->dynamic, df_json_get(root, "dynamic"), err)) != DF_OK ||
	    (rc = digest(root, "index", s->index_id, err)) != DF_OK ||
	    (rc = digest(root, "weights", s->weights_id, err)) != DF_OK ||
	    (rc = digest(root, "tokens", s->tokens_id, err)) != DF_OK ||
	    (rc = df_json_member_str(root, "tokenizer", NULL, &tokenizer, err)) != DF_OK)
		goto bad;
	if (tokenizer)
		DF_TRY(df_strdup(&s->tokenizer_id, tokenizer, err));
	DF_TRY(config_text(text, &s->config, err));
	goto out;
bad:
	df_err_prefix(err, "%s: ", path);
out:
	if (rc != DF_OK)
		df_train_state_release(s);
	df_json_free(j);
	free(path);
	free(text);
	return rc;
}

void
df_train_state_release(struct df_train_state *s)
{
	free(s->tokenizer_id);
	free(s->config);
	df_dynamic_release(&s->dynamic);
	*s = (struct df_train_state)DF_TRAIN_STATE_INIT;
}

bool
df_train_state_passed(const struct df_train_state *s, const struct df_train_branch *b, uint64_t step)
{
	return b->number == s->branch.number || (step <= s->branch.step && b->number <= s->branch.parent);
}

/* ---- the directory -------------------------------------------------------- */

/*
 * A companion (base/file.h) of a file that a run writes, left by a kill.  Only one run at a time uses
 * the directory, so no other process owns it.
 */
static bool
is_leftover(const char *name)
{
	static const char *const ends[] = { ".df-tmp", ".df-lock", DELETED };
	static const char *const ours[] = { DF_CHECKPOINT_PREFIX, "trainer_", "train_results.", "all_results.",
		"df_state.", "mixture_log.", "weight_log.", "domain_weights.", "model.", "config.", "adapter_",
		"tokenizer" };
	size_t n = strlen(name);
	bool mine = false, end = false;

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		mine = mine || (name[0] == '.' && strncmp(name + 1, ours[i], strlen(ours[i])) == 0);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		end = end || (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0);
	return mine && end;
}

int
df_checkpoint_path(char **path, const char *output_dir, uint64_t step, struct df_err *err)
{
	char name[64];

	snprintf(name, sizeof(name), DF_CHECKPOINT_PREFIX "%llu", (unsigned long long)step);
	return df_path_join(path, output_dir, name, err);
}

/* A directory checkpoint-STEP. */
struct entry {
	uint64_t step, branch;
	bool interim; /* as in df_train_state */
};

/* Compare by the order in which they were saved. */
static int
by_age(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->branch != y->branch)
		return x->branch < y->branch ? -1 : 1;
	return x->step < y->step ? -1 : x->step > y->step;
}

static int
look_at(struct entry *e, const char *output_dir, uint64_t step, struct df_err *err)
{
	struct df_train_state s = DF_TRAIN_STATE_INIT;
	char *path = NULL;
	int rc;

	if ((rc = df_checkpoint_path(&path, output_dir, step, err)) != DF_OK)
		return rc;
	*e = (struct entry){ .step = step };
	if (df_train_state_load(&s, path, NULL) == DF_OK) {
		e->branch = s.branch.number;
		e->interim = s.interim;
	}
	df_train_state_release(&s);
	free(path);
	return DF_OK;
}

/* All checkpoints, the oldest first (free() it); `tidy` removes leftovers. */
static int
list(const char *output_dir, bool tidy, struct entry **entries, size_t *n, struct df_err *err)
{
	size_t cap = 0;
	struct dirent *e;
	char *path = NULL;
	DIR *d;
	int rc = DF_OK;

	*entries = NULL;
	*n = 0;
	if (!(d = opendir(output_dir)))
		return errno == ENOENT ? DF_OK : df_fail(err, errno == EIO ? DF_EIO : DF_ECREATE, "%s:", output_dir);
	while ((e = readdir(d))) {
		uint64_t step;

		if (tidy && is_leftover(e->d_name)) {
			DF_TRY(df_path_join(&path, output_dir, e->d_name, err));
			DF_TRY(df_rmtree(path, err));
			free(path);
			path = NULL;
		}
		if (!df_checkpoint_step(e->d_name, &step))
			continue;
		DF_TRY(df_grow(entries, &cap, *n + 1, sizeof(**entries), "checkpoints", err));
		DF_TRY(look_at(&(*entries)[*n], output_dir, step, err));
		(*n)++;
	}
	if (*n > 0)
		qsort(*entries, *n, sizeof(**entries), by_age);
out:
	closedir(d);
	free(path);
	if (rc != DF_OK) {
		free(*entries);
		*entries = NULL;
		*n = 0;
	}
	return rc;
}

int
df_checkpoint_is(const char *dir, bool *yes, struct df_err *err)
{
	bool state, optimizer = false;
	int rc;

	if ((rc = df_file_probe_in(dir, DF_STATE_FILE, &state, err)) == DF_OK)
		rc = df_file_probe_in(dir, "optimizer.safetensors", &optimizer, err);
	*yes = rc == DF_OK && state && optimizer;
	return rc;
}

int
df_checkpoint_id(const char *dir, char id[DF_DIGEST_HEX], struct df_err *err)
{
	char *path = NULL, *text = NULL;
	size_t n;
	int rc = DF_OK;

	DF_TRY(df_path_join(&path, dir, DF_STATE_FILE, err));
	DF_TRY(df_file_get(path, DF_STATE_MAX, &text, &n, err));
	df_digest_hex(df_hash_bytes(text, n, 0), id);
out:
	free(path);
	free(text);
	return rc;
}

int
df_checkpoint_find(const char *output_dir, char **path, struct df_err *err)
{
	struct entry *e = NULL;
	size_t n;
	bool yes;
	int rc = DF_OK;

	*path = NULL;
	DF_TRY(list(output_dir, false, &e, &n, err));
	while (n-- > 0) {
		DF_TRY(df_checkpoint_path(path, output_dir, e[n].step, err));
		DF_TRY(df_checkpoint_is(*path, &yes, err));
		if (yes)
			break;
		free(*path);
		*path = NULL;
	}
out:
	free(e);
	if (rc != DF_OK) {
		free(*path);
		*path = NULL;
	}
	return rc;
}

int
df_checkpoint_count(const char *output_dir, uint64_t step, struct df_checkpoint_census *c, struct df_err *err)
{
	struct entry *e = NULL;
	char *path = NULL, *weights = NULL;
	size_t n;
	int rc = DF_OK;

	*c = (struct df_checkpoint_census){ 0 };
	DF_TRY(list(output_dir, false, &e, &n, err));
	for (size_t i = 0; i < n; i++) {
		bool state, whole;

		DF_TRY(df_checkpoint_path(&path, output_dir, e[i].step, err));
		DF_TRY(df_file_probe_in(path, DF_STATE_FILE, &state, err));
		DF_TRY(df_checkpoint_is(path, &whole, err));
		if (state) {
			c->n++;
			c->branch = e[i].branch > c->branch ? e[i].branch : c->branch;
			c->n_later += e[i].step > step;
			c->last = e[i].step > c->last ? e[i].step : c->last;
			if (whole && e[i].step <= step && e[i].step > c->before)
				c->before = e[i].step;
		} else if (!c->foreign) {
			DF_TRY(df_outdir_weights(path, &weights, err));
			if (weights)
				DF_TRY(df_strdup(&c->foreign, path, err));
		}
		free(weights);
		free(path);
		path = weights = NULL;
	}
out:
	free(path);
	free(e);
	return rc;
}

int
df_checkpoint_save(const struct df_checkpoint *c, const char *output_dir, struct df_err *err)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	char *path = NULL;
	int rc = DF_OK;

	DF_TRY(df_checkpoint_path(&path, output_dir, c->state->step, err));
	DF_TRY(df_atomic_mkdir(&a, path, err));
	DF_TRY(df_model_save(c->model, a.tmp, err));
	if (c->stepper)
		DF_TRY(df_stepper_save(c->stepper, a.tmp, err));
	if (c->tokenizer)
		DF_TRY(df_tokenizer_save(c->tokenizer, a.tmp, err));
	DF_TRY(df_trainlog_write_state(c->log, c->summary, a.tmp, err));
	DF_TRY(df_train_state_save(c->state, a.tmp, err));
	rc = df_atomic_commit(&a, err);
out:
	df_atomic_discard(&a);
	free(path);
	return rc;
}

/* Rename it at once, then remove it. */
static int
remove_dir(const char *output_dir, uint64_t step, struct df_err *err)
{
	char *path = NULL, *gone = NULL;
	int rc = DF_OK;

	DF_TRY(df_checkpoint_path(&path, output_dir, step, err));
	DF_TRY(
	    df_asprintf(&gone, err, "%s/." DF_CHECKPOINT_PREFIX "%llu" DELETED, output_dir, (unsigned long long)step));
	DF_TRY(df_rmtree(gone, err));
	if (rename(path, gone) != 0) {
		rc = df_fail(err, DF_EIO, "%s:", path);
		goto out;
	}
	rc = df_rmtree(gone, err);
out:
	free(path);
	free(gone);
	return rc;
}

int
df_checkpoint_rotate(const char *output_dir, uint64_t limit, uint64_t best, struct df_err *err)
{
	struct entry *e = NULL;
	size_t n, kept = 0;
	int rc = DF_OK;

	DF_TRY(list(output_dir, true, &e, &n, err));
	/* The best one counts as one of them, unless no place would be left for the newest. */
	for (size_t i = 0; i < n; i++)
		kept += e[i].step == best && (limit > 1 || i + 1 == n);
	for (size_t i = n; i-- > 0;) {
		if (e[i].step == best && !e[i].interim)
			continue;
		if ((e[i].interim && i + 1 < n) || (limit > 0 && kept >= limit))
			DF_TRY(remove_dir(output_dir, e[i].step, err));
		else
			kept++;
	}
out:
	free(e);
	return rc;
}

static int
remove_file(const char *dir, const char *name, struct df_err *err)
{
	char *path = NULL;
	int rc;

	if ((rc = df_path_join(&path, dir, name, err)) == DF_OK && unlink(path) != 0 && errno != ENOENT)
		rc = df_fail(err, DF_EIO, "%s:", path);
	free(path);
	return rc;
}

int
df_checkpoint_reopen(const char *output_dir, bool keep_log, struct df_err *err)
{
	static const char *const results[] = { "all_results.json", "domain_weights.h5", NULL };
	static const char *const logs[] = { "trainer_log.jsonl", "mixture_log.jsonl", "weight_log.jsonl", NULL };
	int rc = DF_OK;

	for (size_t i = 0; results[i]; i++)
		DF_TRY(remove_file(output_dir, results[i], err));
	for (size_t i = 0; logs[i] && !keep_log; i++)
		DF_TRY(remove_file(output_dir, logs[i], err));
out:
	return rc;
}

const char *const df_checkpoint_logs[] = { "trainer_log.jsonl", "mixture_log.jsonl", "weight_log.jsonl",
	"domain_weights.h5", "trainer_state.json", "train_results.json", "all_results.json", DF_STATE_FILE, NULL };

int
df_checkpoint_clear(const char *output_dir, struct df_err *err)
{
	struct entry *e = NULL;
	size_t n;
	int rc = DF_OK;

	DF_TRY(list(output_dir, true, &e, &n, err));
	while (n-- > 0)
		DF_TRY(remove_dir(output_dir, e[n].step, err));
	for (size_t i = 0; df_checkpoint_logs[i]; i++)
		DF_TRY(remove_file(output_dir, df_checkpoint_logs[i], err));
out:
	free(e);
	return rc;
}

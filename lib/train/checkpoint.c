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
#include "base/mem.h"
#include "base/opt.h"
#include "text/json.h"
#include "train/checkpoint.h"

#define STATE_FILE "df_state.json"
#define STATE_MAX  ((size_t)1 << 20)
#define PREFIX     "checkpoint-"
#define DELETED    ".df-del" /* of a checkpoint on its way out: .checkpoint-120.df-del */

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

/* A checkpoint without it is older than evaluations that decide. */
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
	df_buf_printf(&b, "  \"window\": %llu,\n  \"index\": \"%s\",\n  \"weights\": \"%s\",\n  \"tokens\": \"%s\",\n",
	    (unsigned long long)s->window, s->index_id, s->weights_id, s->tokens_id);
	df_buf_puts(&b, "  \"tokenizer\": ");
	if (s->tokenizer_id)
		df_buf_json_str(&b, s->tokenizer_id);
	else
		df_buf_puts(&b, "null");
	df_buf_printf(&b, ",\n  \"config\": %s\n}\n", s->config ? s->config : "{}");
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_path_join(&path, dir, STATE_FILE, err));
	rc = df_file_put(path, b.data, b.len, err);
out:
	free(path);
	df_buf_release(&b);
	return rc;
}

/* The text of the value of "config", as it stands in the file: the last member. */
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
	DF_TRY(df_path_join(&path, dir, STATE_FILE, err));
	DF_TRY(df_file_get(path, STATE_MAX, &text, &n, err));
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
	*s = (struct df_train_state)DF_TRAIN_STATE_INIT;
}

/* ---- the directory -------------------------------------------------------- */

/* "checkpoint-120" -> 120 */
static bool
parse_name(const char *name, uint64_t *step)
{
	int64_t v;

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 ||
	    df_parse_int(name + strlen(PREFIX), 0, INT64_MAX, &v, NULL) != DF_OK)
		return false;
	*step = (uint64_t)v;
	return true;
}

/* What a kill left: a companion (base/file.h) of something that a run writes.  One run at a time: nobody else's. */
static bool
is_leftover(const char *name)
{
	static const char *const ends[] = { ".df-tmp", ".df-lock", DELETED };
	static const char *const ours[] = { PREFIX, "trainer_", "train_results.", "all_results.", "df_state.", "model.",
		"config.", "adapter_", "tokenizer" };
	size_t n = strlen(name);
	bool mine = false, end = false;

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		mine = mine || (name[0] == '.' && strncmp(name + 1, ours[i], strlen(ours[i])) == 0);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		end = end || (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0);
	return mine && end;
}

static int
by_step(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The steps of all checkpoints, ascending (free() it); `tidy` removes leftovers. */
static int
list(const char *output_dir, bool tidy, uint64_t **steps, size_t *n, struct df_err *err)
{
	size_t cap = 0;
	struct dirent *e;
	char *path = NULL;
	DIR *d;
	int rc = DF_OK;

	*steps = NULL;
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
		if (!parse_name(e->d_name, &step))
			continue;
		DF_TRY(df_grow(steps, &cap, *n + 1, sizeof(**steps), "checkpoints", err));
		(*steps)[(*n)++] = step;
	}
	if (*n > 0)
		qsort(*steps, *n, sizeof(**steps), by_step);
out:
	closedir(d);
	free(path);
	if (rc != DF_OK) {
		free(*steps);
		*steps = NULL;
		*n = 0;
	}
	return rc;
}

int
df_checkpoint_path(char **path, const char *output_dir, uint64_t step, struct df_err *err)
{
	char name[64];

	snprintf(name, sizeof(name), PREFIX "%llu", (unsigned long long)step);
	return df_path_join(path, output_dir, name, err);
}

static int
has(const char *dir, const char *name, bool *yes, struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, name, err));
	DF_TRY(df_file_probe(path, yes, err));
out:
	free(path);
	return rc;
}

int
df_checkpoint_find(const char *output_dir, char **path, uint64_t *step, struct df_err *err)
{
	uint64_t *steps = NULL;
	size_t n;
	int rc = DF_OK;

	*path = NULL;
	DF_TRY(list(output_dir, false, &steps, &n, err));
	while (n-- > 0) {
		bool state, optimizer;

		DF_TRY(df_checkpoint_path(path, output_dir, steps[n], err));
		DF_TRY(has(*path, STATE_FILE, &state, err));
		DF_TRY(has(*path, "optimizer.safetensors", &optimizer, err));
		if (state && optimizer) {
			*step = steps[n];
			break;
		}
		free(*path);
		*path = NULL;
	}
out:
	free(steps);
	if (rc != DF_OK) {
		free(*path);
		*path = NULL;
	}
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

/* Out of sight at once, then gone. */
static int
remove_dir(const char *output_dir, uint64_t step, struct df_err *err)
{
	char *path = NULL, *gone = NULL;
	int rc = DF_OK;

	DF_TRY(df_checkpoint_path(&path, output_dir, step, err));
	DF_TRY(df_asprintf(&gone, err, "%s/." PREFIX "%llu" DELETED, output_dir, (unsigned long long)step));
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
	struct df_train_state s = DF_TRAIN_STATE_INIT;
	uint64_t *steps = NULL;
	char *path = NULL;
	size_t n, kept = 0;
	int rc = DF_OK;

	DF_TRY(list(output_dir, true, &steps, &n, err));
	/* The best one takes a place among them, unless the newest would have none then. */
	for (size_t i = 0; i < n; i++)
		kept += steps[i] == best && (limit > 1 || i + 1 == n);
	for (size_t i = n; i-- > 0;) {
		bool interim = false;

		DF_TRY(df_checkpoint_path(&path, output_dir, steps[i], err));
		if (df_train_state_load(&s, path, NULL) == DF_OK)
			interim = s.interim;
		df_train_state_release(&s);
		free(path);
		path = NULL;
		if (steps[i] == best && !interim)
			continue;
		if ((interim && i + 1 < n) || (limit > 0 && kept >= limit))
			DF_TRY(remove_dir(output_dir, steps[i], err));
		else
			kept++;
	}
out:
	free(path);
	free(steps);
	return rc;
}

int
df_checkpoint_clear(const char *output_dir, struct df_err *err)
{
	static const char *const files[] = { "trainer_log.jsonl", "trainer_state.json", "train_results.json",
		"all_results.json", STATE_FILE };
	uint64_t *steps = NULL;
	char *path = NULL;
	size_t n;
	int rc = DF_OK;

	DF_TRY(list(output_dir, true, &steps, &n, err));
	while (n-- > 0)
		DF_TRY(remove_dir(output_dir, steps[n], err));
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		DF_TRY(df_path_join(&path, output_dir, files[i], err));
		if (unlink(path) != 0 && errno != ENOENT) {
			rc = df_fail(err, DF_EIO, "%s:", path);
			goto out;
		}
		free(path);
		path = NULL;
	}
out:
	free(path);
	free(steps);
	return rc;
}

/*
 * start.c - where a run begins: afresh, or at a checkpoint.
 *
 * The same command is typed again after a kill, for the next window, or with
 * resume_from_checkpoint, and each time the right thing is to go on from the
 * last state that belongs to it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "text/json.h"
#include "train/run_priv.h"

/* Values of df_train_config_json: scalars, or maps of scalars. */
static bool
same_value(const struct df_json_value *x, const struct df_json_value *y)
{
	const char *xs = df_json_str(x, NULL), *ys = df_json_str(y, NULL), *key;
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	double xn, yn;

	if (df_json_number(x, &xn) && df_json_number(y, &yn))
		return xn == yn;
	if (df_json_type(x) != df_json_type(y) || df_json_size(x) != df_json_size(y))
		return false;
	while (df_json_type(x) == DF_JSON_OBJECT && (m = df_json_next(x, m, &key, &v)))
		if (!same_value(v, df_json_get(y, key)))
			return false;
	return df_json_bool(x, false) == df_json_bool(y, false) && strcmp(xs ? xs : "", ys ? ys : "") == 0;
}

/* Keys whose value differs between two df_train_config_json texts. */
static int
warn_changes(const char *was, const char *now, const char *where, struct df_err *err)
{
	struct df_json *a = NULL, *b = NULL;
	const struct df_key *k;
	struct df_buf diff = DF_BUF_INIT;
	int rc = DF_OK;

	if (!was || strcmp(was, now) == 0)
		return DF_OK;
	DF_TRY(df_json_parse(&a, was, strlen(was), where, err));
	DF_TRY(df_json_parse(&b, now, strlen(now), "configuration", err));
	for (k = df_train_keys(); k->name; k++) {
		const struct df_json_value *old = df_json_get(df_json_root(a), k->name);

		/* A key that is younger than the checkpoint was as good as unset. */
		if (k->shapes && old && !same_value(old, df_json_get(df_json_root(b), k->name)))
			df_buf_printf(&diff, "%s%s", diff.len ? ", " : "", k->name);
	}
	DF_TRY(df_buf_check(&diff, err));
	if (diff.len > 0)
		df_warn("%s was trained with another %s; going on with the new value", where, diff.data);
out:
	df_buf_release(&diff);
	df_json_free(a);
	df_json_free(b);
	return rc;
}

int
df_run_find_start(struct df_run *r, struct df_err *err)
{
	const char *want = r->c->resume_from_checkpoint, *dir = r->c->output_dir;
	bool named = want && strcmp(want, "true") != 0 && strcmp(want, "false") != 0;
	bool fresh = want && strcmp(want, "false") == 0;
	struct df_train_state s = DF_TRAIN_STATE_INIT;
	uint64_t step = 0;
	int rc = DF_OK;

	DF_TRY(df_checkpoint_find(dir, &r->start, &step, err));
	if (r->start)
		DF_TRY(df_train_state_load(&r->state, r->start, err));
	r->start_is_own = r->start != NULL;
	/* overwriting starts anew, but not when a signal interrupted it and it is run again to go on */
	if (r->c->overwrite_output_dir && (!want || fresh) && !r->state.interim) {
		if (r->start)
			df_info("overwrite_output_dir: %s starts anew", dir);
		r->clear = true;
		fresh = true;
	}
	if (fresh && !r->state.interim) {
		if (r->start && !r->c->overwrite_output_dir) {
			rc = df_fail(err, DF_EUSAGE,
			    "resume_from_checkpoint: false, but %s exists: give another output_dir, or "
			    "overwrite_output_dir=true",
			    r->start);
			goto out;
		}
		free(r->start);
		r->start = NULL;
		df_train_state_release(&r->state);
		goto out;
	}
	if (named) {
		if ((rc = df_train_state_load(&s, want, err)) != DF_OK) {
			df_err_prefix(err, "resume_from_checkpoint: ");
			goto out;
		}
		/* Run again after a kill, it goes on from its own checkpoints. */
		if (!r->start || step < s.step) {
			free(r->start);
			r->start = NULL;
			df_train_state_release(&r->state);
			r->state = s;
			s = (struct df_train_state)DF_TRAIN_STATE_INIT;
			DF_TRY(df_strdup(&r->start, want, err));
			r->start_is_own = false;
		}
	}
	if (want && !named && !r->start)
		rc = df_fail(err, DF_ENOINPUT, "resume_from_checkpoint: %s has no checkpoint to go on from", dir);
out:
	df_train_state_release(&s);
	return rc;
}

int
df_run_check_window(const struct df_run *r, const struct df_train_state *s, const char *path, struct df_err *err)
{
	if (!r->o->index || strcmp(s->index_id, r->index_id) == 0)
		return DF_OK;
	return df_fail(err, DF_ELINEAGE, "%s is there already, but was not trained on %s; remove it to train again",
	    path, r->o->index);
}

int
df_run_begin_state(struct df_run *r, struct df_err *err)
{
	struct df_train_state *s = &r->state;
	struct df_buf config = DF_BUF_INIT;
	const char *tokenizer = df_rows_tokenizer(&r->rows);
	int rc = DF_OK;

	df_train_config_json(r->c, &config);
	DF_TRY(df_buf_check(&config, err));
	if (r->start) {
		if (s->tokens_id[0] && r->rows.meta.id[0] && strcmp(s->tokens_id, r->rows.meta.id) != 0) {
			rc = df_fail(err, DF_ELINEAGE,
			    "%s was trained on tokens %s, but %s is %s: to train its weights on other "
			    "tokens give %s_name_or_path=%s and a new output_dir",
			    r->start, s->tokens_id, r->rows.name, r->rows.meta.id,
			    strcmp(r->c->finetuning_type, "lora") == 0 ? "adapter" : "model", r->start);
			goto out;
		}
		DF_TRY(warn_changes(s->config, config.data, r->start, err));
	}
	if (r->start_is_own && s->step == r->end && !s->interim)
		DF_TRY(df_run_check_window(r, s, r->start, err));
	if (strcmp(s->index_id, r->index_id) != 0) {
		s->window = r->o->index ? s->step : 0;
		memcpy(s->index_id, r->index_id, sizeof(s->index_id));
	}
	memcpy(s->weights_id, r->weights_id, sizeof(s->weights_id));
	memcpy(s->tokens_id, r->rows.meta.id, sizeof(s->tokens_id));
	free(s->tokenizer_id);
	s->tokenizer_id = NULL;
	if (tokenizer)
		DF_TRY(df_strdup(&s->tokenizer_id, tokenizer, err));
	free(s->config);
	s->config = df_buf_detach(&config);
out:
	df_buf_release(&config);
	return rc;
}

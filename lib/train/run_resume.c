/*
 * run_resume.c - where a run begins: at step 0, or at a checkpoint.
 *
 * The same command is run again after a kill, for the next window, or with resume_from_checkpoint.
 * Each time it must continue from the last state that belongs to it.
 *
 * A named checkpoint takes precedence over newer ones in output_dir.  But the same command must
 * continue after a kill, and not go back again each time.  So checkpoints that are saved after going
 * back carry the named checkpoint's id (struct df_train_branch).  When the newest checkpoint of
 * output_dir has this id, and the configuration is the same, then this is the same command again.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/outdir.h"
#include "train/run_priv.h"

/* Compare values of df_config_json: scalars, or maps of scalars. */
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

/* Append the keys whose value differs between two df_config_json texts; `was` may be NULL. */
static int
changed_keys(const char *was, const char *now, const char *where, struct df_buf *diff, struct df_err *err)
{
	struct df_json *a = NULL, *b = NULL;
	const struct df_key *k;
	int rc = DF_OK;

	if (!was || strcmp(was, now) == 0)
		return DF_OK;
	DF_TRY(df_json_parse(&a, was, strlen(was), where, err));
	DF_TRY(df_json_parse(&b, now, strlen(now), "configuration", err));
	for (k = df_keys(); k->name; k++) {
		const struct df_json_value *old = df_json_get(df_json_root(a), k->name);

		/* A key that is newer than the checkpoint is not in its text, and does not count as changed. */
		if ((k->shapes || k->dynamic) && old && !same_value(old, df_json_get(df_json_root(b), k->name)))
			df_buf_printf(diff, "%s%s", diff->len ? ", " : "", k->name);
	}
	rc = df_buf_check(diff, err);
out:
	df_json_free(a);
	df_json_free(b);
	return rc;
}

/* The number of a key in a df_config_json text; `otherwise` if it is not there. */
static double
number_in(const char *config, const char *key, double otherwise)
{
	struct df_json *j = NULL;
	double x;

	if (!config || df_json_parse(&j, config, strlen(config), "configuration", NULL) != DF_OK)
		return otherwise;
	if (!df_json_number(df_json_get(df_json_root(j), key), &x))
		x = otherwise;
	df_json_free(j);
	return x;
}

/*
 * The place in the data is counted in steps, as in transformers: with other batches the same step is
 * another place.  Append what this means for the rows.
 */
static int
moved_place(const struct df_run *r, const char *was, struct df_buf *out, struct df_err *err)
{
	const double batch = number_in(was, "per_device_train_batch_size", (double)r->sampler.batch);
	const double accum = number_in(was, "gradient_accumulation_steps", (double)r->sampler.n_accum);
	struct df_sampler old;
	double before, now;
	int rc;

	if (!(batch >= 1 && batch <= 1e6 && accum >= 1 && accum <= 1e6) ||
	    (batch == (double)r->sampler.batch && accum == (double)r->sampler.n_accum))
		return DF_OK;
	rc = df_sampler_init(&old, r->rows.n, r->rows.id, 0, false, (uint64_t)batch, (uint64_t)accum, err);
	if (rc != DF_OK)
		return rc;
	before = (double)r->state.step / (double)df_sampler_steps_per_epoch(&old);
	now = (double)r->state.step / (double)r->steps_per_epoch;
	df_sampler_release(&old);
	if (before != now)
		df_buf_printf(out,
		    "; the place in the data is counted in steps, so it goes on at epoch %.2f where the checkpoint was at "
		    "%.2f: rows are %s",
		    now, before, now < before ? "seen again" : "skipped");
	return df_buf_check(out, err);
}

static int
warn_changes(const struct df_run *r, const char *now, struct df_err *err)
{
	struct df_buf diff = DF_BUF_INIT, place = DF_BUF_INIT;
	int rc = DF_OK;

	DF_TRY(changed_keys(r->state.config, now, r->start, &diff, err));
	if (diff.len == 0)
		goto out;
	df_buf_puts(&place, "");
	if (!r->o->index)
		DF_TRY(moved_place(r, r->state.config, &place, err));
	DF_TRY(df_buf_check(&place, err));
	df_warn("%s was trained with another %s; going on with the new value%s", r->start, diff.data, place.data);
out:
	df_buf_release(&diff);
	df_buf_release(&place);
	return rc;
}

static void
drop_start(struct df_run *r)
{
	free(r->start);
	r->start = NULL;
	r->start_is_own = r->start_is_result = false;
	df_train_state_release(&r->state);
}

/* ---- output_dir ----------------------------------------------------------------- */

static bool
same_dir(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Is `path` inside `dir`, whether it exists or not? */
static bool
is_in(const char *path, const char *dir)
{
	char *real = realpath(path, NULL), *parent = NULL;
	const char *p = real ? real : path;
	size_t n = strlen(p);
	bool yes = false;

	while (n > 1 && p[n - 1] == '/')
		n--;
	while (n > 0 && p[n - 1] != '/')
		n--;
	if (df_strndup(&parent, n > 0 ? p : ".", n > 0 ? n : 1, NULL) == DF_OK)
		yes = same_dir(parent, dir);
	free(parent);
	free(real);
	return yes;
}

static bool
exists_in(const char *dir, const char *name)
{
	char *path = NULL;
	bool yes = df_path_join(&path, dir, name, NULL) == DF_OK && df_file_exists(path);

	free(path);
	return yes;
}

/* The run must not write into model directories that it reads. */
static int
check_inputs(const struct df_run *r, struct df_err *err)
{
	const char *named = r->c->resume_from_checkpoint;
	struct df_outdir_input in[] = { { "model_name_or_path", r->c->model_name_or_path },
		{ "adapter_name_or_path", r->c->adapter_name_or_path } };
	int rc;

	if ((rc = df_outdir_check_inputs(r->c->output_dir, in, sizeof(in) / sizeof(in[0]), err)) != DF_OK)
		return rc;
	if (named && same_dir(named, r->c->output_dir) && exists_in(named, "optimizer.safetensors"))
		return df_fail(err, DF_EUSAGE,
		    "output_dir: %s is the checkpoint of resume_from_checkpoint itself; give another output_dir",
		    r->c->output_dir);
	return DF_OK;
}

static int
refuse_model(const char *dir, const char *what, struct df_err *err)
{
	return df_fail(err, DF_EUSAGE,
	    "output_dir: %s holds %s, which the run would replace: give another output_dir, or "
	    "overwrite_output_dir=true",
	    dir, what);
}

/*
 * Without a checkpoint to continue from, a model in output_dir is either foreign or the result of a
 * run that kept no checkpoint; *result says which.
 */
static int
check_models(const struct df_run *r, bool *result, struct df_err *err)
{
	const char *dir = r->c->output_dir;
	struct df_checkpoint_census c = { 0 };
	char *weights = NULL;
	struct df_buf what = DF_BUF_INIT;
	int rc = DF_OK;

	*result = false;
	DF_TRY(df_checkpoint_count(dir, 0, &c, err));
	DF_TRY(df_outdir_weights(dir, &weights, err));
	/* only a run's directory has trainer_log.jsonl, its checkpoints do not */
	if (weights && exists_in(dir, DF_STATE_FILE) && exists_in(dir, "trainer_log.jsonl")) {
		*result = true;
	} else if (weights && c.n == 0) {
		df_buf_printf(&what, "a model (%s) and no checkpoint of df-train", weights);
		DF_TRY(df_buf_check(&what, err));
		rc = refuse_model(dir, what.data, err);
	} else if (c.foreign && c.n == 0) {
		df_buf_printf(&what, "%s, a checkpoint of another program", c.foreign);
		DF_TRY(df_buf_check(&what, err));
		rc = refuse_model(dir, what.data, err);
	}
out:
	free(c.foreign);
	free(weights);
	df_buf_release(&what);
	return rc;
}

/*
 * r->start is output_dir, with the result of a run that kept no checkpoint.  If it is this run's and
 * complete, nothing is left to do.  If it is this run's, which was killed while it wrote the result,
 * the run starts again.  In all other cases the model would be lost, so it is an error.
 */
static int
check_result(struct df_run *r, const char *config, struct df_err *err)
{
	const struct df_train_state *s = &r->state;
	const bool over = s->step == r->max_steps || s->best.stopped;
	struct df_buf diff = DF_BUF_INIT, what = DF_BUF_INIT;
	int rc = DF_OK;

	DF_TRY(changed_keys(s->config, config, r->start, &diff, err));
	if (over && exists_in(r->start, "all_results.json"))
		goto out;
	if (over && diff.len == 0 && strcmp(s->tokens_id, r->rows.meta.id) == 0 &&
	    strcmp(s->index_id, r->index_id) == 0 && strcmp(s->weights_id, r->weights_id) == 0) {
		drop_start(r);
		goto out;
	}
	df_buf_printf(&what, "the model of a run of %" PRIu64 " steps and no checkpoint to go on from", s->step);
	DF_TRY(df_buf_check(&what, err));
	rc = refuse_model(r->start, what.data, err);
out:
	df_buf_release(&diff);
	df_buf_release(&what);
	return rc;
}

/* ---- a named checkpoint --------------------------------------------------------- */

/* Make `path` r->start, with its state. */
static int
start_at(struct df_run *r, const char *path, struct df_err *err)
{
	struct df_train_state s;
	char *copy = NULL;
	int rc;

	if ((rc = df_train_state_load(&s, path, err)) != DF_OK)
		return rc;
	if ((rc = df_strdup(&copy, path, err)) != DF_OK) {
		df_train_state_release(&s);
		return rc;
	}
	free(r->start);
	r->start = copy;
	r->start_is_own = is_in(path, r->c->output_dir);
	r->start_is_result = false;
	df_train_state_release(&r->state);
	r->state = s;
	return DF_OK;
}

static int
no_checkpoint(const char *dir, struct df_err *err)
{
	char *weights = NULL;
	int rc = DF_OK;

	if (!df_file_exists(dir))
		return df_fail(err, DF_ENOINPUT, "%s: no such directory", dir);
	DF_TRY(df_outdir_weights(dir, &weights, err));
	if (weights && exists_in(dir, DF_STATE_FILE))
		rc = df_fail(err, DF_EFORMAT,
		    "%s has no optimizer.safetensors to go on with (save_only_model?); to start from its weights give "
		    "model_name_or_path or adapter_name_or_path",
		    dir);
	else if (weights)
		rc = df_fail(err, DF_EFORMAT,
		    "%s is a model but not a checkpoint of df-train; to start from its weights give "
		    "model_name_or_path or adapter_name_or_path",
		    dir);
	else
		rc = df_fail(err, DF_EFORMAT, "%s is not a checkpoint and holds none", dir);
out:
	free(weights);
	return rc;
}

/* Is r->start a checkpoint that the same command saved after it had begun at `named`? */
static int
is_same_command(const struct df_run *r, const char *named, bool *yes, struct df_err *err)
{
	const struct df_train_branch *b = &r->state.branch;
	struct df_buf config = DF_BUF_INIT, diff = DF_BUF_INIT;
	char id[DF_DIGEST_HEX];
	uint64_t step;
	int rc = DF_OK;

	*yes = false;
	if (!r->start || !b->id[0])
		return DF_OK;
	if (exists_in(named, DF_STATE_FILE)) {
		DF_TRY(df_checkpoint_id(named, id, err));
		if (strcmp(id, b->id) != 0)
			goto out;
	} else if (!is_in(named, r->c->output_dir) || !df_checkpoint_step(df_path_base(named), &step) ||
	    step != b->step) {
		/*
		 * A checkpoint of output_dir itself may have been removed since: by save_total_limit, or as an interim
		 * one.
		 */
		goto out;
	}
	df_config_json(r->c, &config);
	DF_TRY(df_buf_check(&config, err));
	DF_TRY(changed_keys(r->state.config, config.data, r->start, &diff, err));
	*yes = diff.len == 0;
out:
	df_buf_release(&config);
	df_buf_release(&diff);
	return rc;
}

/* From here on the run is not the one in output_dir, but a branch of it. */
static int
begin_branch(struct df_run *r, const char *named, struct df_err *err)
{
	struct df_checkpoint_census c = { 0 };
	const bool newest = r->start && same_dir(r->start, named);
	int rc = DF_OK;

	DF_TRY(start_at(r, named, err));
	DF_TRY(df_checkpoint_count(r->c->output_dir, r->state.step, &c, err));
	r->goes_back = c.n > 0 && !newest;
	r->state.branch.parent = r->start_is_own ? r->state.branch.number : 0;
	r->state.branch.number = c.n > 0 ? c.branch + 1 : 0;
	r->state.branch.step = r->start_is_own ? r->state.step : 0;
	DF_TRY(df_checkpoint_id(named, r->state.branch.id, err));
	if (r->goes_back && c.n_later > 0)
		df_warn("resume_from_checkpoint: back to %s; %" PRIu64 " later checkpoint%s of %s, up to step %" PRIu64
			", stay%s until this run saves the same step or save_total_limit removes %s",
		    named, c.n_later, c.n_later > 1 ? "s" : "", r->c->output_dir, c.last, c.n_later > 1 ? "" : "s",
		    c.n_later > 1 ? "them" : "it");
out:
	free(c.foreign);
	return rc;
}

/*
 * The checkpoint that `named` means: itself, or the newest in a directory of checkpoints; *from = NULL
 * (else free() it) when there is none.
 */
static int
resolve(const char *named, char **from, struct df_err *err)
{
	bool yes;
	int rc;

	*from = NULL;
	if ((rc = df_checkpoint_is(named, &yes, err)) != DF_OK)
		return rc;
	if (yes)
		return df_strdup(from, named, err);
	return df_file_is_dir(named) ? df_checkpoint_find(named, from, err) : DF_OK;
}

/* resume_from_checkpoint names a checkpoint, or a directory of checkpoints. */
static int
find_named(struct df_run *r, const char *named, struct df_err *err)
{
	const bool own = same_dir(named, r->c->output_dir);
	char *from = NULL;
	bool same, single;
	int rc = DF_OK;

	DF_TRY(resolve(named, &from, err));
	single = !from || strcmp(from, named) == 0;
	/* A directory means its newest checkpoint; once output_dir has checkpoints of its own, the newest of those. */
	same = !single && r->start;
	if (single && !own)
		DF_TRY(is_same_command(r, named, &same, err));
	if (r->start_is_result && !own && !(same && exists_in(r->start, "all_results.json"))) {
		if (!same) {
			rc = refuse_model(r->start, "the model of another run", err);
			goto out;
		}
		same = false; /* the run was killed while it wrote the result */
	}
	if (same && !own)
		df_info("resume_from_checkpoint: %s has newer checkpoints from there: going on from its own",
		    r->c->output_dir);
	else if (!same && from)
		rc = begin_branch(r, from, err);
	else if (!(own && r->start))
		rc = no_checkpoint(named, err);
out:
	free(from);
	return rc;
}

int
df_run_find_start(struct df_run *r, struct df_err *err)
{
	const char *want = r->c->resume_from_checkpoint, *dir = r->c->output_dir;
	bool named = want && strcmp(want, "true") != 0 && strcmp(want, "false") != 0;
	bool fresh = want && strcmp(want, "false") == 0;
	char *start = NULL;
	bool result = false;
	int rc = DF_OK;

	DF_TRY(check_inputs(r, err));
	DF_TRY(df_checkpoint_find(dir, &start, err));
	if (!start && !r->c->overwrite_output_dir) {
		DF_TRY(check_models(r, &result, err));
		if (result)
			DF_TRY(df_strdup(&start, dir, err));
	}
	if (start) {
		DF_TRY(start_at(r, start, err));
		r->start_is_own = true;
		r->start_is_result = result;
	}
	/*
	 * overwriting starts from step 0, except when a signal interrupted it and the command is run again to continue
	 */
	if (r->c->overwrite_output_dir && (!want || fresh) && !r->state.interim) {
		if (r->start)
			df_info("overwrite_output_dir: %s starts again from step 0", dir);
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
		drop_start(r);
		goto out;
	}
	if (named && (rc = find_named(r, want, err)) != DF_OK)
		df_err_prefix(err, "resume_from_checkpoint: ");
	else if (want && !named && !r->start)
		rc = df_fail(err, DF_ENOINPUT, "resume_from_checkpoint: %s has no checkpoint to go on from", dir);
out:
	free(start);
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

	df_config_json(r->c, &config);
	DF_TRY(df_buf_check(&config, err));
	if (r->start && r->start_is_result)
		DF_TRY(check_result(r, config.data, err));
	if (r->start) {
		if (s->tokens_id[0] && r->rows.meta.id[0] && strcmp(s->tokens_id, r->rows.meta.id) != 0) {
			rc = df_fail(err, DF_ELINEAGE,
			    "%s was trained on tokens %s, but %s is %s: to train its weights on other "
			    "tokens give %s_name_or_path=%s and a new output_dir",
			    r->start, s->tokens_id, r->rows.name, r->rows.meta.id,
			    r->c->finetuning_type == DF_FINETUNING_LORA ? "adapter" : "model", r->start);
			goto out;
		}
		DF_TRY(warn_changes(r, config.data, err));
	}
	if (r->start_is_own && s->step == r->end && !s->interim)
		DF_TRY(df_run_check_window(r, s, r->start, err));
	/* In a selection run the index is that of a window, from its event on. */
	if (r->c->train_type != DF_TRAIN_SELECT && strcmp(s->index_id, r->index_id) != 0) {
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

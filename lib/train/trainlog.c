/*
 * trainlog.c - events in memory, lines in a file, and the files written at the end.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "train/jsonl.h"
#include "train/trainlog.h"

#define LOG_MAX ((size_t)1 << 30) /* most bytes of a state file that is read back */

int
df_trainlog_open(struct df_trainlog *l, const char *output_dir, uint64_t step, uint64_t max_steps, struct df_err *err)
{
	int rc;

	l->started = df_seconds();
	l->first_step = step;
	l->max_steps = max_steps;
	free(l->path);
	l->path = NULL;
	DF_TRY(df_path_join(&l->path, output_dir, "trainer_log.jsonl", err));
	rc = df_jsonl_cut(l->path, "current_steps", step > 0 ? step + 1 : 0, err);
out:
	return rc;
}

void
df_trainlog_release(struct df_trainlog *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->event[i].each);
	free(l->path);
	free(l->event);
	*l = (struct df_trainlog){ 0 };
}

static int
push(struct df_trainlog *l, const struct df_train_event *e, struct df_err *err)
{
	double *each = NULL;
	int rc;

	DF_TRY(df_grow(&l->event, &l->cap, l->n + 1, sizeof(*l->event), "log", err));
	if (e->each) {
		DF_TRY(df_alloc(&each, l->n_names, sizeof(*each), "log", err));
		memcpy(each, e->each, l->n_names * sizeof(*each));
	}
	l->event[l->n] = *e;
	l->event[l->n++].each = each;
out:
	return rc;
}

/* "eval_NAME_loss" as JSON. */
static void
each_key(struct df_buf *b, const char *name)
{
	struct df_buf key = DF_BUF_INIT;

	df_buf_printf(&key, "eval_%s_loss", name);
	df_buf_json_str(b, key.data ? key.data : "");
	df_buf_release(&key);
}

/* The fields of an evaluation other than its loss, each after `before`. */
static void
put_eval(struct df_buf *b, const struct df_trainlog *l, const struct df_train_event *e, const char *before,
    const char *after)
{
	if (!isnan(e->accuracy)) {
		df_buf_printf(b, "%s\"eval_accuracy\": ", before);
		df_buf_json_double(b, e->accuracy);
		df_buf_puts(b, after);
	}
	for (size_t i = 0; e->each && i < l->n_names; i++) {
		df_buf_puts(b, before);
		each_key(b, l->name[i]);
		df_buf_puts(b, ": ");
		df_buf_json_double(b, e->each[i]);
		df_buf_puts(b, after);
	}
}

/* "H:MM:SS" */
static void
clock_text(struct df_buf *b, double secs)
{
	uint64_t s = secs > 0 ? (uint64_t)secs : 0;

	df_buf_printf(
	    b, "\"%llu:%02u:%02u\"", (unsigned long long)(s / 3600), (unsigned)(s / 60 % 60), (unsigned)(s % 60));
}

int
df_trainlog_add(struct df_trainlog *l, const struct df_train_event *e, uint64_t total_tokens, struct df_err *err)
{
	double elapsed = df_seconds() - l->started;
	double left = e->step > l->first_step
	    ? elapsed / (double)(e->step - l->first_step) * ((double)l->max_steps - (double)e->step)
	    : 0;
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	df_buf_printf(&b, "{\"current_steps\": %llu, \"total_steps\": %llu, ", (unsigned long long)e->step,
	    (unsigned long long)l->max_steps);
	df_buf_puts(&b, e->eval ? "\"eval_loss\": " : "\"loss\": ");
	df_buf_json_double(&b, e->loss);
	if (!e->eval) {
		df_buf_puts(&b, ", \"lr\": ");
		df_buf_json_double(&b, e->lr);
	} else {
		put_eval(&b, l, e, ", ", "");
	}
	df_buf_puts(&b, ", \"epoch\": ");
	df_buf_json_double(&b, e->epoch);
	df_buf_puts(&b, ", \"percentage\": ");
	df_buf_json_double(&b, round((double)e->step / (double)l->max_steps * 10000) / 100);
	df_buf_puts(&b, ", \"elapsed_time\": ");
	clock_text(&b, elapsed);
	df_buf_puts(&b, ", \"remaining_time\": ");
	clock_text(&b, left);
	df_buf_printf(&b, ", \"total_tokens\": %llu}\n", (unsigned long long)total_tokens);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_jsonl_add(l->path, b.data, b.len, err));
	rc = push(l, e, err);
out:
	df_buf_release(&b);
	return rc;
}

/* The losses of datasets in an entry of log_history, if it has them. */
static int
load_each(const struct df_trainlog *l, const struct df_json_value *v, double **each, struct df_err *err)
{
	char *key = NULL;
	int rc = DF_OK;

	for (size_t i = 0; i < l->n_names; i++) {
		const struct df_json_value *x;

		DF_TRY(df_asprintf(&key, err, "eval_%s_loss", l->name[i]));
		x = df_json_get(v, key);
		free(key);
		key = NULL;
		if (!x)
			continue;
		if (!*each)
			DF_TRY(df_alloc(each, l->n_names, sizeof(**each), "log", err));
		(*each)[i] = NAN;
		df_json_number(x, &(*each)[i]);
	}
out:
	free(key);
	return rc;
}

int
df_trainlog_load(struct df_trainlog *l, const char *dir, struct df_err *err)
{
	const struct df_json_value *history, *v;
	struct df_json *j = NULL;
	char *path = NULL;
	int rc = DF_OK;

	DF_TRY(df_path_join(&path, dir, "trainer_state.json", err));
	DF_TRY(df_json_load(&j, path, LOG_MAX, err));
	history = df_json_get(df_json_root(j), "log_history");
	for (size_t i = 0; i < df_json_size(history); i++) {
		struct df_train_event e = { .loss = NAN, .accuracy = NAN };
		int64_t step;

		v = df_json_at(history, i);
		e.eval = df_json_get(v, "eval_loss") != NULL;
		if (!e.eval && !df_json_get(v, "loss"))
			continue;
		if (!df_json_int(df_json_get(v, "step"), &step) || step < 0) {
			rc = df_fail(err, DF_EFORMAT, "%s: log_history[%zu] has no step", path, i);
			goto out;
		}
		e.step = (uint64_t)step;
		df_json_number(df_json_get(v, e.eval ? "eval_loss" : "loss"), &e.loss);
		df_json_number(df_json_get(v, "learning_rate"), &e.lr);
		df_json_number(df_json_get(v, "grad_norm"), &e.grad_norm);
		df_json_number(df_json_get(v, "epoch"), &e.epoch);
		df_json_number(df_json_get(v, "eval_accuracy"), &e.accuracy);
		rc = e.eval ? load_each(l, v, &e.each, err) : DF_OK;
		if (rc == DF_OK)
			rc = push(l, &e, err);
		free(e.each);
		if (rc != DF_OK)
			goto out;
	}
out:
	df_json_free(j);
	free(path);
	return rc;
}

static void
number(struct df_buf *b, const char *indent, const char *key, double x, const char *end)
{
	df_buf_printf(b, "%s\"%s\": ", indent, key);
	df_buf_json_double(b, x);
	df_buf_puts(b, end);
}

static void
count(struct df_buf *b, const char *indent, const char *key, uint64_t n, const char *end)
{
	df_buf_printf(b, "%s\"%s\": %llu%s", indent, key, (unsigned long long)n, end);
}

static void
history(struct df_buf *b, const struct df_trainlog *l, const struct df_train_summary *s)
{
	const char *in = "      ", *sep = "\n";

	df_buf_puts(b, "  \"log_history\": [");
	for (size_t i = 0; i < l->n; i++) {
		const struct df_train_event *e = &l->event[i];

		df_buf_printf(b, "%s    {\n", sep);
		number(b, in, "epoch", e->epoch, ",\n");
		if (e->eval) {
			put_eval(b, l, e, in, ",\n");
			number(b, in, "eval_loss", e->loss, ",\n");
		} else {
			number(b, in, "grad_norm", e->grad_norm, ",\n");
			number(b, in, "learning_rate", e->lr, ",\n");
			number(b, in, "loss", e->loss, ",\n");
		}
		count(b, in, "step", e->step, "\n    }");
		sep = ",\n";
	}
	if (s->seconds >= 0) {
		df_buf_printf(b, "%s    {\n", sep);
		number(b, in, "epoch", s->epoch, ",\n");
		count(b, in, "step", s->step, ",\n");
		number(b, in, "total_flos", s->flops, ",\n");
		number(b, in, "train_loss", s->train_loss, ",\n");
		number(b, in, "train_runtime", s->seconds, ",\n");
		number(b, in, "train_samples_per_second", s->seconds > 0 ? s->samples / s->seconds : 0, ",\n");
		number(b, in, "train_steps_per_second",
		    s->seconds > 0 ? (double)(s->step - l->first_step) / s->seconds : 0, "\n    }");
	}
	df_buf_puts(b, "\n  ],\n");
}

static int
put(const struct df_buf *b, const char *dir, const char *name, struct df_err *err)
{
	char *path = NULL;
	int rc;

	if ((rc = df_buf_check(b, err)) == DF_OK && (rc = df_path_join(&path, dir, name, err)) == DF_OK)
		rc = df_file_put(path, b->data, b->len, err);
	free(path);
	return rc;
}

int
df_trainlog_write_state(
    const struct df_trainlog *l, const struct df_train_summary *s, const char *dir, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc;

	df_buf_puts(&b, "{\n");
	if (s->best_step > 0)
		count(&b, "  ", "best_global_step", s->best_step, ",\n");
	else
		df_buf_puts(&b, "  \"best_global_step\": null,\n");
	number(&b, "  ", "best_metric", s->best_metric, ",\n");
	if (s->best_checkpoint > 0)
		df_buf_printf(
		    &b, "  \"best_model_checkpoint\": \"checkpoint-%llu\",\n", (unsigned long long)s->best_checkpoint);
	else
		df_buf_puts(&b, "  \"best_model_checkpoint\": null,\n");
	number(&b, "  ", "epoch", s->epoch, ",\n");
	number(&b, "  ", "eval_steps", s->eval_steps, ",\n");
	count(&b, "  ", "global_step", s->step, ",\n");
	df_buf_puts(&b,
	    "  \"is_hyper_param_search\": false,\n  \"is_local_process_zero\": true,\n"
	    "  \"is_world_process_zero\": true,\n");
	history(&b, l, s);
	number(&b, "  ", "logging_steps", s->logging_steps, ",\n");
	count(&b, "  ", "max_steps", s->max_steps, ",\n");
	count(&b, "  ", "num_input_tokens_seen", s->tokens_seen, ",\n");
	number(&b, "  ", "num_train_epochs", s->num_train_epochs, ",\n");
	number(&b, "  ", "save_steps", s->save_steps, ",\n");
	df_buf_puts(&b, "  \"stateful_callbacks\": {},\n");
	number(&b, "  ", "total_flos", s->flops, ",\n");
	count(&b, "  ", "train_batch_size", s->batch, ",\n");
	df_buf_puts(&b, "  \"trial_name\": null,\n  \"trial_params\": null\n}\n");
	rc = put(&b, dir, "trainer_state.json", err);
	df_buf_release(&b);
	return rc;
}

/* Write one of the results files: the epoch, the evaluation if there is one, the training. */
static int
results(const struct df_trainlog *l, const struct df_train_summary *s, const struct df_train_event *eval,
    const char *dir, const char *name, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	const char *in = "    ";
	int rc;

	df_buf_puts(&b, "{\n");
	number(&b, in, "epoch", s->epoch, ",\n");
	if (eval) {
		put_eval(&b, l, eval, in, ",\n");
		number(&b, in, "eval_loss", eval->loss, ",\n");
	}
	count(&b, in, "num_input_tokens_seen", s->tokens_seen, ",\n");
	number(&b, in, "total_flos", s->flops, ",\n");
	number(&b, in, "train_loss", s->train_loss, ",\n");
	number(&b, in, "train_runtime", s->seconds, ",\n");
	number(&b, in, "train_samples_per_second", s->seconds > 0 ? s->samples / s->seconds : 0, ",\n");
	number(&b, in, "train_steps_per_second", s->seconds > 0 ? (double)(s->step - l->first_step) / s->seconds : 0,
	    "\n}\n");
	rc = put(&b, dir, name, err);
	df_buf_release(&b);
	return rc;
}

int
df_trainlog_write_results(
    const struct df_trainlog *l, const struct df_train_summary *s, const char *dir, struct df_err *err)
{
	const struct df_train_event *last = NULL;
	int rc;

	for (size_t i = 0; i < l->n; i++)
		last = l->event[i].eval ? &l->event[i] : last;
	if ((rc = results(l, s, NULL, dir, "train_results.json", err)) != DF_OK)
		return rc;
	return results(l, s, last, dir, "all_results.json", err);
}

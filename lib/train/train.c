/*
 * train.c - the loop.
 *
 * Everything that a step depends on is either saved in a checkpoint (weights,
 * moments, the counters of struct df_train_state) or a pure function of the
 * step's number (rows, learning rate).  So going on is: load, count on.
 *
 *     step  ->  log  ->  evaluate  ->  save  ->  next step, or stop
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "train/eval.h"
#include "train/run_priv.h"

/* ---- the parts ------------------------------------------------------------------ */

/* "every": a number of steps, or below 1 a part of all; at least 1. */
static uint64_t
every(double x, uint64_t total)
{
	uint64_t n = x < 1 ? (uint64_t)ceil(x * (double)total) : (uint64_t)x;

	return n > 0 ? n : 1;
}

static uint64_t
strategy(const struct df_run *r, const char *name, double steps)
{
	if (strcmp(name, "no") == 0)
		return 0;
	return strcmp(name, "epoch") == 0 ? r->steps_per_epoch : every(steps, r->max_steps);
}

static int
plan_steps(struct df_run *r, struct df_err *err)
{
	const struct df_train_config *c = r->c;
	int rc = DF_OK;

	DF_TRY(df_sampler_init(&r->sampler, r->rows.n, r->rows.id, (uint64_t)c->seed, !c->disable_shuffling,
	    (uint64_t)c->per_device_train_batch_size, (uint64_t)c->gradient_accumulation_steps, err));
	r->steps_per_epoch = df_sampler_steps_per_epoch(&r->sampler);
	r->max_steps = c->max_steps > 0 ? (uint64_t)c->max_steps
					: (uint64_t)ceil(c->num_train_epochs * (double)r->steps_per_epoch);
	r->end = r->o->until > 0 && r->o->until < r->max_steps ? r->o->until : r->max_steps;
	if (r->o->until > r->max_steps)
		df_info("the run ends at step %" PRIu64 ", before --until %" PRIu64, r->max_steps, r->o->until);
	r->log_every = c->logging_steps > 0 ? every(c->logging_steps, r->max_steps) : 0;
	r->save_every = strategy(r, c->save_strategy, c->save_steps);
	r->eval_every = strategy(r, c->eval_strategy, c->eval_steps > 0 ? c->eval_steps : c->logging_steps);
	rc = df_schedule_init(&r->schedule, c->lr_scheduler_type, &c->lr_scheduler_kwargs, c->learning_rate,
	    r->max_steps, c->warmup_steps, c->warmup_ratio, err);
	if (rc == DF_ECONFIG && c->path)
		df_err_prefix(err, "%s: ", c->path);
out:
	return rc;
}

/* As with LLaMA-Factory: a model and its adapter are two keys, so that what an adapter rests on is never in doubt. */
static int
check_model_dir(const struct df_run *r, struct df_err *err)
{
	struct df_buf place = DF_BUF_INIT;
	char *path = NULL;
	int rc = DF_OK;

	DF_TRY(df_path_join(&path, r->c->model_name_or_path, "adapter_config.json", err));
	if (!df_file_exists(path))
		goto out;
	df_train_config_place(r->c, "model_name_or_path", &place);
	DF_TRY(df_buf_check(&place, err));
	rc = df_fail(err, DF_ECONFIG,
	    "%s: %s is an adapter: give its base model here, and the adapter as adapter_name_or_path", place.data,
	    r->c->model_name_or_path);
out:
	df_buf_release(&place);
	free(path);
	return rc;
}

static int
open_model(struct df_run *r, struct df_err *err)
{
	const struct df_train_config *c = r->c;
	bool lora = strcmp(c->finetuning_type, "lora") == 0;
	const char *dir = r->start ? r->start : c->adapter_name_or_path; /* of weights trained before */
	struct df_lora_spec spec = {
		.rank = (size_t)c->lora_rank,
		.alpha = c->lora_alpha > 0 ? c->lora_alpha : 2 * (double)c->lora_rank,
		.targets = c->lora_target,
	};
	int rc = DF_OK;

	DF_TRY(check_model_dir(r, err));
	if (dir) {
		DF_TRY(df_model_open(&r->model, dir, c->model_name_or_path, r->o->backend, err));
		if (df_model_has_lora(r->model) != lora) {
			rc = df_fail(err, DF_ELINEAGE, "%s is %s, finetuning_type is %s", dir,
			    lora ? "a whole model" : "an adapter", c->finetuning_type);
			goto out;
		}
	} else if (c->train_from_scratch) {
		DF_TRY(df_model_init(&r->model, c->model_name_or_path, (uint64_t)c->seed, r->o->backend, err));
	} else {
		DF_TRY(df_model_open(&r->model, c->model_name_or_path, NULL, r->o->backend, err));
		if (lora)
			DF_TRY(df_model_add_lora(r->model, &spec, (uint64_t)c->seed, err));
	}
	DF_TRY(df_rows_check_vocab(&r->rows, df_model_config(r->model)->n_vocab, c->model_name_or_path, err));
	if (r->has_eval)
		DF_TRY(
		    df_rows_check_vocab(&r->eval_rows, df_model_config(r->model)->n_vocab, c->model_name_or_path, err));
out:
	return rc;
}

/* The tokenizer whose files go into checkpoints: the model's own, or "bytes". */
static int
open_tokenizer(struct df_run *r, struct df_err *err)
{
	const char *want = df_rows_tokenizer(&r->rows), *dir = r->c->model_name_or_path;
	char *path = NULL;
	int rc = DF_OK;

	DF_TRY(df_path_join(&path, dir, "tokenizer.json", err));
	if (df_file_exists(path)) {
		DF_TRY(df_tokenizer_open(&r->tokenizer, dir, err));
		if (want && strcmp(df_tokenizer_id(r->tokenizer), want) != 0)
			rc = df_fail(err, DF_ELINEAGE, "%s was packed with tokenizer %s, but that of %s is %s",
			    r->rows.name, want, dir, df_tokenizer_id(r->tokenizer));
		goto out;
	}
	DF_TRY(df_tokenizer_open(&r->tokenizer, "bytes", err));
	if (want && strcmp(df_tokenizer_id(r->tokenizer), want) == 0)
		goto out;
	df_tokenizer_free(r->tokenizer);
	r->tokenizer = NULL;
	df_warn("%s has no tokenizer.json: checkpoints will have none either", dir);
out:
	free(path);
	return rc;
}

/* ---- one step, and what follows it ------------------------------------------------ */

static double
epoch(const struct df_run *r)
{
	return (double)r->state.step / (double)r->steps_per_epoch;
}

static struct df_train_summary
summary(const struct df_run *r, double seconds)
{
	const struct df_train_state *s = &r->state;

	return (struct df_train_summary){
		.step = s->step,
		.max_steps = r->max_steps,
		.tokens_seen = s->tokens_seen,
		.batch = r->sampler.batch,
		.epoch = epoch(r),
		.num_train_epochs = ceil((double)r->max_steps / (double)r->steps_per_epoch),
		.flops = 6.0 * (double)df_model_base(r->model)->numel * (double)s->tokens_seen,
		.logging_steps = r->c->logging_steps,
		.save_steps = r->c->save_steps,
		.eval_steps = r->eval_every ? (double)r->eval_every : NAN,
		.train_loss = s->total_steps ? s->total_loss / (double)s->total_steps : 0,
		.seconds = seconds,
		.samples = (double)r->n_samples,
	};
}

static int
save(struct df_run *r, bool interim, bool with_optimizer, struct df_err *err)
{
	struct df_train_summary sum = summary(r, -1);
	struct df_checkpoint c = { r->model, with_optimizer ? r->stepper : NULL, r->tokenizer, &r->log, &sum,
		&r->state };
	double t = df_monotonic();
	int rc;

	r->state.interim = interim;
	if ((rc = df_checkpoint_save(&c, r->c->output_dir, err)) != DF_OK)
		return rc;
	if (!interim && with_optimizer)
		r->saved = r->state.step;
	df_info("saved %s/checkpoint-%" PRIu64 " (%.2f s)", r->c->output_dir, r->state.step, df_monotonic() - t);
	return df_checkpoint_rotate(r->c->output_dir, (uint64_t)r->c->save_total_limit, err);
}

static int
evaluate(struct df_run *r, struct df_err *err)
{
	struct df_eval_opts o = { .max_samples = (size_t)r->c->per_device_eval_batch_size };
	struct df_train_event e = { .step = r->state.step, .eval = true, .epoch = epoch(r) };
	struct df_eval ev;
	int rc;

	r->state.eval_pending = true;
	if ((rc = df_eval_run(&ev, r->model, &r->eval_rows, r->o->pool, &o, err)) != DF_OK)
		return rc;
	e.loss = df_eval_loss(&ev.all);
	df_eval_release(&ev);
	if ((rc = df_trainlog_add(&r->log, &e, r->state.tokens_seen, err)) != DF_OK)
		return rc;
	r->state.eval_pending = false;
	df_info("step %" PRIu64 "/%" PRIu64 "  eval_loss %.4f", e.step, r->max_steps, e.loss);
	return DF_OK;
}

static int
log_step(struct df_run *r, struct df_err *err)
{
	struct df_train_state *s = &r->state;
	struct df_train_event e = { .step = s->step, .lr = r->lr, .grad_norm = r->grad_norm, .epoch = epoch(r) };
	int rc;

	if (s->loss_steps == 0)
		return DF_OK;
	e.loss = round(s->loss_sum / (double)s->loss_steps * 1e4) / 1e4;
	if ((rc = df_trainlog_add(&r->log, &e, s->tokens_seen, err)) != DF_OK)
		return rc;
	s->loss_sum = 0;
	s->loss_steps = 0;
	df_info("step %" PRIu64 "/%" PRIu64 "  loss %.4f  grad_norm %.3f  lr %.3g  epoch %.2f", e.step, r->max_steps,
	    e.loss, e.grad_norm, e.lr, e.epoch);
	return DF_OK;
}

static bool
save_due(const struct df_run *r)
{
	return r->save_every && (r->state.step % r->save_every == 0 || r->state.step == r->max_steps);
}

/* Evaluate and save where this step calls for it.  What --until asks for can always be gone on from. */
static int
finish_step(struct df_run *r, struct df_err *err)
{
	uint64_t g = r->state.step;
	bool asked = r->o->until && g == r->end;
	int rc;

	if (r->eval_every && (g % r->eval_every == 0 || r->state.eval_pending)) {
		rc = evaluate(r, err);
		if (rc != DF_OK && rc != DF_ESTOPPED)
			return rc;
		if (rc == DF_ESTOPPED)
			return DF_OK; /* the loop sees the signal and saves with eval_pending */
	}
	return asked || save_due(r) ? save(r, false, asked || !r->c->save_only_model, err) : DF_OK;
}

static int
one_step(struct df_run *r, struct df_train_report *report, struct df_err *err)
{
	struct df_train_state *s = &r->state;
	struct df_step_result res;
	double t = df_monotonic();
	size_t n;
	int rc;

	if ((rc = df_sampler_step(&r->sampler, s->step, r->which, &n, err)) != DF_OK)
		return rc;
	r->lr = df_schedule_lr(&r->schedule, s->step);
	rc = df_stepper_run(r->stepper, &r->rows, r->which, n, r->weights, r->lr, &res, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "step %" PRIu64 ": ", s->step + 1);
		return rc;
	}
	s->step++;
	s->tokens_seen += res.n_tokens;
	s->n_skipped += res.n_skipped;
	if (res.n_targets > 0) {
		r->grad_norm = res.grad_norm;
		s->loss_sum += res.loss;
		s->loss_steps++;
		s->total_loss += res.loss;
		s->total_steps++;
	} else {
		df_warn("step %" PRIu64 ": no sample has a target: nothing was updated", s->step);
	}
	r->n_samples += n;
	report->n_tokens += res.n_tokens;
	report->seconds += df_monotonic() - t;
	df_progress(s->step - r->first_step, r->end - r->first_step, "steps");
	if ((r->log_every && s->step % r->log_every == 0) || (r->c->logging_first_step && s->step == 1))
		return log_step(r, err);
	return DF_OK;
}

/* The model itself and the final words, in output_dir. */
static int
write_results(struct df_run *r, double seconds, struct df_err *err)
{
	struct df_train_summary sum = summary(r, seconds);
	const char *dir = r->c->output_dir;
	int rc = DF_OK;

	DF_TRY(df_model_save(r->model, dir, err));
	if (r->tokenizer)
		DF_TRY(df_tokenizer_save(r->tokenizer, dir, err));
	DF_TRY(df_train_state_save(&r->state, dir, err));
	DF_TRY(df_trainlog_write_state(&r->log, &sum, dir, err));
	DF_TRY(df_trainlog_write_results(&r->log, &sum, dir, err));
	df_info("%s: the model after %" PRIu64 " steps, train_loss %.4f", dir, sum.step, sum.train_loss);
out:
	return rc;
}

static int
loop(struct df_run *r, struct df_train_report *report, struct df_err *err)
{
	struct df_train_state *s = &r->state;
	double began = df_monotonic();
	int rc = DF_OK;

	if (s->eval_pending)
		DF_TRY(finish_step(r, err));
	while (s->step < r->end && !df_stop_requested()) {
		DF_TRY(one_step(r, report, err));
		DF_TRY(finish_step(r, err));
	}
	report->step = s->step;
	if (df_stop_requested() && (s->step < r->end || s->eval_pending)) {
		if (s->step > r->first_step && r->saved != s->step)
			DF_TRY(save(r, !save_due(r) || s->eval_pending, true, err));
		rc = df_fail(err, DF_ESTOPPED, "stopped by a signal after step %" PRIu64, s->step);
		goto out;
	}
	/* an interim checkpoint, or one that a longer run saved in passing, becomes the one asked for */
	if (r->o->until && r->saved != s->step)
		DF_TRY(save(r, false, true, err));
	if (s->step == r->max_steps)
		DF_TRY(write_results(r, df_monotonic() - began, err));
out:
	return rc;
}

/* ---- a run ------------------------------------------------------------------------ */

static int
lock_output(struct df_run *r, struct df_err *err)
{
	int rc;

	if ((rc = df_mkdirs(r->c->output_dir, err)) != DF_OK)
		return rc;
	if ((r->lock_fd = open(r->c->output_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return df_fail(err, DF_ECREATE, "%s:", r->c->output_dir);
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return df_fail(err, DF_ECREATE, "%s: another df-train is using it", r->c->output_dir);
	return DF_OK;
}

static void
release(struct df_run *r)
{
	df_stepper_free(r->stepper);
	df_model_free(r->model);
	df_tokenizer_free(r->tokenizer);
	df_sampler_release(&r->sampler);
	df_trainlog_release(&r->log);
	df_train_state_release(&r->state);
	df_rows_release(&r->rows);
	df_rows_release(&r->eval_rows);
	free(r->weights);
	free(r->index);
	free(r->which);
	free(r->start);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
}

/* Everything up to the model: what a dry run needs too. */
static int
prepare(struct df_run *r, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_run_inputs(r, err));
	DF_TRY(plan_steps(r, err));
	DF_TRY(df_run_begin_state(r, err));
	if (r->o->index) {
		uint64_t rows = (r->end - (r->end < r->state.window ? r->end : r->state.window)) * r->sampler.batch *
		    r->sampler.n_accum;

		df_sampler_set_index(&r->sampler, r->index, r->n_index, r->state.window);
		if (rows > r->n_index)
			df_info("steps %" PRIu64 " to %" PRIu64 " take %" PRIu64 " rows, %s has %" PRIu64
				": it is taken again from "
				"its start",
			    r->state.window + 1, r->end, rows, r->o->index, r->n_index);
	}
	DF_TRY(open_model(r, err));
	DF_TRY(open_tokenizer(r, err));
	r->first_step = r->state.step;
out:
	return rc;
}

/* Nothing is left to do, and all that a finished run writes is there. */
static int
finished(const struct df_run *r, bool *yes, struct df_err *err)
{
	char *path = NULL;
	int rc = df_path_join(&path, r->c->output_dir, "all_results.json", err);

	*yes = rc == DF_OK && r->state.step == r->max_steps && r->start_is_own && !r->state.interim &&
	    df_file_exists(path);
	free(path);
	return rc;
}

/* A run that is already past its goal: fine if what was asked for is there. */
static int
past(struct df_run *r, struct df_err *err)
{
	struct df_train_state s = { 0 };
	char *path = NULL;
	int rc = DF_OK;

	DF_TRY(df_checkpoint_path(&path, r->c->output_dir, r->end, err));
	if (!df_file_is_dir(path)) {
		rc = df_fail(err, DF_EUSAGE,
		    "%s is at step %" PRIu64 " already and %s is gone: give another output_dir, or "
		    "overwrite_output_dir=true",
		    r->c->output_dir, r->state.step, path);
		goto out;
	}
	DF_TRY(df_train_state_load(&s, path, err));
	DF_TRY(df_run_check_window(r, &s, path, err));
	df_info("%s is there already; the run has come to step %" PRIu64, path, r->state.step);
out:
	df_train_state_release(&s);
	free(path);
	return rc;
}

int
df_train_run(const struct df_train_opts *o, struct df_train_report *report, struct df_err *err)
{
	const struct df_train_config *c = o->config;
	struct df_stepper_opts so = {
		.batch = (size_t)c->per_device_train_batch_size,
		.weight_decay = c->weight_decay,
		.beta1 = c->adam_beta1,
		.beta2 = c->adam_beta2,
		.eps = c->adam_epsilon,
		.max_grad_norm = c->max_grad_norm,
	};
	struct df_run r = { .o = o, .c = c, .lock_fd = -1, .saved = UINT64_MAX };
	size_t per_step;
	bool done;
	int rc = DF_OK;

	*report = (struct df_train_report){ 0 };
	/* nothing is made or removed before all inputs are known to be good */
	if (df_file_is_dir(c->output_dir))
		DF_TRY(lock_output(&r, err));
	DF_TRY(df_run_find_start(&r, err));
	DF_TRY(prepare(&r, err));
	if (r.lock_fd < 0)
		DF_TRY(lock_output(&r, err));
	if (r.clear)
		DF_TRY(df_checkpoint_clear(c->output_dir, err));
	report->first_step = report->step = r.first_step;
	report->max_steps = r.max_steps;
	if (r.state.step > r.end) {
		rc = past(&r, err);
		goto out;
	}
	DF_TRY(df_checkpoint_rotate(c->output_dir, (uint64_t)c->save_total_limit, err));
	DF_TRY(finished(&r, &done, err));
	if (done) {
		df_info("%s: all %" PRIu64 " steps are done", c->output_dir, r.max_steps);
		goto out;
	}
	DF_TRY(df_stepper_new(&r.stepper, r.model, o->pool, &so, err));
	if (r.start) {
		DF_TRY(df_stepper_load(r.stepper, r.start, err));
		DF_TRY(df_trainlog_load(&r.log, r.start, err));
		df_info("going on from %s", r.start);
		if (!r.state.interim && r.start_is_own)
			r.saved = r.state.step;
	}
	DF_TRY(df_size_mul(so.batch, (size_t)c->gradient_accumulation_steps, &per_step, "samples of a step", err));
	DF_TRY(df_alloc(&r.which, per_step, sizeof(*r.which), "step", err));
	DF_TRY(df_trainlog_open(&r.log, c->output_dir, r.state.step, r.max_steps, err));
	rc = loop(&r, report, err);
out:
	release(&r);
	return rc;
}

int
df_train_dry_run(const struct df_train_opts *o, struct df_train_plan *plan, struct df_err *err)
{
	struct df_run r = { .o = o, .c = o->config, .lock_fd = -1 };
	double per_sample, steps;
	int rc = DF_OK;

	*plan = (struct df_train_plan){ 0 };
	DF_TRY(df_run_find_start(&r, err));
	DF_TRY(prepare(&r, err));
	plan->first_step = r.first_step;
	plan->n_rows = r.rows.n;
	plan->n_tokens = r.rows.offsets[r.rows.n];
	for (uint64_t i = 0; i < r.rows.n; i++)
		plan->n_targets += r.rows.n_targets[i];
	plan->n_unlabelled = r.rows.n_unlabelled;
	plan->steps_per_epoch = r.steps_per_epoch;
	plan->max_steps = r.max_steps;
	plan->end_step = r.end;
	plan->n_params = df_model_base(r.model)->numel;
	plan->n_trained = df_model_train(r.model)->numel;
	per_sample = (double)plan->n_tokens / (double)plan->n_rows;
	steps = r.end > plan->first_step ? (double)(r.end - plan->first_step) : 0;
	plan->flops = (df_model_has_lora(r.model) ? 4.0 : 6.0) * (double)plan->n_params * per_sample *
	    (double)(r.sampler.batch * r.sampler.n_accum) * steps;
	plan->memory = 4.0 * (double)(plan->n_params + 4 * plan->n_trained) + 5.0 * (double)plan->n_tokens;
	plan->checkpoint = 12.0 * (double)plan->n_trained;
out:
	release(&r);
	return rc;
}

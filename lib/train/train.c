/*
 * train.c - the training loop.
 *
 * Everything that a step depends on is either saved in a checkpoint (weights, moments, the counters of
 * struct df_train_state) or a pure function of the step's number (rows, learning rate).  So to resume
 * is to load and to count on.
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
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "eval/loss.h"
#include "train/run_dynamic.h"
#include "train/run_priv.h"
#include "weigh/dft.h"

/* ---- setting up ----------------------------------------------------------------- */

/* "every": a number of steps, or below 1 a fraction of all steps; at least 1. */
static uint64_t
every(double x, uint64_t total)
{
	uint64_t n = x < 1 ? (uint64_t)ceil(x * (double)total) : (uint64_t)x;

	return n > 0 ? n : 1;
}

static uint64_t
strategy(const struct df_run *r, enum df_strategy when, double steps)
{
	switch (when) {
	case DF_STRATEGY_STEPS: return every(steps, r->max_steps);
	case DF_STRATEGY_EPOCH: return r->steps_per_epoch;
	default: return 0;
	}
}

static int
plan_steps(struct df_run *r, struct df_err *err)
{
	const struct df_config *c = r->c;
	int rc = DF_OK;

	DF_TRY(df_sampler_init(&r->sampler, r->rows.n, r->rows.id, (uint64_t)c->seed, !c->disable_shuffling,
	    (uint64_t)c->per_device_train_batch_size, (uint64_t)c->gradient_accumulation_steps, err));
	if (c->dataloader_drop_last)
		df_sampler_drop_last(&r->sampler);
	if (r->sampler.n_epoch == 0) {
		rc = df_fail(err, DF_ECONFIG,
		    "dataloader_drop_last leaves nothing: %s has %" PRIu64
		    " samples, per_device_train_batch_size is %" PRId64,
		    r->rows.name, r->rows.n, c->per_device_train_batch_size);
		goto out;
	}
	r->steps_per_epoch = df_sampler_steps_per_epoch(&r->sampler);
	DF_TRY(df_run_dynamic_plan(r, err));
	r->max_steps = r->events.max_steps;
	r->end = r->o->until > 0 && r->o->until < r->max_steps ? r->o->until : r->max_steps;
	if (r->o->until > r->max_steps)
		df_info("the run ends at step %" PRIu64 ", before --until %" PRIu64, r->max_steps, r->o->until);
	r->log_every = c->logging_steps > 0 || c->logging_strategy != DF_STRATEGY_STEPS
	    ? strategy(r, c->logging_strategy, c->logging_steps)
	    : 0;
	r->save_every = strategy(r, c->save_strategy, c->save_steps);
	r->save_best = c->save_strategy == DF_STRATEGY_BEST;
	r->eval_every = strategy(r, c->eval_strategy, c->eval_steps > 0 ? c->eval_steps : c->logging_steps);
	if (c->load_best_model_at_end && r->eval_every > 0 && r->save_every % r->eval_every != 0) {
		rc = df_fail(err, DF_ECONFIG,
		    "load_best_model_at_end needs save_steps (%" PRIu64 ") to be a multiple of eval_steps (%" PRIu64
		    ")",
		    r->save_every, r->eval_every);
		goto out;
	}
	rc = df_schedule_init(&r->schedule, c->lr_scheduler_type, &c->lr_scheduler_kwargs, c->learning_rate,
	    r->max_steps, c->warmup_steps, c->warmup_ratio, err);
	if (rc == DF_ECONFIG && c->path)
		df_err_prefix(err, "%s: ", c->path);
out:
	return rc;
}

static int
rotate(const struct df_run *r, struct df_err *err)
{
	return df_checkpoint_rotate(r->c->output_dir, (uint64_t)r->c->save_total_limit,
	    r->c->load_best_model_at_end || r->save_best ? r->state.best.saved : 0, err);
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
		.best_metric = r->wants_best && s->best.known ? s->best.metric : NAN,
		.best_step = r->wants_best ? s->best.step : 0,
		.best_checkpoint = r->wants_best ? s->best.saved : 0,
	};
}

static bool
save_due(const struct df_run *r)
{
	if (r->save_best)
		return r->state.best.known && r->state.best.step == r->state.step;
	return r->save_every && (r->state.step % r->save_every == 0 || r->state.step == r->max_steps);
}

static int
save(struct df_run *r, bool interim, bool with_optimizer, struct df_err *err)
{
	struct df_checkpoint c = { r->model, with_optimizer ? r->stepper : NULL, r->tokenizer, &r->log, NULL,
		&r->state };
	struct df_train_summary sum;
	double t = df_seconds();
	int rc;

	if (r->kind && r->kind->save && (rc = r->kind->save(r, err)) != DF_OK)
		return rc;
	r->state.interim = interim;
	/* Only a checkpoint that every run saves can be the best one: those of --until or a signal must not decide. */
	if (!interim && save_due(r) && r->state.best.step == r->state.step)
		r->state.best.saved = r->state.step;
	sum = summary(r, -1);
	c.summary = &sum;
	if ((rc = df_checkpoint_save(&c, r->c->output_dir, err)) != DF_OK)
		return rc;
	if (!interim && with_optimizer)
		r->saved = r->state.step;
	df_info("saved %s/checkpoint-%" PRIu64 " (%.2f s)", r->c->output_dir, r->state.step, df_seconds() - t);
	return rotate(r, err);
}

static double
metric_of(const struct df_run *r, const struct df_eval *ev)
{
	switch (r->metric) {
	case DF_METRIC_ACCURACY: return df_eval_sample_accuracy(&ev->all);
	case DF_METRIC_DOMAIN: return df_eval_loss(&ev->domain[r->metric_domain]);
	default: return df_eval_loss(&ev->all);
	}
}

static int
evaluate(struct df_run *r, struct df_err *err)
{
	struct df_eval_opts o = { .max_samples = (size_t)r->c->per_device_eval_batch_size, .dft = r->c->use_dft_loss };
	struct df_train_event e = { .step = r->state.step, .eval = true, .epoch = epoch(r), .accuracy = NAN };
	struct df_eval ev = { 0 };
	int rc = DF_OK;

	r->state.eval_pending = true;
	DF_TRY(df_eval_run(&ev, r->model, &r->eval_rows, r->o->pool, &o, err));
	e.loss = df_eval_loss(&ev.all);
	if (r->c->compute_accuracy)
		e.accuracy = df_eval_sample_accuracy(&ev.all);
	if (r->log.n_names > 0) {
		DF_TRY(df_alloc(&e.each, r->log.n_names, sizeof(*e.each), "losses", err));
		for (size_t i = 0; i < r->log.n_names; i++)
			e.each[i] = df_eval_loss(&ev.domain[i]);
	}
	DF_TRY(df_trainlog_add(&r->log, &e, r->state.tokens_seen, err));
	r->state.eval_pending = false;
	df_info("step %" PRIu64 "/%" PRIu64 "  eval_loss %.4f", e.step, r->max_steps, e.loss);
	if (r->wants_best)
		df_best_update(&r->state.best, &r->best, metric_of(r, &ev), e.step);
	if (r->state.best.stopped)
		df_info("step %" PRIu64 "/%" PRIu64 "  no better since step %" PRIu64 ": the run ends early", e.step,
		    r->max_steps, r->state.best.step);
out:
	free(e.each);
	df_eval_release(&ev);
	return rc;
}

static int
log_step(struct df_run *r, struct df_err *err)
{
	struct df_train_state *s = &r->state;
	struct df_train_event e = {
		.step = s->step, .lr = r->lr, .grad_norm = r->grad_norm, .epoch = epoch(r), .accuracy = NAN
	};
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

/* As with transformers, the end of the run also ends an epoch, whole or not. */
static bool
log_due(const struct df_run *r)
{
	const uint64_t g = r->state.step;
	const bool over = g == r->max_steps || r->state.best.stopped;

	return (r->log_every && g % r->log_every == 0) || (r->c->logging_first_step && g == 1) ||
	    (over && r->c->logging_strategy == DF_STRATEGY_EPOCH);
}

/* Evaluate and save if it is due at this step.  A checkpoint that --until asks for can always be resumed. */
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
		if (r->state.best.stopped && log_due(r) && (rc = log_step(r, err)) != DF_OK)
			return rc;
	}
	asked = asked || r->state.best.stopped; /* so that a run that is started again sees that it is over */
	return asked || save_due(r) ? save(r, false, asked || !r->c->save_only_model, err) : DF_OK;
}

/* At most `most` rows of the steps from g on: those of the next window are not known yet. */
static size_t
known_rows(const struct df_run *r, uint64_t g, size_t most)
{
	const uint64_t left = r->window_end > g ? r->window_end - g : 0;

	return left < most / r->per_step ? (size_t)left * r->per_step : most;
}

/* This step's rows and the next ones are read in the background, while it computes. */
static int
read_ahead(struct df_run *r, struct df_err *err)
{
	size_t n = known_rows(r, r->state.step, DF_RUN_AHEAD);

	if (!r->ahead)
		return DF_OK;
	df_sampler_ahead(&r->sampler, r->state.step, r->ahead, &n);
	return df_rows_ahead(&r->rows, r->ahead, n, err);
}

/* The next step's rows are gathered while this one computes; those of another epoch or window are not known yet. */
static void
gather_ahead(struct df_run *r)
{
	size_t n = r->state.step + 1 < r->end ? known_rows(r, r->state.step + 1, r->per_step) : 0;

	if (n > 0)
		df_sampler_ahead(&r->sampler, r->state.step + 1, r->next, &n);
	df_stepper_next(r->stepper, r->next, n);
}

static int
one_step(struct df_run *r, struct df_train_report *report, struct df_err *err)
{
	struct df_train_state *s = &r->state;
	struct df_step_result res;
	double t = df_seconds();
	size_t n;
	int rc;

	if ((rc = df_sampler_step(&r->sampler, s->step, r->which, &n, err)) != DF_OK ||
	    (rc = read_ahead(r, err)) != DF_OK)
		return rc;
	gather_ahead(r);
	r->lr = df_schedule_lr(&r->schedule, s->step) * s->best.plateau.scale;
	rc = df_stepper_run(
	    r->stepper, &r->rows, r->which, n, r->kind && r->kind->weighs ? NULL : r->weights, r->lr, &res, err);
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
	if (r->kind && r->kind->stepped && (rc = r->kind->stepped(r, &res, err)) != DF_OK)
		return rc;
	report->n_tokens += res.n_tokens;
	report->seconds += df_seconds() - t;
	df_progress(s->step - r->first_step, r->end - r->first_step, "steps");
	if (log_due(r) && (rc = log_step(r, err)) != DF_OK)
		return rc;
	if (r->kind && r->kind->log && (log_due(r) || s->step == r->max_steps))
		return r->kind->log(r, err);
	return DF_OK;
}

/* load_best_model_at_end: load the best checkpoint's weights in place of the last ones. */
static int
load_best(struct df_run *r, struct df_err *err)
{
	uint64_t step = r->state.best.saved;
	char *path = NULL;
	int rc = DF_OK;

	if (step == 0 || step == r->state.step)
		return DF_OK;
	DF_TRY(df_checkpoint_path(&path, r->c->output_dir, step, err));
	/* Not both at once: a model may fill the memory. */
	df_stepper_free(r->stepper);
	r->stepper = NULL;
	df_model_free(r->model);
	r->model = NULL;
	DF_TRY(df_model_open(&r->model, path, r->c->model_name_or_path, r->o->backend, err));
	df_info("the best model is that of step %" PRIu64 " (%s %.4f)", step,
	    r->c->metric_for_best_model ? r->c->metric_for_best_model : "loss", r->state.best.metric);
out:
	free(path);
	return rc;
}

/* Write the model itself and the final results to output_dir. */
static int
write_results(struct df_run *r, double seconds, struct df_err *err)
{
	struct df_train_summary sum = summary(r, seconds);
	const char *dir = r->c->output_dir;
	int rc = DF_OK;

	if (r->kind && r->kind->save)
		DF_TRY(r->kind->save(r, err));
	if (r->kind && r->kind->end)
		DF_TRY(r->kind->end(r, err));
	if (r->c->load_best_model_at_end)
		DF_TRY(load_best(r, err));
	/*
	 * The state comes first: a run that kept no checkpoint and is killed here then recognises the
	 * half-written model as its own.
	 */
	DF_TRY(df_train_state_save(&r->state, dir, err));
	DF_TRY(df_model_save(r->model, dir, err));
	if (r->tokenizer)
		DF_TRY(df_tokenizer_save(r->tokenizer, dir, err));
	DF_TRY(df_trainlog_write_state(&r->log, &sum, dir, err));
	DF_TRY(df_trainlog_write_results(&r->log, &sum, dir, err));
	df_info("%s: the model after %" PRIu64 " steps, train_loss %.4f", dir, sum.step, sum.train_loss);
out:
	return rc;
}

/* The next step cannot be trained yet: what was done is kept, and the error says what to do. */
static int
check_ready(struct df_run *r, struct df_err *err)
{
	const int rc = df_run_dynamic_ready(r, err);
	int bad;

	if (rc != DF_OK && r->state.step > r->first_step && r->saved != r->state.step &&
	    (bad = save(r, false, true, err)) != DF_OK)
		return bad;
	return rc;
}

static int
loop(struct df_run *r, struct df_train_report *report, struct df_err *err)
{
	struct df_train_state *s = &r->state;
	double began = df_seconds();
	int rc = DF_OK;

	if (s->eval_pending)
		DF_TRY(finish_step(r, err));
	while (s->step < r->end && !s->best.stopped && !df_stop_requested()) {
		DF_TRY(check_ready(r, err));
		if ((rc = df_run_dynamic_step(r, err)) == DF_ESTOPPED)
			break;
		DF_TRY(rc);
		DF_TRY(one_step(r, report, err));
		DF_TRY(finish_step(r, err));
	}
	rc = DF_OK;
	report->step = s->step;
	if (df_stop_requested() && ((s->step < r->end && !s->best.stopped) || s->eval_pending)) {
		if (s->step > r->first_step && r->saved != s->step)
			DF_TRY(save(r, !save_due(r) || s->eval_pending, true, err));
		rc = df_fail(err, DF_ESTOPPED, "stopped by a signal after step %" PRIu64, s->step);
		goto out;
	}
	/* an interim checkpoint, or one that a longer run saved on its way, becomes the one asked for */
	if (r->o->until && r->saved != s->step)
		DF_TRY(save(r, false, true, err));
	if (s->step == r->max_steps || s->best.stopped)
		DF_TRY(write_results(r, df_seconds() - began, err));
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
	df_run_dynamic_release(r);
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
	free(r->next);
	free(r->ahead);
	free(r->start);
	if (r->lock_fd >= 0)
		close(r->lock_fd);
}

/* Prepare everything up to the model: a dry run needs this too. */
static int
prepare(struct df_run *r, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_run_inputs(r, err));
	DF_TRY(plan_steps(r, err));
	DF_TRY(df_run_dynamic_init(r, err));
	DF_TRY(df_run_begin_state(r, err));
	DF_TRY(df_run_metric(r, err));
	if (r->o->index && r->c->train_type != DF_TRAIN_SELECT) {
		uint64_t rows = (r->end - (r->end < r->state.window ? r->end : r->state.window)) * r->sampler.batch *
		    r->sampler.n_accum;

		df_sampler_set_index(&r->sampler, r->index, r->n_index, r->state.window);
		if (rows > r->n_index)
			df_info("steps %" PRIu64 " to %" PRIu64 " take %" PRIu64 " rows, %s has %" PRIu64
				": it starts again from "
				"its first row",
			    r->state.window + 1, r->end, rows, r->o->index, r->n_index);
	}
	DF_TRY(df_run_open_model(r, err));
	DF_TRY(df_run_open_tokenizer(r, err));
	if (r->kind && r->kind->open)
		DF_TRY(r->kind->open(r, err));
	r->first_step = r->state.step;
out:
	return rc;
}

/* *yes: nothing is left to do, and all files of a finished run are there. */
static int
finished(const struct df_run *r, bool *yes, struct df_err *err)
{
	char *path = NULL;
	bool there;
	int rc;

	DF_TRY(df_path_join(&path, r->c->output_dir, "all_results.json", err));
	DF_TRY(df_file_probe(path, &there, err));
	*yes = there && (r->state.step == r->max_steps || r->state.best.stopped) && r->start_is_own && !r->goes_back &&
	    !r->state.interim;
out:
	free(path);
	return rc;
}

/* The run is past step `end`, and checkpoint-`end` is not there. */
static int
no_way_back(const struct df_run *r, const char *path, struct df_err *err)
{
	struct df_checkpoint_census c = { 0 };
	char *before = NULL;
	int rc = DF_OK;

	DF_TRY(df_checkpoint_count(r->c->output_dir, r->end, &c, err));
	if (c.before > 0)
		DF_TRY(df_checkpoint_path(&before, r->c->output_dir, c.before, err));
	rc = df_fail(err, DF_EUSAGE,
	    "%s is at step %" PRIu64 " already, and there is no %s: give %s%s%sanother output_dir, or "
	    "overwrite_output_dir=true",
	    r->start, r->state.step, path, before ? "resume_from_checkpoint=" : "", before ? before : "",
	    before ? " to train on from there, " : "");
out:
	free(c.foreign);
	free(before);
	return rc;
}

/* A run that is already past its goal: no error if the checkpoint that was asked for is there. */
static int
past(struct df_run *r, struct df_err *err)
{
	struct df_train_state s = DF_TRAIN_STATE_INIT;
	char *path = NULL;
	int rc = DF_OK;

	DF_TRY(df_checkpoint_path(&path, r->c->output_dir, r->end, err));
	if (!df_file_is_dir(path)) {
		rc = no_way_back(r, path, err);
		goto out;
	}
	DF_TRY(df_train_state_load(&s, path, err));
	/* A checkpoint that the run left when it went back does not belong to it. */
	if (!df_train_state_passed(&r->state, &s.branch, s.step)) {
		rc = no_way_back(r, path, err);
		goto out;
	}
	DF_TRY(df_run_check_window(r, &s, path, err));
	df_info("%s is there already; the run is at step %" PRIu64, path, r->state.step);
out:
	df_train_state_release(&s);
	free(path);
	return rc;
}

int
df_train_run(const struct df_train_opts *o, struct df_train_report *report, struct df_err *err)
{
	const struct df_config *c = o->config;
	struct df_stepper_opts so = {
		.batch = (size_t)c->per_device_train_batch_size,
		.weight_decay = c->weight_decay,
		.beta1 = c->adam_beta1,
		.beta2 = c->adam_beta2,
		.eps = c->adam_epsilon,
		.max_grad_norm = c->max_grad_norm,
		.lr_b_ratio = c->loraplus_lr_ratio,
		.seed = (uint64_t)c->seed,
		.weigh_target = c->use_dft_loss ? df_dft_weigh : NULL,
	};
	struct df_run r = { .o = o, .c = c, .lock_fd = -1, .saved = UINT64_MAX, .state = DF_TRAIN_STATE_INIT };
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
	/* After going back, the start checkpoint must be kept until the run has saved a newer one of its own. */
	if (!r.goes_back)
		DF_TRY(rotate(&r, err));
	DF_TRY(finished(&r, &done, err));
	if (done) {
		df_info("%s: all %" PRIu64 " steps are done", c->output_dir, r.state.step);
		goto out;
	}
	so.from = r.start;
	DF_TRY(df_stepper_new(&r.stepper, r.model, o->pool, &so, err));
	if (r.start) {
		DF_TRY(df_trainlog_load(&r.log, r.start, err));
		df_info("going on from %s", r.start);
		if (!r.state.interim && r.start_is_own)
			r.saved = r.state.step;
	}
	DF_TRY(df_size_mul(so.batch, (size_t)c->gradient_accumulation_steps, &per_step, "samples of a step", err));
	r.per_step = per_step;
	DF_TRY(df_alloc(&r.which, per_step, sizeof(*r.which), "step", err));
	DF_TRY(df_alloc(&r.next, per_step, sizeof(*r.next), "step", err));
	if (r.state.step < r.end || r.goes_back)
		DF_TRY(df_checkpoint_reopen(c->output_dir, r.start_is_own, err));
	if (df_rows_on_demand(&r.rows))
		DF_TRY(df_alloc(&r.ahead, DF_RUN_AHEAD, sizeof(*r.ahead), "rows ahead", err));
	DF_TRY(df_trainlog_open(&r.log, c->output_dir, r.state.step, r.max_steps, err));
	DF_TRY(df_run_dynamic_begin(&r, err));
	rc = loop(&r, report, err);
out:
	release(&r);
	return rc;
}

int
df_train_dry_run(const struct df_train_opts *o, struct df_train_plan *plan, struct df_err *err)
{
	struct df_run r = { .o = o, .c = o->config, .lock_fd = -1, .state = DF_TRAIN_STATE_INIT };
	double per_sample, steps;
	int rc = DF_OK;

	*plan = (struct df_train_plan){ 0 };
	DF_TRY(df_run_find_start(&r, err));
	DF_TRY(prepare(&r, err));
	plan->first_step = r.first_step;
	plan->n_rows = r.rows.n;
	plan->n_tokens = r.rows.n_tokens;
	plan->counted = r.rows.counted;
	plan->n_targets = r.rows.n_targets;
	plan->n_unlabelled = r.rows.n_unlabelled;
	plan->steps_per_epoch = r.steps_per_epoch;
	plan->max_steps = r.max_steps;
	plan->end_step = r.end;
	plan->n_params = df_model_base(r.model)->numel;
	plan->n_trained = df_model_train(r.model)->numel;
	per_sample = (double)plan->n_tokens / (double)plan->n_rows;
	steps = r.end > plan->first_step ? (double)(r.end - plan->first_step) : 0;
	plan->checkpointing = r.checkpointing;
	/* forward, and backward to the inputs; to the weights; and, with checkpointing, the forward again */
	plan->flops = (4.0 + 2.0 * !df_model_has_lora(r.model) + 2.0 * r.checkpointing) * (double)plan->n_params *
	    per_sample * (double)(r.sampler.batch * r.sampler.n_accum) * steps;
	/* weights as in the file; masters, gradient and two moments of the trainable parameters */
	plan->memory = (double)df_model_bytes(r.model) + 16.0 * (double)plan->n_trained + df_rows_bytes(&r.rows);
	plan->activations = r.activations;
	plan->checkpoint = 12.0 * (double)plan->n_trained;
out:
	release(&r);
	return rc;
}

int
df_train_events(const struct df_train_opts *o, struct df_events *events, struct df_err *err)
{
	struct df_run r = { .o = o, .c = o->config, .lock_fd = -1, .state = DF_TRAIN_STATE_INIT };
	int rc;

	DF_TRY(df_run_inputs(&r, err));
	DF_TRY(plan_steps(&r, err));
	*events = r.events;
out:
	release(&r);
	return rc;
}

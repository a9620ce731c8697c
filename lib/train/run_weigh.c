/*
 * run_weigh.c - from the losses of a step to the weights of its samples, by the method of the configuration.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/path.h"
#include "config/component.h"
#include "train/jsonl.h"
#include "train/run_weigh.h"
#include "train/states.h"
#include "weigh/params.h"

#define ANCHOR_ROWS 1024 /* whose vectors are in memory at the same time */
#define EDGES       17   /* 0, 0.25, .. 4 */

/* Weights relative to the plain mean over their group, where each would be 1. */
struct stats {
	uint64_t n, n_invalid, n_rough; /* weights; samples whose loss was not finite; groups that did not converge */
	double min, max, sum, squares;
	uint64_t count[EDGES]; /* from each edge to the next; the last: beyond */
};

struct weights {
	struct df_component component;
	const struct df_weigher *method;
	void *options;
	struct df_weigh_params params;
	uint64_t warmup;
	struct df_weigh_states look; /* of a method that looks at hidden states */
	struct df_states *states;    /* NULL: it does not */
	const struct df_rows *anchors;
	struct df_rows own_anchors; /* where the run has no evaluation tokens in memory */
	double *anchor;             /* [dim] */
	bool has_anchor;
	void *open; /* of the method's open() */
	struct df_step_weigher weigher;
	struct stats since; /* the last line of the log */
	bool told_rough;
	char *log;                /* path of weight_log.jsonl */
	const struct df_run *run; /* during a step */
	/* the samples of a group that count */
	size_t *slot;
	uint64_t *row, *id;
	double *loss, *weight;
	uint32_t *n_targets;
	uint16_t *domain;
	float *given, *pooled;
	size_t cap_slot, cap_row, cap_id, cap_loss, cap_weight, cap_targets, cap_domain, cap_given, cap_pooled;
};

/* ---- the component -------------------------------------------------------------- */

/* The method, its options, and those of the run; all of them borrow from the component. */
static int
set_options(struct weights *x, struct df_err *err)
{
	const struct df_component *c = &x->component;
	struct df_opt_part part[DF_WEIGH_PARTS];
	int rc;

	DF_TRY(df_weigh_pick(&x->method, c->name, df_component_param(c, "plugin"), err));
	DF_TRY(df_opt_defaults(&x->options, x->method->defaults, x->method->defaults_size, err));
	DF_TRY(df_component_options(c, part, df_weigh_parts(x->method, c->name, x->options, &x->params, part), err));
	if (x->method->check)
		DF_TRY(x->method->check(x->options, err));
out:
	return rc;
}

/* Does it fit what else the configuration says? */
static int
check_run(const struct weights *x, const struct df_run *r, struct df_err *err)
{
	const struct df_config *c = r->c;
	const char *name = x->method->name;

	if (c->use_dft_loss)
		return df_config_fail(c, "use_dft_loss", err,
		    "it weighs the targets of each sample, train_type: dynamic_weight the samples: give one of them");
	if (r->o->weights && !x->method->takes_given)
		return df_fail(
		    err, DF_EUSAGE, "--weights: %s makes weights of its own; component custom takes a file", name);
	if (x->method->states && !c->eval_tokenized_path)
		return df_config_fail(c, "component_name", err,
		    "%s compares samples with the evaluation set, and there is none: give eval_tokenized_path", name);
	return DF_OK;
}

static void
tell(const struct weights *x, const struct df_run *r)
{
	const struct df_config *c = r->c;

	df_info("weights: %s, of each %s, from step %" PRIu64 " on", x->method->name,
	    x->params.group ? "step" : "micro-batch", x->warmup + 1);
	if (x->method->relative && c->per_device_train_batch_size == 1 &&
	    (!x->params.group || c->gradient_accumulation_steps == 1))
		df_warn("a group has one sample, which weighs 1: nothing is weighed; component_params.group=step, with "
			"gradient_accumulation_steps, or a larger per_device_train_batch_size changes that");
	if (strcmp(x->method->name, "custom") == 0 && !r->o->weights && !x->open)
		df_warn(
		    "component custom has no --weights, no program and no plugin: each sample weighs 1, as in DataFlex");
}

static int
init(struct df_run *r, struct df_err *err)
{
	const struct df_config *c = r->c;
	struct weights *x;
	int rc;

	if ((rc = df_alloc(&x, 1, sizeof(*x), "weights", err)) != DF_OK)
		return rc;
	r->dynamic = x;
	x->warmup = (uint64_t)c->warmup_step;
	DF_TRY(df_component_load(&x->component, c, err));
	if ((rc = set_options(x, err)) != DF_OK)
		df_err_prefix(err, "component '%s': ", c->component_name ? c->component_name : "");
	if (rc == DF_EUSAGE)
		rc = err->code = DF_ECONFIG;
	if (rc != DF_OK)
		goto out;
	if (x->method->states)
		x->method->states(x->options, &x->look);
	DF_TRY(check_run(x, r, err));
	rc = df_path_join(&x->log, c->output_dir, "weight_log.jsonl", err);
out:
	return rc;
}

static void
release(struct df_run *r)
{
	struct weights *x = r->dynamic;

	if (x->method && x->method->close)
		x->method->close(x->open);
	df_component_release(&x->component);
	df_states_free(x->states);
	df_rows_release(&x->own_anchors);
	free(x->options);
	free(x->anchor);
	free(x->log);
	free(x->slot);
	free(x->row);
	free(x->id);
	free(x->loss);
	free(x->weight);
	free(x->n_targets);
	free(x->domain);
	free(x->given);
	free(x->pooled);
	free(x);
}

static int weigh(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err);

static int
open_weigh(struct df_run *r, struct df_err *err)
{
	struct weights *x = r->dynamic;
	const char *const eval[] = { r->c->eval_tokenized_path };
	int rc = DF_OK;

	x->weigher = (struct df_step_weigher){ weigh, x, x->params.group != 0 };
	if (x->method->states) {
		DF_TRY(df_states_new(&x->states, r->model, r->o->pool, x->look.pooling, x->look.layer, err));
		x->anchors = &r->eval_rows;
		if (!r->has_eval) {
			DF_TRY(df_rows_load(&x->own_anchors, "evaluation tokens", eval, 1, err));
			DF_TRY(df_rows_check_vocab(
			    &x->own_anchors, df_model_config(r->model)->n_vocab, r->c->model_name_or_path, err));
			x->anchors = &x->own_anchors;
		}
		DF_TRY(df_alloc(&x->anchor, df_states_dim(x->states), sizeof(*x->anchor), "anchors", err));
	}
out:
	return rc;
}

/* ---- anchors -------------------------------------------------------------------- */

static bool
due(const struct weights *x, uint64_t step)
{
	const uint64_t since = x->look.from_first ? step - x->warmup : step;

	return !x->has_anchor || since % x->look.every == 0;
}

static int
read_anchors(struct weights *x, struct df_err *err)
{
	const size_t dim = df_states_dim(x->states), n = (size_t)x->anchors->n;
	uint64_t *which = NULL;
	float *pooled = NULL;
	double *sum = NULL;
	size_t numel;
	int rc;

	DF_TRY(df_size_mul(ANCHOR_ROWS, dim, &numel, "anchors", err));
	DF_TRY(df_alloc(&which, ANCHOR_ROWS, sizeof(*which), "anchors", err));
	DF_TRY(df_alloc(&pooled, numel, sizeof(*pooled), "anchors", err));
	DF_TRY(df_alloc(&sum, dim, sizeof(*sum), "anchors", err));
	for (size_t first = 0; first < n; first += ANCHOR_ROWS) {
		const size_t count = n - first < ANCHOR_ROWS ? n - first : ANCHOR_ROWS;

		for (size_t i = 0; i < count; i++)
			which[i] = first + i;
		DF_TRY(df_states_run(x->states, x->anchors, which, count, pooled, err));
		x->method->anchor_add(x->options, pooled, count, dim, sum);
	}
	x->method->anchor_end(x->options, sum, n, dim, x->anchor);
	for (size_t j = 0; j < dim; j++) {
		if (!isfinite(x->anchor[j])) {
			rc = df_fail(
			    err, DF_ERANGE, "%s: hidden states of the anchors are not finite", x->anchors->name);
			goto out;
		}
	}
	x->has_anchor = true;
out:
	free(which);
	free(pooled);
	free(sum);
	return rc;
}

static int
step(struct df_run *r, struct df_err *err)
{
	struct weights *x = r->dynamic;
	const bool active = r->state.step >= x->warmup;
	int rc = DF_OK;

	x->run = r;
	df_stepper_weigh(r->stepper, active ? &x->weigher : NULL);
	if (active && x->states && due(x, r->state.step))
		DF_TRY(read_anchors(x, err));
out:
	return rc;
}

/* ---- weights -------------------------------------------------------------------- */

static int
grow(struct weights *x, size_t n, struct df_err *err)
{
	size_t numel = 0;
	int rc;

	DF_TRY(df_grow(&x->slot, &x->cap_slot, n, sizeof(*x->slot), "a group", err));
	DF_TRY(df_grow(&x->row, &x->cap_row, n, sizeof(*x->row), "a group", err));
	DF_TRY(df_grow(&x->id, &x->cap_id, n, sizeof(*x->id), "a group", err));
	DF_TRY(df_grow(&x->loss, &x->cap_loss, n, sizeof(*x->loss), "a group", err));
	DF_TRY(df_grow(&x->weight, &x->cap_weight, n, sizeof(*x->weight), "a group", err));
	DF_TRY(df_grow(&x->n_targets, &x->cap_targets, n, sizeof(*x->n_targets), "a group", err));
	DF_TRY(df_grow(&x->domain, &x->cap_domain, n, sizeof(*x->domain), "a group", err));
	DF_TRY(df_grow(&x->given, &x->cap_given, n, sizeof(*x->given), "a group", err));
	if (x->states) {
		DF_TRY(df_size_mul(n, df_states_dim(x->states), &numel, "a group", err));
		DF_TRY(df_grow(&x->pooled, &x->cap_pooled, numel, sizeof(*x->pooled), "a group", err));
	}
out:
	return rc;
}

/* The samples of g that count: those with targets whose loss is finite.  All others weigh 0. */
static size_t
choose(struct weights *x, const struct df_step_group *g, double *weight)
{
	const struct df_target_losses *l = &g->losses;
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		const uint32_t targets = l->offsets[i + 1] - l->offsets[i];
		double sum = 0;

		weight[i] = 0;
		if (targets == 0)
			continue;
		for (size_t t = l->offsets[i]; t < l->offsets[i + 1]; t++)
			sum += (double)l->nll[t];
		if (!isfinite(sum)) {
			x->since.n_invalid++;
			df_warn("step %" PRIu64 ": the loss of sample %" PRIu64
				" is not finite: it is left out of the step",
			    x->run->state.step + 1, l->id[i]);
			continue;
		}
		x->slot[n] = i;
		x->row[n] = g->row[i];
		x->id[n] = l->id[i];
		x->loss[n] = sum / targets;
		x->n_targets[n] = targets;
		x->domain[n] = l->domain[i];
		x->given[n] = x->run->weights ? x->run->weights[g->row[i]] : 1;
		n++;
	}
	return n;
}

static void
count(struct stats *s, double w)
{
	const double at = floor(w * 4);

	s->min = s->n == 0 || w < s->min ? w : s->min;
	s->max = s->n == 0 || w > s->max ? w : s->max;
	s->n++;
	s->sum += w;
	s->squares += w * w;
	s->count[at < EDGES - 1 ? (size_t)at : EDGES - 1]++;
}

static void
note_rough(struct weights *x)
{
	x->since.n_rough++;
	if (!x->told_rough)
		df_warn("step %" PRIu64 ": the weights of %s have not converged; weight_log.jsonl counts such groups",
		    x->run->state.step + 1, x->method->name);
	x->told_rough = true;
}

static int
weigh(void *ctx, const struct df_step_group *g, double *weight, struct df_err *err)
{
	struct weights *x = ctx;
	const struct df_run *r = x->run;
	struct df_weigh_group group;
	bool rough = false;
	size_t n;
	int rc;

	DF_TRY(grow(x, g->losses.n, err));
	if ((n = choose(x, g, weight)) == 0)
		goto out;
	if (x->states)
		DF_TRY(df_states_run(x->states, &r->rows, x->row, n, x->pooled, err));
	group = (struct df_weigh_group){
		.n = n,
		.loss = x->loss,
		.n_targets = x->n_targets,
		.id = x->id,
		.domain = x->domain,
		.given = r->weights ? x->given : NULL,
		.pooled = x->states ? x->pooled : NULL,
		.anchor = x->anchor,
		.dim = x->states ? df_states_dim(x->states) : 0,
		.step = r->state.step,
		.weighed = r->state.step - x->warmup,
		.state = x->open,
		.rough = &rough,
	};
	DF_TRY(x->method->weights(x->options, &group, x->weight, err));
	if (rough)
		note_rough(x);
	for (size_t i = 0; i < n; i++) {
		if (!(x->weight[i] >= 0) || !isfinite(x->weight[i])) {
			rc = df_fail(err, DF_EFORMAT,
			    "%s gives sample %" PRIu64 " the weight %g: it must be a number from 0 up", x->method->name,
			    x->id[i], x->weight[i]);
			goto out;
		}
		count(&x->since, x->weight[i] * (double)n);
		weight[x->slot[i]] = x->weight[i] / (double)g->n_groups;
	}
out:
	return rc;
}

/* ---- the log -------------------------------------------------------------------- */

/* `, "name": x`, or null where nothing was weighed. */
static void
member(struct df_buf *b, const char *name, const struct stats *s, double x)
{
	df_buf_printf(b, ", \"%s\": ", name);
	if (s->n > 0)
		df_buf_json_double(b, x);
	else
		df_buf_puts(b, "null");
}

static void
put_line(struct df_buf *b, const struct weights *x, uint64_t step)
{
	const struct stats *s = &x->since;

	df_buf_printf(b, "{\"step\": %" PRIu64 ", \"method\": ", step);
	df_buf_json_str(b, x->method->name);
	df_buf_printf(b, ", \"n\": %" PRIu64, s->n);
	member(b, "min", s, s->min);
	member(b, "mean", s, s->sum / (double)s->n);
	member(b, "max", s, s->max);
	member(b, "effective", s, s->squares > 0 ? s->sum * s->sum / s->squares : 0);
	if (s->n_invalid > 0)
		df_buf_printf(b, ", \"invalid\": %" PRIu64, s->n_invalid);
	if (s->n_rough > 0)
		df_buf_printf(b, ", \"not_converged\": %" PRIu64, s->n_rough);
	df_buf_puts(b, ", \"edges\": [");
	for (size_t i = 0; i < EDGES; i++) {
		df_buf_puts(b, i ? ", " : "");
		df_buf_json_double(b, (double)i / 4);
	}
	df_buf_puts(b, "], \"counts\": [");
	for (size_t i = 0; i < EDGES; i++)
		df_buf_printf(b, "%s%" PRIu64, i ? ", " : "", s->count[i]);
	df_buf_puts(b, "]}\n");
}

static int
write_log(struct df_run *r, struct df_err *err)
{
	struct weights *x = r->dynamic;
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	if (x->since.n == 0 && x->since.n_invalid == 0)
		return DF_OK;
	put_line(&b, x, r->state.step);
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_jsonl_add(x->log, b.data, b.len, err));
	x->since = (struct stats){ 0 };
out:
	df_buf_release(&b);
	return rc;
}

/* ---- the state ------------------------------------------------------------------ */

#define STATS (7 + EDGES)

static size_t
n_numbers(const struct weights *x)
{
	return STATS + 1 + (x->states ? df_states_dim(x->states) : 0);
}

static int
save(struct df_run *r, struct df_err *err)
{
	const struct weights *x = r->dynamic;
	const struct stats *s = &x->since;
	const double first[] = { (double)s->n, (double)s->n_invalid, (double)s->n_rough, s->min, s->max, s->sum,
		s->squares };
	double *number = r->state.dynamic.number;

	(void)err;
	memcpy(number, first, sizeof(first));
	for (size_t i = 0; i < EDGES; i++)
		number[7 + i] = (double)s->count[i];
	number[STATS] = x->has_anchor;
	if (x->states)
		memcpy(number + STATS + 1, x->anchor, df_states_dim(x->states) * sizeof(*number));
	return DF_OK;
}

/* A count of a checkpoint, which may say anything. */
static uint64_t
whole(double x)
{
	return x >= 0 && x < 0x1p53 ? (uint64_t)x : 0;
}

static void
restore(struct weights *x, const double *number)
{
	x->since = (struct stats){
		.n = whole(number[0]),
		.n_invalid = whole(number[1]),
		.n_rough = whole(number[2]),
		.min = number[3],
		.max = number[4],
		.sum = number[5],
		.squares = number[6],
	};
	for (size_t i = 0; i < EDGES; i++)
		x->since.count[i] = whole(number[7 + i]);
	x->has_anchor = number[STATS] != 0;
	if (x->states)
		memcpy(x->anchor, number + STATS + 1, df_states_dim(x->states) * sizeof(*number));
}

/* Go on with the numbers of a checkpoint of this method, or begin without any; the log and the program go with it. */
static int
begin(struct df_run *r, struct df_err *err)
{
	struct df_dynamic *d = &r->state.dynamic;
	struct weights *x = r->dynamic;
	const char *name = x->method->name;
	int rc = DF_OK;

	if (d->method && strcmp(d->method, name) == 0 && d->n_numbers != n_numbers(x))
		return df_fail(err, DF_ELINEAGE,
		    "%s: its state of %s has %zu numbers, this run's has %zu: they are of different models", r->start,
		    name, d->n_numbers, n_numbers(x));
	if (d->method && strcmp(d->method, name) == 0) {
		restore(x, d->number);
	} else {
		if (d->method)
			df_info("%s is of %s; %s begins anew", r->start, d->method, name);
		DF_TRY(df_dynamic_init(d, name, 0, n_numbers(x), err));
	}
	DF_TRY(df_jsonl_cut(x->log, "step", r->start_is_own && r->state.step > 0 ? r->state.step + 1 : 0, err));
	if (x->method->open)
		DF_TRY(x->method->open(x->options, &x->open, err));
	tell(x, r);
out:
	return rc;
}

static const struct df_component *
component(const struct df_run *r)
{
	return &((const struct weights *)r->dynamic)->component;
}

const struct df_run_kind df_run_kind_weigh = {
	.takes_index = true,
	.weighs = true,
	.component = component,
	.init = init,
	.open = open_weigh,
	.begin = begin,
	.step = step,
	.log = write_log,
	.save = save,
	.release = release,
};

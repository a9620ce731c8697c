/*
 * schedule.c - the lambdas of transformers/optimization.py, one case each.
 */
#include <math.h>
#include <string.h>

#include "base/opt.h"
#include "base/words.h"
#include "train/schedule.h"

static const char *const curves[] = { "linear", "cosine", "1-sqrt", NULL };
static const char *const modes[] = { "min", "max", NULL };
static const char *const threshold_modes[] = { "rel", "abs", NULL };

static int
find(const char *word, const char *const *words)
{
	for (int i = 0; words[i]; i++) {
		if (strcmp(words[i], word) == 0)
			return i;
	}
	return -1;
}

/* The members that lr_scheduler_kwargs may have, and where their values go. */
struct arg {
	const char *name;
	unsigned types; /* one bit per enum df_schedule_type */
	double *real;
	uint64_t *count;
	enum df_schedule_curve *curve;
	const char *const *words; /* the two words that are allowed */
	bool *second;             /* set if the second one is given */
	bool *given;
};

static int
set_arg(const struct arg *a, const char *text, struct df_err *err)
{
	int64_t i;
	int c;

	if (a->given)
		*a->given = true;
	if (a->curve) {
		if ((c = find(text, curves)) < 0)
			return df_unknown(err, DF_ECONFIG, "curve", text, curves, NULL);
		*a->curve = (enum df_schedule_curve)c;
		return DF_OK;
	}
	if (a->words) {
		if ((c = find(text, a->words)) < 0)
			return df_fail(err, DF_ECONFIG, "'%.40s' is neither %s nor %s", text, a->words[0], a->words[1]);
		*a->second = c == 1;
		return DF_OK;
	}
	if (a->count) {
		if (df_parse_int(text, 0, INT64_MAX, &i, NULL) != DF_OK)
			return df_fail(err, DF_ECONFIG, "'%.40s' is not a number of steps", text);
		*a->count = (uint64_t)i;
		return DF_OK;
	}
	if (df_parse_double(text, a->real, NULL) != DF_OK || !isfinite(*a->real))
		return df_fail(err, DF_ECONFIG, "'%.40s' is not a number", text);
	return DF_OK;
}

int
df_schedule_init(struct df_schedule *s, enum df_schedule_type type, const struct df_config_map *kwargs, double lr,
    uint64_t n_steps, int64_t warmup_steps, double warmup_ratio, struct df_err *err)
{
	const unsigned cosines =
	    1u << DF_SCHEDULE_COSINE | 1u << DF_SCHEDULE_COSINE_WITH_RESTARTS | 1u << DF_SCHEDULE_COSINE_WITH_MIN_LR;
	const unsigned poly = 1u << DF_SCHEDULE_POLYNOMIAL, wsd = 1u << DF_SCHEDULE_WARMUP_STABLE_DECAY;
	const unsigned with_min = 1u << DF_SCHEDULE_COSINE_WITH_MIN_LR,
		       plateau = 1u << DF_SCHEDULE_REDUCE_LR_ON_PLATEAU;
	double min_lr = 0;
	bool has_min_lr = false, has_min_rate = false, has_stable = false, has_decay = false;
	const struct arg args[] = {
		{ "num_cycles", cosines | wsd, .real = &s->n_cycles },
		{ "lr_end", poly, .real = &s->lr_end },
		{ "power", poly, .real = &s->power },
		{ "min_lr", with_min, .real = &min_lr, .given = &has_min_lr },
		{ "min_lr_rate", with_min, .real = &s->min_rate, .given = &has_min_rate },
		{ "num_stable_steps", wsd, .count = &s->n_stable, .given = &has_stable },
		{ "num_decay_steps", wsd, .count = &s->n_decay, .given = &has_decay },
		{ "min_lr_ratio", wsd, .real = &s->min_rate },
		{ "warmup_type", wsd, .curve = &s->warmup },
		{ "decay_type", wsd, .curve = &s->decay },
		{ "mode", plateau, .words = modes, .second = &s->plateau_max },
		{ "threshold_mode", plateau, .words = threshold_modes, .second = &s->plateau_abs },
		{ "factor", plateau, .real = &s->plateau_factor },
		{ "threshold", plateau, .real = &s->threshold },
		{ "min_lr", plateau, .real = &s->plateau_min_lr },
		{ "eps", plateau, .real = &s->plateau_eps },
		{ "patience", plateau, .count = &s->plateau_patience },
		{ "cooldown", plateau, .count = &s->plateau_cooldown },
	};
	int rc;

	*s = (struct df_schedule){ .type = type,
		.lr = lr,
		.n_steps = n_steps,
		.n_cycles = type == DF_SCHEDULE_COSINE_WITH_RESTARTS ? 1 : 0.5,
		.lr_end = 1e-7,
		.power = 1,
		.warmup = DF_CURVE_LINEAR,
		.decay = DF_CURVE_COSINE,
		.plateau_factor = 0.1,
		.threshold = 1e-4,
		.plateau_eps = 1e-8,
		.plateau_patience = 10 };
	s->n_warmup = warmup_steps > 0 ? (uint64_t)warmup_steps : (uint64_t)ceil((double)n_steps * warmup_ratio);
	for (size_t i = 0; kwargs && i < kwargs->n; i++) {
		const struct arg *a = NULL;

		for (size_t j = 0; j < sizeof(args) / sizeof(args[0]); j++) {
			if (strcmp(args[j].name, kwargs->v[i].key) == 0 && args[j].types >> type & 1)
				a = &args[j];
		}
		if (!a)
			return df_fail(err, DF_ECONFIG, "lr_scheduler_kwargs: %s has no member '%.60s'",
			    df_schedule_names[type], kwargs->v[i].key);
		if ((rc = set_arg(a, kwargs->v[i].value, err)) != DF_OK) {
			df_err_prefix(err, "lr_scheduler_kwargs: %s: ", a->name);
			return rc;
		}
	}
	switch (s->type) {
	case DF_SCHEDULE_POLYNOMIAL:
		if (!(lr > s->lr_end))
			return df_fail(err, DF_ECONFIG,
			    "lr_scheduler_kwargs: lr_end (%g) must be below learning_rate (%g)", s->lr_end, lr);
		break;
	case DF_SCHEDULE_INVERSE_SQRT:
		/* not a member of its own: transformers' get_scheduler does not pass timescale */
		s->timescale = s->n_warmup ? (double)s->n_warmup : 10000;
		break;
	case DF_SCHEDULE_COSINE_WITH_MIN_LR:
		if (has_min_lr == has_min_rate)
			return df_fail(err, DF_ECONFIG,
			    "lr_scheduler_kwargs: cosine_with_min_lr needs min_lr or min_lr_rate%s",
			    has_min_lr ? ", not both" : "");
		if (has_min_lr && !(lr > 0))
			return df_fail(err, DF_ECONFIG, "lr_scheduler_kwargs: min_lr needs a learning_rate above 0");
		if (has_min_lr)
			s->min_rate = min_lr / lr;
		break;
	case DF_SCHEDULE_REDUCE_LR_ON_PLATEAU:
		if (!(s->plateau_factor < 1 && s->plateau_factor >= 0) || s->plateau_min_lr < 0)
			return df_fail(err, DF_ECONFIG, "lr_scheduler_kwargs: %s",
			    s->plateau_min_lr < 0 ? "min_lr is below 0" : "factor must be below 1, and not below 0");
		break;
	case DF_SCHEDULE_WARMUP_STABLE_DECAY: {
		uint64_t rest = n_steps > s->n_warmup ? n_steps - s->n_warmup : 0, stable = rest / 3;

		if (!has_stable)
			s->n_stable = stable;
		if (!has_decay)
			s->n_decay = rest - stable;
		break;
	}
	default: break;
	}
	return DF_OK;
}

static double
wsd_factor(const struct df_schedule *s, double i)
{
	double warm = (double)s->n_warmup, stable = (double)s->n_stable, decay = (double)s->n_decay, p, f;

	if (i < warm) {
		p = i / fmax(1, warm);
		switch (s->warmup) {
		case DF_CURVE_COSINE: f = 0.5 * (1 - cos(M_PI * p)); break;
		case DF_CURVE_1_SQRT: f = 1 - sqrt(1 - p); break;
		default: f = p;
		}
	} else if (i < warm + stable) {
		return 1;
	} else if (i < warm + stable + decay) {
		p = (i - warm - stable) / fmax(1, decay);
		switch (s->decay) {
		case DF_CURVE_COSINE: f = 0.5 * (1 + cos(M_PI * s->n_cycles * 2 * p)); break;
		case DF_CURVE_1_SQRT: f = 1 - sqrt(p); break;
		default: f = 1 - p;
		}
	} else {
		return s->min_rate;
	}
	return fmax(0, f * (1 - s->min_rate) + s->min_rate);
}

static double
factor(const struct df_schedule *s, double i)
{
	double n = (double)s->n_steps, w = (double)s->n_warmup, p = (i - w) / fmax(1, n - w);

	if (s->type == DF_SCHEDULE_CONSTANT || s->type == DF_SCHEDULE_REDUCE_LR_ON_PLATEAU)
		return 1;
	if (s->type == DF_SCHEDULE_WARMUP_STABLE_DECAY)
		return wsd_factor(s, i);
	if (i < w)
		return i / fmax(1, w);
	switch (s->type) {
	case DF_SCHEDULE_LINEAR: return fmax(0, (n - i) / fmax(1, n - w));
	case DF_SCHEDULE_COSINE: return fmax(0, 0.5 * (1 + cos(M_PI * s->n_cycles * 2 * p)));
	case DF_SCHEDULE_COSINE_WITH_RESTARTS:
		return p >= 1 ? 0 : fmax(0, 0.5 * (1 + cos(M_PI * fmod(s->n_cycles * p, 1))));
	case DF_SCHEDULE_COSINE_WITH_MIN_LR:
		return fmax(0, 0.5 * (1 + cos(M_PI * s->n_cycles * 2 * p)) * (1 - s->min_rate) + s->min_rate);
	case DF_SCHEDULE_POLYNOMIAL:
		if (i > n || n == w)
			return s->lr_end / s->lr;
		return (pow(1 - p, s->power) * (s->lr - s->lr_end) + s->lr_end) / s->lr;
	case DF_SCHEDULE_INVERSE_SQRT: return 1 / sqrt((i + s->timescale - w) / s->timescale);
	default: return 1; /* constant_with_warmup */
	}
}

double
df_schedule_lr(const struct df_schedule *s, uint64_t i)
{
	return s->lr * factor(s, (double)i);
}

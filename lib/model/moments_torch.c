/*
 * moments_torch.c - Adam's moments in a checkpoint of transformers: optimizer.pt.
 *
 *	{ 'state': { 0: { 'step', 'exp_avg', 'exp_avg_sq' }, 1: .. },
 *	  'param_groups': [ { 'params': [0, 1, ..], 'betas', 'eps', .. }, .. ] }
 *
 * The parameters have no names there, only numbers: they were numbered group after group, and in a group in the order
 * of named_parameters(), the order in which the model's modules were created.  Which groups there are depends on who
 * made the optimiser; `layouts` has those that are known.  One is taken if its groups have as many parameters as the
 * file's, and then every shape must agree.  Where names are given (FSDP's keys, 'param_names') they alone count.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/model_priv.h"
#include "torch/torch.h"

/* ---- the order of named_parameters() ------------------------------------------------------------ */

/* Parts of names, those side by side in a model in the order of transformers' (4.57) modeling_*.py and of PEFT. */
static const char *const siblings[] = { "base_model", "model", "lm_head", "score", "embed_tokens", "layers", "norm",
	"self_attn", "mlp", "block_sparse_moe", "input_layernorm", "post_attention_layernorm", "q_proj", "k_proj",
	"v_proj", "o_proj", "q_norm", "k_norm", "gate", "experts", "shared_expert", "shared_expert_gate", "gate_proj",
	"up_proj", "down_proj", "w1", "w2", "w3", "weight", "bias", "lora_A", "lora_B" };
#define N_SIBLINGS (sizeof(siblings) / sizeof(siblings[0]))

static size_t
part_length(const char *name)
{
	return strcspn(name, ".");
}

static size_t
place(const char *part, size_t n)
{
	size_t i = 0;

	while (i < N_SIBLINGS && (strlen(siblings[i]) != n || memcmp(siblings[i], part, n) != 0))
		i++;
	return i;
}

static bool
is_number(const char *part, size_t n)
{
	return n > 0 && n < 10 && strspn(part, "0123456789") >= n;
}

static int
compare_parts(const char *a, size_t n_a, const char *b, size_t n_b)
{
	const size_t i = place(a, n_a), j = place(b, n_b);
	int c;

	if (is_number(a, n_a) && is_number(b, n_b) && n_a != n_b)
		return n_a < n_b ? -1 : 1;
	if (i != j)
		return i < j ? -1 : 1;
	c = memcmp(a, b, n_a < n_b ? n_a : n_b);
	return c != 0 ? c : n_a < n_b ? -1 : n_a > n_b;
}

static int
compare_names(const char *a, const char *b)
{
	for (;;) {
		const size_t n_a = part_length(a), n_b = part_length(b);
		const int c = compare_parts(a, n_a, b, n_b);

		if (c != 0)
			return c;
		if (!a[n_a] || !b[n_b])
			return (a[n_a] != 0) - (b[n_b] != 0);
		a += n_a + 1;
		b += n_b + 1;
	}
}

static int
by_name(const void *a, const void *b)
{
	return compare_names((*(const struct df_param *const *)a)->name, (*(const struct df_param *const *)b)->name);
}

static int
name_to_param(const void *name, const void *p)
{
	return compare_names(name, (*(const struct df_param *const *)p)->name);
}

/* Every part of a name must have a place, or the order would be a guess. */
static int
check_known(const char *name, struct df_err *err)
{
	for (const char *s = name;; s++) {
		const size_t n = part_length(s);

		if (!is_number(s, n) && place(s, n) == N_SIBLINGS)
			return df_fail(err, DF_EUNSUPPORTED, "which place '%s' has in transformers is not known", name);
		s += n;
		if (!*s)
			return DF_OK;
	}
}

/* ---- groups ------------------------------------------------------------------------------- */

static size_t
is_bias(const struct df_param *p)
{
	const size_t n = strlen(p->name), m = strlen(".bias");

	return n > m && strcmp(p->name + n - m, ".bias") == 0;
}

/* Trainer.create_optimizer(): no weight decay for biases and norms. */
static size_t
group_trainer(const struct df_param *p)
{
	return p->decay ? 0 : 1;
}

/* The same in versions that did not know the RMSNorm of some models as a norm. */
static size_t
group_biases(const struct df_param *p)
{
	return is_bias(p);
}

static size_t
group_one(const struct df_param *p)
{
	(void)p;
	return 0;
}

/* LoRA+ in LLaMA-Factory; the last group is for embeddings with adapters. */
static size_t
group_loraplus(const struct df_param *p)
{
	return p->lora_b || p->rank == 1 ? 1 + is_bias(p) : 0;
}

/* LoRA+ in PEFT: there that group is the second. */
static size_t
group_loraplus_peft(const struct df_param *p)
{
	return p->lora_b || p->rank == 1 ? 2 + is_bias(p) : 0;
}

static const struct {
	size_t n_groups;
	size_t (*group)(const struct df_param *p);
} layouts[] = { { 2, group_trainer }, { 2, group_biases }, { 1, group_one }, { 4, group_loraplus },
	{ 4, group_loraplus_peft } };
#define N_LAYOUTS  (sizeof(layouts) / sizeof(layouts[0]))
#define GROUPS_MAX 4

/* ---- reading ------------------------------------------------------------------------------- */

struct reader {
	const struct df_params *p;
	const struct df_param **order;    /* [p->n] as named_parameters() */
	const struct df_param **param;    /* [n] of the file's parameters, group after group */
	const struct df_torch_value **id; /* [n] their numbers or names */
	const struct df_torch_value *state, *groups;
	size_t n;
	struct df_moments *o;
	struct df_backend *be;
	float *stage;
	size_t cap;
	struct df_buf name;
};

static int
sort_params(struct reader *r, struct df_err *err)
{
	int rc;

	DF_TRY(df_alloc(&r->order, r->p->n, sizeof(*r->order), "the parameters' order", err));
	for (size_t i = 0; i < r->p->n; i++) {
		r->order[i] = &r->p->v[i];
		DF_TRY(check_known(r->p->v[i].name, err));
	}
	qsort(r->order, r->p->n, sizeof(*r->order), by_name);
out:
	return rc;
}

static bool
part_is(const char *part, size_t n, const char *word)
{
	return n == strlen(word) && memcmp(part, word, n) == 0;
}

/*
 * The parameter with a name of torch's, or NULL.  Wrappers add parts to it: module. and _orig_mod. at the front,
 * PEFT its adapter's name after lora_A and lora_B, in most files, and modules_to_save.NAME in the middle.
 */
static int
find_param(struct reader *r, const char *s, size_t n, const struct df_param **out, struct df_err *err)
{
	const struct df_param **at;
	bool skip = false;
	int rc;

	df_buf_clear(&r->name);
	for (size_t k; n > 0; s += k, n -= k) {
		const char *dot = memchr(s, '.', n);
		const size_t part = dot ? (size_t)(dot - s) : n;
		const bool saved = part_is(s, part, "modules_to_save");

		k = dot ? part + 1 : part;
		if (!(skip && dot) && !saved && !part_is(s, part, "module") && !part_is(s, part, "_orig_mod"))
			df_buf_printf(
			    &r->name, "%s%.*s", r->name.len > 0 ? "." : "", (int)(part < 1000 ? part : 1000), s);
		skip = saved || part_is(s, part, "lora_A") || part_is(s, part, "lora_B");
	}
	DF_TRY(df_buf_check(&r->name, err));
	at = r->name.len == 0 ? NULL : bsearch(r->name.data, r->order, r->p->n, sizeof(*r->order), name_to_param);
	*out = at ? *at : NULL;
out:
	return rc;
}

/* The parameter that the string v names. */
static int
named_param(struct reader *r, const struct df_torch_value *v, const struct df_param **out, struct df_err *err)
{
	size_t n = 0;
	const char *s = df_torch_str(v, &n);
	int rc;

	if (!s)
		return df_fail(err, DF_EFORMAT, "a parameter's name is %s", df_torch_type_name(v));
	DF_TRY(find_param(r, s, n, out, err));
	if (!*out)
		rc = df_fail(
		    err, DF_EFORMAT, "'%.*s' is no trainable parameter of this model", (int)(n < 200 ? n : 200), s);
out:
	return rc;
}

/* ---- the numbers of a group: the same in all */

static int
read_number(const struct df_torch_value *v, const char *key, double *out, struct df_err *err)
{
	if (!df_torch_double(v, out))
		return df_fail(err, DF_EFORMAT, "'%s' is %s, not a number", key, df_torch_type_name(v));
	if (!(*out >= 0 && *out <= 1))
		return df_fail(err, DF_ERANGE, "'%s': %g is not in [0, 1]", key, *out);
	return DF_OK;
}

static int
read_hyper(struct reader *r, const struct df_torch_value *group, bool first, struct df_err *err)
{
	const struct df_torch_value *betas = df_torch_get(group, "betas");
	struct df_moments *o = r->o;
	double b1, b2, eps;
	int rc;

	if (df_torch_type(betas) != DF_TORCH_LIST || df_torch_size(betas) != 2)
		return df_fail(err, DF_EUNSUPPORTED, "no 'betas': not the state of an Adam");
	if (df_torch_bool(df_torch_get(group, "amsgrad")))
		return df_fail(err, DF_EUNSUPPORTED, "AMSGrad's state; AdamW's is supported");
	DF_TRY(read_number(df_torch_at(betas, 0, NULL), "betas", &b1, err));
	DF_TRY(read_number(df_torch_at(betas, 1, NULL), "betas", &b2, err));
	DF_TRY(read_number(df_torch_get(group, "eps"), "eps", &eps, err));
	if (!first && (b1 != o->beta1 || b2 != o->beta2 || eps != o->eps))
		return df_fail(err, DF_EUNSUPPORTED, "other betas or another eps than in the first group");
	o->beta1 = b1;
	o->beta2 = b2;
	o->eps = eps;
out:
	return rc;
}

/* ---- which parameter each number is */

static size_t
group_size(const struct reader *r, size_t g)
{
	return df_torch_size(df_torch_get(df_torch_at(r->groups, g, NULL), "params"));
}

/* Does layout k have as many parameters in each group as the file? */
static bool
fits(const struct reader *r, size_t k)
{
	size_t have[GROUPS_MAX] = { 0 };

	if (df_torch_size(r->groups) != layouts[k].n_groups)
		return false;
	for (size_t i = 0; i < r->p->n; i++)
		have[layouts[k].group(&r->p->v[i])]++;
	for (size_t g = 0; g < layouts[k].n_groups; g++) {
		if (have[g] != group_size(r, g))
			return false;
	}
	return true;
}

static void
lay_out(const struct reader *r, size_t k, const struct df_param **param)
{
	size_t n = 0;

	for (size_t g = 0; g < layouts[k].n_groups; g++) {
		for (size_t i = 0; i < r->p->n; i++) {
			if (layouts[k].group(r->order[i]) == g)
				param[n++] = r->order[i];
		}
	}
}

/* "2 groups of 12 and 5 parameters" */
static int
unknown_groups(const struct reader *r, struct df_err *err)
{
	const size_t n = df_torch_size(r->groups);
	size_t decay = 0;
	struct df_buf b = DF_BUF_INIT;
	int rc;

	for (size_t g = 0; g < n && g < 8; g++)
		df_buf_printf(&b, "%s%zu", g ? " + " : "", group_size(r, g));
	df_buf_puts(&b, n > 8 ? " + .." : "");
	for (size_t i = 0; i < r->p->n; i++)
		decay += r->p->v[i].decay;
	DF_TRY(df_buf_check(&b, err));
	rc = df_fail(err, DF_EFORMAT,
	    "groups of %s parameters do not fit to this model: its trainable ones are %zu with weight decay and %zu "
	    "without; was another choice of parameters trained?",
	    b.len > 0 ? b.data : "no", decay, r->p->n - decay);
out:
	df_buf_release(&b);
	return rc;
}

static int
number_params(struct reader *r, struct df_err *err)
{
	const struct df_param **other = NULL;
	bool found = false;
	int rc;

	DF_TRY(df_alloc(&other, r->p->n, sizeof(*other), "the parameters' order", err));
	for (size_t k = 0; k < N_LAYOUTS; k++) {
		if (!fits(r, k))
			continue;
		lay_out(r, k, found ? other : r->param);
		if (found && memcmp(other, r->param, r->p->n * sizeof(*other)) != 0) {
			rc = df_fail(err, DF_EUNSUPPORTED, "its groups can be two orders of this model's parameters");
			goto out;
		}
		found = true;
	}
	if (!found)
		rc = unknown_groups(r, err);
out:
	free(other);
	return rc;
}

/* Names where there are names: of all parameters; false in *named: of none. */
static int
name_params(struct reader *r, bool *named, struct df_err *err)
{
	size_t n = 0, n_named = 0;
	int rc = DF_OK;

	for (size_t g = 0; g < df_torch_size(r->groups); g++) {
		const struct df_torch_value *group = df_torch_at(r->groups, g, NULL);
		const struct df_torch_value *names = df_torch_get(group, "param_names");
		const size_t size = group_size(r, g);

		if (!names && size > 0 && df_torch_type(r->id[n]) == DF_TORCH_STR)
			names = df_torch_get(group, "params");
		for (size_t i = 0; names && i < size && i < df_torch_size(names); i++, n_named++)
			DF_TRY(named_param(r, df_torch_at(names, i, NULL), &r->param[n + i], err));
		n += size;
	}
	*named = n_named > 0;
	if (n_named > 0 && n_named != n)
		rc = df_fail(err, DF_EFORMAT, "%zu of %zu parameters have a name", n_named, n);
	else if (n_named > 0 && n != r->p->n)
		rc = df_fail(err, DF_EFORMAT, "%zu parameters, the model trains %zu", n, r->p->n);
out:
	return rc;
}

static int
read_groups(struct reader *r, struct df_err *err)
{
	const size_t n_groups = df_torch_size(r->groups);
	bool named = false;
	int rc;

	if (df_torch_type(r->groups) != DF_TORCH_LIST || n_groups == 0)
		return df_fail(err, DF_EFORMAT, "no 'param_groups': not the state of an optimiser");
	for (size_t g = 0; g < n_groups; g++) {
		const struct df_torch_value *group = df_torch_at(r->groups, g, NULL);

		if (df_torch_type(df_torch_get(group, "params")) != DF_TORCH_LIST)
			rc = df_fail(err, DF_EFORMAT, "no list of 'params'");
		else
			rc = read_hyper(r, group, g == 0, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "group %zu: ", g);
			goto out;
		}
		r->n += group_size(r, g);
	}
	DF_TRY(df_alloc(&r->id, r->n, sizeof(*r->id), "the optimiser's parameters", err));
	DF_TRY(
	    df_alloc(&r->param, r->n > r->p->n ? r->n : r->p->n, sizeof(*r->param), "the optimiser's parameters", err));
	for (size_t g = 0, n = 0; g < n_groups; g++) {
		const struct df_torch_value *params = df_torch_get(df_torch_at(r->groups, g, NULL), "params");

		for (size_t i = 0; i < df_torch_size(params); i++)
			r->id[n++] = df_torch_at(params, i, NULL);
	}
	DF_TRY(name_params(r, &named, err));
	if (!named)
		DF_TRY(number_params(r, err));
out:
	return rc;
}

/* ---- states */

/* What else than Adam's two moments a parameter's state can have. */
static int
check_keys(const struct df_torch_value *state, struct df_err *err)
{
	static const struct {
		const char *key, *of;
	} others[] = {
		{ "state1", "bitsandbytes' optimisers (8-bit, paged) pack their state" },
		{ "state2", "bitsandbytes' optimisers (8-bit, paged) pack their state" },
		{ "__bnb_optimizer_quant_state__", "bitsandbytes' optimisers (8-bit, paged) pack their state" },
		{ "max_exp_avg_sq", "AMSGrad's" },
		{ "exp_avg_sq_row", "Adafactor's" },
		{ "momentum_buffer", "SGD's" },
		{ "exp_inf", "Adamax's" },
		{ "sum", "Adagrad's" },
		{ "square_avg", "RMSprop's" },
	};

	for (size_t i = 0; i < df_torch_size(state); i++) {
		const struct df_torch_value *key;
		const char *s;
		size_t n = 0;

		(void)df_torch_at(state, i, &key);
		if (df_torch_is(key, "step") || df_torch_is(key, "exp_avg") || df_torch_is(key, "exp_avg_sq"))
			continue;
		for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++) {
			if (df_torch_is(key, others[k].key))
				return df_fail(err, DF_EUNSUPPORTED,
				    "'%s': %s; AdamW's state is supported (adamw_torch, "
				    "adamw_torch_fused)",
				    others[k].key, others[k].of);
		}
		s = df_torch_str(key, &n);
		return df_fail(err, DF_EUNSUPPORTED, "'%.*s' is not a part of AdamW's state", (int)(n < 100 ? n : 100),
		    s ? s : "");
	}
	return DF_OK;
}

/* A number, or a tensor of one element. */
static int
read_step(const struct df_torch_value *v, uint64_t *step, struct df_err *err)
{
	const struct df_st_tensor *t = df_torch_tensor(v);
	double x = 0;
	int64_t i;
	float f;
	int rc = DF_OK;

	if (t && t->numel == 1 && t->type == DF_ST_I64) {
		memcpy(&i, t->data, sizeof(i));
		x = (double)i;
	} else if (t && t->numel == 1) {
		DF_TRY(df_st_to_f32(t, &f, err));
		x = (double)f;
	} else if (!df_torch_double(v, &x)) {
		return df_fail(err, DF_EFORMAT, "'step' is %s, not a number", df_torch_type_name(v));
	}
	if (!(x >= 0 && x <= 9007199254740992.0))
		return df_fail(err, DF_ERANGE, "'step' is %g", x);
	*step = (uint64_t)x;
out:
	return rc;
}

/* A moment of p into the flat buffer; no element is below `min`. */
static int
load_moment(struct reader *r, const struct df_torch_value *state, const char *key, const struct df_param *p,
    struct df_tensor flat, float min, struct df_err *err)
{
	const struct df_torch_value *v = df_torch_get(state, key);
	struct df_st_tensor t;
	int rc;

	if (!df_torch_tensor(v))
		return df_fail(err, DF_EFORMAT, "'%s' is %s, not a tensor", key, v ? df_torch_type_name(v) : "missing");
	t = *df_torch_tensor(v);
	t.name = key;
	DF_TRY(df_param_check_shape(p, &t, err));
	DF_TRY(df_grow(&r->stage, &r->cap, t.numel, sizeof(*r->stage), key, err));
	DF_TRY(df_st_to_f32(&t, r->stage, err));
	for (size_t i = 0; i < t.numel; i++) {
		if (!(r->stage[i] >= min && r->stage[i] < INFINITY))
			return df_fail(err, DF_EFORMAT, "'%s': element %zu is %g", key, i, (double)r->stage[i]);
	}
	rc = df_upload(r->be, df_param_view(flat, p), r->stage, err);
out:
	return rc;
}

static int
load_state(struct reader *r, const struct df_torch_value *state, const struct df_param *p, struct df_err *err)
{
	const struct df_torch_value *step = df_torch_get(state, "step");
	uint64_t n = 0;
	int rc;

	if (df_torch_type(state) != DF_TORCH_DICT)
		return df_fail(err, DF_EFORMAT, "its state is %s", df_torch_type_name(state));
	DF_TRY(check_keys(state, err));
	if (!step) /* apex counts in the group */
		step = df_torch_get(df_torch_at(r->groups, 0, NULL), "step");
	DF_TRY(read_step(step, &n, err));
	DF_TRY(load_moment(r, state, "exp_avg", p, r->o->m, -FLT_MAX, err));
	DF_TRY(load_moment(r, state, "exp_avg_sq", p, r->o->v, 0, err));
	r->o->step = n > r->o->step ? n : r->o->step;
out:
	return rc;
}

/* place[number] = its place in the groups; the numbers are 0 .. n - 1, each once. */
static int
index_places(const struct reader *r, size_t *place_of, struct df_err *err)
{
	int64_t id;

	for (size_t i = 0; i < r->n; i++)
		place_of[i] = SIZE_MAX;
	for (size_t i = 0; i < r->n; i++) {
		if (df_torch_type(r->id[i]) == DF_TORCH_STR)
			continue;
		if (!df_torch_int(r->id[i], &id) || id < 0 || (uint64_t)id >= r->n || place_of[id] != SIZE_MAX)
			return df_fail(err, DF_EFORMAT, "its parameters are not numbered from 0 on, each once");
		place_of[id] = i;
	}
	return DF_OK;
}

/* The parameter of a key of 'state': a number or a name. */
static int
param_of(struct reader *r, const struct df_torch_value *key, const size_t *place_of, const struct df_param **out,
    struct df_err *err)
{
	int64_t id;

	if (!df_torch_int(key, &id))
		return named_param(r, key, out, err);
	if (id < 0 || (uint64_t)id >= r->n || place_of[id] == SIZE_MAX)
		return df_fail(err, DF_EFORMAT, "state %lld is of no parameter in the groups", (long long)id);
	*out = r->param[place_of[id]];
	return DF_OK;
}

static int
load_states(struct reader *r, struct df_err *err)
{
	const size_t n = df_torch_size(r->state);
	size_t *place_of = NULL;
	bool *seen = NULL;
	int rc;

	DF_TRY(df_alloc(&place_of, r->n, sizeof(*place_of), "the optimiser's parameters", err));
	DF_TRY(df_alloc(&seen, r->p->n, sizeof(*seen), "the optimiser's parameters", err));
	DF_TRY(index_places(r, place_of, err));
	for (size_t i = 0; i < n; i++) {
		const struct df_torch_value *key, *state = df_torch_at(r->state, i, &key);
		const struct df_param *p;

		DF_TRY(param_of(r, key, place_of, &p, err));
		if (seen[p - r->p->v])
			rc = df_fail(err, DF_EFORMAT, "two states");
		else
			rc = load_state(r, state, p, err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: ", p->name);
			goto out;
		}
		seen[p - r->p->v] = true;
	}
	r->o->n_without = r->p->n - n;
out:
	free(place_of);
	free(seen);
	return rc;
}

int
df_moments_read_torch(struct df_moments *o, const struct df_model *m, const char *path, struct df_err *err)
{
	struct reader r = { .p = &m->train, .o = o, .be = m->be, .name = DF_BUF_INIT };
	struct df_torch *t = NULL;
	const struct df_torch_value *root;
	int rc;

	DF_TRY(df_torch_open(&t, path, err));
	root = df_torch_root(t);
	r.state = df_torch_get(root, "state");
	r.groups = df_torch_get(root, "param_groups");
	if (df_torch_type(r.state) != DF_TORCH_DICT)
		rc = df_fail(err, DF_EFORMAT, "no 'state': not the state of an optimiser");
	if (rc == DF_OK)
		rc = sort_params(&r, err);
	if (rc == DF_OK)
		rc = read_groups(&r, err);
	if (rc == DF_OK)
		rc = load_states(&r, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
out:
	df_torch_close(t);
	df_buf_release(&r.name);
	free(r.order);
	free(r.param);
	free(r.id);
	free(r.stage);
	return rc;
}

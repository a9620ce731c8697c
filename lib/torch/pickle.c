/*
 * pickle.c - the part of Python's pickle protocol 2 that a state dict consists of.
 *
 * A pickle is a list of instructions for a machine with a stack, marks in the stack, and a memo of values that come
 * again (CPython, Lib/pickletools.py).  Most of what it can do is not known here: any instruction and any name that is
 * not in the tables below ends the reading.
 *
 * What comes out has no cycles: a value that became a member of another is sealed, and nothing is added to a sealed one,
 * or to itself.  So a member is always complete, and its depth is known.
 */
#include <stdlib.h>
#include <string.h>

#include "torch/torch_priv.h"

#define DEPTH_MAX 16
#define SLAB      512 /* values allocated at once */

/* What a name (GLOBAL) stands for. */
enum name {
	REBUILD_TENSOR,
	ORDERED_DICT,
	STORAGE /* + enum df_st_type */
};
static const struct {
	const char *module, *name;
	int is;
} names[] = {
	{ "torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR },
	{ "collections", "OrderedDict", ORDERED_DICT },
	{ "torch", "FloatStorage", STORAGE + DF_ST_F32 },
	{ "torch", "DoubleStorage", STORAGE + DF_ST_F64 },
	{ "torch", "HalfStorage", STORAGE + DF_ST_F16 },
	{ "torch", "BFloat16Storage", STORAGE + DF_ST_BF16 },
	{ "torch", "LongStorage", STORAGE + DF_ST_I64 },
	{ "torch", "IntStorage", STORAGE + DF_ST_I32 },
	{ "torch", "ShortStorage", STORAGE + DF_ST_I16 },
	{ "torch", "CharStorage", STORAGE + DF_ST_I8 },
	{ "torch", "ByteStorage", STORAGE + DF_ST_U8 },
	{ "torch", "BoolStorage", STORAGE + DF_ST_BOOL },
};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

/* A storage: elements in the file. */
struct storage {
	enum df_st_type type;
	const char *data;
	uint64_t numel;
};

/* What DF_TORCH_OTHER is. */
enum other { OTHER_NAME, OTHER_STORAGE };

typedef const struct df_torch_value *member;

struct df_torch_value {
	unsigned char type, other, depth;
	bool sealed;
	uint32_t n, cap; /* bytes of a string; members of a list; keys and values of a dict */
	union {
		int64_t i; /* BOOL, INT; OTHER_NAME: enum name */
		double d;
		const char *s;
		member *v;
		struct df_st_tensor *tensor;
		struct storage *storage;
	} u;
};

typedef struct df_torch_value value;

struct machine {
	const unsigned char *code;
	size_t n, at;
	struct df_arena *arena;
	const struct df_zip *zip;
	const char *prefix;
	size_t n_prefix;

	value **stack, **memo, *slab;
	size_t *mark; /* heights of the stack */
	size_t n_stack, cap_stack, n_memo, cap_memo, n_mark, cap_mark, n_slab;
};

/* ---- values -------------------------------------------------------------------------- */

static const value none = { .type = DF_TORCH_NONE };

enum df_torch_type
df_torch_type(const value *v)
{
	return v ? (enum df_torch_type)v->type : DF_TORCH_NONE;
}

const char *
df_torch_type_name(const value *v)
{
	static const char *const name[] = { "nothing", "a truth value", "an integer", "a number", "a string", "a list",
		"a dictionary", "a tensor", "a type" };

	return name[df_torch_type(v)];
}

bool
df_torch_bool(const value *v)
{
	return df_torch_type(v) == DF_TORCH_BOOL && v->u.i;
}

bool
df_torch_int(const value *v, int64_t *out)
{
	if (df_torch_type(v) != DF_TORCH_INT)
		return false;
	*out = v->u.i;
	return true;
}

bool
df_torch_double(const value *v, double *out)
{
	if (df_torch_type(v) != DF_TORCH_INT && df_torch_type(v) != DF_TORCH_FLOAT)
		return false;
	*out = v->type == DF_TORCH_INT ? (double)v->u.i : v->u.d;
	return true;
}

const char *
df_torch_str(const value *v, size_t *n)
{
	if (df_torch_type(v) != DF_TORCH_STR)
		return NULL;
	*n = v->n;
	return v->u.s;
}

bool
df_torch_is(const value *v, const char *s)
{
	size_t n;
	const char *have = df_torch_str(v, &n);

	return have && n == strlen(s) && memcmp(have, s, n) == 0;
}

size_t
df_torch_size(const value *v)
{
	switch (df_torch_type(v)) {
	case DF_TORCH_LIST: return v->n;
	case DF_TORCH_DICT: return v->n / 2;
	default: return 0;
	}
}

const value *
df_torch_at(const value *v, size_t i, const value **key)
{
	if (df_torch_type(v) != DF_TORCH_DICT)
		return v->u.v[i];
	if (key)
		*key = v->u.v[2 * i];
	return v->u.v[2 * i + 1];
}

const value *
df_torch_get(const value *v, const char *key)
{
	if (df_torch_type(v) != DF_TORCH_DICT)
		return NULL;
	for (size_t i = v->n; i > 0; i -= 2) {
		if (df_torch_is(v->u.v[i - 2], key))
			return v->u.v[i - 1];
	}
	return NULL;
}

const struct df_st_tensor *
df_torch_tensor(const value *v)
{
	return df_torch_type(v) == DF_TORCH_TENSOR ? v->u.tensor : NULL;
}

static int
new_value(struct machine *m, enum df_torch_type type, value **out, struct df_err *err)
{
	int rc = DF_OK;

	if (m->n_slab == 0) {
		DF_TRY(df_arena_alloc(m->arena, &m->slab, SLAB, sizeof(*m->slab), "the values of a pickle", err));
		m->n_slab = SLAB;
	}
	*out = m->slab++;
	m->n_slab--;
	**out = (value){ .type = (unsigned char)type, .sealed = type != DF_TORCH_LIST && type != DF_TORCH_DICT };
out:
	return rc;
}

static int
add_member(struct machine *m, value *to, value *v, struct df_err *err)
{
	member *grown;
	int rc = DF_OK;

	if (to == v || to->sealed)
		return df_fail(err, DF_EFORMAT, "%s would contain itself", df_torch_type_name(to));
	if (v->depth + 1 > DEPTH_MAX)
		return df_fail(err, DF_EFORMAT, "lists and dictionaries nested more than %d deep", DEPTH_MAX);
	if (to->depth < v->depth + 1)
		to->depth = (unsigned char)(v->depth + 1);
	v->sealed = true;
	if (to->n == to->cap) {
		const uint32_t cap = to->cap ? 2 * to->cap : 8; /* the pickle has fewer bytes than 2^31 */

		DF_TRY(df_arena_alloc(m->arena, &grown, cap, sizeof(*grown), "the values of a pickle", err));
		if (to->n > 0)
			memcpy(grown, to->u.v, to->n * sizeof(*grown));
		to->u.v = grown;
		to->cap = cap;
	}
	to->u.v[to->n++] = v;
out:
	return rc;
}

/* ---- the stack ----------------------------------------------------------------------- */

static int
push(struct machine *m, value *v, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&m->stack, &m->cap_stack, m->n_stack + 1, sizeof(*m->stack), "a pickle's stack", err));
	m->stack[m->n_stack++] = v;
out:
	return rc;
}

/* The values above the last mark cannot be popped by what wants fewer. */
static size_t
floor_of(const struct machine *m)
{
	return m->n_mark ? m->mark[m->n_mark - 1] : 0;
}

static int
pop(struct machine *m, value **v, struct df_err *err)
{
	if (m->n_stack <= floor_of(m))
		return df_fail(err, DF_EFORMAT, "no value on the stack");
	*v = m->stack[--m->n_stack];
	return DF_OK;
}

/* The value that stays on top, of this type. */
static int
top(struct machine *m, enum df_torch_type type, value **v, struct df_err *err)
{
	if (m->n_stack <= floor_of(m) || m->stack[m->n_stack - 1]->type != type)
		return df_fail(err, DF_EFORMAT, "no %s to add to", type == DF_TORCH_LIST ? "list" : "dictionary");
	*v = m->stack[m->n_stack - 1];
	return DF_OK;
}

static int
push_mark(struct machine *m, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&m->mark, &m->cap_mark, m->n_mark + 1, sizeof(*m->mark), "a pickle's marks", err));
	m->mark[m->n_mark++] = m->n_stack;
out:
	return rc;
}

/* Take the last mark away: the values from *first on are those above it. */
static int
pop_mark(struct machine *m, size_t *first, struct df_err *err)
{
	if (m->n_mark == 0)
		return df_fail(err, DF_EFORMAT, "no mark on the stack");
	*first = m->mark[--m->n_mark];
	return DF_OK;
}

/* The values from `first` on become a tuple. */
static int
make_tuple(struct machine *m, size_t first, struct df_err *err)
{
	value *v;
	int rc;

	if (first < floor_of(m) || first > m->n_stack)
		return df_fail(err, DF_EFORMAT, "no value on the stack");
	DF_TRY(new_value(m, DF_TORCH_LIST, &v, err));
	for (size_t i = first; i < m->n_stack; i++)
		DF_TRY(add_member(m, v, m->stack[i], err));
	v->sealed = true;
	m->n_stack = first;
	rc = push(m, v, err);
out:
	return rc;
}

static int
add_to_list(struct machine *m, size_t first, struct df_err *err)
{
	const size_t end = m->n_stack;
	value *list;
	int rc;

	m->n_stack = first;
	DF_TRY(top(m, DF_TORCH_LIST, &list, err));
	for (size_t i = first; i < end; i++)
		DF_TRY(add_member(m, list, m->stack[i], err));
out:
	return rc;
}

static int
add_to_dict(struct machine *m, size_t first, struct df_err *err)
{
	const size_t end = m->n_stack;
	value *dict;
	int rc;

	m->n_stack = first;
	DF_TRY(top(m, DF_TORCH_DICT, &dict, err));
	if ((end - first) % 2 != 0)
		return df_fail(err, DF_EFORMAT, "a key without a value");
	for (size_t i = first; i < end; i++) {
		const enum df_torch_type t = df_torch_type(m->stack[i]);

		if ((i - first) % 2 == 0 && t != DF_TORCH_STR && t != DF_TORCH_INT)
			return df_fail(err, DF_EFORMAT, "a key is %s", df_torch_type_name(m->stack[i]));
		DF_TRY(add_member(m, dict, m->stack[i], err));
	}
out:
	return rc;
}

/* ---- operands ------------------------------------------------------------------------ */

static int
take(struct machine *m, size_t n, const unsigned char **p, struct df_err *err)
{
	if (n > m->n - m->at)
		return df_fail(err, DF_EFORMAT, "%zu bytes are wanted, %zu are left: truncated?", n, m->n - m->at);
	*p = m->code + m->at;
	m->at += n;
	return DF_OK;
}

static int
take_le(struct machine *m, size_t n, uint64_t *x, struct df_err *err)
{
	const unsigned char *p;
	int rc;

	DF_TRY(take(m, n, &p, err));
	*x = 0;
	for (size_t i = n; i > 0; i--)
		*x = *x << 8 | p[i - 1];
out:
	return rc;
}

static int
push_int(struct machine *m, enum df_torch_type type, int64_t x, struct df_err *err)
{
	value *v;
	int rc;

	DF_TRY(new_value(m, type, &v, err));
	v->u.i = x;
	rc = push(m, v, err);
out:
	return rc;
}

/* An integer of n bytes, unsigned; is_signed: in two's complement. */
static int
op_int(struct machine *m, size_t n, bool is_signed, struct df_err *err)
{
	uint64_t x;
	int rc;

	if (n > 8)
		return df_fail(err, DF_EFORMAT, "an integer of %zu bytes", n);
	DF_TRY(take_le(m, n, &x, err));
	if (is_signed && n > 0 && n < 8 && x >> (8 * n - 1))
		x |= UINT64_MAX << 8 * n;
	rc = push_int(m, DF_TORCH_INT, (int64_t)x, err);
out:
	return rc;
}

static int
op_long(struct machine *m, struct df_err *err)
{
	uint64_t n;
	int rc;

	DF_TRY(take_le(m, 1, &n, err));
	rc = op_int(m, (size_t)n, true, err);
out:
	return rc;
}

/* A double, its first byte first. */
static int
op_float(struct machine *m, struct df_err *err)
{
	const unsigned char *p;
	uint64_t bits = 0;
	value *v;
	int rc;

	DF_TRY(take(m, 8, &p, err));
	for (int i = 0; i < 8; i++)
		bits = bits << 8 | p[i];
	DF_TRY(new_value(m, DF_TORCH_FLOAT, &v, err));
	memcpy(&v->u.d, &bits, sizeof(v->u.d));
	rc = push(m, v, err);
out:
	return rc;
}

static int
op_str(struct machine *m, struct df_err *err)
{
	const unsigned char *p;
	uint64_t n;
	value *v;
	int rc;

	DF_TRY(take_le(m, 4, &n, err));
	DF_TRY(take(m, (size_t)n, &p, err));
	DF_TRY(new_value(m, DF_TORCH_STR, &v, err));
	v->u.s = (const char *)p;
	v->n = (uint32_t)n;
	rc = push(m, v, err);
out:
	return rc;
}

static int
op_empty(struct machine *m, enum df_torch_type type, struct df_err *err)
{
	value *v;
	int rc;

	DF_TRY(new_value(m, type, &v, err));
	rc = push(m, v, err);
out:
	return rc;
}

/* Pickles number what they remember from 0 on. */
static int
op_put(struct machine *m, size_t n, struct df_err *err)
{
	uint64_t i;
	value *v;
	int rc;

	DF_TRY(take_le(m, n, &i, err));
	DF_TRY(pop(m, &v, err));
	m->n_stack++;
	if (i > m->n_memo)
		return df_fail(
		    err, DF_EFORMAT, "value %llu is remembered when %zu are", (unsigned long long)i, m->n_memo);
	DF_TRY(df_grow(&m->memo, &m->cap_memo, m->n_memo + 1, sizeof(*m->memo), "a pickle's memo", err));
	m->memo[i] = v;
	m->n_memo += i == m->n_memo;
out:
	return rc;
}

static int
op_get(struct machine *m, size_t n, struct df_err *err)
{
	uint64_t i;
	int rc;

	DF_TRY(take_le(m, n, &i, err));
	if (i >= m->n_memo)
		return df_fail(err, DF_EFORMAT, "value %llu of %zu is recalled", (unsigned long long)i, m->n_memo);
	rc = push(m, m->memo[i], err);
out:
	return rc;
}

/* ---- names, storages, tensors ------------------------------------------------------------- */

static int
take_line(struct machine *m, const char **s, size_t *n, struct df_err *err)
{
	const char *end = memchr(m->code + m->at, '\n', m->n - m->at);

	if (!end)
		return df_fail(err, DF_EFORMAT, "a name without an end: truncated?");
	*s = (const char *)m->code + m->at;
	*n = (size_t)(end - *s);
	m->at += *n + 1;
	return DF_OK;
}

static bool
same(const char *s, size_t n, const char *t)
{
	return n == strlen(t) && memcmp(s, t, n) == 0;
}

static int
op_name(struct machine *m, struct df_err *err)
{
	const char *module, *name;
	size_t n_module, n_name;
	value *v;
	int rc;

	DF_TRY(take_line(m, &module, &n_module, err));
	DF_TRY(take_line(m, &name, &n_name, err));
	for (size_t i = 0; i < N_NAMES; i++) {
		if (!same(module, n_module, names[i].module) || !same(name, n_name, names[i].name))
			continue;
		DF_TRY(new_value(m, DF_TORCH_OTHER, &v, err));
		v->other = OTHER_NAME;
		v->u.i = names[i].is;
		return push(m, v, err);
	}
	rc = df_fail(err, DF_EFORMAT, "'%.*s.%.*s' does not belong into a state dict; nothing of it was run",
	    (int)(n_module < 100 ? n_module : 100), module, (int)(n_name < 100 ? n_name : 100), name);
out:
	return rc;
}

static bool
is_name(const value *v, int64_t first)
{
	return df_torch_type(v) == DF_TORCH_OTHER && v->other == OTHER_NAME && v->u.i >= first;
}

/* ("storage", type, key, device, elements): its bytes are an entry of the zip. */
static int
op_storage(struct machine *m, struct df_err *err)
{
	const struct df_zip_entry *e;
	struct storage *s;
	char *entry = NULL;
	const char *key;
	size_t n_key, nbytes;
	int64_t numel;
	value *id, *v;
	int rc;

	DF_TRY(pop(m, &id, err));
	if (df_torch_size(id) != 5 || id->type != DF_TORCH_LIST || !df_torch_is(id->u.v[0], "storage") ||
	    !is_name(id->u.v[1], STORAGE) || (key = df_torch_str(id->u.v[2], &n_key)) == NULL ||
	    !df_torch_int(id->u.v[4], &numel) || numel < 0)
		return df_fail(err, DF_EFORMAT, "a reference that is not to a storage");
	if (n_key > 100)
		return df_fail(err, DF_EFORMAT, "a storage's name has %zu bytes", n_key);
	DF_TRY(df_arena_alloc(m->arena, &s, 1, sizeof(*s), "a storage", err));
	*s = (struct storage){ .type = (enum df_st_type)(id->u.v[1]->u.i - STORAGE), .numel = (uint64_t)numel };
	DF_TRY(df_asprintf(&entry, err, "%.*sdata/%.*s", (int)m->n_prefix, m->prefix, (int)n_key, key));
	e = df_zip_find(m->zip, entry, strlen(entry));
	if (!e) {
		rc = df_fail(err, DF_EFORMAT, "storage '%.*s': the file has no entry '%s'", (int)n_key, key, entry);
		goto out;
	}
	DF_TRY(df_size_mul((size_t)numel, df_st_type_size(s->type), &nbytes, "a storage's size", err));
	if (e->nbytes != nbytes) {
		rc = df_fail(err, DF_EFORMAT, "storage '%.*s': %zu bytes in the file, its %lld elements need %zu",
		    (int)n_key, key, e->nbytes, (long long)numel, nbytes);
		goto out;
	}
	s->data = e->data;
	DF_TRY(new_value(m, DF_TORCH_OTHER, &v, err));
	v->other = OTHER_STORAGE;
	v->u.storage = s;
	rc = push(m, v, err);
out:
	free(entry);
	return rc;
}

/* Sizes and strides, of a tensor whose elements lie without gaps in the order of its indices. */
static int
read_shape(const value *size, const value *stride, struct df_st_tensor *t, struct df_err *err)
{
	const size_t rank_max = sizeof(t->shape) / sizeof(t->shape[0]);
	int64_t d, step;
	size_t want = 1;
	int rc = DF_OK;

	if (df_torch_type(size) != DF_TORCH_LIST || df_torch_type(stride) != DF_TORCH_LIST || size->n != stride->n)
		return df_fail(err, DF_EFORMAT, "a tensor without a shape");
	if (size->n > rank_max)
		return df_fail(
		    err, DF_EUNSUPPORTED, "a tensor of %u dimensions, at most %zu are supported", size->n, rank_max);
	t->rank = (int)size->n;
	t->numel = 1;
	for (uint32_t i = 0; i < size->n; i++) {
		if (!df_torch_int(size->u.v[i], &d) || d < 0)
			return df_fail(err, DF_EFORMAT, "dimension %u of a tensor is not a size", i);
		t->shape[i] = (uint64_t)d;
		DF_TRY(df_size_mul(t->numel, (size_t)d, &t->numel, "the number of elements", err));
	}
	for (uint32_t i = size->n; i > 0 && t->numel > 0; i--) {
		if (!df_torch_int(stride->u.v[i - 1], &step) || step < 0)
			return df_fail(err, DF_EFORMAT, "stride %u of a tensor is not a size", i - 1);
		if (t->shape[i - 1] != 1 && (size_t)step != want)
			return df_fail(err, DF_EUNSUPPORTED, "a tensor with its dimensions in another order (strides)");
		want *= t->shape[i - 1];
	}
out:
	return rc;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks) */
static int
rebuild_tensor(struct machine *m, const value *args, struct df_err *err)
{
	const struct storage *s;
	struct df_st_tensor *t;
	int64_t offset;
	value *v;
	int rc;

	if (df_torch_size(args) < 6 || df_torch_type(args->u.v[0]) != DF_TORCH_OTHER ||
	    args->u.v[0]->other != OTHER_STORAGE || !df_torch_int(args->u.v[1], &offset) || offset < 0)
		return df_fail(err, DF_EFORMAT, "a tensor without a storage");
	if (df_torch_size(args->u.v[5]) > 0)
		return df_fail(err, DF_EFORMAT, "a tensor with hooks");
	s = args->u.v[0]->u.storage;
	DF_TRY(df_arena_alloc(m->arena, &t, 1, sizeof(*t), "a tensor", err));
	*t = (struct df_st_tensor){ .name = "", .type = s->type };
	DF_TRY(read_shape(args->u.v[2], args->u.v[3], t, err));
	if ((uint64_t)offset > s->numel || t->numel > s->numel - (uint64_t)offset)
		return df_fail(err, DF_EFORMAT, "a tensor of %zu elements from %lld on, in a storage of %llu", t->numel,
		    (long long)offset, (unsigned long long)s->numel);
	t->nbytes = t->numel * df_st_type_size(s->type);
	t->data = s->data + (size_t)offset * df_st_type_size(s->type);
	DF_TRY(new_value(m, DF_TORCH_TENSOR, &v, err));
	v->u.tensor = t;
	rc = push(m, v, err);
out:
	return rc;
}

/* Of the functions that may be named here, two. */
static int
op_reduce(struct machine *m, struct df_err *err)
{
	value *args, *f;
	int rc;

	DF_TRY(pop(m, &args, err));
	DF_TRY(pop(m, &f, err));
	if (!is_name(f, 0) || df_torch_type(args) != DF_TORCH_LIST)
		return df_fail(err, DF_EFORMAT, "a call of %s", df_torch_type_name(f));
	switch (f->u.i) {
	case REBUILD_TENSOR: return rebuild_tensor(m, args, err);
	case ORDERED_DICT:
		if (args->n == 0)
			return op_empty(m, DF_TORCH_DICT, err);
		return df_fail(err, DF_EFORMAT, "an OrderedDict made with arguments");
	default: return df_fail(err, DF_EFORMAT, "a call of a storage's type");
	}
out:
	return rc;
}

/* ---- instructions ----------------------------------------------------------------------- */

static int
op_protocol(struct machine *m, struct df_err *err)
{
	uint64_t v;
	int rc;

	DF_TRY(take_le(m, 1, &v, err));
	if (v != 2)
		rc = df_fail(err, DF_EUNSUPPORTED, "pickle protocol %d; torch.save() uses 2", (int)v);
out:
	return rc;
}

static int
op_tuple(struct machine *m, struct df_err *err)
{
	size_t first;
	int rc;

	DF_TRY(pop_mark(m, &first, err));
	rc = make_tuple(m, first, err);
out:
	return rc;
}

static int
op_short_tuple(struct machine *m, size_t n, struct df_err *err)
{
	return make_tuple(m, m->n_stack >= n ? m->n_stack - n : SIZE_MAX, err);
}

static int
op_add(struct machine *m, enum df_torch_type type, struct df_err *err)
{
	size_t first;
	int rc;

	DF_TRY(pop_mark(m, &first, err));
	rc = type == DF_TORCH_LIST ? add_to_list(m, first, err) : add_to_dict(m, first, err);
out:
	return rc;
}

/* One member: the list or dict is below the n values. */
static int
op_add_one(struct machine *m, enum df_torch_type type, size_t n, struct df_err *err)
{
	if (m->n_stack < floor_of(m) + n)
		return df_fail(err, DF_EFORMAT, "no value on the stack");
	return type == DF_TORCH_LIST ? add_to_list(m, m->n_stack - n, err) : add_to_dict(m, m->n_stack - n, err);
}

static int
step(struct machine *m, unsigned op, struct df_err *err)
{
	switch (op) {
	case 0x80: return op_protocol(m, err);                 /* PROTO */
	case 'N': return op_empty(m, DF_TORCH_NONE, err);      /* NONE */
	case 0x88: return push_int(m, DF_TORCH_BOOL, 1, err);  /* NEWTRUE */
	case 0x89: return push_int(m, DF_TORCH_BOOL, 0, err);  /* NEWFALSE */
	case 'K': return op_int(m, 1, false, err);             /* BININT1 */
	case 'M': return op_int(m, 2, false, err);             /* BININT2 */
	case 'J': return op_int(m, 4, true, err);              /* BININT */
	case 0x8a: return op_long(m, err);                     /* LONG1 */
	case 'G': return op_float(m, err);                     /* BINFLOAT */
	case 'X': return op_str(m, err);                       /* BINUNICODE */
	case ']': return op_empty(m, DF_TORCH_LIST, err);      /* EMPTY_LIST */
	case '}': return op_empty(m, DF_TORCH_DICT, err);      /* EMPTY_DICT */
	case '(': return push_mark(m, err);                    /* MARK */
	case ')': return op_short_tuple(m, 0, err);            /* EMPTY_TUPLE */
	case 0x85: return op_short_tuple(m, 1, err);           /* TUPLE1 */
	case 0x86: return op_short_tuple(m, 2, err);           /* TUPLE2 */
	case 0x87: return op_short_tuple(m, 3, err);           /* TUPLE3 */
	case 't': return op_tuple(m, err);                     /* TUPLE */
	case 'a': return op_add_one(m, DF_TORCH_LIST, 1, err); /* APPEND */
	case 'e': return op_add(m, DF_TORCH_LIST, err);        /* APPENDS */
	case 's': return op_add_one(m, DF_TORCH_DICT, 2, err); /* SETITEM */
	case 'u': return op_add(m, DF_TORCH_DICT, err);        /* SETITEMS */
	case 'q': return op_put(m, 1, err);                    /* BINPUT */
	case 'r': return op_put(m, 4, err);                    /* LONG_BINPUT */
	case 'h': return op_get(m, 1, err);                    /* BINGET */
	case 'j': return op_get(m, 4, err);                    /* LONG_BINGET */
	case 'c': return op_name(m, err);                      /* GLOBAL */
	case 'Q': return op_storage(m, err);                   /* BINPERSID */
	case 'R': return op_reduce(m, err);                    /* REDUCE */
	default: return df_fail(err, DF_EFORMAT, "instruction 0x%02x does not belong into a state dict", op);
	}
}

static int
run(struct machine *m, struct df_err *err)
{
	size_t at;
	int rc = DF_OK;

	for (;;) {
		at = m->at;
		if (at == m->n) {
			rc = df_fail(err, DF_EFORMAT, "no end: truncated?");
			break;
		}
		if (m->code[m->at++] == '.')
			break;
		if ((rc = step(m, m->code[at], err)) != DF_OK)
			break;
	}
	if (rc == DF_OK && (m->n_stack != 1 || m->n_mark != 0))
		rc = df_fail(err, DF_EFORMAT, "%zu values are left, not one", m->n_stack);
	if (rc == DF_OK && m->at != m->n)
		rc = df_fail(err, DF_EFORMAT, "%zu bytes after the end", m->n - m->at);
	if (rc != DF_OK)
		df_err_prefix(err, "byte %zu: ", at);
	return rc;
}

int
df_pickle_read(const value **out, struct df_arena *arena, const void *pickle, size_t n, const struct df_zip *z,
    const char *prefix, size_t n_prefix, struct df_err *err)
{
	struct machine m = { .code = pickle, .n = n, .arena = arena, .zip = z, .prefix = prefix, .n_prefix = n_prefix };
	const int rc = run(&m, err);

	*out = rc == DF_OK ? m.stack[0] : &none;
	free(m.stack);
	free(m.memo);
	free(m.mark);
	return rc;
}

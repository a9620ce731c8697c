/*
 * test_torch.c - torch.save()'s files: what is in them is read; every lie of a zip and every trick of a pickle is
 * refused, with its place, and nothing is run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "model_help.h"
#include "torch/torch.h"

/* ---- a zip ------------------------------------------------------------------------------- */

struct entry {
	const char *name;
	const void *data;
	size_t n;
};

static void
put_le(struct df_buf *b, uint64_t x, int n)
{
	for (; n > 0; n--, x >>= 8)
		df_buf_putc(b, (char)x);
}

static void
poke(struct df_buf *b, size_t at, uint64_t x, int n)
{
	assert_true(at + (size_t)n <= b->len);
	for (int i = 0; i < n; i++)
		b->data[at + (size_t)i] = (char)(x >> 8 * i);
}

/* Where the parts of a zip lie, for those who damage it. */
struct layout {
	size_t local[8], central[8], end;
};

/* Sizes and places in zip64's fields, if asked for. */
static void
make_zip(struct df_buf *b, struct layout *l, const struct entry *v, size_t n, bool zip64)
{
	size_t directory, end64;

	for (size_t i = 0; i < n; i++) {
		l->local[i] = b->len;
		df_buf_add(b, "PK\3\4", 4);
		put_le(b, 0, 14); /* version, flags, method, time, date, checksum */
		put_le(b, v[i].n, 4);
		put_le(b, v[i].n, 4);
		put_le(b, strlen(v[i].name), 2);
		put_le(b, 3, 2);
		df_buf_puts(b, v[i].name);
		df_buf_add(b, "pad", 3);
		df_buf_add(b, v[i].data, v[i].n);
	}
	directory = b->len;
	for (size_t i = 0; i < n; i++) {
		l->central[i] = b->len;
		df_buf_add(b, "PK\1\2", 4);
		put_le(b, 0, 16); /* versions, flags, method, time, date, checksum */
		put_le(b, zip64 ? UINT32_MAX : v[i].n, 4);
		put_le(b, zip64 ? UINT32_MAX : v[i].n, 4);
		put_le(b, strlen(v[i].name), 2);
		put_le(b, zip64 ? 28 : 0, 2);
		put_le(b, 0, 10);
		put_le(b, zip64 ? UINT32_MAX : l->local[i], 4);
		df_buf_puts(b, v[i].name);
		if (zip64) {
			put_le(b, 1, 2);
			put_le(b, 24, 2);
			put_le(b, v[i].n, 8);
			put_le(b, v[i].n, 8);
			put_le(b, l->local[i], 8);
		}
	}
	end64 = b->len;
	if (zip64) {
		df_buf_add(b, "PK\6\6", 4);
		put_le(b, 44, 8);
		put_le(b, 0, 12);
		put_le(b, n, 8);
		put_le(b, n, 8);
		put_le(b, end64 - directory, 8);
		put_le(b, directory, 8);
		df_buf_add(b, "PK\6\7", 4);
		put_le(b, 0, 4);
		put_le(b, end64, 8);
		put_le(b, 1, 4);
	}
	l->end = b->len;
	df_buf_add(b, "PK\5\6", 4);
	put_le(b, 0, 4);
	put_le(b, zip64 ? 0xffff : n, 2);
	put_le(b, zip64 ? 0xffff : n, 2);
	put_le(b, zip64 ? UINT32_MAX : end64 - directory, 4);
	put_le(b, zip64 ? UINT32_MAX : directory, 4);
	put_le(b, 0, 2);
	assert_false(b->failed);
}

static const char *
spill(const struct df_buf *b, size_t n)
{
	static char path[512];
	FILE *f;

	snprintf(path, sizeof path, "%s/a.pt", mh_scratch());
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(b->data ? b->data : "", 1, n, f), n);
	assert_int_equal(fclose(f), 0);
	return path;
}

static void
refused(const struct df_buf *b, size_t n, int code, const char *words)
{
	struct df_torch *t = NULL;

	mh_refused(df_torch_open(&t, spill(b, n), err), code, words);
	assert_null(t);
}

/* ---- pickles ------------------------------------------------------------------------------- */

#define P(code)               code, sizeof(code) - 1
#define STORAGE(type, key, n) "(X\7\0\0\0storagectorch\n" type "Storage\nX\1\0\0\0" key "X\3\0\0\0cpu" n "tQ"
#define TENSOR(storage, offset, size, stride)                                    \
	"ctorch._utils\n_rebuild_tensor_v2\n(" storage offset size stride "\x89" \
	"ccollections\nOrderedDict\n)RtR"
#define F32 STORAGE("Float", "0", "K\6")

static const float elements[6] = { 1, 2, 3, -4, 5.5f, 1e-8f };

/* A file with this pickle, and elements as storage 0. */
static void
make_file(struct df_buf *b, struct layout *l, const char *pickle, size_t n, bool zip64)
{
	const struct entry v[] = { { "optimizer/data.pkl", pickle, n }, { "optimizer/byteorder", "little", 6 },
		{ "optimizer/data/0", elements, sizeof elements }, { "optimizer/version", "3\n", 2 } };

	make_zip(b, l, v, 4, zip64);
}

static const char all_kinds[] = "\x80\2}q\0(X\1\0\0\0nNX\1\0\0\0b](\x88\x89K\xffM\xff\xffJ\xfe\xff\xff\xff"
				"\x8a\5\0\0\0\0\1\x8a\0G?\xe0\0\0\0\0\0\0eX\1\0\0\0t" TENSOR(
				    F32, "K\2", "K\2K\2\x86", "K\2K\1\x86") "q\1K\7(K\1K\2tK\10h\1X\1\0\0\0nK\3u.";

static void
test_values(void **state)
{
	const struct df_torch_value *root, *list, *key;
	const struct df_st_tensor *t;

	(void)state;
	for (int zip64 = 0; zip64 < 2; zip64++) {
		struct df_buf b = DF_BUF_INIT;
		struct df_torch *f = NULL;
		struct layout l;
		int64_t i;
		double d;
		size_t n;

		make_file(&b, &l, P(all_kinds), zip64);
		mh_ok(df_torch_open(&f, spill(&b, b.len), err));
		root = df_torch_root(f);
		assert_int_equal(df_torch_type(root), DF_TORCH_DICT);
		assert_int_equal(df_torch_size(root), 6);
		assert_true(df_torch_int(df_torch_get(root, "n"), &i) && i == 3); /* the last of two */
		list = df_torch_get(root, "b");
		assert_int_equal(df_torch_size(list), 8);
		assert_true(df_torch_bool(df_torch_at(list, 0, NULL)));
		assert_false(df_torch_bool(df_torch_at(list, 1, NULL)));
		static const int64_t want[] = { 255, 65535, -2, INT64_C(1) << 32, 0 };
		for (size_t k = 0; k < 5; k++)
			assert_true(df_torch_int(df_torch_at(list, 2 + k, NULL), &i) && i == want[k]);
		assert_true(df_torch_double(df_torch_at(list, 7, NULL), &d) && d == 0.5);
		assert_true(df_torch_double(df_torch_at(list, 3, NULL), &d) && d == 65535);
		t = df_torch_tensor(df_torch_get(root, "t"));
		assert_non_null(t);
		assert_true(
		    t->rank == 2 && t->shape[0] == 2 && t->shape[1] == 2 && t->numel == 4 && t->type == DF_ST_F32);
		assert_memory_equal(t->data, elements + 2, 4 * sizeof(float));
		assert_int_equal(df_torch_size(df_torch_at(root, 3, &key)), 2);
		assert_true(df_torch_int(key, &i) && i == 7);
		assert_ptr_equal(df_torch_tensor(df_torch_at(root, 4, NULL)), t);
		/* Questions to the wrong type, and to nothing. */
		assert_null(df_torch_get(list, "n"));
		assert_null(df_torch_get(NULL, "n"));
		assert_null(df_torch_tensor(list));
		assert_null(df_torch_str(list, &n));
		assert_int_equal(df_torch_size(NULL), 0);
		assert_false(df_torch_int(NULL, &i) || df_torch_double(list, &d) || df_torch_bool(root));
		df_torch_close(f);
		/* Cut anywhere it is refused, but at its end. */
		for (size_t k = 0; k < b.len; k++)
			refused(&b, k, DF_EFORMAT, "a.pt");
		df_buf_release(&b);
	}
}

/* "byte N" counts in the pickle, from PROTO on. */
static void
test_hostile_pickles(void **state)
{
	static const struct {
		const char *code;
		size_t n;
		int rc;
		const char *words;
	} cases[] = {
		{ P("\x80\2cos\nsystem\nX\2\0\0\0id\x85R."), DF_EFORMAT,
		    "data.pkl|byte 2|'os.system'|nothing of it was run" },
		{ P("\x80\2}q\0cposix\nsystem\nX\2\0\0\0id\x85Rs."), DF_EFORMAT, "'posix.system'" },
		{ P("\x80\2c__builtin__\neval\n."), DF_EFORMAT, "'__builtin__.eval'" },
		{ P("\x80\2ctorch._utils\n_rebuild_tensor_v2\nX\1\0\0\0a\x93."), DF_EFORMAT, "0x93" },
		{ P("\x80\2ctorch\nload\n."), DF_EFORMAT, "'torch.load'" },
		{ P("\x80\2ctorch\nComplexFloatStorage\n."), DF_EFORMAT, "'torch.ComplexFloatStorage'" },
		{ P("\x80\2cbitsandbytes.optim\nAdamW8bit\n."), DF_EFORMAT, "bitsandbytes.optim" },
		{ P("\x80\2cos"), DF_EFORMAT, "without an end" },
		{ P("\x80\2}ccollections\nOrderedDict\n)Rb."), DF_EFORMAT, "instruction 0x62" },
		{ P("\x80\2(ios\nsystem\n."), DF_EFORMAT, "instruction 0x69" },
		{ P("\x80\2(X\2\0\0\0idos\no."), DF_EFORMAT, "instruction" },
		{ P("\x80\2]\x81."), DF_EFORMAT, "instruction 0x81" },
		{ P("\x80\2I1\n."), DF_EFORMAT, "instruction 0x49" },
		{ P("\x80\4\x95\0\0\0\0\0\0\0\0N."), DF_EUNSUPPORTED, "protocol 4" },
		{ P("\x80"), DF_EFORMAT, "truncated" },
		{ P(""), DF_EFORMAT, "truncated" },
		{ P("\x80\2N"), DF_EFORMAT, "no end" },
		{ P("\x80\2NN."), DF_EFORMAT, "2 values are left" },
		{ P("\x80\2(N."), DF_EFORMAT, "left" },
		{ P("\x80\2."), DF_EFORMAT, "0 values are left" },
		{ P("\x80\2N.N"), DF_EFORMAT, "1 bytes after the end" },
		/* the stack */
		{ P("\x80\2a."), DF_EFORMAT, "no value on the stack" },
		{ P("\x80\2Na."), DF_EFORMAT, "no list" },
		{ P("\x80\2s."), DF_EFORMAT, "no value on the stack" },
		{ P("\x80\2]NNs."), DF_EFORMAT, "no dictionary" },
		{ P("\x80\2N\x86."), DF_EFORMAT, "no value on the stack" },
		{ P("\x80\2N(\x85."), DF_EFORMAT, "no value on the stack" },
		{ P("\x80\2N(Na."), DF_EFORMAT, "no list" },
		{ P("\x80\2t."), DF_EFORMAT, "no mark" },
		{ P("\x80\2](N(e."), DF_EFORMAT, "no list" },
		{ P("\x80\2e."), DF_EFORMAT, "no mark" },
		{ P("\x80\2R."), DF_EFORMAT, "no value" },
		{ P("\x80\2N)R."), DF_EFORMAT, "a call of nothing" },
		{ P("\x80\2ctorch\nFloatStorage\n)R."), DF_EFORMAT, "a call of a storage's type" },
		{ P("\x80\2ccollections\nOrderedDict\nN\x85R."), DF_EFORMAT, "OrderedDict" },
		{ P("\x80\2ccollections\nOrderedDict\nNR."), DF_EFORMAT, "a call of" },
		{ P("\x80\2}]Ns."), DF_EFORMAT, "a key is a list" },
		{ P("\x80\2}(Nu."), DF_EFORMAT, "without a value" },
		/* the memo */
		{ P("\x80\2h\5."), DF_EFORMAT, "value 5 of 0" },
		{ P("\x80\2j\xff\xff\xff\xff."), DF_EFORMAT, "value 4294967295" },
		{ P("\x80\2q\0."), DF_EFORMAT, "no value" },
		{ P("\x80\2Nr\xff\xff\xff\x7f."), DF_EFORMAT, "remembered" },
		/* values that contain themselves */
		{ P("\x80\2]q\0h\0a."), DF_EFORMAT, "byte 7|a list would contain itself" },
		{ P("\x80\2]q\0]q\1h\0aa."), DF_EFORMAT, "would contain itself" },
		{ P("\x80\2]q\0h\0\x85"
		    "a."),
		    DF_EFORMAT, "would contain itself" },
		{ P("\x80\2}q\0X\1\0\0\0ah\0s."), DF_EFORMAT, "a dictionary would contain itself" },
		{ P("\x80\2]]]]]]]]]]]]]]]]]]]]aaaaaaaaaaaaaaaaaaa."), DF_EFORMAT, "nested more than 16" },
		{ P("\x80\2N\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85\x85."), DF_EFORMAT,
		    "nested more than 16" },
		/* lengths */
		{ P("\x80\2X\xff\xff\xff\xff."), DF_EFORMAT, "4294967295 bytes are wanted" },
		{ P("\x80\2\x8a\x40\1\1."), DF_EFORMAT, "integer of 64 bytes" },
		{ P("\x80\2G\1."), DF_EFORMAT, "8 bytes are wanted" },
		/* storages */
		{ P("\x80\2NQ."), DF_EFORMAT, "not to a storage" },
		{ P("\x80\2(X\7\0\0\0storageNX\1\0\0\0"
		    "0X\3\0\0\0cpuK\6tQ."),
		    DF_EFORMAT, "not to a storage" },
		{ P("\x80\2" STORAGE("Float", "9", "K\6") "."), DF_EFORMAT, "storage '9'|no entry 'optimizer/data/9'" },
		{ P("\x80\2" STORAGE("Float", "0", "K\7") "."), DF_EFORMAT, "storage '0'|24 bytes|7 elements need 28" },
		{ P("\x80\2" STORAGE("Double", "0", "K\6") "."), DF_EFORMAT, "24 bytes|6 elements need 48" },
		{ P("\x80\2" STORAGE("Float", "0", "\x8a\x8\0\0\0\0\0\0\0\x40") "."), DF_ERANGE, "storage" },
		{ P("\x80\2" STORAGE("Float", "0", "J\xff\xff\xff\xff") "."), DF_EFORMAT, "not to a storage" },
		{ P("\x80\2" STORAGE("Float", "/", "K\6") "."), DF_EFORMAT, "no entry" },
		/* tensors */
		{ P("\x80\2" TENSOR("N", "K\0", "K\6\x85", "K\1\x85") "."), DF_EFORMAT, "without a storage" },
		{ P("\x80\2" TENSOR(F32, "K\1", "K\6\x85", "K\1\x85") "."), DF_EFORMAT,
		    "6 elements from 1 on, in a storage of 6" },
		{ P("\x80\2" TENSOR(F32, "K\xff", "K\0\x85", "K\1\x85") "."), DF_EFORMAT, "from 255 on" },
		{ P("\x80\2" TENSOR(F32, "J\xff\xff\xff\xff", "K\1\x85", "K\1\x85") "."), DF_EFORMAT,
		    "without a storage" },
		{ P("\x80\2" TENSOR(F32, "K\0", "K\2K\3\x86", "K\1K\2\x86") "."), DF_EUNSUPPORTED, "strides" },
		{ P("\x80\2" TENSOR(F32, "K\0", "K\6\x85", "K\0\x85") "."), DF_EUNSUPPORTED, "strides" },
		{ P("\x80\2" TENSOR(F32, "K\0", "K\6\x85", "N\x85") "."), DF_EFORMAT, "stride 0" },
		{ P("\x80\2" TENSOR(F32, "K\0", "N\x85", "K\1\x85") "."), DF_EFORMAT, "dimension 0" },
		{ P("\x80\2" TENSOR(F32, "K\0", "K\6\x85", ")") "."), DF_EFORMAT, "without a shape" },
		{ P("\x80\2" TENSOR(F32, "K\0", "J\0\0\0\x70J\0\0\0\x70J\0\0\0\x70\x87", "K\1K\1K\1\x87") "."),
		    DF_ERANGE, "number of elements" },
		{ P("\x80\2" TENSOR(F32, "K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t") "."),
		    DF_EUNSUPPORTED, "9 dimensions" },
		{ P("\x80\2"
		    "ctorch._utils\n_rebuild_tensor_v2\n)R."),
		    DF_EFORMAT, "without a storage" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct df_buf b = DF_BUF_INIT;
		struct layout l;

		make_file(&b, &l, cases[i].code, cases[i].n, false);
		refused(&b, b.len, cases[i].rc, cases[i].words);
		df_buf_release(&b);
	}
}

/* Values that come again are one value, not copies: twenty lists, each ten times the one before, need no memory. */
static void
test_sharing(void **state)
{
	struct df_buf code = DF_BUF_INIT, b = DF_BUF_INIT;
	const struct df_torch_value *v;
	struct df_torch *f = NULL;
	struct layout l;

	(void)state;
	df_buf_add(&code, "\x80\2(Nq\0", 6);
	for (int level = 0; level < 15; level++) {
		df_buf_add(&code, "](", 2);
		for (int i = 0; i < 10; i++) {
			df_buf_putc(&code, 'h');
			df_buf_putc(&code, (char)level);
		}
		df_buf_add(&code, "eq", 2);
		df_buf_putc(&code, (char)(level + 1));
	}
	df_buf_add(&code, "t.", 2);
	make_file(&b, &l, code.data, code.len, false);
	mh_ok(df_torch_open(&f, spill(&b, b.len), err));
	v = df_torch_root(f);
	assert_int_equal(df_torch_size(v), 16);
	for (v = df_torch_at(v, 15, NULL); df_torch_size(v) > 0; v = df_torch_at(v, 9, NULL))
		assert_int_equal(df_torch_size(v), 10);
	df_torch_close(f);
	df_buf_release(&code);
	df_buf_release(&b);
}

/* ---- zips ---------------------------------------------------------------------------------- */

static void
test_hostile_zips(void **state)
{
	enum { DATA_PKL, STORAGE0 = 2 };
	static const struct {
		int which; /* entry; -1: the end record */
		bool central;
		size_t at;
		uint64_t value;
		int n, rc;
		const char *words;
	} cases[] = {
		{ DATA_PKL, true, 10, 8, 2, DF_EUNSUPPORTED, "optimizer/data.pkl|compressed (method 8)" },
		{ STORAGE0, true, 10, 8, 2, DF_EUNSUPPORTED, "optimizer/data/0|compressed" },
		{ STORAGE0, true, 8, 1, 2, DF_EUNSUPPORTED, "encrypted" },
		{ STORAGE0, true, 20, 23, 4, DF_EFORMAT, "stored, but" },
		{ STORAGE0, true, 42, 1u << 31, 4, DF_EFORMAT, "no local header at byte 2147483648" },
		{ STORAGE0, true, 42, 1, 4, DF_EFORMAT, "no local header at byte 1" },
		{ STORAGE0, true, 42, 0, 4, DF_EFORMAT, "another name" },
		{ STORAGE0, true, 46, 'X', 1, DF_EFORMAT, "another name" },
		{ STORAGE0, false, 30, 'X', 1, DF_EFORMAT, "another name" },
		{ STORAGE0, false, 26, 0xffff, 2, DF_EFORMAT, "another name" },
		{ STORAGE0, false, 28, 0xffff, 2, DF_EFORMAT, "truncated" },
		{ STORAGE0, true, 28, 0xffff, 2, DF_EFORMAT, "directory is damaged" },
		{ STORAGE0, true, 30, 0xffff, 2, DF_EFORMAT, "directory is damaged" },
		{ STORAGE0, true, 0, 0, 4, DF_EFORMAT, "directory is damaged" },
		{ -1, false, 10, 0xffff, 2, DF_EFORMAT, "65535 entries" },
		{ -1, false, 10, 5, 2, DF_EFORMAT, "directory is damaged" },
		{ -1, false, 12, UINT32_MAX, 4, DF_EFORMAT, "not inside the file" },
		{ -1, false, 16, UINT32_MAX, 4, DF_EFORMAT, "not inside the file" },
		{ -1, false, 20, 1, 2, DF_EFORMAT, "no end of a zip" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct df_buf b = DF_BUF_INIT;
		struct layout l;
		size_t at;

		make_file(&b, &l, P("\x80\2N."), false);
		at = cases[i].which < 0 ? l.end
		    : cases[i].central  ? l.central[cases[i].which]
					: l.local[cases[i].which];
		poke(&b, at + cases[i].at, cases[i].value, cases[i].n);
		refused(&b, b.len, cases[i].rc, cases[i].words);
		df_buf_release(&b);
	}
}

/* In zip64's fields, too. */
static void
test_hostile_zip64(void **state)
{
	struct layout l;

	(void)state;
	for (int i = 0; i < 5; i++) {
		struct df_buf b = DF_BUF_INIT;

		make_file(&b, &l, P("\x80\2N."), true);
		const size_t extra = l.central[2] + 46 + strlen("optimizer/data/0");
		switch (i) {
		case 0: /* a size of 2^62 */
			poke(&b, extra + 4, UINT64_C(1) << 62, 8);
			poke(&b, extra + 12, UINT64_C(1) << 62, 8);
			refused(&b, b.len, DF_EFORMAT, "optimizer/data/0|4611686018427387904 bytes|truncated");
			break;
		case 1: /* the place near 2^64 */
			poke(&b, extra + 20, UINT64_MAX - 3, 8);
			refused(&b, b.len, DF_EFORMAT, "no local header at byte 18446744073709551612");
			break;
		case 2: /* a field that is too short for what it should hold */
			poke(&b, extra + 2, 16, 2);
			refused(&b, b.len, DF_EFORMAT, "zip64 field is too short");
			break;
		case 3: /* the directory's record is elsewhere */
			poke(&b, l.end - 12, UINT64_MAX, 8);
			refused(
			    &b, b.len, DF_EFORMAT, "zip64's end of the directory is not at byte 18446744073709551615");
			break;
		default: /* more entries than bytes */
			poke(&b, l.end - 20 - 56 + 32, UINT64_MAX, 8);
			refused(&b, b.len, DF_EFORMAT, "18446744073709551615 entries");
			break;
		}
		df_buf_release(&b);
	}
}

static void
test_entries(void **state)
{
	static const char none[] = "\x80\2N.";
	const struct {
		struct entry v[3];
		size_t n;
		int rc;
		const char *words;
	} cases[] = {
		{ { { "a/data/0", "x", 1 } }, 1, DF_EFORMAT, "no data.pkl" },
		{ { { "data.pkl", P(none) } }, 1, DF_EFORMAT, "no data.pkl" },
		{ { { "a/b/data.pkl", P(none) } }, 1, DF_EFORMAT, "no data.pkl" },
		{ { { "a/data.pkl", P(none) }, { "b/data.pkl", P(none) } }, 2, DF_EFORMAT,
		    "two entries are a data.pkl" },
		{ { { "a/data.pkl", P(none) }, { "a/x", "1", 1 }, { "a/x", "2", 1 } }, 3, DF_EFORMAT,
		    "two entries are named 'a/x'" },
		{ { { "a/data.pkl", P(none) }, { "a/byteorder", "big", 3 } }, 2, DF_EUNSUPPORTED,
		    "byte order is 'big'" },
		{ { { "a/data.pkl", P(none) } }, 0, DF_EFORMAT, "no data.pkl" },
	};
	static const unsigned char legacy[] = { 0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20 };
	struct df_buf b = DF_BUF_INIT, inner = DF_BUF_INIT;
	struct layout l, in;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		df_buf_clear(&b);
		make_zip(&b, &l, cases[i].v, cases[i].n, false);
		refused(&b, b.len, cases[i].rc, cases[i].words);
	}
	df_buf_clear(&b);
	df_buf_add(&b, legacy, sizeof legacy);
	refused(&b, b.len, DF_EUNSUPPORTED, "before 2020");
	df_buf_clear(&b);
	refused(&b, 0, DF_EFORMAT, "no end of a zip");

	/* An entry within another: a zip whose last entry's place is in the bytes of the second. */
	make_zip(&inner, &in, (struct entry[]){ { "a/y", "12345678", 8 } }, 1, false);
	make_zip(&b, &l,
	    (struct entry[]){ { "a/data.pkl", P(none) }, { "a/x", inner.data, inner.len }, { "a/y", "12345678", 8 } },
	    3, false);
	poke(&b, l.central[2] + 42, l.local[1] + 30 + 3 + 3, 4);
	refused(&b, b.len, DF_EFORMAT, "'a/x'|'a/y'|overlap");
	df_buf_release(&b);
	df_buf_release(&inner);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_hostile_pickles),
		cmocka_unit_test(test_sharing),
		cmocka_unit_test(test_hostile_zips),
		cmocka_unit_test(test_hostile_zip64),
		cmocka_unit_test(test_entries),
	};

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}

/*
 * tokenizer_load.c - a tokenizer.json and the files beside it become a tokenizer.
 *
 * tokenizer.json holds the pipeline (Hugging Face's tokenizers); beside it tokenizer_config.json, or
 * special_tokens_map.json in older models, says which tokens are bos, eos and pad and may add more (transformers).
 * The ids are those of transformers' fast tokenizer with the same files.  What cannot be done exactly is refused by
 * name.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "token/token_priv.h"

#define JSON_LIMIT ((size_t)512 << 20)

/* --- added tokens --------------------------------------------------------------------------------------------- */

/* {"content": ..., "special": ..., ...}; the default of `normalized` is the opposite of `special`. */
static int
read_token(const struct df_json_value *v, const char **text, size_t *n, struct tok_added_flags *f, struct df_err *err)
{
	int rc;

	*text = df_json_str(df_json_get(v, "content"), n);
	if (*text == NULL)
		return df_fail(err, DF_EFORMAT, "has no string 'content'");
	DF_TRY(df_json_member_bool(v, "special", false, &f->special, err));
	DF_TRY(df_json_member_bool(v, "normalized", !f->special, &f->normalized, err));
	DF_TRY(df_json_member_bool(v, "single_word", false, &f->single_word, err));
	DF_TRY(df_json_member_bool(v, "lstrip", false, &f->lstrip, err));
	DF_TRY(df_json_member_bool(v, "rstrip", false, &f->rstrip, err));
out:
	return rc;
}

static int
load_added(struct df_tokenizer *t, const struct df_json_value *list, struct df_err *err)
{
	struct tok_added_flags f;
	const char *text;
	int64_t said;
	uint32_t id;
	size_t n, i = 0;
	int rc = DF_OK;

	if (list != NULL && df_json_type(list) != DF_JSON_ARRAY)
		return df_fail(err, DF_EFORMAT, "added_tokens: expected an array, found %s", df_json_type_name(list));
	for (i = 0; i < df_json_size(list); i++) {
		const struct df_json_value *v = df_json_at(list, i);

		DF_TRY(read_token(v, &text, &n, &f, err));
		if (!df_json_int(df_json_get(v, "id"), &said)) {
			rc = df_fail(err, DF_EFORMAT, "has no integer 'id'");
			goto out;
		}
		DF_TRY(df_tok_add(t, text, n, f, &id, err));
		/*
		 * The reference numbers them itself and only warns; then the model would have been
		 * trained on other ids.
		 */
		if (said != id) {
			rc = df_fail(err, DF_EFORMAT, "'%.100s' says id %lld, but its place in the vocabulary is %u",
			    text, (long long)said, id);
			goto out;
		}
	}
out:
	if (rc != DF_OK)
		df_err_prefix(err, "added_tokens[%zu]: ", i);
	return rc;
}

struct numbered {
	int64_t id;
	const struct df_json_value *v;
};

static int
by_id(const void *a, const void *b)
{
	const struct numbered *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* tokenizer_config.json's {"ID": {token}, ...}: added again in the order of ids, which updates their flags. */
static int
load_added_decoder(struct df_tokenizer *t, const struct df_json_value *map, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	struct tok_added_flags f;
	struct numbered *list = NULL;
	const char *key, *text;
	size_t n = 0, len;
	uint32_t id;
	int rc = DF_OK;

	if (df_json_type(map) == DF_JSON_ABSENT || df_json_type(map) == DF_JSON_NULL)
		return DF_OK;
	if (df_json_type(map) != DF_JSON_OBJECT)
		return df_fail(
		    err, DF_EFORMAT, "added_tokens_decoder: expected an object, found %s", df_json_type_name(map));
	DF_TRY(df_alloc(&list, df_json_size(map), sizeof(*list), "added tokens", err));
	while ((m = df_json_next(map, m, &key, &v)) != NULL) {
		char *end;

		list[n].id = strtoll(key, &end, 10);
		list[n++].v = v;
		if (end == key || *end != '\0') {
			rc = df_fail(err, DF_EFORMAT, "added_tokens_decoder: '%s' is not an id", key);
			goto out;
		}
	}
	qsort(list, n, sizeof(*list), by_id);
	for (size_t i = 0; i < n; i++) {
		rc = read_token(list[i].v, &text, &len, &f, err);
		if (rc == DF_OK)
			rc = df_tok_add(t, text, len, f, &id, err);
		if (rc == DF_OK && id != list[i].id)
			rc = df_fail(err, DF_EFORMAT, "'%.100s' has id %u in the vocabulary", text, id);
		if (rc != DF_OK) {
			df_err_prefix(err, "added_tokens_decoder '%lld': ", (long long)list[i].id);
			goto out;
		}
	}
out:
	free(list);
	return rc;
}

/* --- bos, eos, pad -------------------------------------------------------------------------------------------- */

/* A special token, "text" or {"content": "text", ...}; *id stays as it is when there is none. */
static int
load_special(struct df_tokenizer *t, const struct df_json_value *v, uint32_t *id, struct df_err *err)
{
	struct tok_added_flags f = { .special = true };
	const struct tok_added_token *old;
	const char *text;
	size_t n;
	int rc = DF_OK;

	if (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL)
		return DF_OK;
	text = df_json_str(v, &n);
	if (text == NULL)
		DF_TRY(read_token(v, &text, &n, &f, err));
	/* An empty name stands for none. */
	if (n == 0)
		return DF_OK;
	f.special = true;
	old = df_tok_added_by_text(&t->added, text, n);
	if (old != NULL)
		*id = old->id;
	else
		DF_TRY(df_tok_add(t, text, n, f, id, err));
out:
	return rc;
}

/* The special tokens, in the order in which transformers adds them. */
static const char *const special_keys[TOK_N_SPECIALS] = { "bos_token", "eos_token", "unk_token", "sep_token",
	"pad_token", "cls_token", "mask_token" };

/* The field that holds the id of special token i. */
static uint32_t *
special_id(struct df_tokenizer *t, size_t i, uint32_t *other)
{
	return i == 0 ? &t->bos : i == 1 ? &t->eos : i == 4 ? &t->pad : other;
}

/* All special tokens of a file. */
static int
load_specials(struct df_tokenizer *t, const struct df_json_value *config, struct df_err *err)
{
	uint32_t other;
	const struct df_json_value *more = df_json_get(config, "additional_special_tokens");
	int rc = DF_OK;

	for (size_t i = 0; i < TOK_N_SPECIALS; i++) {
		rc = load_special(t, df_json_get(config, special_keys[i]), special_id(t, i, &other), err);
		if (rc != DF_OK) {
			df_err_prefix(err, "%s: ", special_keys[i]);
			goto out;
		}
	}
	for (size_t i = 0; i < df_json_size(more) && df_json_type(more) == DF_JSON_ARRAY; i++)
		DF_TRY(load_special(t, df_json_at(more, i), &other, err));
out:
	return rc;
}

/* The class's default, when the files do not have the key; null in a file means none. */
static int
default_specials(struct df_tokenizer *t, const char *class, const struct df_json_value *config,
    const struct df_json_value *map, struct df_err *err)
{
	const struct tok_added_flags f = { .special = true };
	uint32_t other;
	int rc = DF_OK;

	for (size_t i = 0; i < TOK_N_SPECIALS; i++) {
		const char *text = df_tok_class_token(class, i);

		if (text != NULL && df_json_get(config, special_keys[i]) == NULL &&
		    df_json_get(map, special_keys[i]) == NULL)
			DF_TRY(df_tok_add(t, text, strlen(text), f, special_id(t, i, &other), err));
	}
out:
	return rc;
}

/* *out = the document beside tokenizer.json, or NULL when there is none. */
static int
load_beside(const struct df_tokenizer *t, const char *name, char **path, struct df_json **out, struct df_err *err)
{
	bool there;
	int rc;

	*out = NULL;
	DF_TRY(df_path_join(path, t->path, name, err));
	DF_TRY(df_file_probe(*path, &there, err));
	if (!there)
		goto out;
	DF_TRY(df_json_load(out, *path, JSON_LIMIT, err));
	if (df_json_type(df_json_root(*out)) != DF_JSON_OBJECT)
		rc = df_fail(
		    err, DF_EFORMAT, "%s: expected an object, found %s", *path, df_json_type_name(df_json_root(*out)));
out:
	return rc;
}

/*
 * A ByteLevel that stands alone takes add_prefix_space from tokenizer_config.json (absent: false); that of
 * tokenizer.json is ignored.
 */
static int
apply_prefix_space(
    struct df_tokenizer *t, const struct df_json_value *config, const struct df_json_value *pre, struct df_err *err)
{
	const char *type = df_json_str(df_json_get(pre, "type"), NULL);
	bool prefix;
	int rc;

	DF_TRY(df_json_member_bool(config, "add_prefix_space", false, &prefix, err));
	if (type != NULL && strcmp(type, "ByteLevel") == 0)
		DF_TRY(df_tok_splits_prefix(&t->splits, prefix, err));
out:
	return rc;
}

static bool
is_one_of(const char *class, const char *const *list)
{
	while (*list != NULL && !df_tok_class_is(class, *list))
		list++;
	return *list != NULL;
}

/* Classes of transformers that override their tokenizer.json: BERT's set the normalizer, */
static int
apply_bert(struct df_tokenizer *t, const char *class, const struct df_json_value *config, struct df_err *err)
{
	static const char *const classes[] = { "BertTokenizer", "ConvBertTokenizer", "DistilBertTokenizer",
		"ElectraTokenizer", "FunnelTokenizer", "LayoutLMTokenizer", "LxmertTokenizer", "MobileBertTokenizer",
		"MPNetTokenizer", "SqueezeBertTokenizer", NULL };
	bool lower, cjk, accents;
	int rc = DF_OK;

	if (!t->norm.is_bert || !is_one_of(class, classes))
		goto out;
	DF_TRY(df_json_member_bool(config, "do_lower_case", true, &lower, err));
	DF_TRY(df_json_member_bool(config, "tokenize_chinese_chars", true, &cjk, err));
	DF_TRY(df_json_member_bool(config, "strip_accents", false, &accents, err));
	df_tok_norm_set_bert(
	    &t->norm, lower, df_json_type(df_json_get(config, "strip_accents")) == DF_JSON_BOOL ? accents : -1, cjk);
out:
	return rc;
}

/* Llama's and GPT-NeoX's set bos and eos around a text. */
static int
apply_llama(struct df_tokenizer *t, const char *class, const struct df_json_value *config, struct df_err *err)
{
	static const char *const classes[] = { "LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer",
		"CohereTokenizer", NULL };
	const bool neox = df_tok_class_is(class, "GPTNeoXTokenizer");
	bool eos;
	int rc = DF_OK;

	if (!neox && !is_one_of(class, classes))
		goto out;
	DF_TRY(df_json_member_bool(config, "add_bos_token", !neox, &t->add_bos, err));
	DF_TRY(df_json_member_bool(config, "add_eos_token", false, &eos, err));
	t->frame.n_before = t->frame.n_after = 0;
	DF_TRY(df_tok_frame_wrap(&t->frame, t->add_bos ? t->bos : DF_NO_TOKEN, eos ? t->eos : DF_NO_TOKEN, err));
out:
	return rc;
}

static int
apply_config(struct df_tokenizer *t, const char *class, const struct df_json_value *config,
    const struct df_json_value *pre, struct df_err *err)
{
	const char *side;
	int rc;

	DF_TRY(apply_prefix_space(t, config, pre, err));
	DF_TRY(apply_bert(t, class, config, err));
	DF_TRY(df_json_member_bool(config, "add_bos_token", false, &t->add_bos, err));
	DF_TRY(df_json_member_str(config, "truncation_side", "right", &side, err));
	t->truncate_left = strcmp(side, "left") == 0;
	DF_TRY(load_added_decoder(t, df_json_get(config, "added_tokens_decoder"), err));
	DF_TRY(load_specials(t, config, err));
out:
	return rc;
}

/* The class that transformers would make: tokenizer_config.json's, or that of the model in config.json; "" if unknown. */
static int
find_class(const struct df_tokenizer *t, const struct df_json_value *config, struct df_json **model, const char **class,
    struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(df_json_member_str(config, "tokenizer_class", NULL, class, err));
	if (*class != NULL)
		goto out;
	DF_TRY(load_beside(t, "config.json", &path, model, err));
	*class = "";
	if (*model == NULL)
		goto out;
	rc = df_json_member_str(df_json_root(*model), "tokenizer_class", NULL, class, err);
	if (rc == DF_OK && *class == NULL) {
		rc = df_json_member_str(df_json_root(*model), "model_type", "", class, err);
		*class = df_tok_class_of_model(*class);
	}
out:
	free(path);
	return rc;
}

static int
load_config(struct df_tokenizer *t, const struct df_json_value *pre, struct df_err *err)
{
	struct df_json *config = NULL, *map = NULL, *model = NULL;
	const struct df_json_value *root = NULL, *more = NULL;
	char *config_path = NULL, *map_path = NULL, *at;
	const char *class = "";
	bool known;
	int rc;

	DF_TRY(load_beside(t, "tokenizer_config.json", &config_path, &config, err));
	DF_TRY(load_beside(t, "special_tokens_map.json", &map_path, &map, err));
	at = config_path;
	root = config != NULL ? df_json_root(config) : NULL;
	DF_TRY(find_class(t, root, &model, &class, err));
	/* A tokenizer.json without the other files: nothing else is known. */
	known = root != NULL || *class != '\0';
	if (known)
		rc = apply_config(t, class, root, pre, err);
	/* When there is an added_tokens_decoder (newer files), special_tokens_map.json is ignored. */
	if (rc == DF_OK && map != NULL && df_json_get(root, "added_tokens_decoder") == NULL) {
		at = map_path;
		more = df_json_root(map);
		rc = load_specials(t, more, err);
	}
	if (rc == DF_OK && known) {
		at = config_path;
		rc = default_specials(t, class, root, more, err);
	}
	if (rc == DF_OK && known)
		rc = apply_llama(t, class, root, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", at);
out:
	df_json_free(config);
	df_json_free(map);
	df_json_free(model);
	free(config_path);
	free(map_path);
	return rc;
}

/* The document: tokenizer.json, or its equivalent made from older files, which t->made keeps. */
static int
load_document(struct df_tokenizer *t, struct df_json **out, struct df_err *err)
{
	struct df_json *config = NULL, *model = NULL;
	struct df_buf made = DF_BUF_INIT;
	char *path = NULL;
	const char *class;
	bool there;
	int rc;

	DF_TRY(df_file_probe(t->json_path, &there, err));
	if (there)
		return df_json_load(out, t->json_path, JSON_LIMIT, err);
	DF_TRY(load_beside(t, "tokenizer_config.json", &path, &config, err));
	DF_TRY(find_class(t, config != NULL ? df_json_root(config) : NULL, &model, &class, err));
	DF_TRY(df_tok_old_files(t->path, class, &made, err));
	if (made.len == 0) {
		rc = df_fail(err, DF_ENOINPUT,
		    "tokenizer '%s': %s does not exist, nor vocab.txt or vocab.json with merges.txt; expected \"bytes\", "
		    "a tokenizer.json or a directory that holds one",
		    t->path, t->json_path);
		goto out;
	}
	DF_TRY(df_json_parse(out, made.data, made.len, t->path, err));
	t->made = df_buf_detach(&made);
out:
	df_json_free(config);
	df_json_free(model);
	df_buf_release(&made);
	free(path);
	return rc;
}

/* The type of the model; older files do not have it. */
static int
model_type(const struct df_json_value *model, const char **type, struct df_err *err)
{
	int rc;

	if (df_json_type(model) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "model: expected an object, found %s", df_json_type_name(model));
	DF_TRY(df_json_member_str(model, "type", NULL, type, err));
	if (*type == NULL)
		*type = df_json_get(model, "merges") != NULL                     ? "BPE"
		    : df_json_get(model, "continuing_subword_prefix") != NULL    ? "WordPiece"
		    : df_json_type(df_json_get(model, "vocab")) == DF_JSON_ARRAY ? "Unigram"
										 : "BPE";
out:
	return rc;
}

static int
load_model(struct df_tokenizer *t, const struct df_json_value *model, struct df_err *err)
{
	const char *type;
	int rc;

	DF_TRY(model_type(model, &type, err));
	if (strcmp(type, "BPE") == 0) {
		DF_TRY(df_tok_bpe_new(&t->bpe, model, t->splits.byte_level, err));
		t->vocab = df_tok_bpe_vocab(t->bpe);
		df_digest_merge(&t->rules, df_tok_bpe_digest(t->bpe));
	} else if (strcmp(type, "WordPiece") == 0) {
		if (t->splits.byte_level) {
			rc = df_fail(err, DF_EUNSUPPORTED, "WordPiece after ByteLevel is not supported");
			goto out;
		}
		DF_TRY(df_tok_wordpiece_new(&t->wordpiece, model, err));
		t->vocab = df_tok_wordpiece_vocab(t->wordpiece);
		df_digest_merge(&t->rules, df_tok_wordpiece_digest(t->wordpiece));
	} else {
		rc = df_fail(err, DF_EUNSUPPORTED, "model '%s' is not supported (BPE and WordPiece are)", type);
	}
out:
	return rc;
}

static int
load_pipeline(struct df_tokenizer *t, const struct df_json_value *root, struct df_err *err)
{
	int rc;

	if (df_json_type(root) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(root));
	DF_TRY(df_tok_norm_load(&t->norm, df_json_get(root, "normalizer"), err));
	DF_TRY(df_tok_splits_load(&t->splits, df_json_get(root, "pre_tokenizer"), err));
	DF_TRY(load_model(t, df_json_get(root, "model"), err));
	DF_TRY(df_tok_frame_load(&t->frame, df_json_get(root, "post_processor"), err));
	DF_TRY(df_tok_decoder_new(&t->decoder, df_json_get(root, "decoder"), false, err));
	DF_TRY(load_added(t, df_json_get(root, "added_tokens"), err));
out:
	return rc;
}

int
df_tok_load(struct df_tokenizer *t, struct df_err *err)
{
	struct df_json *j = NULL;
	int rc;

	DF_TRY(load_document(t, &j, err));
	rc = load_pipeline(t, df_json_root(j), err);
	if (rc != DF_OK) {
		df_err_prefix(err, "%s: ", t->json_path);
		goto out;
	}
	DF_TRY(load_config(t, df_json_get(df_json_root(j), "pre_tokenizer"), err));
	df_digest_merge(&t->rules, t->norm.digest);
	df_digest_merge(&t->rules, t->splits.digest);
	if (t->bpe != NULL && df_tok_bpe_is_bytes(t->bpe) && t->norm.n == 0 && t->splits.n == 0) {
		/* What df_tokenizer_save wrote for "bytes": the same tokenizer again. */
		df_tok_bpe_free(t->bpe);
		t->bpe = NULL;
		t->vocab = NULL;
		t->rules = (struct df_digest){ 0, 0 };
	}
	DF_TRY(df_tok_finish(t, err));
out:
	df_json_free(j);
	return rc;
}

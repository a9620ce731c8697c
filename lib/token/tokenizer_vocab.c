/*
 * tokenizer_vocab.c - tokenizers from before tokenizer.json: vocab.txt, or vocab.json with merges.txt.
 *
 * transformers converts them by their class.  This file does too, into the text of a tokenizer.json, so that there
 * is one way to load, save and name a tokenizer.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "token/token_priv.h"

#define FILE_LIMIT ((size_t)256 << 20)

#define BYTE_LEVEL(regex) \
	"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"

/* Qwen2's Split. */
#define SPLIT                                                                                        \
	"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"                 \
	"[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|" \
	"\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false}"

/*
 * The classes whose vocab.json and merges.txt are byte-level BPE, and the rest of their tokenizer.json around the
 * model.
 */
static const struct {
	const char *class, *normalizer, *pre_tokenizer;
} classes[] = {
	{ "GPT2Tokenizer", "null", BYTE_LEVEL("true") },
	{ "Qwen2Tokenizer", "{\"type\":\"NFC\"}",
	    "{\"type\":\"Sequence\",\"pretokenizers\":[" SPLIT "," BYTE_LEVEL("false") "]}" },
};

/* The next line of *text: its length without the line end; *text moves to the next one.  False at the end. */
static bool
next_line(const char **text, const char *end, const char **line, size_t *n)
{
	const char *stop;

	if (*text == end)
		return false;
	*line = *text;
	stop = memchr(*text, '\n', (size_t)(end - *text));
	*text = stop == NULL ? end : stop + 1;
	*n = (size_t)((stop == NULL ? end : stop) - *line);
	if (*n > 0 && (*line)[*n - 1] == '\r')
		--*n;
	return true;
}

/* BERT's vocab.txt: a token a line, its id the line's number. */
static int
from_vocab_txt(const char *vocab, size_t n, struct df_buf *out, struct df_err *err)
{
	static const char *const specials[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };
	const char *text = vocab, *end = vocab + n, *line;
	unsigned id[5] = { 0 }, count = 0;
	struct df_buf map = DF_BUF_INIT;
	bool have[5] = { false };
	size_t len;
	int rc;

	while (next_line(&text, end, &line, &len)) {
		if (len > 0) {
			df_buf_puts(&map, map.len > 0 ? "," : "");
			df_buf_json_strn(&map, line, len);
			df_buf_printf(&map, ":%u", count);
		}
		for (size_t i = 0; i < 5; i++) {
			if (strlen(specials[i]) != len || memcmp(specials[i], line, len) != 0)
				continue;
			id[i] = count;
			have[i] = true;
		}
		count++;
	}
	DF_TRY(df_buf_check(&map, err));
	if (!have[1] || !have[2] || !have[3]) {
		rc = df_fail(err, DF_EFORMAT, "vocab.txt: not BERT's: [UNK], [CLS] or [SEP] is missing");
		goto out;
	}
	df_buf_puts(out, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
	for (size_t i = 0, k = 0; i < 5; i++)
		if (have[i])
			df_buf_printf(out,
			    "%s{\"id\":%u,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
			    "\"normalized\":false,\"special\":true}",
			    k++ > 0 ? "," : "", id[i], specials[i]);
	df_buf_printf(out,
	    "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
	    "\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
	    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",%u],\"cls\":[\"[CLS]\",%u]},"
	    "\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},\"model\":{\"type\":\"WordPiece\","
	    "\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{%s}}}\n",
	    id[3], id[2], map.data);
	DF_TRY(df_buf_check(out, err));
out:
	df_buf_release(&map);
	return rc;
}

/* vocab.json, as it stands, and merges.txt: "a b" a line. */
static int
from_merges(const char *class, const char *vocab, size_t n_vocab, const char *merges, size_t n_merges,
    struct df_buf *out, struct df_err *err)
{
	const char *text = merges, *end = merges + n_merges, *line;
	size_t k = 0, len, n = 0;

	while (k < sizeof(classes) / sizeof(classes[0]) && !df_tok_class_is(class, classes[k].class))
		k++;
	if (k == sizeof(classes) / sizeof(classes[0]))
		return df_fail(err, DF_EUNSUPPORTED,
		    "no tokenizer.json, and vocab.json of a '%s' is not supported (GPT2Tokenizer's and Qwen2Tokenizer's "
		    "are); load and save it once with transformers to get a tokenizer.json",
		    class);
	df_buf_printf(out,
	    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],\"normalizer\":%s,"
	    "\"pre_tokenizer\":%s,\"post_processor\":null,\"decoder\":" BYTE_LEVEL(
		"true") ",\"model\":{\"type\":\"BPE\","
			"\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\","
			"\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":",
	    classes[k].normalizer, classes[k].pre_tokenizer);
	df_buf_add(out, vocab, n_vocab);
	df_buf_puts(out, ",\"merges\":[");
	while (next_line(&text, end, &line, &len)) {
		if (len == 0 || (len >= 8 && memcmp(line, "#version", 8) == 0))
			continue;
		df_buf_puts(out, n++ > 0 ? "," : "");
		df_buf_json_strn(out, line, len);
	}
	df_buf_puts(out, "]}}\n");
	return df_buf_check(out, err);
}

/* *data = DIR/NAME, checked to be UTF-8; NULL when there is no such file. */
static int
read_beside(const char *dir, const char *name, char **data, size_t *n, struct df_err *err)
{
	char *path = NULL;
	size_t bad;
	bool there;
	int rc;

	*data = NULL;
	DF_TRY(df_path_join(&path, dir, name, err));
	DF_TRY(df_file_probe(path, &there, err));
	if (!there)
		goto out;
	DF_TRY(df_file_get(path, FILE_LIMIT, data, n, err));
	bad = df_utf8_check(*data, *n);
	if (bad < *n)
		rc = df_fail(err, DF_EFORMAT, "%s: byte %zu: not UTF-8", path, bad);
out:
	free(path);
	return rc;
}

int
df_tok_old_files(const char *dir, const char *class, struct df_buf *out, struct df_err *err)
{
	char *txt = NULL, *vocab = NULL, *merges = NULL;
	size_t n_txt, n_vocab, n_merges;
	int rc;

	DF_TRY(read_beside(dir, "vocab.txt", &txt, &n_txt, err));
	DF_TRY(read_beside(dir, "vocab.json", &vocab, &n_vocab, err));
	DF_TRY(read_beside(dir, "merges.txt", &merges, &n_merges, err));
	if (txt != NULL)
		rc = from_vocab_txt(txt, n_txt, out, err);
	else if (vocab != NULL && merges != NULL)
		rc = from_merges(class, vocab, n_vocab, merges, n_merges, out, err);
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", dir);
out:
	free(txt);
	free(vocab);
	free(merges);
	return rc;
}

/*
 * tok_priv.h - the parts of a tokenizer, in the order that text meets them.
 *
 *	text -> added tokens (raw) -> normalizer -> added tokens (normalized)
 *	     -> pre-tokenizer: a chain of splits -> model: word -> ids
 *
 * This is the order of Hugging Face's tokenizers.  Each part is a file:
 * added.c, normalize.c, pretok.c (pretok_re.c for regexes that it does not know by heart),
 * bpe.c with bpe_load.c; tokenizer.c joins them and tokenizer_load.c builds them from JSON.
 */
#ifndef DF_TEXT_TOK_PRIV_H
#define DF_TEXT_TOK_PRIV_H

#include "text/json.h"
#include "text/tokenizer.h"

/* --- unicode.c ------------------------------------------------------------------------------------------------ */

/* What a code point is, as bits of df_uc_table[code point]. */
enum df_uc {
	DF_UC_LETTER = 1,   /* \p{L} */
	DF_UC_NUMBER = 2,   /* \p{N} */
	DF_UC_SPACE = 4,    /* \s: White_Space, which leaves out U+180E */
	DF_UC_WORD = 8,     /* \w of Rust's regex: Alphabetic, M, Nd, Pc, Join_Control */
	DF_UC_NFC_RISK = 16, /* may change under NFC, alone or by what precedes it */
	DF_UC_NFC_WALL = 32  /* newer than the reference's NFC: nothing moves past it or combines with it */
};

extern uint8_t df_uc_table[0x110000]; /* filled by df_uc_init */
void df_uc_init(void);                /* any thread, any number of times */

/* The code point at s (valid UTF-8); *len = its bytes. */
static inline uint32_t
df_uc_get(const unsigned char *s, size_t *len)
{
	if (s[0] < 0x80) {
		*len = 1;
		return s[0];
	}
	if (s[0] < 0xE0) {
		*len = 2;
		return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
	}
	if (s[0] < 0xF0) {
		*len = 3;
		return (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
	}
	*len = 4;
	return (s[0] & 0x07u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
}

/* The offset of the first byte that is not UTF-8, or n. */
size_t df_utf8_check(const char *s, size_t n);
/* The character that ends just before s + n (n > 0). */
uint32_t df_uc_before(const char *s, size_t n, size_t *len);

/* --- normalize.c ---------------------------------------------------------------------------------------------- */

/*
 * A normalizer.  run() appends to out what text becomes and returns true, or
 * returns false when text stays as it is (the usual case, found out fast).
 */
struct tok_norm {
	const char *type; /* as in tokenizer.json */
	bool (*run)(const char *text, size_t n, struct df_buf *out);
};

const struct tok_norm *df_tok_norm_find(const char *type); /* NULL when unknown */

/* --- added.c -------------------------------------------------------------------------------------------------- */

struct tok_added_flags {
	bool special, normalized, single_word, lstrip, rstrip;
};

struct tok_added_token {
	char *text;
	size_t n;
	uint32_t id;
	struct tok_added_flags flags;
};

/* A byte trie: node 0 is the root; children are linked. */
struct tok_trie_node {
	uint32_t child, sibling; /* 0 = none */
	uint32_t id;             /* of the token that ends here, or DF_NO_TOKEN */
	unsigned char byte;
};

struct tok_trie {
	struct tok_trie_node *node;
	size_t n, cap;
	bool starts[256]; /* bytes that begin a token */
	int only_start;   /* the byte, when there is just one; -1 */
};

/* The added vocabulary. */
struct tok_added {
	struct tok_added_token *token; /* one per id, with the flags given last */
	size_t n, cap;
	struct tok_added_token *pattern; /* what is searched for, with the flags given first */
	size_t n_patterns, cap_patterns;
	struct tok_trie raw, normalized;
};

/* The id that a new added token gets: its id in the model's vocabulary, or the next free one. */
struct tok_vocab_view {
	uint32_t (*find)(const void *ctx, const char *text, size_t n); /* DF_NO_TOKEN when absent */
	const void *ctx;
	uint32_t size; /* number of entries */
};

int df_tok_added_add(struct tok_added *a, const char *text, size_t n, struct tok_added_flags flags,
    const struct tok_vocab_view *vocab, uint32_t *id, struct df_err *err) DF_MUST_CHECK;
/* (Re)build the tries after the last df_tok_added_add; `norm` may be NULL. */
int df_tok_added_build(struct tok_added *a, const struct tok_norm *norm, struct df_err *err) DF_MUST_CHECK;
const struct tok_added_token *df_tok_added_by_id(const struct tok_added *a, uint32_t id);
const struct tok_added_token *df_tok_added_by_text(const struct tok_added *a, const char *text, size_t n);
void df_tok_added_release(struct tok_added *a);

/* A walk over a text: plain pieces and added tokens in order. */
struct df_tok_added_walk {
	const struct tok_added *a;
	const struct tok_trie *trie;
	const char *text;
	size_t n, pos, done; /* searched up to pos, handed out up to done */
	bool split_special;
};

struct df_tok_added_walk df_tok_added_walk(const struct tok_added *a, const struct tok_trie *trie, const char *text,
    size_t n,
    bool split_special);
/*
 * The next plain piece (perhaps empty) and the id of the token after it; false at the end, with
 * the last piece, id DF_NO_TOKEN.
 */
bool df_tok_added_next(struct df_tok_added_walk *w, const char **piece, size_t *piece_n, uint32_t *id);

/* --- pretok.c, pretok_re.c ------------------------------------------------------------------------------------ */

/* What becomes of matches and of the gaps between them. */
enum tok_split_behavior {
	TOK_ISOLATED,
	TOK_REMOVED,
	TOK_MERGED_WITH_PREVIOUS,
	TOK_MERGED_WITH_NEXT,
	TOK_CONTIGUOUS
};

/* The end of the word that starts at text + at (at < n); every byte belongs to one word. */
typedef size_t tok_matcher(const unsigned char *text, size_t n, size_t at);

struct tok_regex; /* a compiled regex */

/* One step of the pre-tokenizer. */
struct tok_split {
	tok_matcher *match;      /* a pattern known by heart, isolated; or NULL and: */
	struct tok_regex *regex;
	enum tok_split_behavior behavior;
	bool invert;
	bool prefix_space; /* first put a space before a piece that has none */
};

tok_matcher *df_tok_matcher_find(const char *pattern); /* NULL: not one of L3, Q2, G2 */
extern const char df_tok_pattern_gpt2[];

int df_tok_regex_new(struct tok_regex **out, const char *pattern, size_t n, bool literal, struct df_err *err)
    DF_MUST_CHECK;
void df_tok_regex_free(struct tok_regex *re);
/* Per-thread state for matching. */
struct tok_regex_scratch;
int df_tok_regex_scratch_new(struct tok_regex_scratch **out, struct df_err *err) DF_MUST_CHECK;
void df_tok_regex_scratch_free(struct tok_regex_scratch *s);

/* Hand out the words that sp's regex makes of text (n > 0), in order. */
typedef int tok_word_fn(void *ctx, const char *word, size_t n);
int df_tok_split_regex(const struct tok_split *sp, struct tok_regex_scratch *s, const char *text, size_t n,
    tok_word_fn *fn,
    void *ctx, struct df_err *err) DF_MUST_CHECK;

/* --- bpe_load.c, bpe.c ----------------------------------------------------------------------------------------- */

struct tok_bpe;
struct tok_bpe_scratch;

/* From the "model" object of a tokenizer.json. */
int df_tok_bpe_new(struct tok_bpe **out, const struct df_json_value *model, struct df_err *err) DF_MUST_CHECK;
void df_tok_bpe_free(struct tok_bpe *m);
struct df_digest df_tok_bpe_digest(const struct tok_bpe *m);
bool df_tok_bpe_is_bytes(const struct tok_bpe *m);   /* id b is byte b, and that is all */
uint32_t df_tok_bpe_size(const struct tok_bpe *m);   /* entries of the vocabulary */
uint32_t df_tok_bpe_max_id(const struct tok_bpe *m); /* DF_NO_TOKEN when it is empty */
uint32_t df_tok_bpe_find(const void *m, const char *text, size_t n);
const char *df_tok_bpe_text(const struct tok_bpe *m, uint32_t id, size_t *n); /* NULL: no such id */
int df_tok_bpe_scratch_new(struct tok_bpe_scratch **out, struct df_err *err) DF_MUST_CHECK;
void df_tok_bpe_scratch_free(struct tok_bpe_scratch *s);
/* Append the ids of one word (raw bytes, not yet in the byte-level alphabet). */
int df_tok_bpe_word(const struct tok_bpe *m, struct tok_bpe_scratch *s, const unsigned char *word, size_t n,
    struct df_ids *ids, struct df_err *err) DF_MUST_CHECK;

/* The byte-level alphabet: byte -> code point (all below U+0144), and back (-1: not in it). */
uint32_t df_tok_byte_char(unsigned char b);
int df_tok_char_byte(uint32_t c);

/* --- tokenizer.c ---------------------------------------------------------------------------------------------- */

struct df_tokenizer {
	char *path;      /* the directory, or "bytes" */
	char *json_path; /* tokenizer.json; NULL for "bytes" */
	char id[DF_DIGEST_HEX];
	struct df_digest rules; /* of everything but the added tokens; 0 for bytes */
	struct tok_added added;
	const struct tok_norm *norm; /* NULL: none */
	struct tok_split *split;
	size_t n_splits;
	struct tok_bpe *bpe; /* NULL: every byte is its own id */
	uint32_t bos, eos, pad;
	bool add_bos;
	bool changed; /* other special tokens than the files say */
};

/* Fill *t (zeroed, path and json_path set) from the files. */
int df_tok_load(struct df_tokenizer *t, struct df_err *err) DF_MUST_CHECK;
/* Add a token by the rules of its vocabulary; df_tok_finish afterwards. */
int df_tok_add(struct df_tokenizer *t, const char *text, size_t n, struct tok_added_flags flags, uint32_t *id,
    struct df_err *err) DF_MUST_CHECK;
/* After the last df_tok_add: make the added tokens searchable, and the id. */
int df_tok_finish(struct df_tokenizer *t, struct df_err *err) DF_MUST_CHECK;

#endif

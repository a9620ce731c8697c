/*
 * token_priv.h - the parts of a tokenizer, in the order in which text passes through them.
 *
 *	text -> added tokens (raw) -> normalizer -> added tokens (normalized)
 *	     -> pre-tokenizer: a chain of splits -> model: word -> ids
 *
 * and back: ids -> decoder -> text.  This is the order of Hugging Face's tokenizers.  Each part is a file or two:
 * added.c, normalize.c, pretok*.c, bpe*.c and wordpiece.c over vocab.c, post.c (ids around a text), detok.c (back);
 * tokenizer.c joins them and tokenizer_load.c builds them from JSON.
 */
#ifndef DF_TOKEN_TOKEN_PRIV_H
#define DF_TOKEN_TOKEN_PRIV_H

#include "base/json.h"
#include "token/tokenizer.h"

/* --- unicode.c ------------------------------------------------------------------------------------------------ */

/* What a code point is, as bits of df_uc_table[code point]. */
enum df_uc {
	DF_UC_LETTER = 1,   /* \p{L} */
	DF_UC_NUMBER = 2,   /* \p{N} */
	DF_UC_SPACE = 4,    /* \s: White_Space, which leaves out U+180E */
	DF_UC_WORD = 8,     /* \w of Rust's regex: Alphabetic, M, Nd, Pc, Join_Control */
	DF_UC_NFC_RISK = 16, /* may change under NFC, alone or together with the character before */
	DF_UC_NFC_WALL = 32  /* newer than the reference's NFC: nothing moves past it or combines with it */
};

/* General categories, in utf8proc's order. */
enum df_uc_cat {
	UC_CN, UC_LU, UC_LL, UC_LT, UC_LM, UC_LO, UC_MN, UC_MC, UC_ME, UC_ND, UC_NL, UC_NO, UC_PC, UC_PD, UC_PS, UC_PE,
	UC_PI, UC_PF, UC_PO, UC_SM, UC_SC, UC_SK, UC_SO, UC_ZS, UC_ZL, UC_ZP, UC_CC, UC_CF, UC_CS, UC_CO, UC_N_CATS
};

struct df_uc_range {
	uint32_t first, last;
};

extern uint8_t df_uc_table[0x110000];    /* both are filled by df_uc_init */
extern uint8_t df_uc_category[0x110000]; /* enum df_uc_cat by Unicode 16, as in the reference's regex engine */
void df_uc_init(void);                   /* any thread, any number of times */

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

/* --- unicode_ref.c -------------------------------------------------------------------------------------------- */

/* Properties by the reference's older Unicode tables, as bits of df_uc_ref_table[code point]. */
enum df_uc_ref {
	DF_UCR_OTHER = 1,      /* BERT's clean_text drops it */
	DF_UCR_BERT_MARK = 2,  /* BERT's strip_accents drops it */
	DF_UCR_MARK = 4,       /* StripAccents drops it */
	DF_UCR_PUNCT = 8,      /* Punctuation and BertPreTokenizer */
	DF_UCR_NUMERIC = 16,   /* Digits */
	DF_UCR_UPPER = 32,     /* Lowercase changes it */
	DF_UCR_DECOMPOSES = 64, /* may change under NFD, NFKC or NFKD */
	DF_UCR_LATER = 128     /* inert to them in the reference: its decomposition came later */
};

extern uint8_t df_uc_ref_table[0x110000]; /* filled by df_uc_ref_init */
void df_uc_ref_init(void);                /* any thread, any number of times; calls df_uc_init() */
void df_uc_put_lower(struct df_buf *out, uint32_t c); /* append the lower case of a character */

/* --- normalize.c ---------------------------------------------------------------------------------------------- */

struct tok_regex;         /* a compiled regex */
struct tok_regex_scratch; /* per-thread state for matching */

struct tok_norm_step;

/* The "type" of a component; DF_EFORMAT, naming `what`, when it is no object or has none. (tokenizer_load.c) */
int df_tok_type_of(const struct df_json_value *v, const char *what, const char **type, struct df_err *err)
    DF_MUST_CHECK;

/* A chain of normalizers; zeroed: none. */
struct tok_norm {
	struct tok_norm_step *step;
	size_t n, cap;
	bool is_bert; /* one BertNormalizer and nothing else */
	struct df_digest digest;
};

/* Per-thread state of normalising; must be zeroed first. */
struct tok_norm_scratch {
	struct df_buf buf[2], part;
	struct tok_regex_scratch *regex; /* made when it is first needed */
};

int df_tok_norm_load(struct tok_norm *norm, const struct df_json_value *v, struct df_err *err) DF_MUST_CHECK;
/* transformers' BERT classes set these and ignore tokenizer.json; accents: 1, 0 or -1 (as lowercase). */
void df_tok_norm_set_bert(struct tok_norm *norm, bool lowercase, int accents, bool cjk);
void df_tok_norm_release(struct tok_norm *norm);
/*
 * *text of *n bytes becomes its normal form, in s until the next call.  When nothing changes, the usual case, which
 * is found out fast, the text stays where it is.  *first becomes false when the first character was removed.
 */
int df_tok_norm_run(const struct tok_norm *norm, struct tok_norm_scratch *s, const char **text, size_t *n, bool *first,
    struct df_err *err) DF_MUST_CHECK;
void df_tok_norm_scratch_release(struct tok_norm_scratch *s);

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
	uint32_t id;             /* of the token that ends here (in `names`: its place), or DF_NO_TOKEN */
	unsigned char byte;
};

struct tok_trie {
	struct tok_trie_node *node;
	size_t n, cap;
	bool starts[256]; /* bytes that begin a token */
	int only_start;   /* the byte, when there is just one; -1 */
};

/* The place of an id's token. */
struct tok_added_ref {
	uint32_t id, at;
};

/* The added vocabulary. */
struct tok_added {
	struct tok_added_token *token; /* in the order in which they were added, with the flags given last */
	size_t n, cap;
	uint32_t max_id;             /* when n > 0 */
	struct tok_trie names;       /* text -> place in token */
	struct tok_added_ref *by_id; /* n of them, by rising id; made by df_tok_added_build */
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
/* (Re)build the tries after the last df_tok_added_add. */
int df_tok_added_build(struct tok_added *a, const struct tok_norm *norm, struct df_err *err) DF_MUST_CHECK;
/* Token i by rising id, and the token of an id, NULL when there is none; both after df_tok_added_build. */
const struct tok_added_token *df_tok_added_at(const struct tok_added *a, size_t i);
const struct tok_added_token *df_tok_added_by_id(const struct tok_added *a, uint32_t id);
const struct tok_added_token *df_tok_added_by_text(const struct tok_added *a, const char *text, size_t n);
void df_tok_added_release(struct tok_added *a);

/* A walk over a text: plain pieces and added tokens in order. */
struct df_tok_added_walk {
	const struct tok_added *a;
	const struct tok_trie *trie;
	const char *text;
	size_t n, pos, done; /* searched up to pos, returned up to done */
	bool split_special;
};

struct df_tok_added_walk df_tok_added_walk(const struct tok_added *a, const struct tok_trie *trie, const char *text,
    size_t n, bool split_special);
/*
 * The next plain piece (perhaps empty) and the id of the token after it; false at the end, with
 * the last piece, id DF_NO_TOKEN.
 */
bool df_tok_added_next(struct df_tok_added_walk *w, const char **piece, size_t *piece_n, uint32_t *id);

/* --- pretok.c, pretok_cut.c, pretok_load.c, pretok_re.c -------------------------------------------------------- */

/* What is done with matches and with the gaps between them. */
enum tok_split_behavior {
	TOK_ISOLATED,
	TOK_REMOVED,
	TOK_MERGED_WITH_PREVIOUS,
	TOK_MERGED_WITH_NEXT,
	TOK_CONTIGUOUS
};

/* The end of the word that starts at text + at (at < n); every byte belongs to one word. */
typedef size_t tok_matcher(const unsigned char *text, size_t n, size_t at);

/* Called for each word, in order. */
typedef int tok_word_fn(void *ctx, const char *word, size_t n);

struct tok_split;
/* Call the function for each word that sp makes of text (n > 0). */
typedef int tok_cutter(const struct tok_split *sp, struct tok_regex_scratch *s, const char *text, size_t n,
    tok_word_fn *fn, void *ctx, struct df_err *err);

/* How a piece is rewritten before it is cut. */
enum tok_rewrite {
	TOK_AS_IS,
	TOK_SPACE,      /* ByteLevel's add_prefix_space: a space before a piece that has none */
	TOK_METASPACE,  /* spaces become `mark`; `prepend` says when one more goes before the piece */
	TOK_BYTE_CHARS, /* bytes become characters of the byte-level alphabet */
};

enum tok_prepend { TOK_NEVER, TOK_FIRST, TOK_ALWAYS };

/* One step of the pre-tokenizer: rewrite, then cut. */
struct tok_split {
	enum tok_rewrite rewrite;
	enum tok_prepend prepend;
	char mark[8]; /* Metaspace's replacement */
	size_t mark_n;
	tok_matcher *match; /* a well-known pattern, isolated; */
	tok_cutter *cut;    /* or any other way; both NULL: the piece stays whole */
	struct tok_regex *regex;
	enum tok_split_behavior behavior;
	bool invert;
	bool (*is)(uint32_t c, uint32_t arg); /* for df_tok_cut_chars */
	uint32_t arg;
};

tok_matcher *df_tok_matcher_find(const char *pattern); /* NULL: not one of Llama 3's, Qwen2's and GPT-2's */
extern const char df_tok_pattern_gpt2[];

/* Append the steps of a "pre_tokenizer" to *split; their settings are added to *digest. */
struct tok_splits {
	struct tok_split *v;
	size_t n, cap;
	bool byte_level; /* ends with ByteLevel: the model gets raw bytes, which saves mapping them */
	struct df_digest digest;
};
int df_tok_splits_load(struct tok_splits *out, const struct df_json_value *v, struct df_err *err) DF_MUST_CHECK;
/* A ByteLevel that is the only step: transformers sets its add_prefix_space. */
int df_tok_splits_prefix(struct tok_splits *s, bool prefix, struct df_err *err) DF_MUST_CHECK;
void df_tok_splits_release(struct tok_splits *s);

tok_cutter df_tok_cut_regex, df_tok_cut_chars, df_tok_cut_words, df_tok_cut_bert;

/* Parts (matches and gaps) gathered into words, as the behavior says. */
struct tok_gather {
	const struct tok_split *sp;
	const char *text;
	tok_word_fn *fn;
	void *ctx;
	size_t word, at; /* the word so far is [word, at) */
	bool have;       /* it is a word, not a removed part */
	bool last_match;
};
int df_tok_gather(struct tok_gather *g, size_t stop, bool is_match) DF_MUST_CHECK; /* the next part is [g->at, stop) */
int df_tok_gather_end(struct tok_gather *g) DF_MUST_CHECK;

int df_tok_regex_new(struct tok_regex **out, const char *pattern, size_t n, bool literal, struct df_err *err)
    DF_MUST_CHECK;
void df_tok_regex_free(struct tok_regex *re);
int df_tok_regex_scratch_new(struct tok_regex_scratch **out, struct df_err *err) DF_MUST_CHECK;
void df_tok_regex_scratch_free(struct tok_regex_scratch *s);
/*
 * The next match at or after *from (set 0, last_end SIZE_MAX before the first call), by the reference's rule for
 * empty matches: 1 with [*start,*end), 0 none, or an error code.
 */
struct tok_regex_walk {
	size_t from, last_end;
};
int df_tok_regex_next(const struct tok_regex *re, struct tok_regex_scratch *s, const char *text, size_t n,
    struct tok_regex_walk *walk, size_t *start, size_t *end, struct df_err *err) DF_MUST_CHECK;

/* A power of two that keeps n entries of a hash table at most half full. */
static inline size_t
df_tok_table_size(size_t n)
{
	size_t size = 16;

	while (size < 2 * n)
		size *= 2;
	return size;
}

/* --- vocab.c -------------------------------------------------------------------------------------------------- */

/* A word of the vocabulary. */
struct tok_entry {
	size_t at; /* of its text */
	uint32_t n, id;
};

/* Texts and ids, both ways. */
struct tok_vocab {
	struct df_buf text; /* the texts, end to end */
	struct tok_entry *entry;
	uint32_t n_entries;
	uint32_t *slot; /* hash table of entries; DF_NO_TOKEN = free */
	size_t slot_mask;
	uint32_t *by_id; /* id -> entry */
	size_t n_ids;    /* highest id + 1 */
	struct df_digest digest; /* as a set */
};

/* From "model.vocab": {"text": id, ...}. */
int df_tok_vocab_load(struct tok_vocab *v, const struct df_json_value *vocab, struct df_err *err) DF_MUST_CHECK;
void df_tok_vocab_release(struct tok_vocab *v);
uint32_t df_tok_vocab_find(const void *v, const char *text, size_t n);               /* DF_NO_TOKEN when absent */
const char *df_tok_vocab_text(const struct tok_vocab *v, uint32_t id, size_t *n);    /* NULL: no such id */

/* --- bpe.c, wordpiece.c, word_cache.c: words to ids ------------------------------------------------------------- */

struct tok_bpe;       /* bpe.c, bpe_load.c */
struct tok_wordpiece; /* wordpiece.c */
struct tok_model_scratch;

/*
 * From the "model" object of a tokenizer.json.  `bytes`: words are raw bytes, to be mapped through the byte-level
 * alphabet.
 */
int df_tok_bpe_new(struct tok_bpe **out, const struct df_json_value *model, bool bytes, struct df_err *err)
    DF_MUST_CHECK;
void df_tok_bpe_free(struct tok_bpe *m);
const struct tok_vocab *df_tok_bpe_vocab(const struct tok_bpe *m);
struct df_digest df_tok_bpe_digest(const struct tok_bpe *m);
bool df_tok_bpe_is_bytes(const struct tok_bpe *m); /* id b is byte b; there are no other tokens */
/* Append the ids of one word. */
int df_tok_bpe_word(const struct tok_bpe *m, struct tok_model_scratch *s, const unsigned char *word, size_t n,
    struct df_ids *ids, struct df_err *err) DF_MUST_CHECK;

int df_tok_wordpiece_new(struct tok_wordpiece **out, const struct df_json_value *model, struct df_err *err)
    DF_MUST_CHECK;
void df_tok_wordpiece_free(struct tok_wordpiece *m);
const struct tok_vocab *df_tok_wordpiece_vocab(const struct tok_wordpiece *m);
struct df_digest df_tok_wordpiece_digest(const struct tok_wordpiece *m);
int df_tok_wordpiece_word(const struct tok_wordpiece *m, struct tok_model_scratch *s, const unsigned char *word,
    size_t n, struct df_ids *ids, struct df_err *err) DF_MUST_CHECK;

/* Per-thread state of a model: buffers, and the words seen recently. */
int df_tok_model_scratch_new(struct tok_model_scratch **out, struct df_err *err) DF_MUST_CHECK;
void df_tok_model_scratch_free(struct tok_model_scratch *s);

/* The byte-level alphabet: byte -> code point (all below U+0144), and back (-1: not in it). */
uint32_t df_tok_byte_char(unsigned char b);
int df_tok_char_byte(uint32_t c);

/* --- post.c --------------------------------------------------------------------------------------------------- */

/* The ids before and after a text. */
struct tok_frame {
	uint32_t *id;
	size_t n_before, n_after, cap;
};

int df_tok_frame_load(struct tok_frame *f, const struct df_json_value *post, struct df_err *err) DF_MUST_CHECK;
/* Add a token on each side of the present ones; DF_NO_TOKEN: none on that side. */
int df_tok_frame_wrap(struct tok_frame *f, uint32_t before, uint32_t after, struct df_err *err) DF_MUST_CHECK;

/* --- detok.c -------------------------------------------------------------------------------------------------- */

struct tok_decoder;
/* From "decoder" (`bytes`: ByteLevel, and v is ignored); what is not supported is reported when it is used. */
int df_tok_decoder_new(struct tok_decoder **out, const struct df_json_value *v, bool bytes, struct df_err *err)
    DF_MUST_CHECK;
void df_tok_decoder_free(struct tok_decoder *d);

/* --- tokenizer.c ---------------------------------------------------------------------------------------------- */

struct df_tokenizer {
	char *path;      /* the directory, or "bytes" */
	char *json_path; /* tokenizer.json; NULL for "bytes" */
	char *made;      /* its text when it was made from older files; else NULL */
	char id[DF_DIGEST_HEX];
	struct df_digest rules; /* of everything but the added tokens; 0 for bytes */
	struct tok_added added;
	struct tok_norm norm;
	struct tok_splits splits;
	const struct tok_vocab *vocab; /* the model's; NULL for bytes */
	struct tok_bpe *bpe;           /* one of the two; both NULL: every byte is its own id */
	struct tok_wordpiece *wordpiece;
	struct tok_frame frame;
	struct tok_decoder *decoder;
	uint32_t bos, eos, pad;
	bool add_bos;
	bool truncate_left; /* truncation_side */
	bool changed;       /* the special tokens are not those of the files */
	char opened_id[DF_DIGEST_HEX]; /* the id before */
	struct df_ids later;           /* the tokens that were added since, or became special */
};

/* --- tokenizer_class.c: transformers' classes, named with or without Fast ------------------------------------- */

#define TOK_N_SPECIALS 7 /* bos, eos, unk, sep, pad, cls, mask */
bool df_tok_class_is(const char *class, const char *name);
const char *df_tok_class_of_model(const char *model_type); /* "" when unknown */
const char *df_tok_class_token(const char *class, size_t i); /* special token i of its constructor; NULL: none */

/*
 * Append the tokenizer.json that equals DIR's vocab.txt, or vocab.json and merges.txt, of a tokenizer of that
 * class; nothing when DIR has none of them. (tokenizer_vocab.c)
 */
int df_tok_old_files(const char *dir, const char *class, struct df_buf *out, struct df_err *err) DF_MUST_CHECK;
/* Fill *t (zeroed, path and json_path set) from the files. */
int df_tok_load(struct df_tokenizer *t, struct df_err *err) DF_MUST_CHECK;
/* The same for the tokenizer "bytes", which needs no files. */
int df_tok_load_bytes(struct df_tokenizer *t, struct df_err *err) DF_MUST_CHECK;
/* Add a token by the rules of its vocabulary; df_tok_finish afterwards. */
int df_tok_add(struct df_tokenizer *t, const char *text, size_t n, struct tok_added_flags flags, uint32_t *id,
    struct df_err *err) DF_MUST_CHECK;
/* After the last df_tok_add: make the added tokens searchable, and the id. */
int df_tok_finish(struct df_tokenizer *t, struct df_err *err) DF_MUST_CHECK;

#endif

/*
 * pretok_class.c - character classes of tokenizer.json's regexes, rewritten for PCRE2.
 *
 * The reference's regex engine (Oniguruma, Ruby's syntax) and PCRE2 agree on how patterns match, but not on the
 * classes of characters: PCRE2 10.42 knows Unicode 14, the reference 16, and \s, \w and classes within classes mean
 * other things.  So a class is read here as a set of code points, by our own tables, and that set is written for
 * PCRE2.  \p{L} as ranges would be 650 ranges that PCRE2 tries one by one.  Therefore general categories that are
 * wholly in the set are written by name, which is right for every character that has not changed since Unicode 14;
 * the other characters are listed.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/pretok_priv.h"

#define N_POINTS  0x110000u
#define MAX_DEPTH 32

struct set {
	uint64_t bit[N_POINTS / 64];
};

int
df_tok_regex_refuse(struct df_err *err, const char *p, size_t n, size_t at, const char *what)
{
	return df_fail(err, DF_EUNSUPPORTED, "regex '%.*s': %s at offset %zu is not supported",
	    (int)(n < 200 ? n : 200), p, what, at);
}

bool
df_tok_regex_modern(void)
{
	char version[64] = "";
	int major = 0;

	if (pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL) <= (int)sizeof(version))
		pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
	major = atoi(version);
	return major >= 14 && major <= 16;
}

/* Characters that were assigned after Unicode 14. */
static const struct df_uc_range since14[] = { { 0x897, 0x897 }, { 0xCF3, 0xCF3 }, { 0xECE, 0xECE }, { 0x1B4E, 0x1B4F },
	{ 0x1B7F, 0x1B7F }, { 0x1C89, 0x1C8A }, { 0x2427, 0x2429 }, { 0x2FFC, 0x2FFF }, { 0x31E4, 0x31E5 },
	{ 0x31EF, 0x31EF }, { 0xA7CB, 0xA7CD }, { 0xA7DA, 0xA7DC }, { 0x105C0, 0x105F3 }, { 0x10D40, 0x10D65 },
	{ 0x10D69, 0x10D85 }, { 0x10D8E, 0x10D8F }, { 0x10EC2, 0x10EC4 }, { 0x10EFC, 0x10EFF }, { 0x1123F, 0x11241 },
	{ 0x11380, 0x11389 }, { 0x1138B, 0x1138B }, { 0x1138E, 0x1138E }, { 0x11390, 0x113B5 }, { 0x113B7, 0x113C0 },
	{ 0x113C2, 0x113C2 }, { 0x113C5, 0x113C5 }, { 0x113C7, 0x113CA }, { 0x113CC, 0x113D5 }, { 0x113D7, 0x113D8 },
	{ 0x113E1, 0x113E2 }, { 0x116D0, 0x116E3 }, { 0x1171E, 0x1171E }, { 0x11B00, 0x11B09 }, { 0x11BC0, 0x11BE1 },
	{ 0x11BF0, 0x11BF9 }, { 0x11F00, 0x11F10 }, { 0x11F12, 0x11F3A }, { 0x11F3E, 0x11F5A }, { 0x1342F, 0x1342F },
	{ 0x13439, 0x13455 }, { 0x13460, 0x143FA }, { 0x16100, 0x16139 }, { 0x16D40, 0x16D79 }, { 0x18CFF, 0x18CFF },
	{ 0x1B132, 0x1B132 }, { 0x1B155, 0x1B155 }, { 0x1CC00, 0x1CCF9 }, { 0x1CD00, 0x1CEB3 }, { 0x1D2C0, 0x1D2D3 },
	{ 0x1DF25, 0x1DF2A }, { 0x1E030, 0x1E06D }, { 0x1E08F, 0x1E08F }, { 0x1E4D0, 0x1E4F9 }, { 0x1E5D0, 0x1E5FA },
	{ 0x1E5FF, 0x1E5FF }, { 0x1F6DC, 0x1F6DC }, { 0x1F774, 0x1F776 }, { 0x1F77B, 0x1F77F }, { 0x1F7D9, 0x1F7D9 },
	{ 0x1F8B2, 0x1F8BB }, { 0x1F8C0, 0x1F8C1 }, { 0x1FA75, 0x1FA77 }, { 0x1FA87, 0x1FA89 }, { 0x1FA8F, 0x1FA8F },
	{ 0x1FAAD, 0x1FAAF }, { 0x1FABB, 0x1FABF }, { 0x1FAC6, 0x1FAC6 }, { 0x1FACE, 0x1FACF }, { 0x1FADA, 0x1FADC },
	{ 0x1FADF, 0x1FADF }, { 0x1FAE8, 0x1FAE9 }, { 0x1FAF7, 0x1FAF8 }, { 0x1FBCB, 0x1FBEF }, { 0x2B739, 0x2B739 },
	{ 0x2EBF0, 0x2EE5D }, { 0x31350, 0x323AF } };
/* One character in this list had another category of mark before. */
#define MOVED_MARK 0x1171Eu

/* Scripts by Unicode 16. */
static const struct df_uc_range han[] = { { 0x2E80, 0x2E99 }, { 0x2E9B, 0x2EF3 }, { 0x2F00, 0x2FD5 },
	{ 0x3005, 0x3005 }, { 0x3007, 0x3007 }, { 0x3021, 0x3029 }, { 0x3038, 0x303B }, { 0x3400, 0x4DBF },
	{ 0x4E00, 0x9FFF }, { 0xF900, 0xFA6D }, { 0xFA70, 0xFAD9 }, { 0x16FE2, 0x16FE3 }, { 0x16FF0, 0x16FF1 },
	{ 0x20000, 0x2A6DF }, { 0x2A700, 0x2B739 }, { 0x2B740, 0x2B81D }, { 0x2B820, 0x2CEA1 }, { 0x2CEB0, 0x2EBE0 },
	{ 0x2EBF0, 0x2EE5D }, { 0x2F800, 0x2FA1D }, { 0x30000, 0x3134A }, { 0x31350, 0x323AF } };
static const struct df_uc_range hiragana[] = { { 0x3041, 0x3096 }, { 0x309D, 0x309F }, { 0x1B001, 0x1B11F },
	{ 0x1B132, 0x1B132 }, { 0x1B150, 0x1B152 }, { 0x1F200, 0x1F200 } };
static const struct df_uc_range katakana[] = { { 0x30A1, 0x30FA }, { 0x30FD, 0x30FF }, { 0x31F0, 0x31FF },
	{ 0x32D0, 0x32FE }, { 0x3300, 0x3357 }, { 0xFF66, 0xFF6F }, { 0xFF71, 0xFF9D }, { 0x1AFF0, 0x1AFF3 },
	{ 0x1AFF5, 0x1AFFB }, { 0x1AFFD, 0x1AFFE }, { 0x1B000, 0x1B000 }, { 0x1B120, 0x1B122 }, { 0x1B155, 0x1B155 },
	{ 0x1B164, 0x1B167 } };
static const struct df_uc_range hangul[] = { { 0x1100, 0x11FF }, { 0x302E, 0x302F }, { 0x3131, 0x318E },
	{ 0x3200, 0x321E }, { 0x3260, 0x327E }, { 0xA960, 0xA97C }, { 0xAC00, 0xD7A3 }, { 0xD7B0, 0xD7C6 },
	{ 0xD7CB, 0xD7FB }, { 0xFFA0, 0xFFBE }, { 0xFFC2, 0xFFC7 }, { 0xFFCA, 0xFFCF }, { 0xFFD2, 0xFFD7 },
	{ 0xFFDA, 0xFFDC } };
static const struct df_uc_range latin[] = { { 0x41, 0x5A }, { 0x61, 0x7A }, { 0xAA, 0xAA }, { 0xBA, 0xBA },
	{ 0xC0, 0xD6 }, { 0xD8, 0xF6 }, { 0xF8, 0x2B8 }, { 0x2E0, 0x2E4 }, { 0x1D00, 0x1D25 }, { 0x1D2C, 0x1D5C },
	{ 0x1D62, 0x1D65 }, { 0x1D6B, 0x1D77 }, { 0x1D79, 0x1DBE }, { 0x1E00, 0x1EFF }, { 0x2071, 0x2071 },
	{ 0x207F, 0x207F }, { 0x2090, 0x209C }, { 0x212A, 0x212B }, { 0x2132, 0x2132 }, { 0x214E, 0x214E },
	{ 0x2160, 0x2188 }, { 0x2C60, 0x2C7F }, { 0xA722, 0xA787 }, { 0xA78B, 0xA7CD }, { 0xA7D0, 0xA7D1 },
	{ 0xA7D3, 0xA7D3 }, { 0xA7D5, 0xA7DC }, { 0xA7F2, 0xA7FF }, { 0xAB30, 0xAB5A }, { 0xAB5C, 0xAB64 },
	{ 0xAB66, 0xAB69 }, { 0xFB00, 0xFB06 }, { 0xFF21, 0xFF3A }, { 0xFF41, 0xFF5A }, { 0x10780, 0x10785 },
	{ 0x10787, 0x107B0 }, { 0x107B2, 0x107BA }, { 0x1DF00, 0x1DF1E }, { 0x1DF25, 0x1DF2A } };
static const struct df_uc_range greek[] = { { 0x370, 0x373 }, { 0x375, 0x377 }, { 0x37A, 0x37D }, { 0x37F, 0x37F },
	{ 0x384, 0x384 }, { 0x386, 0x386 }, { 0x388, 0x38A }, { 0x38C, 0x38C }, { 0x38E, 0x3A1 }, { 0x3A3, 0x3E1 },
	{ 0x3F0, 0x3FF }, { 0x1D26, 0x1D2A }, { 0x1D5D, 0x1D61 }, { 0x1D66, 0x1D6A }, { 0x1DBF, 0x1DBF },
	{ 0x1F00, 0x1F15 }, { 0x1F18, 0x1F1D }, { 0x1F20, 0x1F45 }, { 0x1F48, 0x1F4D }, { 0x1F50, 0x1F57 },
	{ 0x1F59, 0x1F59 }, { 0x1F5B, 0x1F5B }, { 0x1F5D, 0x1F5D }, { 0x1F5F, 0x1F7D }, { 0x1F80, 0x1FB4 },
	{ 0x1FB6, 0x1FC4 }, { 0x1FC6, 0x1FD3 }, { 0x1FD6, 0x1FDB }, { 0x1FDD, 0x1FEF }, { 0x1FF2, 0x1FF4 },
	{ 0x1FF6, 0x1FFE }, { 0x2126, 0x2126 }, { 0xAB65, 0xAB65 }, { 0x10140, 0x1018E }, { 0x101A0, 0x101A0 },
	{ 0x1D200, 0x1D245 } };
static const struct df_uc_range cyrillic[] = { { 0x400, 0x484 }, { 0x487, 0x52F }, { 0x1C80, 0x1C8A },
	{ 0x1D2B, 0x1D2B }, { 0x1D78, 0x1D78 }, { 0x2DE0, 0x2DFF }, { 0xA640, 0xA69F }, { 0xFE2E, 0xFE2F },
	{ 0x1E030, 0x1E06D }, { 0x1E08F, 0x1E08F } };
static const struct df_uc_range arabic[] = { { 0x600, 0x604 }, { 0x606, 0x60B }, { 0x60D, 0x61A }, { 0x61C, 0x61E },
	{ 0x620, 0x63F }, { 0x641, 0x64A }, { 0x656, 0x66F }, { 0x671, 0x6DC }, { 0x6DE, 0x6FF }, { 0x750, 0x77F },
	{ 0x870, 0x88E }, { 0x890, 0x891 }, { 0x897, 0x8E1 }, { 0x8E3, 0x8FF }, { 0xFB50, 0xFBC2 }, { 0xFBD3, 0xFD3D },
	{ 0xFD40, 0xFD8F }, { 0xFD92, 0xFDC7 }, { 0xFDCF, 0xFDCF }, { 0xFDF0, 0xFDFF }, { 0xFE70, 0xFE74 },
	{ 0xFE76, 0xFEFC }, { 0x10E60, 0x10E7E }, { 0x10EC2, 0x10EC4 }, { 0x10EFC, 0x10EFF }, { 0x1EE00, 0x1EE03 },
	{ 0x1EE05, 0x1EE1F }, { 0x1EE21, 0x1EE22 }, { 0x1EE24, 0x1EE24 }, { 0x1EE27, 0x1EE27 }, { 0x1EE29, 0x1EE32 },
	{ 0x1EE34, 0x1EE37 }, { 0x1EE39, 0x1EE39 }, { 0x1EE3B, 0x1EE3B }, { 0x1EE42, 0x1EE42 }, { 0x1EE47, 0x1EE47 },
	{ 0x1EE49, 0x1EE49 }, { 0x1EE4B, 0x1EE4B }, { 0x1EE4D, 0x1EE4F }, { 0x1EE51, 0x1EE52 }, { 0x1EE54, 0x1EE54 },
	{ 0x1EE57, 0x1EE57 }, { 0x1EE59, 0x1EE59 }, { 0x1EE5B, 0x1EE5B }, { 0x1EE5D, 0x1EE5D }, { 0x1EE5F, 0x1EE5F },
	{ 0x1EE61, 0x1EE62 }, { 0x1EE64, 0x1EE64 }, { 0x1EE67, 0x1EE6A }, { 0x1EE6C, 0x1EE72 }, { 0x1EE74, 0x1EE77 },
	{ 0x1EE79, 0x1EE7C }, { 0x1EE7E, 0x1EE7E }, { 0x1EE80, 0x1EE89 }, { 0x1EE8B, 0x1EE9B }, { 0x1EEA1, 0x1EEA3 },
	{ 0x1EEA5, 0x1EEA9 }, { 0x1EEAB, 0x1EEBB }, { 0x1EEF0, 0x1EEF1 } };
static const struct df_uc_range hebrew[] = { { 0x591, 0x5C7 }, { 0x5D0, 0x5EA }, { 0x5EF, 0x5F4 }, { 0xFB1D, 0xFB36 },
	{ 0xFB38, 0xFB3C }, { 0xFB3E, 0xFB3E }, { 0xFB40, 0xFB41 }, { 0xFB43, 0xFB44 }, { 0xFB46, 0xFB4F } };
static const struct df_uc_range thai[] = { { 0xE01, 0xE3A }, { 0xE40, 0xE5B } };
static const struct df_uc_range devanagari[] = { { 0x900, 0x950 }, { 0x955, 0x963 }, { 0x966, 0x97F },
	{ 0xA8E0, 0xA8FF }, { 0x11B00, 0x11B09 } };
#define N(a) (sizeof(a) / sizeof((a)[0]))

static const struct {
	const char *name;
	const struct df_uc_range *range;
	size_t n;
} scripts[] = { { "Han", han, N(han) }, { "Hiragana", hiragana, N(hiragana) }, { "Katakana", katakana, N(katakana) },
	{ "Hangul", hangul, N(hangul) }, { "Latin", latin, N(latin) }, { "Greek", greek, N(greek) },
	{ "Cyrillic", cyrillic, N(cyrillic) }, { "Arabic", arabic, N(arabic) }, { "Hebrew", hebrew, N(hebrew) },
	{ "Thai", thai, N(thai) }, { "Devanagari", devanagari, N(devanagari) } };

static const char categories[UC_N_CATS][3] = { "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No",
	"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co" };

/* --- sets ----------------------------------------------------------------------------------------------------- */

static bool
has(const struct set *s, uint32_t c)
{
	return s->bit[c / 64] >> c % 64 & 1;
}

static void
add(struct set *s, uint32_t c)
{
	s->bit[c / 64] |= (uint64_t)1 << c % 64;
}

static void
add_range(struct set *s, uint32_t first, uint32_t last)
{
	for (uint32_t c = first; c <= last; c++)
		add(s, c);
}

static void
add_ranges(struct set *s, const struct df_uc_range *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add_range(s, r[i].first, r[i].last);
}

static void
add_set(struct set *s, const struct set *other)
{
	for (size_t i = 0; i < N(s->bit); i++)
		s->bit[i] |= other->bit[i];
}

/* UTF-8 has no surrogates, so neither a set nor its complement holds any. */
static void
invert(struct set *s)
{
	for (size_t i = 0; i < N(s->bit); i++)
		s->bit[i] = i >= 0xD800 / 64 && i < 0xE000 / 64 ? 0 : ~s->bit[i];
}

/* All characters of the categories in `mask`. */
static void
add_categories(struct set *s, uint32_t mask)
{
	for (uint32_t c = 0; c < N_POINTS; c++)
		if (mask >> df_uc_category[c] & 1)
			add(s, c);
}

/* The categories that "L", "Lu", ... name; 0: none. */
static uint32_t
category_mask(const char *name)
{
	uint32_t mask = 0;

	for (uint32_t k = 0; k < UC_N_CATS; k++)
		if (categories[k][0] == name[0] &&
		    (name[1] == '\0' || (categories[k][1] == name[1] && name[2] == '\0')))
			mask |= 1u << k;
	return mask;
}

/* \p{name}; false when the name is not known. */
static bool
add_property(struct set *s, const char *name)
{
	uint32_t mask = category_mask(name);

	if (mask != 0) {
		add_categories(s, mask);
		return true;
	}
	for (size_t i = 0; i < N(scripts); i++) {
		if (strcmp(scripts[i].name, name) == 0) {
			add_ranges(s, scripts[i].range, scripts[i].n);
			return true;
		}
	}
	return false;
}

/* \s, \d, \w, \h as Oniguruma defines them; \w within a class differs slightly. */
static void
add_shorthand(struct set *s, char c, bool in_class)
{
	if (c == 's') {
		for (uint32_t p = 0; p < N_POINTS; p++)
			if (df_uc_table[p] & DF_UC_SPACE)
				add(s, p);
	} else if (c == 'd') {
		add_categories(s, 1u << UC_ND);
	} else if (c == 'h') {
		add_range(s, '0', '9');
		add_range(s, 'A', 'F');
		add_range(s, 'a', 'f');
	} else {
		/* Letters, marks, Nd, Nl, Pc, other letter-like symbols, and (alone) some of Latin-1's numbers. */
		static const struct df_uc_range alone[] = { { 0xB2, 0xB3 }, { 0xB9, 0xB9 }, { 0xBC, 0xBE } };
		static const struct df_uc_range more[] = { { 0x24B6, 0x24E9 }, { 0x1F130, 0x1F149 },
			{ 0x1F150, 0x1F169 }, { 0x1F170, 0x1F189 } };

		add_categories(s, category_mask("L") | category_mask("M") | 1u << UC_ND | 1u << UC_NL | 1u << UC_PC);
		add_ranges(s, more, N(more));
		if (!in_class)
			add_ranges(s, alone, N(alone));
	}
}

/* --- reading -------------------------------------------------------------------------------------------------- */

struct reader {
	const char *p;
	size_t n, i;
	bool in_class;
	bool kinds; /* met something that is not a plain character or range */
	bool wide;  /* met a character outside ASCII */
	struct df_err *err;
};

static int
refuse(const struct reader *r, size_t at, const char *what)
{
	return df_tok_regex_refuse(r->err, r->p, r->n, at, what);
}

/* count hex digits (at least `least`, at most `most`) at r->i. */
static int
read_hex(struct reader *r, size_t least, size_t most, uint32_t *c)
{
	size_t start = r->i;

	*c = 0;
	for (; r->i < r->n && r->i - start < most; r->i++) {
		char x = r->p[r->i];
		int digit = x >= '0' && x <= '9'             ? x - '0'
		    : (x | 0x20) >= 'a' && (x | 0x20) <= 'f' ? (x | 0x20) - 'a' + 10
							     : -1;

		if (digit < 0)
			break;
		*c = *c << 4 | (uint32_t)digit;
	}
	if (r->i - start < least || *c >= N_POINTS || (*c >= 0xD800 && *c < 0xE000))
		return refuse(r, start, "this character's number");
	return DF_OK;
}

/* \p{...} or \P{...}, with \p{^...} meaning \P{...}; r->i is at the p. */
static int
read_property(struct reader *r, struct set *out)
{
	bool not = r->p[r->i] == 'P';
	struct set *s = NULL;
	char name[24];
	const char *end;
	size_t at = r->i + 2, len;
	int rc;

	if (at > r->n || r->p[r->i + 1] != '{' || (end = memchr(r->p + at, '}', r->n - at)) == NULL)
		return refuse(r, r->i, "\\p without braces");
	if (*(r->p + at) == '^') {
		not = !not ;
		at++;
	}
	len = (size_t)(end - (r->p + at));
	if (len >= sizeof(name))
		return refuse(r, at, "this property");
	memcpy(name, r->p + at, len);
	name[len] = '\0';
	DF_TRY(df_alloc(&s, 1, sizeof(*s), "a regex", r->err));
	if (!add_property(s, name)) {
		rc = refuse(r, at, "this property");
		goto out;
	}
	if (not )
		invert(s);
	add_set(out, s);
	r->i = (size_t)(end - r->p) + 1;
out:
	free(s);
	return rc;
}

/* An escape, r->i after the backslash: a character in *c, or (*is_set) a set that was added to `out`. */
static int
read_escape(struct reader *r, struct set *out, uint32_t *c, bool *is_set)
{
	struct set *s = NULL;
	size_t at = r->i;
	char e = r->i < r->n ? r->p[r->i] : '\0';
	int rc = DF_OK;

	*is_set = false;
	if (e == 'p' || e == 'P') {
		*is_set = true;
		return read_property(r, out);
	}
	r->i++;
	switch (e) {
	case 's':
	case 'd':
	case 'w':
	case 'h':
		add_shorthand(out, e, r->in_class);
		*is_set = true;
		return DF_OK;
	case 'S':
	case 'D':
	case 'W':
	case 'H':
		DF_TRY(df_alloc(&s, 1, sizeof(*s), "a regex", r->err));
		add_shorthand(s, (char)(e | 0x20), r->in_class);
		invert(s);
		add_set(out, s);
		*is_set = true;
		break;
	case 'n': *c = '\n'; break;
	case 'r': *c = '\r'; break;
	case 't': *c = '\t'; break;
	case 'f': *c = '\f'; break;
	case 'v': *c = '\v'; break;
	case 'a': *c = '\a'; break;
	case 'e': *c = 0x1B; break;
	case 'u': return read_hex(r, 4, 4, c);
	case 'x':
		if (r->i >= r->n || r->p[r->i] != '{')
			return read_hex(r, 1, 2, c);
		r->i++;
		DF_TRY(read_hex(r, 1, 8, c));
		if (r->i >= r->n || r->p[r->i++] != '}')
			return refuse(r, at, "this character's number");
		break;
	default:
		if (e == '\0' || (unsigned char)e >= 0x80 || (e >= '0' && e <= '9') ||
		    ((e | 0x20) >= 'a' && (e | 0x20) <= 'z'))
			return refuse(r, at - 1, "this escape");
		*c = (unsigned char)e;
		break;
	}
out:
	free(s);
	return rc;
}

/* One character or escape of a class. */
static int
read_item(struct reader *r, struct set *out, uint32_t *c, bool *is_set)
{
	size_t len;

	*is_set = false;
	if (r->p[r->i] == '\\') {
		r->i++;
		return read_escape(r, out, c, is_set);
	}
	*c = df_uc_get((const unsigned char *)r->p + r->i, &len);
	r->i += len;
	return DF_OK;
}

/* A character, or a range of them that begins with it. */
static int
read_range(struct reader *r, struct set *out)
{
	size_t at = r->i;
	uint32_t first = 0, last = 0;
	bool is_set;
	int rc;

	DF_TRY(read_item(r, out, &first, &is_set));
	if (is_set) {
		r->kinds = true;
		return DF_OK;
	}
	last = first;
	/* A hyphen is a plain character before the end of the class, and after something that is not a character. */
	if (r->i + 1 < r->n && r->p[r->i] == '-' && r->p[r->i + 1] != ']') {
		if (r->p[r->i + 1] == '[' || (r->p[r->i + 1] == '&' && r->i + 2 < r->n && r->p[r->i + 2] == '&'))
			return refuse(r, r->i, "a range that ends with this");
		r->i++;
		DF_TRY(read_item(r, out, &last, &is_set));
		if (is_set || last < first)
			return refuse(r, at, "this range");
	}
	add_range(out, first, last);
	r->wide |= last >= 0x80;
out:
	return rc;
}

/* A class.  r->i is after the opening bracket, and in the end after the closing one. */
static int
read_class(struct reader *r, struct set *out, int depth)
{
	struct set *now = NULL, *sofar = NULL, *inner = NULL;
	bool not = false;
	size_t start = r->i - 1;
	int rc;

	if (depth > MAX_DEPTH)
		return df_tok_regex_refuse(r->err, r->p, r->n, start, "classes so deep");
	DF_TRY(df_alloc(&now, 1, sizeof(*now), "a regex", r->err));
	if (r->i < r->n && r->p[r->i] == '^') {
		not = true;
		r->i++;
	}
	if (r->i < r->n && r->p[r->i] == ']') {
		rc = refuse(r, start, "an empty class");
		goto out;
	}
	while (r->i < r->n && r->p[r->i] != ']') {
		if (r->p[r->i] == '[') {
			if (r->i + 1 < r->n && r->p[r->i + 1] == ':') {
				rc = refuse(r, r->i, "a class with a name");
				goto out;
			}
			r->kinds = true;
			r->i++;
			DF_TRY(df_alloc(&inner, 1, sizeof(*inner), "a regex", r->err));
			DF_TRY(read_class(r, inner, depth + 1));
			add_set(now, inner);
			free(inner);
			inner = NULL;
		} else if (r->p[r->i] == '&' && r->i + 1 < r->n && r->p[r->i + 1] == '&') {
			/* The sets before and after &&. */
			r->kinds = true;
			r->i += 2;
			if (sofar == NULL) {
				sofar = now;
				now = NULL;
				DF_TRY(df_alloc(&now, 1, sizeof(*now), "a regex", r->err));
			} else {
				for (size_t i = 0; i < N(now->bit); i++)
					sofar->bit[i] &= now->bit[i];
				memset(now, 0, sizeof(*now));
			}
		} else {
			DF_TRY(read_range(r, now));
		}
	}
	if (r->i >= r->n) {
		rc = refuse(r, start, "a class without an end");
		goto out;
	}
	r->i++;
	for (size_t i = 0; sofar != NULL && i < N(now->bit); i++)
		now->bit[i] &= sofar->bit[i];
	if (not )
		invert(now);
	add_set(out, now);
out:
	free(now);
	free(sofar);
	free(inner);
	return rc;
}

/* --- writing -------------------------------------------------------------------------------------------------- */

/* The categories that may be written by name for the set: wholly in it, and long enough for a name to be shorter. */
static uint32_t
whole_categories(const struct set *s)
{
	uint32_t whole = ~(1u << UC_CN | 1u << UC_CS), count[UC_N_CATS] = { 0 };

	for (uint32_t c = 0; c < N_POINTS; c++) {
		count[df_uc_category[c]]++;
		if (!has(s, c))
			whole &= ~(1u << df_uc_category[c]);
	}
	if (!has(s, MOVED_MARK))
		whole &= ~(1u << UC_MN);
	for (uint32_t k = 0; k < UC_N_CATS; k++)
		if (count[k] < 4)
			whole &= ~(1u << k);
	return whole & ((1u << UC_N_CATS) - 1);
}

/* Append s as ranges and categories, without brackets; returns the number of both. */
static size_t
write_parts(struct df_buf *out, const struct set *s, bool categories_too)
{
	uint32_t whole = categories_too ? whole_categories(s) : 0, letters = category_mask("L"), first;
	struct set *listed = NULL;
	struct df_err ignored;
	size_t parts = 0;

	if (df_alloc(&listed, 1, sizeof(*listed), "a regex", &ignored) != DF_OK) {
		out->failed = true;
		return 0;
	}
	add_ranges(listed, since14, N(since14));
	if ((whole & letters) == letters)
		df_buf_puts(out, "\\p{L}");
	for (uint32_t k = 0; k < UC_N_CATS; k++) {
		if (!(whole >> k & 1))
			continue;
		if ((whole & letters) != letters || !(letters >> k & 1))
			df_buf_printf(out, "\\p{%s}", categories[k]);
		parts++;
	}
	for (uint32_t c = 0; c < N_POINTS; c++) {
#define WRITTEN(p) (!has(s, p) || ((whole >> df_uc_category[p] & 1) && !has(listed, p)))
		if (WRITTEN(c))
			continue;
		for (first = c; c + 1 < N_POINTS && !WRITTEN(c + 1); c++)
			;
#undef WRITTEN
		df_buf_printf(out, first == c ? "\\x{%x}" : "\\x{%x}-\\x{%x}", first, c);
		parts++;
	}
	free(listed);
	return parts;
}

/* The set as a class.  `chars`: only ranges, no categories, so that (?i: can fold them. */
static int
write_set(struct df_buf *out, struct set *s, bool chars, struct df_err *err)
{
	struct df_buf as_is = DF_BUF_INIT, inverted = DF_BUF_INIT;
	size_t n_as_is, n_inverted;
	bool is_not, kinds = !chars && df_tok_regex_modern();
	int rc;

	n_as_is = write_parts(&as_is, s, kinds);
	invert(s);
	n_inverted = write_parts(&inverted, s, kinds);
	DF_TRY(df_buf_check(&as_is, err));
	DF_TRY(df_buf_check(&inverted, err));
	is_not = n_inverted < n_as_is;
	if (n_as_is == 0 || n_inverted == 0)
		df_buf_puts(out, n_as_is == 0 ? "(?!)" : "(?s:.)");
	else
		df_buf_printf(out, "[%s%s]", is_not ? "^" : "", is_not ? inverted.data : as_is.data);
	DF_TRY(df_buf_check(out, err));
out:
	df_buf_release(&as_is);
	df_buf_release(&inverted);
	return rc;
}

int
df_tok_class(struct df_buf *out, const char *p, size_t n, size_t *i, bool any_case, struct df_err *err)
{
	struct reader r = { .p = p, .n = n, .i = *i + 1, .in_class = p[*i] == '[', .err = err };
	struct set *s = NULL;
	bool is_set = true, is_class = r.in_class;
	uint32_t c = 0;
	int rc;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "a regex", err));
	DF_TRY(is_class ? read_class(&r, s, 0) : read_escape(&r, s, &c, &is_set));
	if (any_case && is_class && (r.kinds || r.wide)) {
		rc = refuse(&r, *i, "ignoring the case of this class");
		goto out;
	}
	if (!is_set) {
		df_buf_printf(out, "\\x{%x}", c);
	} else {
		df_buf_puts(out, any_case && !is_class ? "(?-i:" : "");
		DF_TRY(write_set(out, s, any_case && is_class, err));
		df_buf_puts(out, any_case && !is_class ? ")" : "");
	}
	DF_TRY(df_buf_check(out, err));
	*i = r.i;
out:
	free(s);
	return rc;
}

/*
 * unicode.c - UTF-8, and one byte of properties per code point.
 *
 * The table is made once per process from utf8proc (a few milliseconds) rather
 * than kept as generated source.  Properties that utf8proc lacks are written out
 * as what they add to general categories.  The reference's regex engine knows
 * Unicode 16; what that adds to the letters, numbers and marks of Unicode 15
 * (utf8proc 2.8) is written out too.
 */
#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/tok_priv.h"

uint8_t df_uc_table[0x110000];

struct range {
	uint32_t first, last;
};

/* White_Space. */
static const struct range spaces[] = { { 0x9, 0xD }, { 0x20, 0x20 }, { 0x85, 0x85 }, { 0xA0, 0xA0 }, { 0x1680, 0x1680 },
	{ 0x2000, 0x200A }, { 0x2028, 0x2029 }, { 0x202F, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 } };

/* What Alphabetic and Join_Control add to the categories L, M, Nl. */
static const struct range more_words[] = { { 0x200C, 0x200D }, { 0x24B6, 0x24E9 }, { 0x1F130, 0x1F149 },
	{ 0x1F150, 0x1F169 }, { 0x1F170, 0x1F189 } };

static const struct range letters16[] = { { 0x1C89, 0x1C8A }, { 0xA7CB, 0xA7CD }, { 0xA7DA, 0xA7DC },
	{ 0x105C0, 0x105F3 }, { 0x10D4A, 0x10D65 }, { 0x10D6F, 0x10D85 }, { 0x10EC2, 0x10EC4 }, { 0x11380, 0x11389 },
	{ 0x1138B, 0x1138B }, { 0x1138E, 0x1138E }, { 0x11390, 0x113B5 }, { 0x113B7, 0x113B7 }, { 0x113D1, 0x113D1 },
	{ 0x113D3, 0x113D3 }, { 0x11BC0, 0x11BE0 }, { 0x13460, 0x143FA }, { 0x16100, 0x1611D }, { 0x16D40, 0x16D6C },
	{ 0x18CFF, 0x18CFF }, { 0x1E5D0, 0x1E5ED }, { 0x1E5F0, 0x1E5F0 }, { 0x2EBF0, 0x2EE5D } };
static const struct range numbers16[] = { { 0x10D40, 0x10D49 }, { 0x116D0, 0x116E3 }, { 0x11BF0, 0x11BF9 },
	{ 0x16130, 0x16139 }, { 0x16D70, 0x16D79 }, { 0x1CCF0, 0x1CCF9 }, { 0x1E5F1, 0x1E5FA } };

static const struct range marks16[] = { { 0x897, 0x897 }, { 0x10D69, 0x10D6D }, { 0x10EFC, 0x10EFC },
	{ 0x113B8, 0x113C0 }, { 0x113C2, 0x113C2 }, { 0x113C5, 0x113C5 }, { 0x113C7, 0x113CA }, { 0x113CC, 0x113D0 },
	{ 0x113D2, 0x113D2 }, { 0x113E1, 0x113E2 }, { 0x11F5A, 0x11F5A }, { 0x1611E, 0x1612F }, { 0x1E5EE, 0x1E5EF } };

/*
 * The reference normalises by Unicode 9: later combining marks, and the second half
 * of the one later composition (U+11938), are inert characters to it.
 */
static const struct range after9[] = { { 0x7FD, 0x7FD }, { 0x898, 0x89F }, { 0x8CA, 0x8D3 }, { 0x9FE, 0x9FE },
	{ 0xC3C, 0xC3C }, { 0xD3B, 0xD3C }, { 0xEBA, 0xEBA }, { 0x1715, 0x1715 }, { 0x1ABF, 0x1ACE },
	{ 0x1DF6, 0x1DFA }, { 0xA82C, 0xA82C }, { 0x10D24, 0x10D27 }, { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF },
	{ 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 }, { 0x11070, 0x11070 }, { 0x1133B, 0x1133B }, { 0x1145E, 0x1145E },
	{ 0x11839, 0x1183A }, { 0x11930, 0x11930 }, { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 },
	{ 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 }, { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 },
	{ 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 }, { 0x16FF0, 0x16FF1 }, { 0x1E08F, 0x1E08F }, { 0x1E130, 0x1E136 },
	{ 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF }, { 0x1E4EC, 0x1E4EF } };

static void
set(const struct range *r, size_t n, uint8_t bit)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t c = r[i].first; c <= r[i].last; c++)
			df_uc_table[c] |= bit;
}

static uint8_t
category_bits(utf8proc_category_t cat)
{
	switch (cat) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO: return DF_UC_LETTER | DF_UC_WORD;
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_NL: return DF_UC_NUMBER | DF_UC_WORD;
	case UTF8PROC_CATEGORY_NO: return DF_UC_NUMBER;
	case UTF8PROC_CATEGORY_MN:
	case UTF8PROC_CATEGORY_MC:
	case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_PC: return DF_UC_WORD;
	default: return 0;
	}
}

/*
 * NFC leaves a text alone when no character of it reorders (has a combining
 * class), decomposes for good, or may combine with the one before.  The last
 * kind are the non-first characters of canonical decompositions, Hangul
 * vowels and final consonants among them.
 */
static void
mark_nfc_risk(utf8proc_int32_t c, const utf8proc_property_t *p)
{
	utf8proc_int32_t out[32];
	utf8proc_ssize_t n;
	int boundary = 0;

	if (p->combining_class != 0)
		df_uc_table[c] |= DF_UC_NFC_RISK;
	if (p->decomp_type != 0 || (p->decomp_seqindex == UINT16_MAX && !(c >= 0xAC00 && c < 0xD7A4)))
		return;
	n = utf8proc_decompose_char(c, out, 32, UTF8PROC_DECOMPOSE, &boundary);
	for (utf8proc_ssize_t i = 1; i < n && i < 32; i++)
		df_uc_table[out[i]] |= DF_UC_NFC_RISK;
	if (n > 0 && n <= 32) {
		n = utf8proc_normalize_utf32(out, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
		if (n != 1 || out[0] != c)
			df_uc_table[c] |= DF_UC_NFC_RISK;
	}
}

static void
fill(void)
{
	for (utf8proc_int32_t c = 0; c < 0x110000; c++) {
		const utf8proc_property_t *p = utf8proc_get_property(c);

		df_uc_table[c] |= category_bits(p->category);
		mark_nfc_risk(c, p);
	}
	set(spaces, sizeof(spaces) / sizeof(spaces[0]), DF_UC_SPACE);
	set(letters16, sizeof(letters16) / sizeof(letters16[0]), DF_UC_LETTER | DF_UC_WORD);
	set(numbers16, sizeof(numbers16) / sizeof(numbers16[0]), DF_UC_NUMBER | DF_UC_WORD);
	set(marks16, sizeof(marks16) / sizeof(marks16[0]), DF_UC_WORD | DF_UC_NFC_WALL);
	set(after9, sizeof(after9) / sizeof(after9[0]), DF_UC_NFC_WALL);
	for (uint32_t c = 0; c < 0x110000; c++)
		if (df_uc_table[c] & DF_UC_NFC_WALL)
			df_uc_table[c] &= (uint8_t)~DF_UC_NFC_RISK;
	set(more_words, sizeof(more_words) / sizeof(more_words[0]), DF_UC_WORD);
}

void
df_uc_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, fill);
}

size_t
df_utf8_check(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		uint64_t eight;
		size_t len;

		if (n - i >= 8) {
			memcpy(&eight, s + i, 8);
			if ((eight & 0x8080808080808080ull) == 0) {
				i += 8;
				continue;
			}
		}
		len = df_utf8_len((const unsigned char *)s + i, n - i);
		if (len == 0)
			return i;
		i += len;
	}
	return n;
}

uint32_t
df_uc_before(const char *s, size_t n, size_t *len)
{
	size_t at = n - 1;

	while (((unsigned char)s[at] & 0xC0) == 0x80)
		at--;
	return df_uc_get((const unsigned char *)s + at, len);
}

/*
 * unicode.c - UTF-8, and one byte of properties per code point.
 *
 * The table is made once per process from utf8proc (a few milliseconds); there is no generated source.  Properties
 * that utf8proc does not have are listed as additions to general categories.  The reference's regex engine knows
 * Unicode 16; the list `later` holds its changes to the categories of Unicode 15 (utf8proc 2.8).
 */
#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "token/token_priv.h"

uint8_t df_uc_table[0x110000];
uint8_t df_uc_category[0x110000];

struct category_range {
	uint32_t first, last;
	enum df_uc_cat category;
};

/* White_Space. */
static const struct df_uc_range spaces[] = { { 0x9, 0xD }, { 0x20, 0x20 }, { 0x85, 0x85 }, { 0xA0, 0xA0 },
	{ 0x1680, 0x1680 }, { 0x2000, 0x200A }, { 0x2028, 0x2029 }, { 0x202F, 0x202F }, { 0x205F, 0x205F },
	{ 0x3000, 0x3000 } };

/* The characters that Alphabetic and Join_Control add to the categories L, M, Nl. */
static const struct df_uc_range more_words[] = { { 0x200C, 0x200D }, { 0x24B6, 0x24E9 }, { 0x1F130, 0x1F149 },
	{ 0x1F150, 0x1F169 }, { 0x1F170, 0x1F189 } };

/* What Unicode 15.1 and 16 changed: new characters, and one that is another kind of mark. */
static const struct category_range later[] = { { 0x897, 0x897, UC_MN }, { 0x1B4E, 0x1B4F, UC_PO },
	{ 0x1B7F, 0x1B7F, UC_PO }, { 0x1C89, 0x1C89, UC_LU }, { 0x1C8A, 0x1C8A, UC_LL }, { 0x2427, 0x2429, UC_SO },
	{ 0x2FFC, 0x2FFF, UC_SO }, { 0x31E4, 0x31E5, UC_SO }, { 0x31EF, 0x31EF, UC_SO }, { 0xA7CB, 0xA7CC, UC_LU },
	{ 0xA7CD, 0xA7CD, UC_LL }, { 0xA7DA, 0xA7DA, UC_LU }, { 0xA7DB, 0xA7DB, UC_LL }, { 0xA7DC, 0xA7DC, UC_LU },
	{ 0x105C0, 0x105F3, UC_LO }, { 0x10D40, 0x10D49, UC_ND }, { 0x10D4A, 0x10D4D, UC_LO },
	{ 0x10D4E, 0x10D4E, UC_LM }, { 0x10D4F, 0x10D4F, UC_LO }, { 0x10D50, 0x10D65, UC_LU },
	{ 0x10D69, 0x10D6D, UC_MN }, { 0x10D6E, 0x10D6E, UC_PD }, { 0x10D6F, 0x10D6F, UC_LM },
	{ 0x10D70, 0x10D85, UC_LL }, { 0x10D8E, 0x10D8F, UC_SM }, { 0x10EC2, 0x10EC4, UC_LO },
	{ 0x10EFC, 0x10EFC, UC_MN }, { 0x11380, 0x11389, UC_LO }, { 0x1138B, 0x1138B, UC_LO },
	{ 0x1138E, 0x1138E, UC_LO }, { 0x11390, 0x113B5, UC_LO }, { 0x113B7, 0x113B7, UC_LO },
	{ 0x113B8, 0x113BA, UC_MC }, { 0x113BB, 0x113C0, UC_MN }, { 0x113C2, 0x113C2, UC_MC },
	{ 0x113C5, 0x113C5, UC_MC }, { 0x113C7, 0x113CA, UC_MC }, { 0x113CC, 0x113CD, UC_MC },
	{ 0x113CE, 0x113CE, UC_MN }, { 0x113CF, 0x113CF, UC_MC }, { 0x113D0, 0x113D0, UC_MN },
	{ 0x113D1, 0x113D1, UC_LO }, { 0x113D2, 0x113D2, UC_MN }, { 0x113D3, 0x113D3, UC_LO },
	{ 0x113D4, 0x113D5, UC_PO }, { 0x113D7, 0x113D8, UC_PO }, { 0x113E1, 0x113E2, UC_MN },
	{ 0x116D0, 0x116E3, UC_ND }, { 0x1171E, 0x1171E, UC_MC }, { 0x11BC0, 0x11BE0, UC_LO },
	{ 0x11BE1, 0x11BE1, UC_PO }, { 0x11BF0, 0x11BF9, UC_ND }, { 0x11F5A, 0x11F5A, UC_MN },
	{ 0x13460, 0x143FA, UC_LO }, { 0x16100, 0x1611D, UC_LO }, { 0x1611E, 0x16129, UC_MN },
	{ 0x1612A, 0x1612C, UC_MC }, { 0x1612D, 0x1612F, UC_MN }, { 0x16130, 0x16139, UC_ND },
	{ 0x16D40, 0x16D42, UC_LM }, { 0x16D43, 0x16D6A, UC_LO }, { 0x16D6B, 0x16D6C, UC_LM },
	{ 0x16D6D, 0x16D6F, UC_PO }, { 0x16D70, 0x16D79, UC_ND }, { 0x18CFF, 0x18CFF, UC_LO },
	{ 0x1CC00, 0x1CCEF, UC_SO }, { 0x1CCF0, 0x1CCF9, UC_ND }, { 0x1CD00, 0x1CEB3, UC_SO },
	{ 0x1E5D0, 0x1E5ED, UC_LO }, { 0x1E5EE, 0x1E5EF, UC_MN }, { 0x1E5F0, 0x1E5F0, UC_LO },
	{ 0x1E5F1, 0x1E5FA, UC_ND }, { 0x1E5FF, 0x1E5FF, UC_PO }, { 0x1F8B2, 0x1F8BB, UC_SO },
	{ 0x1F8C0, 0x1F8C1, UC_SO }, { 0x1FA89, 0x1FA89, UC_SO }, { 0x1FA8F, 0x1FA8F, UC_SO },
	{ 0x1FABE, 0x1FABE, UC_SO }, { 0x1FAC6, 0x1FAC6, UC_SO }, { 0x1FADC, 0x1FADC, UC_SO },
	{ 0x1FADF, 0x1FADF, UC_SO }, { 0x1FAE9, 0x1FAE9, UC_SO }, { 0x1FBCB, 0x1FBEF, UC_SO },
	{ 0x2EBF0, 0x2EE5D, UC_LO } };

/*
 * The reference normalises by Unicode 9: later combining marks, and the second half
 * of the one later composition (U+11938), are inert characters to it.
 */
static const struct df_uc_range after9[] = { { 0x7FD, 0x7FD }, { 0x898, 0x89F }, { 0x8CA, 0x8D3 }, { 0x9FE, 0x9FE },
	{ 0xC3C, 0xC3C }, { 0xD3B, 0xD3C }, { 0xEBA, 0xEBA }, { 0x1715, 0x1715 }, { 0x1ABF, 0x1ACE },
	{ 0x1DF6, 0x1DFA }, { 0xA82C, 0xA82C }, { 0x10D24, 0x10D27 }, { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF },
	{ 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 }, { 0x11070, 0x11070 }, { 0x1133B, 0x1133B }, { 0x1145E, 0x1145E },
	{ 0x11839, 0x1183A }, { 0x11930, 0x11930 }, { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 },
	{ 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 }, { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 },
	{ 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 }, { 0x16FF0, 0x16FF1 }, { 0x1E08F, 0x1E08F }, { 0x1E130, 0x1E136 },
	{ 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF }, { 0x1E4EC, 0x1E4EF } };

#define N(a) (sizeof(a) / sizeof((a)[0]))

static void
set(const struct df_uc_range *r, size_t n, uint8_t bit)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t c = r[i].first; c <= r[i].last; c++)
			df_uc_table[c] |= bit;
}

static uint8_t
category_bits(enum df_uc_cat cat)
{
	switch (cat) {
	case UC_LU:
	case UC_LL:
	case UC_LT:
	case UC_LM:
	case UC_LO: return DF_UC_LETTER | DF_UC_WORD;
	case UC_ND:
	case UC_NL: return DF_UC_NUMBER | DF_UC_WORD;
	case UC_NO: return DF_UC_NUMBER;
	case UC_MN:
	case UC_MC:
	case UC_ME:
	case UC_PC: return DF_UC_WORD;
	default: return 0;
	}
}

/*
 * NFC does not change a text when no character of it can be reordered (has a combining class), decomposes without
 * being composed again, or may combine with the one before.  Characters of the last kind are the non-first
 * characters of canonical decompositions, including Hangul vowels and final consonants.
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

		df_uc_category[c] = (uint8_t)p->category;
		mark_nfc_risk(c, p);
	}
	/* The reference's NFC treats a character that is newer than its Unicode tables as inert. */
	for (size_t i = 0; i < N(later); i++)
		for (uint32_t c = later[i].first; c <= later[i].last; c++) {
			df_uc_category[c] = (uint8_t)later[i].category;
			df_uc_table[c] |= DF_UC_NFC_WALL;
		}
	set(after9, N(after9), DF_UC_NFC_WALL);
	for (uint32_t c = 0; c < 0x110000; c++) {
		df_uc_table[c] |= category_bits(df_uc_category[c]);
		if (df_uc_table[c] & DF_UC_NFC_WALL)
			df_uc_table[c] &= (uint8_t)~DF_UC_NFC_RISK;
	}
	set(spaces, N(spaces), DF_UC_SPACE);
	set(more_words, N(more_words), DF_UC_WORD);
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

/*
 * lower.c - lower case, as Python's str.lower(): character by character, except for the Greek sigma, which has its
 * own form at the end of a word (Unicode 3.13, Final_Sigma).
 */
#include "token/lower.h"

#include "base/utf8.h"
#include "token/token_priv.h"

#define SIGMA       0x3a3
#define FINAL_SIGMA 0x3c2

static bool
is_in(uint32_t c, const struct df_uc_range *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (c >= r[i].first && c <= r[i].last)
			return true;
	return false;
}

/* Unicode's Cased: letters with a case, and symbols that look like them. */
static bool
is_cased(uint32_t c)
{
	static const struct df_uc_range more[] = { { 0xAA, 0xAA }, { 0xBA, 0xBA }, { 0x2160, 0x217F },
		{ 0x24B6, 0x24E9 }, { 0x1F130, 0x1F149 }, { 0x1F150, 0x1F169 }, { 0x1F170, 0x1F189 } };
	const uint8_t cat = df_uc_category[c];

	return cat == UC_LU || cat == UC_LL || cat == UC_LT || is_in(c, more, sizeof(more) / sizeof(more[0]));
}

/* Case_Ignorable: characters that may stand between the letters of a word. */
static bool
is_ignorable(uint32_t c)
{
	static const struct df_uc_range more[] = { { '\'', '\'' }, { '.', '.' }, { ':', ':' }, { 0xB7, 0xB7 },
		{ 0x387, 0x387 }, { 0x55F, 0x55F }, { 0x5F4, 0x5F4 }, { 0x2018, 0x2019 }, { 0x2024, 0x2024 },
		{ 0x2027, 0x2027 }, { 0xFE13, 0xFE13 }, { 0xFE52, 0xFE52 }, { 0xFE55, 0xFE55 }, { 0xFF07, 0xFF07 },
		{ 0xFF0E, 0xFF0E }, { 0xFF1A, 0xFF1A } };
	const uint8_t cat = df_uc_category[c];

	return cat == UC_MN || cat == UC_ME || cat == UC_CF || cat == UC_LM || cat == UC_SK ||
	    is_in(c, more, sizeof(more) / sizeof(more[0]));
}

/* Does a letter follow in s[i..n), with only ignorable characters before it? */
static bool
letter_follows(const unsigned char *s, size_t i, size_t n)
{
	size_t len;

	for (; i < n; i += len) {
		const uint32_t c = df_uc_get(s + i, &len);

		if (!is_ignorable(c))
			return is_cased(c);
	}
	return false;
}

static bool
is_ascii(const unsigned char *s, size_t n)
{
	unsigned char all = 0;

	for (size_t i = 0; i < n; i++)
		all |= s[i];
	return all < 0x80;
}

/* ASCII is lowered letter by letter. */
static int
lower_ascii(struct df_buf *out, const char *text, size_t n, struct df_err *err)
{
	const size_t at = out->len;
	int rc = DF_OK;

	df_buf_add(out, text, n);
	DF_TRY(df_buf_check(out, err));
	for (size_t i = at; i < out->len; i++)
		if (out->data[i] >= 'A' && out->data[i] <= 'Z')
			out->data[i] |= 0x20;
out:
	return rc;
}

int
df_text_lower(struct df_buf *out, const char *text, size_t n, struct df_err *err)
{
	const unsigned char *s = (const unsigned char *)text;
	bool in_word = false; /* a letter came before, and nothing after it that ends the word */
	size_t len;

	if (is_ascii(s, n))
		return lower_ascii(out, text, n, err);
	df_uc_ref_init();
	for (size_t i = 0; i < n; i += len)
		if ((len = df_utf8_len(s + i, n - i)) == 0)
			return df_fail(err, DF_EFORMAT, "not UTF-8 at byte %zu", i);
	for (size_t i = 0; i < n; i += len) {
		const uint32_t c = df_uc_get(s + i, &len);

		if (c == SIGMA && in_word && !letter_follows(s, i + len, n))
			df_buf_put_utf8(out, FINAL_SIGMA);
		else
			df_uc_put_lower(out, c);
		if (!is_ignorable(c))
			in_word = is_cased(c);
	}
	return df_buf_check(out, err);
}

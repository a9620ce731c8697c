/*
 * normalize.c - normalizers by name.
 *
 * Nearly all text is in NFC already, so the first pass only looks for a
 * character that could change; the table makes that a byte per character, and
 * ASCII is skipped eight bytes at a time.
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/tok_priv.h"

/* The offset of the first character that NFC may change, or n. */
static size_t
first_risk(const unsigned char *s, size_t n)
{
	size_t i = 0, len;

	while (i < n) {
		uint64_t eight;

		if (n - i >= 8) {
			memcpy(&eight, s + i, 8);
			if ((eight & 0x8080808080808080ull) == 0) {
				i += 8;
				continue;
			}
		}
		if (df_uc_table[df_uc_get(s + i, &len)] & DF_UC_NFC_RISK)
			return i;
		i += len;
	}
	return n;
}

static void
nfc_part(const unsigned char *s, size_t n, struct df_buf *out)
{
	utf8proc_uint8_t *done = NULL;
	utf8proc_ssize_t len;

	if (first_risk(s, n) == n) {
		df_buf_add(out, s, n);
		return;
	}
	len = utf8proc_map(s, (utf8proc_ssize_t)n, &done, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	if (len < 0)
		out->failed = true;
	else
		df_buf_add(out, done, (size_t)len);
	free(done);
}

static bool
nfc(const char *text, size_t n, struct df_buf *out)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t part = 0, i = 0, len;

	if (first_risk(s, n) == n)
		return false;
	/* Parts between walls are normalised on their own; a wall stays as it is. */
	while (i < n) {
		bool wall = df_uc_table[df_uc_get(s + i, &len)] & DF_UC_NFC_WALL;

		if (wall) {
			nfc_part(s + part, i - part, out);
			df_buf_add(out, s + i, len);
			part = i + len;
		}
		i += len;
	}
	nfc_part(s + part, n - part, out);
	return true;
}

static const struct tok_norm norms[] = {
	{ .type = "NFC", .run = nfc },
};

const struct tok_norm *
df_tok_norm_find(const char *type)
{
	for (size_t i = 0; i < sizeof(norms) / sizeof(norms[0]); i++)
		if (strcmp(norms[i].type, type) == 0)
			return &norms[i];
	return NULL;
}

/*
 * h5meta.c - meta to and from a file's root attributes and its manifest.
 *
 * The attribute df_check is a digest of all the others and the manifest: HDF5 keeps no checksums for their strings,
 * and a seed with one changed bit would not be noticed.
 */
#include "shard/h5_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- df_check */

static int
meta_check(const struct df_meta *m, const char *params, const char *inputs, char hex[DF_DIGEST_HEX], struct df_err *err)
{
	const char *const head[] = { df_kind_name(m->kind), m->tool, m->version, params, inputs, m->id };
	struct df_buf b = DF_BUF_INIT;
	int rc;

	/* Each ends with NUL, so that two different metas never make the same bytes. */
	for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++) {
		df_buf_puts(&b, head[i] ? head[i] : "");
		df_buf_putc(&b, '\0');
	}
	df_buf_printf(&b, "%zu domains", m->n_domains);
	for (size_t i = 0; i < m->n_domains; i++) {
		df_buf_putc(&b, '\0');
		df_buf_puts(&b, m->domains[i]);
	}
	for (size_t i = 0; i < m->n_manifest; i++) {
		const struct df_manifest_row *r = &m->manifest[i];

		df_buf_putc(&b, '\0');
		df_buf_printf(&b, "%s %llu %llu %llu", r->name, (unsigned long long)r->offset,
		    (unsigned long long)r->rows, (unsigned long long)r->cols);
	}
	DF_TRY(df_buf_check(&b, err));
	df_digest_hex(df_hash_bytes(b.data, b.len, 0), hex);
out:
	df_buf_release(&b);
	return rc;
}

/* ---- manifest */

static const char *const manifest_numbers[3] = { "manifest/offset", "manifest/rows", "manifest/cols" };

/* A small dataset, written at once. */
static int
put_dataset(hid_t file, const char *path, hid_t type, hsize_t n, bool filtered, const void *data, struct df_err *err)
{
	hid_t space = H5Screate_simple(1, &n, NULL), dcpl = df_h5_dcpl(), d = -1;
	int rc = DF_OK;

	if (space < 0 || dcpl < 0 || (filtered && (H5Pset_chunk(dcpl, 1, &n) < 0 || H5Pset_fletcher32(dcpl) < 0)) ||
	    (d = df_h5_create(file, path, type, space, dcpl)) < 0 ||
	    H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
		rc = df_h5_fail(err, DF_EIO, "dataset '%s': cannot write", path);
	if (d >= 0)
		H5Dclose(d);
	H5Pclose(dcpl);
	H5Sclose(space);
	return rc;
}

static int
manifest_write(hid_t file, const struct df_meta *m, bool filtered, struct df_err *err)
{
	hid_t type = H5Tcopy(H5T_C_S1);
	uint64_t *number = NULL;
	char *names = NULL;
	size_t width = 1, total;
	int rc;

	for (size_t i = 0; i < m->n_manifest; i++)
		width = strlen(m->manifest[i].name) > width ? strlen(m->manifest[i].name) : width;
	DF_TRY(df_size_mul(width, m->n_manifest, &total, "manifest", err));
	DF_TRY(df_alloc(&names, total, 1, "manifest", err));
	DF_TRY(df_alloc(&number, m->n_manifest, sizeof(*number), "manifest", err));
	for (size_t i = 0; i < m->n_manifest; i++)
		memcpy(names + i * width, m->manifest[i].name, strlen(m->manifest[i].name));
	if (type < 0 || H5Tset_size(type, width) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0 ||
	    H5Tset_strpad(type, H5T_STR_NULLPAD) < 0) {
		rc = df_h5_fail(err, DF_EINTERNAL, "manifest: cannot make a string type");
		goto out;
	}
	DF_TRY(put_dataset(file, "manifest/name", type, m->n_manifest, filtered, names, err));
	for (int k = 0; k < 3; k++) {
		for (size_t i = 0; i < m->n_manifest; i++) {
			const struct df_manifest_row *r = &m->manifest[i];

			number[i] = k == 0 ? r->offset : k == 1 ? r->rows : r->cols;
		}
		DF_TRY(put_dataset(file, manifest_numbers[k], H5T_STD_U64LE, m->n_manifest, filtered, number, err));
	}
out:
	if (type >= 0)
		H5Tclose(type);
	free(names);
	free(number);
	return rc;
}

/* *n entries of a one-dimensional dataset that must be of `cls`; the caller closes *d and *t. */
static int
open_list(hid_t file, const char *path, H5T_class_t cls, hid_t *d, hid_t *t, size_t *n, struct df_err *err)
{
	hid_t space = -1;
	hssize_t points = -1;
	int rc = DF_OK;

	if ((*d = H5Dopen2(file, path, H5P_DEFAULT)) < 0 || (*t = H5Dget_type(*d)) < 0 ||
	    (space = H5Dget_space(*d)) < 0 || (points = H5Sget_simple_extent_npoints(space)) < 0)
		rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': cannot open", path);
	else if (H5Tget_class(*t) != cls || H5Sget_simple_extent_ndims(space) != 1)
		rc = df_fail(err, DF_EFORMAT, "dataset '%s': not a list of %s", path,
		    cls == H5T_STRING ? "strings" : "integers");
	else if ((size_t)points > DF_SHARD_MAX_NAMES)
		rc = df_fail(
		    err, DF_ERANGE, "dataset '%s': %lld rows are more than it may have", path, (long long)points);
	*n = (size_t)points;
	if (space >= 0)
		H5Sclose(space);
	return rc;
}

static int
manifest_read(hid_t file, struct df_meta *m, struct df_err *err)
{
	hid_t d[4] = { -1, -1, -1, -1 }, t[4] = { -1, -1, -1, -1 };
	uint64_t *number[3] = { NULL, NULL, NULL };
	char *names = NULL, *name = NULL;
	size_t n, n_numbers, width, total;
	int rc;

	DF_TRY(open_list(file, "manifest/name", H5T_STRING, &d[3], &t[3], &n, err));
	if (H5Tis_variable_str(t[3]) != 0) {
		rc = df_fail(err, DF_EFORMAT, "dataset 'manifest/name': expected strings of fixed length");
		goto out;
	}
	width = H5Tget_size(t[3]);
	DF_TRY(df_size_mul(n, width, &total, "manifest", err));
	if (total > DF_SHARD_MAX_ATTR) {
		rc = df_fail(err, DF_ERANGE, "dataset 'manifest/name': %zu bytes are more than it may have", total);
		goto out;
	}
	DF_TRY(df_alloc(&names, total + 1, 1, "manifest", err));
	if (n > 0 && H5Dread(d[3], t[3], H5S_ALL, H5S_ALL, H5P_DEFAULT, names) < 0) {
		rc = df_h5_fail(err, DF_EFORMAT, "dataset 'manifest/name': damaged");
		goto out;
	}
	for (int k = 0; k < 3; k++) {
		DF_TRY(open_list(file, manifest_numbers[k], H5T_INTEGER, &d[k], &t[k], &n_numbers, err));
		if (n_numbers != n) {
			rc = df_fail(err, DF_EFORMAT, "dataset '%s': %zu rows, but manifest/name has %zu",
			    manifest_numbers[k], n_numbers, n);
			goto out;
		}
		DF_TRY(df_alloc(&number[k], n, sizeof(uint64_t), "manifest", err));
		if (n > 0 && H5Dread(d[k], H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, number[k]) < 0) {
			rc = df_h5_fail(err, DF_EFORMAT, "dataset '%s': damaged", manifest_numbers[k]);
			goto out;
		}
	}
	for (size_t i = 0; i < n; i++) {
		DF_TRY(df_strndup(&name, names + i * width, strnlen(names + i * width, width), err));
		DF_TRY(df_meta_add_manifest(m, name, number[0][i], number[1][i], number[2][i], err));
		free(name);
		name = NULL;
	}
out:
	free(name);
	free(names);
	for (int k = 0; k < 3; k++)
		free(number[k]);
	for (int k = 0; k < 4; k++) {
		if (t[k] >= 0)
			H5Tclose(t[k]);
		if (d[k] >= 0)
			H5Dclose(d[k]);
	}
	return rc;
}

/* ---- all of it */

int
df_h5_meta_write(hid_t file, const struct df_meta *m, bool filtered, struct df_err *err)
{
	struct df_buf params = DF_BUF_INIT, inputs = DF_BUF_INIT;
	char check[DF_DIGEST_HEX];
	int rc;

	df_meta_params_json(m, &params);
	df_meta_inputs_json(m, &inputs);
	DF_TRY(df_buf_check(&params, err));
	DF_TRY(df_buf_check(&inputs, err));
	DF_TRY(meta_check(m, params.data, inputs.data, check, err));
	DF_TRY(df_h5_attr_put_str(file, "df_kind", df_kind_name(m->kind), err));
	DF_TRY(df_h5_attr_put_int(file, "df_schema", DF_SHARD_SCHEMA, err));
	DF_TRY(df_h5_attr_put_str(file, "df_tool", m->tool ? m->tool : "", err));
	DF_TRY(df_h5_attr_put_str(file, "df_version", m->version ? m->version : "", err));
	DF_TRY(df_h5_attr_put_str(file, "df_params", params.data, err));
	DF_TRY(df_h5_attr_put_str(file, "df_inputs", inputs.data, err));
	if (m->n_domains > 0)
		DF_TRY(df_h5_attr_put_strs(file, "domains", m->domains, m->n_domains, err));
	if (m->id[0])
		DF_TRY(df_h5_attr_put_str(file, "df_id", m->id, err));
	DF_TRY(df_h5_attr_put_str(file, "df_check", check, err));
	if (m->n_manifest > 0)
		DF_TRY(manifest_write(file, m, filtered, err));
	DF_TRY(df_h5_attr_put_int(file, "complete", 1, err));
out:
	df_buf_release(&params);
	df_buf_release(&inputs);
	return rc;
}

/* Attributes of a file of ours, whose df_kind is `kind`. */
static int
read_lineage(hid_t file, struct df_meta *m, struct df_err *err)
{
	char *params = NULL, *inputs = NULL, *id = NULL, *check = NULL, want[DF_DIGEST_HEX];
	struct df_digest digest;
	int64_t schema, complete;
	int rc;

	DF_TRY(df_h5_attr_get_int(file, "df_schema", -1, &schema, err));
	if (schema > DF_SHARD_SCHEMA) {
		rc = df_fail(err, DF_EUNSUPPORTED, "made by a newer df-tools (schema %lld, this one reads %d)",
		    (long long)schema, DF_SHARD_SCHEMA);
		goto out;
	}
	DF_TRY(df_h5_attr_get_int(file, "complete", 0, &complete, err));
	/*
	 * A user's script that sets the kind may leave df_complete out; our own files, which have df_schema, must
	 * have it.
	 */
	if (schema >= 0 && complete != 1) {
		rc = df_fail(err, DF_EFORMAT, "incomplete: its writer did not finish");
		goto out;
	}
	DF_TRY(df_h5_attr_get_str(file, "df_tool", &m->tool, err));
	DF_TRY(df_h5_attr_get_str(file, "df_version", &m->version, err));
	DF_TRY(df_h5_attr_get_str(file, "df_params", &params, err));
	DF_TRY(df_h5_attr_get_str(file, "df_inputs", &inputs, err));
	DF_TRY(df_h5_attr_get_str(file, "df_id", &id, err));
	DF_TRY(df_h5_attr_get_str(file, "df_check", &check, err));
	if (id) {
		DF_TRY(df_digest_parse(&digest, id, err));
		memcpy(m->id, id, sizeof(m->id));
	}
	if (check) {
		DF_TRY(meta_check(m, params ? params : "", inputs ? inputs : "", want, err));
		if (strcmp(check, want) != 0) {
			rc = df_fail(err, DF_EFORMAT,
			    "damaged: the attributes do not match df_check (delete it if you changed one yourself)");
			goto out;
		}
	}
	if (params)
		DF_TRY(df_meta_params_parse(m, params, err));
	if (inputs)
		DF_TRY(df_meta_inputs_parse(m, inputs, err));
	m->has_lineage = params && inputs;
out:
	free(params);
	free(inputs);
	free(id);
	free(check);
	return rc;
}

/* The kind of a file without df_kind, found by its datasets. */
static enum df_kind
guess_kind(hid_t file)
{
	static const struct {
		const char *group, *path;
		enum df_kind kind;
	} telling[] = {
		{ "tokens", "tokens/ids", DF_KIND_TOKENS },
		{ NULL, "gradient", DF_KIND_GRADIENTS },
		{ NULL, "projection", DF_KIND_PROJECTIONS },
		{ NULL, "embedding", DF_KIND_EMBEDDINGS },
		{ NULL, "index", DF_KIND_INDEX },
		{ NULL, "sample_weight", DF_KIND_WEIGHTS },
		{ NULL, "domain_weight", DF_KIND_WEIGHTS },
		{ NULL, "score", DF_KIND_SCORES },
		{ NULL, "loss", DF_KIND_LOSSES },
	};

	for (size_t i = 0; i < sizeof(telling) / sizeof(telling[0]); i++)
		if ((telling[i].group == NULL || H5Lexists(file, telling[i].group, H5P_DEFAULT) > 0) &&
		    H5Lexists(file, telling[i].path, H5P_DEFAULT) > 0)
			return telling[i].kind;
	return DF_KIND_ANY;
}

int
df_h5_meta_read(hid_t file, enum df_kind expected, struct df_meta *m, struct df_err *err)
{
	char **domains = NULL, *kind = NULL;
	size_t n_domains = 0;
	int rc;

	DF_TRY(df_h5_attr_get_str(file, "df_kind", &kind, err));
	DF_TRY(df_h5_attr_get_strs(file, "domains", &domains, &n_domains, err));
	for (size_t i = 0; i < n_domains; i++)
		DF_TRY(df_meta_add_domain(m, domains[i], NULL, err));
	m->kind = kind ? df_kind_parse(kind) : expected != DF_KIND_ANY ? expected : guess_kind(file);
	if (m->kind == DF_KIND_ANY) {
		if (kind)
			rc = df_fail(err, DF_EFORMAT, "holds '%s', a kind that this program does not know", kind);
		else
			rc = df_fail(
			    err, DF_EFORMAT, "no dataset in it has a name that an artefact has (see df-shard(5))");
		goto out;
	}
	if (!df_kind_fits(m->kind, expected)) {
		rc = df_fail(err, DF_EFORMAT, "holds %s, not %s", df_kind_name(m->kind), df_kind_name(expected));
		goto out;
	}
	if (m->kind == DF_KIND_GRADIENTS && H5Lexists(file, "manifest", H5P_DEFAULT) > 0)
		DF_TRY(manifest_read(file, m, err));
	if (kind)
		DF_TRY(read_lineage(file, m, err));
out:
	free(kind);
	for (size_t i = 0; i < n_domains; i++)
		free(domains[i]);
	free(domains);
	return rc;
}

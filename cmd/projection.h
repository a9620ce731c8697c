/*
 * projection.h - the options of a random projection, which df-grad and df-project share.
 */
#ifndef DF_CMD_PROJECTION_H
#define DF_CMD_PROJECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/opt.h"
#include "project/project.h"

struct df_prog_projection {
	int type, scale;
	int64_t k, sparsity, seed, model_id;
	bool scale_given;
};
#define DF_PROG_PROJECTION_DEFAULT(dim) { .k = (dim), .sparsity = 4, .seed = 42 }

static const char *const df_prog_projection_types[] = { DF_PROJECTION_TYPES, NULL };
static const char *const df_prog_projection_scales[] = { DF_PROJECTION_SCALES, NULL };

/* All rows but the one of k, which each program names after its own manner. */
/* clang-format off */
#define DF_PROG_PROJECTION_OPTS(p) \
	{ .name = "type", .type = DF_OPT_CHOICE, .value = &(p)->type, .choices = df_prog_projection_types, \
	    .help = "dense signs, or sparse" }, \
	{ .name = "sparsity", .short_name = 's', .type = DF_OPT_INT, .value = &(p)->sparsity, .arg = "N", .min = 1, \
	    .max = 1024, .help = "sjlt: nonzeros per coordinate" }, \
	{ .name = "seed", .type = DF_OPT_INT, .value = &(p)->seed, .arg = "N", .min = 0, .max = 9e15, \
	    .help = "seed of the projection" }, \
	{ .name = "model-id", .type = DF_OPT_INT, .value = &(p)->model_id, .arg = "N", .min = 0, .max = 16777215, \
	    .help = "second seed of the projection, as TRAK's" }, \
	{ .name = "scale", .type = DF_OPT_CHOICE, .value = &(p)->scale, .choices = df_prog_projection_scales, \
	    .given = &(p)->scale_given, .help = "1/sqrt(K), or the plain sum" }
/* clang-format on */

/* DF_EUSAGE for options that have no effect together. */
static inline int
df_prog_projection_check(const struct df_prog_projection *p, struct df_err *err)
{
	if (p->scale_given && p->type != DF_PROJ_RADEMACHER)
		return df_fail(
		    err, DF_EUSAGE, "--scale is for --type rademacher: sparse projections are unbiased as they are");
	return DF_OK;
}

static inline struct df_projector
df_prog_projector(const struct df_prog_projection *p)
{
	return (struct df_projector){ (enum df_projection_type)p->type, (uint64_t)p->k, (uint64_t)p->seed,
		(uint32_t)p->model_id, (uint32_t)p->sparsity, (enum df_projection_scale)p->scale };
}

#endif

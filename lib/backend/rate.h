/*
 * rate.h - how fast a backend is here, for estimates of how long a job takes.
 */
#ifndef DF_BACKEND_RATE_H
#define DF_BACKEND_RATE_H

#include "backend/backend.h"
#include "base/err.h"

/* *flops = floating-point operations per second of a matrix product of 512 x 512, measured for a tenth of a second. */
int df_backend_rate(struct df_backend *be, double *flops, struct df_err *err) DF_MUST_CHECK;

#endif

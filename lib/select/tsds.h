/*
 * tsds.h - TSDS as arithmetic: how dense the candidates lie, and how much of the queries' mass each one gets (tsds.c
 * reads the artefacts).
 */
#ifndef DF_SELECT_TSDS_H
#define DF_SELECT_TSDS_H

#include "select/neighbours.h"

/*
 * rho [x->n] = the sum of max(0, 1 - |x_i - x_j|^2 / sigma^2) over the min(kde_k, x->n) points j nearest to i, itself
 * included: at least 1; all 1 for sigma 0.  All points must be finite.
 */
int df_tsds_density(const struct df_near *near, const struct df_points *x, double sigma, uint64_t kde_k, double *rho,
    struct df_err *err) DF_MUST_CHECK;

/*
 * Minimise (alpha / c) (mean transport cost) + (1 - alpha) M max_{q,i} rho_i gamma_qi over transports gamma of mass 1/M
 * from each of the M queries to its neighbours in t.  p [n_rows] = the mass that each row gets: it sums to 1.
 * rho [n_rows] by id is read for the rows in t.  0 <= alpha <= 1, c > 0.
 */
struct df_tsds_fill {
	double s;     /* no query sends more than 1 / (M s rho) to a row */
	bool limited; /* all neighbours were used up before the minimum: more of them could lower it */
};
/* DF_EFORMAT names a query without neighbours. */
int df_tsds_assign(const struct df_neighbours *t, const double *rho, uint64_t n_rows, double alpha, double c, double *p,
    struct df_tsds_fill *fill, struct df_err *err) DF_MUST_CHECK;

#endif

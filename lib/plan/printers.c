/*
 * printers.c - the list of them.
 */
#include "plan/print.h"

const struct df_printer *const df_printers[] = { &df_print_make, &df_print_slurm, &df_print_dry_run, &df_print_dot,
	NULL };

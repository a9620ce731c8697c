/*
 * stop.h - requests to stop, by a signal.
 *
 * SIGTERM, SIGINT and SIGUSR1 set a flag; long jobs poll it between units of
 * work, save, and return DF_ESTOPPED.  A second SIGINT ends the process at
 * once.  SIGPIPE is ignored (EPIPE is an ordinary error).
 */
#ifndef DF_BASE_STOP_H
#define DF_BASE_STOP_H

#include <stdbool.h>

void df_stop_install(void);
bool df_stop_requested(void);
int df_stop_signal(void); /* the signal that asked, 0 if none */

#endif

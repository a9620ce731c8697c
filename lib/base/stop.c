/*
 * stop.c - signals become a flag.
 *
 * The handler only stores the signal's number; a second SIGINT restores the default action and raises it again, for
 * a user who does not want to wait.
 */
#include "base/stop.h"

#include <signal.h>
#include <string.h>

static volatile sig_atomic_t stop_signal;

static void
on_signal(int sig)
{
	if (sig == SIGINT && stop_signal == SIGINT) {
		signal(SIGINT, SIG_DFL);
		raise(SIGINT);
		return;
	}
	stop_signal = sig;
}

void
df_stop_install(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGUSR1 };
	struct sigaction sa, old;

	memset(&sa, 0, sizeof(sa));
	sigemptyset(&sa.sa_mask);
	/* Interrupted reads and writes continue: the flag is polled between units of work. */
	sa.sa_flags = SA_RESTART;
	sa.sa_handler = on_signal;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* A shell starts a background job with SIGINT ignored; keep that. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
			continue;
		sigaction(signals[i], &sa, NULL);
	}
	signal(SIGPIPE, SIG_IGN);
}

bool
df_stop_requested(void)
{
	return stop_signal != 0;
}

int
df_stop_signal(void)
{
	return stop_signal;
}

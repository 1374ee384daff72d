/* SPDX-License-Identifier: MIT */
/* The terminal that this runs at, of which there is one: raw, and as it was at the end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "launch.h"

#define ESCAPE 1 /* Ctrl-A, and then x, ends it */

static struct termios before;
static bool raw;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct machine *connected;

void terminal_end(void)
{
	if (raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	raw = false;
}

/* The terminal as it was, and then what the signal is for: the handler is gone by now. */
static void on_end(int number)
{
	terminal_end();
	raise(number);
}

void terminal_connect(struct machine *m)
{
	pthread_mutex_lock(&lock);
	connected = m;
	pthread_mutex_unlock(&lock);
}

/* In the end; without a machine it is gone. */
static void deliver(uint8_t c)
{
	bool done = false;

	while (!done) {
		pthread_mutex_lock(&lock);
		done = !connected || serial_receive(connected, c);
		pthread_mutex_unlock(&lock);
		if (!done)
			usleep(1000);
	}
}

static void *receive(void *arg)
{
	bool escaped = false;
	uint8_t c;

	(void)arg;
	while (read(STDIN_FILENO, &c, 1) == 1) {
		if (raw && escaped && c == 'x') {
			terminal_end();
			fprintf(stderr, "\ngmem-launch: stopped at the terminal\n");
			_exit(0);
		}
		escaped = raw && !escaped && c == ESCAPE;
		if (!escaped)
			deliver(c);
	}
	return NULL;
}

void terminal_begin(void)
{
	static const int ends[] = {SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGSEGV, SIGPIPE, SIGTERM};
	struct sigaction action = {.sa_handler = on_end, .sa_flags = (int)SA_RESETHAND};
	struct termios now;
	pthread_t thread;
	size_t i;

	if (isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before)) {
		for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
			sigaction(ends[i], &action, NULL);
		now = before;
		cfmakeraw(&now);
		now.c_oflag = before.c_oflag;
		raw = !tcsetattr(STDIN_FILENO, TCSANOW, &now);
		atexit(terminal_end);
	}
	if (!pthread_create(&thread, NULL, receive, NULL))
		pthread_detach(thread);
}

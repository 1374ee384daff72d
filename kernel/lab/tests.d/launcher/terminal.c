/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Runs a command on a terminal of its own, talks to it, and looks how it leaves that:
 *
 *   terminal [-a WAITED=SENT]... [-k WAITED=SIGNAL] STATUS COMMAND...
 *
 * When WAITED was written, SENT is typed (^A is Ctrl-A, ^M Return), or the signal is
 * sent. STATUS is what the command has to end with; 128 and more: by that signal. The
 * terminal has to be as it was, and has to have been raw if anything was waited for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

#define SECONDS 600 /* that is a hang, on any machine */
#define MAX_STEPS 8

static struct step {
	const char *waited, *sent;
	int number;
} steps[MAX_STEPS];
static int nr_steps;
static char said[1 << 16];
static size_t len;

static void bad(const char *what)
{
	printf("terminal: %s; it said:\n%s\n", what, said);
	exit(1);
}

static void add_step(char *text, int is_signal)
{
	struct step *step = &steps[nr_steps];
	char *sent = strchr(text, '=');

	if (!sent || nr_steps == MAX_STEPS) {
		fprintf(stderr, "terminal: what is '%s'?\n", text);
		exit(2);
	}
	*sent++ = 0;
	step->waited = text;
	step->sent = sent;
	if (is_signal)
		step->number = atoi(sent);
	nr_steps++;
}

/* Some members are padding, and PENDIN is what the kernel notes for itself. */
static int same(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       !((a->c_lflag ^ b->c_lflag) & ~PENDIN) && !memcmp(a->c_cc, b->c_cc, VEOL2 + 1);
}

static void type(int fd, const char *text)
{
	for (; *text; text++) {
		char c = *text == '^' && text[1] ? *++text & 0x1f : *text;

		if (write(fd, &c, 1) != 1)
			bad("it cannot be typed at");
		usleep(20000);
	}
}

int main(int argc, char **argv)
{
	int master, slave, c, want, status, done = 0, was_raw = 0;
	struct termios before, now, after;
	time_t end = time(NULL) + SECONDS;
	pid_t pid;

	while ((c = getopt(argc, argv, "+a:k:")) != -1) {
		if (c == '?')
			return 2;
		add_step(optarg, c == 'k');
	}
	if (argc - optind < 2) {
		fprintf(stderr,
			"usage: terminal [-a WAITED=SENT] [-k WAITED=SIGNAL] STATUS COMMAND...\n");
		return 2;
	}
	want = atoi(argv[optind]);
	if (openpty(&master, &slave, NULL, NULL, NULL) || tcgetattr(slave, &before)) {
		perror("terminal");
		return 2;
	}
	pid = fork();
	if (!pid) {
		close(master);
		login_tty(slave);
		execvp(argv[optind + 1], argv + optind + 1);
		_exit(127);
	}
	/* The other end stays open here too: its state can be asked for to the end. */
	for (;;) {
		struct pollfd p = {.fd = master, .events = POLLIN};
		int gone = waitpid(pid, &status, WNOHANG) == pid;

		while (poll(&p, 1, gone ? 0 : 100) > 0 && len < sizeof(said) - 1) {
			ssize_t n = read(master, said + len, sizeof(said) - 1 - len);

			if (n <= 0)
				break;
			len += n;
		}
		said[len] = 0;
		if (gone)
			break;
		if (time(NULL) > end) {
			kill(pid, SIGKILL);
			bad("it does not end");
		}
		if (done < nr_steps && strstr(said, steps[done].waited)) {
			tcgetattr(slave, &now);
			was_raw |= !(now.c_lflag & (ICANON | ECHO | ISIG));
			if (steps[done].number)
				kill(pid, steps[done].number);
			else
				type(master, steps[done].sent);
			done++;
		}
	}
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (tcgetattr(slave, &after))
		bad("the terminal is gone");
	if (done < nr_steps)
		bad("it did not say what was waited for");
	if (status != want) {
		printf("terminal: status %d\n", status);
		bad("it ended otherwise");
	}
	if (nr_steps && !was_raw)
		bad("the terminal was never raw");
	if (!same(&before, &after))
		bad("the terminal is not what it was");
	printf("%s\n", said);
	return 0;
}

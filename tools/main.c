/* SPDX-License-Identifier: MIT */
/* gmemctl: lists, inspects and measures guest memory. */
#include <getopt.h>
#include <string.h>
#include <gmem.h>

#include "ctl.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"probe", cmd_probe},
	{"list", cmd_list},
	{"show", cmd_show},
	{"bench", cmd_bench},
};

int usage(void)
{
	printf("usage: gmemctl COMMAND [OPTION...]\n"
	       "\n"
	       "  probe [--json]         what this host supports, and why other features are "
	       "missing\n"
	       "  list [PID]             every guest_memfd on the host, or of a process: sizes "
	       "and nodes\n"
	       "      --json             the same as JSON\n"
	       "      --sort KEY         pid, size, private, shared or populated\n"
	       "  show PID[:FD]          the runs of one guest_memfd: sizes, states and nodes\n"
	       "      --json             the same as JSON\n"
	       "      --svg FILE         the same as a picture\n"
	       "      --watch SECONDS    repeat it\n"
	       "  bench                  measure conversions, faults and placement\n"
	       "      --size SIZE        amount of memory to measure with, e.g. 256M (64M)\n"
	       "      --json             the same as JSON\n"
	       "      --svg FILE         the same as a picture\n"
	       "  --help, --version\n"
	       "\n"
	       "Exit status: 0 on success, 3 on failure, 64 if the command line is wrong.\n");
	return 0;
}

static void version(void)
{
	unsigned int major, minor;

	gmem_version(&major, &minor);
	printf("gmemctl " GMEMCTL_VERSION " (libgmem %u.%u)\n", major, minor);
}

int next_option(int argc, char **argv, const struct option *known)
{
	int c;

	opterr = 0;
	c = getopt_long(argc, argv, ":", known, NULL);
	if (c == ':')
		usage_error("%s: %s needs a value", argv[0], argv[optind - 1]);
	if (c == '?' && argv[optind - 1][0] != '-') /* one of several letters */
		usage_error("%s does not know '-%c'", argv[0], optopt);
	if (c == '?')
		usage_error("%s does not know '%s', or not with a value", argv[0],
			    argv[optind - 1]);
	return c;
}

static int run(int argc, char **argv)
{
	size_t i;

	if (argc < 2)
		usage_error("which command?");
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		return usage();
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		version();
		return 0;
	}
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[1], commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	usage_error("there is no %s '%s'", argv[1][0] == '-' ? "option" : "command", argv[1]);
}

int main(int argc, char **argv)
{
	int status = run(argc, argv);

	flush_output();
	return status;
}

/* SPDX-License-Identifier: MIT */
/* The command line. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"

#define DEFAULT_RAM (256ull << 20)

static void usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: gmem-launch --kernel BZIMAGE [OPTION...]\n"
		"  --initrd FILE          an initial RAM disk\n"
		"  --append ARGS          the kernel's command line (console=ttyS0)\n"
		"  --mem SIZE             memory, e.g. 512M; at most 3G (256M)\n"
		"  --cpus N               processors, at most %d (1)\n"
		"  --numa H:SIZE,...      a node of the guest each, on node H of the host\n"
		"  --mode MODE            auto, inplace, attributes, dual, shared or\n"
		"                         plain (auto)\n"
		"  --vm-type TYPE         auto, plain or sw-protected (auto: plain)\n"
		"  --private, --shared    what the memory is (private)\n"
		"  --reboot-reuse         a guest that resets itself goes on, in the same memory\n"
		"  --clones N             N clones of a guest that says it is ready for that\n"
		"  --map FILE.svg         a picture of the memory, at the end\n"
		"  --stats                what was where, at the end\n"
		"  --talk                 answer examples/guest, and say what it converts\n"
		"At a terminal Ctrl-A x ends it.\n",
		MAX_CPUS);
	exit(status);
}

static uint64_t parse_size(const char *text, char **end)
{
	uint64_t value;
	int shift = 0;

	/* strtoull() takes blanks and signs as well. */
	errno = 0;
	value = strtoull(text, end, 10);
	if (!isdigit((unsigned char)*text) || errno)
		die("'%s' is no size", text);
	switch (**end) {
	case 'G':
		shift += 10;
		__attribute__((fallthrough));
	case 'M':
		shift += 10;
		__attribute__((fallthrough));
	case 'K':
		shift += 10;
		++*end;
	}
	if (value > MAX_RAM >> shift || !value)
		die("'%s': memory is at most %llu MiB", text, MAX_RAM >> 20);
	return value << shift;
}

/* A number from 1 on, and nothing else. */
static unsigned int parse_count(const char *option, const char *text, unsigned int most)
{
	unsigned long value;
	char *end;

	value = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || !value || value > most)
		die("--%s wants 1 to %u, not '%s'", option, most, text);
	return (unsigned int)value;
}

static void parse_numa(struct options *o, const char *text)
{
	uint64_t start = 0;
	char *end;
	long host;

	if (o->nr_nodes)
		die("--numa is given twice: all nodes belong into one list");

	for (;; text = end + 1) {
		struct node *node = &o->nodes[o->nr_nodes];

		if (o->nr_nodes == MAX_NODES)
			die("a guest has at most %d nodes", MAX_NODES);
		host = strtol(text, &end, 10);
		if (!isdigit((unsigned char)*text) || *end != ':' || host > INT_MAX)
			die("--numa wants NODE:SIZE[,NODE:SIZE...], not '%s'", text);
		node->host = (int)host;
		node->start = start;
		node->bytes = parse_size(end + 1, &end);
		if (node->bytes % (2 << 20))
			die("a node's memory has to be a multiple of 2 MiB");
		start += node->bytes;
		o->nr_nodes++;
		if (!*end)
			break;
		if (*end != ',')
			die("--numa: what is '%s'?", end);
	}
	if (start > MAX_RAM)
		die("memory is at most %llu MiB", MAX_RAM >> 20);
	if (start < MIN_RAM)
		die("memory is at least %llu MiB", MIN_RAM >> 20);
}

static unsigned long parse_name(const char *what, const char *text, const char *const *names)
{
	unsigned long i;

	for (i = 0; names[i]; i++)
		if (!strcmp(text, names[i]))
			return i;
	die("there is no %s '%s'", what, text);
}

/* In whatever order they were given. */
static void choose_memory(struct options *o)
{
	const struct node *last;
	uint64_t all;

	if (!o->nr_nodes) {
		if (!o->bytes)
			o->bytes = DEFAULT_RAM;
		/* All in one, wherever. */
		o->nodes[o->nr_nodes++] = (struct node){0, o->bytes, -1};
		return;
	}
	last = &o->nodes[o->nr_nodes - 1];
	all = last->start + last->bytes;
	if (o->bytes && o->bytes != all)
		die("--mem says %" PRIu64 " MiB, but the nodes of --numa have %" PRIu64 " MiB",
		    o->bytes >> 20, all >> 20);
	o->bytes = all;
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {{"kernel", required_argument, NULL, 'k'},
					      {"initrd", required_argument, NULL, 'i'},
					      {"append", required_argument, NULL, 'a'},
					      {"mem", required_argument, NULL, 'm'},
					      {"cpus", required_argument, NULL, 'c'},
					      {"numa", required_argument, NULL, 'n'},
					      {"mode", required_argument, NULL, 'o'},
					      {"vm-type", required_argument, NULL, 't'},
					      {"private", no_argument, NULL, 'p'},
					      {"shared", no_argument, NULL, 's'},
					      {"reboot-reuse", no_argument, NULL, 'r'},
					      {"clones", required_argument, NULL, 'C'},
					      {"map", required_argument, NULL, 'M'},
					      {"stats", no_argument, NULL, 'S'},
					      {"talk", no_argument, NULL, 'T'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	static const char *const modes[] = {"auto",   "inplace", "attributes", "dual",
					    "shared", "plain",	 NULL};
	static const char *const types[] = {"auto", "plain", "sw-protected", NULL};
	char *end;
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'k':
			o->kernel = optarg;
			break;
		case 'i':
			o->initrd = optarg;
			break;
		case 'a':
			o->append = optarg;
			break;
		case 'm':
			o->bytes = parse_size(optarg, &end);
			if (*end || o->bytes % (2 << 20) || o->bytes < MIN_RAM)
				die("--mem wants a multiple of 2M, from 32M on, not '%s'", optarg);
			break;
		case 'c':
			o->cpus = parse_count("cpus", optarg, MAX_CPUS);
			break;
		case 'n':
			parse_numa(o, optarg);
			break;
		case 'o':
			o->mode = (uint32_t)parse_name("mode", optarg, modes);
			break;
		case 't':
			o->vm_type = parse_name("type", optarg, types) == 2;
			break;
		case 'p':
			o->shared = false;
			break;
		case 's':
			o->shared = true;
			break;
		case 'r':
			o->reuse = true;
			break;
		case 'C':
			o->clones = parse_count("clones", optarg, MAX_CLONES);
			break;
		case 'M':
			o->map = optarg;
			break;
		case 'S':
			o->stats = true;
			break;
		case 'T':
			o->talk = true;
			break;
		case 'h':
			usage(0);
			break;
		default:
			usage(2);
		}
	}
	if (optind < argc || !o->kernel)
		usage(2);
	if (o->reuse && o->clones)
		die("--reboot-reuse and --clones do not go together");
	choose_memory(o);
}

void options_check_nodes(const struct options *o)
{
	unsigned int i;

	for (i = 0; i < o->nr_nodes; i++)
		if (o->nodes[i].host >= 0 &&
		    (numa_available() < 0 ||
		     !numa_bitmask_isbitset(numa_all_nodes_ptr, (unsigned int)o->nodes[i].host)))
			die("the host has no node %d with memory", o->nodes[i].host);
}

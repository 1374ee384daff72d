/* SPDX-License-Identifier: MIT */
/* gmemctl show: the ranges of one memory, with state and node. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "json.h"
#include "picture.h"
#include "proc.h"
#include "runs.h"

#define MAX_STRIPS 64
#define TITLE 256

struct target {
	int pid, fd; /* fd: -1 until it is chosen */
	int pidfd;
	char process[64];
	char text[32]; /* as it is named in messages */
};

struct view {
	bool json;
	const char *svg;
	double watch; /* seconds; 0: once */
};

static const char *state_of(const struct kvm_gmem_range *run)
{
	return run->flags & KVM_GMEM_RANGE_PRIVATE ? "private" : "shared";
}

/* --- which memory */

static void parse_target(struct target *target, const char *text)
{
	const char *rest = proc_parse_number(text, 1, &target->pid);

	target->fd = -1;
	if (rest && *rest == ':')
		rest = proc_parse_number(rest + 1, 0, &target->fd);
	if (!rest || *rest)
		usage_error("show wants PID or PID:FD, not '%s'", text);
}

static void cannot(const struct target *target, int error)
{
	switch (error) {
	case -EBADF:
		fail("process %d has no descriptor %d", target->pid, target->fd);
	case -EMEDIUMTYPE:
		fail("%s is not a guest_memfd", target->text);
	case -EPERM:
		fail("%s cannot be inspected: that needs permission to ptrace(2) the process",
		     target->text);
	case -ENOTTY:
		fail("%s: the kernel does not report ranges: it has no KVM_GMEM_GET_RANGES "
		     "(gmem's series), or the memory was created without "
		     "GUEST_MEMFD_FLAG_MMAP",
		     target->text);
	case -ESRCH:
		fail("process %d has ended", target->pid);
	default:
		fail("%s: %s", target->text, strerror(-error));
	}
}

/* Of several, one has to be named. */
static void choose(struct target *target, const struct proc_memories *memories)
{
	char known[256] = "";
	size_t i, length = 0;

	for (i = 0; i < memories->count && length < sizeof(known) - 24; i++)
		length += (size_t)snprintf(known + length, sizeof(known) - length, "%s%d:%d",
					   i ? ", " : "", target->pid, memories->all[i].open[0].fd);
	if (memories->count > 1)
		fail("process %d has several guest_memfds: name one of %s%s", target->pid, known,
		     i < memories->count ? ", ..." : "");
	target->fd = memories->all[0].open[0].fd;
}

/* What /proc tells already needs no more privilege than that. */
static void check_named(const struct target *target, const struct proc_memories *memories)
{
	struct stat info;
	char path[64];
	size_t i, n;

	for (i = 0; i < memories->count; i++)
		for (n = 0; n < memories->all[i].nr_open; n++)
			if (memories->all[i].open[n].fd == target->fd)
				return;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", target->pid, target->fd);
	cannot(target, lstat(path, &info) < 0 ? -EBADF : -EMEDIUMTYPE);
}

static void find(struct target *target)
{
	struct proc_memories memories;

	target->pidfd = runs_must_pidfd(target->pid);
	if (proc_scan("/proc", target->pid, &memories) < 0)
		cannot(target, -ESRCH);
	if (memories.hidden)
		fail("process %d cannot be inspected: run this as root", target->pid);
	if (target->fd >= 0) {
		snprintf(target->text, sizeof(target->text), "%d:%d", target->pid, target->fd);
		check_named(target, &memories);
	} else if (memories.count) {
		choose(target, &memories);
		snprintf(target->text, sizeof(target->text), "%d:%d", target->pid, target->fd);
	} else {
		fail("process %d has no guest_memfd", target->pid);
	}
	strcpy(target->process, memories.processes[0].name);
	proc_free(&memories);
}

/* --- as text */

static void print_run(const struct kvm_gmem_range *run)
{
	const bool private = run->flags & KVM_GMEM_RANGE_PRIVATE;
	char size[SIZE_TEXT], node[16] = "-";

	if (run->node >= 0)
		snprintf(node, sizeof(node), "%d", run->node);
	else if (run->node == KVM_GMEM_NODE_MIXED)
		strcpy(node, "mixed");
	printf("%#14" PRIx64 "  %7s  %s%-7s%s  %-9s  %s\n", (uint64_t)run->offset,
	       size_text(size, run->size), private ? "" : colour(stdout, YELLOW), state_of(run),
	       private ? "" : colour(stdout, PLAIN), run->populated ? "yes" : "no", node);
}

/* The lines of a terminal that is written over and over; SIZE_MAX, of what is not. */
static size_t rows(const struct view *view)
{
	struct winsize window;

	if (!view->watch || !terminal(stdout) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) < 0 ||
	    !window.ws_row)
		return SIZE_MAX;
	return window.ws_row;
}

static void print_text(const struct target *target, const struct runs *runs,
		       const struct view *view)
{
	/* Beside the runs: the line with the sums, the heading, "more", and the cursor. */
	const size_t all = rows(view), room = all > 4 ? all - 4 : 0;
	char size[SIZE_TEXT], private[SIZE_TEXT], shared[SIZE_TEXT], populated[SIZE_TEXT];
	char process[64];
	size_t i;

	if (view->watch && terminal(stdout))
		printf("\33[H\33[J");
	strcpy(process, target->process);
	printable(process);
	printf("%s (%s): %s, %s private, %s shared, %s populated\n", target->text, process,
	       size_text(size, runs->size), size_text(private, runs->private_bytes),
	       size_text(shared, runs->size - runs->private_bytes),
	       size_text(populated, runs->populated));
	if (all >= 4)
		printf("%s%14s  %7s  %-7s  %-9s  %s%s\n", colour(stdout, BOLD), "OFFSET", "SIZE",
		       "STATE", "POPULATED", "NODE", colour(stdout, PLAIN));
	for (i = 0; i < runs->count && i < room; i++)
		print_run(&runs->all[i]);
	if (i < runs->count && all >= 3)
		printf("and %zu more\n", runs->count - i);
	if (view->watch && !terminal(stdout))
		printf("\n");
}

static void print_json(const struct target *target, const struct runs *runs,
		       const struct view *view)
{
	struct json json = {.f = stdout, .lines = view->watch > 0};
	const struct kvm_gmem_range *run;
	size_t i;

	json_begin(&json, NULL, '{');
	json_number(&json, "pid", (uint64_t)target->pid);
	json_number(&json, "fd", (uint64_t)target->fd);
	json_string(&json, "process", target->process);
	json_number(&json, "size", runs->size);
	json_number(&json, "private", runs->private_bytes);
	json_number(&json, "shared", runs->size - runs->private_bytes);
	json_number(&json, "populated", runs->populated);
	json_begin(&json, "runs", '[');
	for (i = 0; i < runs->count; i++) {
		run = &runs->all[i];
		json_begin(&json, NULL, '{');
		json_number(&json, "offset", run->offset);
		json_number(&json, "size", run->size);
		json_string(&json, "state", state_of(run));
		json_number(&json, "populated", run->populated);
		if (run->node >= 0)
			json_signed(&json, "node", run->node);
		else
			json_null(&json, "node");
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_end(&json, '}');
}

/* --- as a picture: all of it, and the part of each node */

struct drawing {
	const struct runs *runs;
	int nodes[MAX_STRIPS]; /* of each strip; -1: of any */
};

static uint64_t draw_run(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	const struct drawing *drawing = data;
	const struct kvm_gmem_range *run = runs_find(drawing->runs, start);
	const uint64_t run_end = run->offset + run->size;

	*ret_shared = !(run->flags & KVM_GMEM_RANGE_PRIVATE);
	return (run_end < end ? run_end : end) - start;
}

static uint64_t draw_populated(void *data, unsigned int strip, uint64_t start, uint64_t bytes)
{
	const struct drawing *drawing = data;

	return runs_populated(drawing->runs, drawing->nodes[strip], start, bytes);
}

static int by_node(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The nodes that have any of it, from nodes[1] on; how many strips that makes. */
static unsigned int find_nodes(const struct runs *runs, int *nodes)
{
	unsigned int count = 1, n;
	size_t i;

	nodes[0] = -1;
	for (i = 0; i < runs->count; i++) {
		for (n = 1; n < count && nodes[n] != runs->all[i].node; n++)
			;
		if (runs->all[i].node >= 0 && n == count && count < MAX_STRIPS)
			nodes[count++] = runs->all[i].node;
	}
	qsort(nodes + 1, count - 1, sizeof(*nodes), by_node);
	return count;
}

static void draw(const struct target *target, const struct runs *runs, const char *path)
{
	static char titles[MAX_STRIPS][TITLE];
	char size[SIZE_TEXT], private[SIZE_TEXT], populated[SIZE_TEXT], process[64], *text = NULL;
	struct drawing drawing = {.runs = runs};
	struct picture_source source = {&drawing, draw_run, draw_populated};
	struct picture_strip strips[MAX_STRIPS];
	unsigned int count = find_nodes(runs, drawing.nodes), i;
	size_t length = 0;
	FILE *f;

	strcpy(process, target->process);
	printable(process);
	snprintf(titles[0], TITLE, "%s (%s): %s, %s of it private, %s populated", target->text,
		 process, size_text(size, runs->size), size_text(private, runs->private_bytes),
		 size_text(populated, runs->populated));
	for (i = 1; i < count; i++)
		snprintf(titles[i], TITLE, "on node %d: %s", drawing.nodes[i],
			 size_text(size, runs_populated(runs, drawing.nodes[i], 0, runs->size)));
	for (i = 0; i < count; i++)
		strips[i] = (struct picture_strip){titles[i], 0, runs->size};

	f = must_alloc(open_memstream(&text, &length));
	picture_draw(f, strips, count, &source);
	if (fclose(f))
		fail("%s: %s", path, strerror(errno));
	save_file(path, text, length);
	free(text);
}

/* --- the command */

static void show(const struct target *target, const struct runs *runs, const struct view *view)
{
	if (view->svg)
		draw(target, runs, view->svg);
	if (view->json)
		print_json(target, runs, view);
	else if (!view->svg)
		print_text(target, runs, view);
	flush_output();
}

static void wait_for(double seconds)
{
	struct timespec time = {.tv_sec = (time_t)seconds,
				.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};

	while (nanosleep(&time, &time) < 0 && errno == EINTR)
		;
}

int cmd_show(int argc, char **argv)
{
	static const struct option known[] = {{"json", no_argument, NULL, 'j'},
					      {"svg", required_argument, NULL, 's'},
					      {"watch", required_argument, NULL, 'w'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	struct target target = {0};
	struct view view = {0};
	struct runs runs;
	bool again = false;
	char *end;
	int c, r;

	while ((c = next_option(argc, argv, known)) != -1) {
		switch (c) {
		case 'h':
			return usage();
		case 'j':
			view.json = true;
			break;
		case 's':
			view.svg = optarg;
			break;
		case 'w':
			view.watch = strtod(optarg, &end);
			if (end == optarg || *end || !(view.watch >= 0.1 && view.watch <= 86400))
				usage_error("--watch wants 0.1 to 86400 seconds, not '%s'", optarg);
			break;
		}
	}
	if (optind == argc)
		usage_error("show: which process?");
	if (optind + 1 < argc)
		usage_error("show takes one PID[:FD], and no '%s'", argv[optind + 1]);
	parse_target(&target, argv[optind]);
	find(&target);

	for (;; again = true) {
		r = runs_read(target.pidfd, target.fd, &runs);
		/* The guest has ended, or its memory has: there is no more to watch. */
		if (again && (r == -ESRCH || r == -EBADF || r == -EMEDIUMTYPE))
			break;
		if (r < 0)
			cannot(&target, r);
		show(&target, &runs, &view);
		runs_free(&runs);
		if (!view.watch)
			break;
		wait_for(view.watch);
	}
	close(target.pidfd);
	return 0;
}

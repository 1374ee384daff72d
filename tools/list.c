/* SPDX-License-Identifier: MIT */
/* gmemctl list: every guest_memfd that can be seen. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "json.h"
#include "proc.h"
#include "runs.h"

static const struct proc_process *first_process(const struct proc_memories *memories,
						const struct proc_memory *memory)
{
	return &memories->processes[memory->open[0].process];
}

/* What the kernel does not tell can be counted, for who may have a copy of a descriptor. */
static void count_populated(struct proc_memories *memories)
{
	struct proc_memory *memory;
	size_t i, n;
	int pidfd;

	for (i = 0; i < memories->count; i++) {
		memory = &memories->all[i];
		for (n = 0; n < memory->nr_open && !memory->counted; n++) {
			pidfd = runs_pidfd(memories->processes[memory->open[n].process].pid);
			if (pidfd < 0)
				continue;
			memory->counted = !runs_count_populated(pidfd, memory->open[n].fd,
								&memory->populated);
			close(pidfd);
		}
	}
}

/* --- in which order */

enum key { BY_PID, BY_SIZE, BY_PRIVATE, BY_SHARED, BY_POPULATED };

static const char *const keys[] = {"pid", "size", "private", "shared", "populated"};

static enum key parse_key(const char *text)
{
	size_t i;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(text, keys[i]))
			return (enum key)i;
	usage_error("--sort wants pid, size, private, shared or populated, not '%s'", text);
}

static enum key sorted_by;

/* What they are sorted by, or one more than that; 0 if it is not known. */
static uint64_t value_of(const struct proc_memory *memory)
{
	switch (sorted_by) {
	case BY_PRIVATE:
		return memory->told ? memory->private_bytes + 1 : 0;
	case BY_SHARED:
		return memory->told ? memory->shared_bytes + 1 : 0;
	case BY_POPULATED:
		return memory->counted ? memory->populated + 1 : 0;
	default:
		return memory->size;
	}
}

/* The largest first, what is not known last, and else as they were. */
static int by_value(const void *a, const void *b)
{
	const struct proc_memory *x = a, *y = b;
	const uint64_t x_value = value_of(x), y_value = value_of(y);

	if (x_value != y_value)
		return x_value > y_value ? -1 : 1;
	if (x->open[0].process != y->open[0].process)
		return x->open[0].process < y->open[0].process ? -1 : 1;
	return x->open[0].fd - y->open[0].fd;
}

/* --- for programs */

static void json_if(struct json *json, const char *key, bool known, uint64_t value)
{
	if (known)
		json_number(json, key, value);
	else
		json_null(json, key);
}

static void print_json_memory(struct json *json, const struct proc_memories *memories,
			      const struct proc_memory *memory)
{
	char node[16];
	size_t n;

	json_begin(json, NULL, '{');
	json_if(json, "inode", memory->inode, memory->inode);
	json_if(json, "size", memory->size, memory->size);
	json_if(json, "private", memory->told, memory->private_bytes);
	json_if(json, "shared", memory->told, memory->shared_bytes);
	json_if(json, "populated", memory->counted, memory->populated);
	if (memory->told) {
		json_begin(json, "nodes", '{');
		for (n = 0; n < memory->nr_nodes; n++) {
			snprintf(node, sizeof(node), "%u", memory->nodes[n].node);
			json_number(json, node, memory->nodes[n].bytes);
		}
		json_end(json, '}');
	} else {
		json_null(json, "nodes");
	}
	json_begin(json, "open", '[');
	for (n = 0; n < memory->nr_open; n++) {
		json_begin(json, NULL, '{');
		json_number(json, "pid",
			    (uint64_t)memories->processes[memory->open[n].process].pid);
		json_number(json, "fd", (uint64_t)memory->open[n].fd);
		json_end(json, '}');
	}
	json_end(json, ']');
	json_end(json, '}');
}

/* What is the same for all memory of a process is there once. */
static void print_json(const struct proc_memories *memories)
{
	struct json json = {.f = stdout};
	const struct proc_process *process;
	size_t i, n;

	json_begin(&json, NULL, '{');
	json_begin(&json, "memories", '[');
	for (i = 0; i < memories->count; i++)
		print_json_memory(&json, memories, &memories->all[i]);
	json_end(&json, ']');
	json_begin(&json, "processes", '[');
	for (i = 0; i < memories->nr_processes; i++) {
		process = &memories->processes[i];
		json_begin(&json, NULL, '{');
		json_number(&json, "pid", (uint64_t)process->pid);
		json_string(&json, "process", process->name);
		json_string(&json, "guest", process->guest[0] ? process->guest : NULL);
		json_begin(&json, "vm_fds", '[');
		for (n = 0; n < process->nr_vm_fds; n++)
			json_number(&json, NULL, (uint64_t)process->vm_fds[n]);
		json_end(&json, ']');
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_number(&json, "hidden_processes", memories->hidden);
	json_end(&json, '}');
}

/* --- for people */

static void name_vm(const struct proc_process *process, char *text, size_t room)
{
	if (process->guest[0])
		snprintf(text, room, "%s", process->guest);
	else if (process->nr_vm_fds == 1)
		snprintf(text, room, "fd %d", process->vm_fds[0]);
	else if (process->nr_vm_fds)
		snprintf(text, room, "1 of %zu", process->nr_vm_fds);
	else
		snprintf(text, room, "-");
	printable(text);
}

/* What a row begins with. */
struct row {
	char pid[16], fd[16], process[64], vm[64];
};

static void begin_row(struct row *row, const struct proc_memories *memories,
		      const struct proc_memory *memory)
{
	const struct proc_process *process = first_process(memories, memory);

	snprintf(row->pid, sizeof(row->pid), "%d", process->pid);
	snprintf(row->fd, sizeof(row->fd), "%d", memory->open[0].fd);
	strcpy(row->process, process->name);
	printable(row->process);
	name_vm(process, row->vm, sizeof(row->vm));
}

static const char *size_if(char text[SIZE_TEXT], bool known, uint64_t bytes)
{
	return known ? size_text(text, bytes) : "-";
}

static void print_row(const struct row *row, const struct proc_memory *memory, int process_width,
		      int vm_width)
{
	/* What is shared is what the host can read: that is what to look for. */
	const bool shared = memory->told && memory->shared_bytes;
	char text[4][SIZE_TEXT];
	size_t n;

	printf("%7s %4s  %-*s  %-*s  %7s  %7s  %s%7s%s  %9s ", row->pid, row->fd, process_width,
	       row->process, vm_width, row->vm, size_if(text[0], memory->size, memory->size),
	       size_if(text[1], memory->told, memory->private_bytes),
	       shared ? colour(stdout, YELLOW) : "",
	       size_if(text[2], memory->told, memory->shared_bytes),
	       shared ? colour(stdout, PLAIN) : "",
	       size_if(text[3], memory->counted, memory->populated));
	for (n = 0; n < memory->nr_nodes; n++)
		printf(" %u:%s", memory->nodes[n].node, size_text(text[0], memory->nodes[n].bytes));
	printf("%s", memory->nr_nodes ? "" : " -");
}

static void add_nodes(struct proc_memory *sum, const struct proc_memory *memory)
{
	size_t i, n;

	for (i = 0; i < memory->nr_nodes; i++) {
		for (n = 0; n < sum->nr_nodes && sum->nodes[n].node < memory->nodes[i].node; n++)
			;
		if (n == sum->nr_nodes || sum->nodes[n].node != memory->nodes[i].node) {
			sum->nodes = must_alloc(
				realloc(sum->nodes, (sum->nr_nodes + 1) * sizeof(*sum->nodes)));
			memmove(sum->nodes + n + 1, sum->nodes + n,
				(sum->nr_nodes++ - n) * sizeof(*sum->nodes));
			sum->nodes[n] = (struct node_bytes){memory->nodes[i].node, 0};
		}
		sum->nodes[n].bytes += memory->nodes[i].bytes;
	}
}

/* Of all; a sum of which a part is not known is not known. */
static void print_total(const struct proc_memories *memories, int process_width, int vm_width)
{
	static const struct row row = {"TOTAL", "", "", ""};
	struct proc_memory sum = {.told = true, .counted = true};
	const struct proc_memory *memory;
	bool sizes = true;
	size_t i;

	for (i = 0; i < memories->count; i++) {
		memory = &memories->all[i];
		sizes &= memory->size > 0;
		sum.size += memory->size;
		sum.told &= memory->told;
		sum.private_bytes += memory->private_bytes;
		sum.shared_bytes += memory->shared_bytes;
		sum.counted &= memory->counted;
		sum.populated += memory->populated;
		add_nodes(&sum, memory);
	}
	if (!sizes)
		sum.size = 0;
	if (!sum.told)
		sum.nr_nodes = 0;
	print_row(&row, &sum, process_width, vm_width);
	printf("\n");
	free(sum.nodes);
}

static void print_table(const struct proc_memories *memories, int pid)
{
	int process_width = 7, vm_width = 2;
	bool untold = false, uncounted = false;
	const struct proc_memory *memory;
	struct row row;
	size_t i, n;

	for (i = 0; i < memories->count; i++) {
		memory = &memories->all[i];
		begin_row(&row, memories, memory);
		if ((int)strlen(row.vm) > vm_width)
			vm_width = (int)strlen(row.vm);
		if ((int)strlen(row.process) > process_width)
			process_width = (int)strlen(row.process);
		untold |= !memory->told;
		uncounted |= !memory->counted;
	}
	if (memories->count)
		printf("%s%7s %4s  %-*s  %-*s  %7s  %7s  %7s  %9s  %s%s\n", colour(stdout, BOLD),
		       "PID", "FD", process_width, "PROCESS", vm_width, "VM", "SIZE", "PRIVATE",
		       "SHARED", "POPULATED", "NODES", colour(stdout, PLAIN));
	for (i = 0; i < memories->count; i++) {
		memory = &memories->all[i];
		begin_row(&row, memories, memory);
		print_row(&row, memory, process_width, vm_width);
		for (n = 1; n < memory->nr_open; n++)
			printf("%s%d:%d", n == 1 ? "  also " : " ",
			       memories->processes[memory->open[n].process].pid,
			       memory->open[n].fd);
		printf("\n");
	}
	if (memories->count > 1)
		print_total(memories, process_width, vm_width);
	fflush(stdout);
	if (!memories->count && pid)
		fprintf(stderr, "gmemctl: process %d has no guest_memfd.\n", pid);
	else if (!memories->count)
		fprintf(stderr, "gmemctl: no process %shas a guest_memfd.\n",
			memories->hidden ? "that can be inspected " : "");
	if (untold)
		fprintf(stderr, "gmemctl: this kernel does not report the values shown as '-': "
				"that needs gmem's series.\n");
	if (uncounted)
		fprintf(stderr, "gmemctl: what is populated could not be counted: that needs "
				"Linux 6.5, and permission to ptrace(2) the process.\n");
	if (memories->hidden)
		fprintf(stderr,
			"gmemctl: %zu process%s of other users cannot be inspected: run this as "
			"root.\n",
			memories->hidden, memories->hidden == 1 ? "" : "es");
}

/* --- the command */

static void scan(int pid, struct proc_memories *ret)
{
	int r;

	if (pid)
		close(runs_must_pidfd(pid));
	r = proc_scan("/proc", pid, ret);
	if (r == -ESRCH)
		fail("there is no process %d", pid);
	if (r < 0)
		fail("/proc: %s", strerror(-r));
	if (pid && ret->hidden)
		fail("process %d cannot be inspected: run this as root", pid);
}

int cmd_list(int argc, char **argv)
{
	static const struct option known[] = {{"json", no_argument, NULL, 'j'},
					      {"sort", required_argument, NULL, 's'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	struct proc_memories memories;
	const char *rest = "";
	bool json = false;
	int c, pid = 0;

	while ((c = next_option(argc, argv, known)) != -1) {
		switch (c) {
		case 'h':
			return usage();
		case 'j':
			json = true;
			break;
		case 's':
			sorted_by = parse_key(optarg);
			break;
		}
	}
	if (optind < argc)
		rest = proc_parse_number(argv[optind], 1, &pid);
	if (!rest || *rest)
		usage_error("list wants PID, not '%s'", argv[optind]);
	if (optind + 1 < argc)
		usage_error("list takes one PID, and no '%s'", argv[optind + 1]);
	scan(pid, &memories);
	count_populated(&memories);
	if (sorted_by != BY_PID && memories.count)
		qsort(memories.all, memories.count, sizeof(*memories.all), by_value);
	if (json)
		print_json(&memories);
	else
		print_table(&memories, pid);
	proc_free(&memories);
	return 0;
}

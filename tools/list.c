/* SPDX-License-Identifier: MIT */
/* gmemctl list: every guest_memfd that can be seen. */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "json.h"
#include "proc.h"

static void print_json(const struct proc_memories *memories)
{
	struct json json = {.f = stdout};
	const struct proc_memory *memory;
	char node[16];
	size_t i, n;

	json_begin(&json, NULL, '{');
	json_begin(&json, "memories", '[');
	for (i = 0; i < memories->count; i++) {
		memory = &memories->all[i];
		json_begin(&json, NULL, '{');
		json_number(&json, "pid", (uint64_t)memory->pid);
		json_number(&json, "fd", (uint64_t)memory->fd);
		json_string(&json, "process", memory->process);
		json_string(&json, "guest", memory->guest[0] ? memory->guest : NULL);
		json_begin(&json, "vm_fds", '[');
		for (n = 0; n < memory->nr_vm_fds; n++)
			json_number(&json, NULL, (uint64_t)memory->vm_fds[n]);
		json_end(&json, ']');
		if (memory->inode)
			json_number(&json, "inode", memory->inode);
		else
			json_null(&json, "inode");
		if (memory->size)
			json_number(&json, "size", memory->size);
		else
			json_null(&json, "size");
		if (memory->told) {
			json_number(&json, "private", memory->private_bytes);
			json_number(&json, "shared", memory->shared_bytes);
			json_number(&json, "populated", memory->populated);
			json_begin(&json, "nodes", '{');
			for (n = 0; n < memory->nr_nodes; n++) {
				snprintf(node, sizeof(node), "%u", memory->nodes[n].node);
				json_number(&json, node, memory->nodes[n].bytes);
			}
			json_end(&json, '}');
		} else {
			json_null(&json, "private");
			json_null(&json, "shared");
			json_null(&json, "populated");
			json_null(&json, "nodes");
		}
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_number(&json, "hidden_processes", memories->hidden);
	json_end(&json, '}');
}

static void name_vm(const struct proc_memory *memory, char *text, size_t room)
{
	if (memory->guest[0])
		snprintf(text, room, "%s", memory->guest);
	else if (memory->nr_vm_fds == 1)
		snprintf(text, room, "fd %d", memory->vm_fds[0]);
	else if (memory->nr_vm_fds)
		snprintf(text, room, "1 of %zu", memory->nr_vm_fds);
	else
		snprintf(text, room, "-");
	printable(text);
}

static void print_row(const struct proc_memory *memory, int process_width, int vm_width)
{
	char size[SIZE_TEXT], private[SIZE_TEXT] = "-", shared[SIZE_TEXT] = "-";
	char populated[SIZE_TEXT] = "-", node[SIZE_TEXT], process[64], vm[64];
	size_t n;

	strcpy(process, memory->process);
	printable(process);
	name_vm(memory, vm, sizeof(vm));
	size_text(size, memory->size);
	if (memory->told) {
		size_text(private, memory->private_bytes);
		size_text(shared, memory->shared_bytes);
		size_text(populated, memory->populated);
	}
	/* What is shared is what the host can read: that is what to look for. */
	printf("%7d %4d  %-*s  %-*s  %7s  %7s  %s%7s%s  %9s ", memory->pid, memory->fd,
	       process_width, process, vm_width, vm, memory->size ? size : "-", private,
	       memory->told && memory->shared_bytes ? colour(stdout, YELLOW) : "", shared,
	       memory->told && memory->shared_bytes ? colour(stdout, PLAIN) : "", populated);
	for (n = 0; n < memory->nr_nodes; n++)
		printf(" %u:%s", memory->nodes[n].node, size_text(node, memory->nodes[n].bytes));
	printf("%s\n", memory->nr_nodes ? "" : " -");
}

static void print_table(const struct proc_memories *memories)
{
	int process_width = 7, vm_width = 2;
	bool untold = false;
	char vm[64];
	size_t i;

	for (i = 0; i < memories->count; i++) {
		name_vm(&memories->all[i], vm, sizeof(vm));
		if ((int)strlen(vm) > vm_width)
			vm_width = (int)strlen(vm);
		if ((int)strlen(memories->all[i].process) > process_width)
			process_width = (int)strlen(memories->all[i].process);
		untold |= !memories->all[i].told;
	}
	if (memories->count)
		printf("%s%7s %4s  %-*s  %-*s  %7s  %7s  %7s  %9s  %s%s\n", colour(stdout, BOLD),
		       "PID", "FD", process_width, "PROCESS", vm_width, "VM", "SIZE", "PRIVATE",
		       "SHARED", "POPULATED", "NODES", colour(stdout, PLAIN));
	for (i = 0; i < memories->count; i++)
		print_row(&memories->all[i], process_width, vm_width);
	fflush(stdout);
	if (!memories->count)
		fprintf(stderr, "gmemctl: no process %shas a guest_memfd.\n",
			memories->hidden ? "that can be inspected " : "");
	if (untold)
		fprintf(stderr, "gmemctl: this kernel does not report the values shown as '-': "
				"that needs gmem's series.\n");
	if (memories->hidden)
		fprintf(stderr,
			"gmemctl: %zu process%s of other users cannot be inspected: run this as "
			"root.\n",
			memories->hidden, memories->hidden == 1 ? "" : "es");
}

int cmd_list(int argc, char **argv)
{
	static const struct option known[] = {{"json", no_argument, NULL, 'j'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	struct proc_memories memories;
	bool json = false;
	int c, r;

	while ((c = next_option(argc, argv, known)) != -1) {
		if (c == 'h')
			return usage();
		json = true;
	}
	if (optind < argc)
		usage_error("list takes no '%s'", argv[optind]);
	r = proc_scan("/proc", 0, &memories);
	if (r < 0)
		fail("/proc: %s", strerror(-r));
	if (json)
		print_json(&memories);
	else
		print_table(&memories);
	proc_free(&memories);
	return 0;
}

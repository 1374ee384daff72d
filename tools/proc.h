/* SPDX-License-Identifier: MIT */
#ifndef PROC_H
#define PROC_H

/* The guest_memfds of this host, as /proc tells of them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct node_bytes {
	unsigned int node;
	uint64_t bytes;
};

/* A process that has guest memory. */
struct proc_process {
	int pid;
	char name[64];	/* as the kernel has it in comm */
	char guest[64]; /* as QEMU was told to call it; "" if it was not */
	int *vm_fds;	/* its VMs; which memory is of which is not told */
	size_t nr_vm_fds;
};

/* A descriptor of a memory. */
struct proc_open {
	size_t process; /* which of proc_memories.processes has it */
	int fd;
};

/* A guest_memfd, however often it is open. */
struct proc_memory {
	struct proc_open *open; /* at least one; by process, then by descriptor */
	size_t nr_open;
	uint64_t inode; /* 0: not told */
	uint64_t size;	/* 0: not told */
	/* The rest is told by gmem's kernel alone. */
	bool told;
	uint64_t private_bytes, shared_bytes;
	struct node_bytes *nodes;
	size_t nr_nodes;
	bool counted; /* populated is known: it was told, or counted otherwise */
	uint64_t populated;
};

struct proc_memories {
	struct proc_memory *all; /* by the first that has it open */
	size_t count;
	struct proc_process *processes; /* by number */
	size_t nr_processes;
	size_t hidden; /* processes that may not be looked at */
};

/*
 * All of the processes below root ("/proc"), or those of pid, if that is not 0. A negative
 * errno if root cannot be read, -ESRCH if there is no such process; processes that end
 * meanwhile are not there.
 */
int proc_scan(const char *root, int pid, struct proc_memories *ret);
void proc_free(struct proc_memories *memories);

/* The number at the beginning of text, from least to INT_MAX: what follows it, or NULL. */
const char *proc_parse_number(const char *text, int least, int *ret);

/* Whether the target of a link in /proc/PID/fd is that of a guest_memfd; path is the link. */
bool proc_is_gmem(const char *target, const char *path);

#endif

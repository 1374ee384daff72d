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

/* A guest_memfd that a process has open. */
struct proc_memory {
	int pid, fd;
	char process[64]; /* as the kernel has it in comm */
	char guest[64];	  /* as QEMU was told to call it; "" if it was not */
	int *vm_fds;	  /* the VMs of the process; which of them it is of is not told */
	size_t nr_vm_fds;
	uint64_t inode; /* the same for the same memory; 0: not told */
	uint64_t size;	/* 0: not told */
	/* The rest is told by gmem's kernel alone. */
	bool told;
	uint64_t private_bytes, shared_bytes, populated;
	struct node_bytes *nodes;
	size_t nr_nodes;
};

struct proc_memories {
	struct proc_memory *all; /* by process, then by descriptor */
	size_t count;
	size_t hidden; /* processes that may not be looked at */
};

/*
 * All of the processes below root ("/proc"), or those of pid, if that is not 0. A negative
 * errno if root cannot be read; processes that end meanwhile are not there.
 */
int proc_scan(const char *root, int pid, struct proc_memories *ret);
void proc_free(struct proc_memories *memories);

/* Whether the target of a link in /proc/PID/fd is that of a guest_memfd; path is the link. */
bool proc_is_gmem(const char *target, const char *path);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef RUNS_H
#define RUNS_H

/* What is where in the memory of another process. */

#include <stddef.h>
#include <stdint.h>
#include <linux/kvm_gmem.h>

struct runs {
	struct kvm_gmem_range *all; /* cut where the state, the node or what is populated changes */
	size_t count;
	uint64_t size; /* of the memory */
	uint64_t private_bytes, populated;
};

/* A descriptor that stands for the process, whoever gets its number later; or an errno. */
int runs_pidfd(int pid);
/* The same; fails, and says why, if there is none. */
int runs_must_pidfd(int pid);

/*
 * The runs of descriptor fd of that process; a negative errno: -ESRCH, it ended; -EBADF,
 * it has no such descriptor; -EPERM, it may not be looked at; -ENOTTY, it is a guest_memfd
 * that the kernel does not tell about; -EMEDIUMTYPE, it is none.
 */
int runs_read(int pidfd, int fd, struct runs *ret);
void runs_free(struct runs *runs);

/* How much of it has memory, which kernels since 6.5 count; errors as those of runs_read(). */
int runs_count_populated(int pidfd, int fd, uint64_t *ret);

/* How much of a part has memory, on that node, or on any if it is negative. */
uint64_t runs_populated(const struct runs *runs, int node, uint64_t offset, uint64_t bytes);

/* The run that offset, which is below size, is in. */
const struct kvm_gmem_range *runs_find(const struct runs *runs, uint64_t offset);

#endif

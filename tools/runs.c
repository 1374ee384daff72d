/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl.h"
#include "proc.h"
#include "runs.h"

#define STEP 1024 /* runs a call */

/* cachestat(2), of which not every C library knows. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct cached_range {
	uint64_t offset, length; /* 0: all that follows */
};
struct cached {
	uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

int runs_pidfd(int pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int)fd;
}

int runs_must_pidfd(int pid)
{
	int pidfd = runs_pidfd(pid);

	if (pidfd == -ESRCH)
		fail("there is no process %d", pid);
	if (pidfd == -EINVAL || pidfd == -ENOENT)
		fail("%d is a thread, not a process", pid);
	if (pidfd < 0)
		fail("process %d: %s", pid, strerror(-pidfd));
	return pidfd;
}

static int is_gmem(int fd)
{
	char path[64], target[64];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return -errno;
	target[length] = 0;
	return proc_is_gmem(target, path);
}

static int read_all(int fd, struct runs *ret)
{
	struct kvm_gmem_get_ranges get = {.flags = KVM_GMEM_RANGES_BY_NODE, .size = ret->size};
	size_t room = 0, i;

	while (get.size) {
		if (room - ret->count < STEP) {
			room = room ? 2 * room : 2 * STEP;
			ret->all = must_alloc(realloc(ret->all, room * sizeof(*ret->all)));
		}
		get.ranges = (uintptr_t)(ret->all + ret->count);
		get.nr = STEP;
		if (ioctl(fd, KVM_GMEM_GET_RANGES, &get) < 0)
			return -errno;
		if (!get.nr && get.size)
			return -EIO;
		ret->count += get.nr;
	}
	for (i = 0; i < ret->count; i++) {
		if (ret->all[i].flags & KVM_GMEM_RANGE_PRIVATE)
			ret->private_bytes += ret->all[i].size;
		ret->populated += ret->all[i].populated;
	}
	return 0;
}

/*
 * /proc/PID/fd/N cannot be opened, as there is no way to open a guest_memfd anew. The copy
 * keeps the memory from being freed, so it is not kept longer than needed.
 */
static int copy_of(int pidfd, int fd)
{
	long copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	int r;

	if (copy < 0)
		return -errno;
	/* By now the number may stand for something else. */
	r = is_gmem((int)copy);
	if (r > 0)
		return (int)copy;
	close((int)copy);
	return r ? r : -EMEDIUMTYPE;
}

int runs_read(int pidfd, int fd, struct runs *ret)
{
	int copy = copy_of(pidfd, fd), r;
	struct stat stat;

	*ret = (struct runs){0};
	if (copy < 0)
		return copy;
	r = fstat(copy, &stat) < 0 ? -errno : 0;
	if (!r) {
		ret->size = (uint64_t)stat.st_size;
		r = read_all(copy, ret);
	}
	close(copy);
	if (r < 0)
		runs_free(ret);
	return r;
}

int runs_count_populated(int pidfd, int fd, uint64_t *ret)
{
	struct cached_range all = {0};
	struct cached cached;
	int copy = copy_of(pidfd, fd), r;

	if (copy < 0)
		return copy;
	r = syscall(SYS_cachestat, copy, &all, &cached, 0) < 0 ? -errno : 0;
	close(copy);
	if (!r)
		*ret = cached.cached * (uint64_t)sysconf(_SC_PAGESIZE);
	return r;
}

void runs_free(struct runs *runs)
{
	free(runs->all);
	*runs = (struct runs){0};
}

const struct kvm_gmem_range *runs_find(const struct runs *runs, uint64_t offset)
{
	size_t low = 0, high = runs->count, middle;

	while (high - low > 1) {
		middle = low + (high - low) / 2;
		if (runs->all[middle].offset <= offset)
			low = middle;
		else
			high = middle;
	}
	return &runs->all[low];
}

uint64_t runs_populated(const struct runs *runs, int node, uint64_t offset, uint64_t bytes)
{
	const uint64_t end = offset + bytes;
	const struct kvm_gmem_range *run = runs_find(runs, offset);
	uint64_t sum = 0, from, to;

	for (; run < runs->all + runs->count && run->offset < end; run++) {
		/* Such a run has memory everywhere, or nowhere. */
		if (!run->populated || (node >= 0 && run->node != node))
			continue;
		from = run->offset > offset ? run->offset : offset;
		to = run->offset + run->size < end ? run->offset + run->size : end;
		sum += to - from;
	}
	return sum;
}

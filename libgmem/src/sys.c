/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * All system calls of the library. syscalls.list has those of each function.
 */
#include <fcntl.h>
#include <numaif.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

/* Newer than some C libraries. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static int result(long r)
{
	return r < 0 ? -errno : (int)r;
}

static int real_ioctl(int fd, unsigned long request, void *arg)
{
	return result(ioctl(fd, request, arg));
}

static int real_close(int fd)
{
	return result(close(fd));
}

static int real_set_cloexec(int fd)
{
	return result(fcntl(fd, F_SETFD, FD_CLOEXEC));
}

static int real_memfd_create(const char *name, unsigned int flags)
{
	return result(memfd_create(name, MFD_CLOEXEC | flags));
}

static int real_ftruncate(int fd, uint64_t bytes)
{
	return result(ftruncate(fd, (off_t)bytes));
}

static int real_add_seals(int fd, int seals)
{
	return result(fcntl(fd, F_ADD_SEALS, seals));
}

static int real_allocated(int fd, uint64_t *bytes)
{
	struct stat stat;

	if (fstat(fd, &stat))
		return -errno;
	*bytes = (uint64_t)stat.st_blocks * 512;
	return 0;
}

static int real_fallocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
	return result(fallocate(fd, mode, (off_t)offset, (off_t)bytes));
}

static int real_mmap(int fd, uint64_t offset, size_t bytes, int prot, void **address)
{
	void *map = mmap(NULL, bytes, prot, MAP_SHARED, fd, (off_t)offset);

	if (map == MAP_FAILED)
		return -errno;
	*address = map;
	return 0;
}

static int real_munmap(void *address, size_t bytes)
{
	return result(munmap(address, bytes));
}

static int real_madvise(void *address, size_t bytes, int advice)
{
	return result(madvise(address, bytes, advice));
}

/* The kernel counts the bits of a mask one short. */
static int real_mbind(void *address, size_t bytes, int mode, const unsigned long *nodes,
		      unsigned long max)
{
	return result(syscall(SYS_mbind, address, bytes, mode, nodes, nodes ? max + 1 : 0, 0));
}

static int real_get_mempolicy(int *mode, unsigned long *nodes, unsigned long max, void *address,
			      unsigned long flags)
{
	return result(syscall(SYS_get_mempolicy, mode, nodes, nodes ? max + 1 : 0, address, flags));
}

static int real_set_mempolicy(int mode, const unsigned long *nodes, unsigned long max)
{
	return result(syscall(SYS_set_mempolicy, mode, nodes, nodes ? max + 1 : 0));
}

static int real_page_nodes(void **pages, unsigned long count, int *nodes)
{
	return result(syscall(SYS_move_pages, 0, count, pages, NULL, nodes, 0));
}

static int real_cachestat(int fd, uint64_t offset, uint64_t bytes, uint64_t *pages)
{
	struct {
		uint64_t off, len;
	} range = {offset, bytes};
	struct {
		uint64_t cache, dirty, writeback, evicted, recently_evicted;
	} stat;
	long r = syscall(SYS_cachestat, fd, &range, &stat, 0);

	if (r < 0)
		return -errno;
	*pages = stat.cache;
	return 0;
}

static uint64_t real_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Until a moment, which a signal does not make an earlier one. */
static void real_pause(uint64_t ns)
{
	const uint64_t end = real_now() + ns;
	const struct timespec time = {(time_t)(end / 1000000000), (long)(end % 1000000000)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
		;
}

const struct gmem_sys gmem_sys_real = {
	.ioctl = real_ioctl,
	.close = real_close,
	.set_cloexec = real_set_cloexec,
	.memfd_create = real_memfd_create,
	.ftruncate = real_ftruncate,
	.add_seals = real_add_seals,
	.allocated = real_allocated,
	.fallocate = real_fallocate,
	.mmap = real_mmap,
	.munmap = real_munmap,
	.madvise = real_madvise,
	.mbind = real_mbind,
	.get_mempolicy = real_get_mempolicy,
	.set_mempolicy = real_set_mempolicy,
	.page_nodes = real_page_nodes,
	.cachestat = real_cachestat,
	.now = real_now,
	.pause = real_pause,
	.alloc = calloc,
	.release = free,
};

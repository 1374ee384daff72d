/* SPDX-License-Identifier: MIT */
/* Functions of the C library that fail as a test wants it, and system calls that it answers. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "expect.h"
#include "proc.h"
#include "unit.h"

struct fake fake;

static bool fails(const char *name)
{
	if (!fake.failing || strcmp(name, fake.failing))
		return false;
	errno = fake.failing_error;
	return true;
}

/* FUNCTION is linked as __wrap_FUNCTION, see meson.build. */
#define REAL(type, name, ...)                                                                      \
	type __real_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

REAL(int, rename, const char *from, const char *to)
{
	return fails("rename") ? -1 : __real_rename(from, to);
}

REAL(int, fchmod, int fd, mode_t mode)
{
	return fails("fchmod") ? -1 : __real_fchmod(fd, mode);
}

REAL(int, mkstemp, char *path)
{
	return fails("mkstemp") ? -1 : __real_mkstemp(path);
}

#ifdef __GLIBC__ /* which calls it so, where files can be large */
REAL(int, mkstemp64, char *path)
{
	return fails("mkstemp") ? -1 : __real_mkstemp64(path);
}
#endif

REAL(FILE *, fdopen, int fd, const char *mode)
{
	return fails("fdopen") ? NULL : __real_fdopen(fd, mode);
}

REAL(int, access, const char *path, int mode)
{
	return fails("access") ? -1 : __real_access(path, mode);
}

REAL(int, fclose, FILE *f)
{
	int r = __real_fclose(f);

	return fails("fclose") ? EOF : r;
}

int __wrap_asprintf(char **ret, const char *format, ...);
int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list args;
	int r;

	if (fails("asprintf"))
		return -1;
	va_start(args, format);
	r = vasprintf(ret, format, args);
	va_end(args);
	return r;
}

/* --- /proc */

static const char *translated(const char *path)
{
	return strncmp(path, "/proc/", 6) ? path : in_root(path + 6);
}

REAL(int, lstat, const char *path, struct stat *ret)
{
	return __real_lstat(translated(path), ret);
}

#ifdef __GLIBC__
REAL(int, lstat64, const char *path, struct stat *ret)
{
	return __real_lstat64(translated(path), ret);
}
#endif

REAL(int, proc_scan, const char *where, int pid, struct proc_memories *ret)
{
	return fails("proc_scan")
		       ? -errno
		       : __real_proc_scan(strcmp(where, "/proc") ? where : root, pid, ret);
}

REAL(ssize_t, readlink, const char *path, char *ret, size_t room)
{
	if (strncmp(path, "/proc/self/fd/", 14))
		return __real_readlink(path, ret, room);
	if (fails("readlink"))
		return -1;
	memset(ret, 'x', room);
	memcpy(ret, fake.target, strlen(fake.target));
	return (ssize_t)strlen(fake.target);
}

/* --- the terminal, and time */

REAL(int, isatty, int fd)
{
	if (!fake.tty || fd != STDOUT_FILENO)
		errno = ENOTTY;
	return fake.tty && fd == STDOUT_FILENO;
}

REAL(int, nanosleep, const struct timespec *time, struct timespec *left)
{
	const struct timespec all = *time; /* which may be what left points to */

	CHECK(all.tv_nsec >= 0 && all.tv_nsec < 1000000000);
	CHECK(!__fpending(stdout)); /* what was shown is to be seen meanwhile */
	fake.slept += (double)all.tv_sec + (double)all.tv_nsec / 1e9;
	if (!fails("nanosleep"))
		return 0;
	/* It fails once, half way. */
	fake.failing = NULL;
	*left = (struct timespec){all.tv_sec / 2, all.tv_nsec / 2};
	fake.slept -= (double)left->tv_sec + (double)left->tv_nsec / 1e9;
	return -1;
}

int __wrap_uname(struct utsname *ret);
int __wrap_uname(struct utsname *ret)
{
	strcpy(ret->release, "6.12-test");
	return 0;
}

/* --- guest_memfds */

void make_memory(uint64_t size)
{
	make("memory", "", 0);
	CHECK(!truncate(in_root("memory"), (off_t)size));
}

static int answer(int error, int value)
{
	errno = error ? error : ESTALE; /* it says nothing where it works */
	return error ? -1 : value;
}

long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list args;
	long a[4];
	int i;

	va_start(args, number);
	for (i = 0; i < (number == SYS_pidfd_open ? 2 : number == SYS_pidfd_getfd ? 3 : 4); i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_pidfd_open) {
		fake.pid = (int)a[0];
		CHECK(!(int)a[1]);
		return fake.pidfd_error ? answer(fake.pidfd_error, 0)
					: open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (number == SYS_pidfd_getfd) {
		fake.fd = (int)a[1];
		CHECK(!(int)a[2]);
		if (fake.getfd_error_once) {
			i = fake.getfd_error_once;
			fake.getfd_error_once = 0;
			return answer(i, 0);
		}
		if (fake.gone_after && fake.copies == fake.gone_after)
			return answer(fake.gone_error, 0);
		fake.copies++;
		return fake.getfd_error ? answer(fake.getfd_error, 0)
					: open(in_root("memory"), O_RDONLY | O_CLOEXEC);
	}
	CHECK(number == 451); /* cachestat(fd, range, ret, flags) */
	CHECK(!((uint64_t *)a[1])[0] && !((uint64_t *)a[1])[1] && !(int)a[3]);
	memset((void *)a[2], 0x55, 5 * sizeof(uint64_t));
	((uint64_t *)a[2])[0] = fake.cached;
	return answer(fake.cachestat_error, 0);
}

/* As KVM_GMEM_GET_RANGES: what was told is taken from what is asked. */
static int get_ranges(struct kvm_gmem_get_ranges *get)
{
	struct kvm_gmem_range *ret = (struct kvm_gmem_range *)(uintptr_t)get->ranges;
	uint32_t count = 0;
	size_t i;

	CHECK(get->flags == KVM_GMEM_RANGES_BY_NODE && get->nr);
	for (i = 0; i < sizeof(get->reserved) / sizeof(get->reserved[0]); i++)
		CHECK(!get->reserved[i]);
	for (i = 0; i < fake.nr_ranges && count < get->nr && count < fake.at_once; i++) {
		if (fake.ranges[i].offset < get->offset)
			continue;
		ret[count++] = fake.ranges[i];
		get->offset += fake.ranges[i].size;
		get->size -= fake.ranges[i].size;
	}
	get->nr = count;
	return answer(fake.ranges_error, 0);
}

int __wrap_ioctl(int fd, unsigned long number, void *argument);
int __wrap_ioctl(int fd, unsigned long number, void *argument)
{
	(void)fd;
	if (number == TIOCGWINSZ) {
		*(struct winsize *)argument = (struct winsize){.ws_row = fake.rows};
		return answer(fake.tty ? 0 : ENOTTY, 0);
	}
	CHECK(number == KVM_GMEM_GET_RANGES);
	return get_ranges(argument);
}

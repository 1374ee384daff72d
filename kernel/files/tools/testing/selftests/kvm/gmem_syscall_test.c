// SPDX-License-Identifier: GPL-2.0-only
/*
 * What every system call answers that takes a file or a mapping: one table, for
 * a guest_memfd that is private, shared, frozen, or was created without MMAP.
 *
 * Whatever the answer: contents, state and population stay as they were, the
 * guest goes on in its memory, and no byte of private memory comes out.  The
 * kernel's log is for whoever runs the test to look at.
 *
 * Calls that hold pages are in gmem_pin_test, those that break them in
 * gmem_poison_test, those that place them in gmem_numa_test.
 */
#include <linux/stddef.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "gmem_util.h"
#include "kvm_test_harness.h"

#define NR_PAGES	4
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)
#define SEED		3

#define KSM		"/sys/kernel/mm/ksm/run"
#define THP		"/sys/kernel/mm/transparent_hugepage/enabled"
#define SWAPS		"/proc/swaps"
#define POISON		"/sys/kernel/debug/hwpoison"

#ifndef __NR_cachestat
#define __NR_cachestat	451
#endif
#ifndef __NR_mseal
#define __NR_mseal	462
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif

enum { PRIVATE, SHARED, FROZEN, UNMAPPABLE, NR_KINDS };

/* The memory under test, and what calls put their results into. */
struct ctx {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	int kind;
	int fd;
	void *mem;		/* its mapping; NULL if there can be none */
	void *buf;		/* a page of ordinary memory */
	int pipe[2];
	int file;		/* an ordinary file of one page */
};

struct row {
	const char *name;
	long (*fn)(struct ctx *c);
	/*
	 * 0 or more, or the negative errno; for files without a mapping only
	 * where it is not about the mapping.
	 */
	long answer[NR_KINDS];
	bool map;		/* it is about the mapping */
	bool changes;		/* where it succeeds, it is to change the memory */
	const char *needs;	/* a file without which the kernel lacks this */
};

/* What a row returns where the kernel was built without what it is about. */
#define LACKING		LONG_MIN

/* What a call returned: 0 or more, or the negative errno. */
static long result(long r)
{
	return r < 0 ? -errno : r;
}

/* For those that return a new descriptor. */
static long opened(long r)
{
	if (r < 0)
		return -errno;
	close(r);
	return 0;
}

#define ROW_FN(name, expr)						\
	static long name(struct ctx *c) { return expr; }

/* Reading and writing. */
static struct iovec ctx_iov(void *base)
{
	return (struct iovec) { base, PAGE_SIZE };
}

ROW_FN(do_read, result(read(c->fd, c->buf, PAGE_SIZE)))
ROW_FN(do_write, result(write(c->fd, c->buf, PAGE_SIZE)))
ROW_FN(do_pread, result(pread(c->fd, c->buf, PAGE_SIZE, 0)))
ROW_FN(do_pwrite, result(pwrite(c->fd, c->buf, PAGE_SIZE, 0)))

static long do_preadv2(struct ctx *c)
{
	struct iovec iov = ctx_iov(c->buf);

	return result(preadv2(c->fd, &iov, 1, 0, RWF_NOWAIT));
}

static long do_pwritev2(struct ctx *c)
{
	struct iovec iov = ctx_iov(c->buf);

	return result(pwritev2(c->fd, &iov, 1, 0, RWF_APPEND));
}

ROW_FN(do_readahead, result(readahead(c->fd, 0, SIZE)))
ROW_FN(do_splice_out, result(splice(c->fd, NULL, c->pipe[1], NULL, PAGE_SIZE,
				    SPLICE_F_NONBLOCK)))

/* With something in the pipe, and nothing in it afterwards. */
static long from_pipe(struct ctx *c, ssize_t (*fn)(struct ctx *c))
{
	ssize_t r;

	TEST_ASSERT_EQ(write(c->pipe[1], c->buf, PAGE_SIZE), (ssize_t)PAGE_SIZE);
	r = result(fn(c));
	TEST_ASSERT_EQ(read(c->pipe[0], c->buf, PAGE_SIZE),
		       (ssize_t)PAGE_SIZE - (r > 0 ? r : 0));
	return r;
}

static ssize_t __splice_in(struct ctx *c)
{
	return splice(c->pipe[0], NULL, c->fd, NULL, PAGE_SIZE, SPLICE_F_NONBLOCK);
}

static ssize_t __tee(struct ctx *c)
{
	return tee(c->pipe[0], c->fd, PAGE_SIZE, SPLICE_F_NONBLOCK);
}

ROW_FN(do_splice_in, from_pipe(c, __splice_in))
ROW_FN(do_tee, from_pipe(c, __tee))
ROW_FN(do_sendfile_out, result(sendfile(c->pipe[1], c->fd, NULL, PAGE_SIZE)))
ROW_FN(do_sendfile_in, result(sendfile(c->fd, c->file, NULL, PAGE_SIZE)))
ROW_FN(do_copy_out, result(copy_file_range(c->fd, NULL, c->file, NULL,
					   PAGE_SIZE, 0)))
ROW_FN(do_copy_in, result(copy_file_range(c->file, NULL, c->fd, NULL,
					  PAGE_SIZE, 0)))
ROW_FN(do_copy_self, result(copy_file_range(c->fd, &(loff_t){ 0 }, c->fd,
					    &(loff_t){ PAGE_SIZE }, PAGE_SIZE,
					    0)))

/* One request, waited for: the result that a system call would have. */
static long uring(struct ctx *c, struct io_uring_sqe *sqe)
{
	struct io_uring_params p = { .flags = IORING_SETUP_NO_SQARRAY };
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqe;
	void *ring;
	int fd, r;

	fd = syscall(__NR_io_uring_setup, 1, &p);
	TEST_ASSERT(fd >= 0, "io_uring_setup: %s", strerror(errno));
	ring = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    IORING_OFF_SQ_RING);
	sqes = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    IORING_OFF_SQES);
	TEST_ASSERT(ring != MAP_FAILED && sqes != MAP_FAILED, "io_uring: %s",
		    strerror(errno));
	*sqes = *sqe;
	WRITE_ONCE(*(uint32_t *)(ring + p.sq_off.tail), 1);
	r = syscall(__NR_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS, NULL,
		    0);
	TEST_ASSERT(r == 1, "io_uring_enter: %s", strerror(errno));
	cqe = ring + p.cq_off.cqes;
	r = READ_ONCE(cqe->res);
	munmap(sqes, PAGE_SIZE);
	munmap(ring, PAGE_SIZE);
	close(fd);
	return r;
}

ROW_FN(do_uring_read, uring(c, &(struct io_uring_sqe) {
	.opcode = IORING_OP_READ, .fd = c->fd, .addr = (uintptr_t)c->buf,
	.len = PAGE_SIZE }))
ROW_FN(do_uring_write, uring(c, &(struct io_uring_sqe) {
	.opcode = IORING_OP_WRITE, .fd = c->fd, .addr = (uintptr_t)c->buf,
	.len = PAGE_SIZE }))
ROW_FN(do_uring_madvise, uring(c, &(struct io_uring_sqe) {
	.opcode = IORING_OP_MADVISE, .fd = -1, .addr = (uintptr_t)c->mem,
	.len = SIZE, .fadvise_advice = MADV_DONTNEED }))

/* The inode. */
ROW_FN(do_truncate_0, result(ftruncate(c->fd, 0)))
ROW_FN(do_truncate_same, result(ftruncate(c->fd, SIZE)))
ROW_FN(do_truncate_more, result(ftruncate(c->fd, 2 * SIZE)))
ROW_FN(do_fchmod, result(fchmod(c->fd, 0777)))
ROW_FN(do_fchown, result(fchown(c->fd, 1, 1)))
ROW_FN(do_fchown_none, result(fchown(c->fd, -1, -1)))
ROW_FN(do_futimens, result(futimens(c->fd, NULL)))
ROW_FN(do_xattr_user, result(fsetxattr(c->fd, "user.gmem", "x", 1, 0)))
ROW_FN(do_xattr_trusted, result(fsetxattr(c->fd, "trusted.gmem", "x", 1, 0)))
ROW_FN(do_xattr_security, result(fsetxattr(c->fd, "security.gmem", "x", 1, 0)))
ROW_FN(do_xattr_acl, result(fsetxattr(c->fd, "system.posix_acl_access",
				      "\2\0\0\0", 4, 0)))
ROW_FN(do_getxattr, result(fgetxattr(c->fd, "user.gmem", c->buf, PAGE_SIZE)))
ROW_FN(do_removexattr, result(fremovexattr(c->fd, "user.gmem")))

/* The file. */
static long lock(struct ctx *c, int cmd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };
	long r = result(fcntl(c->fd, cmd, &lock));

	if (!r) {
		lock.l_type = F_UNLCK;
		r = result(fcntl(c->fd, cmd, &lock));
	}
	return r;
}

static long lease(struct ctx *c, int type)
{
	long r = result(fcntl(c->fd, F_SETLEASE, type));

	return r ?: result(fcntl(c->fd, F_SETLEASE, F_UNLCK));
}

static long set_flags(struct ctx *c, int flags)
{
	int old = fcntl(c->fd, F_GETFL);
	long r = result(fcntl(c->fd, F_SETFL, old | flags));

	fcntl(c->fd, F_SETFL, old);
	return r;
}

ROW_FN(do_flock, result(flock(c->fd, LOCK_EX | LOCK_NB)) ?:
		 result(flock(c->fd, LOCK_UN)))
ROW_FN(do_posix_rdlock, lock(c, F_SETLK, F_RDLCK))
ROW_FN(do_posix_wrlock, lock(c, F_SETLK, F_WRLCK))
ROW_FN(do_ofd_wrlock, lock(c, F_OFD_SETLK, F_WRLCK))
ROW_FN(do_lease_read, lease(c, F_RDLCK))
ROW_FN(do_lease_write, lease(c, F_WRLCK))
ROW_FN(do_add_seals, result(fcntl(c->fd, F_ADD_SEALS, F_SEAL_WRITE)))
ROW_FN(do_get_seals, result(fcntl(c->fd, F_GET_SEALS)))
ROW_FN(do_o_direct, set_flags(c, O_DIRECT))
ROW_FN(do_o_append, set_flags(c, O_APPEND))
ROW_FN(do_o_async, set_flags(c, O_ASYNC))
ROW_FN(do_pipe_size, result(fcntl(c->fd, F_SETPIPE_SZ, PAGE_SIZE)))
ROW_FN(do_notify, result(fcntl(c->fd, F_NOTIFY, DN_MODIFY)))
ROW_FN(do_fsync, result(fsync(c->fd)))
ROW_FN(do_fdatasync, result(fdatasync(c->fd)))

static long do_syncfs(struct ctx *c)
{
	/*
	 * A page that failed in any file on the same superblock, in another
	 * test for one, is an error that the first who asks is told of.
	 */
	syncfs(c->fd);
	return result(syncfs(c->fd));
}

ROW_FN(do_sync_range, result(sync_file_range(c->fd, 0, SIZE,
					     SYNC_FILE_RANGE_WRITE |
					     SYNC_FILE_RANGE_WAIT_AFTER)))

static long fadvise(struct ctx *c, int advice)
{
	return -posix_fadvise(c->fd, 0, SIZE, advice);
}

ROW_FN(do_fadv_normal, fadvise(c, POSIX_FADV_NORMAL))
ROW_FN(do_fadv_willneed, fadvise(c, POSIX_FADV_WILLNEED))
ROW_FN(do_fadv_dontneed, fadvise(c, POSIX_FADV_DONTNEED))
ROW_FN(do_fadv_noreuse, fadvise(c, POSIX_FADV_NOREUSE))

static long do_poll(struct ctx *c)
{
	struct pollfd pfd = { .fd = c->fd, .events = POLLIN };

	return result(poll(&pfd, 1, 0));
}

static long do_epoll(struct ctx *c)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(0);
	long r = result(epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event));

	close(epoll);
	return r;
}

/* By its name in /proc. */
static const char *proc_path(struct ctx *c)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", c->fd);
	return path;
}

static long do_inotify(struct ctx *c)
{
	int fd = inotify_init();
	long r = result(inotify_add_watch(fd, proc_path(c), IN_MODIFY | IN_ACCESS));

	close(fd);
	return r < 0 ? r : 0;
}

static long do_name_to_handle(struct ctx *c)
{
	struct file_handle *handle = c->buf;
	int mount;

	handle->handle_bytes = MAX_HANDLE_SZ;
	return result(name_to_handle_at(c->fd, "", handle, &mount, AT_EMPTY_PATH));
}

static long do_execveat(struct ctx *c)
{
	static char *const none[] = { NULL };

	return result(syscall(__NR_execveat, c->fd, "", none, none, AT_EMPTY_PATH));
}

ROW_FN(do_reopen, opened(open(proc_path(c), O_RDWR)))
ROW_FN(do_reopen_read, opened(open(proc_path(c), O_RDONLY)))
ROW_FN(do_truncate_path, result(truncate(proc_path(c), 0)))
ROW_FN(do_swapon, result(syscall(__NR_swapon, proc_path(c), 0)))
ROW_FN(do_linkat, result(linkat(c->fd, "", AT_FDCWD, "/dev/shm/gmem",
				AT_EMPTY_PATH)))
ROW_FN(do_fchdir, result(fchdir(c->fd)))
ROW_FN(do_getdents, result(syscall(__NR_getdents64, c->fd, c->buf, PAGE_SIZE)))
ROW_FN(do_open_tree, opened(syscall(__NR_open_tree, c->fd, "",
				    AT_EMPTY_PATH | 1 /* OPEN_TREE_CLONE */)))
ROW_FN(do_readlink, result(readlinkat(c->fd, "", c->buf, PAGE_SIZE)))

static long do_fstatfs(struct ctx *c)
{
	struct statfs fs;

	return result(fstatfs(c->fd, &fs));
}

/* ioctls that any file may have. */
static long do_fiemap(struct ctx *c)
{
	struct fiemap *map = c->buf;

	map->fm_length = SIZE;
	map->fm_extent_count = 1;
	return result(ioctl(c->fd, FS_IOC_FIEMAP, map));
}

static long do_dedupe(struct ctx *c)
{
	struct file_dedupe_range *range = c->buf;

	range->src_length = PAGE_SIZE;
	range->dest_count = 1;
	range->info[0].dest_fd = c->file;
	return result(ioctl(c->fd, FIDEDUPERANGE, range));
}

static long do_dedupe_to(struct ctx *c)
{
	struct file_dedupe_range *range = c->buf;

	range->src_length = PAGE_SIZE;
	range->dest_count = 1;
	range->info[0].dest_fd = c->fd;
	return result(ioctl(c->file, FIDEDUPERANGE, range)) ?:
	       range->info[0].status;
}

struct space_resv {
	int16_t l_type, l_whence;
	int64_t l_start, l_len;
	int32_t l_sysid;
	uint32_t l_pid;
	int32_t l_pad[4];
};

static long space(struct ctx *c, unsigned long cmd)
{
	struct space_resv resv = { .l_whence = SEEK_SET, .l_len = PAGE_SIZE };

	return result(ioctl(c->fd, cmd, &resv));
}

ROW_FN(do_resvsp, space(c, _IOW('X', 40, struct space_resv)))
ROW_FN(do_unresvsp, space(c, _IOW('X', 42, struct space_resv)))
ROW_FN(do_zero_range_ioctl, space(c, _IOW('X', 57, struct space_resv)))
ROW_FN(do_getflags, result(ioctl(c->fd, FS_IOC_GETFLAGS, c->buf)))
ROW_FN(do_setflags, result(ioctl(c->fd, FS_IOC_SETFLAGS,
				 &(int){ FS_IMMUTABLE_FL })))
ROW_FN(do_fsgetxattr, result(ioctl(c->fd, FS_IOC_FSGETXATTR, c->buf)))
ROW_FN(do_fssetxattr, result(ioctl(c->fd, FS_IOC_FSSETXATTR, c->buf)))
ROW_FN(do_getversion, result(ioctl(c->fd, FS_IOC_GETVERSION, c->buf)))
ROW_FN(do_verity, result(ioctl(c->fd, FS_IOC_ENABLE_VERITY, c->buf)))
ROW_FN(do_ficlone, result(ioctl(c->fd, FICLONE, c->file)))
ROW_FN(do_ficlone_to, result(ioctl(c->file, FICLONE, c->fd)))
ROW_FN(do_fibmap, result(ioctl(c->fd, FIBMAP, &(int){ 0 })))
ROW_FN(do_figetbsz, result(ioctl(c->fd, FIGETBSZ, c->buf)))
ROW_FN(do_fionread, result(ioctl(c->fd, FIONREAD, c->buf)))
ROW_FN(do_fioqsize, result(ioctl(c->fd, FIOQSIZE, c->buf)))
ROW_FN(do_fioasync, result(ioctl(c->fd, FIOASYNC, &(int){ 1 })))
ROW_FN(do_fifreeze, result(ioctl(c->fd, FIFREEZE, 0)))
ROW_FN(do_fitrim, result(ioctl(c->fd, FITRIM, c->buf)))

/* fallocate(), but for what gmem_bad_input_test has. */
static long falloc(struct ctx *c, int mode)
{
	return __gmem_fallocate(c->fd, mode, 0, PAGE_SIZE);
}

ROW_FN(do_falloc_grow, falloc(c, 0))
ROW_FN(do_falloc_keep, falloc(c, FALLOC_FL_KEEP_SIZE))
ROW_FN(do_falloc_punch, falloc(c, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
ROW_FN(do_falloc_zero, falloc(c, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
ROW_FN(do_falloc_collapse, falloc(c, FALLOC_FL_COLLAPSE_RANGE))
ROW_FN(do_falloc_insert, falloc(c, FALLOC_FL_INSERT_RANGE))
ROW_FN(do_falloc_unshare, falloc(c, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE))

/* Mappings. */
static long advise(struct ctx *c, int advice)
{
	return result(madvise(c->mem, SIZE, advice));
}

#define ADVISE_FN(name, advice)	ROW_FN(name, advise(c, advice))

ADVISE_FN(do_madv_normal, MADV_NORMAL)
ADVISE_FN(do_madv_random, MADV_RANDOM)
ADVISE_FN(do_madv_willneed, MADV_WILLNEED)
ADVISE_FN(do_madv_dontneed, MADV_DONTNEED)
ADVISE_FN(do_madv_dontneed_locked, MADV_DONTNEED_LOCKED)
ADVISE_FN(do_madv_free, MADV_FREE)
ADVISE_FN(do_madv_remove, MADV_REMOVE)
ADVISE_FN(do_madv_dontfork, MADV_DONTFORK)
ADVISE_FN(do_madv_dofork, MADV_DOFORK)
ADVISE_FN(do_madv_mergeable, MADV_MERGEABLE)
ADVISE_FN(do_madv_unmergeable, MADV_UNMERGEABLE)
ADVISE_FN(do_madv_hugepage, MADV_HUGEPAGE)
ADVISE_FN(do_madv_nohugepage, MADV_NOHUGEPAGE)
ADVISE_FN(do_madv_dontdump, MADV_DONTDUMP)
ADVISE_FN(do_madv_dodump, MADV_DODUMP)
ADVISE_FN(do_madv_wipeonfork, MADV_WIPEONFORK)
ADVISE_FN(do_madv_keeponfork, MADV_KEEPONFORK)
ADVISE_FN(do_madv_cold, MADV_COLD)
ADVISE_FN(do_madv_pageout, MADV_PAGEOUT)
ADVISE_FN(do_madv_populate_read, MADV_POPULATE_READ)
ADVISE_FN(do_madv_populate_write, MADV_POPULATE_WRITE)
ADVISE_FN(do_madv_collapse, MADV_COLLAPSE)
ADVISE_FN(do_madv_soft_offline, MADV_SOFT_OFFLINE)

static long process_advise(struct ctx *c, int advice)
{
	struct iovec iov = { c->mem, SIZE };
	int pidfd = syscall(__NR_pidfd_open, getpid(), 0);
	long r;

	TEST_ASSERT(pidfd >= 0, "pidfd_open: %s", strerror(errno));
	r = result(syscall(__NR_process_madvise, pidfd, &iov, 1, advice, 0));
	close(pidfd);
	return r;
}

ROW_FN(do_process_cold, process_advise(c, MADV_COLD))
ROW_FN(do_process_pageout, process_advise(c, MADV_PAGEOUT))
ROW_FN(do_process_willneed, process_advise(c, MADV_WILLNEED))
ROW_FN(do_process_collapse, process_advise(c, MADV_COLLAPSE))
ROW_FN(do_process_dontneed, process_advise(c, MADV_DONTNEED))

static long protect(struct ctx *c, int prot)
{
	long r = result(mprotect(c->mem, SIZE, prot));

	TEST_ASSERT(!mprotect(c->mem, SIZE, PROT_READ | PROT_WRITE),
		    "mprotect: %s", strerror(errno));
	return r;
}

ROW_FN(do_mprotect_none, protect(c, PROT_NONE))
ROW_FN(do_mprotect_read, protect(c, PROT_READ))
ROW_FN(do_mprotect_exec, protect(c, PROT_READ | PROT_EXEC))

/* The mapping that mremap() made goes again, and the first one stays. */
static long remap(struct ctx *c, size_t old_size, int flags)
{
	/* Not glibc's, which has an address only with MREMAP_FIXED. */
	long r = syscall(__NR_mremap, c->mem, old_size, SIZE, flags, 0);

	if (r == -1)
		return -errno;
	munmap((void *)r, SIZE);
	return 0;
}

static long do_mremap_move(struct ctx *c)
{
	void *to = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *mem = mremap(c->mem, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to);

	if (mem == MAP_FAILED)
		return -errno;
	c->mem = mem;
	return 0;
}

/* And what is in the vacated mapping comes from the file, which it is of. */
ROW_FN(do_mremap_dontunmap, remap(c, SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP))
ROW_FN(do_mremap_copy, remap(c, 0, MREMAP_MAYMOVE))

static long do_remap_file_pages(struct ctx *c)
{
	return result(remap_file_pages(c->mem, PAGE_SIZE, 0, 0, 0));
}

static long do_mlock(struct ctx *c)
{
	long r = result(mlock(c->mem, SIZE));

	munlock(c->mem, SIZE);
	return r;
}

static long do_mlock_onfault(struct ctx *c)
{
	long r = result(syscall(__NR_mlock2, c->mem, SIZE, 1 /* MLOCK_ONFAULT */));

	munlock(c->mem, SIZE);
	return r;
}

ROW_FN(do_mincore, result(mincore(c->mem, SIZE, c->buf)))
ROW_FN(do_msync_async, result(msync(c->mem, SIZE, MS_ASYNC)))
ROW_FN(do_msync_sync, result(msync(c->mem, SIZE, MS_SYNC)))
ROW_FN(do_msync_invalidate, result(msync(c->mem, SIZE, MS_INVALIDATE)))

/* A mapping of its own, as it cannot be unsealed; it goes with the process. */
static long do_mseal(struct ctx *c)
{
	void *mem = gmem_mmap(c->fd, SIZE);
	long r = result(syscall(__NR_mseal, mem, SIZE, 0));

	if (r)
		munmap(mem, SIZE);
	else
		TEST_ASSERT(munmap(mem, SIZE) && errno == EPERM,
			    "a sealed mapping can be unmapped");
	return r;
}

/* Nodes: whether a page is moved, and nothing is. */
static long move_pages(struct ctx *c, const int *node, int flags)
{
	int status[NR_PAGES];
	void *pages[NR_PAGES];
	int nodes[NR_PAGES];
	long r;
	int i;

	for (i = 0; i < NR_PAGES; i++) {
		pages[i] = c->mem + i * PAGE_SIZE;
		status[i] = -EIO;
		if (node)
			nodes[i] = *node;
	}
	r = result(syscall(__NR_move_pages, 0, NR_PAGES, pages,
			   node ? nodes : NULL, status, flags));
	/* What became of the pages, all of them alike. */
	for (i = 1; i < NR_PAGES; i++)
		TEST_ASSERT_EQ(status[i] < 0 ? status[i] : 0,
			       status[0] < 0 ? status[0] : 0);
	if (r)
		return r;
	return status[0] < 0 ? status[0] : 0;
}

static int node_of(struct ctx *c)
{
	struct kvm_gmem_range range;

	gmem_get_ranges(c->fd, 0, PAGE_SIZE, 0, &range, 1);
	return range.node;
}

ROW_FN(do_move_pages_query, move_pages(c, NULL, 0))
ROW_FN(do_move_pages, move_pages(c, &(int){ !node_of(c) }, MPOL_MF_MOVE))
ROW_FN(do_move_pages_all, move_pages(c, &(int){ !node_of(c) }, MPOL_MF_MOVE_ALL))

static long do_migrate_pages(struct ctx *c)
{
	unsigned long from = 1ul << node_of(c), to = from ^ 3;
	long r = result(syscall(__NR_migrate_pages, 0, 64, &from, &to));

	/* How many of the process's other pages could not be moved. */
	return r < 0 ? r : 0;
}

static long bind(struct ctx *c, int flags)
{
	unsigned long nodes = 1ul << !node_of(c);
	long r = result(syscall(__NR_mbind, c->mem, SIZE, MPOL_BIND, &nodes, 64,
				flags));

	TEST_ASSERT(!syscall(__NR_mbind, c->mem, SIZE, MPOL_DEFAULT, NULL, 0, 0),
		    "mbind: %s", strerror(errno));
	return r;
}

ROW_FN(do_mbind_move, bind(c, MPOL_MF_MOVE))
ROW_FN(do_mbind_strict, bind(c, MPOL_MF_STRICT))
ROW_FN(do_mbind_move_strict, bind(c, MPOL_MF_MOVE_ALL | MPOL_MF_STRICT))

/* userfaultfd: registering, and what can be done with it then. */
static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return fd;
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	close(fd);
	return -1;
}

static long uffd_register(struct ctx *c, int uffd, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)c->mem, SIZE },
		.mode = mode,
	};

	return result(ioctl(uffd, UFFDIO_REGISTER, &reg));
}

static long uffd(struct ctx *c, uint64_t features, uint64_t mode)
{
	int fd = uffd_open(features);
	long r;

	if (fd < 0)
		return LACKING;
	r = uffd_register(c, fd, mode);
	close(fd);
	return r;
}

ROW_FN(do_uffd_missing, uffd(c, 0, UFFDIO_REGISTER_MODE_MISSING))
ROW_FN(do_uffd_minor, uffd(c, 0, UFFDIO_REGISTER_MODE_MINOR))
ROW_FN(do_uffd_wp, uffd(c, 0, UFFDIO_REGISTER_MODE_WP))
ROW_FN(do_uffd_missing_wp, uffd(c, 0, UFFDIO_REGISTER_MODE_MISSING |
				      UFFDIO_REGISTER_MODE_WP))

/* Asynchronous write protection is for every kind of memory. */
static long do_uffd_wp_async(struct ctx *c)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)c->mem, SIZE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)c->mem,
		.src = (uintptr_t)c->buf,
		.len = PAGE_SIZE,
	};
	int fd = uffd_open(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
	int i, code;
	long r;

	if (fd < 0)
		return LACKING;
	r = uffd_register(c, fd, UFFDIO_REGISTER_MODE_WP);
	if (r)
		goto out;
	TEST_ASSERT(!ioctl(fd, UFFDIO_WRITEPROTECT, &wp), "UFFDIO_WRITEPROTECT: %s",
		    strerror(errno));
	/* What can be touched can be touched still, and nothing else. */
	for (i = 0; i < NR_PAGES; i++) {
		code = gmem_peek(c->mem + i * PAGE_SIZE, NULL);
		TEST_ASSERT_EQ(code, c->kind == PRIVATE ? BUS_ADRERR : 0);
		code = gmem_poke(c->mem + i * PAGE_SIZE,
				 gmem_pattern(SEED, i * PAGE_SIZE));
		TEST_ASSERT_EQ(code, c->kind == SHARED ? 0 : BUS_ADRERR);
	}
	/* And nothing is put into it. */
	TEST_ASSERT(ioctl(fd, UFFDIO_COPY, &copy) < 0, "UFFDIO_COPY works");
out:
	close(fd);
	return r;
}

/*
 * The contents, by the kernel's hand.  Where they may be written to, what is
 * there already is written.
 */
static void put_same(struct ctx *c)
{
	if (c->kind == SHARED)
		gmem_fill(c->buf, 0, PAGE_SIZE, SEED);
}

static long vm_copy(struct ctx *c, bool write)
{
	struct iovec local = ctx_iov(c->buf), remote = ctx_iov(c->mem);

	if (!write)
		return result(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));

	put_same(c);
	return result(process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
}

static long do_write_from(struct ctx *c)
{
	return result(pwrite(c->file, c->mem, PAGE_SIZE, 0));
}

static long do_read_to(struct ctx *c)
{
	put_same(c);
	TEST_ASSERT_EQ(pwrite(c->file, c->buf, PAGE_SIZE, 0), (ssize_t)PAGE_SIZE);
	return result(pread(c->file, c->mem, PAGE_SIZE, 0));
}

static long proc_mem(struct ctx *c, bool write)
{
	int fd = open("/proc/self/mem", O_RDWR);
	long r;

	TEST_ASSERT(fd >= 0, "/proc/self/mem: %s", strerror(errno));
	if (write) {
		put_same(c);
		r = result(pwrite(fd, c->buf, PAGE_SIZE, (uintptr_t)c->mem));
	} else {
		r = result(pread(fd, c->buf, PAGE_SIZE, (uintptr_t)c->mem));
	}
	close(fd);
	return r;
}

ROW_FN(do_vm_readv, vm_copy(c, false))
ROW_FN(do_vm_writev, vm_copy(c, true))
ROW_FN(do_proc_mem_read, proc_mem(c, false))
ROW_FN(do_proc_mem_write, proc_mem(c, true))

/* A futex in the memory is looked at by the kernel. */
ROW_FN(do_futex_wake, result(syscall(__NR_futex, c->mem, 1 /* FUTEX_WAKE */, 1,
				     NULL, NULL, 0)))
ROW_FN(do_futex_wait, result(syscall(__NR_futex, c->mem, 0 /* FUTEX_WAIT */, 0,
				     NULL, NULL, 0)))

#define ALL(r)		{ r, r, r, r }
#define MAPPED(r)	{ r, r, r }

/*
 * A row whose call needs no mapping has four answers, the others three: for what
 * is private, shared, frozen, unmappable.
 */
static const struct row table[] = {
	/* Reading and writing. */
	{ "read()", do_read, ALL(-EINVAL) },
	{ "write()", do_write, ALL(-EINVAL) },
	{ "pread()", do_pread, ALL(-ESPIPE) },
	{ "pwrite()", do_pwrite, ALL(-ESPIPE) },
	{ "preadv2()", do_preadv2, ALL(-ESPIPE) },
	{ "pwritev2()", do_pwritev2, ALL(-ESPIPE) },
	{ "readahead()", do_readahead, ALL(0) },
	{ "splice() from it", do_splice_out, ALL(-EINVAL) },
	{ "splice() to it", do_splice_in, ALL(-EINVAL) },
	{ "tee()", do_tee, ALL(-EINVAL) },
	{ "sendfile() from it", do_sendfile_out, ALL(-EINVAL) },
	{ "sendfile() to it", do_sendfile_in, ALL(-EINVAL) },
	{ "copy_file_range() from it", do_copy_out, ALL(-EXDEV) },
	{ "copy_file_range() to it", do_copy_in, ALL(-EXDEV) },
	{ "copy_file_range() within", do_copy_self, ALL(-EINVAL) },
	{ "io_uring, READ", do_uring_read, ALL(-EINVAL) },
	{ "io_uring, WRITE", do_uring_write, ALL(-EINVAL) },
	/* The inode. */
	{ "ftruncate() to 0", do_truncate_0, ALL(-EINVAL) },
	{ "ftruncate() to its size", do_truncate_same, ALL(-EINVAL) },
	{ "ftruncate() to more", do_truncate_more, ALL(-EINVAL) },
	{ "truncate() of /proc/self/fd", do_truncate_path, ALL(-EINVAL) },
	{ "fchmod()", do_fchmod, ALL(-EINVAL) },
	{ "fchown()", do_fchown, ALL(-EINVAL) },
	{ "fchown() to the same", do_fchown_none, ALL(-EINVAL) },
	{ "futimens()", do_futimens, ALL(-EINVAL) },
	{ "fsetxattr() user", do_xattr_user, ALL(-EOPNOTSUPP) },
	{ "fsetxattr() trusted", do_xattr_trusted, ALL(-EOPNOTSUPP) },
	{ "fsetxattr() security", do_xattr_security, ALL(-EOPNOTSUPP) },
	{ "fsetxattr() of an ACL", do_xattr_acl, ALL(-EOPNOTSUPP) },
	{ "fgetxattr()", do_getxattr, ALL(-EOPNOTSUPP) },
	{ "fremovexattr()", do_removexattr, ALL(-EOPNOTSUPP) },
	/* The file. */
	{ "flock()", do_flock, ALL(0) },
	{ "fcntl(F_SETLK), read", do_posix_rdlock, ALL(0) },
	{ "fcntl(F_SETLK), write", do_posix_wrlock, ALL(0) },
	{ "fcntl(F_OFD_SETLK)", do_ofd_wrlock, ALL(0) },
	{ "fcntl(F_SETLEASE), read", do_lease_read, ALL(0) },
	{ "fcntl(F_SETLEASE), write", do_lease_write, ALL(-EAGAIN) },
	{ "fcntl(F_ADD_SEALS)", do_add_seals, ALL(-EINVAL) },
	{ "fcntl(F_GET_SEALS)", do_get_seals, ALL(-EINVAL) },
	{ "fcntl(F_SETFL), O_DIRECT", do_o_direct, ALL(-EINVAL) },
	{ "fcntl(F_SETFL), O_APPEND", do_o_append, ALL(0) },
	{ "fcntl(F_SETFL), O_ASYNC", do_o_async, ALL(0) },
	{ "fcntl(F_SETPIPE_SZ)", do_pipe_size, ALL(-EBADF) },
	{ "fcntl(F_NOTIFY)", do_notify, ALL(-EINVAL) },
	{ "fsync()", do_fsync, ALL(-EINVAL) },
	{ "fdatasync()", do_fdatasync, ALL(-EINVAL) },
	{ "syncfs()", do_syncfs, ALL(0) },
	{ "sync_file_range()", do_sync_range, ALL(0) },
	{ "posix_fadvise(NORMAL)", do_fadv_normal, ALL(0) },
	{ "posix_fadvise(WILLNEED)", do_fadv_willneed, ALL(0) },
	{ "posix_fadvise(DONTNEED)", do_fadv_dontneed, ALL(0) },
	{ "posix_fadvise(NOREUSE)", do_fadv_noreuse, ALL(0) },
	{ "poll()", do_poll, ALL(1) },
	{ "epoll_ctl()", do_epoll, ALL(-EPERM) },
	{ "inotify_add_watch()", do_inotify, ALL(0) },
	{ "open() of /proc/self/fd", do_reopen, ALL(-ENXIO) },
	{ "open() of /proc/self/fd to read", do_reopen_read, ALL(-ENXIO) },
	{ "name_to_handle_at()", do_name_to_handle, ALL(-EOPNOTSUPP) },
	{ "execveat()", do_execveat, ALL(-EACCES) },
	{ "linkat()", do_linkat, ALL(-EXDEV) },
	{ "fchdir()", do_fchdir, ALL(-ENOTDIR) },
	{ "getdents()", do_getdents, ALL(-ENOTDIR) },
	{ "open_tree()", do_open_tree, ALL(-EINVAL) },
	{ "readlinkat()", do_readlink, ALL(-ENOENT) },
	{ "fstatfs()", do_fstatfs, ALL(0) },
	{ "swapon()", do_swapon, ALL(-ENXIO), .needs = SWAPS },
	/* ioctls that any file may have. */
	{ "FS_IOC_FIEMAP", do_fiemap, ALL(-EOPNOTSUPP) },
	{ "FIDEDUPERANGE", do_dedupe, ALL(-EOPNOTSUPP) },
	{ "FIDEDUPERANGE to it", do_dedupe_to, ALL(-EOPNOTSUPP) },
	{ "FS_IOC_GETFLAGS", do_getflags, ALL(-ENOTTY) },
	{ "FS_IOC_SETFLAGS", do_setflags, ALL(-ENOTTY) },
	{ "FS_IOC_FSGETXATTR", do_fsgetxattr, ALL(-ENOTTY) },
	{ "FS_IOC_FSSETXATTR", do_fssetxattr, ALL(-ENOTTY) },
	{ "FS_IOC_GETVERSION", do_getversion, ALL(-ENOTTY) },
	{ "FS_IOC_ENABLE_VERITY", do_verity, ALL(-ENOTTY) },
	{ "FICLONE", do_ficlone, ALL(-EXDEV) },
	{ "FICLONE to another", do_ficlone_to, ALL(-EXDEV) },
	{ "FIBMAP", do_fibmap, ALL(-EINVAL) },
	{ "FIGETBSZ", do_figetbsz, ALL(0) },
	{ "FIONREAD", do_fionread, ALL(0) },
	{ "FIOQSIZE", do_fioqsize, ALL(0) },
	{ "FIOASYNC", do_fioasync, ALL(-ENOTTY) },
	{ "FIFREEZE", do_fifreeze, ALL(-EOPNOTSUPP) },
	{ "FITRIM", do_fitrim, ALL(-ENOTTY) },
	{ "FS_IOC_RESVSP", do_resvsp, { 0, 0, -EPERM, 0 }, .changes = true },
	{ "FS_IOC_UNRESVSP", do_unresvsp,
	  { 0, 0, -EPERM, 0 }, .changes = true },
	{ "FS_IOC_ZERO_RANGE", do_zero_range_ioctl,
	  { 0, 0, -EPERM, -EOPNOTSUPP }, .changes = true },
	/* fallocate(). */
	{ "fallocate()", do_falloc_grow, ALL(-EOPNOTSUPP) },
	{ "fallocate(KEEP_SIZE)", do_falloc_keep,
	  { 0, 0, -EPERM, 0 }, .changes = true },
	{ "fallocate(PUNCH_HOLE)", do_falloc_punch,
	  { 0, 0, -EPERM, 0 }, .changes = true },
	{ "fallocate(ZERO_RANGE)", do_falloc_zero,
	  { 0, 0, -EPERM, -EOPNOTSUPP }, .changes = true },
	{ "fallocate(COLLAPSE_RANGE)", do_falloc_collapse, ALL(-EOPNOTSUPP) },
	{ "fallocate(INSERT_RANGE)", do_falloc_insert, ALL(-EOPNOTSUPP) },
	{ "fallocate(UNSHARE_RANGE)", do_falloc_unshare, ALL(-EOPNOTSUPP) },
	/* madvise() and process_madvise(). */
	{ "MADV_NORMAL", do_madv_normal, MAPPED(0), .map = true },
	{ "MADV_RANDOM", do_madv_random, MAPPED(0), .map = true },
	{ "MADV_WILLNEED", do_madv_willneed, MAPPED(0), .map = true },
	{ "MADV_DONTNEED", do_madv_dontneed, MAPPED(0), .map = true },
	{ "MADV_DONTNEED_LOCKED", do_madv_dontneed_locked,
	  MAPPED(0), .map = true },
	{ "MADV_FREE", do_madv_free, MAPPED(-EINVAL), .map = true },
	{ "MADV_DONTFORK", do_madv_dontfork, MAPPED(0), .map = true },
	{ "MADV_DOFORK", do_madv_dofork, MAPPED(0), .map = true },
	{ "MADV_DONTDUMP", do_madv_dontdump, MAPPED(0), .map = true },
	{ "MADV_DODUMP", do_madv_dodump, MAPPED(0), .map = true },
	{ "MADV_WIPEONFORK", do_madv_wipeonfork, MAPPED(-EINVAL), .map = true },
	{ "MADV_KEEPONFORK", do_madv_keeponfork, MAPPED(0), .map = true },
	{ "MADV_COLD", do_madv_cold, MAPPED(0), .map = true },
	{ "MADV_PAGEOUT", do_madv_pageout, MAPPED(0), .map = true },
	{ "MADV_POPULATE_READ", do_madv_populate_read,
	  { -EFAULT, 0, 0 }, .map = true },
	{ "MADV_POPULATE_WRITE", do_madv_populate_write,
	  { -EFAULT, 0, -EFAULT }, .map = true },
	{ "MADV_MERGEABLE", do_madv_mergeable,
	  MAPPED(0), .map = true, .needs = KSM },
	{ "MADV_UNMERGEABLE", do_madv_unmergeable,
	  MAPPED(0), .map = true, .needs = KSM },
	{ "MADV_HUGEPAGE", do_madv_hugepage,
	  MAPPED(0), .map = true, .needs = THP },
	{ "MADV_NOHUGEPAGE", do_madv_nohugepage,
	  MAPPED(0), .map = true, .needs = THP },
	{ "MADV_COLLAPSE", do_madv_collapse,
	  MAPPED(-EINVAL), .map = true, .needs = THP },
	{ "MADV_SOFT_OFFLINE", do_madv_soft_offline,
	  { -EFAULT, -EBUSY, -EBUSY }, .map = true, .needs = POISON },
	{ "MADV_REMOVE", do_madv_remove,
	  { 0, 0, -EPERM }, .map = true, .changes = true },
	{ "process_madvise(COLD)", do_process_cold,
	  MAPPED((long)SIZE), .map = true },
	{ "process_madvise(PAGEOUT)", do_process_pageout,
	  MAPPED((long)SIZE), .map = true },
	{ "process_madvise(WILLNEED)", do_process_willneed,
	  MAPPED((long)SIZE), .map = true },
	{ "process_madvise(COLLAPSE)", do_process_collapse,
	  MAPPED(-EINVAL), .map = true, .needs = THP },
	{ "process_madvise(DONTNEED)", do_process_dontneed,
	  MAPPED(-EINVAL), .map = true },
	{ "io_uring, MADVISE", do_uring_madvise, MAPPED(0), .map = true },
	/* Mappings. */
	{ "mprotect(NONE)", do_mprotect_none, MAPPED(0), .map = true },
	{ "mprotect(READ)", do_mprotect_read, MAPPED(0), .map = true },
	{ "mprotect(EXEC)", do_mprotect_exec, MAPPED(-EACCES), .map = true },
	{ "mremap() elsewhere", do_mremap_move, MAPPED(0), .map = true },
	{ "mremap(DONTUNMAP)", do_mremap_dontunmap, MAPPED(0), .map = true },
	{ "mremap() of nothing", do_mremap_copy, MAPPED(0), .map = true },
	{ "remap_file_pages()", do_remap_file_pages, MAPPED(0), .map = true },
	{ "mlock()", do_mlock, { -ENOMEM, 0, 0 }, .map = true },
	{ "mlock2(ONFAULT)", do_mlock_onfault, MAPPED(0), .map = true },
	{ "mincore()", do_mincore, MAPPED(0), .map = true },
	{ "msync(ASYNC)", do_msync_async, MAPPED(0), .map = true },
	{ "msync(SYNC)", do_msync_sync, MAPPED(-EINVAL), .map = true },
	{ "msync(INVALIDATE)", do_msync_invalidate, MAPPED(0), .map = true },
	{ "mseal()", do_mseal, MAPPED(0), .map = true },
	/* Nodes. */
	{ "move_pages() to nowhere", do_move_pages_query,
	  { -ENOENT, 0, 0 }, .map = true },
	{ "move_pages(MOVE)", do_move_pages,
	  { -ENOENT, NR_PAGES, NR_PAGES }, .map = true },
	{ "move_pages(MOVE_ALL)", do_move_pages_all,
	  { -ENOENT, NR_PAGES, NR_PAGES }, .map = true },
	{ "migrate_pages()", do_migrate_pages, MAPPED(0), .map = true },
	{ "mbind(MOVE)", do_mbind_move, MAPPED(0), .map = true },
	{ "mbind(STRICT)", do_mbind_strict, { 0, -EIO, -EIO }, .map = true },
	{ "mbind(MOVE_ALL, STRICT)", do_mbind_move_strict,
	  { 0, -EIO, -EIO }, .map = true },
	/* userfaultfd. */
	{ "UFFDIO_REGISTER, MISSING", do_uffd_missing,
	  MAPPED(-EINVAL), .map = true },
	{ "UFFDIO_REGISTER, MINOR", do_uffd_minor,
	  MAPPED(-EINVAL), .map = true },
	{ "UFFDIO_REGISTER, WP", do_uffd_wp, MAPPED(-EINVAL), .map = true },
	{ "UFFDIO_REGISTER, MISSING and WP", do_uffd_missing_wp,
	  MAPPED(-EINVAL), .map = true },
	{ "UFFDIO_REGISTER, asynchronous WP", do_uffd_wp_async,
	  MAPPED(0), .map = true },
	/* The contents, by the kernel's hand. */
	{ "process_vm_readv()", do_vm_readv,
	  { -EFAULT, (long)PAGE_SIZE, (long)PAGE_SIZE }, .map = true },
	{ "process_vm_writev()", do_vm_writev,
	  { -EFAULT, (long)PAGE_SIZE, -EFAULT }, .map = true },
	{ "/proc/self/mem, read", do_proc_mem_read,
	  { -EIO, (long)PAGE_SIZE, (long)PAGE_SIZE }, .map = true },
	{ "/proc/self/mem, write", do_proc_mem_write,
	  { -EIO, (long)PAGE_SIZE, -EIO }, .map = true },
	{ "pwrite() from it", do_write_from,
	  { -EFAULT, (long)PAGE_SIZE, (long)PAGE_SIZE }, .map = true },
	{ "pread() to it", do_read_to,
	  { -EFAULT, (long)PAGE_SIZE, -EFAULT }, .map = true },
	{ "futex(WAKE)", do_futex_wake, { -EFAULT, 0, 0 }, .map = true },
	{ "futex(WAIT)", do_futex_wait,
	  { -EFAULT, -EAGAIN, -EAGAIN }, .map = true },
};

FIXTURE(gmem_syscall)
{
	struct ctx ctx;
};

GMEM_FIXTURE_VARIANTS(gmem_syscall);

FIXTURE_SETUP(gmem_syscall)
{
	struct ctx *c = &self->ctx;

	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	c->fd = -1;
	c->vm = gmem_vm_create(variant->type, 1, &c->vcpu, NR_PAGES);
	c->buf = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(c->buf != MAP_FAILED, "mmap: %s", strerror(errno));
	TEST_ASSERT(!pipe2(c->pipe, O_NONBLOCK), "pipe: %s", strerror(errno));
	c->file = memfd_create("gmem_syscall_test", 0);
	TEST_ASSERT(c->file >= 0 && !ftruncate(c->file, PAGE_SIZE), "memfd: %s",
		    strerror(errno));
}

FIXTURE_TEARDOWN(gmem_syscall)
{
	kvm_vm_free(self->ctx.vm);
}

static void make_memory(struct ctx *c)
{
	c->mem = NULL;
	if (c->kind == UNMAPPABLE) {
		c->fd = gmem_create(c->vm, SIZE, 0);
		TEST_ASSERT(!__gmem_fallocate(c->fd, FALLOC_FL_KEEP_SIZE, 0, SIZE),
			    "fallocate: %s", strerror(errno));
		return;
	}

	c->fd = gmem_create(c->vm, SIZE, GMEM_FLAGS_SHARED);
	gmem_bind(c->vm, GMEM_SLOT, GMEM_GPA, SIZE, NULL, c->fd, 0);
	gmem_guest_call(c->vcpu, gmem_guest_fill, GMEM_GVA, SIZE, SEED);
	if (c->kind == PRIVATE)
		gmem_make_private(c->fd, 0, SIZE);
	if (c->kind == FROZEN)
		gmem_freeze(c->fd);
	c->mem = gmem_mmap(c->fd, SIZE);
}

static void drop_memory(struct ctx *c)
{
	if (c->mem) {
		munmap(c->mem, SIZE);
		gmem_unbind(c->vm, GMEM_SLOT);
	}
	close(c->fd);
}

static void check_memory(struct ctx *c, const char *after)
{
	uint64_t populated;
	int i;

	/* Without ioctls there is nobody else to ask. */
	if (!c->mem) {
		struct {
			uint64_t off, len;
		} range = { 0, SIZE };
		struct {
			uint64_t cache, other[4];
		} cs;

		if (!syscall(__NR_cachestat, c->fd, &range, &cs, 0))
			TEST_ASSERT(cs.cache == NR_PAGES, "%lu pages after %s",
				    cs.cache, after);
		else
			TEST_ASSERT_EQ(errno, ENOSYS);
		return;
	}

	populated = gmem_populated(c->fd, 0, SIZE);
	TEST_ASSERT(populated == SIZE, "%lu populated after %s", populated, after);
	for (i = 0; i < NR_PAGES; i++)
		TEST_ASSERT(gmem_is_private(c->fd, i * PAGE_SIZE) ==
			    (c->kind == PRIVATE), "the state changed after %s",
			    after);
	TEST_ASSERT(!gmem_guest_call(c->vcpu, gmem_guest_check, GMEM_GVA, SIZE,
				     SEED), "contents changed after %s", after);
	if (c->kind == PRIVATE)
		gmem_assert_no_access(c->mem, SIZE);
	else
		gmem_check(c->mem, 0, SIZE, SEED);
}

static void look_for_secrets(const uint64_t *words, ssize_t len, const char *after)
{
	uint64_t offset;
	ssize_t i;

	/* No word of a pattern is 0, and nearly all of these are. */
	for (i = 0; i < len / 8; i++)
		for (offset = 0; words[i] && offset < SIZE; offset += 8)
			TEST_ASSERT(words[i] != gmem_pattern(SEED, offset),
				    "private memory comes out of %s", after);
}

/* Where the results of calls are: as they were, but for a look at them. */
static void reset_buffers(struct ctx *c, const char *after)
{
	uint64_t words[PAGE_SIZE / 8];
	ssize_t n;

	if (c->kind == PRIVATE && after) {
		look_for_secrets(c->buf, PAGE_SIZE, after);
		n = pread(c->file, words, sizeof(words), 0);
		look_for_secrets(words, n, after);
	}
	while ((n = read(c->pipe[0], words, sizeof(words))) > 0) {
		if (c->kind == PRIVATE)
			look_for_secrets(words, n, after);
	}
	memset(c->buf, 0, PAGE_SIZE);
	TEST_ASSERT_EQ(pwrite(c->file, c->buf, PAGE_SIZE, 0), (ssize_t)PAGE_SIZE);
	lseek(c->file, 0, SEEK_SET);
	lseek(c->fd, 0, SEEK_SET);
}

static void run_table(struct ctx *c, int kind)
{
	const struct row *row;
	int i, wrong = 0;
	long r;

	c->kind = kind;
	make_memory(c);
	for (i = 0; i < ARRAY_SIZE(table); i++) {
		row = &table[i];
		if ((row->map && !c->mem) ||
		    (row->needs && access(row->needs, F_OK)))
			continue;

		reset_buffers(c, NULL);
		errno = 0;
		r = row->fn(c);
		if (r != row->answer[kind] && r != LACKING) {
			ksft_print_msg("%s: %ld (%s), not %ld\n", row->name, r,
				       r < 0 ? strerror(-r) : "done",
				       row->answer[kind]);
			wrong++;
		}
		reset_buffers(c, row->name);
		if (row->changes) {
			drop_memory(c);
			make_memory(c);
		} else {
			check_memory(c, row->name);
		}
	}
	drop_memory(c);
	TEST_ASSERT(!wrong, "%d answers are not as in the table", wrong);
}

GMEM_TEST(gmem_syscall, private_memory)
{
	run_table(&self->ctx, PRIVATE);
}

GMEM_TEST(gmem_syscall, shared_memory)
{
	run_table(&self->ctx, SHARED);
}

GMEM_TEST(gmem_syscall, frozen_memory)
{
	run_table(&self->ctx, FROZEN);
}

GMEM_TEST(gmem_syscall, unmappable_memory)
{
	run_table(&self->ctx, UNMAPPABLE);
}

int main(int argc, char *argv[])
{
	GMEM_REQUIRE();
	return test_harness_run(argc, argv);
}

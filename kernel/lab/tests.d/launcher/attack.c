/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Looks for words in a process, by every way there is to its memory and to the memory
 * behind its descriptors:
 *
 *   attack PID WORD...
 *
 * The words are given backwards, so that this process is not where they are found. Each
 * way is reported with how often it found each, and in how many bytes:
 *
 *   attack WAY BYTES FOUND...
 *
 * and then, as 'control', the same for a process that has the words in a memfd: what
 * could not be found there could not be found anywhere.
 *
 *   attack --convert PID WORD...
 *
 * does what code in the process could do: it takes a copy of each guest_memfd of the
 * process, makes all of it shared, maps it, and reports this as way 'convert'. It ends
 * with status 3 when it cannot get the descriptors, and says why.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/kvm_gmem.h>

#define CHUNK (1 << 20)
#define PAGE 4096
#define GUEST_MEMFD_MAGIC 0x474d454d /* f_type, as in linux/magic.h */
#define MAX_WORDS 4
#define WORD_LEN 32

static char words[MAX_WORDS][WORD_LEN + 1];
static int nr_words;
static char buffer[CHUNK];

/* The last is not one of those that are tried one after the other: it changes the memory. */
enum way {
	MEM,
	READV,
	READ,
	PREAD,
	PREADV,
	MMAP,
	MMAP_PRIVATE,
	SPLICE,
	SENDFILE,
	COPY,
	NR_WAYS,
	CONVERT = NR_WAYS
};
static const char *const names[] = {
	"/proc/PID/mem", "process_vm_readv", "read",	 "pread",	    "preadv", "mmap",
	"mmap-private",	 "splice",	     "sendfile", "copy_file_range", "convert"};
static unsigned long long reached[NR_WAYS + 1], found[NR_WAYS + 1][MAX_WORDS];

static void look(enum way way, const char *at, size_t n)
{
	const char *end = at + n, *hit;

	reached[way] += n;
	for (int i = 0; i < nr_words; i++)
		for (hit = at; (hit = memmem(hit, end - hit, words[i], WORD_LEN)); hit++)
			found[way][i]++;
}

/* --- the process */

static ssize_t peek(enum way way, pid_t pid, int mem, uint64_t at, size_t n)
{
	struct iovec to = {buffer, n}, from = {(void *)at, n};

	return way == MEM ? pread(mem, buffer, n, at) : process_vm_readv(pid, &to, 1, &from, 1, 0);
}

static void attack_memory(pid_t pid)
{
	unsigned long long from, to;
	char path[64], line[512];
	int mem;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	if (mem < 0 || !maps) {
		printf("attack: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%llx-%llx", &from, &to) != 2 || from >> 63)
			continue;
		for (enum way way = MEM; way <= READV; way++) {
			for (uint64_t at = from; at < to;) {
				size_t want = to - at < CHUNK ? to - at : CHUNK;
				ssize_t n = peek(way, pid, mem, at, want);

				/* Past what cannot be read, page by page. */
				if (n > 0)
					look(way, buffer, n);
				at = n > 0 ? at + n : (at & ~(PAGE - 1ull)) + PAGE;
			}
		}
	}
	fclose(maps);
	close(mem);
}

/* --- what is behind a descriptor */

static sigjmp_buf refused;

static void on_fault(int number)
{
	(void)number;
	siglongjmp(refused, 1);
}

static void attack_mapping(enum way way, int fd, uint64_t size, int flags)
{
	char *map = mmap(NULL, size, PROT_READ, flags, fd, 0);
	volatile uint64_t at;

	if (map == MAP_FAILED)
		return;
	for (at = 0; at < size; at += PAGE)
		if (!sigsetjmp(refused, 1)) {
			memcpy(buffer, map + at, PAGE);
			look(way, buffer, PAGE);
		}
	munmap(map, size);
}

static void attack_through_pipe(int fd, uint64_t size)
{
	loff_t at = 0;
	int ends[2];
	ssize_t n;

	if (pipe(ends))
		return;
	while ((uint64_t)at < size) {
		loff_t before = at;

		n = splice(fd, &at, ends[1], NULL, 65536, SPLICE_F_NONBLOCK);
		if (n <= 0)
			at = before + PAGE;
		else if ((n = read(ends[0], buffer, n)) > 0)
			look(SPLICE, buffer, n);
	}
	close(ends[0]);
	close(ends[1]);
}

static void attack_by_copy(enum way way, int fd, uint64_t size)
{
	int to = memfd_create("copy", MFD_CLOEXEC);
	loff_t from = 0, at;
	ssize_t n;

	while (to >= 0 && (uint64_t)from < size) {
		at = 0;
		n = way == COPY		     ? copy_file_range(fd, &from, to, &at, CHUNK, 0)
		    : lseek(to, 0, SEEK_SET) ? -1
					     : sendfile(to, fd, &from, CHUNK);
		if (n <= 0)
			from += PAGE;
		else if ((n = pread(to, buffer, n, 0)) > 0)
			look(way, buffer, n);
	}
	if (to >= 0)
		close(to);
}

static void attack_descriptor(int fd)
{
	struct iovec to = {buffer, CHUNK};
	struct stat st;
	off_t position;
	uint64_t at;
	ssize_t n;

	/* No terminals, pipes, sockets: they would wait, and are no memory. */
	if (fstat(fd, &st) || S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) ||
	    S_ISDIR(st.st_mode))
		return;
	/* The position is the process's too: what it writes is not to go elsewhere. */
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) {
		position = lseek(fd, 0, SEEK_CUR);
		lseek(fd, 0, SEEK_SET);
		while ((n = read(fd, buffer, CHUNK)) > 0)
			look(READ, buffer, n);
		lseek(fd, position, SEEK_SET);
	}
	for (at = 0; at<(uint64_t)st.st_size; at += n> 0 ? n : PAGE)
		if ((n = pread(fd, buffer, CHUNK, at)) > 0)
			look(PREAD, buffer, n);
	for (at = 0; at<(uint64_t)st.st_size; at += n> 0 ? n : PAGE)
		if ((n = preadv(fd, &to, 1, at)) > 0)
			look(PREADV, buffer, n);
	if (!st.st_size)
		return;
	attack_mapping(MMAP, fd, st.st_size, MAP_SHARED);
	attack_mapping(MMAP_PRIVATE, fd, st.st_size, MAP_PRIVATE);
	attack_through_pipe(fd, st.st_size);
	attack_by_copy(SENDFILE, fd, st.st_size);
	attack_by_copy(COPY, fd, st.st_size);
}

/* A copy of each descriptor of the process, and what opening it again gives. */
static void attack_descriptors(pid_t pid)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), fd;
	char path[64], entry[512];
	struct dirent *e;
	DIR *dir;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, i ? "map_files" : "fd");
		dir = opendir(path);
		if (!dir)
			continue;
		while ((e = readdir(dir))) {
			struct stat st;

			if (*e->d_name == '.')
				continue;
			snprintf(entry, sizeof(entry), "%s/%s", path, e->d_name);
			if (!i) {
				fd = syscall(SYS_pidfd_getfd, pidfd, atoi(e->d_name), 0);
				if (fd >= 0) {
					attack_descriptor(fd);
					close(fd);
				}
			}
			/* The program and its libraries are as they are on disk. */
			if (stat(entry, &st) || (st.st_nlink && S_ISREG(st.st_mode) && i))
				continue;
			fd = S_ISREG(st.st_mode) ? open(entry, O_RDONLY | O_NONBLOCK) : -1;
			if (fd >= 0) {
				attack_descriptor(fd);
				close(fd);
			}
		}
		closedir(dir);
	}
	close(pidfd);
}

static void report(const char *title, enum way way)
{
	printf("%s %s %llu", title, names[way], reached[way]);
	for (int i = 0; i < nr_words; i++)
		printf(" %llu", found[way][i]);
	printf("\n");
}

static void attack(pid_t pid, const char *title)
{
	memset(reached, 0, sizeof(reached));
	memset(found, 0, sizeof(found));
	attack_memory(pid);
	attack_descriptors(pid);
	for (int way = 0; way < NR_WAYS; way++)
		report(title, way);
}

/* Make the memory of the process shared, through copies of its descriptors: the status. */
static int convert(pid_t pid)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), fd, number, copies = 0;
	struct kvm_gmem_convert all = {0};
	struct statfs fs;
	struct stat st;

	for (number = 0; number < 1024; number++) {
		fd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
		if (fd < 0 && errno == EBADF)
			continue;
		if (fd < 0) {
			printf("attack: pidfd_getfd: %s\n", strerror(errno));
			return 3;
		}
		if (!fstatfs(fd, &fs) && fs.f_type == GUEST_MEMFD_MAGIC && !fstat(fd, &st)) {
			all.size = st.st_size;
			if (ioctl(fd, KVM_GMEM_CONVERT_SHARED, &all)) {
				printf("attack: KVM_GMEM_CONVERT_SHARED: %s\n", strerror(errno));
				return 3;
			}
			attack_mapping(CONVERT, fd, st.st_size, MAP_SHARED);
			copies++;
		}
		close(fd);
	}
	close(pidfd);
	if (!copies) {
		printf("attack: the process has no guest_memfd\n");
		return 3;
	}
	report("attack", CONVERT);
	return 0;
}

static void turn_words(char **backwards, int n)
{
	for (; nr_words < n; nr_words++)
		for (int j = 0; j < WORD_LEN; j++)
			words[nr_words][j] = backwards[nr_words][WORD_LEN - 1 - j];
}

/* A process with the words in a memfd that it has mapped. */
static void be_control(int ready, char **backwards)
{
	int fd = memfd_create("control", 0);
	char *map;

	/* What is reported is not to be found by the report. */
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	if (fd < 0 || ftruncate(fd, PAGE))
		_exit(1);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (int i = 0; map != MAP_FAILED && backwards[i]; i++)
		for (int j = 0; j < WORD_LEN; j++)
			map[100 * i + j] = backwards[i][WORD_LEN - 1 - j];
	if (write(ready, "", 1) != 1)
		_exit(1);
	pause();
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_fault};
	int converting = argc > 1 && !strcmp(argv[1], "--convert");
	char **backwards;
	pid_t pid, control;
	int ready[2], n;
	char c;

	argv += converting;
	argc -= converting;
	backwards = argv + 2;
	n = argc - 2;
	pid = n > 0 ? atoi(argv[1]) : 0;
	if (pid <= 0 || n > MAX_WORDS || pipe(ready)) {
		fprintf(stderr, "usage: attack [--convert] PID WORD...\n");
		return 2;
	}
	for (int i = 0; i < n; i++)
		if (strlen(backwards[i]) != WORD_LEN) {
			fprintf(stderr, "attack: '%s' does not have %d letters\n", backwards[i],
				WORD_LEN);
			return 2;
		}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGBUS, &action, NULL);
	if (converting) {
		turn_words(backwards, n);
		return convert(pid);
	}
	control = fork();
	if (!control)
		be_control(ready[1], backwards);
	if (control < 0 || read(ready[0], &c, 1) != 1)
		return 1;
	/* Only now, so that the control has none but those in its memfd. */
	turn_words(backwards, n);
	attack(pid, "attack");
	attack(control, "control");
	kill(control, SIGKILL);
	waitpid(control, NULL, 0);
	return 0;
}

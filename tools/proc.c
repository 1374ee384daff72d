/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ctl.h"
#include "proc.h"

#define GUEST_MEMFD_MAGIC 0x474d454d

bool proc_is_gmem(const char *target, const char *path)
{
	struct statfs fs;

	if (!strcmp(target, "anon_inode:[kvm-gmem]"))
		return true;
	/* Later kernels have a file system for it. Others could call a file so, too. */
	return !strcmp(target, "/[kvm-gmem] (deleted)") && !statfs(path, &fs) &&
	       fs.f_type == GUEST_MEMFD_MAGIC;
}

static int by_value(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* The names in a directory that are numbers, in order: how many, or a negative errno. */
static ssize_t numbers(const char *path, int **ret)
{
	size_t count = 0, room = 0;
	struct dirent *entry;
	DIR *dir = opendir(path);
	int *all = NULL;
	char *end;
	long value;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		value = strtol(entry->d_name, &end, 10);
		if (!isdigit((unsigned char)entry->d_name[0]) || *end || value > INT_MAX)
			continue;
		if (count == room) {
			room = room ? 2 * room : 64;
			all = must_alloc(realloc(all, room * sizeof(*all)));
		}
		all[count++] = (int)value;
	}
	closedir(dir);
	if (count)
		qsort(all, count, sizeof(*all), by_value);
	*ret = all;
	return (ssize_t)count;
}

/* The beginning of a file, with a 0 behind it: its length, or a negative errno. */
static ssize_t slurp(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (length < room - 1 && (n = read(fd, text + length, room - 1 - length)) > 0)
		length += (size_t)n;
	close(fd);
	text[length] = 0;
	return (ssize_t)length;
}

/* Up to a comma; two of them stand for one. What follows. */
static const char *copy_value(const char *value, char *ret, size_t room)
{
	size_t length = 0;

	for (; *value && (*value != ',' || *++value == ','); value++)
		if (length < room - 1)
			ret[length++] = *value;
	ret[length] = 0;
	return value;
}

/*
 * What QEMU's -name says of guest, in "NAME,..." or "...,guest=NAME,...". Of several it is
 * the last, as it is for QEMU.
 */
static void parse_name(const char *option, char *guest, size_t room)
{
	char ignored[1];
	const char *at;
	size_t length;

	for (at = option; *at;) {
		length = strcspn(at, "=,");
		if (at[length] != '=' && at == option)
			at = copy_value(at, guest, room);
		else if (!strncmp(at, "guest=", 6))
			at = copy_value(at + 6, guest, room);
		else
			at = copy_value(at, ignored, sizeof(ignored));
	}
}

static void find_guest(const char *dir, char *guest, size_t room)
{
	char path[PATH_MAX + 16], *word = NULL;
	bool is_name = false;
	size_t size = 0;
	FILE *f;

	guest[0] = 0;
	snprintf(path, sizeof(path), "%s/cmdline", dir);
	f = fopen(path, "re");
	if (!f)
		return;
	while (getdelim(&word, &size, 0, f) > 0) {
		if (is_name)
			parse_name(word, guest, room);
		is_name = !is_name && (!strcmp(word, "-name") || !strcmp(word, "--name"));
	}
	free(word);
	fclose(f);
}

static void parse_line(struct proc_memory *memory, const char *line, unsigned int *told)
{
	static const char prefix[] = "gmem-";
	unsigned long node;
	const char *value = strchr(line, ':');
	uint64_t number;
	char *end;

	if (!value)
		return;
	errno = 0;
	number = strtoull(value + 1, &end, 10);
	if (end == value + 1 || errno || (*end && *end != '\n'))
		return;
	if (!strncmp(line, "ino:", 4))
		memory->inode = number;
	if (strncmp(line, prefix, sizeof(prefix) - 1))
		return;
	line += sizeof(prefix) - 1;
	if (!strncmp(line, "size:", 5)) {
		memory->size = number;
		*told |= 1;
	} else if (!strncmp(line, "private:", 8)) {
		memory->private_bytes = number;
		*told |= 2;
	} else if (!strncmp(line, "shared:", 7)) {
		memory->shared_bytes = number;
		*told |= 4;
	} else if (!strncmp(line, "populated:", 10)) {
		memory->populated = number;
		*told |= 8;
	} else if (!strncmp(line, "node", 4)) {
		node = strtoul(line + 4, &end, 10);
		if (!isdigit((unsigned char)line[4]) || end != value || node > INT_MAX)
			return;
		memory->nodes = must_alloc(
			realloc(memory->nodes, (memory->nr_nodes + 1) * sizeof(*memory->nodes)));
		memory->nodes[memory->nr_nodes++] = (struct node_bytes){(unsigned int)node, number};
	}
}

static void read_fdinfo(const char *dir, int fd, struct proc_memory *memory)
{
	char path[PATH_MAX + 32], line[256];
	unsigned int told = 0;
	struct stat info;
	FILE *f;

	snprintf(path, sizeof(path), "%s/fdinfo/%d", dir, fd);
	f = fopen(path, "re");
	if (f) {
		while (fgets(line, sizeof(line), f))
			parse_line(memory, line, &told);
		fclose(f);
	}
	memory->told = memory->counted = told == 15;
	/* Any kernel knows how long a file is. */
	snprintf(path, sizeof(path), "%s/fd/%d", dir, fd);
	if (!memory->size && !stat(path, &info))
		memory->size = (uint64_t)info.st_size;
}

/* All of one process; a negative errno if it has ended. */
static int scan_process(const char *root, int pid, struct proc_memories *ret)
{
	char dir[PATH_MAX], path[PATH_MAX + 32], target[64];
	const size_t first = ret->count;
	struct proc_process process = {.pid = pid};
	struct proc_memory *memory;
	ssize_t count, i, length;
	int *fds = NULL;

	snprintf(dir, sizeof(dir), "%s/%d", root, pid);
	snprintf(path, sizeof(path), "%s/fd", dir);
	count = numbers(path, &fds);
	if (count == -EACCES || count == -EPERM) {
		/* Kernel threads and zombies have no command line, and no memory. */
		snprintf(path, sizeof(path), "%s/cmdline", dir);
		if (slurp(path, target, sizeof(target)))
			ret->hidden++;
		return 0;
	}
	if (count < 0)
		return (int)count;
	for (i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/fd/%d", dir, fds[i]);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = 0;
		if (!strcmp(target, "anon_inode:kvm-vm")) {
			process.vm_fds = must_alloc(
				realloc(process.vm_fds, (process.nr_vm_fds + 1) * sizeof(*fds)));
			process.vm_fds[process.nr_vm_fds++] = fds[i];
		}
		if (!proc_is_gmem(target, path))
			continue;
		ret->all = must_alloc(realloc(ret->all, (ret->count + 1) * sizeof(*ret->all)));
		memory = &ret->all[ret->count++];
		*memory = (struct proc_memory){.nr_open = 1};
		memory->open = must_alloc(malloc(sizeof(*memory->open)));
		*memory->open = (struct proc_open){ret->nr_processes, fds[i]};
		read_fdinfo(dir, fds[i], memory);
	}
	free(fds);
	if (ret->count == first) {
		free(process.vm_fds);
		return 0;
	}
	snprintf(path, sizeof(path), "%s/comm", dir);
	if (slurp(path, process.name, sizeof(process.name)) < 0)
		strcpy(process.name, "?");
	process.name[strcspn(process.name, "\n")] = 0;
	find_guest(dir, process.guest, sizeof(process.guest));
	ret->processes = must_alloc(
		realloc(ret->processes, (ret->nr_processes + 1) * sizeof(*ret->processes)));
	ret->processes[ret->nr_processes++] = process;
	return 0;
}

static int by_inode(const void *a, const void *b)
{
	const struct proc_memory *x = *(struct proc_memory *const *)a;
	const struct proc_memory *y = *(struct proc_memory *const *)b;

	if (x->inode != y->inode)
		return x->inode < y->inode ? -1 : 1;
	return x < y ? -1 : 1;
}

static void free_memory(struct proc_memory *memory)
{
	free(memory->open);
	free(memory->nodes);
}

/* What was found at several descriptors becomes one, in the place of the first of them. */
static void merge(struct proc_memories *memories)
{
	struct proc_memory **sorted, *first = NULL, *memory;
	size_t i, kept = 0;

	if (!memories->count)
		return;
	sorted = must_alloc(malloc(memories->count * sizeof(*sorted)));
	for (i = 0; i < memories->count; i++)
		sorted[i] = &memories->all[i];
	qsort(sorted, memories->count, sizeof(*sorted), by_inode);
	for (i = 0; i < memories->count; i++) {
		memory = sorted[i];
		if (!first || !memory->inode || memory->inode != first->inode) {
			first = memory;
			continue;
		}
		first->open = must_alloc(
			realloc(first->open, (first->nr_open + 1) * sizeof(*first->open)));
		first->open[first->nr_open++] = memory->open[0];
		memory->nr_open = 0;
	}
	free(sorted);
	for (i = 0; i < memories->count; i++) {
		if (memories->all[i].nr_open)
			memories->all[kept++] = memories->all[i];
		else
			free_memory(&memories->all[i]);
	}
	memories->count = kept;
}

int proc_scan(const char *root, int pid, struct proc_memories *ret)
{
	int *pids = NULL;
	ssize_t count, i;
	int r;

	*ret = (struct proc_memories){0};
	if (pid) {
		r = scan_process(root, pid, ret);
		merge(ret);
		return r == -ENOENT ? -ESRCH : r;
	}
	count = numbers(root, &pids);
	if (count < 0)
		return (int)count;
	for (i = 0; i < count; i++)
		scan_process(root, pids[i], ret);
	free(pids);
	merge(ret);
	return 0;
}

void proc_free(struct proc_memories *memories)
{
	size_t i;

	for (i = 0; i < memories->count; i++)
		free_memory(&memories->all[i]);
	for (i = 0; i < memories->nr_processes; i++)
		free(memories->processes[i].vm_fds);
	free(memories->all);
	free(memories->processes);
	*memories = (struct proc_memories){0};
}

const char *proc_parse_number(const char *text, int least, int *ret)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(text, &end, 10);
	if (!isdigit((unsigned char)*text) || errno || number < least || number > INT_MAX)
		return NULL;
	*ret = (int)number;
	return end;
}

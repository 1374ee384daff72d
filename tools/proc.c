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

/* NAME of "-name NAME,..." or "-name guest=NAME,...", which is how QEMU is told. */
static void find_guest(const char *dir, char *guest, size_t room)
{
	char path[PATH_MAX + 16], text[8192];
	const char *at, *name;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/cmdline", dir);
	length = slurp(path, text, sizeof(text));
	for (at = text; length > 0 && at < text + length; at += strlen(at) + 1) {
		if (strcmp(at, "-name") && strcmp(at, "--name"))
			continue;
		name = at + strlen(at) + 1;
		if (name >= text + length)
			return;
		if (!strncmp(name, "guest=", 6))
			name += 6;
		snprintf(guest, room, "%.*s", (int)strcspn(name, ","), name);
		return;
	}
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
		if (end != value || node > INT_MAX)
			return;
		memory->nodes = must_alloc(
			realloc(memory->nodes, (memory->nr_nodes + 1) * sizeof(*memory->nodes)));
		memory->nodes[memory->nr_nodes++] = (struct node_bytes){(unsigned int)node, number};
	}
}

static void read_fdinfo(const char *dir, struct proc_memory *memory)
{
	char path[PATH_MAX + 32], line[256];
	unsigned int told = 0;
	struct stat info;
	FILE *f;

	snprintf(path, sizeof(path), "%s/fdinfo/%d", dir, memory->fd);
	f = fopen(path, "re");
	if (f) {
		while (fgets(line, sizeof(line), f))
			parse_line(memory, line, &told);
		fclose(f);
	}
	memory->told = told == 15;
	/* Any kernel knows how long a file is. */
	snprintf(path, sizeof(path), "%s/fd/%d", dir, memory->fd);
	if (!memory->size && !stat(path, &info))
		memory->size = (uint64_t)info.st_size;
}

static void scan_process(const char *root, int pid, struct proc_memories *ret)
{
	char dir[PATH_MAX], path[PATH_MAX + 32], target[64], process[64], guest[64] = "";
	int *fds = NULL, *vm_fds = NULL;
	size_t first = ret->count, nr_vm_fds = 0, n;
	struct proc_memory *memory;
	ssize_t count, i, length;

	snprintf(dir, sizeof(dir), "%s/%d", root, pid);
	snprintf(path, sizeof(path), "%s/fd", dir);
	count = numbers(path, &fds);
	if (count == -EACCES || count == -EPERM) {
		/* Kernel threads and zombies have no command line, and no memory. */
		snprintf(path, sizeof(path), "%s/cmdline", dir);
		if (slurp(path, target, sizeof(target)))
			ret->hidden++;
	}
	for (i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/fd/%d", dir, fds[i]);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = 0;
		if (!strcmp(target, "anon_inode:kvm-vm")) {
			vm_fds = must_alloc(realloc(vm_fds, (nr_vm_fds + 1) * sizeof(*vm_fds)));
			vm_fds[nr_vm_fds++] = fds[i];
		}
		if (!proc_is_gmem(target, path))
			continue;
		ret->all = must_alloc(realloc(ret->all, (ret->count + 1) * sizeof(*ret->all)));
		memory = &ret->all[ret->count++];
		*memory = (struct proc_memory){.pid = pid, .fd = fds[i]};
		read_fdinfo(dir, memory);
	}
	if (ret->count > first) {
		snprintf(path, sizeof(path), "%s/comm", dir);
		if (slurp(path, process, sizeof(process)) < 0)
			strcpy(process, "?");
		process[strcspn(process, "\n")] = 0;
		find_guest(dir, guest, sizeof(guest));
	}
	for (n = first; n < ret->count; n++) {
		memory = &ret->all[n];
		strcpy(memory->process, process);
		strcpy(memory->guest, guest);
		if (!nr_vm_fds)
			continue;
		memory->vm_fds = must_alloc(malloc(nr_vm_fds * sizeof(*vm_fds)));
		memcpy(memory->vm_fds, vm_fds, nr_vm_fds * sizeof(*vm_fds));
		memory->nr_vm_fds = nr_vm_fds;
	}
	free(vm_fds);
	free(fds);
}

int proc_scan(const char *root, int pid, struct proc_memories *ret)
{
	int *pids = NULL;
	ssize_t count, i;

	*ret = (struct proc_memories){0};
	if (pid) {
		scan_process(root, pid, ret);
		return 0;
	}
	count = numbers(root, &pids);
	if (count < 0)
		return (int)count;
	for (i = 0; i < count; i++)
		scan_process(root, pids[i], ret);
	free(pids);
	return 0;
}

void proc_free(struct proc_memories *memories)
{
	size_t i;

	for (i = 0; i < memories->count; i++) {
		free(memories->all[i].vm_fds);
		free(memories->all[i].nodes);
	}
	free(memories->all);
	*memories = (struct proc_memories){0};
}

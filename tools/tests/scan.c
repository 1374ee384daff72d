/* SPDX-License-Identifier: MIT */
/* What /proc tells of guest memory. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "expect.h"
#include "proc.h"
#include "unit.h"

#define FDINFO                                                                                     \
	"pos:\t0\nflags:\t02100002\nmnt_id:\t13\nino:\t1180\ngmem-size:\t1073741824\n"             \
	"gmem-private:\t1069547520\ngmem-shared:\t4194304\ngmem-populated:\t536870912\n"           \
	"gmem-node0:\t268435456\ngmem-node1023:\t268435456\n"
#define CMDLINE                                                                                    \
	"qemu\0-m\0"                                                                               \
	"4G\0-name\0guest=web,debug-threads=on\0-S"

static void make_process(const char *pid, const char *comm, const char *cmdline, size_t length)
{
	char path[64];

	make_dir(pid);
	snprintf(path, sizeof(path), "%s/fd", pid);
	make_dir(path);
	snprintf(path, sizeof(path), "%s/fdinfo", pid);
	make_dir(path);
	if (comm) {
		snprintf(path, sizeof(path), "%s/comm", pid);
		make(path, comm, strlen(comm));
	}
	snprintf(path, sizeof(path), "%s/cmdline", pid);
	make(path, cmdline, length);
}

static void make_fd(const char *pid, const char *fd, const char *target, const char *info)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/fd/%s", pid, fd);
	make_link(path, target);
	if (info) {
		snprintf(path, sizeof(path), "%s/fdinfo/%s", pid, fd);
		make(path, info, strlen(info));
	}
}

static void remove_process(const char *pid)
{
	char command[600];

	snprintf(command, sizeof(command), "rm -r '%s'", in_root(pid));
	CHECK(!system(command));
}

static void make_proc(void)
{
	/* QEMU, on gmem's kernel; a device process has its memory, too. */
	make_process("700", "qemu\n", CMDLINE, sizeof(CMDLINE));
	make_fd("700", "12", "anon_inode:[kvm-gmem]", FDINFO);
	make_fd("700", "9", "anon_inode:kvm-vm", NULL);
	make_fd("700", "10", "anon_inode:kvm-vcpu:0", NULL);
	make_fd("700", "0", "/dev/null", NULL);
	make_process("1200", "device\n", "device", 7);
	make_fd("1200", "4", "anon_inode:[kvm-gmem]", FDINFO);
	make_fd("1200", "3", "anon_inode:[kvm-gmem]", FDINFO);
	/* Another kernel; two VMs; a name that is a trap; numbers that are none. */
	make_process("80", "\33[31m\"\xff\n", "x\0-name", 8);
	make_fd("80", "3", "anon_inode:kvm-vm", NULL);
	make_fd("80", "4", "anon_inode:kvm-vm", NULL);
	make_fd("80", "5", "anon_inode:[kvm-gmem]",
		"pos:\t0\ngmem-size:\tmuch\ngmem-shared:\t4096\n");
	make_fd("80", "6", "/[kvm-gmem] (deleted)", NULL);
	make_fd("80", "7", "/tmp/anon_inode:[kvm-gmem]", NULL);
	make_fd("80", "5x", "anon_inode:[kvm-gmem]", NULL);
	make_fd("80", "99999999999", "anon_inode:[kvm-gmem]", NULL);
	make_fd("80", "4294967301", "anon_inode:[kvm-gmem]", NULL); /* 5, of 32 bits */
	/* No processes. */
	make_dir("self");
	make_dir("90x");
	/* One that is ending. */
	make_dir("95");
}

static void expect_web(const struct proc_memory *memory)
{
	CHECK(memory->told && memory->counted && memory->inode == 1180);
	CHECK(memory->size == 1073741824);
	CHECK(memory->private_bytes == 1069547520 && memory->shared_bytes == 4194304);
	CHECK(memory->populated == 536870912 && memory->nr_nodes == 2);
	CHECK(memory->nodes[0].node == 0 && memory->nodes[1].node == 1023);
	CHECK(memory->nodes[0].bytes == 268435456 && memory->nodes[1].bytes == 268435456);
}

static void test_scan(void)
{
	struct proc_memories memories;
	const struct proc_process *process;
	const struct proc_memory *memory;

	make_proc();
	CHECK(!proc_scan(root, 0, &memories));
	CHECK(memories.count == 2 && memories.nr_processes == 3 && !memories.hidden);

	memory = &memories.all[0];
	process = &memories.processes[0];
	CHECK(memory->nr_open == 1 && memory->open[0].process == 0 && memory->open[0].fd == 5);
	CHECK(process->pid == 80);
	CHECK(!strcmp(process->name, "\33[31m\"\xff") && !process->guest[0]);
	CHECK(process->nr_vm_fds == 2 && process->vm_fds[0] == 3 && process->vm_fds[1] == 4);
	CHECK(!memory->told && !memory->counted && !memory->size && !memory->inode);
	CHECK(!memory->nr_nodes);

	/* One memory, at three descriptors. */
	memory = &memories.all[1];
	process = &memories.processes[1];
	CHECK(process->pid == 700 && !strcmp(process->name, "qemu"));
	CHECK(!strcmp(process->guest, "web") && process->nr_vm_fds == 1);
	CHECK(process->vm_fds[0] == 9);
	process = &memories.processes[2];
	CHECK(process->pid == 1200 && !strcmp(process->name, "device") && !process->guest[0]);
	CHECK(!process->nr_vm_fds);
	expect_web(memory);
	CHECK(memory->nr_open == 3 && memory->open[0].process == 1 && memory->open[0].fd == 12);
	CHECK(memory->open[1].process == 2 && memory->open[1].fd == 3);
	CHECK(memory->open[2].process == 2 && memory->open[2].fd == 4);
	proc_free(&memories);
	CHECK(!memories.all && !memories.count && !memories.processes);

	CHECK(!proc_scan(root, 1200, &memories) && memories.count == 1);
	expect_web(&memories.all[0]);
	CHECK(memories.all[0].nr_open == 2 && memories.all[0].open[0].fd == 3);
	proc_free(&memories);
	CHECK(proc_scan(root, 95, &memories) == -ESRCH && !memories.count);
	proc_free(&memories);
	CHECK(proc_scan(root, 1, &memories) == -ESRCH && !memories.count);
	proc_free(&memories);
	CHECK(proc_scan("/nowhere", 0, &memories) == -ENOENT);
}

/* --- one process, of which one thing at a time is different */

/* The only memory of process 300, with that in its fdinfo. */
static void expect_info(const char *info, struct proc_memories *ret)
{
	make("300/fdinfo/5", info, strlen(info));
	CHECK(!proc_scan(root, 300, ret) && ret->count == 1);
}

static void expect_untold(const char *info)
{
	struct proc_memories memories;

	expect_info(info, &memories);
	CHECK(!memories.all[0].told && !memories.all[0].counted);
	proc_free(&memories);
}

static void test_fdinfo(void)
{
	struct proc_memories memories;
	char info[600];

	make_process("300", "vmm\n", "vmm", 4);
	make_fd("300", "5", "anon_inode:[kvm-gmem]", "");
	expect_info("ino: 7\ngmem-size: 5\ngmem-private: 1\ngmem-shared: 4\ngmem-populated: 2",
		    &memories);
	CHECK(memories.all[0].told && memories.all[0].inode == 7 && memories.all[0].size == 5);
	CHECK(memories.all[0].populated == 2 && !memories.all[0].nr_nodes);
	proc_free(&memories);
	/* Each of the four is needed. */
	expect_untold("gmem-private: 1\ngmem-shared: 4\ngmem-populated: 2\n");
	expect_untold("gmem-size: 5\ngmem-shared: 4\ngmem-populated: 2\n");
	expect_untold("gmem-size: 5\ngmem-private: 1\ngmem-populated: 2\n");
	expect_untold("gmem-size: 5\ngmem-private: 1\ngmem-shared: 4\n");
	/* A number has to be one. */
	expect_untold("gmem-size: 5x\ngmem-private: 1\ngmem-shared: 4\ngmem-populated: 2\n");
	expect_untold("gmem-size:\ngmem-private: 1\ngmem-shared: 4\ngmem-populated: 2\n");
	expect_untold("gmem-size\ngmem-private: 1\ngmem-shared: 4\ngmem-populated: 2\n");
	expect_untold("gmem-size: 99999999999999999999\ngmem-private: 1\ngmem-shared: 4\n"
		      "gmem-populated: 2\n");
	expect_untold("xgmem-size: 5\ngmem-private: 1\ngmem-shared: 4\ngmem-populated: 2\n");
	/* Other lines are none of those, and other names no nodes. */
	expect_info("inode: 7\nxino: 8\ngmem-sizes: 1\ngmem-nodes: 2\ngmem-node: 3\n"
		    "gmem-node1x: 4\ngmem-node2147483648: 5\ngmem-node7: 6\ngmem-nodx7: 4\n"
		    "gmem-node2147483647: 8\n",
		    &memories);
	CHECK(!memories.all[0].inode && !memories.all[0].size && memories.all[0].nr_nodes == 2);
	CHECK(memories.all[0].nodes[0].node == 7 && memories.all[0].nodes[0].bytes == 6);
	CHECK(memories.all[0].nodes[1].node == 2147483647 && memories.all[0].nodes[1].bytes == 8);
	proc_free(&memories);
	/* A long line is no beginning of another. */
	memset(info, 'x', sizeof(info));
	strcpy(info + 255, "ino: 7\n");
	make("300/fdinfo/5", info, strlen(info));
	CHECK(!proc_scan(root, 300, &memories) && memories.count == 1);
	proc_free(&memories);
	/* The size is that of the file, where fdinfo does not tell it. */
	make("300/fd/anon_inode:[kvm-gmem]", "12345", 5);
	expect_info("ino: 7\n", &memories);
	CHECK(memories.all[0].size == 5 && !memories.all[0].told);
	proc_free(&memories);
	expect_info("ino: 7\ngmem-size: 6\n", &memories);
	CHECK(memories.all[0].size == 6);
	proc_free(&memories);
}

/* A memory is that of the file that has its number, and that of no other. */
static void test_inodes(void)
{
	static const char *const infos[] = {"ino: 9\n", "ino: 8\n", "pos: 0\n",
					    "ino: 9\n", "pos: 0\n", "ino: 8\n"};
	static const int first[] = {1, 2, 3, 5}, opened[] = {2, 2, 1, 1};
	struct proc_memories memories;
	char fd[2] = "1";
	size_t i;

	make_process("301", "vmm\n", "vmm", 4);
	for (i = 0; i < 6; i++, fd[0]++)
		make_fd("301", fd, "anon_inode:[kvm-gmem]", infos[i]);
	CHECK(!proc_scan(root, 301, &memories) && memories.count == 4);
	for (i = 0; i < 4; i++) {
		CHECK(memories.all[i].open[0].fd == first[i]);
		CHECK(memories.all[i].nr_open == (size_t)opened[i]);
	}
	CHECK(memories.all[0].inode == 9 && memories.all[0].open[1].fd == 4);
	CHECK(memories.all[1].inode == 8 && memories.all[1].open[1].fd == 6);
	proc_free(&memories);
}

/* --- names */

static void expect_guest(const char *cmdline, size_t length, const char *want)
{
	struct proc_memories memories;

	make("301/cmdline", cmdline, length);
	CHECK(!proc_scan(root, 301, &memories));
	if (strcmp(memories.processes[0].guest, want))
		fprintf(stderr, "'%s', should be '%s'\n", memories.processes[0].guest, want);
	CHECK(!strcmp(memories.processes[0].guest, want));
	proc_free(&memories);
}

#define GUEST(cmdline, want) expect_guest(cmdline, sizeof(cmdline), want)

static void test_names(void)
{
	struct proc_memories memories;
	char much[20000], name[80], want[80];

	GUEST("qemu\0-name\0vm1", "vm1");
	GUEST("qemu\0--name\0vm1\0-S", "vm1");
	GUEST("qemu\0-name\0vm1,debug-threads=on", "vm1");
	GUEST("qemu\0-name\0guest=vm1", "vm1");
	GUEST("qemu\0-name\0debug-threads=on,guest=vm1", "vm1");
	GUEST("qemu\0-name\0debug-threads=on,guest=vm1,process=x", "vm1");
	GUEST("qemu\0-name\0debug-threads=on", "");
	GUEST("qemu\0-name\0process=guest=x", "");
	GUEST("qemu\0-name\0vm1,guest", "vm1");
	/* Two commas are one of the name. */
	GUEST("qemu\0-name\0a,,b", "a,b");
	GUEST("qemu\0-name\0a,,guest=b", "a,guest=b");
	GUEST("qemu\0-name\0guest=a,,,process=x", "a,");
	GUEST("qemu\0-name\0process=x,,guest=y,guest=z", "z");
	GUEST("qemu\0-name\0,guest=b", "b");
	/* The last of several. */
	GUEST("qemu\0-name\0a\0-name\0guest=b", "b");
	GUEST("qemu\0-name\0a\0-name\0debug-threads=on", "a");
	GUEST("qemu\0-name\0guest=a,guest=b", "b");
	GUEST("qemu\0-name\0longer\0-name\0b", "b");
	/* None. */
	GUEST("qemu\0-name", "");
	GUEST("qemu\0-name\0", "");
	GUEST("qemu\0-names\0vm1", "");
	GUEST("-name\0-name\0-name", "-name");
	expect_guest("", 0, "");

	/* However long it is what comes before it, and the name. */
	memset(much, 'x', sizeof(much));
	memcpy(much + 15000, "\0-name\0vm1", 11);
	expect_guest(much, sizeof(much), "vm1");
	memset(name, 'n', sizeof(name));
	memcpy(name, "q\0-name\0", 8);
	memset(want, 'n', sizeof(want));
	want[63] = 0;
	expect_guest(name, sizeof(name), want);

	/* The process's own is there, or a sign that it is not. */
	CHECK(!proc_scan(root, 301, &memories) && !strcmp(memories.processes[0].name, "vmm"));
	proc_free(&memories);
	memset(much, 'c', sizeof(much));
	make("301/comm", much, 100);
	much[63] = 0;
	CHECK(!proc_scan(root, 301, &memories) && !strcmp(memories.processes[0].name, much));
	proc_free(&memories);
	CHECK(!unlink(in_root("301/comm")) && !unlink(in_root("301/cmdline")));
	CHECK(!proc_scan(root, 301, &memories) && !strcmp(memories.processes[0].name, "?"));
	CHECK(!memories.processes[0].guest[0]);
	proc_free(&memories);
}

/* --- numbers, what is hidden */

static void test_numbers(void)
{
	int number = 5;
	const char *text = "12:3";

	CHECK(proc_parse_number(text, 1, &number) == text + 2 && number == 12);
	text = "2147483647";
	CHECK(proc_parse_number(text, 1, &number) == text + 10 && number == 2147483647);
	text = "0";
	CHECK(proc_parse_number(text, 0, &number) == text + 1 && !number);
	CHECK(!proc_parse_number("0", 1, &number) && !proc_parse_number("", 0, &number));
	CHECK(!proc_parse_number("2147483648", 1, &number));
	CHECK(!proc_parse_number("99999999999999999999", 1, &number));
	CHECK(!proc_parse_number(" 1", 1, &number) && !proc_parse_number("+1", 1, &number));
	CHECK(!proc_parse_number("-1", 0, &number) && !proc_parse_number("x", 0, &number));
}

static void test_order(void)
{
	/* More than there is room for at first, and not in the order of their names. */
	struct proc_memories memories;
	char fd[16], info[32];
	int i;

	make_process("302", "vmm\n", "vmm", 4);
	for (i = 0; i < 150; i++) {
		snprintf(fd, sizeof(fd), "%d", i * 7 % 150);
		snprintf(info, sizeof(info), "ino: %d\n", 1000 - i);
		make_fd("302", fd, "anon_inode:[kvm-gmem]", info);
	}
	CHECK(!proc_scan(root, 302, &memories) && memories.count == 150);
	for (i = 0; i < 150; i++)
		CHECK(memories.all[i].open[0].fd == i);
	proc_free(&memories);
}

/* What may not be looked at is counted, unless it is a kernel thread. */
static void test_hidden(void)
{
	struct proc_memories memories;

	if (!geteuid()) /* who sees everything */
		return;
	make_process("96", NULL, "secret", 6);
	make_process("97", NULL, "", 0);
	CHECK(!chmod(in_root("96/fd"), 0) && !chmod(in_root("97/fd"), 0));
	CHECK(!proc_scan(root, 0, &memories) && memories.hidden == 1);
	proc_free(&memories);
	CHECK(!proc_scan(root, 96, &memories) && memories.hidden == 1 && !memories.count);
	proc_free(&memories);
	CHECK(!proc_scan(root, 97, &memories) && !memories.hidden);
	proc_free(&memories);
	CHECK(!chmod(in_root("96/fd"), 0700) && !chmod(in_root("97/fd"), 0700));
	remove_process("96");
	remove_process("97");
}

/* What a scan took is given back; glibc alone tells. */
static void test_leaks(void)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
	static const int pids[] = {700, 1200, 301, 303};
	struct proc_memories memories;
	size_t before = 0, i, n;

	for (i = 0; i < 120; i++) {
		if (i == 100) /* before it keeps some for later */
			before = mallinfo2().uordblks;
		for (n = 0; n < sizeof(pids) / sizeof(pids[0]); n++) {
			CHECK(!proc_scan(root, pids[n], &memories));
			CHECK(!memories.count == (pids[n] == 303));
			proc_free(&memories);
		}
	}
	CHECK(mallinfo2().uordblks == before);
#endif
}

static void test_is_gmem(void)
{
	CHECK(proc_is_gmem("anon_inode:[kvm-gmem]", "/nowhere"));
	CHECK(!proc_is_gmem("anon_inode:[kvm-gmem]x", "/nowhere"));
	/* A file of that name is none: it is in another file system. */
	make("[kvm-gmem] (deleted)", "", 0);
	CHECK(!proc_is_gmem("/[kvm-gmem] (deleted)", in_root("[kvm-gmem] (deleted)")));
	CHECK(!proc_is_gmem("/[kvm-gmem] (deleted)", in_root("nowhere")));
}

void test_proc(void)
{
	test_scan();
	test_fdinfo();
	test_inodes();
	test_names();
	test_numbers();
	test_order();
	test_hidden();
	make_process("303", "vm\n", "vm", 3);
	make_fd("303", "3", "anon_inode:kvm-vm", NULL); /* and no memory */
	test_leaks();
	test_is_gmem();
	remove_process("300");
	remove_process("301");
	remove_process("302");
	remove_process("303");
}

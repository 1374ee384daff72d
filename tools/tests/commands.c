/* SPDX-License-Identifier: MIT */
/* gmemctl as it is called, on the fake /proc and kernel: every character that it prints. */
#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "expect.h"
#include "kvm.h"
#include "unit.h"

int gmemctl_main(int argc, char **argv);

#define UNTOLD                                                                                     \
	"gmemctl: this kernel does not report the values shown as '-': that needs gmem's "         \
	"series.\n"
#define UNCOUNTED                                                                                  \
	"gmemctl: what is populated could not be counted: that needs Linux 6.5, and permission "   \
	"to ptrace(2) the process.\n"
#define HINT "gmemctl --help tells what there is.\n"

static void to_run(void *data)
{
	char *argv[8] = {"gmemctl"}, words[512];
	int argc = 1, status, next = dup(0);

	close(next);
	snprintf(words, sizeof(words), "%s", (const char *)data);
	for (argv[argc] = strtok(words, " "); argv[argc]; argv[argc] = strtok(NULL, " "))
		argc++;
	status = gmemctl_main(argc, argv);
	/* No descriptor is left, and no copy keeps memory. */
	if (dup(0) != next)
		status = 98;
	exit(status);
}

static void runs_as(const char *words, int status, const char *out, const char *err, int line)
{
	fake.copies = 0;
	expect_child(to_run, (void *)words, status, out, err, line);
}

/* The arguments, separated by a blank; the status; stdout and stderr. */
#define RUNS_AS(...) runs_as(__VA_ARGS__, __LINE__)

static off_t output_length(const char *words)
{
	struct stat stat;
	pid_t pid = fork();
	int fd, status;

	CHECK(pid >= 0);
	if (!pid) {
		fd = open(in_root("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
		CHECK(dup2(fd, STDOUT_FILENO) == STDOUT_FILENO);
		to_run((void *)words);
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	CHECK(!lstat(in_root("out"), &stat) && stat.st_size);
	return stat.st_size;
}

/* --- what is no part of the tests: KVM, the library */

static struct kvm_answers {
	int error; /* of /dev/kvm */
	int vm_errors[2];
	uint64_t caps[2];
	unsigned int nodes; /* 0: no NUMA */
} kvm;

const struct kvm_type kvm_types[] = {{"plain", "plain VMs", "in plain VMs only", 0, ""},
				     {"other", "other VMs", "in other VMs only", 1, ""}};
const size_t kvm_nr_types = 2;

int kvm_open(const char **ret_why)
{
	*ret_why = kvm.error ? "It is so." : NULL;
	return kvm.error ? kvm.error : open("/dev/null", O_RDONLY);
}

static int made, freed;

int kvm_vm_new(int fd, const struct kvm_type *type, struct kvm_vm *ret)
{
	CHECK(fd >= 0);
	snprintf(ret->why, sizeof(ret->why), "No %s.", type->name);
	if (kvm.vm_errors[type->type])
		return kvm.vm_errors[type->type];
	ret->vm = (struct gmem_vm *)&kvm.caps[type->type];
	made++;
	return 0;
}

void kvm_vm_free(struct kvm_vm *vm)
{
	CHECK(vm->vm);
	if (++freed == made)
		fprintf(stderr, "all are freed\n");
}

int gmem_vm_caps(const struct gmem_vm *vm, uint64_t *ret_caps)
{
	*ret_caps = *(const uint64_t *)vm;
	return *ret_caps == 77 ? -EINVAL : 0;
}

const char *gmem_vm_why_not(const struct gmem_vm *vm, uint64_t cap)
{
	if (cap == GMEM_CAP_ZERO)
		return (const uint64_t *)vm == &kvm.caps[0] ? "Plain VMs never."
							    : "Others neither.";
	return cap == GMEM_CAP_MAP_GPA_RANGE || cap == GMEM_CAP_LINK ? NULL : "Not here.";
}

void gmem_version(unsigned int *ret_major, unsigned int *ret_minor)
{
	*ret_major = 7;
	*ret_minor = 8;
}

int cmd_bench(int argc, char **argv)
{
	printf("bench %d %s\n", argc, argv[1]);
	return 5;
}

int numa_available(void)
{
	return kvm.nodes ? 0 : -1;
}

struct bitmask *numa_get_mems_allowed(void)
{
	return NULL;
}

unsigned int numa_bitmask_weight(const struct bitmask *mask)
{
	CHECK(!mask);
	return kvm.nodes == 9 ? 0 : kvm.nodes;
}

void numa_bitmask_free(struct bitmask *mask)
{
	CHECK(!mask);
}

/* --- how it is called */

static void test_main(void)
{
	RUNS_AS("", 64, "", "gmemctl: which command?\n" HINT);
	RUNS_AS("nonsense", 64, "", "gmemctl: there is no command 'nonsense'\n" HINT);
	RUNS_AS("--nonsense", 64, "", "gmemctl: there is no option '--nonsense'\n" HINT);
	RUNS_AS("-x", 64, "", "gmemctl: there is no option '-x'\n" HINT);
	RUNS_AS("--version", 0, "gmemctl 0.test (libgmem 7.8)\n", "");
	RUNS_AS("-V", 0, "gmemctl 0.test (libgmem 7.8)\n", "");
	RUNS_AS("bench x", 5, "bench 2 x\n", "");
	CHECK(output_length("--help") > 800 && output_length("help") > 800 &&
	      output_length("-h") > 800);
	CHECK(output_length("list --help") > 800 && output_length("show --help") > 800);
	CHECK(output_length("probe --help") > 800);
	RUNS_AS("list --nonsense", 64, "",
		"gmemctl: list does not know '--nonsense', or not with a value\n" HINT);
	RUNS_AS("list -jx", 64, "", "gmemctl: list does not know '-j'\n" HINT);
	RUNS_AS("list -x --json", 64, "",
		"gmemctl: list does not know '-x', or not with a value\n" HINT);
	RUNS_AS("list --json=1", 64, "",
		"gmemctl: list does not know '--json=1', or not with a value\n" HINT);
	RUNS_AS("show 1 --svg", 64, "", "gmemctl: show: --svg needs a value\n" HINT);
}

/* --- list */

#define WEB_ROW                                                                                    \
	"    700   12  qemu     web          1G    1020M       4M       512M  0:256M 1023:256M"    \
	"  also 1200:3 1200:4\n"
#define HEADING "    PID   FD  PROCESS  VM         SIZE  PRIVATE   SHARED  POPULATED  NODES\n"
#define TRAP_ROW "     80    5  ?[31m\"?  1 of 2        -        -        -          -  -\n"

static void test_list(void)
{
	static const char sums[] =
		"  TOTAL                              -        -        -          -  -\n";
	char want[2000];

	RUNS_AS("list x", 64, "", "gmemctl: list wants PID, not 'x'\n" HINT);
	RUNS_AS("list 1x", 64, "", "gmemctl: list wants PID, not '1x'\n" HINT);
	RUNS_AS("list 0", 64, "", "gmemctl: list wants PID, not '0'\n" HINT);
	RUNS_AS("list 1 2", 64, "", "gmemctl: list takes one PID, and no '2'\n" HINT);
	RUNS_AS("list --sort x", 64, "",
		"gmemctl: --sort wants pid, size, private, shared or populated, not 'x'\n" HINT);
	RUNS_AS("list 5", 3, "", "gmemctl: there is no process 5\n");

	/* The sums of what is not known for each are not known. */
	fake.getfd_error = EPERM;
	snprintf(want, sizeof(want), "%s%s%s%s", HEADING, TRAP_ROW, WEB_ROW, sums);
	RUNS_AS("list", 0, want, UNTOLD UNCOUNTED);
	snprintf(want, sizeof(want), "%s%s%s%s", HEADING, WEB_ROW, TRAP_ROW, sums);
	RUNS_AS("list --sort size", 0, want, UNTOLD UNCOUNTED);
	/* What the kernel does not tell is counted, where that is allowed. */
	fake.getfd_error = 0;
	fake.cached = 2;
	RUNS_AS("list 80", 0,
		HEADING "     80    5  ?[31m\"?  1 of 2        -        -        -         8K  -\n",
		UNTOLD);
	fake.pidfd_error = ESRCH;
	RUNS_AS("list 80", 3, "", "gmemctl: there is no process 80\n");
	RUNS_AS("list", 0,
		HEADING TRAP_ROW WEB_ROW
		"  TOTAL                              -        -        -          -  -\n",
		UNTOLD UNCOUNTED);
	fake.pidfd_error = 0;
	RUNS_AS("list 1200", 0,
		"    PID   FD  PROCESS  VM     SIZE  PRIVATE   SHARED  POPULATED  NODES\n"
		"   1200    3  device   -        1G    1020M       4M       512M  0:256M 1023:256M"
		"  also 1200:4\n",
		"");
	fake.failing = "proc_scan";
	fake.failing_error = EIO;
	RUNS_AS("list", 3, "", "gmemctl: /proc: Input/output error\n");
	fake.failing = NULL;
}

static void test_list_json(void)
{
	static const char want[] =
		"{\n"
		"  \"memories\": [\n"
		"    {\n"
		"      \"inode\": null,\n"
		"      \"size\": null,\n"
		"      \"private\": null,\n"
		"      \"shared\": null,\n"
		"      \"populated\": 8192,\n"
		"      \"nodes\": null,\n"
		"      \"open\": [\n"
		"        {\n          \"pid\": 80,\n          \"fd\": 5\n        }\n"
		"      ]\n"
		"    },\n"
		"    {\n"
		"      \"inode\": 1180,\n"
		"      \"size\": 1073741824,\n"
		"      \"private\": 1069547520,\n"
		"      \"shared\": 4194304,\n"
		"      \"populated\": 536870912,\n"
		"      \"nodes\": {\n"
		"        \"0\": 268435456,\n"
		"        \"1023\": 268435456\n"
		"      },\n"
		"      \"open\": [\n"
		"        {\n          \"pid\": 700,\n          \"fd\": 12\n        },\n"
		"        {\n          \"pid\": 1200,\n          \"fd\": 3\n        },\n"
		"        {\n          \"pid\": 1200,\n          \"fd\": 4\n        }\n"
		"      ]\n"
		"    }\n"
		"  ],\n"
		"  \"processes\": [\n"
		"    {\n"
		"      \"pid\": 80,\n"
		"      \"process\": \"\\u001b[31m\\\"\\ufffd\",\n"
		"      \"guest\": null,\n"
		"      \"vm_fds\": [\n        3,\n        4\n      ]\n"
		"    },\n"
		"    {\n"
		"      \"pid\": 700,\n"
		"      \"process\": \"qemu\",\n"
		"      \"guest\": \"web\",\n"
		"      \"vm_fds\": [\n        9\n      ]\n"
		"    },\n"
		"    {\n"
		"      \"pid\": 1200,\n"
		"      \"process\": \"device\",\n"
		"      \"guest\": null,\n"
		"      \"vm_fds\": []\n"
		"    }\n"
		"  ],\n"
		"  \"hidden_processes\": 0\n"
		"}\n";

	fake.cached = 2;
	RUNS_AS("list --json", 0, want, "");
}

/* A process with more memories, for their order and their sums; and with a VM for each. */
static void make_many(const char *pid, int count)
{
	static const int nodes[] = {2, 5, 1, 3};
	char path[128], info[256];
	int i;

	make_dir(pid);
	snprintf(path, sizeof(path), "%s/fd", pid);
	make_dir(path);
	snprintf(path, sizeof(path), "%s/fdinfo", pid);
	make_dir(path);
	for (i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/fd/%d", pid, 1000 + i);
		make_link(path, "anon_inode:kvm-vm");
		snprintf(path, sizeof(path), "%s/fd/%d", pid, 2000 + i);
		make_link(path, "anon_inode:[kvm-gmem]");
		snprintf(path, sizeof(path), "%s/fdinfo/%d", pid, 2000 + i);
		/* each is largest in something else */
		snprintf(info, sizeof(info),
			 "ino: %d\ngmem-size: %d\ngmem-private: %d\ngmem-shared: %d\n"
			 "gmem-populated: %d\ngmem-node%d: %d\n",
			 atoi(pid) * 1000 + i, i == 1 ? 4096 : 2048,
			 i == 1	  ? 0
			 : i == 2 ? 2047
				  : 100 + i,
			 i == 3 ? 2046 : 0,
			 i == 0	  ? 2045
			 : i == 2 ? 0
				  : 200 + i,
			 nodes[i % 4], 200 + i);
		make(path, info, strlen(info));
	}
}

#define ROW_2000 "    400 2000  ?        1 of 4       2K      100        0       1.9K  2:200\n"
#define ROW_2001 "    400 2001  ?        1 of 4       4K        0        0        201  5:201\n"
#define ROW_2002 "    400 2002  ?        1 of 4       2K     1.9K        0          0  1:202\n"
#define ROW_2003 "    400 2003  ?        1 of 4       2K      103     1.9K        203  3:203\n"
#define ROW_SUM                                                                                    \
	"  TOTAL                            10K     2.1K     1.9K       2.3K  1:202 2:200 3:203 "  \
	"5:201\n"

static void test_sorted(void)
{
	make_many("400", 4);
	RUNS_AS("list 400", 0, HEADING ROW_2000 ROW_2001 ROW_2002 ROW_2003 ROW_SUM, "");
	RUNS_AS("list 400 --sort pid", 0, HEADING ROW_2000 ROW_2001 ROW_2002 ROW_2003 ROW_SUM, "");
	RUNS_AS("list 400 --sort size", 0, HEADING ROW_2001 ROW_2000 ROW_2002 ROW_2003 ROW_SUM, "");
	RUNS_AS("list 400 --sort private", 0, HEADING ROW_2002 ROW_2003 ROW_2000 ROW_2001 ROW_SUM,
		"");
	RUNS_AS("list --sort shared 400", 0, HEADING ROW_2003 ROW_2000 ROW_2001 ROW_2002 ROW_SUM,
		"");
	RUNS_AS("list 400 --sort populated", 0, HEADING ROW_2000 ROW_2003 ROW_2001 ROW_2002 ROW_SUM,
		"");
	/* Of two processes, where what they are sorted by is the same. */
	make_many("399", 2);
	make_many("398", 1);
	make("398/comm", "long-process\n", 13);
	RUNS_AS("list --sort shared", 0,
		"    PID   FD  PROCESS       VM          SIZE  PRIVATE   SHARED  POPULATED  NODES\n"
		"    700   12  qemu          web           1G    1020M       4M       512M  "
		"0:256M 1023:256M  also 1200:3 1200:4\n"
		"    400 2003  ?             1 of 4        2K      103     1.9K        203  3:203\n"
		"    398 2000  long-process  fd 1000       2K      100        0       1.9K  2:200\n"
		"    399 2000  ?             1 of 2        2K      100        0       1.9K  2:200\n"
		"    399 2001  ?             1 of 2        4K        0        0        201  5:201\n"
		"    400 2000  ?             1 of 4        2K      100        0       1.9K  2:200\n"
		"    400 2001  ?             1 of 4        4K        0        0        201  5:201\n"
		"    400 2002  ?             1 of 4        2K     1.9K        0          0  1:202\n"
		"     80    5  ?[31m\"?       1 of 2         -        -        -         8K  -\n"
		"  TOTAL                                    -        -        -     512.0M  -\n",
		UNTOLD);
	fake.tty = true;
	RUNS_AS("list 398", 0,
		"\33[1m    PID   FD  PROCESS       VM          SIZE  PRIVATE   SHARED  POPULATED"
		"  NODES\33[0m\n"
		"    398 2000  long-process  fd 1000       2K      100        0       1.9K  "
		"2:200\n",
		"");
	RUNS_AS("list 1200", 0,
		"\33[1m    PID   FD  PROCESS  VM     SIZE  PRIVATE   SHARED  POPULATED  "
		"NODES\33[0m\n"
		"   1200    3  device   -        1G    1020M  \33[33m     4M\33[0m       512M"
		"  0:256M 1023:256M  also 1200:4\n",
		"");
	fake.tty = false;
}

/* What the kernel does not tell: by whom it can be counted, and where it is sorted to. */
static void test_untold(void)
{
	static const char *const infos[] = {"ino: 6000\ngmem-size: 4096\n", "ino: 6001\n",
					    "ino: 6002\ngmem-size: 4096\n",
					    "ino: 6003\ngmem-size: 4096\ngmem-private: 0\n"
					    "gmem-shared: 0\ngmem-populated: 0\n"};
	char path[128];
	int i;

	make_dir("410");
	make_dir("410/fd");
	make_dir("410/fdinfo");
	for (i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "410/fd/%d", i);
		make_link(path, "anon_inode:[kvm-gmem]");
		snprintf(path, sizeof(path), "410/fdinfo/%d", i);
		make(path, infos[i], strlen(infos[i]));
	}
	make_link("410/fd/4", "anon_inode:[kvm-gmem]");
	make("410/fdinfo/4", infos[0], strlen(infos[0]));
	fake.cached = 1;
#define UNTOLD_HEADING "    PID   FD  PROCESS  VM     SIZE  PRIVATE   SHARED  POPULATED  NODES\n"
#define UNTOLD_0 "    410    0  ?        -        4K        -        -         4K  -  also 410:4\n"
#define UNTOLD_1 "    410    1  ?        -         -        -        -         4K  -\n"
#define UNTOLD_2 "    410    2  ?        -        4K        -        -         4K  -\n"
#define TOLD_3 "    410    3  ?        -        4K        0        0          0  -\n"
#define UNTOLD_SUM "  TOTAL                          -        -        -        12K  -\n"
	RUNS_AS("list 410", 0, UNTOLD_HEADING UNTOLD_0 UNTOLD_1 UNTOLD_2 TOLD_3 UNTOLD_SUM, UNTOLD);
	RUNS_AS("list 410 --sort private", 0,
		UNTOLD_HEADING TOLD_3 UNTOLD_0 UNTOLD_1 UNTOLD_2 UNTOLD_SUM, UNTOLD);
	RUNS_AS("list 410 --sort shared", 0,
		UNTOLD_HEADING TOLD_3 UNTOLD_0 UNTOLD_1 UNTOLD_2 UNTOLD_SUM, UNTOLD);
	RUNS_AS("list 410 --sort size", 0,
		UNTOLD_HEADING UNTOLD_0 UNTOLD_2 TOLD_3 UNTOLD_1 UNTOLD_SUM, UNTOLD);
	/* The first copy is refused, the others are not: also that of the same memory. */
	fake.getfd_error_once = EBADF;
	RUNS_AS("list 410", 0, UNTOLD_HEADING UNTOLD_0 UNTOLD_1 UNTOLD_2 TOLD_3 UNTOLD_SUM, UNTOLD);
	fake.getfd_error_once = 0;
	fake.cachestat_error = ENOSYS;
	RUNS_AS("list 410 --sort populated", 0,
		UNTOLD_HEADING TOLD_3
		"    410    0  ?        -        4K        -        -          -  -  also 410:4\n"
		"    410    1  ?        -         -        -        -          -  -\n"
		"    410    2  ?        -        4K        -        -          -  -\n"
		"  TOTAL                          -        -        -          -  -\n",
		UNTOLD UNCOUNTED);
	fake.cachestat_error = 0;
}

/* Twice as many VMs make twice as much JSON. */
static void test_growth(void)
{
	make_many("401", 30);
	make_many("402", 60);
	CHECK(output_length("list 402 --json") < 22 * output_length("list 401 --json") / 10);
}

static void test_nothing(void)
{
	char saved[256];

	strcpy(saved, root);
	make_dir("none");
	make_dir("none/5");
	make_dir("none/5/fd");
	strcat(root, "/none");
	RUNS_AS("list", 0, "", "gmemctl: no process has a guest_memfd.\n");
	RUNS_AS("list 5", 0, "", "gmemctl: process 5 has no guest_memfd.\n");
	RUNS_AS("list 5 --json", 0,
		"{\n  \"memories\": [],\n  \"processes\": [],\n  \"hidden_processes\": 0\n}\n", "");
	RUNS_AS("show 5", 3, "", "gmemctl: process 5 has no guest_memfd\n");
	if (geteuid()) { /* root sees everything */
		make("5/cmdline", "x", 1);
		CHECK(!chmod(in_root("5/fd"), 0));
		RUNS_AS("list", 0, "",
			"gmemctl: no process that can be inspected has a guest_memfd.\n"
			"gmemctl: 1 process of other users cannot be inspected: run this as "
			"root.\n");
		RUNS_AS("list 5", 3, "",
			"gmemctl: process 5 cannot be inspected: run this as root\n");
		RUNS_AS("show 5", 3, "",
			"gmemctl: process 5 cannot be inspected: run this as root\n");
		make_dir("6");
		make_dir("6/fd");
		make("6/cmdline", "x", 1);
		CHECK(!chmod(in_root("6/fd"), 0));
		RUNS_AS("list", 0, "",
			"gmemctl: no process that can be inspected has a guest_memfd.\n"
			"gmemctl: 2 processes of other users cannot be inspected: run this as "
			"root.\n");
	}
	strcpy(root, saved);
}

/* --- show */

static const struct kvm_gmem_range ranges[] = {
	{0, 8192, 8192, KVM_GMEM_RANGE_PRIVATE, 0},
	{8192, 4096, 0, 0, KVM_GMEM_NODE_NONE},
	{12288, 4096, 4096, 0, 12},
	{16384, 2097152, 2097152, KVM_GMEM_RANGE_PRIVATE, KVM_GMEM_NODE_MIXED},
};

#define SHOWN "700:12 (qemu): 2M, 2.0M private, 8K shared, 2.0M populated\n"
#define OF_RUNS "        OFFSET     SIZE  STATE    POPULATED  NODE\n"
#define RUN_0 "             0       8K  private  yes        0\n"
#define RUN_1 "        0x2000       4K  shared   no         -\n"
#define RUN_2 "        0x3000       4K  shared   yes        12\n"
#define RUN_3 "        0x4000       2M  private  yes        mixed\n"
#undef SHOWN
#define SHOWN "700:12 (qemu): 2.0M, 2.0M private, 8K shared, 2.0M populated\n"

static void test_target(void)
{
	static const char *const bad[] = {
		"0",	"x", "1x", "1:", "1:x", ":1", "1:2:3", "99999999999", "1:99999999999",
		"1:-1", "+1"};
	char words[64], want[128];
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(words, sizeof(words), "show %s", bad[i]);
		snprintf(want, sizeof(want), "gmemctl: show wants PID or PID:FD, not '%s'\n" HINT,
			 bad[i]);
		RUNS_AS(words, 64, "", want);
	}
	RUNS_AS("show", 64, "", "gmemctl: show: which process?\n" HINT);
	RUNS_AS("show 1 2", 64, "", "gmemctl: show takes one PID[:FD], and no '2'\n" HINT);
	RUNS_AS("show 700 --watch 0.09", 64, "",
		"gmemctl: --watch wants 0.1 to 86400 seconds, not '0.09'\n" HINT);
	RUNS_AS("show 700 --watch 86401", 64, "",
		"gmemctl: --watch wants 0.1 to 86400 seconds, not '86401'\n" HINT);
	RUNS_AS("show 700 --watch x", 64, "",
		"gmemctl: --watch wants 0.1 to 86400 seconds, not 'x'\n" HINT);
	RUNS_AS("show 700 --watch 1x", 64, "",
		"gmemctl: --watch wants 0.1 to 86400 seconds, not '1x'\n" HINT);

	RUNS_AS("show 5", 3, "", "gmemctl: process 5 has ended\n");
	RUNS_AS("show 1", 3, "", "gmemctl: process 1 has ended\n");
	RUNS_AS("show 700:99", 3, "", "gmemctl: process 700 has no descriptor 99\n");
	RUNS_AS("show 700:0", 3, "", "gmemctl: 700:0 is not a guest_memfd\n");
	RUNS_AS("show 400", 3, "",
		"gmemctl: process 400 has several guest_memfds: name one of 400:2000, 400:2001, "
		"400:2002, 400:2003\n");
	fake.pidfd_error = ESRCH;
	RUNS_AS("show 700", 3, "", "gmemctl: there is no process 700\n");
	fake.pidfd_error = 0;
	fake.getfd_error = EPERM;
	RUNS_AS("show 700", 3, "",
		"gmemctl: 700:12 cannot be inspected: that needs permission to ptrace(2) the "
		"process\n");
	fake.getfd_error = EMFILE;
	RUNS_AS("show 700", 3, "", "gmemctl: 700:12: Too many open files\n");
	fake.getfd_error = 0;
	fake.ranges_error = ENOTTY;
	RUNS_AS("show 700", 3, "",
		"gmemctl: 700:12: the kernel does not report ranges: it has no "
		"KVM_GMEM_GET_RANGES (gmem's series), or the memory was created without "
		"GUEST_MEMFD_FLAG_MMAP\n");
	fake.ranges_error = 0;
	/* Of many some are named. */
	RUNS_AS("show 401", 3, "",
		"gmemctl: process 401 has several guest_memfds: name one of 401:2000, 401:2001, "
		"401:2002, 401:2003, 401:2004, 401:2005, 401:2006, 401:2007, 401:2008, 401:2009, "
		"401:2010, 401:2011, 401:2012, 401:2013, 401:2014, 401:2015, 401:2016, 401:2017, "
		"401:2018, 401:2019, 401:2020, 401:2021, 401:2022, 401:2023, ...\n");
}

static void test_show_text(void)
{
	RUNS_AS("show 700", 0, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3, "");
	RUNS_AS("show 700:12", 0, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3, "");
	/* The same memory twice is one. */
	RUNS_AS("show 1200", 0,
		"1200:3 (device): 2.0M, 2.0M private, 8K shared, 2.0M populated\n" OF_RUNS RUN_0
			RUN_1 RUN_2 RUN_3,
		"");
	RUNS_AS("show 1200:4", 0,
		"1200:4 (device): 2.0M, 2.0M private, 8K shared, 2.0M populated\n" OF_RUNS RUN_0
			RUN_1 RUN_2 RUN_3,
		"");
	fake.tty = true;
	fake.rows = 3;
	RUNS_AS("show 700", 0,
		SHOWN "\33[1m        OFFSET     SIZE  STATE    POPULATED  NODE\33[0m\n" RUN_0
		      "        0x2000       4K  \33[33mshared \33[0m  no         -\n"
		      "        0x3000       4K  \33[33mshared \33[0m  yes        12\n" RUN_3,
		"");
	fake.tty = false;
}

static void test_show_json(void)
{
	static const char head[] = "{\"pid\": 700, \"fd\": 12, \"process\": \"qemu\", "
				   "\"size\": 2113536, \"private\": 2105344, \"shared\": 8192, "
				   "\"populated\": 2109440, \"runs\": [";
	char want[2048];

	RUNS_AS("show 700 --json", 0,
		"{\n"
		"  \"pid\": 700,\n  \"fd\": 12,\n  \"process\": \"qemu\",\n"
		"  \"size\": 2113536,\n  \"private\": 2105344,\n  \"shared\": 8192,\n"
		"  \"populated\": 2109440,\n"
		"  \"runs\": [\n"
		"    {\n      \"offset\": 0,\n      \"size\": 8192,\n      \"state\": "
		"\"private\",\n      \"populated\": 8192,\n      \"node\": 0\n    },\n"
		"    {\n      \"offset\": 8192,\n      \"size\": 4096,\n      \"state\": "
		"\"shared\",\n      \"populated\": 0,\n      \"node\": null\n    },\n"
		"    {\n      \"offset\": 12288,\n      \"size\": 4096,\n      \"state\": "
		"\"shared\",\n      \"populated\": 4096,\n      \"node\": 12\n    },\n"
		"    {\n      \"offset\": 16384,\n      \"size\": 2097152,\n      \"state\": "
		"\"private\",\n      \"populated\": 2097152,\n      \"node\": null\n    }\n"
		"  ]\n}\n",
		"");
	/* Watched, each is a line. */
	fake.gone_after = 1;
	snprintf(want, sizeof(want),
		 "%s{\"offset\": 0, \"size\": 8192, \"state\": \"private\", \"populated\": 8192, "
		 "\"node\": 0}, {\"offset\": 8192, \"size\": 4096, \"state\": \"shared\", "
		 "\"populated\": 0, \"node\": null}, {\"offset\": 12288, \"size\": 4096, "
		 "\"state\": \"shared\", \"populated\": 4096, \"node\": 12}, {\"offset\": 16384, "
		 "\"size\": 2097152, \"state\": \"private\", \"populated\": 2097152, \"node\": "
		 "null}]}\n",
		 head);
	RUNS_AS("show 700 --json --watch 1", 0, want, "");
	fake.gone_after = 0;
}

/* How long it slept, though a signal came. */
static void to_watch(void *data)
{
	char *argv[] = {"gmemctl", "show", "700", "--json", "--watch", data, NULL};
	int status;

	CHECK(freopen("/dev/null", "w", stdout));
	fake.failing = "nanosleep";
	fake.failing_error = EINTR;
	status = gmemctl_main(6, argv);
	fprintf(stderr, "slept %.3f\n", fake.slept);
	exit(status);
}

/* The lines of a terminal hold what there is room for, and the cursor. */
static void expect_rows(unsigned short rows, const char *want, int line)
{
	char all[1024];

	fake.tty = true;
	fake.rows = rows;
	setenv("NO_COLOR", "1", 1);
	fake.gone_after = 2;
	snprintf(all, sizeof(all), "\33[H\33[J%s\33[H\33[J%s", want, want);
	runs_as("show 700 --watch 1", 0, all, "", line);
	fake.gone_after = 0;
	unsetenv("NO_COLOR");
	fake.tty = false;
}

static void test_watch(void)
{
	fake.gone_after = 2;
	RUNS_AS("show 700 --watch 0.1", 0,
		SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3 "\n" SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3
						      "\n",
		"");
	fake.gone_after = 0;
	expect_rows(0, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3, __LINE__);
	expect_rows(8, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3, __LINE__);
	expect_rows(7, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 "and 1 more\n", __LINE__);
	expect_rows(6, SHOWN OF_RUNS RUN_0 RUN_1 "and 2 more\n", __LINE__);
	expect_rows(5, SHOWN OF_RUNS RUN_0 "and 3 more\n", __LINE__);
	expect_rows(4, SHOWN OF_RUNS "and 4 more\n", __LINE__);
	expect_rows(3, SHOWN "and 4 more\n", __LINE__);
	expect_rows(2, SHOWN, __LINE__);
	expect_rows(1, SHOWN, __LINE__);
	/* A number that stands for something else by then, and what is no end. */
	fake.gone_after = 1;
	fake.gone_error = EBADF;
	RUNS_AS("show 700 --watch 1", 0, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3 "\n", "");
	fake.gone_error = EMEDIUMTYPE;
	RUNS_AS("show 700 --watch 1", 0, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3 "\n", "");
	fake.gone_error = EPERM;
	RUNS_AS("show 700 --watch 1", 3, SHOWN OF_RUNS RUN_0 RUN_1 RUN_2 RUN_3 "\n",
		"gmemctl: 700:12 cannot be inspected: that needs permission to ptrace(2) the "
		"process\n");
	fake.gone_error = ESRCH;
	expect_child(to_watch, "", 64, "",
		     "gmemctl: --watch wants 0.1 to 86400 seconds, not ''\n" HINT, __LINE__);
	fake.copies = 0;
	fake.gone_after = 3;
	expect_child(to_watch, "86400", 0, "", "slept 259200.000\n", __LINE__);
	expect_child(to_watch, "1.25", 0, "", "slept 3.750\n", __LINE__);
	fake.gone_after = 0;
}

static void read_text(const char *path, char *ret, size_t room)
{
	FILE *f = fopen(path, "r");

	CHECK(f);
	ret[fread(ret, 1, room - 1, f)] = 0;
	fclose(f);
}

static void test_show_svg(void)
{
	static char text[200000];
	char words[600], want[600];

	snprintf(words, sizeof(words), "show 700 --svg %s", in_root("out.svg"));
	RUNS_AS(words, 0, "", "");
	read_text(in_root("out.svg"), text, sizeof(text));
	CHECK(strstr(text, ">700:12 (qemu): 2.0M, 2.0M of it private, 2.0M populated<"));
	CHECK(strstr(text, ">on node 0: 8K<") && strstr(text, ">on node 12: 4K<"));
	CHECK(strstr(text, ">on node 0: 8K<") < strstr(text, ">on node 12: 4K<"));
	CHECK(!strstr(text, "node -") && strstr(text, "height=\"412\""));
	/* 8 KiB of 2064 are shared, from 8 KiB on. */
	CHECK(strstr(text, "class=\"shared\" x=\"23.6\" y=\"40.0\" width=\"3.6\""));
	snprintf(words, sizeof(words), "show 700 --svg %s", in_root("nowhere/out.svg"));
	snprintf(want, sizeof(want), "gmemctl: %s: No such file or directory\n",
		 in_root("nowhere/out.svg"));
	RUNS_AS(words, 3, "", want);
}

#define SVG_RECT(class, x, y, width)                                                               \
	"<rect class=\"" class "\" x=\"" x "\" y=\"" y "\" width=\"" width "\" "                   \
			       "height=\"56.0\"/>\n"
#define SVG_STRIP(y, used, title_y, title)                                                         \
	SVG_RECT("private", "20.0", y, "920.0")                                                    \
	SVG_RECT("shared", "250.0", y, "230.0")                                                    \
	used SVG_RECT("frame", "20.0", y, "920.0") "<text x=\"20\" y=\"" title_y "\">" title       \
						   "</text>\n"

/* A page on node 12, one on node 3 that is shared, and two of nothing. */
static void test_show_strips(void)
{
	static const struct kvm_gmem_range two[] = {
		{0, 4096, 4096, KVM_GMEM_RANGE_PRIVATE, 12},
		{4096, 4096, 4096, 0, 3},
		{8192, 8192, 0, KVM_GMEM_RANGE_PRIVATE, KVM_GMEM_NODE_NONE},
	};
	static const char want[] =
		SVG_STRIP("40.0",
			  SVG_RECT("used", "20.0", "40.0", "230.1")
				  SVG_RECT("used", "250.0", "40.0", "230.1"),
			  "30", "700:12 (qemu): 16K, 12K of it private, 8K populated")
			SVG_STRIP("154.0", SVG_RECT("used", "250.0", "154.0", "230.1"), "144",
				  "on node 3: 4K")
				SVG_STRIP("268.0", SVG_RECT("used", "20.0", "268.0", "230.1"),
					  "258", "on node 12: 4K");
	static char text[200000];
	char words[600], *strips;

	make_memory(16384);
	fake.ranges = two;
	fake.nr_ranges = 3;
	snprintf(words, sizeof(words), "show 700 --svg %s", in_root("out.svg"));
	RUNS_AS(words, 0, "", "");
	read_text(in_root("out.svg"), text, sizeof(text));
	strips = strstr(text, "</style>\n") + 9;
	if (strncmp(strips, want, strlen(want)))
		fprintf(stderr, "%s", strips);
	CHECK(!strncmp(strips, want, strlen(want)));
}

static void test_show(void)
{
	make_memory(2113536);
	fake.ranges = ranges;
	fake.nr_ranges = sizeof(ranges) / sizeof(ranges[0]);
	test_target();
	test_show_text();
	test_show_json();
	test_watch();
	test_show_svg();
	test_show_strips();
}

/* --- probe */

#define FREED "all are freed\n"

/* A type of VMs that cannot be had, and one with dual mode. */
static void test_probe_json(void)
{
	static const struct {
		const char *id, *why; /* NULL: it is there */
	} features[] = {
		{"inplace", "Not here."},
		{"attributes", "Not here."},
		{"dual", NULL},
		{"shared", "Not here."},
		{"plain", "Not here."},
		{"policy", "Not here."},
		{"ranges", "Not here."},
		{"zero", "Others neither."},
		{"link", "The library does not say why."},
		{"clone", "Not here."},
		{"memory_fault", "Not here."},
		{"map_gpa_range", "They can ask, but there is nothing to convert."},
	};
	const size_t nr = sizeof(features) / sizeof(features[0]);
	char *want;
	size_t type, i, bytes;
	const char *why;
	FILE *file = open_memstream(&want, &bytes);

	CHECK(file);
	kvm.vm_errors[0] = -EINVAL;
	kvm.vm_errors[1] = 0;
	kvm.caps[1] = GMEM_CAP_DUAL | GMEM_CAP_MAP_GPA_RANGE;
	kvm.nodes = 2;
	fprintf(file, "{\n  \"libgmem\": {\n    \"major\": 7,\n    \"minor\": 8\n  },\n"
		      "  \"kernel\": \"6.12-test\",\n"
		      "  \"kvm\": {\n    \"available\": true\n  },\n"
		      "  \"nodes\": 2,\n  \"types\": {\n");
	for (type = 0; type < 2; type++) {
		fprintf(file, "    \"%s\": {\n      \"available\": %s,\n%s", kvm_types[type].id,
			type ? "true" : "false",
			type ? "" : "      \"reason\": \"No plain VMs.\",\n");
		fprintf(file, "      \"features\": {\n");
		for (i = 0; i < nr; i++) {
			why = type ? features[i].why : "No plain VMs.";
			fprintf(file,
				"        \"%s\": {\n          \"available\": ", features[i].id);
			if (why)
				fprintf(file, "false,\n          \"reason\": \"%s\"\n", why);
			else
				fprintf(file, "true\n");
			fprintf(file, "        }%s\n", i + 1 < nr ? "," : "");
		}
		fprintf(file, "      }\n    }%s\n", type ? "" : ",");
	}
	fprintf(file, "  },\n  \"placement\": {\n    \"available\": true\n  }\n}\n");
	CHECK(!fclose(file));
	RUNS_AS("probe --json", 0, want, FREED);
	free(want);
}

static void test_probe(void)
{
	/* That there is none is an answer, that it may not be asked is none. */
	kvm.error = -ENODEV;
	RUNS_AS("probe", 0, "KVM                             no   It is so.\n", "");
	RUNS_AS("probe --json", 0,
		"{\n  \"libgmem\": {\n    \"major\": 7,\n    \"minor\": 8\n  },\n"
		"  \"kernel\": \"6.12-test\",\n"
		"  \"kvm\": {\n    \"available\": false,\n    \"reason\": \"It is so.\"\n  },\n"
		"  \"nodes\": 1,\n  \"types\": {}\n}\n",
		"");
	kvm.error = -EACCES;
	RUNS_AS("probe", 3, "", "gmemctl: It is so.\n");
	RUNS_AS("probe x", 64, "", "gmemctl: probe takes no 'x'\n" HINT);
	kvm.error = 0;
	kvm.vm_errors[0] = -EMFILE;
	RUNS_AS("probe", 3, "", "gmemctl: plain VMs: No plain VMs.\n");
	kvm.vm_errors[0] = -ENFILE;
	RUNS_AS("probe", 3, "", "gmemctl: plain VMs: No plain VMs.\n");
	kvm.vm_errors[0] = 0;
	kvm.vm_errors[1] = -ENOMEM;
	RUNS_AS("probe", 3, "", "gmemctl: other VMs: No other VMs.\n");

	/* None that can be had. */
	kvm.vm_errors[0] = kvm.vm_errors[1] = -EINVAL;
	kvm.nodes = 2;
	RUNS_AS("probe", 0,
		"KVM                             yes\n"
		"plain VMs                       no   No plain VMs.\n"
		"other VMs                       no   No other VMs.\n"
		"private memory in place         no   There is no VM that could have it.\n"
		"the same, by Linux 7.4's ioctl  no   There is no VM that could have it.\n"
		"private beside shared memory    no   There is no VM that could have it.\n"
		"shared memory of a guest_memfd  no   There is no VM that could have it.\n"
		"shared memory of a memfd        no   There is no VM that could have it.\n"
		"NUMA policy                     no   There is no VM that could have it.\n"
		"listing ranges and states       no   There is no VM that could have it.\n"
		"zeroing in place                no   There is no VM that could have it.\n"
		"memory that outlives its VM     no   There is no VM that could have it.\n"
		"frozen memory and clones        no   There is no VM that could have it.\n"
		"exits on memory faults          no   There is no VM that could have it.\n"
		"guests that ask to convert      no   There is no VM that could have it.\n"
		"placement on nodes              no   There is no guest memory to place.\n",
		"");

	/* Plain ones have shared memory; the others have more. */
	kvm.vm_errors[0] = kvm.vm_errors[1] = 0;
	kvm.caps[0] = GMEM_CAP_SHARED | GMEM_CAP_MAP_GPA_RANGE;
	kvm.caps[1] = GMEM_CAP_SHARED | GMEM_CAP_MAP_GPA_RANGE | GMEM_CAP_PRIVATE | GMEM_CAP_DUAL;
	RUNS_AS("probe", 0,
		"KVM                             yes\n"
		"plain VMs                       yes\n"
		"other VMs                       yes\n"
		"private memory in place         no   Not here.\n"
		"the same, by Linux 7.4's ioctl  no   Not here.\n"
		"private beside shared memory    yes  in other VMs only\n"
		"shared memory of a guest_memfd  yes\n"
		"shared memory of a memfd        no   Not here.\n"
		"NUMA policy                     no   Not here.\n"
		"listing ranges and states       no   Not here.\n"
		"zeroing in place                no   plain VMs: Plain VMs never. other VMs: "
		"Others neither.\n"
		"memory that outlives its VM     no   The library does not say why.\n"
		"frozen memory and clones        no   Not here.\n"
		"exits on memory faults          no   Not here.\n"
		"guests that ask to convert      yes  in other VMs only\n"
		"placement on nodes              yes  at allocation only, there is no policy\n",
		FREED);
	kvm.caps[0] = GMEM_CAP_INPLACE | GMEM_CAP_POLICY | GMEM_CAP_MAP_GPA_RANGE;
	kvm.caps[1] = 77; /* asking fails */
	kvm.nodes = 9;	  /* none that may be used */
	RUNS_AS("probe", 0,
		"KVM                             yes\n"
		"plain VMs                       yes\n"
		"other VMs                       yes\n"
		"private memory in place         yes  in plain VMs only\n"
		"the same, by Linux 7.4's ioctl  no   Not here.\n"
		"private beside shared memory    no   Not here.\n"
		"shared memory of a guest_memfd  no   Not here.\n"
		"shared memory of a memfd        no   Not here.\n"
		"NUMA policy                     yes  in plain VMs only\n"
		"listing ranges and states       no   Not here.\n"
		"zeroing in place                no   plain VMs: Plain VMs never. other VMs: "
		"Others neither.\n"
		"memory that outlives its VM     no   The library does not say why.\n"
		"frozen memory and clones        no   Not here.\n"
		"exits on memory faults          no   Not here.\n"
		"guests that ask to convert      no   They can ask, but there is nothing to "
		"convert.\n"
		"placement on nodes              no   There is one node only that has memory "
		"which this process may use.\n",
		FREED);
	kvm.vm_errors[1] = -EINVAL;
	kvm.nodes = 2;
	RUNS_AS("probe", 0,
		"KVM                             yes\n"
		"plain VMs                       yes\n"
		"other VMs                       no   No other VMs.\n"
		"private memory in place         yes\n"
		"the same, by Linux 7.4's ioctl  no   Not here.\n"
		"private beside shared memory    no   Not here.\n"
		"shared memory of a guest_memfd  no   Not here.\n"
		"shared memory of a memfd        no   Not here.\n"
		"NUMA policy                     yes\n"
		"listing ranges and states       no   Not here.\n"
		"zeroing in place                no   Plain VMs never.\n"
		"memory that outlives its VM     no   The library does not say why.\n"
		"frozen memory and clones        no   Not here.\n"
		"exits on memory faults          no   Not here.\n"
		"guests that ask to convert      no   They can ask, but there is nothing to "
		"convert.\n"
		"placement on nodes              yes\n",
		FREED);
}

void test_commands(void)
{
	fake.target = "anon_inode:[kvm-gmem]";
	fake.at_once = SIZE_MAX;
	fake.gone_error = ESRCH;
	test_main();
	test_list();
	test_list_json();
	test_sorted();
	test_untold();
	test_growth();
	test_show();
	test_nothing();
	test_probe();
	test_probe_json();
}

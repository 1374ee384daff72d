/* SPDX-License-Identifier: MIT */
/*
 * What gmemctl makes of /proc, of sizes and of strings, and its pictures: on a /proc of the
 * test's own making, so on any machine.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "expect.h"
#include "json.h"
#include "picture.h"
#include "proc.h"
#include "runs.h"

static char root[] = "/tmp/gmemctl-test-XXXXXX";

/* --- a /proc */

static void make(const char *path, const char *text, size_t length)
{
	char full[256];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	f = fopen(full, "w");
	CHECK(f);
	CHECK(fwrite(text, 1, length, f) == length);
	CHECK(!fclose(f));
}

static void make_dir(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", root, path);
	CHECK(!mkdir(full, 0755));
}

static void make_link(const char *path, const char *target)
{
	char full[256];

	snprintf(full, sizeof(full), "%s/%s", root, path);
	CHECK(!symlink(target, full));
}

#define FDINFO                                                                                     \
	"pos:\t0\nflags:\t02100002\nmnt_id:\t13\nino:\t1180\ngmem-size:\t1073741824\n"             \
	"gmem-private:\t1069547520\ngmem-shared:\t4194304\ngmem-populated:\t536870912\n"           \
	"gmem-node0:\t268435456\ngmem-node1023:\t268435456\n"
#define CMDLINE                                                                                    \
	"qemu\0-m\0"                                                                               \
	"4G\0-name\0guest=web,debug-threads=on\0-S"

static void make_proc(void)
{
	CHECK(mkdtemp(root));
	/* QEMU, on gmem's kernel. */
	make_dir("700");
	make_dir("700/fd");
	make_dir("700/fdinfo");
	make("700/comm", "qemu\n", 5);
	make("700/cmdline", CMDLINE, sizeof(CMDLINE));
	make_link("700/fd/12", "anon_inode:[kvm-gmem]");
	make_link("700/fd/9", "anon_inode:kvm-vm");
	make_link("700/fd/10", "anon_inode:kvm-vcpu:0");
	make_link("700/fd/0", "/dev/null");
	make("700/fdinfo/12", FDINFO, sizeof(FDINFO) - 1);
	/* Another kernel; two VMs; a name that is a trap; a number that is none. */
	make_dir("80");
	make_dir("80/fd");
	make_dir("80/fdinfo");
	make("80/comm", "\33[31m\"\xff\n", 8);
	make("80/cmdline", "x\0-name", 8);
	make_link("80/fd/3", "anon_inode:kvm-vm");
	make_link("80/fd/4", "anon_inode:kvm-vm");
	make_link("80/fd/5", "anon_inode:[kvm-gmem]");
	make_link("80/fd/6", "/[kvm-gmem] (deleted)");
	make_link("80/fd/7", "/tmp/anon_inode:[kvm-gmem]");
	make_link("80/fd/5x", "anon_inode:[kvm-gmem]");
	make("80/fdinfo/5", "pos:\t0\ngmem-size:\tmuch\ngmem-shared:\t4096\n", 41);
	/* No processes. */
	make_dir("self");
	make_dir("90x");
	/* One that is ending. */
	make_dir("95");
}

static void test_proc(void)
{
	struct proc_memories memories;
	const struct proc_memory *memory;

	make_proc();
	CHECK(!proc_scan(root, 0, &memories));
	CHECK(memories.count == 2 && !memories.hidden);

	memory = &memories.all[0];
	CHECK(memory->pid == 80 && memory->fd == 5);
	CHECK(!strcmp(memory->process, "\33[31m\"\xff") && !memory->guest[0]);
	CHECK(memory->nr_vm_fds == 2 && memory->vm_fds[0] == 3 && memory->vm_fds[1] == 4);
	CHECK(!memory->told && !memory->size && !memory->inode && !memory->nr_nodes);

	memory = &memories.all[1];
	CHECK(memory->pid == 700 && memory->fd == 12);
	CHECK(!strcmp(memory->process, "qemu") && !strcmp(memory->guest, "web"));
	CHECK(memory->nr_vm_fds == 1 && memory->vm_fds[0] == 9);
	CHECK(memory->told && memory->inode == 1180 && memory->size == 1073741824);
	CHECK(memory->private_bytes == 1069547520 && memory->shared_bytes == 4194304);
	CHECK(memory->populated == 536870912 && memory->nr_nodes == 2);
	CHECK(memory->nodes[0].node == 0 && memory->nodes[1].node == 1023);
	CHECK(memory->nodes[1].bytes == 268435456);
	proc_free(&memories);

	CHECK(!proc_scan(root, 700, &memories) && memories.count == 1);
	proc_free(&memories);
	CHECK(!proc_scan(root, 95, &memories) && !memories.count);
	proc_free(&memories);
	CHECK(!proc_scan(root, 1, &memories) && !memories.count);
	proc_free(&memories);
	CHECK(proc_scan("/nowhere", 0, &memories) == -ENOENT);
}

/* What may not be looked at is counted, unless it is a kernel thread. */
static void test_hidden(void)
{
	struct proc_memories memories;
	char path[256];

	if (!geteuid()) /* who sees everything */
		return;
	make_dir("96");
	make_dir("96/fd");
	make("96/cmdline", "secret", 6);
	make_dir("97");
	make_dir("97/fd");
	make("97/cmdline", "", 0);
	snprintf(path, sizeof(path), "%s/96/fd", root);
	CHECK(!chmod(path, 0));
	snprintf(path, sizeof(path), "%s/97/fd", root);
	CHECK(!chmod(path, 0));
	CHECK(!proc_scan(root, 0, &memories) && memories.count == 2 && memories.hidden == 1);
	proc_free(&memories);
}

/* --- text */

static void test_sizes(void)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{0, "0"},
		{1023, "1023"},
		{1024, "1K"},
		{1025, "1.0K"},
		{1536, "1.5K"},
		{(1 << 20) - 1, "1023.9K"},
		{1 << 20, "1M"},
		{(256u << 20) - 4096, "255.9M"},
		{UINT64_C(5) << 40, "5T"},
		{UINT64_MAX, "15.9E"},
	};
	char text[SIZE_TEXT];
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		CHECK(!strcmp(size_text(text, sizes[i].bytes), sizes[i].text));
}

static void test_json(void)
{
	static const char want[] = "{\"a\\\"\\\\\": [1, -2, 0.500, true, null, null], "
				   "\"b\": \"\\u001b\\ufffd\xc3\xa9\\ufffd\\ufffd\\u007f\"}\n";
	char text[512] = "", harmless[] = "a\33b\xff";
	struct json json = {.lines = true};

	json.f = fmemopen(text, sizeof(text), "w");
	CHECK(json.f);
	json_begin(&json, NULL, '{');
	json_begin(&json, "a\"\\", '[');
	json_number(&json, NULL, 1);
	json_signed(&json, NULL, -2);
	json_decimal(&json, NULL, 0.5);
	json_bool(&json, NULL, true);
	json_null(&json, NULL);
	json_string(&json, NULL, NULL);
	json_end(&json, ']');
	/* an escape; a byte that is no UTF-8; one that is; a surrogate's start; a long slash */
	json_string(&json, "b", "\33\xff\xc3\xa9\xc0\xaf\x7f");
	json_end(&json, '}');
	fclose(json.f);
	CHECK(!strcmp(text, want));

	printable(harmless);
	CHECK(!strcmp(harmless, "a?b?"));
}

static void test_save(void)
{
	char path[256], text[8] = "";
	struct stat stat;
	FILE *f;

	snprintf(path, sizeof(path), "%s/saved", root);
	umask(022);
	save_file(path, "one", 3);
	CHECK(!lstat(path, &stat) && (stat.st_mode & 0777) == 0644);
	CHECK(!chmod(path, 0600));
	save_file(path, "two", 3);
	CHECK(!lstat(path, &stat) && (stat.st_mode & 0777) == 0600);
	f = fopen(path, "r");
	CHECK(f && fread(text, 1, sizeof(text), f) == 3 && !strcmp(text, "two"));
	fclose(f);
	save_file("/dev/null", "three", 5);
	CHECK(!lstat("/dev/null", &stat) && S_ISCHR(stat.st_mode));
}

/* --- runs, and pictures of them */

#define PAGES 100000u

static uint64_t one_by_one(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	(void)data;
	(void)end;
	*ret_shared = start / 4096 % 2;
	return 4096;
}

static uint64_t half(void *data, unsigned int strip, uint64_t start, uint64_t bytes)
{
	(void)data;
	(void)strip;
	(void)start;
	return bytes / 2;
}

static uint64_t one_page(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	const uint64_t page = 77 * UINT64_C(4096);

	(void)data;
	*ret_shared = start == page;
	return start < page ? page - start : start == page ? 4096 : end - start;
}

static size_t draw(struct picture_source source, char **ret)
{
	struct picture_strip strip = {"<a & \"b\">\n", 0, PAGES * UINT64_C(4096)};
	size_t length;
	FILE *f = open_memstream(ret, &length);

	CHECK(f);
	picture_draw(f, &strip, 1, &source);
	CHECK(!fclose(f));
	return length;
}

static void test_picture(void)
{
	struct picture_source source = {NULL, one_by_one, half};
	char *text, *at;

	/* As many runs as pages: it stays small, and what is shared covers it. */
	CHECK(draw(source, &text) < 100000);
	CHECK(strstr(text, "class=\"shared\" x=\"20.0\" y=\"40.0\" width=\"920"));
	CHECK(strstr(text, "&#60;a &#38; &#34;b&#34;&#62; </text>") && !strstr(text, "<a"));
	free(text);

	/* One page of 100000 is seen. */
	source.run = one_page;
	draw(source, &text);
	at = strstr(text, "class=\"shared\"");
	CHECK(at && strstr(at, "width=\"0.5\""));
	free(text);
}

static void test_runs(void)
{
	struct kvm_gmem_range all[] = {
		{0, 8192, 8192, KVM_GMEM_RANGE_PRIVATE, 0},
		{8192, 4096, 0, 0, KVM_GMEM_NODE_NONE},
		{12288, 4096, 4096, 0, 1},
	};
	struct runs runs = {all, 3, 16384, 8192, 12288};

	CHECK(runs_find(&runs, 0) == &all[0] && runs_find(&runs, 8191) == &all[0]);
	CHECK(runs_find(&runs, 8192) == &all[1] && runs_find(&runs, 16383) == &all[2]);
	CHECK(runs_populated(&runs, -1, 0, 16384) == 12288);
	CHECK(runs_populated(&runs, 0, 0, 16384) == 8192);
	CHECK(runs_populated(&runs, 1, 4096, 12288) == 4096);
	CHECK(runs_populated(&runs, -1, 4096, 4096) == 4096);
	CHECK(runs_populated(&runs, -1, 8192, 4096) == 0);
	CHECK(runs_populated(&runs, 2, 0, 16384) == 0);
}

int main(void)
{
	char command[128];
	int r;

	test_proc();
	test_hidden();
	test_sizes();
	test_json();
	test_save();
	test_picture();
	test_runs();
	snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -r %s", root, root);
	r = system(command);
	return r != 0;
}

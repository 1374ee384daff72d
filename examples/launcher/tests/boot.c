/* SPDX-License-Identifier: MIT */
/* The loader and the reader of files: what is refused, in which words, and where things go. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <asm/bootparam.h>

#include "../../../tools/tests/expect.h"
#include "acpi.h"
#include "boot.h"

#define MIB (1ull << 20)
#define RAM (64 * MIB)
#define HEADER 0x1f1
#define SETUP 1024
#define SIZE (SETUP + 4096)

static uint8_t image[SIZE], initrd[3 * MIB], *ram;
static struct setup_header *const header = (void *)(image + HEADER);
static struct boot boot;

/* A kernel that is in order, for a test to put something into disorder. */
static void begin(void)
{
	memset(image, 0xee, sizeof(image));
	*header = (struct setup_header){.setup_sects = 1,
					.syssize = (SIZE - SETUP) / 16,
					.boot_flag = 0xaa55,
					.header = 0x53726448,
					.version = 0x20f,
					.initrd_addr_max = 0x7fffffff,
					.kernel_alignment = 2 * MIB,
					.relocatable_kernel = 1,
					.xloadflags = XLF_KERNEL_64,
					.cmdline_size = 2047,
					.pref_address = 16 * MIB,
					.init_size = 8 * MIB};
	memset(initrd, 0xdd, sizeof(initrd));
	boot = (struct boot){
		.kernel = {"KERNEL", image, SIZE}, .cmdline = "quiet", .rsdp = ACPI_TABLES};
}

/* In so much memory it is refused, in these words. */
static void refused(uint64_t bytes, const char *words)
{
	struct why why = {""};

	if (boot_check(&boot, bytes, &why) || !strstr(why.text, words)) {
		fprintf(stderr, "'%s', not '%s'\n", why.text, words);
		exit(1);
	}
	/* Nor is any memory touched that there is, or is not. */
	CHECK(!boot_load(&boot, NULL, bytes, &why));
}

static uint64_t loaded(uint64_t bytes)
{
	struct why why = {""};
	uint64_t entry;

	if (!boot_check(&boot, bytes, &why)) {
		fprintf(stderr, "refused: %s\n", why.text);
		exit(1);
	}
	memset(ram, 0, 32 * MIB);
	entry = boot_load(&boot, ram, bytes, &why);
	CHECK(entry >= 0x200);
	CHECK(!memcmp(ram + entry - 0x200, image + SETUP, SIZE - SETUP));
	return entry - 0x200;
}

static const struct boot_params *params(void)
{
	return (void *)(ram + BOOT_PARAMS);
}

static void add_initrd(size_t size)
{
	boot.initrd = (struct file){"INITRD", initrd, size};
}

static void test_addresses(void)
{
	begin();
	CHECK(loaded(RAM) == 16 * MIB);
	CHECK(params()->hdr.code32_start == 16 * MIB);
	header->kernel_alignment = 32 * MIB;
	CHECK(loaded(RAM) == 32 * MIB);
	header->kernel_alignment = 1u << 31;
	refused(RAM, "kernel KERNEL does not fit into 64 MiB");
	header->kernel_alignment = 0;
	refused(RAM, "kernel KERNEL wants an alignment of 0, which is no power of two");
	header->kernel_alignment = 3 * MIB;
	refused(RAM, "alignment of 0x300000, which");

	/* It goes to its preferred address by itself when it is below that. */
	begin();
	header->pref_address = 40 * MIB;
	CHECK(loaded(RAM) == 40 * MIB);
	header->pref_address = 0;
	CHECK(loaded(RAM) == 16 * MIB);
	header->pref_address = UINT64_MAX;
	refused(RAM, "does not fit into 64 MiB");

	begin();
	header->relocatable_kernel = 0;
	header->kernel_alignment = 0;
	header->pref_address = 2 * MIB;
	CHECK(loaded(RAM) == 2 * MIB);
	header->pref_address = MIB;
	CHECK(loaded(RAM) == MIB);
	header->pref_address = MIB - 1;
	refused(RAM, "wants to be at 0xfffff, below 1 MiB");
	header->pref_address = BOOT_PARAMS;
	refused(RAM, "below 1 MiB");
	header->pref_address = ACPI_TABLES;
	refused(RAM, "below 1 MiB");
	header->pref_address = 0;
	refused(RAM, "below 1 MiB");
	/* What wraps: in front of the memory, with init_size, with the image. */
	header->pref_address = -2 * MIB;
	refused(RAM, "does not fit into 64 MiB");
	header->init_size = 4 * MIB;
	refused(RAM, "does not fit into 64 MiB");
	header->pref_address = UINT64_MAX;
	header->init_size = 1;
	refused(RAM, "does not fit into 64 MiB");
	header->pref_address = RAM;
	refused(RAM, "does not fit into 64 MiB");
	header->pref_address = RAM - 4096;
	CHECK(loaded(RAM) == RAM - 4096);
	header->pref_address = RAM - 4095;
	refused(RAM, "does not fit into 64 MiB");
	header->pref_address = 4096 * MIB;
	refused(8192 * MIB, "does not fit into 4096 MiB");
	header->pref_address = 2 * MIB;
	header->init_size = UINT32_MAX;
	refused(RAM, "does not fit into 64 MiB");
	header->init_size = 62 * MIB;
	CHECK(loaded(RAM) == 2 * MIB);
	header->init_size++;
	refused(RAM, "does not fit into 64 MiB");
}

static void test_sizes(void)
{
	begin();
	boot.kernel.size = 0x3ff;
	refused(RAM, "is too short to be a bzImage");
	boot.kernel.size = 0;
	refused(RAM, "is too short to be a bzImage");
	begin();
	boot.kernel.size -= 15;
	CHECK(!boot_check(&(struct boot){.kernel = {"KERNEL", image, SIZE - 16}, .cmdline = ""},
			  RAM, &(struct why){""}));
	CHECK(boot_check(&boot, RAM, &(struct why){""}));
	begin();
	header->syssize = UINT32_MAX;
	refused(RAM, "is truncated");
	header->syssize = 1u << 28; /* of 16 bytes */
	refused(RAM, "is truncated");
	header->syssize = 0;
	loaded(RAM);
	header->setup_sects = 255;
	refused(RAM, "is truncated");
	begin();
	boot.kernel.size = SETUP + 0x200;
	header->syssize = 0;
	refused(RAM, "is truncated");
}

static void test_kinds(void)
{
	begin();
	header->header++;
	refused(RAM, "is no bzImage");
	begin();
	header->boot_flag = 0;
	refused(RAM, "is no bzImage");
	begin();
	header->version = 0x20b;
	refused(RAM, "cannot be started in 64-bit mode");
	begin();
	header->xloadflags = ~XLF_KERNEL_64 & 0xffff;
	refused(RAM, "cannot be started in 64-bit mode");
}

static void test_initrd(void)
{
	begin();
	add_initrd(2 * MIB + 1);
	loaded(RAM);
	CHECK(params()->hdr.ramdisk_image == RAM - 2 * MIB - 4096);
	CHECK(params()->hdr.ramdisk_size == 2 * MIB + 1);
	CHECK(!memcmp(ram + RAM - 2 * MIB - 4096, initrd, 2 * MIB + 1));

	/* No lower than what the kernel uses, even where it says that it uses less than it has. */
	header->init_size = 46 * MIB - 4096;
	loaded(RAM);
	header->init_size++;
	refused(RAM, "initrd INITRD does not fit beside the kernel");
	header->init_size = 1;
	header->relocatable_kernel = 0;
	add_initrd(4096);
	header->pref_address = RAM - 8192;
	loaded(RAM);
	header->pref_address = RAM - 8191;
	refused(RAM, "initrd INITRD does not fit beside the kernel");

	/* No higher than the kernel says. */
	begin();
	add_initrd(4096);
	header->initrd_addr_max = 32 * MIB - 1;
	loaded(RAM);
	CHECK(params()->hdr.ramdisk_image == 32 * MIB - 4096);
	header->initrd_addr_max = 32 * MIB - 2;
	loaded(RAM);
	CHECK(params()->hdr.ramdisk_image == 32 * MIB - 8192);
	header->initrd_addr_max = 0;
	refused(RAM, "initrd INITRD does not fit beside the kernel");
	header->initrd_addr_max = UINT32_MAX;
	loaded(RAM);
	CHECK(params()->hdr.ramdisk_image == RAM - 4096);

	/* Larger than all. */
	begin();
	boot.initrd = (struct file){"INITRD", initrd, RAM + 1};
	refused(RAM, "initrd INITRD does not fit beside the kernel");
	boot.initrd.size = SIZE_MAX;
	refused(RAM, "initrd INITRD does not fit beside the kernel");
}

static void test_cmdline(void)
{
	static char line[1 << 20];

	begin();
	boot.cmdline = line;
	memset(line, 'x', 2047);
	loaded(RAM);
	CHECK(!strcmp((char *)ram + CMDLINE, line));
	line[2047] = 'x';
	refused(RAM, "the command line is too long for this kernel");
	header->cmdline_size = 0;
	memset(line, 0, sizeof(line));
	memset(line, 'x', 255);
	loaded(RAM);
	line[255] = 'x';
	refused(RAM, "the command line is too long for this kernel");
	/* Not up to the tables, whatever the kernel could take. */
	header->cmdline_size = UINT32_MAX;
	memset(line, 'x', RAM_LOW_END - CMDLINE - 1);
	loaded(RAM);
	line[RAM_LOW_END - CMDLINE - 1] = 'x';
	refused(RAM, "the command line is too long for this kernel");
}

/* What a loader has to say is said, whatever the image has there. */
static void test_params(void)
{
	begin();
	header->setup_data = 0x1234;
	header->ramdisk_image = header->ramdisk_size = 4096;
	header->cmd_line_ptr = header->code32_start = 0x1234;
	header->ext_loader_type = header->ext_loader_ver = 1;
	header->loadflags = 0xff;
	header->heap_end_ptr = 0x1234;
	loaded(RAM);
	CHECK(!params()->hdr.setup_data);
	CHECK(!params()->hdr.ramdisk_image && !params()->hdr.ramdisk_size);
	CHECK(params()->hdr.cmd_line_ptr == CMDLINE);
	CHECK(params()->hdr.code32_start == 16 * MIB);
	CHECK(params()->hdr.type_of_loader == 0xff);
	CHECK(!params()->hdr.ext_loader_type && !params()->hdr.ext_loader_ver);
	CHECK(params()->hdr.loadflags == LOADED_HIGH && !params()->hdr.heap_end_ptr);
	CHECK(params()->acpi_rsdp_addr == ACPI_TABLES);
	CHECK(params()->e820_entries == 4);
	CHECK(params()->e820_table[3].addr == MIB && params()->e820_table[3].size == RAM - MIB);
}

/* --- files */

static void not_read(const char *path, uint64_t most, const char *words)
{
	struct file file = {"before", NULL, 7};
	struct why why = {""};

	if (file_read(path, "kernel", most, &file, &why) || !strstr(why.text, words)) {
		fprintf(stderr, "%s: '%s', not '%s'\n", path, why.text, words);
		exit(1);
	}
	CHECK(!strcmp(file.name, "before") && !file.data && file.size == 7);
}

static void test_files(void)
{
	char dir[] = "/tmp/gmem-boot-XXXXXX", path[64];
	struct why why = {""};
	struct file file;
	int fd;

	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	not_read(path, MIB, "file: No such file");
	/* Nobody will ever write to it, and the test ends. */
	CHECK(!mkfifo(path, 0600));
	not_read(path, MIB, "file is no regular file");
	unlink(path);
	not_read(dir, MIB, "is no regular file");
	not_read("/dev/null", MIB, "is no regular file");
	not_read("/dev/zero", MIB, "is no regular file");
	/* They say that they are empty, and are not. */
	not_read("/proc/self/status", MIB, "cannot be read: it is not as long as it says");

	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK(fd >= 0 && write(fd, "hello", 5) == 5);
	CHECK(file_read(path, "kernel", 5, &file, &why));
	CHECK(file.size == 5 && !memcmp(file.data, "hello", 5) && !strcmp(file.name, path));
	free(file.data);
	not_read(path, 4, "does not fit into 0 MiB");
	/* More than there is memory for, and less than nothing. */
	CHECK(!ftruncate(fd, 1ll << 42));
	not_read(path, MIB, "does not fit into 1 MiB");
	CHECK(!ftruncate(fd, 0));
	CHECK(file_read(path, "kernel", MIB, &file, &why) && file.data && !file.size);
	free(file.data);
	close(fd);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	CHECK(ram != MAP_FAILED);
	test_addresses();
	test_sizes();
	test_kinds();
	test_initrd();
	test_cmdline();
	test_params();
	test_files();
	return 0;
}

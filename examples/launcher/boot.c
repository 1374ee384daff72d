/* SPDX-License-Identifier: MIT */
/* Linux by the 64-bit boot protocol: Documentation/arch/x86/boot.rst. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <asm/bootparam.h>

#include "launch.h"

#define HEADER 0x1f1 /* of the setup header, in the image and in the boot parameters */
#define MAGIC 0x53726448
#define ENTRY_64 0x200
#define ALIGN(x, a) (((x) + (a)-1) & ~((uint64_t)(a)-1))

enum { E820_USABLE = 1, E820_RESERVED = 2, E820_ACPI_TABLES = 3 };

static uint8_t *read_file(const char *path, const char *what, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;
	size_t got = 0;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st))
		die("%s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		die("%s %s is no file", what, path);
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		die("no memory for %s", path);
	while (got < (size_t)st.st_size && (n = read(fd, data + got, (size_t)st.st_size - got)) > 0)
		got += (size_t)n;
	close(fd);
	if (got != (size_t)st.st_size)
		die("%s %s cannot be read to its end", what, path);
	*size = got;
	return data;
}

static void add_e820(struct boot_params *params, uint64_t from, uint64_t to, uint32_t type)
{
	struct boot_e820_entry *entry = &params->e820_table[params->e820_entries++];

	entry->addr = from;
	entry->size = to - from;
	entry->type = type;
}

/* The first 4 GiB where they are, in pages of 2 MiB, and flat segments. */
static void write_tables(uint8_t *ram)
{
	static const uint64_t gdt[] = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};
	uint64_t *pml4 = (uint64_t *)(ram + BOOT_TABLES), *pdpt = pml4 + 512, *pd = pdpt + 512;
	uint64_t i;

	memset(pml4, 0, 6 * PAGE);
	pml4[0] = (BOOT_TABLES + PAGE) | 3;
	for (i = 0; i < 4; i++)
		pdpt[i] = (BOOT_TABLES + (2 + i) * PAGE) | 3;
	for (i = 0; i < 4 * 512; i++)
		pd[i] = i << 21 | 0x83;
	memcpy(ram + BOOT_GDT, gdt, sizeof(gdt));
}

/* A boot that is not the first is told so, as it cannot know. */
static void write_cmdline(const struct machine *m, char *to, size_t most)
{
	static const char told[] = " gmem.boot=";
	size_t length = strlen(m->options->append);

	/* All boots or none: as long as the longest. */
	if (length + (m->options->reuse ? sizeof(told) + 10 : 0) >= most)
		die("the command line is too long for this kernel");
	strcpy(to, m->options->append);
	if (m->boot > 1)
		sprintf(to + length, "%s%u", told, m->boot);
}

uint64_t boot_load(const struct machine *m, uint8_t *ram, uint64_t rsdp)
{
	const struct options *options = m->options;
	struct boot_params *params = (struct boot_params *)(ram + BOOT_PARAMS);
	size_t size, setup, initrd_size = 0;
	struct setup_header header;
	uint64_t load, initrd_at;
	uint8_t *image, *initrd;

	image = read_file(options->kernel, "kernel", &size);
	if (size < 0x400)
		die("kernel %s is too short to be a bzImage", options->kernel);
	memcpy(&header, image + HEADER, sizeof(header));
	if (header.header != MAGIC || header.boot_flag != 0xaa55)
		die("kernel %s is no bzImage", options->kernel);
	if (header.version < 0x20c || !(header.xloadflags & XLF_KERNEL_64))
		die("kernel %s cannot be started in 64-bit mode", options->kernel);
	setup = ((header.setup_sects ? header.setup_sects : 4) + 1u) * 512;
	if (setup >= size || size - setup < (size_t)header.syssize * 16 - 15)
		die("kernel %s is truncated", options->kernel);

	load = header.relocatable_kernel ? ALIGN(16ull << 20, header.kernel_alignment)
					 : header.pref_address;
	if (load + header.init_size > options->bytes || load + (size - setup) > options->bytes)
		die("kernel %s does not fit into %llu MiB", options->kernel,
		    (unsigned long long)options->bytes >> 20);
	memcpy(ram + load, image + setup, size - setup);

	memset(params, 0, sizeof(*params));
	params->hdr = header;
	params->hdr.type_of_loader = 0xff;
	params->hdr.code32_start = (uint32_t)load;
	params->hdr.cmd_line_ptr = CMDLINE;
	params->acpi_rsdp_addr = rsdp;
	size = header.cmdline_size ? header.cmdline_size : 255;
	write_cmdline(m, (char *)ram + CMDLINE,
		      size < RAM_LOW_END - CMDLINE ? size : RAM_LOW_END - CMDLINE);
	if (options->initrd) {
		initrd = read_file(options->initrd, "initrd", &initrd_size);
		initrd_at = (options->bytes - initrd_size) & ~(PAGE - 1);
		if (initrd_size > options->bytes || initrd_at < load + header.init_size ||
		    initrd_at + initrd_size > header.initrd_addr_max + 1ull)
			die("initrd %s does not fit beside the kernel", options->initrd);
		memcpy(ram + initrd_at, initrd, initrd_size);
		params->hdr.ramdisk_image = (uint32_t)initrd_at;
		params->hdr.ramdisk_size = (uint32_t)initrd_size;
		free(initrd);
	}
	add_e820(params, 0, RAM_LOW_END, E820_USABLE);
	add_e820(params, RAM_LOW_END, ACPI_TABLES, E820_RESERVED);
	add_e820(params, ACPI_TABLES, ACPI_TABLES + ACPI_SIZE, E820_ACPI_TABLES);
	add_e820(params, 1ull << 20, options->bytes, E820_USABLE);
	write_tables(ram);
	free(image);
	return load + ENTRY_64;
}

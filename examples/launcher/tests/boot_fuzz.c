/* SPDX-License-Identifier: MIT */
/*
 * The loader on files that can be anything. An input is
 *
 *	byte 0		memory: 2 MiB for each, and 2 MiB
 *	byte 1		1: the rest is the image as it is
 *			2: there is an initrd, 4: the memory is 4 GiB larger
 *	bytes 2 to 4	size of the image after its header, of the initrd in units of 16 KiB,
 *			and of the command line in units of 16 bytes
 *	then		what the image has from 0x1f1 on: the setup header
 *
 * Built with libFuzzer by -Dfuzz=true; corpus.c runs what is kept in any build.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <asm/bootparam.h>

#include "acpi.h"
#include "boot.h"

#define PAGE 4096ul
#define MIB (1ull << 20)
#define MOST (4096 * MIB + 512 * MIB)
#define GUARD (4096 * MIB)
#define CONTROL 5
#define HEADER 0x1f1
#define SHORT 4096 /* of an image, without what comes after its setup sectors */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NEED(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static uint8_t *area, *ram, present[MOST / PAGE];

/* Memory with nothing on either side of it. */
static void begin(void)
{
	area = mmap(NULL, GUARD + MOST + GUARD, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	NEED(area != MAP_FAILED);
	ram = area + GUARD;
}

/* Whether any page there was written to; the first that was ends the look. */
static bool written(uint64_t from, uint64_t to)
{
	NEED(from >= to || !mincore(ram + from, to - from, present));
	return from < to && memchr(present, 1, (to - from + PAGE - 1) / PAGE);
}

/* Each is where the kernel is told that it is, whole, and none is over another. */
static void check(const struct boot *boot, uint64_t bytes, uint64_t entry)
{
	const struct boot_params *params = (void *)(ram + BOOT_PARAMS);
	const struct setup_header *header = &params->hdr;
	const uint64_t load = entry - 0x200, initrd = header->ramdisk_image;
	const size_t setup = ((header->setup_sects ? header->setup_sects : 4u) + 1) * 512;
	const size_t payload = boot->kernel.size - setup;
	const uint64_t end = load + (payload > header->init_size ? payload : header->init_size);

	NEED(load >= MIB && load == header->code32_start);
	NEED(end <= bytes && end <= 4096 * MIB && payload > 0x200);
	NEED(!header->relocatable_kernel ||
	     (header->kernel_alignment && load % header->kernel_alignment == 0));
	NEED(!memcmp(ram + load, boot->kernel.data + setup, payload));
	NEED(header->ramdisk_size == boot->initrd.size);
	if (boot->initrd.size) {
		NEED(initrd % PAGE == 0 && initrd >= end);
		NEED(initrd + boot->initrd.size <= bytes);
		NEED(initrd + boot->initrd.size <= header->initrd_addr_max + 1ull);
		NEED(!memcmp(ram + initrd, boot->initrd.data, boot->initrd.size));
	}
	NEED(header->cmd_line_ptr == CMDLINE && !strcmp((char *)ram + CMDLINE, boot->cmdline));
	NEED(strlen(boot->cmdline) <= (header->cmdline_size ? header->cmdline_size : 255));
	NEED(!header->setup_data && header->type_of_loader == 0xff);
	NEED(params->acpi_rsdp_addr == boot->rsdp);
	NEED(params->e820_entries == 4 && params->e820_table[3].addr == MIB &&
	     params->e820_table[3].addr + params->e820_table[3].size == bytes);
	/* What is not told is not there: neither of tables, nor around the kernel. */
	NEED(!written(RAM_LOW_END, load & ~(PAGE - 1)));
	NEED(!written(PAGE, BOOT_PARAMS & ~(PAGE - 1)));
}

/* Files of just their size, so that nothing behind them is read. */
static uint8_t *make(size_t size, const uint8_t *data, size_t at, size_t length)
{
	uint8_t *file = calloc(1, size ? size : 1);

	NEED(file);
	if (at < size)
		memcpy(file + at, data, length < size - at ? length : size - at);
	return file;
}

static void make_image(struct file *kernel, const uint8_t *control, const uint8_t *data,
		       size_t size)
{
	kernel->name = "KERNEL";
	if (control[1] & 1) {
		kernel->size = size;
		kernel->data = make(size, data, 0, size);
		return;
	}
	kernel->size = (size && data[0] ? data[0] + 1 : 5) * 512 + control[2] * 16;
	kernel->data = make(kernel->size, data, HEADER, size);
	if (kernel->size)
		kernel->data[kernel->size - 1] = 0xee;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct boot boot = {.rsdp = ACPI_TABLES};
	struct why why = {""};
	uint64_t bytes, entry;
	size_t length;
	char *line;

	if (!ram)
		begin();
	if (size < CONTROL)
		return 0;
	bytes = (data[0] + 1) * 2 * MIB + (data[1] & 4 ? 4096 * MIB : 0);
	NEED(!mprotect(ram, bytes, PROT_READ | PROT_WRITE));
	make_image(&boot.kernel, data, data + CONTROL, size - CONTROL);
	if (data[1] & 2) {
		boot.initrd.name = "INITRD";
		boot.initrd.size = data[3] * 16384u;
		boot.initrd.data = make(boot.initrd.size, data, 0, size);
	}
	length = data[4] * 16;
	line = malloc(length + 1);
	NEED(line);
	memset(line, 'x', length);
	line[length] = 0;
	boot.cmdline = line;

	NEED(boot_check(&boot, bytes, &why) == !why.text[0]);
	entry = boot_load(&boot, ram, bytes, &why);
	NEED(!entry == !!why.text[0]);
	if (entry)
		check(&boot, bytes, entry);
	else
		NEED(!written(0, bytes));

	NEED(!madvise(ram, bytes, MADV_DONTNEED));
	NEED(!mprotect(ram, bytes, PROT_NONE));
	free(boot.kernel.data);
	free(boot.initrd.data);
	free(line);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Linux by the 64-bit boot protocol: Documentation/arch/x86/boot.rst. The image and every
 * field of its header can be anything: all of it is checked before any is written.
 */
#include <inttypes.h>
#include <string.h>
#include <asm/bootparam.h>

#include "acpi.h"
#include "boot.h"

#define PAGE 4096ul
#define HEADER 0x1f1 /* of the setup header, in the image and in the boot parameters */
#define SHORTEST 0x400
#define MAGIC 0x53726448
#define ENTRY_64 0x200
#define LOAD_MIN (16ull << 20)
#define MAPPED (4ull << 30) /* by the page tables that the kernel starts with */

enum { E820_USABLE = 1, E820_RESERVED = 2, E820_ACPI_TABLES = 3 };

/* What goes where. */
struct plan {
	struct setup_header header;
	const uint8_t *payload;
	size_t size;
	uint64_t load, initrd; /* guest physical addresses */
};

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool check_header(const struct file *kernel, struct plan *plan, struct why *why)
{
	struct setup_header *header = &plan->header;
	size_t setup;

	if (kernel->size < SHORTEST)
		return because(why, "kernel %s is too short to be a bzImage", kernel->name);
	memcpy(header, kernel->data + HEADER, sizeof(*header));
	if (header->header != MAGIC || header->boot_flag != 0xaa55)
		return because(why, "kernel %s is no bzImage", kernel->name);
	if (header->version < 0x20c || !(header->xloadflags & XLF_KERNEL_64))
		return because(why, "kernel %s cannot be started in 64-bit mode", kernel->name);
	setup = ((header->setup_sects ? header->setup_sects : 4) + 1u) * 512;
	/* In units of 16 bytes, of which the last may be cut; and with the entry point. */
	if (setup + ENTRY_64 >= kernel->size ||
	    kernel->size - setup + 15 < (uint64_t)header->syssize * 16)
		return because(why, "kernel %s is truncated", kernel->name);
	plan->payload = kernel->data + setup;
	plan->size = kernel->size - setup;
	return true;
}

/* From there on the kernel has plan->size bytes, and uses header.init_size. */
static bool place_kernel(const struct file *kernel, uint64_t bytes, struct plan *plan,
			 struct why *why)
{
	const struct setup_header *header = &plan->header;
	const uint64_t alignment = header->kernel_alignment;
	const uint64_t room = max(header->init_size, plan->size);
	uint64_t load = header->pref_address;

	if (header->relocatable_kernel) {
		if (!alignment || alignment & (alignment - 1))
			return because(why,
				       "kernel %s wants an alignment of %#" PRIx64
				       ", which is no power of two",
				       kernel->name, alignment);
		/* Below its preferred address it would move itself there. */
		load = max(load, LOAD_MIN);
		if (load <= MAPPED)
			load = (load + alignment - 1) & ~(alignment - 1);
	}
	if (load < RAM_HIGH)
		return because(why,
			       "kernel %s wants to be at %#" PRIx64
			       ", below 1 MiB, where the boot parameters are",
			       kernel->name, load);
	if (load > bytes || room > bytes - load)
		return because(why, "kernel %s does not fit into %" PRIu64 " MiB", kernel->name,
			       bytes >> 20);
	plan->load = load;
	return true;
}

/* At the end of the memory, or of what the kernel reaches of it. */
static bool place_initrd(const struct file *initrd, uint64_t bytes, struct plan *plan,
			 struct why *why)
{
	const uint64_t lowest = plan->load + max(plan->header.init_size, plan->size);
	const uint64_t end = min(bytes, (uint64_t)plan->header.initrd_addr_max + 1);

	if (!initrd->data)
		return true;
	plan->initrd = end > initrd->size ? (end - initrd->size) & ~(PAGE - 1) : 0;
	if (plan->initrd < lowest)
		return because(why, "initrd %s does not fit beside the kernel", initrd->name);
	return true;
}

static bool check_cmdline(const char *cmdline, const struct plan *plan, struct why *why)
{
	/* Neither has the zero at the end in it. */
	const size_t most = plan->header.cmdline_size ? plan->header.cmdline_size : 255;

	if (strlen(cmdline) > min(most, RAM_LOW_END - CMDLINE - 1))
		return because(why, "the command line is too long for this kernel");
	return true;
}

static bool make_plan(const struct boot *boot, uint64_t bytes, struct plan *plan, struct why *why)
{
	/* Addresses in the boot parameters have 32 bits. */
	bytes = min(bytes, MAPPED);
	memset(plan, 0, sizeof(*plan));
	return check_header(&boot->kernel, plan, why) &&
	       place_kernel(&boot->kernel, bytes, plan, why) &&
	       place_initrd(&boot->initrd, bytes, plan, why) &&
	       check_cmdline(boot->cmdline, plan, why);
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

/* What the boot protocol has a loader write is written, whatever the image has there. */
static void write_params(const struct boot *boot, const struct plan *plan, uint8_t *ram,
			 uint64_t bytes)
{
	struct boot_params *params = (struct boot_params *)(ram + BOOT_PARAMS);

	memset(params, 0, sizeof(*params));
	params->hdr = plan->header;
	params->hdr.type_of_loader = 0xff;
	params->hdr.ext_loader_type = params->hdr.ext_loader_ver = 0;
	params->hdr.loadflags = LOADED_HIGH;
	params->hdr.heap_end_ptr = 0;
	params->hdr.code32_start = (uint32_t)plan->load;
	params->hdr.cmd_line_ptr = CMDLINE;
	params->hdr.ramdisk_image = (uint32_t)plan->initrd;
	params->hdr.ramdisk_size = (uint32_t)boot->initrd.size;
	params->hdr.setup_data = 0;
	params->acpi_rsdp_addr = boot->rsdp;
	add_e820(params, 0, RAM_LOW_END, E820_USABLE);
	add_e820(params, RAM_LOW_END, ACPI_TABLES, E820_RESERVED);
	add_e820(params, ACPI_TABLES, ACPI_TABLES + ACPI_SIZE, E820_ACPI_TABLES);
	add_e820(params, RAM_HIGH, bytes, E820_USABLE);
}

bool boot_check(const struct boot *boot, uint64_t bytes, struct why *why)
{
	struct plan plan;

	return make_plan(boot, bytes, &plan, why);
}

uint64_t boot_load(const struct boot *boot, uint8_t *ram, uint64_t bytes, struct why *why)
{
	struct plan plan;

	if (!make_plan(boot, bytes, &plan, why))
		return 0;
	memcpy(ram + plan.load, plan.payload, plan.size);
	if (boot->initrd.data)
		memcpy(ram + plan.initrd, boot->initrd.data, boot->initrd.size);
	strcpy((char *)ram + CMDLINE, boot->cmdline);
	write_params(boot, &plan, ram, bytes);
	write_tables(ram);
	return plan.load + ENTRY_64;
}

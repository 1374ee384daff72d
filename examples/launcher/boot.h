/* SPDX-License-Identifier: MIT */
#ifndef BOOT_H
#define BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "file.h"

/* Where things are that are not the kernel: guest physical addresses. */
#define BOOT_GDT 0x500ul
#define BOOT_PARAMS 0x7000ul
#define BOOT_TABLES 0x9000ul /* page tables: 6 pages */
#define CMDLINE 0x20000ul
#define RAM_LOW_END 0x9f000ul
#define RAM_HIGH 0x100000ul /* the kernel and the initrd are not below it */

/* What is loaded; nothing in the files is trusted. */
struct boot {
	struct file kernel, initrd; /* initrd.data is NULL where there is none */
	const char *cmdline;
	uint64_t rsdp; /* guest physical address */
};

/*
 * Whether that can be loaded into so many bytes of memory, from guest physical address 0
 * on. If not, *why says what is wrong.
 */
bool boot_check(const struct boot *boot, uint64_t bytes, struct why *why);

/*
 * Loads it into memory that reads as zero, but for the ACPI tables. Returns the entry
 * point, a guest physical address. On failure returns 0, *why says what is wrong, and
 * nothing has been written.
 */
uint64_t boot_load(const struct boot *boot, uint8_t *ram, uint64_t bytes, struct why *why);

#endif

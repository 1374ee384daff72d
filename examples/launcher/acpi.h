/* SPDX-License-Identifier: MIT */
#ifndef ACPI_H
#define ACPI_H

#include <stddef.h>
#include <stdint.h>

/* Guest physical address of the tables: where a BIOS has its RSDP. */
#define ACPI_TABLES 0xe0000ul
#define ACPI_SIZE 0x10000ul

/* Ports of the fixed hardware: PM1 event and control block, PM timer. */
#define PM1_EVENT 0x600
#define PM1_CONTROL 0x604
#define PM_TIMER 0x608
#define SLEEP_TYPE_OFF 5

#define MAX_NODES 8

/* A node of the guest: so much of its memory, and the host's node it is to be on. */
struct node {
	uint64_t start, bytes;
	int host; /* -1: wherever */
};

/*
 * The tables of a machine with so many processors, which are shared out to the nodes in
 * turn; without nodes there is neither SRAT nor SLIT. Returns the address of the RSDP, or 0
 * if they do not fit.
 */
uint64_t acpi_write(uint8_t *ram, unsigned int cpus, const struct node *nodes,
		    unsigned int nr_nodes);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef LAUNCH_H
#define LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gmem.h>

#include "acpi.h"

#define PAGE 4096ul
#define MAX_CPUS 8
#define MAX_RAM (3ull << 30) /* below the hole for devices */

/* Where things are that are not the kernel: guest physical addresses. */
#define BOOT_GDT 0x500ul
#define BOOT_PARAMS 0x7000ul
#define BOOT_TABLES 0x9000ul /* page tables: 6 pages */
#define CMDLINE 0x20000ul
#define RAM_LOW_END 0x9f000ul
struct options {
	const char *kernel, *initrd, *append, *map;
	uint64_t bytes;
	unsigned int cpus, nr_nodes;
	struct node nodes[MAX_NODES];
	uint32_t mode;
	unsigned long vm_type;
	bool shared, stats, talk;
};

/* One sentence on stderr, the terminal as it was, status 1. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* memory.c: what there is of libgmem in here */
void memory_open(int vm_fd, const struct options *options);
uint8_t *memory_map(void);
void memory_seal(void);
int memory_exit(struct gmem_exit *exit, void *run, int run_result);
uint64_t memory_readable(uint64_t offset, uint64_t size); /* how many pages, now */
/* What the guest shares; false where it does not, or no longer */
bool memory_read(uint64_t gpa, void *to, size_t size);
bool memory_write(uint64_t gpa, const void *from, size_t size);
void memory_show(const struct options *options);
struct gmem_vm *memory_vm(void);
struct gmem *memory_of(void);

/* boot.c: kernel, initrd and all that the 64-bit boot protocol wants; the entry point */
uint64_t boot_load(uint8_t *ram, const struct options *options, uint64_t rsdp);

/* serial.c: COM1 on the terminal */
void serial_begin(int vm_fd);
void serial_end(void);
bool serial_port(uint16_t port);
void serial_write(uint16_t port, uint8_t value);
uint8_t serial_read(uint16_t port);

/* talk.c: the other end of examples/guest */
void talk_begin(void);
void talk_told(const struct gmem_event *event);
bool talk_port(uint16_t port);
void talk_ring(uint32_t page);

/* vcpu.c */
void vcpu_create(int kvm, int vm_fd, const struct options *options, uint64_t entry);
int vcpu_run_all(void);

/* map.c: a picture of the memory, one strip a node */
void map_draw(const char *path, const struct options *options);

#endif

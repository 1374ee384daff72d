/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef LINUX_GUEST_VMM_H
#define LINUX_GUEST_VMM_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "acpi.h"

#define PAGE		4096ul
#define RAM_SIZE	(256ul << 20)

/* Guest physical addresses of what is not the kernel. */
#define START_INFO	0x6000ul
#define CMDLINE		0x8000ul
#define RAM_LOW_END	0x9f000ul
#define INITRAMFS	(192ul << 20)

#define fail(fmt, ...) \
do { \
	fflush(stdout); \
	fprintf(stderr, "FAILED: " fmt "\n", ##__VA_ARGS__); \
	_exit(1); \
} while (0)

#define must(call) \
({ \
	long ret_ = (call); \
	if (ret_ < 0) \
		fail("%s: %s", #call, strerror(errno)); \
	ret_; \
})

#define say(fmt, ...)	printf("[%7.3f] " fmt "\n", seconds(), ##__VA_ARGS__)

/* memory.c */
extern int memory;		/* the guest_memfd */
extern volatile uint8_t *ram;	/* a mapping of it */

double seconds(void);		/* since the first call */
void memory_create(int vm);
void convert(unsigned long request, uint64_t offset, uint64_t size);
bool readable(uint64_t offset);
void expect_private(const char *when);
void expect_unreadable(const char *when);
void touch_bait(void);
void expect_bait_untouched(void);

/* load.c: kernel, initramfs and what the PVH protocol passes; the entry point. */
uint32_t load(uint8_t *ram, const char *vmlinux, const char *init, const char *cmdline,
	      uint64_t rsdp);

/* cpu.c */
void cpu_set_cpuid(int kvm, int vcpu, unsigned int id);
void cpu_set_pvh_entry(int vcpu, uint32_t entry);
uint64_t cpu_get_msr(int vcpu, uint32_t msr);

#endif

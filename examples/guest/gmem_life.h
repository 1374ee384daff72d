/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR MIT */
/* What /dev/gmem_life, a program in the guest and the VMM agree on. */
#ifndef GMEM_LIFE_H
#define GMEM_LIFE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* A line with this on the console: the guest may be cloned from here on. */
#define GMEM_LIFE_MARKER "gmem: ready to be cloned"

/*
 * Which clone it is, 32 bits wide: 0 before there are any, all ones where nobody clones.
 */
#define GMEM_LIFE_PORT 0x6d4
#define GMEM_LIFE_NUMBER _IOR('W', 0x70, __u32)

/*
 * How often a mark is in the guest's memory, at multiples of 8. It is told inverted, so
 * that whoever asks does not leave it there.
 */
#define GMEM_LIFE_WORDS 4
struct gmem_life_search {
	__u64 inverted[GMEM_LIFE_WORDS];
	__u64 found, pages; /* how often, and in how many pages was looked */
};
#define GMEM_LIFE_SEARCH _IOWR('W', 0x71, struct gmem_life_search)

#endif

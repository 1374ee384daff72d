/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note OR MIT */
/* /dev/gmem_window: what its driver, a program in the guest and the VMM agree on. */
#ifndef GMEM_WINDOW_H
#define GMEM_WINDOW_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * A window is as long as the first mmap() of the open file, at most this. It is private
 * until it is asked for otherwise, and is gone with the file and its last mapping.
 */
#define GMEM_WINDOW_MAX (4 << 20)

/* Whole pages of the window. */
struct gmem_window_range {
	__u64 offset;
	__u64 bytes;
};

/* Ask the host to make a range shared or private; what is in it stays. */
#define GMEM_WINDOW_SHARE _IOW('W', 0x67, struct gmem_window_range)
#define GMEM_WINDOW_UNSHARE _IOW('W', 0x68, struct gmem_window_range)
/* Tell the host that there is a letter at the window's start; on return it is answered. */
#define GMEM_WINDOW_BELL _IO('W', 0x69)

/* Where the bell is: the number of the page that the letter is in. 32 bits wide. */
#define GMEM_WINDOW_PORT 0x6d0

/* Text, each with a 0 at its end. An empty answer: the host does not listen. */
struct gmem_letter {
	char question[2048];
	char answer[2048];
};

#endif

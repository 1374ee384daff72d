/* SPDX-License-Identifier: MIT */
#ifndef UNIT_H
#define UNIT_H

/* The unit tests of gmemctl, on a /proc and a kernel of their own making. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/kvm_gmem.h>

/* unit.c: a directory for all that they make, and what stands for /proc in it */
extern char root[256];
void make(const char *path, const char *text, size_t length);
void make_dir(const char *path);
void make_link(const char *path, const char *target);
const char *in_root(const char *path); /* valid until the next call but three */

/* fakes.c: what the kernel answers. Errors are errnos; 0: it works. */
extern struct fake {
	const char *failing; /* a function of the C library that fails, */
	int failing_error;   /* so */

	int getfd_error_once; /* before it works */
	int pidfd_error, getfd_error, cachestat_error, ranges_error;
	int pid, fd;	    /* that were asked for last */
	const char *target; /* what the copy of a descriptor is; the memory is the file "memory" */
	uint64_t cached;    /* pages */
	const struct kvm_gmem_range *ranges;
	size_t nr_ranges, at_once; /* how many the kernel tells a call */
	unsigned int copies;	   /* of descriptors that were made */
	unsigned int gone_after;   /* copies; then there is an error; 0: never */
	int gone_error;

	bool tty;
	unsigned short rows;
	double slept; /* seconds */
} fake;
void make_memory(uint64_t size);

/* The suites. */
void test_proc(void);
void test_text(void);
void test_save(void);
void test_picture(void);
void test_runs(void);
void test_commands(void); /* with the /proc of test_proc() */

/* text.c: whether what a child writes to stdout and stderr, and its status, are these. */
void expect_child(void (*child)(void *data), void *data, int status, const char *out,
		  const char *err, int line);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef MEASURE_H
#define MEASURE_H

/* How long this host takes for what guest memory goes through. */

#include <stddef.h>
#include <stdint.h>

#define MEASURE_REASON 192

struct figure {
	char id[32], name[64];
	uint64_t bytes;		    /* of one operation */
	unsigned int rounds;	    /* that were measured; 0: none, and why says why */
	double least_ns, median_ns; /* of one operation */
	char why[MEASURE_REASON];
};

struct measurement {
	const char *vm_type, *mode;
	uint64_t size;
	struct figure *figures;
	size_t count;
};

/* Called when so many of the figures are there. */
typedef void (*measure_progress_fn)(size_t done, size_t total);

/* size: a multiple of 2 MiB. Ends the program where there is nothing to measure. */
void measure(uint64_t size, measure_progress_fn progress, struct measurement *ret);
void measure_free(struct measurement *measurement);

#endif

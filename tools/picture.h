/* SPDX-License-Identifier: MIT */
#ifndef PICTURE_H
#define PICTURE_H

/*
 * Memory as a picture (SVG): a strip for each part of it, with what is private and what is
 * shared as colours, and how much of it has memory as height.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct picture_strip {
	const char *title;     /* written above it */
	uint64_t start, bytes; /* what it shows; not empty */
};

/* Whoever knows the memory. */
struct picture_source {
	void *data;
	/* The run that begins at start: its bytes, to end at most; 0 if that is not known. */
	uint64_t (*run)(void *data, uint64_t start, uint64_t end, bool *ret_shared);
	/* How many bytes of a part have memory, by the count of that strip. */
	uint64_t (*populated)(void *data, unsigned int strip, uint64_t start, uint64_t bytes);
};

/* What cannot be written is for the caller to find out, by ferror() or fclose(). */
void picture_draw(FILE *f, const struct picture_strip *strips, unsigned int count,
		  const struct picture_source *source);

/* Text as XML wants it; also for other pictures. */
void picture_text(FILE *f, const char *text);

/* The colours, light and dark; also for other pictures. */
extern const char picture_style[];

#endif

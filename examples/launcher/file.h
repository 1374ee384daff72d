/* SPDX-License-Identifier: MIT */
#ifndef FILE_H
#define FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An error, as one sentence for the user. */
struct why {
	char text[512];
};

/* Writes the sentence; returns false, for its caller to return. */
bool because(struct why *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct file {
	const char *name; /* for messages */
	uint8_t *data;
	size_t size;
};

/*
 * Reads all of a regular file of at most so many bytes; free(file->data) is the caller's.
 * 'what' names it in messages. On failure *file is as it was. Does not wait for anything
 * but the disk: what is no regular file is refused.
 */
bool file_read(const char *path, const char *what, uint64_t most, struct file *file,
	       struct why *why);

#endif

/* SPDX-License-Identifier: MIT */
/* To people: errors, sizes, colours. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

static void vsay(const char *format, va_list args)
{
	fflush(stdout);
	fprintf(stderr, "gmemctl: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
}

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsay(format, args);
	va_end(args);
	exit(STATUS_FAILED);
}

void usage_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsay(format, args);
	va_end(args);
	fprintf(stderr, "gmemctl --help tells what there is.\n");
	exit(STATUS_USAGE);
}

void *must_alloc(void *memory)
{
	if (!memory)
		fail("out of memory");
	return memory;
}

void flush_output(void)
{
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return;
	/*
	 * What was written earlier may have failed, and why is not known any more: more is
	 * refused for the same reason.
	 */
	if (!errno) {
		fputc('\n', stdout);
		fflush(stdout);
	}
	fail("standard output: %s", errno ? strerror(errno) : "not all of it was written");
}

const char *size_text(char text[SIZE_TEXT], uint64_t bytes)
{
	static const char units[] = "BKMGTPE";
	unsigned int unit = 0;
	uint64_t whole = bytes, rest;

	while (whole >= 1024) {
		whole >>= 10;
		unit++;
	}
	rest = bytes - (whole << (10 * unit));
	if (!unit)
		snprintf(text, SIZE_TEXT, "%" PRIu64, bytes);
	else if (!rest)
		snprintf(text, SIZE_TEXT, "%" PRIu64 "%c", whole, units[unit]);
	else /* in two steps, as ten times the rest could overflow */
		snprintf(text, SIZE_TEXT, "%" PRIu64 ".%" PRIu64 "%c", whole,
			 (rest >> (10 * (unit - 1))) * 10 >> 10, units[unit]);
	return text;
}

void printable(char *text)
{
	for (; *text; text++)
		if (!isprint((unsigned char)*text))
			*text = '?';
}

bool terminal(FILE *f)
{
	const char *term = getenv("TERM");

	return term && strcmp(term, "dumb") && isatty(fileno(f));
}

const char *colour(FILE *f, enum colour colour)
{
	static const char *const codes[] = {"\33[0m", "\33[1m", "\33[31m", "\33[32m", "\33[33m"};
	const char *no_color = getenv("NO_COLOR");

	return (no_color && *no_color) || !terminal(f) ? "" : codes[colour];
}

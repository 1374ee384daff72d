/* SPDX-License-Identifier: MIT */
#ifndef CTL_H
#define CTL_H

/* What all commands share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What gmemctl ends with, besides 0. */
#define STATUS_FAILED 3
#define STATUS_USAGE 64

/* One file a command; argv[0] is its name. They return the status. */
int cmd_probe(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_bench(int argc, char **argv);

/* main.c: for --help behind a command; returns the status */
int usage(void);
/* As getopt_long(), but for what is wrong, which ends it. Options may follow operands. */
struct option;
int next_option(int argc, char **argv, const struct option *known);

/* say.c: one sentence on stderr, and the end */
void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void usage_error(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *must_alloc(void *memory); /* fails if it is NULL */
void flush_output(void);	/* fails if not all of standard output could be written */

/* Sizes for people: exact without a decimal, else cut after one, never rounded up. */
#define SIZE_TEXT 32
const char *size_text(char text[SIZE_TEXT], uint64_t bytes);

/* What other processes call themselves could hold anything; here it is made harmless. */
void printable(char *text);

/* Whether f is a terminal on which the cursor can be moved. */
bool terminal(FILE *f);

enum colour { PLAIN, BOLD, RED, GREEN, YELLOW };
/* What to print to f to get it; nothing where f is no terminal that wants colours. */
const char *colour(FILE *f, enum colour colour);

/* save.c: text becomes the file's contents, all of it or nothing; fails otherwise */
void save_file(const char *path, const char *text, size_t length);

#endif

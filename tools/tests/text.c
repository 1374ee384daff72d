/* SPDX-License-Identifier: MIT */
/* What gmemctl writes: sizes, JSON, errors, colours. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "expect.h"
#include "json.h"
#include "unit.h"

/* --- a child that ends */

static void read_all(const char *path, char *ret, size_t room)
{
	FILE *f = fopen(path, "r");
	size_t length;

	CHECK(f);
	length = fread(ret, 1, room - 1, f);
	CHECK(length < room - 1);
	ret[length] = 0;
	fclose(f);
}

static void expect_text(const char *which, const char *got, const char *want, int line)
{
	if (!strcmp(got, want))
		return;
	fprintf(stderr, "line %d: %s is\n%s\nshould be\n%s\n", line, which, got, want);
	exit(1);
}

static int run_child(void (*child)(void *data), void *data, const char *out)
{
	const char *const paths[] = {out, in_root("err")};
	int status, fd, i;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid) {
		for (i = 0; i < 2; i++) {
			fd = open(paths[i], O_WRONLY | O_CREAT | O_TRUNC, 0600);
			CHECK(fd >= 0 && dup2(fd, i + 1) == i + 1);
			close(fd);
		}
		child(data);
		exit(99);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		fprintf(stderr, "signal %d\n", WTERMSIG(status));
	CHECK(WIFEXITED(status));
	return WEXITSTATUS(status);
}

void expect_child(void (*child)(void *data), void *data, int status, const char *out,
		  const char *err, int line)
{
	static char text[1 << 20];
	int got = run_child(child, data, in_root("out"));

	read_all(in_root("err"), text, sizeof(text));
	expect_text("stderr", text, err, line);
	read_all(in_root("out"), text, sizeof(text));
	expect_text("stdout", text, out, line);
	if (got != status)
		fprintf(stderr, "line %d: ", line);
	CHECK(got == status);
}

/* --- what ends it */

static void to_fail(void *data)
{
	printf("said before; ");
	fail("%s: %d", (const char *)data, 5);
}

static void to_fail_usage(void *data)
{
	usage_error("no '%s'", (const char *)data);
}

static void to_have_no_memory(void *data)
{
	CHECK(must_alloc(data) == data);
	must_alloc(NULL);
}

static void to_write(void *data)
{
	size_t i;

	for (i = 0; i < *(size_t *)data; i++)
		putchar('x');
	flush_output();
	exit(7);
}

/* What failed long before the end is a failure in the end, for the same reason. */
static void to_write_early(void *data)
{
	(void)data;
	putchar('x');
	fflush(stdout);
	flush_output();
}

/* It can be written again: nothing knows any more why it could not. */
static void to_write_again(void *data)
{
	int saved = dup(STDOUT_FILENO), full = open("/dev/full", O_WRONLY);

	(void)data;
	dup2(full, STDOUT_FILENO);
	putchar('x');
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	flush_output();
}

static void test_ends(void)
{
	size_t little = 10, much = 100000;
	char text[256];

	expect_child(to_fail, "it", 3, "said before; ", "gmemctl: it: 5\n", __LINE__);
	expect_child(to_fail_usage, "x", 64, "",
		     "gmemctl: no 'x'\ngmemctl --help tells what there is.\n", __LINE__);
	expect_child(to_have_no_memory, text, 3, "", "gmemctl: out of memory\n", __LINE__);
	expect_child(to_write, &little, 7, "xxxxxxxxxx", "", __LINE__);
	/* A full disk is one, also when it was found out long before the end. */
	CHECK(run_child(to_write, &little, "/dev/full") == 3);
	read_all(in_root("err"), text, sizeof(text));
	CHECK(!strcmp(text, "gmemctl: standard output: No space left on device\n"));
	CHECK(run_child(to_write, &much, "/dev/full") == 3);
	read_all(in_root("err"), text, sizeof(text));
	CHECK(!strcmp(text, "gmemctl: standard output: No space left on device\n"));
	CHECK(run_child(to_write_early, NULL, "/dev/full") == 3);
	read_all(in_root("err"), text, sizeof(text));
	CHECK(!strcmp(text, "gmemctl: standard output: No space left on device\n"));
	expect_child(to_write_again, NULL, 3, "\n",
		     "gmemctl: standard output: not all of it was written\n", __LINE__);
}

/* --- sizes, text */

static void test_sizes(void)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{0, "0"},
		{1023, "1023"},
		{1024, "1K"},
		{1025, "1.0K"},
		{1536, "1.5K"},
		{1945, "1.8K"}, /* 1.8994 */
		{(1 << 20) - 1, "1023.9K"},
		{1 << 20, "1M"},
		{(1 << 20) + (1 << 19), "1.5M"},
		{(256u << 20) - 4096, "255.9M"},
		{UINT64_C(5) << 30, "5G"},
		{UINT64_C(5) << 40, "5T"},
		{UINT64_C(3) << 49, "1.5P"},
		{UINT64_MAX, "15.9E"},
	};
	char text[SIZE_TEXT];
	size_t i;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		CHECK(size_text(text, sizes[i].bytes) == text);
		CHECK(!strcmp(text, sizes[i].text));
	}
}

static void test_colours(void)
{
	char harmless[] = "a\33b\xff ~";

	printable(harmless);
	CHECK(!strcmp(harmless, "a?b? ~"));

	CHECK(!terminal(stdout) && !*colour(stdout, RED));
	fake.tty = true;
	CHECK(terminal(stdout) && !terminal(stderr));
	CHECK(!strcmp(colour(stdout, PLAIN), "\33[0m") && !strcmp(colour(stdout, BOLD), "\33[1m"));
	CHECK(!strcmp(colour(stdout, RED), "\33[31m") && !strcmp(colour(stdout, GREEN), "\33[32m"));
	CHECK(!strcmp(colour(stdout, YELLOW), "\33[33m") && !*colour(stderr, RED));
	setenv("NO_COLOR", "", 1);
	CHECK(*colour(stdout, RED));
	setenv("NO_COLOR", "1", 1);
	CHECK(!*colour(stdout, RED) && terminal(stdout));
	unsetenv("NO_COLOR");
	setenv("TERM", "dumb", 1);
	CHECK(!terminal(stdout) && !*colour(stdout, RED));
	unsetenv("TERM");
	CHECK(!terminal(stdout));
	setenv("TERM", "xterm", 1);
	fake.tty = false;
}

/* --- JSON */

/* What a string becomes, in an array of one line. */
static void expect_string(const char *value, const char *want)
{
	char text[256] = "", whole[300];
	struct json json = {.lines = true, .f = fmemopen(text, sizeof(text), "w")};

	json_begin(&json, NULL, '[');
	json_string(&json, NULL, value);
	json_end(&json, ']');
	fclose(json.f);
	snprintf(whole, sizeof(whole), "[\"%s\"]\n", want);
	expect_text("JSON", text, whole, __LINE__);
}

/* The first and the last sequence of each length, and those just beside them. */
static void test_utf8(void)
{
	static const char *const good[] = {
		" ",
		"~",
		"\xc2\x80",
		"\xdf\xbf",
		"\xe0\xa0\x80",
		"\xe2\x82\xac",
		"\xed\x9f\xbf",
		"\xee\x80\x80",
		"\xef\xbf\xbf",
		"\xf0\x90\x80\x80",
		"\xf1\x80\x80\x80",
		"\xf3\xbf\xbf\xbf",
		"\xf4\x8f\xbf\xbf",
	};
	static const char *const bad[] = {
		"\x80",
		"\xbf",
		"\xc0\x80",
		"\xc1\xbf",
		"\xe0\x80\x80",
		"\xe0\x9f\xbf",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xf0\x80\x80\x80",
		"\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xf8\x80\x80\x80",
		"\xf9\x80\x80\x80",
		"\xff",
	};
	char want[64];
	size_t i, n;

	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		expect_string(good[i], good[i]);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		want[0] = 0;
		for (n = 0; n < strlen(bad[i]); n++)
			strcat(want, "\\ufffd");
		expect_string(bad[i], want);
	}
	/* A sequence that ends early, or goes on with what cannot follow. */
	expect_string("\xc3", "\\ufffd");
	expect_string("\xc3!", "\\ufffd!");
	expect_string("\xc3\xc3", "\\ufffd\\ufffd");
	expect_string("\xe2\x82", "\\ufffd\\ufffd");
	expect_string("\xe2\x82!", "\\ufffd\\ufffd!");
	expect_string("\xf0\x9f\x98!", "\\ufffd\\ufffd\\ufffd!");
	expect_string("\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!");
	expect_string("\1\37 \x7f\"\\/", "\\u0001\\u001f \\u007f\\\"\\\\/");
	expect_string("", "");
}

static void write_value(struct json *json)
{
	json_begin(json, NULL, '{');
	json_begin(json, "a\"\\", '[');
	json_number(json, NULL, UINT64_MAX);
	json_signed(json, NULL, -2);
	json_decimal(json, NULL, 0.5);
	json_bool(json, NULL, true);
	json_bool(json, NULL, false);
	json_null(json, NULL);
	json_string(json, NULL, NULL);
	json_end(json, ']');
	json_begin(json, "none", '{');
	json_end(json, '}');
	json_string(json, "b", "c");
	json_begin(json, "d", '{');
	json_signed(json, "e", 1);
	json_end(json, '}');
	json_end(json, '}');
}

static void test_json(void)
{
	char text[512] = "";
	struct json json = {.lines = true};

	json.f = fmemopen(text, sizeof(text), "w");
	CHECK(json.f);
	write_value(&json);
	write_value(&json); /* a line each */
	fclose(json.f);
	expect_text("JSON", text,
		    "{\"a\\\"\\\\\": [18446744073709551615, -2, 0.500, true, false, null, null], "
		    "\"none\": {}, \"b\": \"c\", \"d\": {\"e\": 1}}\n"
		    "{\"a\\\"\\\\\": [18446744073709551615, -2, 0.500, true, false, null, null], "
		    "\"none\": {}, \"b\": \"c\", \"d\": {\"e\": 1}}\n",
		    __LINE__);

	memset(text, 0, sizeof(text));
	json = (struct json){.f = fmemopen(text, sizeof(text), "w")};
	CHECK(json.f);
	write_value(&json);
	fclose(json.f);
	expect_text("JSON", text,
		    "{\n"
		    "  \"a\\\"\\\\\": [\n"
		    "    18446744073709551615,\n    -2,\n    0.500,\n    true,\n    false,\n"
		    "    null,\n    null\n"
		    "  ],\n"
		    "  \"none\": {},\n"
		    "  \"b\": \"c\",\n"
		    "  \"d\": {\n    \"e\": 1\n  }\n"
		    "}\n",
		    __LINE__);
}

void test_text(void)
{
	test_ends();
	test_sizes();
	test_colours();
	test_utf8();
	test_json();
}

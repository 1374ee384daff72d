/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "json.h"

/* The length of the UTF-8 sequence at text, 0 if it is none. */
static unsigned int sequence(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	uint32_t value;
	unsigned int n, i;

	if (c[0] < 0x80)
		return 1;
	n = c[0] >= 0xf0 ? 4 : c[0] >= 0xe0 ? 3 : 2;
	if (c[0] < 0xc2 || c[0] > 0xf4)
		return 0;
	value = c[0] & (0xffu >> (n + 1));
	for (i = 1; i < n; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (c[i] & 0x3f);
	}
	if (n == 3 && (value < 0x800 || (value >= 0xd800 && value < 0xe000)))
		return 0;
	if (n == 4 && (value < 0x10000 || value > 0x10ffff))
		return 0;
	return n;
}

static void put_string(FILE *f, const char *text)
{
	unsigned int n;

	fputc('"', f);
	for (; *text; text += n ? n : 1) {
		n = sequence(text);
		if (!n)
			fputs("\\ufffd", f);
		else if (*text == '"' || *text == '\\')
			fprintf(f, "\\%c", *text);
		else if (n == 1 && ((unsigned char)*text < ' ' || *text == 0x7f))
			fprintf(f, "\\u%04x", *text);
		else
			fwrite(text, 1, n, f);
	}
	fputc('"', f);
}

static void put_line(struct json *json)
{
	if (!json->lines)
		fprintf(json->f, "\n%*s", (int)json->depth * 2, "");
}

static void next(struct json *json, const char *key)
{
	if (json->begun)
		fputs(json->lines ? ", " : ",", json->f);
	if (json->depth)
		put_line(json);
	if (key) {
		put_string(json->f, key);
		fputs(": ", json->f);
	}
	json->begun = true;
}

void json_begin(struct json *json, const char *key, char bracket)
{
	next(json, key);
	fputc(bracket, json->f);
	json->depth++;
	json->begun = false;
}

void json_end(struct json *json, char bracket)
{
	json->depth--;
	if (json->begun)
		put_line(json);
	fputc(bracket, json->f);
	json->begun = json->depth > 0;
	if (!json->depth)
		fputc('\n', json->f);
}

void json_string(struct json *json, const char *key, const char *value)
{
	if (!value) {
		json_null(json, key);
		return;
	}
	next(json, key);
	put_string(json->f, value);
}

void json_number(struct json *json, const char *key, uint64_t value)
{
	next(json, key);
	fprintf(json->f, "%" PRIu64, value);
}

void json_signed(struct json *json, const char *key, int64_t value)
{
	next(json, key);
	fprintf(json->f, "%" PRId64, value);
}

void json_decimal(struct json *json, const char *key, double value)
{
	next(json, key);
	fprintf(json->f, "%.3f", value);
}

void json_bool(struct json *json, const char *key, bool value)
{
	next(json, key);
	fputs(value ? "true" : "false", json->f);
}

void json_null(struct json *json, const char *key)
{
	next(json, key);
	fputs("null", json->f);
}

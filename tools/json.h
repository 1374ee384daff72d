/* SPDX-License-Identifier: MIT */
#ifndef JSON_H
#define JSON_H

/* JSON, as it is written: who calls keeps to the order of things. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
	FILE *f;
	unsigned int depth;
	bool lines; /* one line a value, instead of one a member */
	bool begun; /* there is a member before this one */
};

/* key is NULL in an array and at the top. */
void json_begin(struct json *json, const char *key, char bracket);	 /* '{' or '[' */
void json_end(struct json *json, char bracket);				 /* '}' or ']' */
void json_string(struct json *json, const char *key, const char *value); /* NULL: null */
void json_number(struct json *json, const char *key, uint64_t value);
void json_signed(struct json *json, const char *key, int64_t value);
void json_decimal(struct json *json, const char *key, double value);
void json_bool(struct json *json, const char *key, bool value);
void json_null(struct json *json, const char *key);

#endif

/* SPDX-License-Identifier: MIT */
/* COM1 as a guest sees it, and what comes of what it writes: on no machine at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../tools/tests/expect.h"
#include "../guest/gmem_life.h"
#include "launch.h"

#define COM1 0x3f8

static enum end ended;

void machine_end(struct machine *m, enum end end)
{
	(void)m;
	ended = end;
}

static struct options options;
static struct machine m;
static char said[1 << 16];

static void begin(unsigned int clone)
{
	memset(&m, 0, sizeof(m));
	m.fd = -1;
	m.clone = clone;
	m.options = &options;
	options.clones = 1;
	ended = RUNNING;
	serial_init(&m.serial);
	CHECK(freopen("serial.out", "w+", stdout));
}

static void put(const char *text)
{
	for (; *text; text++)
		serial_write(&m, COM1, (uint8_t)*text);
}

static const char *out(void)
{
	size_t n;

	serial_flush(&m);
	rewind(stdout);
	n = fread(said, 1, sizeof(said) - 1, stdout);
	said[n] = 0;
	return said;
}

/* A line that is too long is several, and nothing of it is lost. */
static void test_long_line(void)
{
	char line[1000], *c;
	size_t n = 0;

	begin(7);
	for (size_t i = 0; i < sizeof(line) - 1; i++)
		line[i] = (char)('a' + i % 26);
	line[sizeof(line) - 1] = 0;
	put(line);
	put("\r\nend");
	for (c = (char *)out(); *c; c++) {
		if (c == said || c[-1] == '\n') {
			CHECK(!strncmp(c, "7: ", 3));
			c += 3;
		}
		if (*c == '\n')
			continue;
		if (n < sizeof(line) - 1)
			CHECK(*c == line[n]);
		n++;
	}
	CHECK(n == sizeof(line) - 1 + 3);
	CHECK(strstr(said, "\n7: end\n"));
}

static void test_marker(void)
{
	begin(0);
	put("some " GMEM_LIFE_MARKER);
	CHECK(ended == RUNNING);
	put(" thing\r\n");
	CHECK(ended == MARKED);
	CHECK(!strcmp(out(), "some " GMEM_LIFE_MARKER " thing\n"));
	/* A clone that says it is not cloned again. */
	begin(1);
	put(GMEM_LIFE_MARKER "\n");
	CHECK(ended == RUNNING);
}

/* Whatever is written to whichever register, reading them ends, and a byte is taken once. */
static void test_registers(void)
{
	begin(0);
	for (unsigned int seed = 1, i = 0; i < 100000; i++) {
		seed = seed * 1103515245 + 12345;
		if (seed >> 31 & 1)
			serial_write(&m, (uint16_t)(COM1 + (seed >> 16) % 8),
				     (uint8_t)(seed >> 20));
		else
			serial_read(&m, (uint16_t)(COM1 + (seed >> 16) % 8));
		CHECK(m.serial.length < sizeof(m.serial.line));
	}
	serial_write(&m, COM1 + 3, 0);
	serial_read(&m, COM1);
	CHECK(serial_receive(&m, 'x'));
	CHECK(!serial_receive(&m, 'y'));
	CHECK(serial_read(&m, COM1 + 5) & 1);
	CHECK(serial_read(&m, COM1) == 'x');
	CHECK(!(serial_read(&m, COM1 + 5) & 1));
	CHECK(serial_receive(&m, 'y'));
	CHECK(!serial_port(COM1 - 1) && serial_port(COM1) && serial_port(COM1 + 7) &&
	      !serial_port(COM1 + 8));
}

int main(void)
{
	test_long_line();
	test_marker();
	test_registers();
	unlink("serial.out");
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* The guest's memory as a picture: one strip a node, what is what written on it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"
#include "picture.h"

#define HOST_NODES 1024
#define TITLE 512

static uint64_t run(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	struct machine *m = data;

	if (gmem_next_range(m->memory.vm, start, end, &range) != 1)
		return 0;
	*ret_shared = range.state == GMEM_STATE_SHARED;
	return range.bytes;
}

static uint64_t populated(void *data, unsigned int strip, uint64_t start, uint64_t bytes)
{
	struct machine *m = data;
	uint64_t on[HOST_NODES], sum = 0;
	unsigned int n;

	(void)strip;
	if (gmem_placement(m->memory.memory, start, bytes, on, HOST_NODES, NULL) < 0)
		return 0;
	for (n = 0; n < HOST_NODES; n++)
		sum += on[n];
	return sum;
}

static void write_title(struct machine *m, char *title, unsigned int number,
			const struct node *node)
{
	const uint64_t end = node->start + node->bytes;
	uint64_t at, bytes, on[HOST_NODES], private_bytes = 0;
	bool shared;
	int length;
	unsigned int n;

	for (at = node->start; at < end && (bytes = run(m, at, end, &shared)); at += bytes)
		if (!shared)
			private_bytes += bytes;
	length = snprintf(title, TITLE, "node %u of the guest: %llu MiB, %llu MiB of it private",
			  number, (unsigned long long)node->bytes >> 20,
			  (unsigned long long)private_bytes >> 20);
	if (gmem_placement(m->memory.memory, node->start, node->bytes, on, HOST_NODES, NULL) < 0)
		return;
	for (n = 0; n < HOST_NODES && length < TITLE; n++)
		if (on[n])
			length += snprintf(title + length, (size_t)(TITLE - length),
					   "; %llu MiB on the host's node %u",
					   (unsigned long long)on[n] >> 20, n);
}

/* Without waiting for a reader: a FIFO that has none is refused, with ENXIO. */
static FILE *create(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
	FILE *f;

	if (fd < 0)
		return NULL;
	f = fcntl(fd, F_SETFL, 0) ? NULL : fdopen(fd, "w");
	if (!f)
		close(fd);
	return f;
}

void map_draw(struct machine *m, const char *path)
{
	const struct options *options = m->options;
	const struct picture_source source = {.run = run, .populated = populated, .data = m};
	struct picture_strip strips[MAX_NODES];
	char titles[MAX_NODES][TITLE];
	FILE *f = create(path);
	unsigned int i;

	if (!f)
		die("map %s: %s", path, strerror(errno));
	for (i = 0; i < options->nr_nodes; i++) {
		write_title(m, titles[i], i, &options->nodes[i]);
		strips[i] = (struct picture_strip){titles[i], options->nodes[i].start,
						   options->nodes[i].bytes};
	}
	picture_draw(f, strips, options->nr_nodes, &source);
	/* What failed earlier is not told again by fclose(). */
	if (fflush(f) || ferror(f) || fclose(f))
		die("map %s: %s", path, strerror(errno ? errno : EIO));
}

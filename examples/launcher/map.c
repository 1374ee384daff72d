/* SPDX-License-Identifier: MIT */
/* The guest's memory as a picture: one strip a node, what is what written on it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "launch.h"

#define WIDTH 920.0
#define LEFT 20
#define STRIP 56
#define GAP 58
#define CELLS 460 /* of a strip: what is populated is drawn this fine */

static double x_of(const struct node *node, uint64_t offset)
{
	return LEFT + WIDTH * (double)(offset - node->start) / (double)node->bytes;
}

/* How much of a part has memory, from 0 to 1. */
static double populated(uint64_t offset, uint64_t bytes)
{
	uint64_t on[1024], sum = 0;
	unsigned int i;

	if (gmem_placement(memory_of(), offset, bytes, on, 1024, NULL) < 0)
		return 0;
	for (i = 0; i < 1024; i++)
		sum += on[i];
	return (double)sum / (double)bytes;
}

static void draw_populated(FILE *f, const struct node *node, int y)
{
	uint64_t cell = node->bytes / CELLS / PAGE * PAGE, at;
	double part;

	if (!cell)
		cell = PAGE;
	for (at = node->start; at < node->start + node->bytes; at += cell) {
		if (cell > node->start + node->bytes - at)
			cell = node->start + node->bytes - at;
		part = populated(at, cell);
		if (part > 0)
			fprintf(f,
				"<rect class=\"used\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
				"height=\"%.1f\"/>\n",
				x_of(node, at), y + STRIP * (1 - part),
				x_of(node, at + cell) - x_of(node, at) + 0.1, STRIP * part);
	}
}

static void draw_node(FILE *f, const struct node *node, unsigned int number, int y)
{
	struct gmem_range range = GMEM_RANGE_INIT;
	uint64_t at, on[1024], private = 0;
	unsigned int n;

	for (at = node->start;
	     gmem_next_range(memory_vm(), at, node->start + node->bytes, &range) == 1;
	     at += range.bytes) {
		const bool is_private = range.state == GMEM_STATE_PRIVATE;

		if (is_private)
		private += range.bytes;
		fprintf(f,
			"<rect class=\"%s\" x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>\n",
			is_private ? "private" : "shared", x_of(node, at), y,
			x_of(node, at + range.bytes) - x_of(node, at), STRIP);
	}
	draw_populated(f, node, y);
	fprintf(f, "<rect class=\"frame\" x=\"%d\" y=\"%d\" width=\"%.0f\" height=\"%d\"/>\n", LEFT,
		y, WIDTH, STRIP);
	fprintf(f, "<text x=\"%d\" y=\"%d\">node %u of the guest: %llu MiB, %llu MiB of it private",
		LEFT, y - 10, number, (unsigned long long)node->bytes >> 20,
		(unsigned long long)private >> 20);
	if (!gmem_placement(memory_of(), node->start, node->bytes, on, 1024, NULL))
		for (n = 0; n < 1024; n++)
			if (on[n])
				fprintf(f, "; %llu MiB on the host's node %u",
					(unsigned long long)on[n] >> 20, n);
	fprintf(f, "</text>\n");
}

void map_draw(const char *path, const struct options *options)
{
	const int height = (STRIP + GAP) * (int)options->nr_nodes + 70;
	FILE *f = fopen(path, "w");
	unsigned int i;
	int y;

	if (!f)
		die("map %s: %s", path, strerror(errno));
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"%d\" viewBox=\"0 "
		"0 960 %d\">\n"
		"<style>\n"
		"svg { background: #fff; } text { font: 15px sans-serif; fill: #222; }\n"
		".private { fill: #c9d7f0; } .shared { fill: #ffd08a; } .used { fill: #23407a; "
		"opacity: .75; }\n"
		".frame { fill: none; stroke: #555; }\n"
		"@media (prefers-color-scheme: dark) {\n"
		"svg { background: #16181d; } text { fill: #e6e6e6; }\n"
		".private { fill: #33415f; } .shared { fill: #9c6a14; } .used { fill: #8fb4ff; }\n"
		".frame { stroke: #aaa; }\n"
		"}\n</style>\n",
		height, height);
	for (i = 0; i < options->nr_nodes; i++) {
		y = 40 + (STRIP + GAP) * (int)i;
		draw_node(f, &options->nodes[i], i, y);
	}
	y = 40 + (STRIP + GAP) * (int)options->nr_nodes;
	fprintf(f,
		"<rect class=\"private\" x=\"20\" y=\"%d\" width=\"18\" height=\"18\"/><text "
		"x=\"46\" y=\"%d\">private: the guest alone</text>\n"
		"<rect class=\"shared\" x=\"260\" y=\"%d\" width=\"18\" height=\"18\"/><text "
		"x=\"286\" y=\"%d\">shared: the host too</text>\n"
		"<rect class=\"used\" x=\"470\" y=\"%d\" width=\"18\" height=\"18\"/><text "
		"x=\"496\" y=\"%d\">as high as there is memory; above: not touched yet</text>\n"
		"</svg>\n",
		y - 14, y, y - 14, y, y - 14, y);
	if (fclose(f))
		die("map %s: %s", path, strerror(errno));
}

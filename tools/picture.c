/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "picture.h"

#define PAGE 4096u
#define WIDTH 920.0
#define LEFT 20
#define STRIP 56
#define GAP 58
#define CELLS 460 /* of a strip: what is populated is drawn this fine */
#define LEAST 0.5 /* what is shared is drawn this wide, however little it is */

const char picture_style[] =
	"<style>\n"
	"svg { background: #fff; } text { font: 15px sans-serif; fill: #222; }\n"
	".private { fill: #c9d7f0; } .shared { fill: #ffd08a; } .used { fill: #23407a; "
	"opacity: .75; }\n"
	".frame { fill: none; stroke: #555; }\n"
	"@media (prefers-color-scheme: dark) {\n"
	"svg { background: #16181d; } text { fill: #e6e6e6; }\n"
	".private { fill: #33415f; } .shared { fill: #9c6a14; } .used { fill: #8fb4ff; }\n"
	".frame { stroke: #aaa; }\n"
	"}\n</style>\n";

void picture_text(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&\"", *text))
			fprintf(f, "&#%d;", *text);
		else if ((unsigned char)*text < ' ')
			fputc(' ', f);
		else
			fputc(*text, f);
	}
}

static double x_of(const struct picture_strip *strip, uint64_t offset)
{
	return LEFT + WIDTH * (double)(offset - strip->start) / (double)strip->bytes;
}

static void draw_rect(FILE *f, const char *class, double x, double y, double width, double height)
{
	fprintf(f, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
		class, x, y, width, height);
}

/*
 * Private, and above that what is shared. However many runs there are, the picture stays
 * small: what lies within a rectangle that is there already is not drawn again. What is
 * private between two runs that are shared can vanish so, what is shared cannot.
 */
static void draw_states(FILE *f, const struct picture_strip *strip, int y,
			const struct picture_source *source)
{
	const uint64_t end = strip->start + strip->bytes;
	double from = 0, to = -1, x, x_end;
	uint64_t at, bytes;
	bool shared;

	draw_rect(f, "private", LEFT, y, WIDTH, STRIP);
	for (at = strip->start; at < end; at += bytes) {
		bytes = source->run(source->data, at, end, &shared);
		if (!bytes)
			break;
		if (!shared)
			continue;
		x = x_of(strip, at);
		x_end = x_of(strip, at + bytes);
		if (x_end < x + LEAST)
			x_end = x + LEAST;
		if (x > to) {
			if (to > from)
				draw_rect(f, "shared", from, y, to - from, STRIP);
			from = x;
		}
		to = x_end; /* never before that of an earlier run */
	}
	if (to > from)
		draw_rect(f, "shared", from, y, to - from, STRIP);
}

static void draw_populated(FILE *f, const struct picture_strip *strip, unsigned int number, int y,
			   const struct picture_source *source)
{
	const uint64_t end = strip->start + strip->bytes;
	uint64_t cell = strip->bytes / CELLS / PAGE * PAGE, at;
	double part;

	if (!cell)
		cell = PAGE;
	for (at = strip->start; at < end; at += cell) {
		if (cell > end - at)
			cell = end - at;
		part = (double)source->populated(source->data, number, at, cell) / (double)cell;
		if (part > 0)
			draw_rect(f, "used", x_of(strip, at), y + STRIP * (1 - part),
				  x_of(strip, at + cell) - x_of(strip, at) + 0.1, STRIP * part);
	}
}

static void draw_legend(FILE *f, int y)
{
	static const struct {
		const char *class, *text;
		int x;
	} signs[] = {
		{"private", "private: the guest alone", 20},
		{"shared", "shared: the host too", 260},
		{"used", "as high as there is memory; above: not touched yet", 470},
	};
	size_t i;

	for (i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
		draw_rect(f, signs[i].class, signs[i].x, y - 14, 18, 18);
		fprintf(f, "<text x=\"%d\" y=\"%d\">%s</text>\n", signs[i].x + 26, y,
			signs[i].text);
	}
}

void picture_draw(FILE *f, const struct picture_strip *strips, unsigned int count,
		  const struct picture_source *source)
{
	const int height = (STRIP + GAP) * (int)count + 70;
	unsigned int i;
	int y = 40;

	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"%d\" "
		"viewBox=\"0 0 960 %d\">\n%s",
		height, height, picture_style);
	for (i = 0; i < count; i++, y += STRIP + GAP) {
		draw_states(f, &strips[i], y, source);
		draw_populated(f, &strips[i], i, y, source);
		draw_rect(f, "frame", LEFT, y, WIDTH, STRIP);
		fprintf(f, "<text x=\"%d\" y=\"%d\">", LEFT, y - 10);
		picture_text(f, strips[i].title);
		fprintf(f, "</text>\n");
	}
	draw_legend(f, y);
	fprintf(f, "</svg>\n");
}

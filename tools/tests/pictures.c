/* SPDX-License-Identifier: MIT */
/* Pictures of memory: where everything is in them, and that they stay small. */
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "picture.h"
#include "unit.h"

#define PAGE UINT64_C(4096)
#define PAGES 100000u

static uint64_t one_by_one(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	(void)data;
	CHECK(start < end);
	*ret_shared = start / PAGE % 2;
	return PAGE;
}

static uint64_t half(void *data, unsigned int strip, uint64_t start, uint64_t bytes)
{
	(void)data;
	(void)strip;
	(void)start;
	return bytes / 2;
}

static uint64_t one_page(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	const uint64_t page = 77 * PAGE;

	(void)data;
	*ret_shared = start == page;
	return start < page ? page - start : start == page ? PAGE : end - start;
}

static size_t draw(const struct picture_strip *strips, unsigned int count,
		   const struct picture_source *source, char **ret)
{
	size_t length;
	FILE *f = open_memstream(ret, &length);

	CHECK(f);
	picture_draw(f, strips, count, source);
	CHECK(!fclose(f));
	return length;
}

static void test_large(void)
{
	struct picture_strip strip = {"<a & \"b\">\n\1!", 0, PAGES * PAGE};
	struct picture_source source = {NULL, one_by_one, half};
	char *text, *at;

	/* As many runs as pages: it stays small, and what is shared covers it. */
	CHECK(draw(&strip, 1, &source, &text) < 100000);
	CHECK(strstr(text, "class=\"shared\" x=\"20.0\" y=\"40.0\" width=\"920"));
	CHECK(strstr(text, "&#60;a &#38; &#34;b&#34;&#62;  !</text>") && !strstr(text, "<a"));
	free(text);

	/* One page of 100000 is seen. */
	source.run = one_page;
	draw(&strip, 1, &source, &text);
	at = strstr(text, "class=\"shared\"");
	CHECK(at && strstr(at, "x=\"20.7\" y=\"40.0\" width=\"0.5\" height=\"56.0\""));
	at = strstr(at + 1, "class=\"shared\""); /* the legend's */
	CHECK(at && strstr(at, "x=\"260.0\"") && !strstr(at + 1, "class=\"shared\""));
	free(text);
}

/*
 * Of 8 pages from page 8 on: 1, 2 and 5 are shared, the last run is not known; strip 0 has
 * memory at 0 to 3, strip 1 a quarter of page 4.
 */
static uint64_t few(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	const uint64_t at = start / PAGE - 8;

	CHECK(data == &few && start % PAGE == 0 && end == 16 * PAGE && at < 8);
	*ret_shared = at == 1 || at == 2 || at == 5;
	return at == 6 ? 0 : PAGE;
}

static uint64_t few_populated(void *data, unsigned int strip, uint64_t start, uint64_t bytes)
{
	CHECK(data == &few && start >= 8 * PAGE && start + bytes <= 16 * PAGE && bytes);
	if (strip == 0)
		return start < 12 * PAGE ? bytes : 0;
	return start / PAGE == 12 ? bytes / 4 : 0;
}

static const char few_want[] =
	"<rect class=\"private\" x=\"20.0\" y=\"40.0\" width=\"920.0\" height=\"56.0\"/>\n"
	"<rect class=\"shared\" x=\"135.0\" y=\"40.0\" width=\"230.0\" height=\"56.0\"/>\n"
	"<rect class=\"shared\" x=\"595.0\" y=\"40.0\" width=\"115.0\" height=\"56.0\"/>\n"
	"<rect class=\"used\" x=\"20.0\" y=\"40.0\" width=\"115.1\" height=\"56.0\"/>\n"
	"<rect class=\"used\" x=\"135.0\" y=\"40.0\" width=\"115.1\" height=\"56.0\"/>\n"
	"<rect class=\"used\" x=\"250.0\" y=\"40.0\" width=\"115.1\" height=\"56.0\"/>\n"
	"<rect class=\"used\" x=\"365.0\" y=\"40.0\" width=\"115.1\" height=\"56.0\"/>\n"
	"<rect class=\"frame\" x=\"20.0\" y=\"40.0\" width=\"920.0\" height=\"56.0\"/>\n"
	"<text x=\"20\" y=\"30\">first</text>\n"
	"<rect class=\"private\" x=\"20.0\" y=\"154.0\" width=\"920.0\" height=\"56.0\"/>\n"
	"<rect class=\"shared\" x=\"135.0\" y=\"154.0\" width=\"230.0\" height=\"56.0\"/>\n"
	"<rect class=\"shared\" x=\"595.0\" y=\"154.0\" width=\"115.0\" height=\"56.0\"/>\n"
	"<rect class=\"used\" x=\"480.0\" y=\"196.0\" width=\"115.1\" height=\"14.0\"/>\n"
	"<rect class=\"frame\" x=\"20.0\" y=\"154.0\" width=\"920.0\" height=\"56.0\"/>\n"
	"<text x=\"20\" y=\"144\">second</text>\n"
	"<rect class=\"private\" x=\"20.0\" y=\"254.0\" width=\"18.0\" height=\"18.0\"/>\n"
	"<text x=\"46\" y=\"268\">private: the guest alone</text>\n"
	"<rect class=\"shared\" x=\"260.0\" y=\"254.0\" width=\"18.0\" height=\"18.0\"/>\n"
	"<text x=\"286\" y=\"268\">shared: the host too</text>\n"
	"<rect class=\"used\" x=\"470.0\" y=\"254.0\" width=\"18.0\" height=\"18.0\"/>\n"
	"<text x=\"496\" y=\"268\">as high as there is memory; above: not touched yet</text>\n"
	"</svg>\n";

static void test_small(void)
{
	const struct picture_strip strips[] = {{"first", 8 * PAGE, 8 * PAGE},
					       {"second", 8 * PAGE, 8 * PAGE}};
	const struct picture_source source = {(void *)&few, few, few_populated};
	char *text, *rest;

	draw(strips, 2, &source, &text);
	CHECK(!strncmp(text,
		       "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"298\" "
		       "viewBox=\"0 0 960 298\">\n",
		       88));
	CHECK(strstr(text, picture_style));
	rest = strstr(text, "</style>\n") + 9;
	if (strcmp(rest, few_want))
		fprintf(stderr, "%s", rest);
	CHECK(!strcmp(rest, few_want));
	free(text);
}

/* Of 920 pages each is a whole number of cells wide: 2 of them make one. */
static uint64_t none_shared(void *data, uint64_t start, uint64_t end, bool *ret_shared)
{
	(void)data;
	*ret_shared = false;
	return end - start;
}

static uint64_t count_cells(void *data, unsigned int strip, uint64_t start, uint64_t bytes)
{
	unsigned int *cells = data;

	CHECK(!strip && start == *cells * 2 * PAGE);
	CHECK(bytes == (*cells == 460 ? PAGE : 2 * PAGE));
	++*cells;
	return 0;
}

static void test_cells(void)
{
	const struct picture_strip strip = {"", 0, 921 * PAGE};
	unsigned int cells = 0;
	const struct picture_source source = {&cells, none_shared, count_cells};
	char *text;

	draw(&strip, 1, &source, &text);
	CHECK(cells == 461);
	free(text);
}

void test_picture(void)
{
	test_large();
	test_small();
	test_cells();
}

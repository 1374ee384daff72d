/* SPDX-License-Identifier: MIT */
/* gmemctl bench: how long conversions, faults and placement take on this host. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ctl.h"
#include "json.h"
#include "measure.h"
#include "picture.h"

#define BAR 30
#define TIME_TEXT 24

/* --- the bar, on a terminal only */

static void progress(size_t done, size_t total)
{
	size_t i;

	if (!terminal(stderr))
		return;
	fprintf(stderr, "\r[");
	for (i = 0; i < BAR; i++)
		fputc(i < done * BAR / total ? '#' : '.', stderr);
	fprintf(stderr, "] %zu of %zu", done, total);
	if (done == total) /* nothing of it stays */
		fprintf(stderr, "\r\33[K");
	fflush(stderr);
}

/* --- for people */

static const char *time_text(char text[TIME_TEXT], double ns)
{
	if (ns < 1e4)
		snprintf(text, TIME_TEXT, "%.0f ns", ns);
	else if (ns < 1e7)
		snprintf(text, TIME_TEXT, "%.1f us", ns / 1e3);
	else
		snprintf(text, TIME_TEXT, "%.1f ms", ns / 1e6);
	return text;
}

static double per_page(const struct figure *figure)
{
	return figure->median_ns / ((double)figure->bytes / (double)sysconf(_SC_PAGESIZE));
}

static void print_text(const struct measurement *measurement)
{
	char median[TIME_TEXT], least[TIME_TEXT], page[TIME_TEXT], size[SIZE_TEXT];
	const struct figure *figure;
	size_t i;

	printf("%s of %s mode, in a VM of type %s\n", size_text(size, measurement->size),
	       measurement->mode, measurement->vm_type);
	printf("%s%-34s %7s %11s %11s %11s %7s%s\n", colour(stdout, BOLD), "OPERATION", "SIZE",
	       "MEDIAN", "LEAST", "A PAGE", "ROUNDS", colour(stdout, PLAIN));
	for (i = 0; i < measurement->count; i++) {
		figure = &measurement->figures[i];
		if (!figure->rounds) {
			printf("%-34s %snot measured%s: %s\n", figure->name, colour(stdout, YELLOW),
			       colour(stdout, PLAIN), figure->why);
			continue;
		}
		printf("%-34s %7s %11s %11s %11s %7u\n", figure->name,
		       size_text(size, figure->bytes), time_text(median, figure->median_ns),
		       time_text(least, figure->least_ns), time_text(page, per_page(figure)),
		       figure->rounds);
	}
}

/* --- for programs */

static void print_json(const struct measurement *measurement)
{
	struct json json = {.f = stdout};
	const struct figure *figure;
	struct utsname kernel;
	size_t i;

	uname(&kernel);
	json_begin(&json, NULL, '{');
	json_string(&json, "kernel", kernel.release);
	json_string(&json, "vm_type", measurement->vm_type);
	json_string(&json, "mode", measurement->mode);
	json_number(&json, "size", measurement->size);
	json_number(&json, "page", (uint64_t)sysconf(_SC_PAGESIZE));
	json_begin(&json, "figures", '[');
	for (i = 0; i < measurement->count; i++) {
		figure = &measurement->figures[i];
		json_begin(&json, NULL, '{');
		json_string(&json, "id", figure->id);
		json_string(&json, "name", figure->name);
		json_number(&json, "size", figure->bytes);
		json_number(&json, "rounds", figure->rounds);
		if (figure->rounds) {
			json_decimal(&json, "median_ns", figure->median_ns);
			json_decimal(&json, "least_ns", figure->least_ns);
			json_decimal(&json, "median_ns_per_page", per_page(figure));
		} else {
			json_string(&json, "reason", figure->why);
		}
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_end(&json, '}');
}

/* --- as a picture: what a page costs in each, as bars */

static void draw(const struct measurement *measurement, const char *path)
{
	const int left = 300, width = 520, step = 30;
	const int height = 60 + step * (int)measurement->count;
	char value[TIME_TEXT], size[SIZE_TEXT], *text = NULL;
	const struct figure *figure;
	double most = 0, bar;
	size_t length = 0, i;
	int y = 60;
	FILE *f;

	for (i = 0; i < measurement->count; i++)
		if (measurement->figures[i].rounds && per_page(&measurement->figures[i]) > most)
			most = per_page(&measurement->figures[i]);
	f = must_alloc(open_memstream(&text, &length));
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"%d\" "
		"viewBox=\"0 0 960 %d\">\n%s"
		"<text x=\"20\" y=\"30\">the median, a page, of %s in %s mode</text>\n",
		height, height, picture_style, size_text(size, measurement->size),
		measurement->mode);
	for (i = 0; i < measurement->count; i++, y += step) {
		figure = &measurement->figures[i];
		bar = figure->rounds && most > 0 ? per_page(figure) / most * width : 0;
		fprintf(f, "<text x=\"20\" y=\"%d\">", y + 14);
		picture_text(f, figure->name);
		fprintf(f,
			"</text>\n<rect class=\"used\" x=\"%d\" y=\"%d\" width=\"%.1f\" "
			"height=\"18\"/>\n<text x=\"%.1f\" y=\"%d\">%s</text>\n",
			left, y, bar, left + bar + 8, y + 14,
			figure->rounds ? time_text(value, per_page(figure)) : "not measured");
	}
	fprintf(f, "</svg>\n");
	if (fclose(f))
		fail("%s: %s", path, strerror(errno));
	save_file(path, text, length);
	free(text);
}

/* --- the command */

static uint64_t parse_size(const char *text)
{
	unsigned long long value;
	int shift = 0;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (end != text && *end == 'M')
		shift = 20;
	else if (end != text && *end == 'G')
		shift = 30;
	if (!shift || end[1] || *text == '-' || errno || !value || value > 64ull << 30 >> shift ||
	    (value << shift) % (2 << 20))
		usage_error("--size wants a multiple of 2M, e.g. 256M, up to 64G, not '%s'", text);
	return value << shift;
}

int cmd_bench(int argc, char **argv)
{
	static const struct option known[] = {{"json", no_argument, NULL, 'j'},
					      {"svg", required_argument, NULL, 's'},
					      {"size", required_argument, NULL, 'z'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	struct measurement measurement;
	uint64_t size = 64 << 20;
	const char *svg = NULL;
	bool json = false;
	int c;

	while ((c = next_option(argc, argv, known)) != -1) {
		switch (c) {
		case 'h':
			return usage();
		case 'j':
			json = true;
			break;
		case 's':
			svg = optarg;
			break;
		case 'z':
			size = parse_size(optarg);
			break;
		}
	}
	if (optind < argc)
		usage_error("bench takes no '%s'", argv[optind]);
	measure(size, progress, &measurement);
	if (svg)
		draw(&measurement, svg);
	if (json)
		print_json(&measurement);
	else if (!svg)
		print_text(&measurement);
	measure_free(&measurement);
	return 0;
}

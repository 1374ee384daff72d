/* SPDX-License-Identifier: MIT */
/*
 * A program of the guest that uses /dev/gmem_window:
 *
 *   window talk [SECONDS]         share a window, put a letter there, read the answer,
 *                                 leave it open for so long, and close it
 *   window convert COUNT [SEED]   random conversions, and whether the pages keep what
 *                                 is in them
 *   window errors                 what the driver has to refuse
 *
 * Build it with -static, and put it into the guest's initrd.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "gmem_window.h"

#define DEVICE "/dev/gmem_window"
#define PAGE 4096ul
#define TALK_BYTES (64ul << 10)
#define MARK_AT (32ul << 10)
#define MARK_LEN 32

static int window;

static void die(const char *what)
{
	printf("guest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *open_window(size_t bytes)
{
	void *map;

	window = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (window < 0)
		die(DEVICE);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, window, 0);
	if (map == MAP_FAILED)
		die("no memory for a window");
	return map;
}

static int convert(uint64_t offset, uint64_t bytes, int share)
{
	struct gmem_window_range range = {.offset = offset, .bytes = bytes};

	return ioctl(window, share ? GMEM_WINDOW_SHARE : GMEM_WINDOW_UNSHARE, &range);
}

/* What the host answers; empty if it does not. */
static const char *ask(struct gmem_letter *letter)
{
	letter->answer[0] = 0;
	if (ioctl(window, GMEM_WINDOW_BELL))
		die("the bell");
	letter->answer[sizeof(letter->answer) - 1] = 0;
	return letter->answer;
}

/* Something in the window that the host is not asked to read. Told backwards: see init.c */
static void leave_mark(char *at)
{
	unsigned char random[MARK_LEN];
	char told[MARK_LEN + 1] = "";
	int i;

	if (getrandom(random, sizeof(random), GRND_INSECURE) != sizeof(random))
		die("no random numbers");
	for (i = 0; i < MARK_LEN; i++)
		at[i] = told[MARK_LEN - 1 - i] = "0123456789abcdef"[random[i] % 16];
	printf("guest: a mark in the window, backwards, is %s\n", told);
}

static int talk(unsigned int seconds)
{
	struct gmem_letter *letter = open_window(TALK_BYTES);

	if (convert(0, TALK_BYTES, 1))
		die("the host shares no window");
	printf("guest: I opened a window of %lu KiB\n", TALK_BYTES >> 10);
	strcpy(letter->question, "Is anybody out there?");
	printf("guest: I ask: %s\n", letter->question);
	printf("guest: the answer is: %s\n", *ask(letter) ? letter->answer : "(none)");
	leave_mark((char *)letter + MARK_AT);
	sleep(seconds);
	if (convert(0, TALK_BYTES, 0))
		die("the window cannot be closed");
	printf("guest: I closed the window\n");
	strcpy(letter->question, "And now?");
	printf("guest: I ask again, and the answer is: %s\n",
	       *ask(letter) ? letter->answer : "(none)");
	return 0;
}

static uint64_t seed;

static uint64_t next(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return seed >> 33;
}

static uint64_t word_of(uint64_t page, uint64_t generation, uint64_t i)
{
	return (page * 0x9e3779b97f4a7c15ull) ^ (generation << 16) ^ i;
}

static void fill(uint64_t *map, uint64_t page, uint64_t generation)
{
	for (uint64_t i = 0; i < PAGE / 8; i++)
		map[page * (PAGE / 8) + i] = word_of(page, generation, i);
}

static int differs(const uint64_t *map, uint64_t page, uint64_t generation)
{
	for (uint64_t i = 0; i < PAGE / 8; i++)
		if (map[page * (PAGE / 8) + i] != word_of(page, generation, i))
			return 1;
	return 0;
}

/*
 * The first page has a letter, which the host answers only if it sees the same as is
 * seen here, and only where the page is shared; the others have words that tell which
 * page they are from, and of when.
 */
static int convert_at_random(unsigned long count)
{
	static uint64_t generations[GMEM_WINDOW_MAX / PAGE];
	static unsigned char shared[GMEM_WINDOW_MAX / PAGE];
	const uint64_t pages = GMEM_WINDOW_MAX / PAGE;
	unsigned long n, refused = 0, differ = 0, misread = 0, answered = 0, open = 0;
	struct gmem_letter *letter = open_window(GMEM_WINDOW_MAX);
	uint64_t *map = (uint64_t *)letter, i, from, many;
	char want[128];
	int share;

	printf("guest: %lu conversions, from seed %llu\n", count, (unsigned long long)seed);
	for (i = 1; i < pages; i++)
		fill(map, i, 0);
	for (n = 0; n < count; n++) {
		/* Every other one has the letter's page in it, so that it is read often. */
		from = n & 1 ? next() % pages : 0;
		many = 1 + next() % (pages - from);
		share = next() & 1;
		snprintf(letter->question, sizeof(letter->question), "letter %lu", n);
		if (convert(from * PAGE, many * PAGE, share)) {
			refused++;
			continue;
		}
		memset(shared + from, share, many);
		for (i = 1; i < pages; i++)
			differ += differs(map, i, generations[i]);
		snprintf(want, sizeof(want), "letter %lu", n);
		differ += strcmp(letter->question, want) != 0;
		ask(letter);
		answered += *letter->answer != 0;
		misread += shared[0] ? !strstr(letter->answer, want) : *letter->answer != 0;
		for (i = 0; i < 16; i++) {
			uint64_t page = 1 + next() % (pages - 1);

			fill(map, page, ++generations[page]);
		}
	}
	for (i = 0; i < pages; i++)
		open += shared[i];
	printf("guest: %lu conversions done, %lu refused; %lu pages differed; %lu letters "
	       "answered, %lu wrongly; %lu KiB are shared\n",
	       n - refused, refused, differ, answered, misread, open * PAGE >> 10);
	if (refused || differ || misread || !answered)
		return 1;
	printf("guest: every page kept what was in it\n");
	return 0;
}

static int bad; /* of the calls that had to fail */

static void expect(const char *what, int r, int error)
{
	if (r >= 0 || errno != error) {
		printf("guest: %s: %s, not %s\n", what, r < 0 ? strerror(errno) : "done",
		       strerror(error));
		bad++;
	}
}

static int map_fails(size_t bytes, int flags, off_t offset)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, window, offset);

	return map == MAP_FAILED ? -1 : 0;
}

static int refuses(void)
{
	struct gmem_window_range range = {.offset = 0, .bytes = PAGE};

	window = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (window < 0)
		die(DEVICE);
	expect("share nothing", ioctl(window, GMEM_WINDOW_SHARE, &range), ENXIO);
	expect("ring without a window", ioctl(window, GMEM_WINDOW_BELL), ENXIO);
	expect("copy on write", map_fails(PAGE, MAP_PRIVATE, 0), EINVAL);
	expect("too large", map_fails(GMEM_WINDOW_MAX + PAGE, MAP_SHARED, 0), EINVAL);
	expect("first from its middle", map_fails(PAGE, MAP_SHARED, PAGE), EINVAL);
	if (map_fails(4 * PAGE, MAP_SHARED, 0))
		die("no memory for a window");
	expect("beyond the end", map_fails(4 * PAGE, MAP_SHARED, PAGE), EINVAL);
	expect("no such request", ioctl(window, _IO('W', 0x6a)), ENOTTY);
	expect("no range", ioctl(window, GMEM_WINDOW_SHARE, NULL), EFAULT);
	expect("empty", convert(0, 0, 1), EINVAL);
	expect("half a page", convert(0, PAGE / 2, 1), EINVAL);
	expect("from half a page", convert(PAGE / 2, PAGE, 1), EINVAL);
	expect("one too many", convert(PAGE, 4 * PAGE, 1), EINVAL);
	expect("wrapping", convert(-PAGE, 2 * PAGE, 0), EINVAL);
	printf("guest: the driver refuses %s\n", bad ? "too little" : "what it has to");
	return bad != 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc >= 2 && !strcmp(argv[1], "talk"))
		return talk(argc > 2 ? (unsigned int)atoi(argv[2]) : 0);
	if (argc >= 3 && !strcmp(argv[1], "convert")) {
		seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
		if (!seed && getrandom(&seed, 4, GRND_INSECURE) != 4)
			die("no random numbers");
		return convert_at_random(strtoul(argv[2], NULL, 0));
	}
	if (argc == 2 && !strcmp(argv[1], "errors"))
		return refuses();
	printf("guest: usage: window talk [SECONDS] | convert COUNT [SEED] | errors\n");
	return 2;
}

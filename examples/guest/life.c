/* SPDX-License-Identifier: MIT */
/*
 * A guest that is cloned, and one that starts again:
 *
 *   life clone [PROGRAM...]  keep a secret, say that it may be cloned, and then what has
 *                            become of it; in the clone, run that
 *   life reboot N            keep a secret, and look for those of former boots, until boot N
 *
 * Its driver is /gmem_life.ko.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gmem_life.h"

#define COPIES 2048
#define OWN (4 << 20)

/*
 * By the mark a secret is known, so that it can be looked for when nobody knows it any more.
 * There are many, and each in a page of its own: a kernel that starts again uses much of
 * the memory that it used before, and is not to be what overwrites all of them.
 */
struct secret {
	volatile uint64_t mark[GMEM_LIFE_WORDS];
	uint64_t random[4];
	char rest[4096 - 64];
};

/* Inverted, and not for the compiler to invert: the mark itself is only in secrets. */
static const volatile uint64_t inverted[GMEM_LIFE_WORDS] = {0x9b1f6a3de85c0247, 0x62d8f0917ac4b35e,
							    0x0fe35d86b91742ca, 0xd7408e2b5ac96f13};

static int device;

static int open_device(void)
{
	int fd = open("/gmem_life.ko", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)) {
		printf("guest: no /gmem_life.ko: %s\n", strerror(errno));
		return -1;
	}
	close(fd);
	device = open("/dev/gmem_life", O_RDWR | O_CLOEXEC);
	if (device < 0)
		printf("guest: /dev/gmem_life: %s\n", strerror(errno));
	return device;
}

static struct secret *keep_secret(void)
{
	struct secret *secret = calloc(COPIES, sizeof(*secret));
	uint64_t random[4];
	int i, j;

	if (!secret || getrandom(random, sizeof(random), GRND_INSECURE) != sizeof(random)) {
		printf("guest: no memory for a secret\n");
		exit(1);
	}
	for (i = 0; i < COPIES; i++) {
		for (j = 0; j < GMEM_LIFE_WORDS; j++)
			secret[i].mark[j] = ~inverted[j];
		memcpy(secret[i].random, random, sizeof(random));
	}
	return secret;
}

/* FNV-1a of all copies: it tells that they are what they were, and not what. */
static uint64_t hash(const struct secret *secret)
{
	uint64_t sum = 0xcbf29ce484222325;
	size_t i, j;

	for (i = 0; i < COPIES; i++) {
		const unsigned char *p = (const unsigned char *)&secret[i];

		for (j = 0; j < offsetof(struct secret, rest); j++)
			sum = (sum ^ p[j]) * 0x100000001b3;
	}
	return sum;
}

/* While others write theirs, where they would be if it were the same memory. */
static unsigned long write_own(uint32_t number)
{
	volatile uint32_t *own = malloc(OWN);
	unsigned long i, differ = 0;

	if (!own)
		return OWN;
	for (i = 0; i < OWN / sizeof(*own); i++)
		own[i] = number * 0x10001 + (uint32_t)i;
	usleep(300000);
	for (i = 0; i < OWN / sizeof(*own); i++)
		differ += own[i] != number * 0x10001 + (uint32_t)i;
	free((void *)own);
	return differ * sizeof(*own);
}

static int be_cloned(char **program)
{
	const struct secret *secret = keep_secret();
	const uint64_t before = hash(secret);
	unsigned long differ;
	uint32_t number = 0;

	printf("guest: the hash of my secret is %016" PRIx64 "\n", before);
	printf(GMEM_LIFE_MARKER "\n");
	while (!number) {
		usleep(10000);
		if (ioctl(device, GMEM_LIFE_NUMBER, &number)) {
			printf("guest: which clone I am: %s\n", strerror(errno));
			return 1;
		}
	}
	if (number == UINT32_MAX) {
		printf("guest: nobody clones me here\n");
		return 1;
	}
	printf("guest: I am clone %" PRIu32 "; the hash of my secret %s %016" PRIx64 "\n", number,
	       hash(secret) == before ? "is still" : "HAS BECOME", hash(secret));
	differ = write_own(number);
	printf("guest: of what clone %" PRIu32 " wrote %lu bytes differ\n", number, differ);
	if (hash(secret) != before || differ)
		return 1;
	if (!program[0])
		return 0;
	execv(program[0], program);
	printf("guest: %s: %s\n", program[0], strerror(errno));
	return 127;
}

static uint64_t count(uint64_t *ret_pages)
{
	struct gmem_life_search search = {.found = 0};
	int i;

	for (i = 0; i < GMEM_LIFE_WORDS; i++)
		search.inverted[i] = inverted[i];
	if (ioctl(device, GMEM_LIFE_SEARCH, &search)) {
		printf("guest: memory cannot be searched: %s\n", strerror(errno));
		exit(1);
	}
	*ret_pages = search.pages;
	return search.found;
}

/* The host says which boot this is, but for the first. */
static unsigned long which_boot(void)
{
	char line[4096] = "", *at;
	FILE *f = fopen("/proc/cmdline", "r");

	if (!f || !fgets(line, sizeof(line), f))
		printf("guest: no /proc/cmdline\n");
	if (f)
		fclose(f);
	at = strstr(line, " gmem.boot=");
	return at ? strtoul(at + 11, NULL, 10) : 1;
}

static int boot_again(unsigned long boots)
{
	const unsigned long boot = which_boot();
	uint64_t pages, former = count(&pages), mine;
	const struct secret *secret = keep_secret();

	mine = count(&pages);
	printf("guest: boot %lu: %" PRIu64 " copies of a former secret in %" PRIu64
	       " pages; of this one at least %d: %s\n",
	       boot, former, pages, COPIES, mine >= COPIES ? "yes" : "NO");
	if (former || mine < COPIES || !secret->mark[0])
		return 1;
	if (boot < boots) {
		fflush(stdout);
		reboot(RB_AUTOBOOT);
	}
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc >= 2 && !strcmp(argv[1], "clone"))
		return open_device() < 0 ? 1 : be_cloned(argv + 2);
	if (argc == 3 && !strcmp(argv[1], "reboot"))
		return open_device() < 0 ? 1 : boot_again(strtoul(argv[2], NULL, 10));
	printf("guest: usage: life clone [PROGRAM...], or life reboot BOOTS\n");
	return 2;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast this machine's TSC ticks, in kHz. Under TCG the machine inside has the
 * same TSC, but on a busy host its kernel cannot find that out, and without a TSC
 * that it trusts KVM has no clock to offer.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

struct pair {
	uint64_t tsc, ns;
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* The closest of several readings, so that one that was interrupted is no matter. */
static struct pair read_both(void)
{
	struct pair best = { 0, 0 };
	uint64_t width = UINT64_MAX;

	for (int i = 0; i < 100; i++) {
		uint64_t before = __rdtsc(), ns = now(), after = __rdtsc();

		if (after - before < width) {
			width = after - before;
			best = (struct pair){ before + width / 2, ns };
		}
	}
	return best;
}

int main(void)
{
	struct timespec nap = { .tv_nsec = 20000000 };
	struct pair a = read_both(), b;

	nanosleep(&nap, NULL);
	b = read_both();
	printf("%.0f\n", (b.tsc - a.tsc) * 1e6 / (b.ns - a.ns));
	return 0;
}

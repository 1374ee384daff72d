/* SPDX-License-Identifier: MIT */
/*
 * A device that is nothing but a bell: the guest has put a letter into shared memory (see
 * examples/guest), rings, and reads the answer when it runs again.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../guest/gmem_window.h"
#include "launch.h"

bool talk_port(const struct machine *m, uint16_t port)
{
	return m->talking && port == GMEM_WINDOW_PORT;
}

/* A real device's memory would be mapped in the IOMMU, or unmapped, at such a time. */
void talk_told(struct machine *m, const struct gmem_event *event)
{
	if (m->talking)
		fprintf(stderr,
			"gmem-launch: %s made %" PRIu64 " KiB at %#" PRIx64
			" %s; the launcher can read %" PRIu64 " of %" PRIu64 " pages\n",
			m->name, event->bytes >> 10, event->gpa,
			event->to == GMEM_STATE_SHARED ? "shared" : "private",
			memory_readable(m, event->offset, event->bytes), event->bytes / PAGE);
}

/*
 * The guest is not to be trusted: neither with the address, nor that what is there stays
 * the same while it is looked at, nor with what it does to a terminal. So what is shared
 * is copied once, and the copy is looked at.
 */
void talk_ring(struct machine *m, uint32_t page)
{
	const uint64_t gpa = page * PAGE;
	struct gmem_letter letter;
	char *question = letter.question, *c;

	if (!memory_read(m, gpa, question, sizeof(letter.question))) {
		fprintf(stderr,
			"gmem-launch: the bell rang, but no shared memory is at %#" PRIx64 "\n",
			gpa);
		return;
	}
	question[sizeof(letter.question) - 1] = 0;
	for (c = question; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
	fprintf(stderr, "gmem-launch: %s asks: %s\n", m->name, question);
	snprintf(letter.answer, sizeof(letter.answer), "gmem-launch has read '%.1900s'", question);
	/* It may be gone by now: then nobody is there to read it. */
	memory_write(m, gpa + offsetof(struct gmem_letter, answer), letter.answer,
		     strlen(letter.answer) + 1);
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A memfd in ordinary slots: no guest_memfd, and nothing that is private, on any kernel that
 * has KVM. Its pages may be huge.
 */
#include "backend.h"

static int create(struct gmem *memory, uint32_t initial, struct gmem_error *error)
{
	int r;

	(void)initial;
	r = gmem_create_memfd(memory, error);
	if (r < 0)
		return r;
	memory->fd = memory->shared_fd;
	return 0;
}

/* Older kernels have no cachestat(), and none has it for huge pages. */
static int resident(const struct gmem *memory, uint64_t *bytes)
{
	return memory->vm->sys->allocated(memory->fd, bytes);
}

const struct gmem_backend gmem_plain = {
	.mode = GMEM_MODE_PLAIN,
	.cap = GMEM_CAP_PLAIN,
	.name = "plain",
	.only_asked_for = true,
	.huge_pages = true,
	.create = create,
	.map = gmem_map_for_slots,
	.ordinary_slots = true,
	.resident = resident,
	.memfd_policy = true,
	.no_zero = "Memory in plain mode cannot be zeroed in place: discard it.",
	.no_life = "In plain mode memory cannot be linked, frozen or cloned: it is no guest_memfd.",
};

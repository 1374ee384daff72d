/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Freeing and zeroing the contents of memory. */
#include <fcntl.h>
#include <linux/falloc.h>

#include "backend.h"

int gmem_punch(const struct gmem *memory, int fd, uint64_t offset, uint64_t bytes)
{
	return memory->vm->sys->fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
					  bytes);
}

static int discard_locked(struct gmem *memory, uint64_t offset, uint64_t bytes,
			  struct gmem_error *error)
{
	const struct news news = {memory->vm, NULL, GMEM_STATE_SHARED, GMEM_STATE_SHARED};
	struct target t = {.memory = memory, .start = offset, .end = offset + bytes};
	int r;

	/* Devices let the pages go before they are freed, and get what is there afterwards. */
	gmem_aim(&t, memory->vm);
	r = gmem_prepare_target(&news, &t, error);
	if (r)
		return r;
	r = gmem_punch(memory, memory->fd, offset, bytes);
	if (r >= 0 && memory->shared_fd != memory->fd)
		r = gmem_punch(memory, memory->shared_fd, offset, bytes);
	if (r < 0) {
		gmem_roll_back_target(&news, &t);
		return gmem_fail(error, GMEM_STEP_DISCARD, r, gmem_gpa_of(memory, offset), offset,
				 "Cannot free %#llx bytes at %#llx (errno %d).",
				 (unsigned long long)bytes, (unsigned long long)offset, -r);
	}
	pthread_rwlock_wrlock(&memory->vm->lock);
	gmem_note_residue(memory, offset, offset + bytes, false);
	pthread_rwlock_unlock(&memory->vm->lock);
	gmem_commit_target(&news, &t);
	return 0;
}

PUBLIC int gmem_discard(struct gmem *memory, uint64_t offset, uint64_t bytes,
			struct gmem_error *error)
{
	int r;

	r = gmem_check_file_range(memory, offset, bytes, error);
	if (!r)
		r = gmem_begin_work(memory->vm, error);
	if (r)
		return r;
	r = discard_locked(memory, offset, bytes, error);
	gmem_end_work(memory->vm);
	if (!r)
		gmem_log(memory->vm, "discarded %#llx bytes at offset %#llx",
			 (unsigned long long)bytes, (unsigned long long)offset);
	return r;
}

PUBLIC int gmem_zero(struct gmem *memory, uint64_t offset, uint64_t bytes, struct gmem_error *error)
{
	struct gmem_vm *vm;
	const char *why;
	int r;

	r = gmem_check_range(memory, offset, bytes, error);
	if (r)
		return r;
	vm = memory->vm;
	why = memory->backend->no_zero;
	if (!why)
		why = gmem_vm_why_not(vm, GMEM_CAP_ZERO);
	if (why)
		return gmem_fail(error, GMEM_STEP_DISCARD, -EOPNOTSUPP, GMEM_NOWHERE, offset, "%s",
				 why);
	r = gmem_begin_work(vm, error);
	if (r)
		return r;
	r = vm->sys->fallocate(memory->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset,
			       bytes);
	if (r < 0)
		gmem_fail(error, GMEM_STEP_DISCARD, r, gmem_gpa_of(memory, offset), offset,
			  "Cannot zero %#llx bytes at %#llx (errno %d).", (unsigned long long)bytes,
			  (unsigned long long)offset, -r);
	gmem_end_work(vm);
	if (r >= 0)
		gmem_log(vm, "zeroed %#llx bytes at offset %#llx", (unsigned long long)bytes,
			 (unsigned long long)offset);
	return r;
}

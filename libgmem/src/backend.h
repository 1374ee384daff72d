/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GMEM_BACKEND_H
#define GMEM_BACKEND_H

/*
 * How private and shared memory come about, one way each. All that differs between them is
 * in this table: what a backend does not know, it says by a missing function. A backend
 * knows ioctls and files, and nothing of listeners; nobody else knows which one it is.
 */

#include "internal.h"

struct gmem_backend {
	uint32_t mode;	  /* GMEM_MODE_... */
	uint64_t cap;	  /* GMEM_CAP_... of the VMs that have it; others have a reason for it */
	const char *name; /* in sentences */
	/* AUTO does not take it unless shared memory was asked for. */
	bool only_asked_for;
	/* It has gmem_options.huge_page. */
	bool huge_pages;

	/* Open the files of new memory, which is all in that state. */
	int (*create)(struct gmem *memory, uint32_t initial, struct gmem_error *error);
	/* Missing: slots need no address. */
	int (*map)(struct gmem *memory, struct gmem_error *error);
	/* Slots are those of any memory of the process, and have no guest_memfd. */
	bool ordinary_slots;
	/*
	 * Tell KVM what of a piece is private, before the slot is there; and that nothing is,
	 * when it is gone. Missing: KVM knows.
	 */
	int (*bind)(const struct piece *p);
	int (*unbind)(const struct piece *p);

	/*
	 * Convert a piece: all of it, or nothing. *bad is an offset, where a failure is about
	 * one. Missing: all is shared for ever.
	 */
	int (*convert)(const struct piece *p, uint32_t to, uint64_t flags, uint64_t *bad);
	/* ... whose parts have one state, and which is bound: states go by address. */
	bool by_slot;
	/* ... which knows GMEM_CONVERT_ZERO; else what becomes shared is freed before. */
	bool zeroes;
	/* A guest's access tells which state it wants. */
	bool guest_accesses_ask;

	/*
	 * Store the first runs of [offset, end), at most nr, and return how many; by node as
	 * well as by state. Missing: the library's own notes, and the kernel's mappings.
	 */
	int (*runs)(const struct gmem *memory, uint64_t offset, uint64_t end, bool by_node,
		    struct kvm_gmem_range *runs, uint32_t nr);
	int (*nodes)(const struct gmem *memory, uint64_t offset, uint64_t end, bool by_node,
		     struct kvm_gmem_range *runs, uint32_t nr);

	/* Free what is not used of memory in that state. Missing: all is. */
	int (*free_unused)(const struct gmem *memory, uint64_t offset, uint64_t bytes,
			   uint32_t state);

	/* Store how much memory there is in fd. Missing: cachestat() tells. */
	int (*resident)(const struct gmem *memory, uint64_t *bytes);

	/* What has a policy is a memfd, whether or not a guest_memfd can have one. */
	bool memfd_policy;
	/* Why memory of this backend has none of that; NULL: it has what the VM has. */
	const char *no_zero;
	const char *no_life; /* links, freezing, clones */
};

extern const struct gmem_backend gmem_inplace;
extern const struct gmem_backend gmem_attributes;
extern const struct gmem_backend gmem_dual;
extern const struct gmem_backend gmem_shared;
extern const struct gmem_backend gmem_plain;

/* backend_inplace.c: runs() and nodes() of a kernel that has KVM_GMEM_GET_RANGES. */
int gmem_kernel_runs(const struct gmem *memory, uint64_t offset, uint64_t end, bool by_node,
		     struct kvm_gmem_range *runs, uint32_t nr);

/* backend_shared.c: create() of memory in one file that can be mapped. */
int gmem_create_mappable(struct gmem *memory, uint32_t initial, struct gmem_error *error);

#endif

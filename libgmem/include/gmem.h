/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GMEM_H
#define GMEM_H

/*
 * libgmem: guest memory for VMMs. It makes memory that the host cannot read,
 * places it on NUMA nodes, gives it to a VM, converts it between private and
 * shared, and says what is where. gmem(7) shows how the parts go together;
 * each function has a page in section 3.
 *
 * For all of it:
 *
 * - A function returns 0 or more, or a negative errno. What is called ret_... is
 *   written on success only.
 * - Sizes, offsets and guest physical addresses are in bytes. Ranges are multiples
 *   of the page size (sysconf(_SC_PAGESIZE)), not empty, and do not wrap; all else
 *   is -EINVAL.
 * - A pointer to a struct gmem_error is optional. It is written on failure only.
 * - Structs that begin with a size are passed with that size set by the caller
 *   (the ..._INIT macros do it). Members that a caller does not know read as 0; a
 *   struct longer than the library's is accepted if the rest is 0, else it is
 *   -E2BIG; one shorter than that of version 1.0 is -EINVAL. Unknown flags are
 *   -EINVAL.
 * - Any function may be called from any thread. Callbacks run in the thread that
 *   called the function they are called from. Listeners may ask (gmem_lookup,
 *   gmem_next_range, gmem_stats, ...) but not change: that is -EDEADLK.
 * - The descriptor of the VM and the numbers of its slots stay the caller's.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GMEM_VERSION_MAJOR 1
#define GMEM_VERSION_MINOR 0

/* numa.h's; include that to make one */
struct bitmask;
/* <linux/kvm.h>'s: what KVM shares for each vCPU */
struct kvm_run;

/* The memory of one VM. */
struct gmem_vm;
/* One memory: a guest_memfd, and a memfd beside it in dual mode. */
struct gmem;
struct gmem_listener;

/* --- errors */

/* Which step failed. */
#define GMEM_STEP_ARGUMENTS UINT32_C(1) /* the arguments themselves; nothing was tried */
#define GMEM_STEP_PROBE UINT32_C(2)	/* finding out what the kernel can do */
#define GMEM_STEP_RESERVE UINT32_C(3)	/* allocating what the library needs */
#define GMEM_STEP_CREATE UINT32_C(4)	/* making the memory */
#define GMEM_STEP_MAP UINT32_C(5)	/* mapping it */
#define GMEM_STEP_BIND UINT32_C(6)	/* a slot of the VM */
#define GMEM_STEP_POLICY UINT32_C(7)	/* a NUMA policy */
#define GMEM_STEP_ALLOCATE UINT32_C(8)	/* allocating guest memory */
#define GMEM_STEP_QUERY UINT32_C(9)	/* asking the kernel about the memory */
#define GMEM_STEP_PREPARE UINT32_C(10)	/* a listener refused */
#define GMEM_STEP_CONVERT UINT32_C(11)	/* the kernel's part of a conversion */
#define GMEM_STEP_ROLLBACK UINT32_C(12) /* undoing that: see gmem_convert(3) */
#define GMEM_STEP_DISCARD UINT32_C(13)	/* freeing or zeroing contents */
#define GMEM_STEP_EXIT UINT32_C(14)	/* an exit that cannot be handled */
#define GMEM_STEP_FREEZE UINT32_C(15)	/* freezing it */

#define GMEM_NOWHERE UINT64_MAX /* a GPA or offset that the failure is not about */

struct gmem_error {
	size_t size;	   /* sizeof(struct gmem_error); set by the caller */
	uint32_t step;	   /* GMEM_STEP_... */
	int32_t error;	   /* what the function returned */
	uint64_t gpa;	   /* first byte in the way, or GMEM_NOWHERE */
	uint64_t offset;   /* the same, in the memory */
	char message[192]; /* a sentence for people, without a newline */
};

/* clang-format off */
#define GMEM_ERROR_INIT {sizeof(struct gmem_error), 0, 0, GMEM_NOWHERE, GMEM_NOWHERE, {0}}
/* clang-format on */

/* --- the library */

/* The version that runs, which may be later than the one that was compiled with. */
void gmem_version(unsigned int *ret_major, unsigned int *ret_minor);

/* --- a VM */

/* Modes: how private and shared memory come about. gmem(7) has the table. */
#define GMEM_MODE_AUTO UINT32_C(0)    /* the first of these that works */
#define GMEM_MODE_INPLACE UINT32_C(1) /* the same pages, converted by one ioctl */
#define GMEM_MODE_DUAL UINT32_C(2)    /* a guest_memfd beside a memfd; contents are lost */
#define GMEM_MODE_SHARED UINT32_C(3)  /* all of it is shared, always */

/* What there may be, found out by trying. */
#define GMEM_CAP_INPLACE (UINT64_C(1) << 0)	  /* GMEM_MODE_INPLACE */
#define GMEM_CAP_DUAL (UINT64_C(1) << 1)	  /* GMEM_MODE_DUAL */
#define GMEM_CAP_SHARED (UINT64_C(1) << 2)	  /* GMEM_MODE_SHARED */
#define GMEM_CAP_PRIVATE (UINT64_C(1) << 3)	  /* this VM can have private memory */
#define GMEM_CAP_POLICY (UINT64_C(1) << 4)	  /* mbind() places a guest_memfd's memory */
#define GMEM_CAP_RANGES (UINT64_C(1) << 5)	  /* the kernel tells what is where, private too */
#define GMEM_CAP_ZERO (UINT64_C(1) << 6)	  /* gmem_zero() */
#define GMEM_CAP_MEMORY_FAULT (UINT64_C(1) << 7)  /* KVM says which memory a vCPU faulted on */
#define GMEM_CAP_MAP_GPA_RANGE (UINT64_C(1) << 8) /* a guest can ask for conversions */
#define GMEM_CAP_LINK (UINT64_C(1) << 9)	  /* gmem_relink() */
#define GMEM_CAP_CLONE (UINT64_C(1) << 10)	  /* gmem_freeze(), gmem_clone() */

struct gmem_vm_options {
	size_t size;
	uint64_t flags; /* GMEM_VM_... */
};

/* clang-format off */
#define GMEM_VM_OPTIONS_INIT {sizeof(struct gmem_vm_options), 0}
/* clang-format on */

/* Let the guest ask for conversions: its KVM_HC_MAP_GPA_RANGE becomes an exit. */
#define GMEM_VM_MAP_GPA_RANGE (UINT64_C(1) << 0)

/*
 * The context for a VM that the caller made and whose descriptor it keeps open until
 * gmem_vm_free() and the last gmem_unref(). Tries out what the kernel can do for it.
 */
int gmem_vm_new(int vm_fd, const struct gmem_vm_options *options, struct gmem_vm **ret_vm,
		struct gmem_error *error);

/*
 * NULL is fine. What is bound stays bound, for as long as the caller has references to
 * those memories: with the last one the memory goes. No other function may be running on
 * it, and none but gmem_unref() may follow on its memories.
 */
void gmem_vm_free(struct gmem_vm *vm);

/* GMEM_CAP_... that this VM has. */
int gmem_vm_caps(const struct gmem_vm *vm, uint64_t *ret_caps);

/*
 * Why the VM does not have cap (one bit): a sentence that lives as long as the VM.
 * NULL if it has it, or if cap is none.
 */
const char *gmem_vm_why_not(const struct gmem_vm *vm, uint64_t cap);

/* The mode that GMEM_MODE_AUTO stands for here; -EOPNOTSUPP if there is none. */
int gmem_vm_mode(const struct gmem_vm *vm, uint32_t *ret_mode);

/*
 * Call log with what the library does to this VM, one sentence each; NULL, as at
 * first, for nothing. The message lives until log returns. Not to be called while
 * other functions run on the VM.
 */
typedef void (*gmem_log_fn)(void *data, const char *message);
int gmem_set_log(struct gmem_vm *vm, gmem_log_fn log, void *data);

/* --- memory */

/* What a range is. */
#define GMEM_STATE_UNBACKED UINT32_C(0) /* no memory of this library */
#define GMEM_STATE_SHARED UINT32_C(1)	/* host and guest */
#define GMEM_STATE_PRIVATE UINT32_C(2)	/* the guest alone */

struct gmem_options {
	size_t size;
	uint64_t flags;	  /* none yet: 0 */
	uint32_t mode;	  /* GMEM_MODE_... */
	uint32_t initial; /* GMEM_STATE_SHARED or _PRIVATE; 0: private where it can be */
};

/* clang-format off */
#define GMEM_OPTIONS_INIT {sizeof(struct gmem_options), 0, GMEM_MODE_AUTO, 0}
/* clang-format on */

/*
 * Make a memory of so many bytes; nothing is allocated in it yet. With initial
 * GMEM_STATE_PRIVATE, GMEM_MODE_AUTO never ends in GMEM_MODE_SHARED: it is
 * -EOPNOTSUPP instead, and error says why. The caller has one reference.
 */
int gmem_new(struct gmem_vm *vm, uint64_t bytes, const struct gmem_options *options,
	     struct gmem **ret_memory, struct gmem_error *error);

struct gmem *gmem_ref(struct gmem *memory); /* returns memory */
/* Returns NULL; NULL is fine. A memory that is bound has a reference of its own. */
struct gmem *gmem_unref(struct gmem *memory);

uint64_t gmem_size(const struct gmem *memory);
uint32_t gmem_mode(const struct gmem *memory);

/*
 * The guest_memfd, and what a device that is to reach the shared side has to map: in
 * dual mode the memfd, else the same. Both are close-on-exec and stay the library's.
 */
int gmem_fd(const struct gmem *memory);
int gmem_shared_fd(const struct gmem *memory);

#define GMEM_MAP_READONLY (UINT64_C(1) << 0)
#define GMEM_MAP_DONTDUMP (UINT64_C(1) << 1) /* not in core dumps */
#define GMEM_MAP_DONTFORK (UINT64_C(1) << 2) /* not in children */

/*
 * Map the shared side. Touching what is private is SIGBUS in GMEM_MODE_INPLACE, and
 * in GMEM_MODE_DUAL reaches pages that the guest does not see. The mapping is the
 * caller's; it keeps the memory alive, though not the struct gmem.
 */
int gmem_map(struct gmem *memory, uint64_t offset, uint64_t bytes, uint64_t flags,
	     void **ret_address, struct gmem_error *error);
int gmem_unmap(void *address, uint64_t bytes);

/* --- binding */

/*
 * Let slot number slot (the caller's numbering, in KVM's first address space: below 65536)
 * show bytes of memory from offset at guest physical address gpa. -EEXIST: the slot, the
 * addresses or that part of the memory are bound already; error says which, and where.
 * What KVM answers otherwise, where it has a slot of another's making there.
 */
int gmem_bind(struct gmem *memory, uint32_t slot, uint64_t gpa, uint64_t offset, uint64_t bytes,
	      struct gmem_error *error);

/* -ENOENT if the library did not bind that slot; -EBUSY etc. if a listener refuses. */
int gmem_unbind(struct gmem_vm *vm, uint32_t slot, struct gmem_error *error);

struct gmem_location {
	size_t size;
	struct gmem *memory; /* with a reference that is now the caller's */
	uint64_t offset;     /* of the address, in memory */
	uint64_t bytes;	     /* to the end of the slot */
	uint32_t slot;
	uint32_t state; /* GMEM_STATE_... of the page it is in */
};

/* clang-format off */
#define GMEM_LOCATION_INIT {sizeof(struct gmem_location), NULL, 0, 0, 0, 0}
/* clang-format on */

/* What is at gpa, which need not be aligned; -ENOENT: nothing of this library. */
int gmem_lookup(struct gmem_vm *vm, uint64_t gpa, struct gmem_location *ret_location);

/* --- NUMA */

#define GMEM_POLICY_DEFAULT UINT32_C(0)	   /* the allocating task's */
#define GMEM_POLICY_BIND UINT32_C(1)	   /* these nodes and no other */
#define GMEM_POLICY_PREFERRED UINT32_C(2)  /* these nodes while they have memory */
#define GMEM_POLICY_INTERLEAVE UINT32_C(3) /* a page each in turn */

/*
 * Say where memory that is allocated from now on has to be; what is allocated stays
 * where it is. nodes is not empty, but for GMEM_POLICY_DEFAULT, where it is NULL.
 * -EOPNOTSUPP without GMEM_CAP_POLICY: gmem_prealloc() can place memory there.
 */
int gmem_set_policy(struct gmem *memory, uint64_t offset, uint64_t bytes, uint32_t policy,
		    const struct bitmask *nodes, struct gmem_error *error);

/* The policy of one page. ret_nodes may be NULL; -ERANGE if it is too short. */
int gmem_get_policy(struct gmem *memory, uint64_t offset, uint32_t *ret_policy,
		    struct bitmask *ret_nodes, struct gmem_error *error);

/*
 * Called between steps of at most 32 MiB; done and total in bytes. Other than 0 stops
 * it, and is what gmem_prealloc() then returns if it is negative, else -ECANCELED.
 */
typedef int (*gmem_progress_fn)(void *data, uint64_t done, uint64_t total);

/*
 * Allocate a range, on nodes, or as its policy says where nodes is NULL. In dual mode
 * each page on the side that its state uses. Without GMEM_CAP_POLICY the calling
 * thread's memory policy is changed meanwhile, and put back. What was allocated before
 * a failure stays; -EINTR after a signal: call again.
 */
int gmem_prealloc(struct gmem *memory, uint64_t offset, uint64_t bytes, const struct bitmask *nodes,
		  gmem_progress_fn progress, void *data, struct gmem_error *error);

/*
 * How many bytes of a range are on each node: ret_bytes[0] to ret_bytes[count - 1].
 * -ERANGE if there is memory on a node from count on. -EOPNOTSUPP where private memory
 * is allocated that the kernel does not tell about (without GMEM_CAP_RANGES).
 */
int gmem_placement(struct gmem *memory, uint64_t offset, uint64_t bytes, uint64_t *ret_bytes,
		   unsigned int count, struct gmem_error *error);

/* --- conversion */

struct gmem_convert_options {
	size_t size;
	uint64_t flags;	      /* GMEM_CONVERT_... */
	uint32_t attempts;    /* while memory is in use; 0 as 1 */
	uint32_t pause_us;    /* microseconds between them */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; no attempt begins after it; 0: none */
};

/* clang-format off */
#define GMEM_CONVERT_OPTIONS_INIT {sizeof(struct gmem_convert_options), 0, 1, 0, 0}
/* clang-format on */

/*
 * Zero what becomes shared; -EINVAL to private. In dual mode contents are lost anyway, and
 * this frees what the host wrote to the side that the guest did not see. Where a range of
 * several slots fails, what is private again may have been zeroed.
 */
#define GMEM_CONVERT_ZERO (UINT64_C(1) << 0)

/* Written on success and on failure, unless the arguments are bad. */
struct gmem_convert_result {
	size_t size;
	uint64_t residue;      /* bytes whose unused side could not be freed (dual mode) */
	uint64_t busy_gpa;     /* -EAGAIN, -EHWPOISON: the first page in the way, */
	uint64_t busy_offset;  /* and where that is in its memory; else GMEM_NOWHERE */
	uint32_t attempts;     /* that were made */
	int32_t residue_error; /* why not: a negative errno, or 0 */
};

/* clang-format off */
#define GMEM_CONVERT_RESULT_INIT \
	{sizeof(struct gmem_convert_result), 0, GMEM_NOWHERE, GMEM_NOWHERE, 0, 0}
/* clang-format on */

/*
 * Make a range of guest physical addresses shared or private, over any number of
 * slots. What is in that state already stays untouched; what no slot backs succeeds.
 * All of it, or nothing: the listeners prepare, the kernel converts, the listeners
 * commit; or those that have prepared roll back, last first.
 *
 * -EAGAIN: memory is in use (pinned, or mapped for DMA); -EHWPOISON: a page is
 * poisoned; -EOPNOTSUPP: private, in GMEM_MODE_SHARED; what a listener returned.
 * GMEM_STEP_ROLLBACK in error: a part did not go back, and is in the new state, as the
 * listeners were told. It allocates nothing.
 */
int gmem_convert(struct gmem_vm *vm, uint64_t gpa, uint64_t bytes, uint32_t state,
		 const struct gmem_convert_options *options, struct gmem_convert_result *result,
		 struct gmem_error *error);

/* The same by memory and offset, bound or not. */
int gmem_convert_offset(struct gmem *memory, uint64_t offset, uint64_t bytes, uint32_t state,
			const struct gmem_convert_options *options,
			struct gmem_convert_result *result, struct gmem_error *error);

struct gmem_event {
	size_t size;
	struct gmem *memory; /* without a reference: good until the listener returns */
	uint64_t gpa;
	uint64_t offset;
	uint64_t bytes;
	uint32_t slot;
	uint32_t from; /* GMEM_STATE_...; UNBACKED: it is being bound */
	uint32_t to;   /* UNBACKED: it is being unbound */
};

/*
 * Who maps shared memory for devices (VFIO, vhost). An event is a run of one state,
 * in one slot; memory that is not bound has none.
 * To private or unbacked: unmap in prepare, map again in rollback. To shared: map in
 * commit, for the memory is not shared before. prepare may refuse with a negative errno
 * (other than 0 is -EINVAL), the others may not; each may be NULL.
 */
struct gmem_listener_ops {
	size_t size;
	int (*prepare)(void *data, const struct gmem_event *event);
	void (*commit)(void *data, const struct gmem_event *event);
	void (*rollback)(void *data, const struct gmem_event *event);
};

/* clang-format off */
#define GMEM_LISTENER_OPS_INIT {sizeof(struct gmem_listener_ops), NULL, NULL, NULL}
/* clang-format on */

/*
 * ops is copied. The new listener is told what is shared now, as if it had just been
 * bound (from unbacked to shared); if it refuses, it is not added.
 */
int gmem_listener_add(struct gmem_vm *vm, const struct gmem_listener_ops *ops, void *data,
		      struct gmem_listener **ret_listener, struct gmem_error *error);
/* It is called no more after this; -ENOENT if it is not the VM's. */
int gmem_listener_remove(struct gmem_vm *vm, struct gmem_listener *listener);

/* --- exits */

#define GMEM_EXIT_OTHER UINT32_C(0)    /* not about memory: the caller's */
#define GMEM_EXIT_CONVERT UINT32_C(1)  /* the guest asks for state, by hypercall or access */
#define GMEM_EXIT_AGAIN UINT32_C(2)    /* it is in that state now: run the vCPU again */
#define GMEM_EXIT_UNBACKED UINT32_C(3) /* an access to what no slot backs */
#define GMEM_EXIT_POISON UINT32_C(4)   /* an access to a poisoned page */
#define GMEM_EXIT_STUCK UINT32_C(5)    /* the same fault over and over */
#define GMEM_EXIT_INVALID UINT32_C(6)  /* a request that makes no sense */

#define GMEM_EXIT_HYPERCALL (UINT32_C(1) << 0) /* the guest waits for an answer */

/* After how many times without progress GMEM_EXIT_AGAIN becomes GMEM_EXIT_STUCK. */
#define GMEM_EXIT_REPEATS 64

/* One a vCPU, kept from exit to exit, used by one thread at a time. */
struct gmem_exit {
	size_t size;
	uint64_t gpa;	/* page aligned */
	uint64_t bytes; /* whole pages */
	uint32_t kind;	/* GMEM_EXIT_OTHER and so on */
	uint32_t flags; /* GMEM_EXIT_HYPERCALL */
	uint32_t state; /* GMEM_STATE_SHARED or _PRIVATE: what is asked for */
	int32_t result; /* 0, or the negative errno that the guest was answered */
	/* The library's own: */
	uint64_t last_gpa;
	uint32_t last_state;
	uint32_t repeats;
	uint64_t last_bytes;
};

/* clang-format off */
#define GMEM_EXIT_INIT {sizeof(struct gmem_exit), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
/* clang-format on */

/*
 * Say what an exit is. run_result is 0, or the negative errno of KVM_RUN: a memory
 * fault comes with -EFAULT or -EHWPOISON. Faults ask for conversions in GMEM_MODE_DUAL
 * alone; in the other modes the guest reaches its memory in either state.
 */
int gmem_exit_decode(struct gmem_vm *vm, const struct kvm_run *run, int run_result,
		     struct gmem_exit *exit);

/* Answer a hypercall with result (0 or a negative errno); nothing for other exits. */
int gmem_exit_complete(struct kvm_run *run, struct gmem_exit *exit, int result);

/*
 * Decode, convert, answer. 1: not about memory, the caller's to handle. 0: run the
 * vCPU again; a hypercall that was refused is answered so, and exit->result and error
 * say why. Negative: the vCPU cannot go on; exit->kind says which kind of exit it was
 * (-EFAULT: unbacked; -EHWPOISON; -ELOOP: stuck; what gmem_convert() returned).
 */
int gmem_exit_handle(struct gmem_vm *vm, struct kvm_run *run, int run_result,
		     struct gmem_exit *exit, const struct gmem_convert_options *options,
		     struct gmem_error *error);

/* --- state */

struct gmem_range {
	size_t size;
	struct gmem *memory; /* without a reference; NULL if unbacked */
	uint64_t gpa;	     /* GMEM_NOWHERE from gmem_next_offset_range() */
	uint64_t offset;     /* GMEM_NOWHERE if unbacked */
	uint64_t bytes;
	uint32_t state; /* GMEM_STATE_... */
	uint32_t slot;	/* if backed, and from gmem_next_range() */
};

/* clang-format off */
#define GMEM_RANGE_INIT {sizeof(struct gmem_range), NULL, 0, 0, 0, 0, 0}
/* clang-format on */

/*
 * The run that begins at gpa and ends at end at the latest. 1: here it is. 0: gpa is
 * end. A run has one state, and lies in one slot. Between two calls others may convert.
 */
int gmem_next_range(struct gmem_vm *vm, uint64_t gpa, uint64_t end, struct gmem_range *ret_range);
/* The same by offset; end at most gmem_size(). */
int gmem_next_offset_range(struct gmem *memory, uint64_t offset, uint64_t end,
			   struct gmem_range *ret_range);

/* In bytes. */
struct gmem_stats {
	size_t size;
	uint64_t bytes;
	uint64_t private_bytes; /* by state: with shared_bytes it makes up bytes */
	uint64_t shared_bytes;
	uint64_t resident_guest;  /* that the guest_memfd has memory for */
	uint64_t resident_shared; /* that the memfd has memory for (dual mode) */
	uint64_t bound_bytes;
	uint64_t residue;     /* unused sides that still have to be freed (dual mode) */
	uint64_t conversions; /* that succeeded, through this library */
	uint64_t refusals;    /* and that failed, each attempt counted */
};

/* clang-format off */
#define GMEM_STATS_INIT {sizeof(struct gmem_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0}
/* clang-format on */

int gmem_stats(struct gmem *memory, struct gmem_stats *ret_stats, struct gmem_error *error);

/* --- contents */

/* Free the memory of a range, on both sides. It reads as zeroes; its state stays. */
int gmem_discard(struct gmem *memory, uint64_t offset, uint64_t bytes, struct gmem_error *error);

/*
 * Zero a range in place: nothing is freed, nothing allocated, its state stays.
 * -EOPNOTSUPP without GMEM_CAP_ZERO, and in dual mode.
 */
int gmem_zero(struct gmem *memory, uint64_t offset, uint64_t bytes, struct gmem_error *error);

/* --- life after the VM */

/*
 * The same memory once more, for another VM of this process and of the same type: with
 * its contents, its states and its policy. Who converts, zeroes or discards through one
 * does so for all of them; the listeners of the others are not told, so unbind there
 * first. The memory goes with the last of them. -EOPNOTSUPP without GMEM_CAP_LINK, and
 * in dual mode; -EINVAL: the VM is of another type; -EPERM: memory is of a VM that
 * another process made. The caller has one reference.
 */
int gmem_relink(struct gmem *memory, struct gmem_vm *vm, struct gmem **ret_memory,
		struct gmem_error *error);

/*
 * Let nothing change the memory any more, for good: a guest's write becomes an exit, a
 * write to a mapping SIGBUS; conversions, discarding, zeroing and allocating are -EPERM.
 * Doing it again succeeds. -EAGAIN: memory is in use (pinned), error says where.
 * -EOPNOTSUPP without GMEM_CAP_CLONE, in dual mode, and for a clone.
 */
int gmem_freeze(struct gmem *memory, struct gmem_error *error);

/*
 * Make a memory for vm that reads as memory, which is frozen, and is private and shared
 * at the same places: a page is copied when the guest first writes it, or the host first
 * touches it, and then placed by the clone's own policy, which begins as the default. It
 * takes as long for much memory as for little. GMEM_CONVERT_ZERO is -EOPNOTSUPP in it:
 * discard, and convert. The frozen memory stays for as long as a clone does. Guests that
 * share pages can find out about each other: see gmem_relink(3). -EINVAL: it is not
 * frozen, or vm is of another type; -EPERM and -EOPNOTSUPP as with gmem_relink().
 */
int gmem_clone(struct gmem *memory, struct gmem_vm *vm, struct gmem **ret_memory,
	       struct gmem_error *error);

#ifdef __cplusplus
}
#endif

#endif

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GMEM_H
#define GMEM_H

/*
 * libgmem: private and shared guest memory for VMMs. It creates the memory,
 * places it on NUMA nodes, binds it to a VM, converts it between private and
 * shared, and reports the state and the node of each part. gmem(7) has an
 * overview and an example; each function has a page in section 3.
 *
 * These rules apply to all functions:
 *
 * - A function returns 0 or a positive value on success, and a negative errno on
 *   failure. Parameters named ret_... are written on success only.
 * - Sizes, offsets and guest physical addresses are in bytes. A range is a multiple
 *   of the page size (sysconf(_SC_PAGESIZE)), not empty, and does not wrap; any
 *   other range is -EINVAL.
 * - A pointer to a struct gmem_error may be NULL. The struct is written on failure
 *   only.
 * - In a struct that begins with a size, the caller sets the size of the struct that
 *   it was compiled with (the ..._INIT macros do so). Members behind that size are
 *   taken as 0. A struct longer than the library's is accepted if the rest is 0, and
 *   -E2BIG otherwise; one shorter than in version 1.0 is -EINVAL. Unknown flags are
 *   -EINVAL.
 * - Any function may be called from any thread. A callback runs in the thread that
 *   called the function that runs it. A listener may call functions that query
 *   (gmem_lookup, gmem_next_range, gmem_stats, ...); functions that change the VM
 *   fail there with -EDEADLK.
 * - No function may be called from a signal handler.
 * - No function is a cancellation point. A thread that can be cancelled asynchronously must
 *   not call any.
 * - The caller keeps ownership of the VM's descriptor and of its slot numbers.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GMEM_VERSION_MAJOR 1
#define GMEM_VERSION_MINOR 0
/* For #if: whether this header has what came with that version. */
#define GMEM_VERSION_AT_LEAST(major, minor)                                                        \
	(GMEM_VERSION_MAJOR > (major) ||                                                           \
	 (GMEM_VERSION_MAJOR == (major) && GMEM_VERSION_MINOR >= (minor)))

/* The compiler warns who ignores such a function's result: then it is not known what holds. */
#ifdef __GNUC__
#define GMEM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define GMEM_MUST_CHECK
#endif

/* A node set, defined in <numa.h> */
struct bitmask;
/* The page that KVM shares for each vCPU, defined in <linux/kvm.h> */
struct kvm_run;

/* The library's context for one VM. */
struct gmem_vm;
/* A memory object: a guest_memfd, with a memfd beside it in dual mode; or a memfd (plain). */
struct gmem;
struct gmem_listener;

/* --- errors */

/* The step that failed. */
enum gmem_step {
	GMEM_STEP_ARGUMENTS = 1, /* checking the arguments; nothing was tried */
	GMEM_STEP_PROBE = 2,	 /* probing the kernel */
	GMEM_STEP_RESERVE = 3,	 /* allocating memory for the library's own use */
	GMEM_STEP_CREATE = 4,	 /* creating a memory object */
	GMEM_STEP_MAP = 5,	 /* mapping it */
	GMEM_STEP_BIND = 6,	 /* changing a slot of the VM */
	GMEM_STEP_POLICY = 7,	 /* setting or reading a NUMA policy */
	GMEM_STEP_ALLOCATE = 8,	 /* allocating guest memory */
	GMEM_STEP_QUERY = 9,	 /* querying the kernel about the memory */
	GMEM_STEP_PREPARE = 10,	 /* preparing a conversion: a listener refused */
	GMEM_STEP_CONVERT = 11,	 /* converting in the kernel */
	GMEM_STEP_ROLLBACK = 12, /* undoing a conversion: see gmem_convert(3) */
	GMEM_STEP_DISCARD = 13,	 /* freeing or zeroing contents */
	GMEM_STEP_EXIT = 14,	 /* handling an exit */
	GMEM_STEP_FREEZE = 15,	 /* freezing a memory object */
};

#define GMEM_NOWHERE 0xffffffffffffffffULL /* no GPA or offset */

struct gmem_error {
	size_t size;	   /* sizeof(struct gmem_error); set by the caller */
	uint32_t step;	   /* GMEM_STEP_... */
	int32_t error;	   /* the negative errno that the function returned */
	uint64_t gpa;	   /* first byte that the failure is about, or GMEM_NOWHERE */
	uint64_t offset;   /* the same as an offset in the memory */
	char message[192]; /* a sentence for users, without a newline */
};

/* clang-format off */
#define GMEM_ERROR_INIT {sizeof(struct gmem_error), 0, 0, GMEM_NOWHERE, GMEM_NOWHERE, {0}}
/* clang-format on */

/* --- the library */

/* The version of the library at run time, which may differ from that of this header. */
void gmem_version(unsigned int *ret_major, unsigned int *ret_minor);

/* --- a VM */

/* Modes: how private and shared memory are provided. gmem(7) has a table. */
enum gmem_mode {
	GMEM_MODE_AUTO = 0,	  /* the first of these that works */
	GMEM_MODE_INPLACE = 1,	  /* the same pages; a conversion keeps contents */
	GMEM_MODE_ATTRIBUTES = 2, /* the same, by Linux 7.4's ioctl, as announced */
	GMEM_MODE_DUAL = 3,	  /* a guest_memfd beside a memfd; contents are lost */
	GMEM_MODE_SHARED = 4,	  /* a guest_memfd all of which is shared, always */
	GMEM_MODE_PLAIN = 5,	  /* a memfd in ordinary slots, all of it shared */
};

/* Capabilities of a VM, found by probing. */
enum gmem_cap {
	GMEM_CAP_INPLACE = 1 << 0,	 /* GMEM_MODE_INPLACE */
	GMEM_CAP_DUAL = 1 << 1,		 /* GMEM_MODE_DUAL */
	GMEM_CAP_SHARED = 1 << 2,	 /* GMEM_MODE_SHARED */
	GMEM_CAP_PRIVATE = 1 << 3,	 /* this VM can have private memory */
	GMEM_CAP_POLICY = 1 << 4,	 /* mbind() places a guest_memfd's memory */
	GMEM_CAP_RANGES = 1 << 5,	 /* the kernel reports states, sizes and nodes */
	GMEM_CAP_ZERO = 1 << 6,		 /* gmem_zero() */
	GMEM_CAP_MEMORY_FAULT = 1 << 7,	 /* KVM reports the address of memory faults */
	GMEM_CAP_MAP_GPA_RANGE = 1 << 8, /* a guest can ask for conversions */
	GMEM_CAP_LINK = 1 << 9,		 /* gmem_relink() */
	GMEM_CAP_CLONE = 1 << 10,	 /* gmem_freeze(), gmem_clone() */
	GMEM_CAP_ATTRIBUTES = 1 << 11,	 /* GMEM_MODE_ATTRIBUTES */
	GMEM_CAP_PLAIN = 1 << 12,	 /* GMEM_MODE_PLAIN */
};

struct gmem_vm_options {
	size_t size;
	uint64_t flags; /* GMEM_VM_... */
};

/* clang-format off */
#define GMEM_VM_OPTIONS_INIT {sizeof(struct gmem_vm_options), 0}
/* clang-format on */

/* Let the guest ask for conversions: its hypercall KVM_HC_MAP_GPA_RANGE causes an exit. */
enum gmem_vm_flag {
	GMEM_VM_MAP_GPA_RANGE = 1 << 0,
};

/*
 * Create the context for a VM, and probe what the kernel can do for it. The caller created
 * the VM, and keeps its descriptor open until gmem_vm_free() and the last gmem_unref().
 */
GMEM_MUST_CHECK int gmem_vm_new(int vm_fd, const struct gmem_vm_options *options,
				struct gmem_vm **ret_vm, struct gmem_error *error);

/*
 * vm may be NULL. Slots that KVM accesses through a mapping of the library (in all modes but
 * GMEM_MODE_INPLACE) are deleted, and their addresses are not private any more. Other memory that
 * is bound stays bound as long as the caller has a reference to it, and is freed with the last one.
 * No other function may be running on the VM, and only gmem_unref() may be called on its memory
 * afterwards.
 */
void gmem_vm_free(struct gmem_vm *vm);

/* Store the GMEM_CAP_... bits that this VM has. */
int gmem_vm_caps(const struct gmem_vm *vm, uint64_t *ret_caps);

/*
 * Return the reason why the VM does not have cap, a single bit: a sentence that is valid
 * until gmem_vm_free(). NULL if the VM has it, or if cap is not a capability.
 */
const char *gmem_vm_why_not(const struct gmem_vm *vm, uint64_t cap);

/*
 * Store the mode that GMEM_MODE_AUTO selects for this VM, where no initial state is asked
 * for; -EOPNOTSUPP if it selects none.
 */
int gmem_vm_mode(const struct gmem_vm *vm, uint32_t *ret_mode);

/*
 * Call log with a sentence for each thing that the library does to this VM or its memory,
 * once it is done; failures are not logged. NULL, the default, turns that off. The message is
 * valid until log returns. Do not call this while other functions run on the VM.
 */
typedef void (*gmem_log_fn)(void *data, const char *message);
int gmem_set_log(struct gmem_vm *vm, gmem_log_fn log, void *data);

/* --- memory */

/* The state of a range. */
enum gmem_state {
	GMEM_STATE_UNBACKED = 0, /* no memory of this library */
	GMEM_STATE_SHARED = 1,	 /* host and guest can access it */
	GMEM_STATE_PRIVATE = 2,	 /* the guest can access it, userspace cannot */
};

struct gmem_options {
	size_t size;
	uint64_t flags;	  /* must be 0 */
	uint32_t mode;	  /* GMEM_MODE_... */
	uint32_t initial; /* GMEM_STATE_SHARED or _PRIVATE; 0: private if the mode has that */
	/*
	 * GMEM_MODE_PLAIN: the size of its pages in bytes, one that the kernel has huge pages
	 * (MFD_HUGETLB) of; 0: ordinary ones.
	 */
	uint64_t huge_page;
};

/* clang-format off */
#define GMEM_OPTIONS_INIT {sizeof(struct gmem_options), 0, GMEM_MODE_AUTO, 0, 0}
/* clang-format on */

/*
 * Create a memory object of bytes, without allocating pages. GMEM_MODE_AUTO selects the
 * first mode that has private memory. Where there is none, it selects GMEM_MODE_SHARED if
 * initial is GMEM_STATE_SHARED, or if it is 0 and the VM is an ordinary one, and
 * GMEM_MODE_PLAIN only in the first case; otherwise it is -EOPNOTSUPP, and error says why.
 * In memory of huge pages, ranges that are mapped, discarded or allocated are multiples of
 * these. The caller has one reference.
 */
GMEM_MUST_CHECK int gmem_new(struct gmem_vm *vm, uint64_t bytes, const struct gmem_options *options,
			     struct gmem **ret_memory, struct gmem_error *error);

/* Add a reference, and return memory. */
struct gmem *gmem_ref(struct gmem *memory);
/* Drop a reference, and return NULL. memory may be NULL. A binding holds a reference. */
struct gmem *gmem_unref(struct gmem *memory);

uint64_t gmem_size(const struct gmem *memory);
uint32_t gmem_mode(const struct gmem *memory);

/*
 * Return the guest_memfd (the memfd in GMEM_MODE_PLAIN), and the descriptor that a device
 * process maps to access shared memory: the memfd in dual mode, else the same. Both are
 * close-on-exec and stay owned by the library. The memfd is sealed: whoever holds it cannot
 * change its size or add seals. Whoever holds the guest_memfd can convert: see gmem(7).
 */
int gmem_fd(const struct gmem *memory);
int gmem_shared_fd(const struct gmem *memory);

enum gmem_map_flag {
	GMEM_MAP_READONLY = 1 << 0,
	GMEM_MAP_DONTDUMP = 1 << 1, /* exclude it from core dumps */
	GMEM_MAP_DONTFORK = 1 << 2, /* do not inherit it on fork(2) */
};

/*
 * Map shared memory. An access to a private page raises SIGBUS in GMEM_MODE_INPLACE and
 * GMEM_MODE_ATTRIBUTES, and in GMEM_MODE_DUAL reaches a page of the memfd that the guest does not
 * see. The caller owns the mapping; it keeps the memory alive, but not the struct gmem.
 */
GMEM_MUST_CHECK int gmem_map(struct gmem *memory, uint64_t offset, uint64_t bytes, uint64_t flags,
			     void **ret_address, struct gmem_error *error);
int gmem_unmap(void *address, uint64_t bytes);

/* --- binding */

/*
 * Map bytes of memory from offset at guest physical address gpa, through memory slot slot.
 * The caller assigns slot numbers, below 65536, in KVM's first address space. -EEXIST: the
 * slot, the addresses or that part of the memory are bound already; error says which, and
 * where. KVM's error if it refuses the slot, such as one that overlaps a slot that was not
 * created through the library.
 */
GMEM_MUST_CHECK int gmem_bind(struct gmem *memory, uint32_t slot, uint64_t gpa, uint64_t offset,
			      uint64_t bytes, struct gmem_error *error);

/*
 * -ENOENT if the library did not bind that slot; the error of a listener that refuses. A slot that
 * the caller deleted by itself can be unbound, too.
 */
int gmem_unbind(struct gmem_vm *vm, uint32_t slot, struct gmem_error *error);

struct gmem_location {
	size_t size;
	struct gmem *memory; /* with a reference that the caller has to drop */
	uint64_t offset;     /* of the address, in memory */
	uint64_t bytes;	     /* to the end of the slot */
	uint32_t slot;
	uint32_t state; /* GMEM_STATE_... of the page it is in */
};

/* clang-format off */
#define GMEM_LOCATION_INIT {sizeof(struct gmem_location), NULL, 0, 0, 0, 0}
/* clang-format on */

/* Find the memory at gpa, which need not be aligned; -ENOENT: none of this library. */
GMEM_MUST_CHECK int gmem_lookup(struct gmem_vm *vm, uint64_t gpa,
				struct gmem_location *ret_location);

/* --- NUMA */

enum gmem_policy {
	GMEM_POLICY_DEFAULT = 0,    /* the policy of the allocating task */
	GMEM_POLICY_BIND = 1,	    /* these nodes only */
	GMEM_POLICY_PREFERRED = 2,  /* these nodes while they have free memory */
	GMEM_POLICY_INTERLEAVE = 3, /* these nodes in turn, page by page */
};

/*
 * Set the NUMA policy of a range. It applies to pages that are allocated from now on, and
 * does not move others. nodes must not be empty, and must be NULL for
 * GMEM_POLICY_DEFAULT. In dual mode it is the policy of shared memory only. -EOPNOTSUPP
 * without GMEM_CAP_POLICY, but in the modes DUAL and PLAIN, and of memory of huge pages;
 * gmem_prealloc() can place memory there, and private memory in dual mode.
 */
GMEM_MUST_CHECK int gmem_set_policy(struct gmem *memory, uint64_t offset, uint64_t bytes,
				    uint32_t policy, const struct bitmask *nodes,
				    struct gmem_error *error);

/* Store the policy of one page. ret_nodes may be NULL; -ERANGE if it is too short. */
int gmem_get_policy(struct gmem *memory, uint64_t offset, uint32_t *ret_policy,
		    struct bitmask *ret_nodes, struct gmem_error *error);

/*
 * Called between steps of at most 32 MiB; done and total are in bytes. A return value other
 * than 0 stops gmem_prealloc(), which then returns it if it is negative, else -ECANCELED.
 */
typedef int (*gmem_progress_fn)(void *data, uint64_t done, uint64_t total);

/*
 * Allocate the pages of a range, on nodes, or by the policy of the range if nodes is NULL.
 * In dual mode each page is allocated in the file that its state uses. For nodes, the policy
 * of the range is set, and where memory cannot have one that of the calling thread is
 * changed and restored; if that fails, error has GMEM_STEP_POLICY. Signals do not end it:
 * only progress stops it. After a failure, pages that were allocated stay.
 */
GMEM_MUST_CHECK int gmem_prealloc(struct gmem *memory, uint64_t offset, uint64_t bytes,
				  const struct bitmask *nodes, gmem_progress_fn progress,
				  void *data, struct gmem_error *error);

/*
 * Store how many bytes of a range are on each node in ret_bytes[0] to ret_bytes[count - 1].
 * -ERANGE if there is memory on node count or above. -EOPNOTSUPP if private memory is
 * allocated of which the kernel does not report the node (without GMEM_CAP_RANGES).
 */
int gmem_placement(struct gmem *memory, uint64_t offset, uint64_t bytes, uint64_t *ret_bytes,
		   unsigned int count, struct gmem_error *error);

/* --- conversion */

struct gmem_convert_options {
	size_t size;
	uint64_t flags;	      /* GMEM_CONVERT_... */
	uint32_t attempts;    /* how often to try while memory is in use; 0 is 1 */
	uint32_t pause_us;    /* microseconds between attempts */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; begin no attempt after it; 0: no deadline */
};

/* clang-format off */
#define GMEM_CONVERT_OPTIONS_INIT {sizeof(struct gmem_convert_options), 0, 1, 0, 0}
/* clang-format on */

/*
 * Zero the pages that become shared; -EINVAL to private. In dual mode contents are lost in
 * any case, and this frees what the host wrote to the memfd while the guest did not see it.
 * In GMEM_MODE_ATTRIBUTES the pages are freed before they are converted. If the conversion
 * of several slots fails, or one in that mode, pages that stayed or are private again may
 * have been zeroed.
 */
enum gmem_convert_flag {
	GMEM_CONVERT_ZERO = 1 << 0,
	/*
	 * To private, fail with -EFAULT if memory is not bound at each of the addresses. Set it
	 * where a guest asks: it may not be told that memory is private which the library does not
	 * know. To shared, addresses without a slot are ignored in any case: they may be those of a
	 * device.
	 */
	GMEM_CONVERT_BACKED = 1 << 1,
};

/* Written on success and on failure, unless the arguments are invalid. */
struct gmem_convert_result {
	size_t size;
	uint64_t residue;      /* bytes whose unused side could not be freed (dual mode) */
	uint64_t busy_gpa;     /* -EAGAIN, -EHWPOISON: the first page in use or poisoned, */
	uint64_t busy_offset;  /* and its offset in the memory; else GMEM_NOWHERE */
	uint32_t attempts;     /* how many were made */
	int32_t residue_error; /* why residue could not be freed: a negative errno, or 0 */
};

/* clang-format off */
#define GMEM_CONVERT_RESULT_INIT \
	{sizeof(struct gmem_convert_result), 0, GMEM_NOWHERE, GMEM_NOWHERE, 0, 0}
/* clang-format on */

/*
 * Make a range of guest physical addresses shared or private; it may span slots. Pages that
 * already are in that state are not touched, and addresses without a slot are ignored (but see
 * GMEM_CONVERT_BACKED).
 * Either the whole range is converted or nothing is: the listeners prepare, the kernel
 * converts, the listeners commit; on failure those that have prepared roll back, in reverse
 * order. It allocates no memory in the process.
 *
 * -EAGAIN: memory is in use (pinned, or mapped for DMA); -ETIMEDOUT: the deadline passed before
 * the first attempt; -EHWPOISON: a page is poisoned;
 * -EOPNOTSUPP: to private, in GMEM_MODE_SHARED and _PLAIN; -EPERM: the memory is frozen; -EFAULT:
 * see GMEM_CONVERT_BACKED; the error of a listener that refuses. If error has GMEM_STEP_ROLLBACK, a
 * part could not be converted back: it is in the new state, and the listeners were told so.
 */
GMEM_MUST_CHECK int gmem_convert(struct gmem_vm *vm, uint64_t gpa, uint64_t bytes, uint32_t state,
				 const struct gmem_convert_options *options,
				 struct gmem_convert_result *result, struct gmem_error *error);

/* The same for a range of a memory object, whether it is bound or not. */
GMEM_MUST_CHECK int gmem_convert_offset(struct gmem *memory, uint64_t offset, uint64_t bytes,
					uint32_t state, const struct gmem_convert_options *options,
					struct gmem_convert_result *result,
					struct gmem_error *error);

struct gmem_event {
	size_t size;
	struct gmem *memory; /* without a reference: valid until the listener returns */
	uint64_t gpa;
	uint64_t offset;
	uint64_t bytes;
	uint32_t slot;
	uint32_t from; /* GMEM_STATE_...; UNBACKED if it is being bound */
	uint32_t to;   /* GMEM_STATE_...; UNBACKED if it is being unbound */
};

/*
 * A listener maps shared memory for devices (VFIO, vhost). An event is about a run of one
 * state in one slot; there are no events for memory that is not bound. From shared to shared
 * it is discarded: its pages are freed, and others come in their place.
 * From shared: unmap in prepare, map again in rollback. To shared: map in commit, as the
 * memory, or what is in it afterwards, is not there before. prepare may refuse with a negative
 * errno (a positive value is taken as -EINVAL); commit and rollback cannot fail. Each may be NULL.
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
 * Add a listener; ops is copied. It is called for the memory that is shared now, as if that
 * were being bound (from unbacked to shared); if it refuses, it is not added.
 */
GMEM_MUST_CHECK int gmem_listener_add(struct gmem_vm *vm, const struct gmem_listener_ops *ops,
				      void *data, struct gmem_listener **ret_listener,
				      struct gmem_error *error);
/* Remove a listener, without calling it; -ENOENT if it is not one of the VM. */
int gmem_listener_remove(struct gmem_vm *vm, struct gmem_listener *listener);

/* --- exits */

enum gmem_exit_kind {
	GMEM_EXIT_OTHER = 0,	/* not about memory: the caller handles it */
	GMEM_EXIT_CONVERT = 1,	/* the guest requests a state, by hypercall or access */
	GMEM_EXIT_AGAIN = 2,	/* it is in that state already: run the vCPU again */
	GMEM_EXIT_UNBACKED = 3, /* an access to an address without a slot */
	GMEM_EXIT_POISON = 4,	/* an access to a poisoned page */
	GMEM_EXIT_STUCK = 5,	/* the same fault repeats without progress */
	GMEM_EXIT_INVALID = 6,	/* an invalid request */
};

enum gmem_exit_flag {
	GMEM_EXIT_HYPERCALL = 1 << 0, /* the guest waits for the result */
};

/* Number of repeats without progress after which GMEM_EXIT_AGAIN becomes GMEM_EXIT_STUCK. */
#define GMEM_EXIT_REPEATS 64

/* One per vCPU, kept between exits, used by one thread at a time. */
struct gmem_exit {
	size_t size;
	uint64_t gpa;	/* page aligned */
	uint64_t bytes; /* whole pages */
	uint32_t kind;	/* GMEM_EXIT_OTHER and so on */
	uint32_t flags; /* GMEM_EXIT_HYPERCALL */
	uint32_t state; /* GMEM_STATE_SHARED or _PRIVATE: the requested state */
	int32_t result; /* of the hypercall: 0 or a negative errno */
	/* For use by the library: */
	uint64_t last_gpa;
	uint32_t last_state;
	uint32_t repeats;
	uint64_t last_bytes;
};

/* clang-format off */
#define GMEM_EXIT_INIT {sizeof(struct gmem_exit), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
/* clang-format on */

/*
 * Classify an exit. run_result is 0, or the negative errno of KVM_RUN: a memory fault has
 * -EFAULT or -EHWPOISON. Faults request conversions in GMEM_MODE_DUAL only; in the other
 * modes the guest can access its memory in either state.
 */
int gmem_exit_decode(struct gmem_vm *vm, const struct kvm_run *run, int run_result,
		     struct gmem_exit *exit);

/*
 * Store the result (0 or a negative errno) of a hypercall; no effect on other exits. The guest
 * gets an error of its interface: -EPERM, -E2BIG, -EFAULT, -EINVAL and -EOPNOTSUPP as they are,
 * -EFAULT for -EHWPOISON, and -EPERM for others.
 */
int gmem_exit_complete(struct kvm_run *run, struct gmem_exit *exit, int result);

/*
 * Decode an exit, convert, and complete it. 1: the exit is not about memory, and the caller
 * handles it. 0: run the vCPU again; if a hypercall failed, the guest is told so, and
 * exit->result and error say why. GMEM_CONVERT_ZERO in options is ignored for requests to
 * private, and GMEM_CONVERT_BACKED is always set. Negative: the vCPU cannot continue; exit->kind
 * has the kind of exit (-EFAULT: unbacked; -EHWPOISON; -ELOOP: stuck; an error of gmem_convert()).
 */
GMEM_MUST_CHECK int gmem_exit_handle(struct gmem_vm *vm, struct kvm_run *run, int run_result,
				     struct gmem_exit *exit,
				     const struct gmem_convert_options *options,
				     struct gmem_error *error);

/* --- state */

struct gmem_range {
	size_t size;
	struct gmem *memory; /* without a reference; NULL if unbacked */
	uint64_t gpa;	     /* GMEM_NOWHERE from gmem_next_offset_range() */
	uint64_t offset;     /* GMEM_NOWHERE if unbacked */
	uint64_t bytes;
	uint32_t state; /* GMEM_STATE_... */
	uint32_t slot;	/* of backed memory, from gmem_next_range() only */
};

/* clang-format off */
#define GMEM_RANGE_INIT {sizeof(struct gmem_range), NULL, 0, 0, 0, 0, 0}
/* clang-format on */

/*
 * Store the run that begins at gpa, cut at end, and return 1; return 0 if gpa is end. A run
 * has one state and lies in one slot. Other threads may convert between two calls.
 */
int gmem_next_range(struct gmem_vm *vm, uint64_t gpa, uint64_t end, struct gmem_range *ret_range);
/* The same by offset; end is at most gmem_size(). */
int gmem_next_offset_range(struct gmem *memory, uint64_t offset, uint64_t end,
			   struct gmem_range *ret_range);

/* In bytes. */
struct gmem_stats {
	size_t size;
	uint64_t bytes;
	uint64_t private_bytes; /* private_bytes and shared_bytes add up to bytes */
	uint64_t shared_bytes;
	uint64_t resident_guest;  /* allocated in the guest_memfd, or in GMEM_MODE_PLAIN's memfd */
	uint64_t resident_shared; /* allocated in the memfd (dual mode) */
	uint64_t bound_bytes;
	uint64_t residue;     /* unused memory that could not be freed yet (dual mode) */
	uint64_t conversions; /* number that succeeded through this library */
	uint64_t refusals;    /* number that failed; each attempt counts */
};

/* clang-format off */
#define GMEM_STATS_INIT {sizeof(struct gmem_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0}
/* clang-format on */

int gmem_stats(struct gmem *memory, struct gmem_stats *ret_stats, struct gmem_error *error);

/* --- contents */

/*
 * Free the pages of a range, in both files in dual mode. It reads as zero; its state stays.
 * Listeners are told of what is shared of it; if one refuses, nothing is freed. Huge
 * pages are not reserved any more: an access raises SIGBUS if the kernel has none left then.
 */
GMEM_MUST_CHECK int gmem_discard(struct gmem *memory, uint64_t offset, uint64_t bytes,
				 struct gmem_error *error);

/*
 * Zero a range in place: no page is freed or allocated, and its state stays.
 * -EOPNOTSUPP without GMEM_CAP_ZERO, and in the modes DUAL, ATTRIBUTES and PLAIN.
 */
GMEM_MUST_CHECK int gmem_zero(struct gmem *memory, uint64_t offset, uint64_t bytes,
			      struct gmem_error *error);

/* --- life after the VM */

/*
 * Create another object for the same memory, for another VM of this process and of the same
 * type. Contents, states and policy are common to both, so a conversion, zeroing or
 * discarding through one affects the other. Listeners of the other VM are not called, so
 * unbind there first. The memory is freed with the last object. -EOPNOTSUPP without
 * GMEM_CAP_LINK, and in the modes DUAL, ATTRIBUTES and PLAIN; -EINVAL: the VM is of another type;
 * -EPERM: another process created the VM of memory. The caller has one reference.
 */
GMEM_MUST_CHECK int gmem_relink(struct gmem *memory, struct gmem_vm *vm, struct gmem **ret_memory,
				struct gmem_error *error);

/*
 * Make the memory immutable; this cannot be undone. A write of a guest then causes an exit,
 * a write to a mapping raises SIGBUS, and converting, discarding, zeroing and allocating
 * are -EPERM. Freezing frozen memory succeeds. -EAGAIN: memory is in use (pinned), and
 * error says where. -EOPNOTSUPP without GMEM_CAP_CLONE, in the modes DUAL,
 * ATTRIBUTES and PLAIN, and for a clone.
 */
GMEM_MUST_CHECK int gmem_freeze(struct gmem *memory, struct gmem_error *error);

/*
 * Create a copy-on-write clone of memory, which must be frozen, for vm. The clone has the
 * same contents and states. A page is copied when the guest first writes to it or the host
 * first accesses it, and is placed by the clone's own policy, which starts as the default.
 * The time that this takes does not depend on the size. GMEM_CONVERT_ZERO is -EOPNOTSUPP in
 * a clone: discard, and convert. The frozen memory stays as long as there is a clone.
 * Guests that share pages can learn about each other: see gmem_relink(3). -EINVAL: memory
 * is not frozen, or vm is of another type; -EPERM and -EOPNOTSUPP as for gmem_relink().
 */
GMEM_MUST_CHECK int gmem_clone(struct gmem *memory, struct gmem_vm *vm, struct gmem **ret_memory,
			       struct gmem_error *error);

#ifdef __cplusplus
}
#endif

#endif

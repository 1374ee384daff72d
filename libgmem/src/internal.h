/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef GMEM_INTERNAL_H
#define GMEM_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/kvm.h>
#include <linux/kvm_gmem.h>

#include "gmem.h"

#define PUBLIC __attribute__((visibility("default")))

/*
 * All that the library asks of the system. Functions return 0 or more, or a
 * negative errno; alloc() returns zeroed memory or NULL. Tests put their own in
 * its place.
 */
struct gmem_sys {
	int (*ioctl)(int fd, unsigned long request, void *arg);
	int (*close)(int fd);
	int (*set_cloexec)(int fd);
	int (*memfd_create)(const char *name, unsigned int flags);
	int (*ftruncate)(int fd, uint64_t bytes);
	int (*add_seals)(int fd, int seals);
	/* How much memory, or swap, a file that is no guest_memfd has. */
	int (*allocated)(int fd, uint64_t *bytes);
	int (*fallocate)(int fd, int mode, uint64_t offset, uint64_t bytes);
	int (*mmap)(int fd, uint64_t offset, size_t bytes, int prot, void **address);
	int (*munmap)(void *address, size_t bytes);
	int (*madvise)(void *address, size_t bytes, int advice);
	int (*mbind)(void *address, size_t bytes, int mode, const unsigned long *nodes,
		     unsigned long max);
	int (*get_mempolicy)(int *mode, unsigned long *nodes, unsigned long max, void *address,
			     unsigned long flags);
	int (*set_mempolicy)(int mode, const unsigned long *nodes, unsigned long max);
	int (*page_nodes)(void **pages, unsigned long count, int *nodes);
	int (*cachestat)(int fd, uint64_t offset, uint64_t bytes, uint64_t *pages);
	uint64_t (*now)(void);
	void (*pause)(uint64_t ns);
	void *(*alloc)(size_t count, size_t size);
	void (*release)(void *mem);
};

extern const struct gmem_sys gmem_sys_real;

/* As many nodes as a mask of the kernel's can name here. */
#define GMEM_MAX_NODES 1024
#define GMEM_NODE_WORDS (GMEM_MAX_NODES / (8 * sizeof(unsigned long)))

#define GMEM_NR_CAPS 13

/* A part of a memory, and where the guest has it. What is bound is a list of these. */
struct piece {
	uint64_t gpa; /* GMEM_NOWHERE: wherever it is bound */
	uint64_t bytes;
	uint64_t offset;
	struct gmem *memory; /* a reference, in the list */
	uint32_t slot;
};

struct gmem_listener {
	struct gmem_listener *prev, *next;
	struct gmem_listener_ops ops;
	void *data;
};

/*
 * Two locks. Whoever changes anything holds 'change' from begin to end,
 * callbacks included; it finds out when a callback calls back. Whoever only
 * looks holds 'lock' for reading; changers hold it for writing for the moment
 * in which they update what lookers see, so that these never wait for an ioctl
 * of the others.
 */
struct gmem_vm {
	const struct gmem_sys *sys;
	int fd;
	atomic_uint refs; /* the context's own, and one for each memory */
	uint64_t page;
	uint64_t caps;
	const char *why_not[GMEM_NR_CAPS];
	bool for_private; /* its type is there for private memory */
	gmem_log_fn log;
	void *log_data;
	sem_t change;		  /* one at a time changes the VM's memory */
	atomic_uintptr_t changer; /* who holds it: gmem_self(), or 0 */
	int changer_cancel;	  /* gmem_begin_work(): the cancel state that it gets back */
	pthread_rwlock_t lock;
	struct piece *bindings; /* by address */
	size_t nr_bindings;
	size_t max_bindings;
	struct gmem_listener *first, *last;
};

struct gmem {
	struct gmem_vm *vm;
	const struct gmem_backend *backend;
	atomic_uint refs;
	int fd;
	int shared_fd; /* what is mapped: fd, or a memfd */
	void *map;     /* the address that slots have; NULL where they need none */
	uint64_t bytes;
	uint64_t page; /* of its files: the VM's, or a huge one */
	uint64_t bound_bytes;
	/* notes.c: one bit a page; NULL where the backend has no use for it. */
	unsigned long *private; /* the state */
	unsigned long *residue; /* the unused side has memory still */
	unsigned long *plan;	/* what the change that is under way concerns */
	atomic_ullong conversions;
	atomic_ullong refusals;
};

/* bitmap.c: bits [first, end) */
size_t gmem_bitmap_words(uint64_t bits);
void gmem_bitmap_fill(unsigned long *map, uint64_t first, uint64_t end, bool value);
/* The first bit in [first, end) that is value, or end. */
uint64_t gmem_bitmap_find(const unsigned long *map, uint64_t first, uint64_t end, bool value);
/* The begin of the last run of 1s in [first, *end), *end cut to its end; -1:
 * none. */
bool gmem_bitmap_last_run(const unsigned long *map, uint64_t first, uint64_t *start, uint64_t *end);
uint64_t gmem_bitmap_count(const unsigned long *map, uint64_t first, uint64_t end);

/*
 * The sizes that structs had in version 1.0, which end with that member. They stay when a
 * struct becomes longer: programs that were built before pass the shorter ones.
 */
#define GMEM_SIZE_UP_TO(type, last)                                                                \
	((offsetof(type, last) + sizeof(((type *)0)->last) + _Alignof(type) - 1) /                 \
	 _Alignof(type) * _Alignof(type))
#define GMEM_ERROR_1_0 GMEM_SIZE_UP_TO(struct gmem_error, message)
#define GMEM_VM_OPTIONS_1_0 GMEM_SIZE_UP_TO(struct gmem_vm_options, flags)
#define GMEM_OPTIONS_1_0 GMEM_SIZE_UP_TO(struct gmem_options, huge_page)
#define GMEM_LOCATION_1_0 GMEM_SIZE_UP_TO(struct gmem_location, state)
#define GMEM_CONVERT_OPTIONS_1_0 GMEM_SIZE_UP_TO(struct gmem_convert_options, deadline_ns)
#define GMEM_CONVERT_RESULT_1_0 GMEM_SIZE_UP_TO(struct gmem_convert_result, residue_error)
#define GMEM_EVENT_1_0 GMEM_SIZE_UP_TO(struct gmem_event, to)
#define GMEM_LISTENER_OPS_1_0 GMEM_SIZE_UP_TO(struct gmem_listener_ops, rollback)
#define GMEM_EXIT_1_0 GMEM_SIZE_UP_TO(struct gmem_exit, last_bytes)
#define GMEM_RANGE_1_0 GMEM_SIZE_UP_TO(struct gmem_range, slot)
#define GMEM_STATS_1_0 GMEM_SIZE_UP_TO(struct gmem_stats, refusals)

/* error.c: fill in *error, if there is one, and return r */
int gmem_fail(struct gmem_error *error, uint32_t step, int r, uint64_t gpa, uint64_t offset,
	      const char *format, ...) __attribute__((format(printf, 6, 7)));
int gmem_bad(struct gmem_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/*
 * What failed for good; *from is of the library's own. The caller's is written on failure
 * only, so that what is tried again may not write to it before.
 */
int gmem_pass_on(struct gmem_error *error, const struct gmem_error *from);
/* Can it be written to at all? Inline, since each conversion asks. */
static inline bool gmem_error_ok(const struct gmem_error *error)
{
	return !error || error->size >= GMEM_ERROR_1_0;
}

/*
 * struct.c: copy a caller's struct of its own size into one of ours, and the
 * other way round. v1 is the size it had in version 1.0.
 */
int gmem_copy_in(void *to, size_t size, size_t v1, const void *from);
/* The same of options, which stay as they are where a caller has none. */
int gmem_take_options(void *to, size_t size, size_t v1, const void *from, struct gmem_error *error);
int gmem_check_out(const void *to, size_t v1);
void gmem_copy_out(void *to, const void *from, size_t size);

/* vm.c */
int gmem_vm_new_sys(int vm_fd, const struct gmem_vm_options *options, struct gmem_vm **ret_vm,
		    struct gmem_error *error, const struct gmem_sys *sys);
void gmem_vm_put(struct gmem_vm *vm);
int gmem_cannot_change(struct gmem_error *error);
void gmem_wait_for_change(struct gmem_vm *vm);
void gmem_log(const struct gmem_vm *vm, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* probe.c */
int gmem_probe(struct gmem_vm *vm, struct gmem_error *error);

/* memory.c */
/* NULL if there is no such mode. */
const struct gmem_backend *gmem_backend_of(uint32_t mode);
/* What AUTO takes for memory that begins in that state (0: in any), or NULL. */
const struct gmem_backend *gmem_auto_backend(const struct gmem_vm *vm, uint32_t initial, bool huge);
int gmem_check_range(const struct gmem *memory, uint64_t offset, uint64_t bytes,
		     struct gmem_error *error);
/* The same of what goes to a file: multiples of its pages, which may be huge. */
int gmem_check_file_range(const struct gmem *memory, uint64_t offset, uint64_t bytes,
			  struct gmem_error *error);
uint64_t gmem_pages(const struct gmem *memory);
/* A new descriptor by an ioctl of the VM, close-on-exec. */
int gmem_ask_fd(struct gmem_vm *vm, unsigned long request, void *arg);
int gmem_create_fd(struct gmem_vm *vm, uint64_t bytes, uint64_t flags);
/* The memory's guest_memfd. */
int gmem_create_guest_memfd(struct gmem *memory, uint64_t flags, struct gmem_error *error);
/* The memfd that it has, instead of a guest_memfd or beside it. */
int gmem_create_memfd(struct gmem *memory, struct gmem_error *error);
/* A struct gmem with one reference, and all that it needs but its descriptors. */
int gmem_reserve(struct gmem_vm *vm, uint64_t bytes, const struct gmem_backend *backend,
		 struct gmem **ret_memory, struct gmem_error *error);
int gmem_map_for_slots(struct gmem *memory, struct gmem_error *error);
void gmem_release(struct gmem *memory);

/* slots.c: which memory is at an address; the caller holds either lock */
static inline bool gmem_ends_before(const struct piece *b, uint64_t gpa)
{
	return b->gpa + (b->bytes - 1) < gpa;
}

/* Index of the first binding that ends above gpa; nr_bindings if there is none. */
static inline size_t gmem_find_binding(const struct gmem_vm *vm, uint64_t gpa)
{
	size_t first = 0, n = vm->nr_bindings;

	/* It is one of n, or the one after them. */
	while (n > 1) {
		const size_t half = n / 2;

		if (gmem_ends_before(&vm->bindings[first + half - 1], gpa))
			first += half;
		n -= half;
	}
	return first + (n && gmem_ends_before(&vm->bindings[first], gpa));
}

/* Where an offset is in the guest, or GMEM_NOWHERE. */
uint64_t gmem_gpa_of(const struct gmem *memory, uint64_t offset);
/* The same of an offset that is in a piece. */
uint64_t gmem_piece_gpa(const struct piece *p, uint64_t offset);

/*
 * A range of addresses, or of a memory, as pieces: of each of these, what gmem_piece() says
 * that there is of it.
 */
struct target {
	const struct piece *pieces;
	size_t nr;
	struct gmem *memory; /* NULL: by address */
	uint64_t start, end;
};

/* The pieces of a target of which the rest is known: what is bound there. */
static inline void gmem_aim(struct target *t, const struct gmem_vm *vm)
{
	size_t first = 0, last = vm->nr_bindings;

	if (!t->memory) {
		first = last = gmem_find_binding(vm, t->start);
		while (last < vm->nr_bindings && vm->bindings[last].gpa < t->end)
			last++;
	}
	t->pieces = vm->bindings + first;
	t->nr = last - first;
}

static inline bool gmem_piece(const struct target *t, size_t i, struct piece *piece)
{
	const struct piece *b = &t->pieces[i];
	uint64_t base = b->gpa, from, to;

	if (t->memory) {
		base = b->offset;
		if (b->memory != t->memory || t->start >= base + b->bytes || t->end <= base)
			return false;
	}
	from = t->start > base ? t->start - base : 0;
	to = t->end - base < b->bytes ? t->end - base : b->bytes;
	*piece = (struct piece){b->gpa + from, to - from, b->offset + from, b->memory, b->slot};
	return true;
}

/* bind.c: delete the slot of a binding, and what KVM was told of its addresses */
int gmem_delete_slot(struct gmem_vm *vm, const struct piece *b);

/* state.c */
/* fn() gets each run of [offset, end); other than 0 ends that. *at is where a failure was. */
typedef int (*gmem_run_fn)(void *data, const struct kvm_gmem_range *run);
int gmem_walk(const struct gmem *memory, bool by_node, uint64_t offset, uint64_t end,
	      gmem_run_fn fn, void *data, uint64_t *at);
/* The run at offset, cut at end. */
int gmem_run_at(const struct gmem *memory, uint64_t offset, uint64_t end, uint32_t *state,
		uint64_t *run_end);
static inline uint32_t gmem_run_state(const struct kvm_gmem_range *run)
{
	return run->flags & KVM_GMEM_RANGE_PRIVATE ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED;
}

static inline uint32_t gmem_other_state(uint32_t state)
{
	return GMEM_STATE_SHARED + GMEM_STATE_PRIVATE - state;
}

/* How much of a range of fd has memory; a failure is GMEM_STEP_QUERY. */
int gmem_resident(const struct gmem *memory, int fd, uint64_t offset, uint64_t bytes,
		  uint64_t *resident, struct gmem_error *error);

/*
 * notes.c: what the library notes about pages. Whoever changes what lookers see holds both
 * locks; the plan is for changers only.
 */
int gmem_notes_reserve(struct gmem *memory);
void gmem_notes_release(struct gmem *memory);
/* The state, as gmem_backend's runs(): of memory without a note all is shared. */
int gmem_noted_runs(const struct gmem *memory, uint64_t offset, uint64_t end, bool by_node,
		    struct kvm_gmem_range *runs, uint32_t nr);
void gmem_note_state(struct gmem *memory, uint64_t start, uint64_t end, uint32_t state);
void gmem_note_residue(struct gmem *memory, uint64_t start, uint64_t end, bool left);
/* What of a piece is in that state becomes the plan. A failure is said. */
int gmem_plan(const struct piece *p, uint32_t state, bool *any, struct gmem_error *error);
void gmem_unplan(struct gmem *memory, uint64_t start, uint64_t end);
/*
 * The planned run of a piece at or above *at, and *at becomes its end; or the last one below
 * *limit, which becomes its begin. Of memory that has no plan it is all of the piece.
 */
bool gmem_next_run(const struct piece *p, uint64_t *at, struct piece *run);
bool gmem_last_run(const struct piece *p, uint64_t *limit, struct piece *run);

/* transaction.c: a caller's options, whose flags at least exist. */
int gmem_copy_options(struct gmem_convert_options *copy, const struct gmem_convert_options *options,
		      struct gmem_error *error);
/*
 * gmem_convert(), of what has been checked: whole pages, of addresses, or of a memory where that
 * is not NULL.
 */
int gmem_convert_range(struct gmem_vm *vm, struct gmem *memory, uint64_t start, uint64_t end,
		       uint32_t state, const struct gmem_convert_options *opt,
		       struct gmem_convert_result *result, struct gmem_error *error);

/* contents.c */
int gmem_punch(const struct gmem *memory, int fd, uint64_t offset, uint64_t bytes);

/* What no other thread has: pthread_self(), without the call where the compiler knows. */
static inline uintptr_t gmem_self(void)
{
#ifdef __has_builtin
#if __has_builtin(__builtin_thread_pointer)
	return (uintptr_t)__builtin_thread_pointer();
#endif
#endif
	return (uintptr_t)pthread_self();
}

/*
 * The thread is not cancelled until gmem_end_uncancelled(): it would leave behind what it
 * holds, or has opened. close(), fallocate() and what callbacks do are cancellation points;
 * ioctl(), which converts, is none.
 */
static inline int gmem_begin_uncancelled(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return state;
}

static inline void gmem_end_uncancelled(int state)
{
	pthread_setcancelstate(state, &state);
}

/*
 * A callback that calls back is told so, and does not hang. By hand, since a mutex
 * that checks for that costs twice as much, and conversions are short. A semaphore,
 * since one that nobody waits for costs half of what a plain mutex does, and less yet if it
 * is not asked whether the thread was cancelled.
 */
static inline int gmem_begin_change(struct gmem_vm *vm, struct gmem_error *error)
{
	const uintptr_t self = gmem_self();

	if (atomic_load_explicit(&vm->changer, memory_order_relaxed) == self)
		return gmem_cannot_change(error);
	if (sem_trywait(&vm->change))
		gmem_wait_for_change(vm);
	atomic_store_explicit(&vm->changer, self, memory_order_relaxed);
	return 0;
}

static inline void gmem_end_change(struct gmem_vm *vm)
{
	atomic_store_explicit(&vm->changer, 0, memory_order_relaxed);
	sem_post(&vm->change);
}

/* The same around what has cancellation points. */
static inline int gmem_begin_work(struct gmem_vm *vm, struct gmem_error *error)
{
	const int cancel = gmem_begin_uncancelled();
	int r = gmem_begin_change(vm, error);

	if (r)
		gmem_end_uncancelled(cancel);
	else
		vm->changer_cancel = cancel;
	return r;
}

static inline void gmem_end_work(struct gmem_vm *vm)
{
	const int cancel = vm->changer_cancel;

	gmem_end_change(vm);
	gmem_end_uncancelled(cancel);
}

/* listener.c */
/* What listeners are told; of one of them only, or of all where that is NULL. */
struct news {
	struct gmem_vm *vm;
	struct gmem_listener *only;
	uint32_t from, to;
};

/* Has anybody asked to be told? */
static inline bool gmem_is_news(const struct news *news)
{
	return news->only || news->vm->first;
}

/* Of the planned runs of a bound piece. If one is refused, those before it are rolled back. */
int gmem_prepare(const struct news *news, const struct piece *p, struct gmem_error *error);
/* Of what of it is shared, which becomes the plan. */
int gmem_prepare_shared(const struct news *news, const struct piece *p, struct gmem_error *error);
void gmem_commit(const struct news *news, const struct piece *p);
void gmem_roll_back(const struct news *news, const struct piece *p);
/* The same of all pieces of a target, as gmem_prepare_shared() has it. */
int gmem_prepare_target(const struct news *news, const struct target *t, struct gmem_error *error);
void gmem_commit_target(const struct news *news, const struct target *t);
void gmem_roll_back_target(const struct news *news, const struct target *t);
/* Of all of a piece, planned or not. */
void gmem_commit_all(const struct news *news, const struct piece *p);

#endif

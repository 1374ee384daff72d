/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef WORLD_H
#define WORLD_H

/*
 * Where the tests run: a mode of the library, on the fake kernel or on this machine's
 * KVM. One is chosen for the whole program; each test begins with a fresh one.
 */

#include <check.h>

/*
 * Check keeps a note of each assertion that held, to name the last one should the test
 * crash, and reads them all again afterwards in time that grows with their square. Most
 * assertions here are in loops; with AddressSanitizer that was 91 of 95 seconds.
 */
#define _mark_point(file, line) ((void)0)

#include "fake.h"

#define PAGE UINT64_C(4096)
#define MIB (UINT64_C(1) << 20)

struct world {
	const char *name;
	uint32_t mode;
	bool real;
	bool protected;		    /* a VM of type KVM_X86_SW_PROTECTED_VM */
	const struct gmem_sys *sys; /* NULL: the real one, or the fake */
	struct fake_can can;
};

extern const struct world *world;
extern struct gmem_vm *vm;
extern int vm_fd;

const struct world *world_named(const char *name);
const struct world *world_at(unsigned int index); /* NULL after the last */
const struct gmem_sys *world_sys(const struct world *which);
/* NULL, or why this world is not to be had here. */
const char *world_missing(const struct world *which);

void world_begin(void);
void world_end(void);
/* A context for a VM of the world, made at will. */
int world_new_vm(const struct gmem_vm_options *options, struct gmem_vm **ret_vm, int *ret_fd,
		 struct gmem_error *error);

/* The capability of each mode, and how many modes there are. */
#define NR_MODES 5
extern const uint64_t mode_caps[NR_MODES + 1];

static inline bool has_private(void)
{
	return world->mode != GMEM_MODE_SHARED && world->mode != GMEM_MODE_PLAIN;
}

/* AUTO finds memory that nobody said anything about. */
static inline bool has_default(uint64_t caps)
{
	return caps & (GMEM_CAP_PRIVATE | GMEM_CAP_SHARED);
}

/* What memory of the world is in can have a policy. */
static inline bool has_policy(void)
{
	return world->mode == GMEM_MODE_PLAIN || world->mode == GMEM_MODE_DUAL ||
	       !gmem_vm_why_not(vm, GMEM_CAP_POLICY);
}

/* A page is the same memory in either state. */
static inline bool in_place(void)
{
	return world->mode == GMEM_MODE_INPLACE || world->mode == GMEM_MODE_ATTRIBUTES;
}

struct gmem *memory_of(uint64_t bytes, uint32_t initial);
struct gmem *memory_of_mode(uint32_t mode, uint64_t bytes, uint32_t initial);
/* The state of one page, by GPA and by offset. */
uint32_t state_at(uint64_t gpa);
uint32_t state_of(struct gmem *memory, uint64_t offset);

/*
 * The call succeeds, with 0 and nothing in the error; or fails with that errno, and says so
 * in the error.
 */
extern struct gmem_error err;
#define ok(call)                                                                                   \
	do {                                                                                       \
		int ok_;                                                                           \
		err = (struct gmem_error)GMEM_ERROR_INIT;                                          \
		ok_ = (call);                                                                      \
		ck_assert_msg(ok_ == 0, "%s: %d: %s", #call, ok_, err.message);                    \
		ck_assert_msg(!err.error && !err.step && !err.message[0],                          \
			      "%s: succeeds, and says %d, step %u, '%s'", #call, err.error,        \
			      err.step, err.message);                                              \
	} while (0)
/* Of what fails() has just seen. */
#define says(where, at, in)                                                                        \
	do {                                                                                       \
		ck_assert_uint_eq(err.step, (where));                                              \
		ck_assert_uint_eq(err.gpa, (at));                                                  \
		ck_assert_uint_eq(err.offset, (in));                                               \
	} while (0)
#define fails(number, call)                                                                        \
	do {                                                                                       \
		int fails_;                                                                        \
		err = (struct gmem_error)GMEM_ERROR_INIT;                                          \
		fails_ = (call);                                                                   \
		ck_assert_msg(fails_ == -(number), "%s: %d instead of %d: %s", #call, fails_,      \
			      -(number), err.message);                                             \
		ck_assert_msg(err.error == fails_ && err.step && err.message[0],                   \
			      "%s: says %d, step %u, '%s'", #call, err.error, err.step,            \
			      err.message);                                                        \
	} while (0)

/* watch.c */
#define WATCHED (UINT64_C(16) << 20)

/* What an event said of a page, from prepare on until it has an end. */
struct pending {
	struct gmem *memory;
	uint64_t offset;
	uint32_t slot, from, to; /* states, and 1: 0 is none */
};

struct watcher {
	struct gmem_vm *vm;
	bool mapped[WATCHED / PAGE];
	struct pending pending[WATCHED / PAGE];
	bool (*refuse)(void *data);
	void *data;
	unsigned int events;
	struct gmem_listener *listener;
};

int watch(struct gmem_vm *of, struct watcher *w);
void check_watcher(const struct watcher *w);
void check_settled(const struct watcher *w); /* the same, of a listener that was refused */

/* failures.c: every function of the library once, NULL after the last. */
const char *function_name(int f);
void function_begin(int f);
int function_run(int f);
void function_end(int f);

Suite *suite_unit(void);
Suite *suite_backends(void);
Suite *suite_behaviour(void);
Suite *suite_bad_input(void);
Suite *suite_exits(void);
Suite *suite_failures(void);
Suite *suite_life(void);
Suite *suite_model(void);
Suite *suite_threads(void);
Suite *suite_guest(void);
Suite *suite_seccomp(void);
Suite *suite_reasons(void);
Suite *suite_details(void);

#endif

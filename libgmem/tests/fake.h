/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef FAKE_H
#define FAKE_H

/*
 * A kernel for the library to run on: a struct gmem_sys whose calls act on objects
 * kept here, that can be told what it is able to do, and which call shall fail. It
 * checks its arguments as the kernel does, and knows what it was left with.
 */

#include "internal.h"

#define FAKE_MAX_NODES 4

/* What it can do. */
struct fake_can {
	bool guest_memfd;    /* KVM_CREATE_GUEST_MEMFD */
	bool compiled_out;   /* ... which is not there after all */
	bool map;	     /* ... with MMAP and INIT_SHARED */
	bool no_init_shared; /* ... with MMAP only, as for protected VMs */
	bool convert;	     /* KVM_GMEM_CONVERT_... */
	bool attributes2;    /* KVM_SET_MEMORY_ATTRIBUTES2, of VMs that are protected */
	bool protected;	     /* the type of VM is for private memory; so say attributes */
	bool ranges;	     /* KVM_GMEM_GET_RANGES */
	bool zero;	     /* FALLOC_FL_ZERO_RANGE */
	bool link;	     /* KVM_GMEM_LINK, freeze and clone */
	bool policy;	     /* mbind() acts on the memory */
	bool attributes;     /* this VM has private memory by attributes */
	bool map_gpa_range;  /* the hypercall can become an exit */
	bool memory_fault;
	bool numa; /* CONFIG_NUMA */
};

extern const struct gmem_sys fake_sys;

/* Forget everything, which must be nothing, and be a kernel that can do this. */
void fake_begin(const struct fake_can *can);
/* What was left behind: descriptors, mappings, allocations; and what was closed twice. */
unsigned int fake_left(void);
const char *fake_left_what(void);

int fake_vm(void);		     /* a VM's descriptor */
void fake_vm_type(int fd, int type); /* another one: 0 is the first */
void fake_vm_close(int fd);

/* The n-th call from now on (1: the next) fails with error; 0: none does. */
void fake_fail_call(unsigned int n, int error);
/* The n-th allocation from now on. */
void fake_fail_alloc(unsigned int n);
/* Did that come to pass? Which call was it? */
bool fake_has_failed(void);
const char *fake_failed_call(void);
/* And which memory it was about: false where it was about none. */
bool fake_failed_at(int *fd, uint64_t *offset);
bool fake_failed_gpa(uint64_t *gpa);
/*
 * Calls of this name fail with error from the n-th on, so many times. For ioctls the
 * name is the request's: "KVM_GMEM_CONVERT_SHARED".
 */
void fake_fail_on(const char *name, unsigned int n, unsigned int times, int error);
/* Calls so far, and of one name; and their names, each once, separated by blanks. */
unsigned int fake_calls(void);
unsigned int fake_calls_of(const char *name);
unsigned int fake_allocations(void);
void fake_names_begin(void);
bool fake_name_used(const char *name);
void fake_each_name(void (*seen)(void *data, const char *name), void *data);

/* In a page's way: a pin (EAGAIN), poison (EHWPOISON). */
void fake_pin(int fd, uint64_t offset, bool pinned);
void fake_poison(int fd, uint64_t offset, bool poisoned);
/* Pins end by themselves after so many tries. */
void fake_pin_for(unsigned int tries);

/* What is so. */
bool fake_private(int fd, uint64_t offset);
bool fake_populated(int fd, uint64_t offset);
int fake_node(int fd, uint64_t offset);
bool fake_attribute(int vm, uint64_t gpa);
bool fake_slot(int vm, uint32_t slot, uint64_t *gpa, uint64_t *bytes);
unsigned int fake_slots(int vm);
bool fake_cloexec(int fd);
int fake_advice(const void *address, int advice);
/* Somebody touches a page, on a node if there are some. */
void fake_touch(int fd, uint64_t offset, int node);
/* What is in a page: what was written, until it is zeroed or freed. */
void fake_write(int fd, uint64_t offset, int value);
int fake_read(int fd, uint64_t offset);
/* What the page's policy is said to be: a mode of the kernel's, and a node that it has too. */
void fake_policy_says(int mode, unsigned int node);
/* KVM_CAP_EXIT_HYPERCALL was enabled for this VM. */
bool fake_hands_out_hypercalls(int vm);
/* The protection of a mapping. */
int fake_protection(const void *address);
/* The policy of the calling thread. */
int fake_task_policy(unsigned long *nodes);
uint64_t fake_slept(void);
/* The state of everything, in one number. */
uint64_t fake_digest(void);

#endif

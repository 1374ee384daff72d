/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for the tests of guest_memfd that converts in place.
 */
#ifndef SELFTEST_KVM_GMEM_UTIL_H
#define SELFTEST_KVM_GMEM_UTIL_H

#include <linux/falloc.h>
#include <linux/kvm_gmem.h>

#include "kvm_util.h"
#include "processor.h"

#define GMEM_FLAGS_PRIVATE	GUEST_MEMFD_FLAG_MMAP
#define GMEM_FLAGS_SHARED	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

/* Where tests put their memory: clear of the library's slots, mapped 1:1. */
#define GMEM_SLOT		10
#define GMEM_GPA		(1ULL << 32)
#define GMEM_GVA		GMEM_GPA

/* Skip the test (the whole program) on a kernel that has nothing of this. */
#define GMEM_REQUIRE()							\
do {									\
	__TEST_REQUIRE(kvm_check_cap(KVM_CAP_GMEM) & KVM_GMEM_CAP_CONVERT, \
		       "no KVM_CAP_GMEM");				\
	TEST_ASSERT((kvm_check_cap(KVM_CAP_GUEST_MEMFD_FLAGS) &		\
		     GMEM_FLAGS_SHARED) == GMEM_FLAGS_SHARED,		\
		    "KVM_CAP_GMEM without the flags of guest_memfd");	\
} while (0)

/*
 * A fixture that runs every test on each type of VM; @hva says whether slots
 * get the address of a mapping of the file, or 0.  Include kvm_test_harness.h
 * first, and define FIXTURE_SETUP() and FIXTURE_TEARDOWN().
 */
#define GMEM_FIXTURE_VARIANTS(name)					\
	FIXTURE_VARIANT(name) {						\
		unsigned long type;					\
		bool hva;						\
	};								\
	FIXTURE_VARIANT_ADD(name, default_vm) {				\
		.type = KVM_X86_DEFAULT_VM,				\
	};								\
	FIXTURE_VARIANT_ADD(name, sw_protected_vm) {			\
		.type = KVM_X86_SW_PROTECTED_VM, .hva = true,		\
	}

/* The other two combinations, where the address could make a difference. */
#define GMEM_FIXTURE_MORE_VARIANTS(name)				\
	FIXTURE_VARIANT_ADD(name, default_vm_hva) {			\
		.type = KVM_X86_DEFAULT_VM, .hva = true,		\
	};								\
	FIXTURE_VARIANT_ADD(name, sw_protected_vm_no_hva) {		\
		.type = KVM_X86_SW_PROTECTED_VM,			\
	}

static inline bool gmem_type_supported(unsigned long type)
{
	return kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(type);
}

/* In FIXTURE_SETUP(): skip the variant where KVM lacks the type of VM. */
#define GMEM_SKIP_UNLESS_SUPPORTED(type)				\
do {									\
	if (!gmem_type_supported(type))					\
		SKIP(return, "VM type %lu is not supported",		\
		     (unsigned long)(type));				\
} while (0)

/* Slow machines and emulators are no failure. */
#define GMEM_TEST(fixture, name)	TEST_F_TIMEOUT(fixture, name, 120)

/* CLOCK_MONOTONIC, in ns. */
uint64_t gmem_now_ns(void);
/* The calling thread's policy: SCHED_FIFO, with the lowest priority, or SCHED_OTHER. */
void gmem_set_scheduler(int policy);

/* Files.  Functions with __ return 0 or more, or a negative errno. */
int __gmem_create(struct kvm_vm *vm, uint64_t size, uint64_t flags);
int gmem_create(struct kvm_vm *vm, uint64_t size, uint64_t flags);
void *gmem_mmap(int fd, uint64_t size);
int __gmem_fallocate(int fd, int mode, uint64_t offset, uint64_t size);

int __gmem_convert(int fd, bool to_private, uint64_t offset, uint64_t size,
		   uint64_t flags, uint64_t *error_offset);
void gmem_make_private(int fd, uint64_t offset, uint64_t size);
void gmem_make_shared(int fd, uint64_t offset, uint64_t size);

/* The other way to convert, KVM_SET_MEMORY_ATTRIBUTES2; 0 is shared. */
int __gmem_set_attributes(int fd, uint64_t attributes, uint64_t offset,
			  uint64_t size, uint64_t *error_offset);
void gmem_set_attributes(int fd, uint64_t attributes, uint64_t offset,
			 uint64_t size);

/* A view of the same memory for another VM; memory that nothing changes; a copy. */
int __gmem_link(struct kvm_vm *vm, int fd);
int gmem_link(struct kvm_vm *vm, int fd);
int __gmem_freeze(int fd, uint64_t *error_offset);
void gmem_freeze(int fd);
int __gmem_clone(struct kvm_vm *vm, int fd);
int gmem_clone(struct kvm_vm *vm, int fd);

int __gmem_get_ranges(int fd, struct kvm_gmem_get_ranges *arg);

/*
 * All runs of [offset, offset + size), in as many calls as it takes; assert
 * that they are in order and without gaps, and, without flags, merged.
 */
int gmem_get_ranges(int fd, uint64_t offset, uint64_t size, uint32_t flags,
		    struct kvm_gmem_range *ranges, int max);
bool gmem_is_private(int fd, uint64_t offset);
/* The state of each page, by the runs and by fdinfo, is that of a model. */
void gmem_check_states(int fd, const bool *private, uint64_t nr);
uint64_t gmem_populated(int fd, uint64_t offset, uint64_t size);

/*
 * Pass a file through a socket.  __gmem_receive_fd() returns -EACCES where the
 * file was taken out of the message.
 */
void gmem_send_fd(int sock, int fd);
int __gmem_receive_fd(int sock);
int gmem_receive_fd(int sock);

/* A step of two processes: the one says so, the other waits for it. */
void gmem_step(int fd);
void gmem_await(int fd);
/* Wait for a child's end, which has to be a good one. */
void gmem_reap(pid_t pid);

/* A short file of /proc or /sys: what is written to it, and its first line. */
int __gmem_write_file(const char *path, const void *data, size_t len);
void gmem_write_file(const char *path, const char *val);
int gmem_read_file(const char *path, char *buf, size_t size);

/* A 'gmem-...' value of /proc/self/fdinfo, or -1. */
int64_t gmem_fdinfo(int fd, const char *key);

/*
 * All there is to know about a file: every run by population and node, and the
 * contents of what is shared and populated.  To look does not change anything.
 */
struct gmem_snapshot;
struct gmem_snapshot *gmem_snapshot(int fd);
void gmem_assert_unchanged(int fd, const struct gmem_snapshot *snap,
			   const char *after);
void gmem_snapshot_free(struct gmem_snapshot *snap);

/* Slots, by hand and not in the library's lists. */
int __gmem_bind(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t size,
		void *hva, int fd, uint64_t offset);
void gmem_bind(struct kvm_vm *vm, uint32_t slot, uint64_t gpa, uint64_t size,
	       void *hva, int fd, uint64_t offset);
void gmem_unbind(struct kvm_vm *vm, uint32_t slot);

/*
 * Touch memory that may be private: 0 or the si_code of the signal, BUS_ADRERR
 * for private memory and BUS_MCEERR_AR for poison.  Any thread may call them.
 */
int gmem_peek(const void *addr, uint64_t *val);
int gmem_poke(void *addr, uint64_t val);
void gmem_assert_no_access(void *mem, uint64_t size);

/* The same through a system call: 0, or -EFAULT. */
int gmem_syscall_peek(const void *addr);
int gmem_syscall_poke(void *addr);

/*
 * MADV_HWPOISON: 0, or a negative errno.  The signal that it sends to those who
 * map the page is ignored here.
 */
int gmem_poison(void *addr);

/* The word that belongs at byte @offset of a pattern, never 0. */
static inline uint64_t gmem_pattern(uint64_t seed, uint64_t offset)
{
	return ((offset / 8 + 1) * 0x9e3779b97f4a7c15ULL ^ seed << 56 ^ seed) | 1;
}

/* Host side, over every word of [mem + offset, mem + offset + size). */
void gmem_fill(void *mem, uint64_t offset, uint64_t size, uint64_t seed);
void gmem_check(const void *mem, uint64_t offset, uint64_t size, uint64_t seed);
void gmem_check_zero(const void *mem, uint64_t offset, uint64_t size);

/*
 * Guests.  Neither arguments nor results of a call go through guest memory, so
 * that it works in a guest whose memory is all private.  Guest functions must
 * not use GUEST_ASSERT(), ucall or GUEST_SYNC() there: return what was found.
 */
typedef uint64_t (*gmem_guest_fn)(uint64_t a, uint64_t b, uint64_t c);

/*
 * A VM whose vCPUs wait for gmem_guest_call(); @nr_pages of memory besides the
 * library's are going to be mapped.
 */
struct kvm_vm *gmem_vm_create(unsigned long type, uint32_t nr_vcpus,
			      struct kvm_vcpu **vcpus, uint64_t nr_pages);

/*
 * Move the memory that the library has set up, with code, stacks and page
 * tables, into a file, all of it private: from now on the library reaches none
 * of it, e.g. to map or to translate.  Return the file.
 */
int gmem_vm_make_private(struct kvm_vm *vm, bool hva);

uint64_t gmem_guest_call(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
			 uint64_t b, uint64_t c);
/*
 * The same in steps, for calls that exit on their way: start, then KVM_RUN until
 * done says so and returns the result.
 */
void gmem_guest_start(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
		      uint64_t b, uint64_t c);
bool gmem_guest_done(struct kvm_vcpu *vcpu, uint64_t *result);
/*
 * Start and run; 0 when done, or the negative errno of KVM_RUN.  After a memory
 * fault another KVM_RUN tries the access again.
 */
int __gmem_guest_call(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
		      uint64_t b, uint64_t c, uint64_t *result);

/*
 * Let KVM emulate what has KVM_FEP in front of it ('1'), or not; return what it
 * was.  It is the module's parameter, if it can be set.
 */
char gmem_set_fep(char to);

/* Guest functions of general use. */
uint64_t gmem_guest_read(uint64_t gva, uint64_t b, uint64_t c);
uint64_t gmem_guest_write(uint64_t gva, uint64_t val, uint64_t c);
/* (first byte, size, seed); the pattern counts from GMEM_GVA. */
uint64_t gmem_guest_fill(uint64_t gva, uint64_t size, uint64_t seed);
/* Likewise; return 0, or the first address that is wrong. */
uint64_t gmem_guest_check(uint64_t gva, uint64_t size, uint64_t seed);
/* The first address that is not 0, or 0. */
uint64_t gmem_guest_check_zero(uint64_t gva, uint64_t size, uint64_t c);

/* One word, read by the emulator; needs gmem_set_fep('1'). */
uint64_t gmem_guest_fep_read(uint64_t gva, uint64_t b, uint64_t c);

#endif /* SELFTEST_KVM_GMEM_UTIL_H */

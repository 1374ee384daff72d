/* SPDX-License-Identifier: MIT */
#ifndef KVM_H
#define KVM_H

/* The types of VMs that can have memory of libgmem's, and one of each to try things on. */

#include <stddef.h>
#include <gmem.h>

struct kvm_type {
	const char *id, *name, *only;
	unsigned long type;  /* as KVM_CREATE_VM has it */
	const char *unknown; /* what KVM's EINVAL means */
};

extern const struct kvm_type kvm_types[];
extern const size_t kvm_nr_types;

/* /dev/kvm; a negative errno, -ENODEV if this host has no KVM, and why, for people. */
int kvm_open(const char **ret_why);

/* A VM of that type; NULL, and why not. What it was made of is freed by kvm_vm_free(). */
struct kvm_vm {
	int fd;
	struct gmem_vm *vm;
	char why[256];
};
int kvm_vm_new(int kvm, const struct kvm_type *type, struct kvm_vm *ret);
void kvm_vm_free(struct kvm_vm *vm);

#endif

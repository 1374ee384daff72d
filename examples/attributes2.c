/* SPDX-License-Identifier: MIT */
/*
 * Conversion in place by mainline's own interface (Linux 7.4), without libgmem: a guest asks
 * for a page to be made private, writes to it, and asks for it to be shared again.
 *
 *	cc -o attributes2 attributes2.c
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>

/* What older headers do not have. */
#ifndef KVM_CREATE_GUEST_MEMFD
#define KVM_CREATE_GUEST_MEMFD _IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)
#define KVM_SET_USER_MEMORY_REGION2 _IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#define KVM_MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)
struct kvm_create_guest_memfd {
	__u64 size, flags, reserved[6];
};
struct kvm_userspace_memory_region2 {
	__u32 slot, flags;
	__u64 guest_phys_addr, memory_size, userspace_addr, guest_memfd_offset;
	__u32 guest_memfd, pad1;
	__u64 pad2[14];
};
#endif
#ifndef GUEST_MEMFD_FLAG_MMAP
#define GUEST_MEMFD_FLAG_MMAP (1ULL << 0)
#define GUEST_MEMFD_FLAG_INIT_SHARED (1ULL << 1)
#endif
#ifndef KVM_SET_MEMORY_ATTRIBUTES2
#define KVM_SET_MEMORY_ATTRIBUTES2 _IOWR(KVMIO, 0xd2, struct kvm_memory_attributes2)
struct kvm_memory_attributes2 {
	__u64 offset, size, attributes, flags, error_offset, reserved[11];
};
#endif

#define PROTECTED_VM 1 /* KVM_X86_SW_PROTECTED_VM: 7.4 converts for protected types only */
#define BYTES (1ul << 20)
#define CODE 0x1000
#define WINDOW 0x8000
#define NUMBER 0x600dcafe

/* In real mode, with the hypercall's number in eax, its arguments in ebx, ecx and edx. */
static const unsigned char program[] = {
	0x66, 0xb8, 12,	  0,	0,    0, /* mov eax, KVM_HC_MAP_GPA_RANGE */
	0x66, 0xbb, 0x00, 0x80, 0,    0, /* mov ebx, WINDOW */
	0x66, 0xb9, 1,	  0,	0,    0, /* mov ecx, 1 page */
	0x66, 0xba, 0x10, 0,	0,    0, /* mov edx, KVM_MAP_GPA_RANGE_ENCRYPTED */
	0x0f, 0x01, 0xc1,		 /* vmcall */
	0x66, 0xa3, 0x04, 0x80,		 /* mov [WINDOW + 4], eax */
	0x66, 0xc7, 0x06, 0x00, 0x80, 0xfe, 0xca, 0x0d, 0x60, /* mov [WINDOW], NUMBER */
	0x66, 0xb8, 12,	  0,	0,    0,		      /* mov eax, KVM_HC_MAP_GPA_RANGE */
	0x66, 0x31, 0xd2,				      /* xor edx, edx: shared */
	0x0f, 0x01, 0xc1,				      /* vmcall */
	0x66, 0xa3, 0x08, 0x80,				      /* mov [WINDOW + 8], eax */
	0xf4,						      /* hlt */
};

static int must(const char *what, int r)
{
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", what, strerror(errno));
		exit(1);
	}
	return r;
}

static int convert(int memory, unsigned long offset, unsigned long size, int private)
{
	struct kvm_memory_attributes2 attributes = {.offset = offset, .size = size};

	attributes.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
	if (!ioctl(memory, KVM_SET_MEMORY_ATTRIBUTES2, &attributes))
		return 0;
	/* With EAGAIN, error_offset is the page that somebody holds. */
	fprintf(stderr, "[%#lx, %#lx): %s at %#lx\n", offset, offset + size, strerror(errno),
		(unsigned long)attributes.error_offset);
	return -errno;
}

static void answer(int memory, const char *map, struct kvm_run *run, int probe)
{
	unsigned long offset = run->hypercall.args[0], size = run->hypercall.args[1] * 4096;
	int private = !!(run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED);

	run->hypercall.ret = convert(memory, offset, size, private);
	printf("the guest asks for %#lx to be %s: answered %d, and the host %s it\n", offset,
	       private ? "private" : "shared", (int)run->hypercall.ret,
	       write(probe, map + offset, 1) == 1 ? "reads" : "cannot read");
}

int main(void)
{
	struct kvm_create_guest_memfd create = {
		.size = BYTES, .flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED};
	struct kvm_userspace_memory_region2 slot = {.flags = KVM_MEM_GUEST_MEMFD,
						    .memory_size = BYTES};
	struct kvm_enable_cap exits = {.cap = KVM_CAP_EXIT_HYPERCALL,
				       .args = {1 << KVM_HC_MAP_GPA_RANGE}};
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	unsigned int eax, ebx = 0, ecx, edx;
	int kvm, vm, vcpu, memory, pipes[2], said[3];
	struct kvm_sregs sregs;
	struct kvm_run *run;
	char *map;

	kvm = must("/dev/kvm", open("/dev/kvm", O_RDWR | O_CLOEXEC));
	vm = must("a software-protected VM", ioctl(kvm, KVM_CREATE_VM, PROTECTED_VM));
	must("exits of hypercalls", ioctl(vm, KVM_ENABLE_CAP, &exits));
	memory = must("a guest_memfd to map", ioctl(vm, KVM_CREATE_GUEST_MEMFD, &create));
	map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	must("mmap", map == MAP_FAILED ? -1 : 0);
	must("pipe", pipe(pipes));
	/* All that is shared KVM itself reaches by this address. */
	slot.userspace_addr = (unsigned long)map;
	slot.guest_memfd = memory;
	must("a slot", ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &slot));

	memcpy(map + CODE, program, sizeof(program));
	__get_cpuid(0, &eax, &ebx, &ecx, &edx);
	if (ebx == 0x68747541) /* "Auth"enticAMD has vmmcall */
		map[CODE + 26] = map[CODE + 51] = (char)0xd9;
	vcpu = must("a vCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
	run = mmap(NULL, must("its size", ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)),
		   PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	must("its mapping", run == MAP_FAILED ? -1 : 0);
	must("its segments", ioctl(vcpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = sregs.cs.selector = 0;
	must("its segments", ioctl(vcpu, KVM_SET_SREGS, &sregs));
	must("its registers", ioctl(vcpu, KVM_SET_REGS, &regs));

	while (must("KVM_RUN", ioctl(vcpu, KVM_RUN, 0)) == 0 &&
	       run->exit_reason == KVM_EXIT_HYPERCALL)
		answer(memory, map, run, pipes[1]);
	memcpy(said, map + WINDOW, sizeof(said));
	printf("exit %u; it was told %d, %d and wrote %#x\n", run->exit_reason, said[1], said[2],
	       said[0]);
	return run->exit_reason != KVM_EXIT_HLT || said[0] != NUMBER || said[1] || said[2];
}

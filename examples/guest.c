/* SPDX-License-Identifier: MIT */
/*
 * A guest of twenty bytes of code in private memory: it requests that one page be made
 * shared, and writes the result and a number there, which the VMM reads.
 *
 *	cc -o guest guest.c $(pkg-config --cflags --libs libgmem)
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/kvm.h>
#include <gmem.h>

#define BYTES (1ul << 20)
#define CODE 0x1000
#define WINDOW 0x8000
#define NUMBER 0x600dcafe

/* In real mode: ask, by hypercall 12, for a page from WINDOW to be shared. */
static const unsigned char program[] = {
	0x66, 0xb8, 12,	  0,	0,    0,		      /* mov eax, 12 */
	0x66, 0xbb, 0x00, 0x80, 0,    0,		      /* mov ebx, WINDOW */
	0x66, 0xb9, 1,	  0,	0,    0,		      /* mov ecx, 1 */
	0x66, 0xba, 0,	  0,	0,    0,		      /* mov edx, 0: shared */
	0x0f, 0x01, 0xc1,				      /* vmcall */
	0x66, 0xa3, 0x04, 0x80,				      /* mov [WINDOW + 4], eax */
	0x66, 0xc7, 0x06, 0x00, 0x80, 0xfe, 0xca, 0x0d, 0x60, /* mov [WINDOW], NUMBER */
	0xf4,						      /* hlt */
};

static int failed(const struct gmem_error *error)
{
	fprintf(stderr, "%s\n", error->message);
	return 1;
}

static void load(unsigned char *to)
{
	unsigned int eax, ebx = 0, ecx, edx;

	memcpy(to, program, sizeof(program));
	__get_cpuid(0, &eax, &ebx, &ecx, &edx);
	if (ebx == 0x68747541) /* "Auth"enticAMD has vmmcall */
		to[26] = 0xd9;
}

static int make_vcpu(int kvm, int vm_fd, struct kvm_run **run)
{
	struct kvm_regs regs = {.rip = CODE, .rflags = 2};
	int vcpu = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	struct kvm_sregs sregs;

	*run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
		    MAP_SHARED, vcpu, 0);
	ioctl(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	ioctl(vcpu, KVM_SET_SREGS, &sregs);
	ioctl(vcpu, KVM_SET_REGS, &regs);
	return vcpu;
}

int main(void)
{
	struct gmem_vm_options vm_options = GMEM_VM_OPTIONS_INIT;
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem_range range = GMEM_RANGE_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;
	struct gmem_exit exit = GMEM_EXIT_INIT;
	unsigned int answer[2];
	int kvm, vm_fd, vcpu, r;
	struct gmem *memory;
	struct kvm_run *run;
	struct gmem_vm *vm;
	uint64_t gpa;
	void *map;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm_fd = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm_fd < 0) {
		fprintf(stderr, "KVM: %s\n", strerror(errno));
		return 1;
	}
	vm_options.flags = GMEM_VM_MAP_GPA_RANGE;
	options.mode = GMEM_MODE_INPLACE;
	if (gmem_vm_new(vm_fd, &vm_options, &vm, &error) < 0 ||
	    gmem_new(vm, BYTES, &options, &memory, &error) < 0 ||
	    gmem_bind(memory, 0, 0, 0, BYTES, &error) < 0 ||
	    gmem_map(memory, 0, BYTES, GMEM_MAP_DONTDUMP, &map, &error) < 0)
		return failed(&error);

	/* The program goes in while its page is shared, and stays when it is not. */
	if (gmem_convert(vm, CODE, 4096, GMEM_STATE_SHARED, NULL, NULL, &error) < 0)
		return failed(&error);
	load((unsigned char *)map + CODE);
	if (gmem_convert(vm, CODE, 4096, GMEM_STATE_PRIVATE, NULL, NULL, &error) < 0)
		return failed(&error);

	vcpu = make_vcpu(kvm, vm_fd, &run);
	do {
		r = ioctl(vcpu, KVM_RUN, 0) < 0 ? -errno : 0;
		r = gmem_exit_handle(vm, run, r, &exit, NULL, &error);
		if (exit.flags & GMEM_EXIT_HYPERCALL)
			printf("the guest asks for %#lx to be shared: answered %d\n",
			       (unsigned long)exit.gpa, exit.result);
	} while (r == 0);
	if (r < 0)
		return failed(&error);
	if (run->exit_reason != KVM_EXIT_HLT) {
		fprintf(stderr, "unexpected exit %u\n", run->exit_reason);
		return 1;
	}

	memcpy(answer, (char *)map + WINDOW, sizeof(answer));
	printf("it was told %d and wrote %#x\n", (int)answer[1], answer[0]);
	for (gpa = 0; gmem_next_range(vm, gpa, BYTES, &range) == 1; gpa += range.bytes)
		printf("%#7lx %s\n", (unsigned long)gpa,
		       range.state == GMEM_STATE_PRIVATE ? "private" : "shared");
	gmem_unmap(map, BYTES);
	gmem_unref(memory);
	gmem_vm_free(vm);
	return answer[0] == NUMBER && answer[1] == 0 ? 0 : 1;
}

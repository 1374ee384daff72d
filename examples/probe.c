/* SPDX-License-Identifier: MIT */
/*
 * Reports the capabilities of this host for each type of VM, and why others are missing.
 *
 *	cc -o probe probe.c $(pkg-config --cflags --libs libgmem)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <gmem.h>

static const struct {
	uint64_t cap;
	const char *what;
} caps[] = {
	{GMEM_CAP_INPLACE, "in-place mode"},
	{GMEM_CAP_ATTRIBUTES, "attributes mode"},
	{GMEM_CAP_DUAL, "dual mode"},
	{GMEM_CAP_SHARED, "shared mode"},
	{GMEM_CAP_PLAIN, "plain mode"},
	{GMEM_CAP_PRIVATE, "private memory"},
	{GMEM_CAP_POLICY, "NUMA policy"},
	{GMEM_CAP_RANGES, "states and nodes"},
	{GMEM_CAP_ZERO, "zeroing in place"},
	{GMEM_CAP_LINK, "links to other VMs"},
	{GMEM_CAP_CLONE, "frozen memory and clones"},
	{GMEM_CAP_MEMORY_FAULT, "memory faults"},
	{GMEM_CAP_MAP_GPA_RANGE, "requests of guests"},
};

static int probe(int kvm, unsigned long type, const char *name)
{
	struct gmem_error error = GMEM_ERROR_INIT;
	struct gmem_vm *vm;
	int vm_fd, r;
	size_t i;

	vm_fd = ioctl(kvm, KVM_CREATE_VM, type);
	if (vm_fd < 0) {
		printf("%s VM: cannot be created (%s)\n", name, strerror(errno));
		return 0;
	}
	r = gmem_vm_new(vm_fd, NULL, &vm, &error);
	if (r < 0) {
		fprintf(stderr, "%s VM: %s\n", name, error.message);
		close(vm_fd);
		return 1;
	}
	printf("%s VM:\n", name);
	for (i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		const char *why = gmem_vm_why_not(vm, caps[i].cap);

		printf("  %-20s %s\n", caps[i].what, why ? why : "yes");
	}
	gmem_vm_free(vm);
	close(vm_fd);
	return 0;
}

int main(void)
{
	unsigned int major, minor;
	int kvm, r;

	gmem_version(&major, &minor);
	printf("libgmem %u.%u\n", major, minor);
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0) {
		perror("/dev/kvm");
		return 1;
	}
	r = probe(kvm, 0, "ordinary");
#ifdef __x86_64__
	r |= probe(kvm, 1, "software-protected");
#endif
	close(kvm);
	return r;
}

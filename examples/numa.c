/* SPDX-License-Identifier: MIT */
/*
 * Private memory on NUMA nodes: sets a policy for each half, allocates with progress, and
 * reports the placement.
 *
 *	cc -o numa numa.c $(pkg-config --cflags --libs libgmem numa)
 */
#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <gmem.h>

#define BYTES (64ul << 20)
#define HALF (BYTES / 2)

static int failed(const struct gmem_error *error)
{
	fprintf(stderr, "%s\n", error->message);
	return 1;
}

static int on_progress(void *data, uint64_t done, uint64_t total)
{
	(void)data;
	printf("\rallocated %lu of %lu MiB", (unsigned long)(done >> 20),
	       (unsigned long)(total >> 20));
	fflush(stdout);
	return 0;
}

static int set_node(struct gmem *memory, uint64_t offset, unsigned int node,
		    struct gmem_error *error)
{
	struct bitmask *nodes = numa_allocate_nodemask();
	int r;

	numa_bitmask_setbit(nodes, node);
	r = gmem_set_policy(memory, offset, HALF, GMEM_POLICY_BIND, nodes, error);
	numa_bitmask_free(nodes);
	return r;
}

static int place(struct gmem_vm *vm, unsigned int first, unsigned int second)
{
	struct gmem_error error = GMEM_ERROR_INIT;
	uint64_t bytes[1024];
	struct gmem *memory;
	unsigned int i;
	int r;

	r = gmem_new(vm, BYTES, NULL, &memory, &error);
	if (r < 0)
		return failed(&error);
	r = set_node(memory, 0, first, &error);
	if (!r)
		r = set_node(memory, HALF, second, &error);
	if (!r)
		r = gmem_prealloc(memory, 0, BYTES, NULL, on_progress, NULL, &error);
	printf("\n");
	if (!r)
		r = gmem_placement(memory, 0, BYTES, bytes, 1024, &error);
	for (i = 0; !r && i < 1024; i++)
		if (bytes[i])
			printf("node %u: %lu MiB\n", i, (unsigned long)(bytes[i] >> 20));
	gmem_unref(memory);
	return r < 0 ? failed(&error) : 0;
}

int main(int argc, char **argv)
{
	struct gmem_error error = GMEM_ERROR_INIT;
	unsigned int first = 0, second = 1;
	struct gmem_vm *vm;
	int kvm, vm_fd, r;

	if (argc > 3 || (argc > 1 && sscanf(argv[1], "%u", &first) != 1) ||
	    (argc > 2 && sscanf(argv[2], "%u", &second) != 1)) {
		fprintf(stderr, "usage: %s [NODE [NODE]]\n", argv[0]);
		return 2;
	}
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm_fd = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm_fd < 0) {
		fprintf(stderr, "KVM: %s\n", strerror(errno));
		return 1;
	}
	r = gmem_vm_new(vm_fd, NULL, &vm, &error);
	if (r < 0)
		return failed(&error);
	r = place(vm, first, second);
	gmem_vm_free(vm);
	close(vm_fd);
	close(kvm);
	return r;
}

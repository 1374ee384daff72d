// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel answers libgmem: a line for each type of VM, as in kernel/lab/kernels.txt
 * behind the name of the kernel.
 *
 *   VM      plain, sw-protected
 *   AUTO    the mode that GMEM_MODE_AUTO takes; "none" where there is no mode, "no-vm" where
 *           there is no such VM
 *   places  what decides on which node memory is: "policy" (gmem_set_policy() does),
 *           "prealloc" (the nodes that gmem_prealloc() is given do), "-" (there is no memory)
 *   capabilities  all of GMEM_CAP_...
 *
 * What places memory is tried: it has to be on the node that the thread does not run on.
 */
#include <errno.h>
#include <fcntl.h>
#include <numa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <gmem.h>

#define BYTES (4ul << 20)
#define NEAR 0
#define FAR 1

static struct gmem_error error = GMEM_ERROR_INIT;

static const char *const modes[] = {
	[GMEM_MODE_INPLACE] = "in-place",
	[GMEM_MODE_ATTRIBUTES] = "attributes",
	[GMEM_MODE_DUAL] = "dual",
	[GMEM_MODE_SHARED] = "shared",
	[GMEM_MODE_PLAIN] = "plain",
};

static const struct {
	uint64_t cap;
	const char *name;
} caps[] = {
	{ GMEM_CAP_INPLACE, "in-place" },
	{ GMEM_CAP_ATTRIBUTES, "attributes" },
	{ GMEM_CAP_DUAL, "dual" },
	{ GMEM_CAP_SHARED, "shared" },
	{ GMEM_CAP_PLAIN, "plain" },
	{ GMEM_CAP_PRIVATE, "private" },
	{ GMEM_CAP_POLICY, "policy" },
	{ GMEM_CAP_RANGES, "ranges" },
	{ GMEM_CAP_ZERO, "zero" },
	{ GMEM_CAP_LINK, "link" },
	{ GMEM_CAP_CLONE, "clone" },
	{ GMEM_CAP_MEMORY_FAULT, "memory-fault" },
	{ GMEM_CAP_MAP_GPA_RANGE, "map-gpa-range" },
};

static void die(const char *what)
{
	fprintf(stderr, "kernels: %s: %s\n", what, error.step ? error.message : strerror(errno));
	exit(1);
}

/* Memory is made, with a policy and with nodes to allocate on, or without: is it all on node? */
static int is_placed(struct gmem_vm *vm, const struct bitmask *policy, const struct bitmask *nodes,
		     int node)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	uint64_t bytes[2];
	struct gmem *memory;
	int r;

	/* Of private memory not every kernel tells where it is. */
	options.initial = GMEM_STATE_SHARED;
	if (gmem_new(vm, BYTES, &options, &memory, &error))
		die("gmem_new");
	if (policy) {
		r = gmem_set_policy(memory, 0, BYTES, GMEM_POLICY_BIND, policy, &error);
		if (r == -EOPNOTSUPP) {
			gmem_unref(memory);
			return 0;
		}
		if (r)
			die("gmem_set_policy");
	}
	if (gmem_prealloc(memory, 0, BYTES, nodes, NULL, NULL, &error))
		die("gmem_prealloc");
	if (gmem_placement(memory, 0, BYTES, bytes, 2, &error))
		die("gmem_placement");
	gmem_unref(memory);
	return bytes[node] == BYTES;
}

static const char *placed_by(struct gmem_vm *vm)
{
	struct bitmask *far = numa_allocate_nodemask();
	const char *by = "nothing";

	numa_bitmask_setbit(far, FAR);
	if (!is_placed(vm, NULL, NULL, NEAR))
		die("memory without a policy is not where the thread runs");
	if (is_placed(vm, far, NULL, FAR))
		by = "policy";
	else if (is_placed(vm, NULL, far, FAR))
		by = "prealloc";
	numa_bitmask_free(far);
	return by;
}

static void answer(int kvm, unsigned long type, const char *name)
{
	const char *places = "-", *comma = "";
	uint64_t has;
	uint32_t mode;
	struct gmem_vm *vm;
	int fd = ioctl(kvm, KVM_CREATE_VM, type);
	size_t i;

	if (fd < 0) {
		if (errno != EINVAL)
			die("KVM_CREATE_VM");
		printf("%s no-vm - -\n", name);
		return;
	}
	if (gmem_vm_new(fd, NULL, &vm, &error))
		die("gmem_vm_new");
	if (gmem_vm_caps(vm, &has))
		die("gmem_vm_caps");
	if (gmem_vm_mode(vm, &mode))
		mode = GMEM_MODE_AUTO;
	else
		places = placed_by(vm);
	printf("%s %s %s ", name, mode == GMEM_MODE_AUTO ? "none" : modes[mode], places);
	for (i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		if (!(has & caps[i].cap))
			continue;
		printf("%s%s", comma, caps[i].name);
		comma = ",";
	}
	printf("%s\n", *comma ? "" : "-");
	gmem_vm_free(vm);
	close(fd);
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		die("/dev/kvm");
	if (numa_available() < 0 || numa_run_on_node(NEAR))
		die("NUMA");
	answer(kvm, 0, "plain");
	answer(kvm, 1 /* KVM_X86_SW_PROTECTED_VM */, "sw-protected");
	return 0;
}

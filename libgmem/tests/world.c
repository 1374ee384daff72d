/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/falloc.h>

#define EVERYTHING                                                                                 \
	.can = {.guest_memfd = true,                                                               \
		.map = true,                                                                       \
		.convert = true,                                                                   \
		.ranges = true,                                                                    \
		.zero = true,                                                                      \
		.link = true,                                                                      \
		.policy = true,                                                                    \
		.map_gpa_range = true,                                                             \
		.memory_fault = true,                                                              \
		.numa = true}

/* A kernel of ours of which no more is left than what mainline has from Linux 7.4 on. */
static int mainline_ioctl(int fd, unsigned long request, void *arg)
{
	const uintptr_t cap = (uintptr_t)arg;

	if (_IOC_TYPE(request) == KVM_GMEM_IOC || request == KVM_SET_MEMORY_ATTRIBUTES)
		return -ENOTTY;
	if (request == KVM_CHECK_EXTENSION &&
	    (cap == KVM_CAP_GMEM || cap == KVM_CAP_MEMORY_ATTRIBUTES))
		return 0;
	return gmem_sys_real.ioctl(fd, request, arg);
}

static int mainline_fallocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
	if (mode & FALLOC_FL_ZERO_RANGE)
		return -EOPNOTSUPP;
	return gmem_sys_real.fallocate(fd, mode, offset, bytes);
}

static struct gmem_sys mainline_sys;

const uint64_t mode_caps[NR_MODES + 1] = {
	[GMEM_MODE_INPLACE] = GMEM_CAP_INPLACE, [GMEM_MODE_ATTRIBUTES] = GMEM_CAP_ATTRIBUTES,
	[GMEM_MODE_DUAL] = GMEM_CAP_DUAL,	[GMEM_MODE_SHARED] = GMEM_CAP_SHARED,
	[GMEM_MODE_PLAIN] = GMEM_CAP_PLAIN,
};

static const struct world worlds[] = {
	{.name = "fake-inplace", .mode = GMEM_MODE_INPLACE, EVERYTHING},
	{.name = "fake-attributes",
	 .mode = GMEM_MODE_ATTRIBUTES,
	 .can = {.guest_memfd = true,
		 .map = true,
		 .attributes2 = true,
		 .protected = true,
		 .policy = true,
		 .memory_fault = true,
		 .numa = true,
		 .map_gpa_range = true}},
	{.name = "fake-dual",
	 .mode = GMEM_MODE_DUAL,
	 .can = {.guest_memfd = true,
		 .attributes = true,
		 .memory_fault = true,
		 .numa = true,
		 .map_gpa_range = true}},
	{.name = "fake-shared",
	 .mode = GMEM_MODE_SHARED,
	 .can = {.guest_memfd = true,
		 .map = true,
		 .memory_fault = true,
		 .numa = true,
		 .map_gpa_range = true}},
	{.name = "fake-plain",
	 .mode = GMEM_MODE_PLAIN,
	 .can = {.numa = true, .map_gpa_range = true}},
	{.name = "kvm-inplace", .mode = GMEM_MODE_INPLACE, .real = true},
	{.name = "kvm-inplace-protected",
	 .mode = GMEM_MODE_INPLACE,
	 .real = true,
	 .protected = true},
	{.name = "kvm-attributes",
	 .mode = GMEM_MODE_ATTRIBUTES,
	 .real = true,
	 .sys = &mainline_sys},
	{.name = "kvm-attributes-protected",
	 .mode = GMEM_MODE_ATTRIBUTES,
	 .real = true,
	 .protected = true,
	 .sys = &mainline_sys},
	{.name = "kvm-dual", .mode = GMEM_MODE_DUAL, .real = true, .protected = true},
	{.name = "kvm-shared", .mode = GMEM_MODE_SHARED, .real = true},
	{.name = "kvm-plain", .mode = GMEM_MODE_PLAIN, .real = true},
};

const struct world *world;
struct gmem_vm *vm;
int vm_fd = -1;
struct gmem_error err = GMEM_ERROR_INIT;

const struct world *world_named(const char *name)
{
	for (unsigned int i = 0; world_at(i); i++)
		if (!strcmp(worlds[i].name, name))
			return &worlds[i];
	return NULL;
}

const struct world *world_at(unsigned int index)
{
	return index < sizeof(worlds) / sizeof(worlds[0]) ? &worlds[index] : NULL;
}

static int real_vm(const struct world *which)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), fd;

	if (kvm < 0)
		return -errno;
	fd = ioctl(kvm, KVM_CREATE_VM, which->protected ? 1ul /* SW_PROTECTED */ : 0ul);
	if (fd < 0)
		fd = -errno;
	close(kvm);
	return fd;
}

const struct gmem_sys *world_sys(const struct world *which)
{
	mainline_sys = gmem_sys_real;
	mainline_sys.ioctl = mainline_ioctl;
	mainline_sys.fallocate = mainline_fallocate;
	if (which->sys)
		return which->sys;
	return which->real ? &gmem_sys_real : &fake_sys;
}

const char *world_missing(const struct world *which)
{
	static char why[300];
	struct gmem_vm *context;
	const char *sentence;
	int fd, r;

	if (!which->real)
		return NULL;
	fd = real_vm(which);
	if (fd < 0) {
		snprintf(why, sizeof(why), "%s: %s",
			 which->protected ? "no VM of type KVM_X86_SW_PROTECTED_VM"
					  : "/dev/kvm makes no VM",
			 strerror(-fd));
		return why;
	}
	r = gmem_vm_new_sys(fd, NULL, &context, &err, world_sys(which));
	if (r) {
		close(fd);
		snprintf(why, sizeof(why), "gmem_vm_new: %s", err.message);
		return why;
	}
	sentence = gmem_vm_why_not(context, mode_caps[which->mode]);
	if (sentence)
		snprintf(why, sizeof(why), "%s", sentence);
	gmem_vm_free(context);
	close(fd);
	return sentence ? why : NULL;
}

int world_new_vm(const struct gmem_vm_options *options, struct gmem_vm **ret_vm, int *ret_fd,
		 struct gmem_error *error)
{
	*ret_fd = world->real ? real_vm(world) : fake_vm();
	ck_assert_int_ge(*ret_fd, 0);
	return gmem_vm_new_sys(*ret_fd, options, ret_vm, error, world_sys(world));
}

void world_begin(void)
{
	if (!world->real)
		fake_begin(&world->can);
	err = (struct gmem_error)GMEM_ERROR_INIT;
	ok(world_new_vm(NULL, &vm, &vm_fd, &err));
}

void world_end(void)
{
	int free = 0;

	/* What changes the VM held the lock, and gave it back, once. */
	ck_assert(!sem_getvalue(&vm->change, &free));
	ck_assert_int_eq(free, 1);
	ck_assert(!atomic_load(&vm->changer));
	gmem_vm_free(vm);
	vm = NULL;
	if (world->real) {
		close(vm_fd);
	} else {
		fake_vm_close(vm_fd);
		ck_assert_msg(!fake_left(), "left behind: %s", fake_left_what());
	}
}

struct gmem *memory_of(uint64_t bytes, uint32_t initial)
{
	return memory_of_mode(world->mode, bytes, initial);
}

struct gmem *memory_of_mode(uint32_t mode, uint64_t bytes, uint32_t initial)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem *memory = NULL;

	options.mode = mode;
	options.initial = initial;
	ok(gmem_new(vm, bytes, &options, &memory, &err));
	return memory;
}

uint32_t state_at(uint64_t gpa)
{
	struct gmem_range range = GMEM_RANGE_INIT;

	ck_assert_int_eq(gmem_next_range(vm, gpa, gpa + PAGE, &range), 1);
	return range.state;
}

uint32_t state_of(struct gmem *memory, uint64_t offset)
{
	struct gmem_range range = GMEM_RANGE_INIT;

	ck_assert_int_eq(gmem_next_offset_range(memory, offset, offset + PAGE, &range), 1);
	return range.state;
}

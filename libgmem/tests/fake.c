/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fake.h"

#include <fcntl.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/memfd.h>

#define PAGE 4096ull
#define HUGE (2ull << 20)
#define MAX_OBJECTS 64
#define MAX_SLOTS 64
#define MAX_MAPS 256
#define MAX_GFN 65536 /* attributes are kept below that */
#define FD_BASE 5000
#define NAMES 40

#ifndef MPOL_PREFERRED_MANY
#define MPOL_PREFERRED_MANY 5
#endif

enum kind { FREE, VM, GUEST_MEMFD, MEMFD };

struct page {
	bool private, populated, pinned, poisoned;
	int node, value;
	int policy;
	unsigned long nodes;
};

struct slot {
	bool used;
	uint32_t id;
	uint64_t gpa, bytes, offset;
	int fd;
	uint64_t address; /* that KVM goes through; 0: none */
};

/* What descriptors that are linked have in common. */
struct inode {
	unsigned int refs;
	uint64_t bytes;
	int real; /* what mappings are made of */
	bool frozen, clone;
	struct page *pages;
};

struct object {
	enum kind kind;
	uint64_t flags;
	int vm;
	bool cloexec, huge, sealable, sealed;
	struct inode *inode; /* but for VMs */
	int type;	     /* of a VM */
	bool hypercalls;
	struct slot slots[MAX_SLOTS];
	bool *attributes;
};

struct map {
	void *address;
	size_t bytes;
	int fd;
	uint64_t offset;
	bool policy_set;
	int policy, prot;
	unsigned advice;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_can can;
static struct object objects[MAX_OBJECTS];
static struct map maps[MAX_MAPS];
static unsigned int allocations, left_allocations;
static unsigned int calls, fail_call, fail_alloc;
static int fail_error;
static bool has_failed;
static unsigned int misused; /* closed, or unmapped, what is not there */
static const char *failed_name = "";
static int failed_fd;
static uint64_t failed_offset, failed_gpa;
static const char *on_name;
static unsigned int on_n, on_times, on_seen;
static int on_error;
static struct {
	const char *name;
	unsigned int count;
	bool used;
} names[NAMES];
static unsigned int pin_tries;
static int said_mode = -1;
static unsigned int said_node;
static _Thread_local int task_policy;
static _Thread_local unsigned long task_nodes;
static uint64_t slept, clock_ns;

/* --- what the tests say and ask */

static void free_object(struct object *object)
{
	if (object->kind == FREE)
		return;
	if (object->inode && !--object->inode->refs) {
		close(object->inode->real);
		free(object->inode->pages);
		free(object->inode);
	}
	free(object->attributes);
	memset(object, 0, sizeof(*object));
}

void fake_begin(const struct fake_can *what)
{
	for (int i = 0; i < MAX_OBJECTS; i++)
		free_object(&objects[i]);
	memset(maps, 0, sizeof(maps));
	memset(names, 0, sizeof(names));
	can = *what;
	allocations = left_allocations = calls = fail_call = fail_alloc = 0;
	misused = 0;
	has_failed = false;
	failed_name = "";
	on_name = NULL;
	pin_tries = 0;
	said_mode = -1;
	task_policy = 0;
	task_nodes = 0;
	slept = 0;
	clock_ns = 1000000;
}

static unsigned int open_objects(void)
{
	unsigned int n = 0;

	for (int i = 0; i < MAX_OBJECTS; i++)
		n += objects[i].kind == GUEST_MEMFD || objects[i].kind == MEMFD;
	return n;
}

static unsigned int open_maps(void)
{
	unsigned int n = 0;

	for (int i = 0; i < MAX_MAPS; i++)
		n += maps[i].address != NULL;
	return n;
}

unsigned int fake_left(void)
{
	return open_objects() + open_maps() + left_allocations + misused;
}

const char *fake_left_what(void)
{
	static char text[120];

	snprintf(text, sizeof(text),
		 "%u descriptors, %u mappings, %u allocations; %u closed or unmapped in vain",
		 open_objects(), open_maps(), left_allocations, misused);
	return text;
}

static struct object *get(int fd)
{
	int i = fd - FD_BASE;

	return i >= 0 && i < MAX_OBJECTS && objects[i].kind != FREE ? &objects[i] : NULL;
}

static struct page *page_at(int fd, uint64_t offset)
{
	struct object *object = get(fd);

	if (!object || !object->inode || offset >= object->inode->bytes)
		abort();
	return &object->inode->pages[offset / PAGE];
}

static struct inode *new_inode(uint64_t bytes)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	inode->refs = 1;
	inode->bytes = bytes;
	if (bytes)
		inode->pages = calloc(bytes / PAGE, sizeof(struct page));
	inode->real = memfd_create("fake", MFD_CLOEXEC);
	if (bytes && ftruncate(inode->real, (off_t)bytes))
		abort();
	return inode;
}

/* inode is the new object's; NULL for a VM. */
static int new_object(enum kind kind, struct inode *inode)
{
	for (int i = 0; i < MAX_OBJECTS; i++) {
		struct object *object = &objects[i];

		if (object->kind != FREE)
			continue;
		object->kind = kind;
		object->inode = inode;
		return FD_BASE + i;
	}
	abort();
}

int fake_vm(void)
{
	int fd = new_object(VM, NULL);

	get(fd)->attributes = calloc(MAX_GFN, sizeof(bool));
	return fd;
}

void fake_vm_type(int fd, int type)
{
	get(fd)->type = type;
}

void fake_vm_close(int fd)
{
	free_object(get(fd));
}

void fake_fail_call(unsigned int n, int error)
{
	fail_call = n;
	fail_error = error;
	has_failed = false;
}

void fake_fail_alloc(unsigned int n)
{
	fail_alloc = n;
	has_failed = false;
}

bool fake_has_failed(void)
{
	return has_failed;
}

const char *fake_failed_call(void)
{
	return failed_name;
}

bool fake_failed_at(int *fd, uint64_t *offset)
{
	if (failed_fd < 0)
		return false;
	*fd = failed_fd;
	*offset = failed_offset;
	return true;
}

bool fake_failed_gpa(uint64_t *gpa)
{
	if (failed_gpa == GMEM_NOWHERE)
		return false;
	*gpa = failed_gpa;
	return true;
}

void fake_fail_on(const char *name, unsigned int n, unsigned int times, int error)
{
	on_name = name;
	on_n = n;
	on_times = times;
	on_error = error;
	on_seen = 0;
	has_failed = false;
}

unsigned int fake_calls(void)
{
	return calls;
}

unsigned int fake_allocations(void)
{
	return allocations;
}

unsigned int fake_calls_of(const char *name)
{
	for (int i = 0; i < NAMES && names[i].name; i++)
		if (!strcmp(names[i].name, name))
			return names[i].count;
	return 0;
}

void fake_names_begin(void)
{
	for (int i = 0; i < NAMES; i++)
		names[i].used = false;
}

bool fake_name_used(const char *name)
{
	for (int i = 0; i < NAMES && names[i].name; i++)
		if (!strcmp(names[i].name, name))
			return names[i].used;
	return false;
}

void fake_each_name(void (*seen)(void *data, const char *name), void *data)
{
	for (int i = 0; i < NAMES && names[i].name; i++)
		if (names[i].used)
			seen(data, names[i].name);
}

void fake_pin(int fd, uint64_t offset, bool pinned)
{
	page_at(fd, offset)->pinned = pinned;
}

void fake_poison(int fd, uint64_t offset, bool poisoned)
{
	page_at(fd, offset)->poisoned = poisoned;
}

void fake_pin_for(unsigned int tries)
{
	pin_tries = tries;
}

bool fake_private(int fd, uint64_t offset)
{
	return page_at(fd, offset)->private;
}

bool fake_populated(int fd, uint64_t offset)
{
	return page_at(fd, offset)->populated;
}

int fake_node(int fd, uint64_t offset)
{
	return page_at(fd, offset)->node;
}

bool fake_attribute(int vm, uint64_t gpa)
{
	return get(vm)->attributes[gpa / PAGE];
}

bool fake_slot(int vm, uint32_t id, uint64_t *gpa, uint64_t *bytes)
{
	struct object *object = get(vm);

	for (int i = 0; i < MAX_SLOTS; i++) {
		if (object->slots[i].used && object->slots[i].id == id) {
			*gpa = object->slots[i].gpa;
			*bytes = object->slots[i].bytes;
			return true;
		}
	}
	return false;
}

unsigned int fake_slots(int vm)
{
	unsigned int n = 0;

	for (int i = 0; i < MAX_SLOTS; i++)
		n += get(vm)->slots[i].used;
	return n;
}

bool fake_cloexec(int fd)
{
	return get(fd)->cloexec;
}

static struct map *map_of(const void *address, size_t bytes)
{
	for (int i = 0; i < MAX_MAPS; i++) {
		struct map *map = &maps[i];

		if (map->address && (const char *)address >= (char *)map->address &&
		    (const char *)address + bytes <= (char *)map->address + map->bytes)
			return map;
	}
	return NULL;
}

int fake_advice(const void *address, int advice)
{
	struct map *map = map_of(address, 1);

	return map && (map->advice >> advice & 1);
}

void fake_touch(int fd, uint64_t offset, int node)
{
	struct page *page = page_at(fd, offset);

	if (!page->populated) {
		page->populated = true;
		page->node = node;
	}
}

void fake_write(int fd, uint64_t offset, int value)
{
	fake_touch(fd, offset, 0);
	page_at(fd, offset)->value = value;
}

int fake_read(int fd, uint64_t offset)
{
	return page_at(fd, offset)->value;
}

void fake_policy_says(int mode, unsigned int node)
{
	said_mode = mode;
	said_node = node;
}

bool fake_hands_out_hypercalls(int vm)
{
	return get(vm)->hypercalls;
}

int fake_protection(const void *address)
{
	struct map *map = map_of(address, 1);

	return map ? map->prot : -1;
}

int fake_task_policy(unsigned long *nodes)
{
	*nodes = task_nodes;
	return task_policy;
}

uint64_t fake_slept(void)
{
	return slept;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	return (hash ^ value) * 0x9e3779b97f4a7c15ull + (hash >> 29);
}

uint64_t fake_digest(void)
{
	uint64_t hash = 1;

	for (int i = 0; i < MAX_OBJECTS; i++) {
		struct object *object = &objects[i];

		if (object->kind == FREE)
			continue;
		hash = mix(hash, (uint64_t)i);
		if (object->inode)
			hash = mix(hash, object->inode->frozen);
		for (uint64_t p = 0; object->inode && p < object->inode->bytes / PAGE; p++) {
			struct page *page = &object->inode->pages[p];

			hash = mix(hash, (uint64_t)page->private << 1 | page->populated);
			hash = mix(hash, (uint64_t)page->policy);
		}
		for (uint64_t p = 0; object->attributes && p < MAX_GFN; p++)
			hash = mix(hash, object->attributes[p]);
		for (int s = 0; s < MAX_SLOTS; s++)
			if (object->slots[s].used)
				hash = mix(hash, object->slots[s].gpa + object->slots[s].id);
	}
	hash = mix(hash, (uint64_t)task_policy);
	return mix(hash, task_nodes);
}

/* --- failures */

static void count(const char *name)
{
	for (int i = 0; i < NAMES; i++) {
		if (!names[i].name)
			names[i].name = name;
		if (!strcmp(names[i].name, name)) {
			names[i].count++;
			names[i].used = true;
			return;
		}
	}
	abort();
}

/* 0, or what this call fails with. */
static int call(const char *name)
{
	calls++;
	count(name);
	if (fail_call && --fail_call == 0) {
		has_failed = true;
		failed_name = name;
		failed_fd = -1;
		failed_gpa = GMEM_NOWHERE;
		return fail_error;
	}
	if (on_name && !strcmp(on_name, name) && ++on_seen >= on_n && on_seen < on_n + on_times) {
		has_failed = true;
		failed_name = name;
		return on_error;
	}
	return 0;
}

/* What a call was about that fails; the lock is held. */
static void failed_in_file(int fd, uint64_t offset)
{
	failed_fd = fd;
	failed_offset = offset;
}

static void failed_ioctl(int fd, unsigned long request, const void *arg)
{
	const struct kvm_userspace_memory_region2 *region = arg;

	switch (request) {
	case KVM_GMEM_CONVERT_SHARED:
	case KVM_GMEM_CONVERT_PRIVATE:
		failed_in_file(fd, ((const struct kvm_gmem_convert *)arg)->offset);
		break;
	case KVM_GMEM_GET_RANGES:
		failed_in_file(fd, ((const struct kvm_gmem_get_ranges *)arg)->offset);
		break;
	case KVM_SET_MEMORY_ATTRIBUTES2:
		failed_in_file(fd, ((const struct kvm_memory_attributes2 *)arg)->offset);
		break;
	case KVM_SET_MEMORY_ATTRIBUTES:
		failed_gpa = ((const struct kvm_memory_attributes *)arg)->address;
		break;
	case KVM_SET_USER_MEMORY_REGION: /* which begins as the other does */
	case KVM_SET_USER_MEMORY_REGION2:
		failed_gpa = region->guest_phys_addr;
		break;
	}
}

/* What a thread that is to be cancelled does not come back from, by POSIX. */
static void cancellation_point(const char *name)
{
	static const char *const points[] = {"close", "fallocate", "fcntl"};

	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		if (!strcmp(name, points[i]))
			pthread_testcancel();
}

#define ENTER(name)                                                                                \
	int r_;                                                                                    \
	cancellation_point(name);                                                                  \
	pthread_mutex_lock(&lock);                                                                 \
	r_ = call(name)

#define LEAVE(value)                                                                               \
	do {                                                                                       \
		int v_ = (value);                                                                  \
		pthread_mutex_unlock(&lock);                                                       \
		return v_;                                                                         \
	} while (0)

/* --- KVM */

static bool whole_pages(uint64_t offset, uint64_t bytes)
{
	return bytes && offset % PAGE == 0 && bytes % PAGE == 0 && offset + bytes > offset;
}

static int check_extension(uint64_t cap)
{
	switch (cap) {
	case KVM_CAP_USER_MEMORY:
		return 1;
	case KVM_CAP_USER_MEMORY2:
		return can.guest_memfd;
	case KVM_CAP_MEMORY_FAULT_INFO:
		return can.memory_fault;
	case KVM_CAP_MEMORY_ATTRIBUTES:
		return can.attributes ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
	case KVM_CAP_MULTI_ADDRESS_SPACE:
		return can.attributes || can.protected ? 1 : 2;
	case KVM_CAP_GUEST_MEMFD:
		return can.guest_memfd;
	case KVM_CAP_GUEST_MEMFD_FLAGS:
		return can.map ? 3 : 0;
	case KVM_CAP_EXIT_HYPERCALL:
		return can.map_gpa_range ? 1 << 12 : 0;
	case KVM_CAP_GMEM:
		return can.convert ? 31 | (can.link ? 96 : 0) : 0;
	default:
		return 0;
	}
}

static int create(int vm, const struct kvm_create_guest_memfd *args)
{
	int fd;

	if (!can.guest_memfd || can.compiled_out)
		return -ENOTTY;
	if (can.no_init_shared && args->flags & GUEST_MEMFD_FLAG_INIT_SHARED)
		return -EINVAL;
	if ((args->flags & ~3ull) || (args->flags && !can.map) || !whole_pages(0, args->size))
		return -EINVAL;
	fd = new_object(GUEST_MEMFD, new_inode(args->size));
	get(fd)->flags = args->flags;
	get(fd)->vm = vm;
	for (uint64_t p = 0; p < args->size / PAGE; p++)
		get(fd)->inode->pages[p].private = !(args->flags & GUEST_MEMFD_FLAG_INIT_SHARED);
	return fd;
}

static int link_or_clone(int vm, const struct kvm_gmem_link *args, bool clone)
{
	struct object *from = get((int)args->fd);
	struct inode *inode;
	int fd;

	if (!can.link)
		return -ENOTTY;
	if (!from)
		return -EBADF;
	if (args->flags || from->kind != GUEST_MEMFD || get(vm)->type != get(from->vm)->type ||
	    (clone && !from->inode->frozen))
		return -EINVAL;
	if (clone) {
		inode = new_inode(from->inode->bytes);
		inode->clone = true;
		for (uint64_t p = 0; p < inode->bytes / PAGE; p++)
			inode->pages[p].private = from->inode->pages[p].private;
	} else {
		inode = from->inode;
		inode->refs++;
	}
	fd = new_object(GUEST_MEMFD, inode);
	get(fd)->flags = from->flags;
	get(fd)->vm = vm;
	return fd;
}

static int freeze(struct object *file, struct kvm_gmem_freeze *args)
{
	if (!(file->flags & GUEST_MEMFD_FLAG_MMAP) || !can.link)
		return -ENOTTY;
	args->error_offset = 0;
	if (args->flags)
		return -EINVAL;
	if (file->inode->clone)
		return -EOPNOTSUPP;
	for (uint64_t p = 0; p < file->inode->bytes / PAGE; p++) {
		args->error_offset = p * PAGE;
		if (file->inode->pages[p].poisoned)
			return -EHWPOISON;
		if (file->inode->pages[p].pinned)
			return -EAGAIN;
	}
	file->inode->frozen = true;
	return 0;
}

static int check_guest_memfd(int vm, const struct kvm_userspace_memory_region2 *args,
			     const struct map *map)
{
	const struct object *memory = get((int)args->guest_memfd);

	if (!memory)
		return -EBADF;
	if (memory->kind != GUEST_MEMFD || memory->vm != vm ||
	    !whole_pages(args->guest_memfd_offset, args->memory_size) ||
	    args->guest_memfd_offset + args->memory_size > memory->inode->bytes)
		return -EINVAL;
	/* Where attributes rule, what is shared is behind that address. */
	if (!(memory->flags & GUEST_MEMFD_FLAG_MMAP) && !map)
		return -EFAULT;
	/* KVM's own accesses go through it: it has to be this memory. Ours needs no address. */
	if (memory->flags & GUEST_MEMFD_FLAG_MMAP && can.attributes2 && !can.convert &&
	    (!map || map->fd != (int)args->guest_memfd ||
	     map->offset + (args->userspace_addr - (uintptr_t)map->address) !=
		     args->guest_memfd_offset))
		return -EFAULT;
	return 0;
}

static int set_region(int fd, const struct kvm_userspace_memory_region2 *args)
{
	struct object *vm = get(fd);
	struct slot *slot = NULL, *free_slot = NULL;
	const struct map *map;

	for (int i = 0; i < MAX_SLOTS; i++) {
		struct slot *s = &vm->slots[i];

		if (!s->used)
			free_slot = s;
		else if (s->id == args->slot)
			slot = s;
	}
	if (!args->memory_size) {
		if (!slot)
			return -EINVAL;
		slot->used = false;
		return 0;
	}
	if (!whole_pages(args->guest_phys_addr, args->memory_size) || args->userspace_addr % PAGE ||
	    args->flags & ~KVM_MEM_GUEST_MEMFD || slot)
		return -EINVAL;
	/* First of all, as KVM does: before it looks for the file. */
	for (int i = 0; i < MAX_SLOTS; i++) {
		struct slot *s = &vm->slots[i];

		if (s->used && s->id >> 16 == args->slot >> 16 &&
		    s->gpa < args->guest_phys_addr + args->memory_size &&
		    args->guest_phys_addr < s->gpa + s->bytes)
			return -EEXIST;
	}
	map = map_of((void *)(uintptr_t)args->userspace_addr, args->memory_size);
	if (args->flags) {
		int r = check_guest_memfd(fd, args, map);

		if (r)
			return r;
	} else if (!map) {
		return -EFAULT;
	}
	for (int i = 0; i < MAX_SLOTS; i++) {
		struct slot *s = &vm->slots[i];

		if (s->used && args->flags && s->fd == (int)args->guest_memfd &&
		    s->offset < args->guest_memfd_offset + args->memory_size &&
		    args->guest_memfd_offset < s->offset + s->bytes)
			return -EINVAL;
	}
	if (!free_slot)
		return -ENOMEM;
	*free_slot = (struct slot){true,
				   args->slot,
				   args->guest_phys_addr,
				   args->memory_size,
				   args->guest_memfd_offset,
				   args->flags ? (int)args->guest_memfd : -1,
				   args->userspace_addr};
	return 0;
}

static int set_old_region(int fd, const struct kvm_userspace_memory_region *args)
{
	const struct kvm_userspace_memory_region2 region = {
		.slot = args->slot,
		.flags = args->flags,
		.guest_phys_addr = args->guest_phys_addr,
		.memory_size = args->memory_size,
		.userspace_addr = args->userspace_addr,
	};

	return args->flags ? -EINVAL : set_region(fd, &region);
}

static int set_attributes(struct object *vm, const struct kvm_memory_attributes *args)
{
	if (!can.guest_memfd)
		return -ENOTTY;
	if (args->flags || !whole_pages(args->address, args->size) ||
	    (args->attributes & ~(can.attributes ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0ull)))
		return -EINVAL;
	for (uint64_t gfn = args->address / PAGE; gfn < (args->address + args->size) / PAGE; gfn++)
		if (gfn < MAX_GFN)
			vm->attributes[gfn] = args->attributes != 0;
	return 0;
}

static bool file_range(const struct object *file, uint64_t offset, uint64_t bytes)
{
	return whole_pages(offset, bytes) && offset + bytes <= file->inode->bytes;
}

/* All of a range, or nothing; *bad is what is in the way. */
static int change(struct inode *inode, uint64_t offset, uint64_t bytes, bool private, bool zero,
		  uint64_t *bad)
{
	uint64_t first = offset / PAGE, end = (offset + bytes) / PAGE;

	for (uint64_t p = first; p < end; p++) {
		struct page *page = &inode->pages[p];

		*bad = p * PAGE;
		if (page->private == private)
			continue;
		if (page->poisoned && (private || zero))
			return -EHWPOISON;
		if (page->pinned && private) {
			if (pin_tries && --pin_tries == 0)
				page->pinned = false;
			return -EAGAIN;
		}
	}
	for (uint64_t p = first; p < end; p++) {
		struct page *page = &inode->pages[p];

		if (page->private != private && zero)
			page->value = 0;
		page->private = private;
	}
	return 0;
}

static int convert(struct object *file, struct kvm_gmem_convert *args, bool private)
{
	uint64_t bad;
	int r;

	if (!(file->flags & GUEST_MEMFD_FLAG_MMAP) || !can.convert)
		return -ENOTTY;
	args->error_offset = args->offset;
	if (!file_range(file, args->offset, args->size) ||
	    (args->flags & ~(private ? 0 : KVM_GMEM_CONVERT_ZERO)))
		return -EINVAL;
	if (args->flags && file->inode->clone)
		return -EOPNOTSUPP;
	if (file->inode->frozen)
		return -EPERM;
	r = change(file->inode, args->offset, args->size, private, args->flags, &bad);
	if (r)
		args->error_offset = bad;
	return r;
}

/* Mainline's: by file, no ZERO, and only where the type of the VM has private memory. */
static int set_attributes2(struct object *file, struct kvm_memory_attributes2 *args)
{
	const bool private = args->attributes == KVM_MEMORY_ATTRIBUTE_PRIVATE;
	uint64_t reserved = 0, bad;
	int r;

	if (!(file->flags & GUEST_MEMFD_FLAG_MMAP) || !can.attributes2)
		return -ENOTTY;
	for (size_t i = 0; i < sizeof(args->reserved) / sizeof(args->reserved[0]); i++)
		reserved |= args->reserved[i];
	if (args->flags || reserved || (args->attributes && (!private || !can.protected)) ||
	    !file_range(file, args->offset, args->size))
		return -EINVAL;
	r = change(file->inode, args->offset, args->size, private, false, &bad);
	if (r == -EAGAIN)
		args->error_offset = bad;
	return r;
}

static int get_ranges(struct object *file, struct kvm_gmem_get_ranges *args)
{
	struct kvm_gmem_range *out = (void *)(uintptr_t)args->ranges;
	uint64_t at = args->offset / PAGE, end = (args->offset + args->size) / PAGE;
	bool by_node = args->flags & KVM_GMEM_RANGES_BY_NODE;
	uint32_t nr;

	if (!(file->flags & GUEST_MEMFD_FLAG_MMAP) || !can.ranges)
		return -ENOTTY;
	if (!args->nr || !file_range(file, args->offset, args->size))
		return -EINVAL;
	for (nr = 0; nr < args->nr && at < end; nr++) {
		struct page *first = &file->inode->pages[at];
		struct kvm_gmem_range r = {.offset = at * PAGE, .node = KVM_GMEM_NODE_NONE};

		r.flags = first->private ? KVM_GMEM_RANGE_PRIVATE : 0;
		for (; at < end; at++) {
			struct page *page = &file->inode->pages[at];

			if (page->private != first->private)
				break;
			if (by_node && (page->populated != first->populated ||
					(page->populated && page->node != first->node)))
				break;
			r.size += PAGE;
			if (!page->populated)
				continue;
			if (!r.populated)
				r.node = page->node;
			else if (r.node != page->node)
				r.node = KVM_GMEM_NODE_MIXED;
			r.populated += PAGE;
		}
		out[nr] = r;
	}
	args->nr = nr;
	args->size = (end - at) * PAGE;
	args->offset = at * PAGE;
	return 0;
}

static const char *request_name(unsigned long request)
{
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return "KVM_CHECK_EXTENSION";
	case KVM_GET_API_VERSION:
		return "KVM_GET_API_VERSION";
	case KVM_ENABLE_CAP:
		return "KVM_ENABLE_CAP";
	case KVM_CREATE_GUEST_MEMFD:
		return "KVM_CREATE_GUEST_MEMFD";
	case KVM_SET_USER_MEMORY_REGION:
		return "KVM_SET_USER_MEMORY_REGION";
	case KVM_SET_USER_MEMORY_REGION2:
		return "KVM_SET_USER_MEMORY_REGION2";
	case KVM_SET_MEMORY_ATTRIBUTES:
		return "KVM_SET_MEMORY_ATTRIBUTES";
	case KVM_SET_MEMORY_ATTRIBUTES2:
		return "KVM_SET_MEMORY_ATTRIBUTES2";
	case KVM_GMEM_CONVERT_SHARED:
		return "KVM_GMEM_CONVERT_SHARED";
	case KVM_GMEM_CONVERT_PRIVATE:
		return "KVM_GMEM_CONVERT_PRIVATE";
	case KVM_GMEM_GET_RANGES:
		return "KVM_GMEM_GET_RANGES";
	case KVM_GMEM_FREEZE:
		return "KVM_GMEM_FREEZE";
	case KVM_GMEM_LINK:
		return "KVM_GMEM_LINK";
	case KVM_GMEM_CLONE:
		return "KVM_GMEM_CLONE";
	default:
		abort(); /* the list of what the library may ask for */
	}
}

static int do_ioctl(int fd, unsigned long request, void *arg)
{
	struct object *object = get(fd);

	if (!object)
		return -EBADF;
	if (object->kind == VM) {
		switch (request) {
		case KVM_CHECK_EXTENSION:
			return check_extension((uintptr_t)arg);
		case KVM_ENABLE_CAP: {
			const struct kvm_enable_cap *cap = arg;

			if (cap->cap != KVM_CAP_EXIT_HYPERCALL || !can.map_gpa_range ||
			    cap->args[0] != 1 << 12 || cap->flags)
				return -EINVAL;
			object->hypercalls = true;
			return 0;
		}
		case KVM_CREATE_GUEST_MEMFD:
			return create(fd, arg);
		case KVM_SET_USER_MEMORY_REGION:
			return set_old_region(fd, arg);
		case KVM_SET_USER_MEMORY_REGION2:
			return can.guest_memfd ? set_region(fd, arg) : -ENOTTY;
		case KVM_SET_MEMORY_ATTRIBUTES:
			return set_attributes(object, arg);
		case KVM_GMEM_LINK:
		case KVM_GMEM_CLONE:
			return link_or_clone(fd, arg, request == KVM_GMEM_CLONE);
		default:
			return -ENOTTY;
		}
	}
	if (object->kind != GUEST_MEMFD)
		return -ENOTTY;
	switch (request) {
	case KVM_GMEM_CONVERT_SHARED:
	case KVM_GMEM_CONVERT_PRIVATE:
		return convert(object, arg, request == KVM_GMEM_CONVERT_PRIVATE);
	case KVM_SET_MEMORY_ATTRIBUTES2:
		return set_attributes2(object, arg);
	case KVM_GMEM_GET_RANGES:
		return get_ranges(object, arg);
	case KVM_GMEM_FREEZE:
		return freeze(object, arg);
	default:
		return -ENOTTY;
	}
}

static int fake_ioctl(int fd, unsigned long request, void *arg)
{
	ENTER(request_name(request));
	if (r_)
		failed_ioctl(fd, request, arg);
	LEAVE(r_ ? r_ : do_ioctl(fd, request, arg));
}

/* --- files */

static int fake_close(int fd)
{
	ENTER("close");
	/* It is closed even where close() fails. VMs are not the library's to close. */
	if (!get(fd) || get(fd)->kind == VM) {
		misused++;
		LEAVE(-EBADF);
	}
	for (int i = 0; i < MAX_OBJECTS; i++)
		for (int s = 0; objects[i].kind == VM && s < MAX_SLOTS; s++)
			if (objects[i].slots[s].used && objects[i].slots[s].fd == fd)
				objects[i].slots[s].fd = -1;
	free_object(get(fd));
	LEAVE(r_);
}

static int fake_set_cloexec(int fd)
{
	ENTER("fcntl");
	if (!r_ && !get(fd))
		r_ = -EBADF;
	if (!r_)
		get(fd)->cloexec = true;
	LEAVE(r_);
}

static int fake_memfd_create(const char *name, unsigned int flags)
{
	int fd;

	ENTER("memfd_create");
	(void)name;
	/* Huge pages of 2 MiB, and no others. */
	if (!r_ && flags & ~MFD_ALLOW_SEALING &&
	    (flags & ~MFD_ALLOW_SEALING) != (MFD_HUGETLB | 21u << MFD_HUGE_SHIFT))
		r_ = -ENODEV;
	if (r_)
		LEAVE(r_);
	fd = new_object(MEMFD, new_inode(0));
	get(fd)->cloexec = true;
	get(fd)->huge = flags & MFD_HUGETLB;
	get(fd)->sealable = flags & MFD_ALLOW_SEALING;
	LEAVE(fd);
}

static int fake_ftruncate(int fd, uint64_t bytes)
{
	struct object *file;

	ENTER("ftruncate");
	file = get(fd);
	if (r_ || !file || file->kind != MEMFD)
		LEAVE(r_ ? r_ : -EINVAL);
	if (file->sealed)
		LEAVE(-EPERM);
	free(file->inode->pages);
	file->inode->pages = calloc(bytes / PAGE, sizeof(struct page));
	file->inode->bytes = bytes;
	LEAVE(ftruncate(file->inode->real, (off_t)bytes) ? -errno : 0);
}

static int fake_add_seals(int fd, int seals)
{
	struct object *file;

	ENTER("fcntl");
	file = get(fd);
	if (r_ || !file || file->kind != MEMFD)
		LEAVE(r_ ? r_ : -EINVAL);
	if (!file->sealable || file->sealed)
		LEAVE(-EPERM);
	/* All that matter together, or it is not known here. */
	if (seals != (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		LEAVE(-EINVAL);
	file->sealed = true;
	LEAVE(0);
}

static int first_node(unsigned long nodes)
{
	return nodes ? __builtin_ctzl(nodes) : 0;
}

static void populate(struct page *page)
{
	if (page->populated)
		return;
	page->populated = true;
	page->node = first_node(page->policy ? page->nodes : task_policy ? task_nodes : 0);
}

static int fake_allocated(int fd, uint64_t *bytes)
{
	struct object *file;

	ENTER("fstat");
	file = get(fd);
	if (!r_ && (!file || file->kind != MEMFD))
		r_ = -EBADF;
	if (r_)
		LEAVE(r_);
	*bytes = 0;
	for (uint64_t p = 0; p < file->inode->bytes / PAGE; p++)
		*bytes += file->inode->pages[p].populated ? PAGE : 0;
	LEAVE(0);
}

static int fake_fallocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
	struct object *file;

	ENTER("fallocate");
	if (r_)
		failed_in_file(fd, offset);
	file = get(fd);
	if (!r_ && !file)
		r_ = -EBADF;
	if (!r_ && !(mode & FALLOC_FL_KEEP_SIZE))
		r_ = -EOPNOTSUPP;
	if (!r_ && (mode & FALLOC_FL_ZERO_RANGE) &&
	    (!can.zero || !(file->flags & GUEST_MEMFD_FLAG_MMAP)))
		r_ = -EOPNOTSUPP;
	if (!r_ && !file_range(file, offset, bytes))
		r_ = -EINVAL;
	if (!r_ && file->inode->frozen)
		r_ = -EPERM;
	if (r_)
		LEAVE(r_);
	for (uint64_t p = offset / PAGE; p < (offset + bytes) / PAGE; p++) {
		struct page *page = &file->inode->pages[p];

		if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
			page->value = 0;
		if (mode & FALLOC_FL_PUNCH_HOLE)
			page->populated = page->poisoned = false;
		else if (!(mode & FALLOC_FL_ZERO_RANGE))
			populate(page);
	}
	LEAVE(0);
}

/* --- mappings */

static int fake_mmap(int fd, uint64_t offset, size_t bytes, int prot, void **address)
{
	struct object *file;
	void *at;

	ENTER("mmap");
	file = get(fd);
	if (!r_ && !file)
		r_ = -EBADF;
	if (!r_ && (file->kind == VM ||
		    (file->kind == GUEST_MEMFD && !(file->flags & GUEST_MEMFD_FLAG_MMAP))))
		r_ = -ENODEV;
	if (r_)
		LEAVE(r_);
	if (file->huge && (offset | bytes) % HUGE)
		LEAVE(-EINVAL);
	at = mmap(NULL, bytes, prot, MAP_SHARED, file->inode->real, (off_t)offset);
	if (at == MAP_FAILED)
		LEAVE(-errno);
	for (int i = 0; i < MAX_MAPS; i++) {
		if (!maps[i].address) {
			maps[i] = (struct map){.address = at,
					       .bytes = bytes,
					       .fd = fd,
					       .offset = offset,
					       .prot = prot};
			*address = at;
			LEAVE(0);
		}
	}
	abort();
}

/* What is unmapped under KVM the guest would write to, whatever comes there. */
static void check_unused(uint64_t address, uint64_t bytes)
{
	for (int i = 0; i < MAX_OBJECTS; i++)
		for (int s = 0; objects[i].kind == VM && s < MAX_SLOTS; s++)
			misused +=
				objects[i].slots[s].used && objects[i].slots[s].address &&
				objects[i].slots[s].address < address + bytes &&
				address < objects[i].slots[s].address + objects[i].slots[s].bytes;
}

static int fake_munmap(void *address, size_t bytes)
{
	ENTER("munmap");
	(void)r_;
	check_unused((uintptr_t)address, bytes);
	for (int i = 0; i < MAX_MAPS; i++) {
		if (maps[i].address == address && maps[i].bytes == bytes) {
			munmap(address, bytes);
			maps[i].address = NULL;
			LEAVE(0);
		}
	}
	misused++;
	LEAVE(-EINVAL);
}

static int fake_madvise(void *address, size_t bytes, int advice)
{
	struct map *map;

	ENTER("madvise");
	map = map_of(address, bytes);
	if (!r_ && !map)
		r_ = -ENOMEM;
	if (!r_ && advice < 32)
		map->advice |= 1u << advice;
	LEAVE(r_);
}

/* --- NUMA */

static bool good_nodes(const unsigned long *nodes)
{
	return nodes && nodes[0] && !(nodes[0] >> FAKE_MAX_NODES);
}

/* As Linux, whose mappings of huge pages do not hand their policy to the file. */
static bool keeps_policy(const struct object *file)
{
	return file->kind == MEMFD ? !file->huge : can.policy;
}

static int fake_mbind(void *address, size_t bytes, int mode, const unsigned long *nodes,
		      unsigned long max)
{
	struct map *map;

	(void)max;
	ENTER("mbind");
	map = map_of(address, bytes);
	if (!can.numa)
		r_ = -ENOSYS;
	if (!r_ && !map)
		r_ = -EFAULT;
	if (!r_ && mode != MPOL_DEFAULT && mode != MPOL_LOCAL && !good_nodes(nodes))
		r_ = -EINVAL;
	if (r_)
		LEAVE(r_);
	/* As the kernel: what the mapping has already does not reach the file. */
	if (mode == MPOL_DEFAULT && !map->policy_set)
		LEAVE(0);
	map->policy_set = mode != MPOL_DEFAULT;
	map->policy = mode;
	if (keeps_policy(get(map->fd))) {
		uint64_t first =
			(map->offset + (uint64_t)((char *)address - (char *)map->address)) / PAGE;

		for (uint64_t p = first; p < first + bytes / PAGE; p++) {
			get(map->fd)->inode->pages[p].policy = mode;
			get(map->fd)->inode->pages[p].nodes = nodes ? nodes[0] : 0;
		}
	}
	LEAVE(0);
}

static int fake_get_mempolicy(int *mode, unsigned long *nodes, unsigned long max, void *address,
			      unsigned long flags)
{
	int policy = task_policy;
	unsigned long mask = task_nodes;

	ENTER("get_mempolicy");
	if (!can.numa)
		r_ = -ENOSYS;
	if (r_)
		LEAVE(r_);
	if (flags & MPOL_F_MEMS_ALLOWED) {
		mask = (1ul << FAKE_MAX_NODES) - 1;
		policy = 0;
	} else if (flags & MPOL_F_ADDR) {
		struct map *map = map_of(address, 1);
		struct page *page;

		if (!map)
			LEAVE(-EFAULT);
		page = page_at(map->fd,
			       map->offset + (uint64_t)((char *)address - (char *)map->address));
		policy = map->policy;
		mask = 0;
		if (keeps_policy(get(map->fd))) {
			policy = page->policy;
			mask = page->nodes;
		}
		if (said_mode >= 0)
			policy = said_mode;
	}
	if (mode)
		*mode = policy;
	if (nodes) {
		memset(nodes, 0, (max + 7) / 8);
		nodes[0] = mask;
		if (said_mode >= 0 && flags & MPOL_F_ADDR)
			nodes[said_node / 64] |= 1ul << said_node % 64;
	}
	LEAVE(0);
}

static int fake_set_mempolicy(int mode, const unsigned long *nodes, unsigned long max)
{
	(void)max;
	ENTER("set_mempolicy");
	if (!can.numa)
		r_ = -ENOSYS;
	if (!r_ && mode != MPOL_DEFAULT && !good_nodes(nodes))
		r_ = -EINVAL;
	if (r_)
		LEAVE(r_);
	task_policy = mode;
	task_nodes = nodes && mode ? nodes[0] : 0;
	LEAVE(0);
}

static int fake_page_nodes(void **pages, unsigned long n, int *nodes)
{
	ENTER("move_pages");
	if (!can.numa)
		r_ = -ENOSYS;
	if (r_)
		LEAVE(r_);
	for (unsigned long i = 0; i < n; i++) {
		struct map *map = map_of(pages[i], 1);
		struct page *page;

		if (!map)
			LEAVE(-EFAULT);
		page = page_at(map->fd,
			       map->offset + (uint64_t)((char *)pages[i] - (char *)map->address));
		nodes[i] = page->populated ? page->node : -ENOENT;
	}
	LEAVE(0);
}

static int fake_cachestat(int fd, uint64_t offset, uint64_t bytes, uint64_t *pages)
{
	struct object *file;
	uint64_t n = 0;

	ENTER("cachestat");
	file = get(fd);
	if (!r_ && !file)
		r_ = -EBADF;
	if (!r_ && file->huge)
		r_ = -EOPNOTSUPP;
	if (r_)
		LEAVE(r_);
	/* As the kernel: 0 bytes are all that follow. */
	if (!bytes)
		bytes = file->inode->bytes - offset;
	for (uint64_t p = offset / PAGE;
	     p < (offset + bytes) / PAGE && p < file->inode->bytes / PAGE; p++)
		n += file->inode->pages[p].populated;
	*pages = n;
	LEAVE(0);
}

/* --- time and memory */

static uint64_t fake_now(void)
{
	uint64_t now;

	pthread_mutex_lock(&lock);
	count("clock_gettime");
	now = clock_ns += 1000;
	pthread_mutex_unlock(&lock);
	return now;
}

static void fake_pause(uint64_t ns)
{
	pthread_testcancel();
	pthread_mutex_lock(&lock);
	count("clock_nanosleep");
	slept += ns;
	clock_ns += ns;
	pthread_mutex_unlock(&lock);
}

static void *fake_alloc(size_t n, size_t size)
{
	void *mem = NULL;

	pthread_mutex_lock(&lock);
	allocations++;
	if (fail_alloc && --fail_alloc == 0)
		has_failed = true;
	else
		mem = calloc(n, size);
	left_allocations += mem != NULL;
	pthread_mutex_unlock(&lock);
	return mem;
}

static void fake_release(void *mem)
{
	pthread_mutex_lock(&lock);
	left_allocations -= mem != NULL;
	pthread_mutex_unlock(&lock);
	free(mem);
}

const struct gmem_sys fake_sys = {
	.ioctl = fake_ioctl,
	.close = fake_close,
	.set_cloexec = fake_set_cloexec,
	.memfd_create = fake_memfd_create,
	.ftruncate = fake_ftruncate,
	.add_seals = fake_add_seals,
	.allocated = fake_allocated,
	.fallocate = fake_fallocate,
	.mmap = fake_mmap,
	.munmap = fake_munmap,
	.madvise = fake_madvise,
	.mbind = fake_mbind,
	.get_mempolicy = fake_get_mempolicy,
	.set_mempolicy = fake_set_mempolicy,
	.page_nodes = fake_page_nodes,
	.cachestat = fake_cachestat,
	.now = fake_now,
	.pause = fake_pause,
	.alloc = fake_alloc,
	.release = fake_release,
};

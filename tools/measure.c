/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "ctl.h"
#include "kvm.h"
#include "measure.h"

#define MAX_ROUNDS 1000u
#define MIN_ROUNDS 3u
#define ENOUGH_NS 300000000u /* of one figure */
#define HUGE (2u << 20)
#define MAX_NODES 1024

/* What is measured, and on what. */
struct bench {
	struct kvm_vm vm;
	struct gmem *memory;
	unsigned char *map;
	uint64_t size, page;
	uint32_t mode;
	int vcpu; /* -1: none, and why_no_vcpu */
	char why_no_vcpu[MEASURE_REASON];
	struct gmem_error error;
};

/*
 * One figure: prepare is not timed, run is. They return 0, or a negative errno with
 * bench->error written.
 */
struct task {
	int (*prepare)(struct bench *bench, const struct task *task);
	int (*run)(struct bench *bench, const struct task *task);
	uint64_t bytes;
	uint32_t state;
	int node;
};

static double now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int failed(struct bench *bench, int error, const char *what)
{
	snprintf(bench->error.message, sizeof(bench->error.message), "%s: %s", what,
		 strerror(-error));
	return error;
}

static int refused(struct bench *bench, const char *why)
{
	snprintf(bench->error.message, sizeof(bench->error.message), "%s", why);
	return -EOPNOTSUPP;
}

/* --- what is done to memory */

static void touch(struct bench *bench, uint64_t bytes)
{
	uint64_t at;

	for (at = 0; at < bytes; at += bench->page)
		*(volatile unsigned char *)(bench->map + at) = 1;
}

static int convert(struct bench *bench, uint64_t bytes, uint32_t state)
{
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;

	/* A page can be in use for a moment. */
	options.attempts = 10;
	options.pause_us = 100;
	return gmem_convert_offset(bench->memory, 0, bytes, state, &options, NULL, &bench->error);
}

/* All of it in a state, with no memory; shared where there is nothing else. */
static int empty(struct bench *bench, uint32_t state)
{
	int r = 0;

	if (!gmem_vm_why_not(bench->vm.vm, GMEM_CAP_PRIVATE))
		r = convert(bench, bench->size, state);
	if (!r)
		r = gmem_discard(bench->memory, 0, bench->size, &bench->error);
	return r;
}

static int bind(struct bench *bench)
{
	return gmem_bind(bench->memory, 0, 0, 0, bench->size, &bench->error);
}

/* As it is before a conversion: there, and mapped where it can be. */
static int prepare_convert(struct bench *bench, const struct task *task)
{
	int r = convert(bench, task->bytes, GMEM_STATE_SHARED);

	if (r)
		return r;
	touch(bench, task->bytes);
	if (task->state == GMEM_STATE_SHARED)
		r = convert(bench, task->bytes, GMEM_STATE_PRIVATE);
	return r;
}

static int run_convert(struct bench *bench, const struct task *task)
{
	return convert(bench, task->bytes, task->state);
}

static int prepare_host_new(struct bench *bench, const struct task *task)
{
	(void)task;
	return empty(bench, GMEM_STATE_SHARED);
}

/* The memory is there; the mapping of it went with the conversion. */
static int prepare_host_again(struct bench *bench, const struct task *task)
{
	int r = convert(bench, task->bytes, GMEM_STATE_SHARED);

	if (r)
		return r;
	touch(bench, task->bytes);
	r = convert(bench, task->bytes, GMEM_STATE_PRIVATE);
	return r ? r : convert(bench, task->bytes, GMEM_STATE_SHARED);
}

static int run_host(struct bench *bench, const struct task *task)
{
	touch(bench, task->bytes);
	return 0;
}

static int prepare_guest_new(struct bench *bench, const struct task *task)
{
	(void)task;
	if (bench->vcpu < 0)
		return refused(bench, bench->why_no_vcpu);
	return empty(bench, GMEM_STATE_PRIVATE);
}

static int run_guest(struct bench *bench, const struct task *task)
{
	struct kvm_pre_fault_memory fault = {.gpa = 0, .size = task->bytes};

	while (fault.size)
		if (ioctl(bench->vcpu, KVM_PRE_FAULT_MEMORY, &fault) < 0 && errno != EINTR &&
		    errno != EAGAIN)
			return failed(bench, -errno, "KVM_PRE_FAULT_MEMORY");
	return 0;
}

/*
 * The memory is there; the guest's mapping of it went with the conversion. Taking the slot
 * away would do as well, but after that KVM_PRE_FAULT_MEMORY of some kernels never ends.
 */
static int prepare_guest_again(struct bench *bench, const struct task *task)
{
	int r;

	if (bench->mode == GMEM_MODE_DUAL)
		return refused(bench, "Conversion frees the memory in dual mode.");
	r = prepare_guest_new(bench, task);
	if (!r)
		r = run_guest(bench, task);
	if (!r)
		r = convert(bench, task->bytes, GMEM_STATE_SHARED);
	return r ? r : convert(bench, task->bytes, GMEM_STATE_PRIVATE);
}

static int prepare_place(struct bench *bench, const struct task *task)
{
	long long free_bytes;

	/* Rather than have others killed for the want of it. */
	if (numa_node_size64(task->node, &free_bytes) < 0 ||
	    free_bytes < 2 * (long long)task->bytes)
		return failed(bench, -ENOMEM, "the node has too little that is free");
	return empty(bench, GMEM_STATE_PRIVATE);
}

static int run_place(struct bench *bench, const struct task *task)
{
	struct bitmask *nodes = numa_allocate_nodemask();
	int r;

	numa_bitmask_setbit(nodes, (unsigned int)task->node);
	r = gmem_prealloc(bench->memory, 0, task->bytes, nodes, NULL, NULL, &bench->error);
	numa_bitmask_free(nodes);
	return r;
}

/* Placed is what is on that node; where the kernel does not tell, it is believed. */
static int check_place(struct bench *bench, const struct task *task)
{
	uint64_t on[MAX_NODES];
	int r = gmem_placement(bench->memory, 0, task->bytes, on, MAX_NODES, NULL);

	if (r < 0 || on[task->node] == task->bytes)
		return 0;
	snprintf(bench->error.message, sizeof(bench->error.message),
		 "of %" PRIu64 " bytes, %" PRIu64 " are on the node", task->bytes, on[task->node]);
	return -EXDEV;
}

/* --- measuring */

static int by_value(const void *a, const void *b)
{
	const double one = *(const double *)a, two = *(const double *)b;

	return (one > two) - (one < two);
}

static void measure_one(struct bench *bench, const struct task *task, struct figure *figure)
{
	double *took = must_alloc(malloc(MAX_ROUNDS * sizeof(*took))), begin = now_ns(), at;
	unsigned int n = 0;
	int r = 0;

	figure->bytes = task->bytes;
	bench->error = (struct gmem_error)GMEM_ERROR_INIT;
	while (n < MAX_ROUNDS && (n < MIN_ROUNDS || now_ns() - begin < ENOUGH_NS)) {
		r = task->prepare(bench, task);
		if (r)
			break;
		at = now_ns();
		r = task->run(bench, task);
		took[n] = now_ns() - at;
		if (r == -EINTR)
			continue;
		if (r)
			break;
		n++;
	}
	if (!r && task->node >= 0)
		r = check_place(bench, task);
	if (r) {
		snprintf(figure->why, sizeof(figure->why), "%s", bench->error.message);
	} else {
		qsort(took, n, sizeof(*took), by_value);
		figure->rounds = n;
		figure->least_ns = took[0];
		figure->median_ns = took[n / 2];
	}
	free(took);
}

static const struct {
	const char *id, *name;
	struct task task; /* bytes 0: all of the memory */
} figures[] = {
	{"convert_private_page",
	 "convert to private, a page",
	 {prepare_convert, run_convert, 1, GMEM_STATE_PRIVATE, -1}},
	{"convert_shared_page",
	 "convert to shared, a page",
	 {prepare_convert, run_convert, 1, GMEM_STATE_SHARED, -1}},
	{"convert_private_2m",
	 "convert to private, 2M",
	 {prepare_convert, run_convert, HUGE, GMEM_STATE_PRIVATE, -1}},
	{"convert_shared_2m",
	 "convert to shared, 2M",
	 {prepare_convert, run_convert, HUGE, GMEM_STATE_SHARED, -1}},
	{"convert_private_all",
	 "convert to private, all",
	 {prepare_convert, run_convert, 0, GMEM_STATE_PRIVATE, -1}},
	{"convert_shared_all",
	 "convert to shared, all",
	 {prepare_convert, run_convert, 0, GMEM_STATE_SHARED, -1}},
	{"host_fault_new", "host fault, new memory", {prepare_host_new, run_host, 0, 0, -1}},
	{"host_fault_again",
	 "host fault, converted memory",
	 {prepare_host_again, run_host, 0, 0, -1}},
	{"guest_fault_new", "guest fault, new memory", {prepare_guest_new, run_guest, 0, 0, -1}},
	{"guest_fault_again",
	 "guest fault, converted memory",
	 {prepare_guest_again, run_guest, 0, 0, -1}},
};

#define NR_FIGURES (sizeof(figures) / sizeof(figures[0]))

/* --- what it is measured on */

static void on_sigbus(int signal)
{
	static const char text[] = "gmemctl: the host has no memory left for this.\n";

	(void)signal;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(STATUS_FAILED);
	_exit(STATUS_FAILED);
}

/* The best mode that any type of VM has. */
static void open_vm(struct bench *bench, struct measurement *ret)
{
	static const struct {
		uint32_t mode;
		uint64_t cap;
		const char *name;
	} modes[] = {{GMEM_MODE_INPLACE, GMEM_CAP_INPLACE, "in-place"},
		     {GMEM_MODE_ATTRIBUTES, GMEM_CAP_ATTRIBUTES, "attributes"},
		     {GMEM_MODE_DUAL, GMEM_CAP_DUAL, "dual"},
		     {GMEM_MODE_SHARED, GMEM_CAP_SHARED, "shared"}};
	const char *why = NULL;
	size_t mode, type;
	uint64_t caps;
	int kvm = kvm_open(&why);

	if (kvm < 0)
		fail("%s", why);
	for (mode = 0; mode < sizeof(modes) / sizeof(modes[0]); mode++) {
		for (type = 0; type < kvm_nr_types; type++) {
			if (kvm_vm_new(kvm, &kvm_types[type], &bench->vm) < 0)
				continue;
			if (!gmem_vm_caps(bench->vm.vm, &caps) && caps & modes[mode].cap) {
				bench->mode = modes[mode].mode;
				ret->mode = modes[mode].name;
				ret->vm_type = kvm_types[type].id;
				close(kvm);
				return;
			}
			kvm_vm_free(&bench->vm);
		}
	}
	fail("this host has no guest memory to measure: gmemctl probe says why");
}

static void open_vcpu(struct bench *bench)
{
	bench->vcpu = -1;
	if (ioctl(bench->vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_PRE_FAULT_MEMORY) <= 0) {
		snprintf(bench->why_no_vcpu, sizeof(bench->why_no_vcpu),
			 "KVM has no KVM_PRE_FAULT_MEMORY here (Linux 6.11, and nested page "
			 "tables).");
		return;
	}
	bench->vcpu = ioctl(bench->vm.fd, KVM_CREATE_VCPU, 0);
	if (bench->vcpu < 0)
		snprintf(bench->why_no_vcpu, sizeof(bench->why_no_vcpu), "KVM_CREATE_VCPU: %s",
			 strerror(errno));
}

static void open_memory(struct bench *bench)
{
	struct gmem_options options = GMEM_OPTIONS_INIT;
	void *map;

	options.mode = bench->mode;
	options.initial = GMEM_STATE_SHARED;
	if (gmem_new(bench->vm.vm, bench->size, &options, &bench->memory, &bench->error) < 0 ||
	    gmem_map(bench->memory, 0, bench->size, 0, &map, &bench->error) < 0 || bind(bench) < 0)
		fail("%s", bench->error.message);
	bench->map = map;
}

static void close_all(struct bench *bench)
{
	if (bench->vcpu >= 0)
		close(bench->vcpu);
	gmem_unmap(bench->map, bench->size);
	gmem_unbind(bench->vm.vm, 0, NULL);
	gmem_unref(bench->memory);
	kvm_vm_free(&bench->vm);
}

static uint64_t size_of(const struct bench *bench, uint64_t bytes)
{
	return bytes == 1 ? bench->page : bytes ? bytes : bench->size;
}

static struct figure *add(struct measurement *ret)
{
	ret->figures = must_alloc(realloc(ret->figures, (ret->count + 1) * sizeof(*ret->figures)));
	ret->figures[ret->count] = (struct figure){0};
	return &ret->figures[ret->count++];
}

static void measure_nodes(struct bench *bench, measure_progress_fn progress, size_t total,
			  const struct bitmask *nodes, struct measurement *ret)
{
	struct task task = {prepare_place, run_place, bench->size, 0, 0};
	struct figure *figure;

	for (task.node = 0; nodes && task.node < MAX_NODES; task.node++) {
		if (!numa_bitmask_isbitset(nodes, (unsigned int)task.node))
			continue;
		figure = add(ret);
		snprintf(figure->id, sizeof(figure->id), "place_node%d", task.node);
		snprintf(figure->name, sizeof(figure->name), "allocate on node %d", task.node);
		measure_one(bench, &task, figure);
		progress(ret->count, total);
	}
}

void measure(uint64_t size, measure_progress_fn progress, struct measurement *ret)
{
	struct sigaction action = {.sa_handler = on_sigbus};
	struct bench bench = {.error = GMEM_ERROR_INIT, .size = size};
	struct bitmask *nodes = NULL;
	struct figure *figure;
	struct task task;
	size_t i, total;

	*ret = (struct measurement){.size = size};
	bench.page = (uint64_t)sysconf(_SC_PAGESIZE);
	if ((uint64_t)sysconf(_SC_AVPHYS_PAGES) < 2 * size / bench.page)
		fail("less than twice as much memory is free");
	open_vm(&bench, ret);
	open_vcpu(&bench);
	open_memory(&bench);
	sigaction(SIGBUS, &action, NULL);
	if (numa_available() >= 0)
		nodes = numa_get_mems_allowed();
	total = NR_FIGURES + (nodes ? numa_bitmask_weight(nodes) : 0);

	progress(0, total);
	for (i = 0; i < NR_FIGURES; i++) {
		figure = add(ret);
		snprintf(figure->id, sizeof(figure->id), "%s", figures[i].id);
		snprintf(figure->name, sizeof(figure->name), "%s", figures[i].name);
		task = figures[i].task;
		task.bytes = size_of(&bench, task.bytes);
		measure_one(&bench, &task, figure);
		progress(ret->count, total);
	}
	measure_nodes(&bench, progress, total, nodes, ret);
	if (nodes)
		numa_bitmask_free(nodes);
	close_all(&bench);
}

void measure_free(struct measurement *measurement)
{
	free(measurement->figures);
	*measurement = (struct measurement){0};
}

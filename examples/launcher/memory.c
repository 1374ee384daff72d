/* SPDX-License-Identifier: MIT */
/*
 * The guest's memory: all that this launcher does with libgmem, in the order in which
 * a VMM does it.
 */
#include <errno.h>
#include <inttypes.h>
#include <numa.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "launch.h"

static const char *const mode_names[] = {"auto", "in-place", "attributes",
					 "dual", "shared",   "plain"};

/*
 * What the guest makes private again is gone from under the mapping at any time: whoever
 * touches it has to be ready for that.
 */
static __thread sigjmp_buf refused_here;
static __thread volatile sig_atomic_t careful;

static void on_sigbus(int number)
{
	if (careful)
		siglongjmp(refused_here, 1);
	signal(number, SIG_DFL); /* it comes again, and ends this */
}

/* In one piece with the memory that it touches, and only that. */
__attribute__((noinline)) static bool copy(void *to, const void *from, size_t size)
{
	if (sigsetjmp(refused_here, 1)) {
		careful = 0;
		return false;
	}
	careful = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	memcpy(to, from, size);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	careful = 0;
	return true;
}

static bool can_read(const struct memory *memory, uint64_t offset)
{
	uint8_t byte;

	return copy(&byte, memory->map + offset, 1);
}

uint64_t memory_readable(struct machine *m, uint64_t offset, uint64_t size)
{
	uint64_t at, readable = 0;

	for (at = offset; at < offset + size; at += PAGE)
		readable += can_read(&m->memory, at);
	return readable;
}

/*
 * Where that is mapped here, if all of it is shared. An address of the guest's making may
 * be anywhere, and may be private: then it is not to be touched.
 */
static uint8_t *find_shared(const struct memory *memory, uint64_t gpa, size_t size)
{
	struct gmem_location location = GMEM_LOCATION_INIT;

	if (gmem_lookup(memory->vm, gpa, &location) < 0)
		return NULL;
	gmem_unref(location.memory);
	if (location.state != GMEM_STATE_SHARED || size > location.bytes ||
	    size > PAGE - gpa % PAGE)
		return NULL;
	return memory->map + location.offset;
}

bool memory_read(struct machine *m, uint64_t gpa, void *to, size_t size)
{
	const uint8_t *from = find_shared(&m->memory, gpa, size);

	return from && copy(to, from, size);
}

bool memory_write(struct machine *m, uint64_t gpa, const void *from, size_t size)
{
	uint8_t *to = find_shared(&m->memory, gpa, size);

	return to && copy(to, from, size);
}

/* A device that reaches shared memory would be mapped and unmapped here. */
static void on_commit(void *data, const struct gmem_event *event)
{
	struct machine *m = data;

	m->memory.told++;
	talk_told(m, event);
}

static void listen(struct machine *m)
{
	struct gmem_listener_ops ops = GMEM_LISTENER_OPS_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;

	ops.commit = on_commit;
	if (gmem_listener_add(m->memory.vm, &ops, m, &m->memory.listener, &error) < 0)
		die("%s", error.message);
}

/* Before anything is allocated: on which node of the host each of the guest's is. */
void memory_place(struct machine *m)
{
	const struct options *options = m->options;
	struct gmem_error error = GMEM_ERROR_INIT;
	unsigned int i;

	for (i = 0; i < options->nr_nodes; i++) {
		const struct node *node = &options->nodes[i];
		struct bitmask *nodes;
		int r;

		if (node->host < 0)
			continue;
		nodes = numa_allocate_nodemask();
		numa_bitmask_setbit(nodes, (unsigned int)node->host);
		r = gmem_set_policy(m->memory.memory, node->start, node->bytes, GMEM_POLICY_BIND,
				    nodes, &error);
		numa_bitmask_free(nodes);
		if (r < 0)
			die("node %d: %s", node->host, error.message);
	}
}

/* What can this VM have? */
void memory_connect(struct machine *m)
{
	struct gmem_vm_options vm_options = GMEM_VM_OPTIONS_INIT;
	struct sigaction action = {.sa_handler = on_sigbus};
	struct gmem_error error = GMEM_ERROR_INIT;

	vm_options.flags = GMEM_VM_MAP_GPA_RANGE;
	if (gmem_vm_new(m->fd, &vm_options, &m->memory.vm, &error) < 0)
		die("%s", error.message);
	m->memory.bytes = m->options->bytes;
	sigaction(SIGBUS, &action, NULL);
}

/* Nothing is allocated yet. */
void memory_open(struct machine *m)
{
	const struct options *options = m->options;
	struct memory *memory = &m->memory;
	struct gmem_options memory_options = GMEM_OPTIONS_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;

	/* Never shared without having been told so. */
	memory_options.mode = options->mode;
	memory_options.initial = options->shared ? GMEM_STATE_SHARED : GMEM_STATE_PRIVATE;
	if (gmem_new(memory->vm, options->bytes, &memory_options, &memory->memory, &error) < 0)
		die("no %s memory: %s%s", options->shared ? "shared" : "private", error.message,
		    options->shared ? "" : " (--shared does without.)");
	if (!options->shared && gmem_mode(memory->memory) == GMEM_MODE_DUAL) {
		/* There is no reason where the mode was asked for by name. */
		const char *why = gmem_vm_why_not(memory->vm, GMEM_CAP_INPLACE);

		die("%s mode loses what is loaded before it becomes private; only in-place mode "
		    "boots a guest that does not know%s%s",
		    mode_names[gmem_mode(memory->memory)], why ? ": " : "", why ? why : "");
	}
	memory_place(m);
}

/* What memory is, the guest finds from address 0 on. */
void memory_bind(struct machine *m)
{
	struct gmem_error error = GMEM_ERROR_INIT;

	if (gmem_bind(m->memory.memory, 0, 0, 0, m->memory.bytes, &error) < 0)
		die("%s", error.message);
	listen(m);
}

/* What is not in use elsewhere goes with this. */
void memory_close(struct machine *m)
{
	struct memory *memory = &m->memory;
	struct gmem_error error = GMEM_ERROR_INIT;

	gmem_listener_remove(memory->vm, memory->listener);
	if (memory->map)
		gmem_unmap(memory->map, memory->bytes);
	if (gmem_unbind(memory->vm, 0, &error) < 0)
		die("%s", error.message);
	gmem_unref(memory->memory);
	gmem_vm_free(memory->vm);
}

/* To load the image: shared for now. */
uint8_t *memory_map(struct machine *m)
{
	struct memory *memory = &m->memory;
	struct gmem_error error = GMEM_ERROR_INIT;
	void *address;

	if (gmem_convert(memory->vm, 0, memory->bytes, GMEM_STATE_SHARED, NULL, NULL, &error) < 0 ||
	    gmem_map(memory->memory, 0, memory->bytes, 0, &address, &error) < 0)
		die("%s", error.message);
	memory->map = address;
	return memory->map;
}

/* Before the first instruction: private, in place, with all that was loaded. */
void memory_seal(struct machine *m)
{
	struct memory *memory = &m->memory;
	struct gmem_error error = GMEM_ERROR_INIT;
	uint64_t readable;

	if (gmem_convert(memory->vm, 0, memory->bytes, GMEM_STATE_PRIVATE, NULL, NULL, &error) < 0)
		die("%s", error.message);
	readable = memory_readable(m, 0, memory->bytes);
	fprintf(stderr,
		"gmem-launch: %" PRIu64 " MiB are private; the launcher can read %" PRIu64
		" of %" PRIu64 " pages\n",
		memory->bytes >> 20, readable, memory->bytes / PAGE);
	if (readable)
		die("that is not what private means");
}

/* Each exit of a vCPU comes by here: 0 is done, 1 is the caller's. */
int memory_exit(struct machine *m, struct gmem_exit *exit, struct kvm_run *run, int run_result)
{
	struct memory *memory = &m->memory;
	struct gmem_convert_options options = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;
	uint64_t begin = now_us();
	int r;

	/* A page can be in use for a moment. */
	options.attempts = 10;
	options.pause_us = 1000;
	r = gmem_exit_handle(memory->vm, run, run_result, exit, &options, &error);
	if (r == 1)
		return 1;
	/* Of any vCPU. */
	__atomic_add_fetch(&memory->requests, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&memory->request_us, now_us() - begin, __ATOMIC_RELAXED);
	if (exit->result < 0)
		__atomic_add_fetch(&memory->refused, 1, __ATOMIC_RELAXED);
	if (r < 0)
		die("%s cannot go on: %s", m->name, error.message);
	return 0;
}

uint64_t memory_resident(struct machine *m)
{
	struct gmem_stats stats = GMEM_STATS_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;

	if (gmem_stats(m->memory.memory, &stats, &error) < 0)
		die("%s", error.message);
	return stats.resident_guest + stats.resident_shared;
}

void memory_show(struct machine *m)
{
	const struct options *options = m->options;
	struct memory *memory = &m->memory;
	struct gmem_stats stats = GMEM_STATS_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;
	uint64_t on[1024];
	unsigned int i, n;

	if (gmem_stats(memory->memory, &stats, &error) < 0)
		die("%s", error.message);
	fprintf(stderr,
		"gmem-launch: %s mode; %" PRIu64 " KiB private, %" PRIu64 " KiB shared, %" PRIu64
		" KiB of it in memory\n",
		mode_names[gmem_mode(memory->memory)], stats.private_bytes >> 10,
		stats.shared_bytes >> 10, (stats.resident_guest + stats.resident_shared) >> 10);
	fprintf(stderr,
		"gmem-launch: %lu requests of the guest in %" PRIu64
		" us, %lu refused; the listener was told of %lu runs\n",
		memory->requests, memory->request_us, memory->refused, memory->told);
	for (i = 0; i < options->nr_nodes; i++) {
		const struct node *node = &options->nodes[i];

		if (gmem_placement(memory->memory, node->start, node->bytes, on, 1024, &error) <
		    0) {
			fprintf(stderr, "gmem-launch: node %u: %s\n", i, error.message);
			continue;
		}
		fprintf(stderr, "gmem-launch: the guest's node %u is on", i);
		for (n = 0; n < 1024; n++)
			if (on[n])
				fprintf(stderr, " host node %u (%" PRIu64 " KiB)", n, on[n] >> 10);
		fprintf(stderr, "\n");
	}
}

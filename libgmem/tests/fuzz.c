/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is read from a guest or from an option struct is anything at all: the exit
 * decoder and handler, and the structs with sizes, on the fake kernel. Built with
 * libFuzzer by -Dfuzz=true; corpus.c runs what is kept in any build.
 */
#include "fake.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096ull
#define GPA (1ull << 20)
#define PAGES 8
#define NR_VMS GMEM_MODE_PLAIN /* the last of the modes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gmem_vm *vm[NR_VMS];
static struct gmem *memory[NR_VMS];

static void need(bool condition)
{
	if (!condition)
		abort();
}

/* A VM for each mode, for all inputs. */
static void begin(void)
{
	static const struct fake_can can = {.guest_memfd = true,
					    .map = true,
					    .convert = true,
					    .ranges = true,
					    .attributes = true,
					    .attributes2 = true,
					    .protected = true,
					    .map_gpa_range = true,
					    .memory_fault = true,
					    .numa = true};
	struct gmem_options options = GMEM_OPTIONS_INIT;

	fake_begin(&can);
	for (unsigned int i = 0; i < NR_VMS; i++) {
		need(!gmem_vm_new_sys(fake_vm(), NULL, &vm[i], NULL, &fake_sys));
		options.mode = i + 1;
		options.initial = GMEM_STATE_SHARED;
		need(!gmem_new(vm[i], PAGES * PAGE, &options, &memory[i], NULL));
		need(!gmem_bind(memory[i], 0, GPA, 0, PAGES * PAGE, NULL));
	}
}

/* Whatever came, kernel, bitmaps and sums agree. */
static void check(unsigned int i)
{
	struct gmem_stats stats = GMEM_STATS_INIT;

	need(!gmem_stats(memory[i], &stats, NULL));
	need(stats.private_bytes + stats.shared_bytes == PAGES * PAGE);
	for (uint64_t p = 0; i + 1 == GMEM_MODE_DUAL && p < PAGES; p++) {
		struct gmem_range range = GMEM_RANGE_INIT;

		need(gmem_next_range(vm[i], GPA + p * PAGE, GPA + (p + 1) * PAGE, &range) == 1);
		need((range.state == GMEM_STATE_PRIVATE) ==
		     fake_attribute((int)vm[i]->fd, GPA + p * PAGE));
	}
}

static void exits(unsigned int i, const uint8_t *data, size_t size)
{
	/* As much of kvm_run as the decoder may look at; the rest is out of bounds. */
	struct kvm_run *run = calloc(1, sizeof(*run));
	struct gmem_exit ex = GMEM_EXIT_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;
	static const int results[] = {0, -EFAULT, -EHWPOISON, -EINTR};
	const uint8_t how = size ? data[0] : 0;
	uint64_t number[4] = {0};
	int r, result = results[how & 3];

	if (size > 1)
		memcpy(number, data + 1, size - 1 < sizeof(number) ? size - 1 : sizeof(number));
	if (how & 4)
		ex.size = number[3]; /* read no further than that */
	if (ex.size > sizeof(ex))
		ex.size = sizeof(ex);
	/* Near the slot as often as not. */
	if (how & 8)
		number[0] = GPA + number[0] % (2 * PAGES * PAGE) - PAGES * PAGE / 2;
	if (how & 16) {
		run->exit_reason = KVM_EXIT_HYPERCALL;
		run->hypercall.nr = how & 32 ? 12 : number[3];
		memcpy(run->hypercall.args, number, sizeof(number));
		run->hypercall.ret = 0x1234;
	} else {
		run->exit_reason = KVM_EXIT_MEMORY_FAULT;
		run->memory_fault.gpa = number[0];
		run->memory_fault.size = how & 32 ? PAGE : number[1];
		run->memory_fault.flags = number[2];
	}
	r = gmem_exit_decode(vm[i], run, result, &ex);
	need(!r || ex.size < sizeof(ex));
	if (!r) {
		need(ex.kind <= GMEM_EXIT_INVALID);
		need(ex.kind != GMEM_EXIT_CONVERT ||
		     (ex.bytes && ex.gpa % PAGE == 0 && ex.bytes % PAGE == 0));
	}
	r = gmem_exit_handle(vm[i], run, result, &ex, NULL, &error);
	if (!r && ex.flags & GMEM_EXIT_HYPERCALL)
		need(!run->hypercall.ret == !ex.result && ex.result <= 0);
	need(r >= 0 || error.error == r);
	free(run);
}

/* A struct of just the size that it says it has, up to what there is of data. */
static void options(unsigned int i, const uint8_t *data, size_t size)
{
	const uint8_t which = size ? data[0] : 0;
	struct gmem_listener *listener;
	struct gmem_vm *other;
	struct gmem *mem;
	uint8_t *s;
	size_t says;

	if (size < 1 + sizeof(size_t))
		return;
	data++;
	size--;
	s = malloc(size);
	memcpy(s, data, size);
	memcpy(&says, s, sizeof(says));
	if (says > size)
		says = size;
	memcpy(s, &says, sizeof(says));
	switch (which % 5) {
	case 0:
		if (!gmem_vm_new_sys(vm[i]->fd, (void *)s, &other, NULL, &fake_sys))
			gmem_vm_free(other);
		break;
	case 1:
		if (!gmem_new(vm[i], PAGE, (void *)s, &mem, NULL))
			gmem_unref(mem);
		break;
	case 2: {
		struct gmem_convert_options *o = (void *)s;

		/* Patience is not what is tested. */
		if (says >= sizeof(*o))
			o->attempts &= 3;
		need(gmem_convert(vm[i], GPA, PAGE,
				  which & 64 ? GMEM_STATE_PRIVATE : GMEM_STATE_SHARED, o, NULL,
				  NULL) <= 0);
		break;
	}
	case 3:
		/* Only what does not point anywhere. */
		if (says > sizeof(size_t))
			memset(s + sizeof(size_t), 0,
			       (says < sizeof(struct gmem_listener_ops)
					? says
					: sizeof(struct gmem_listener_ops)) -
				       sizeof(size_t));
		if (!gmem_listener_add(vm[i], (void *)s, NULL, &listener, NULL))
			need(!gmem_listener_remove(vm[i], listener));
		break;
	default:
		gmem_stats(memory[i], (void *)s, NULL);
	}
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool begun;
	unsigned int i;

	if (!begun)
		begin();
	begun = true;
	if (!size)
		return 0;
	i = data[0] % NR_VMS;
	if (data[0] & 128)
		options(i, data + 1, size - 1);
	else
		exits(i, data + 1, size - 1);
	check(i);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * gmem-launch: runs a Linux guest in memory that this process cannot read. It is small
 * so that authors of VMMs can read it: memory.c and life.c are the parts about
 * libgmem.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../guest/gmem_life.h"
#include "launch.h"

void die(const char *format, ...)
{
	va_list args;

	terminal_end();
	fflush(stdout);
	fprintf(stderr, "gmem-launch: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	_exit(1);
}

uint64_t now_us(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

/* What the guest finds in its memory: tables, kernel, initrd. The entry point. */
static uint64_t load(struct machine *m)
{
	const struct options *o = m->options;
	uint8_t *ram = memory_map(m);
	uint64_t rsdp, entry;

	rsdp = acpi_write(ram, o->cpus, o->nr_nodes > 1 ? o->nodes : NULL,
			  o->nr_nodes > 1 ? o->nr_nodes : 0);
	if (!rsdp)
		die("the ACPI tables do not fit");
	entry = boot_load(m, ram, rsdp);
	if (o->shared)
		fprintf(stderr,
			"gmem-launch: the guest's memory is SHARED: this process can read it\n");
	else
		memory_seal(m);
	return entry;
}

static enum end run(struct machine *m)
{
	static const char *const ends[] = {[TURNED_OFF] = "the guest turned itself off",
					   [RESET] = "the guest reset itself",
					   [MARKED] = "the guest is ready to be cloned"};
	uint64_t entry = load(m);
	enum end end;

	vcpu_create(m);
	vcpu_boot(m, entry);
	m->talking = m->options->talk;
	vcpu_start(m);
	end = machine_wait(m);
	fprintf(stderr, "gmem-launch: %s\n", ends[end]);
	return end;
}

int main(int argc, char **argv)
{
	struct options options = {
		.append = "console=ttyS0", .bytes = 256 << 20, .cpus = 1, .mode = GMEM_MODE_AUTO};
	struct machine *m;
	enum end end;
	int kvm;

	options_parse(&options, argc, argv);
	options_check_nodes(&options);
	if (access(options.kernel, R_OK))
		die("kernel %s: %s", options.kernel, strerror(errno));
	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		die("/dev/kvm: %s", strerror(errno));

	m = machine_new(kvm, &options, 0);
	memory_connect(m);
	life_check(m); /* the kernel, */
	memory_open(m);
	life_check(m); /* and the mode */
	memory_bind(m);
	terminal_begin();
	terminal_connect(m);
	while ((end = run(m)) == RESET && options.reuse)
		m = reboot_reuse(m);
	if (end == MARKED)
		clones_run(m);
	else if (options.clones)
		die("it never said '%s': nothing was cloned", GMEM_LIFE_MARKER);
	terminal_end();
	if (options.stats)
		memory_show(m);
	if (options.map)
		map_draw(m, options.map);
	terminal_connect(NULL);
	machine_free(m);
	return 0;
}

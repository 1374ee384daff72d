/* SPDX-License-Identifier: MIT */
/*
 * gmem-launch: runs a Linux guest in memory that this process cannot read. It is small
 * so that authors of VMMs can read it: memory.c and life.c are the parts about
 * libgmem.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

/* A boot that is not the first is told so, as it cannot know; free() is the caller's. */
static char *command_line(const struct options *o, unsigned int boot)
{
	char *line;

	if ((boot > 1 ? asprintf(&line, "%s gmem.boot=%u", o->append, boot)
		      : asprintf(&line, "%s", o->append)) < 0)
		die("no memory for the command line");
	return line;
}

/* What is to be loaded, and whether it can be: before there is a machine for it. */
static void read_files(const struct options *o, struct boot *boot)
{
	/* All boots or none: as long as the longest. */
	char *longest = command_line(o, o->reuse ? UINT_MAX : 1);
	struct why why;

	if (!file_read(o->kernel, "kernel", o->bytes, &boot->kernel, &why) ||
	    (o->initrd && !file_read(o->initrd, "initrd", o->bytes, &boot->initrd, &why)))
		die("%s", why.text);
	boot->cmdline = longest;
	if (!boot_check(boot, o->bytes, &why))
		die("%s", why.text);
	boot->cmdline = NULL;
	free(longest);
}

static void forget_files(struct boot *boot)
{
	free(boot->kernel.data);
	free(boot->initrd.data);
	boot->kernel.data = boot->initrd.data = NULL;
}

/* What the guest finds in its memory: tables, kernel, initrd. The entry point. */
static uint64_t load(struct machine *m, struct boot *boot)
{
	const struct options *o = m->options;
	char *cmdline = command_line(o, m->boot);
	uint8_t *ram = memory_map(m);
	uint64_t entry;
	struct why why;

	boot->rsdp = acpi_write(ram, o->cpus, o->nr_nodes > 1 ? o->nodes : NULL,
				o->nr_nodes > 1 ? o->nr_nodes : 0);
	if (!boot->rsdp)
		die("the ACPI tables do not fit");
	boot->cmdline = cmdline;
	entry = boot_load(boot, ram, o->bytes, &why);
	if (!entry)
		die("%s", why.text);
	boot->cmdline = NULL;
	free(cmdline);
	if (!o->reuse)
		forget_files(boot);
	if (o->shared)
		fprintf(stderr,
			"gmem-launch: the guest's memory is SHARED: this process can read it\n");
	else
		memory_seal(m);
	return entry;
}

static enum end run(struct machine *m, struct boot *boot)
{
	static const char *const ends[] = {[TURNED_OFF] = "the guest turned itself off",
					   [RESET] = "the guest reset itself",
					   [MARKED] = "the guest is ready to be cloned"};
	uint64_t entry = load(m, boot);
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
	struct options options = {.append = "console=ttyS0", .cpus = 1, .mode = GMEM_MODE_AUTO};
	struct boot boot = {.cmdline = NULL};
	struct machine *m;
	enum end end;
	int kvm;

	options_parse(&options, argc, argv);
	options_check_nodes(&options);
	read_files(&options, &boot);
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
	while ((end = run(m, &boot)) == RESET && options.reuse)
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
	forget_files(&boot);
	return 0;
}

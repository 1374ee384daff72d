// SPDX-License-Identifier: GPL-2.0-only
/*
 * The only program of the guest: says on the console what machine Linux found, works
 * on all processors for a moment, and turns the machine off. The lines that begin
 * with "guest: " are what the VMM looks for.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORK_SIZE	(4ul << 20)

static int console;

static void say(const char *fmt, ...)
{
	char line[256] = "<1>guest: ";
	size_t n = strlen(line);
	va_list ap;

	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (write(console, line, n) < 0)
		perror("/kmsg");
}

/* A small file, without its last newline. */
static char *slurp(const char *path)
{
	static char buf[65536];
	int fd = open(path, O_RDONLY);
	size_t len = 0;
	ssize_t n;

	while (fd >= 0 && (n = read(fd, buf + len, sizeof(buf) - 1 - len)) > 0)
		len += n;
	if (fd >= 0)
		close(fd);
	while (len && strchr(" \n", buf[len - 1]))
		len--;
	buf[len] = 0;
	return buf;
}

/* Fill memory on one processor, sleep so that timers have to fire, look again. */
static int work(int cpu)
{
	uint64_t *p = mmap(NULL, WORK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (p == MAP_FAILED || sched_setaffinity(0, sizeof(set), &set))
		return 1;
	for (size_t i = 0; i < WORK_SIZE / 8; i++)
		p[i] = i * 0x9e3779b97f4a7c15ull + cpu;
	usleep(50000);
	for (size_t i = 0; i < WORK_SIZE / 8; i++)
		if (p[i] != i * 0x9e3779b97f4a7c15ull + cpu)
			return 2;
	return 0;
}

static void work_everywhere(int cpus)
{
	int status, bad = 0;

	for (int cpu = 0; cpu < cpus; cpu++)
		if (!fork())
			_exit(work(cpu));
	while (wait(&status) > 0)
		bad |= status;
	say("memory filled on each: %s", bad ? "WRONG" : "as it was left");
}

static void count_ioapic(void)
{
	char *line = strtok(slurp("/proc/interrupts"), "\n");
	int lines = 0;

	for (; line; line = strtok(NULL, "\n")) {
		if (strstr(line, "IO-APIC")) {
			say("interrupts: %s", line);
			lines++;
		}
	}
	say("lines with IO-APIC: %d", lines);
}

int main(void)
{
	int cpus;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mknod("/kmsg", S_IFCHR | 0600, makedev(1, 11));
	console = open("/kmsg", O_WRONLY);

	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	say("processors online: %d", cpus);
	say("ACPI tables: %s %s", access("/sys/firmware/acpi/tables/FACP", R_OK) ? "" : "FACP",
	    access("/sys/firmware/acpi/tables/APIC", R_OK) ? "" : "APIC");
	count_ioapic();
	say("clocksource: %s", slurp("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
	say("clocksources: %s", slurp("/sys/devices/system/clocksource/clocksource0/available_clocksource"));
	work_everywhere(cpus);
	say("steal: %s", strtok(slurp("/proc/stat"), "\n"));
	say("done");
	reboot(RB_POWER_OFF);
	return 1;
}

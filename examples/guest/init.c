/* SPDX-License-Identifier: MIT */
/*
 * The only program of the demo's guest: says where it is, keeps a secret in its memory
 * for as long as "wait=SECONDS" on the kernel's command line says, and turns the machine
 * off. Build it with -static, and put it into an initrd as /init.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SECRET_LEN 32
#define COPIES 64

static char *slurp(const char *path)
{
	static char text[4096];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	text[strcspn(text, "\n")] = 0;
	return text;
}

/* Told backwards, so that who looks for it does not find what was said of it. */
static volatile char *keep_secret(void)
{
	static const char digits[] = "0123456789abcdef";
	char *secret = malloc(COPIES * (SECRET_LEN + 1));
	unsigned char random[SECRET_LEN];
	char told[SECRET_LEN + 1];
	int i;

	if (!secret || getrandom(random, sizeof(random), GRND_INSECURE) != sizeof(random))
		return NULL;
	for (i = 0; i < SECRET_LEN; i++)
		secret[i] = digits[random[i] % 16];
	secret[SECRET_LEN] = 0;
	for (i = 1; i < COPIES; i++)
		memcpy(secret + i * (SECRET_LEN + 1), secret, SECRET_LEN + 1);
	for (i = 0; i < SECRET_LEN; i++)
		told[i] = secret[SECRET_LEN - 1 - i];
	told[SECRET_LEN] = 0;
	printf("guest: my secret, backwards, is %s\n", told);
	return secret;
}

int main(void)
{
	volatile char *secret;
	const char *wait;
	int console;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mknod("/console", S_IFCHR | 0600, makedev(5, 1));
	console = open("/console", O_RDWR);
	if (console >= 0) {
		dup2(console, STDOUT_FILENO);
		dup2(console, STDERR_FILENO);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);

	printf("guest: Linux is up on %ld processors\n", sysconf(_SC_NPROCESSORS_ONLN));
	printf("guest: my memory is on nodes %s\n", slurp("/sys/devices/system/node/has_memory"));
	secret = keep_secret();
	wait = strstr(slurp("/proc/cmdline"), "wait=");
	sleep(wait ? (unsigned int)atoi(wait + 5) : 0);
	printf("guest: good bye%s\n", secret && secret[0] ? "" : " (without a secret)");
	reboot(RB_POWER_OFF);
	return 1;
}

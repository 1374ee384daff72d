/* SPDX-License-Identifier: MIT */
/*
 * The first program of the demo's guest: says where it is, keeps a secret in its memory,
 * and turns the machine off. Build it with -static, and put it into an initrd as /init.
 * On the kernel's command line there may be, and is done in this order:
 *
 *   ask                   read a line from the console, and say it again
 *   run=PROGRAM,ARG,...   load /gmem_window.ko, run that
 *   wait=SECONDS          keep the secret for so long
 *   restart               do not turn the machine off, restart it
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
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

static void load_driver(void)
{
	int fd = open("/gmem_window.ko", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		printf("guest: no driver for windows: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* The words of a program's command line are put together with commas. */
static void run(char *words)
{
	char *argv[16] = {NULL};
	int n = 0, status;
	pid_t pid;

	words[strcspn(words, " ")] = 0;
	for (char *word = strtok(words, ","); word && n < 15; word = strtok(NULL, ","))
		argv[n++] = word;
	if (!n)
		return;
	load_driver();
	pid = fork();
	if (!pid) {
		execv(argv[0], argv);
		printf("guest: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	if (pid > 0 && waitpid(pid, &status, 0) == pid && status)
		printf("guest: %s ended with status %#x\n", argv[0], status);
}

static void ask(void)
{
	char line[256];

	printf("guest: say something\n");
	if (!fgets(line, sizeof(line), stdin))
		line[0] = 0;
	line[strcspn(line, "\n")] = 0;
	printf("guest: you said '%s'\n", line);
}

int main(void)
{
	volatile char *secret;
	char *cmdline, *words, *wait;
	int console;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mknod("/console", S_IFCHR | 0600, makedev(5, 1));
	console = open("/console", O_RDWR);
	if (console >= 0) {
		dup2(console, STDIN_FILENO);
		dup2(console, STDOUT_FILENO);
		dup2(console, STDERR_FILENO);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);

	printf("guest: Linux is up on %ld processors\n", sysconf(_SC_NPROCESSORS_ONLN));
	printf("guest: my memory is on nodes %s\n", slurp("/sys/devices/system/node/has_memory"));
	secret = keep_secret();
	cmdline = strdup(slurp("/proc/cmdline"));
	if (!cmdline)
		return 1;
	wait = strstr(cmdline, "wait=");
	if (strstr(cmdline, " ask"))
		ask();
	words = strstr(cmdline, " run=");
	if (words && (words = strdup(words + 5)))
		run(words);
	sleep(wait ? (unsigned int)atoi(wait + 5) : 0);
	printf("guest: good bye%s\n", secret && secret[0] ? "" : " (without a secret)");
	reboot(strstr(cmdline, " restart") ? RB_AUTOBOOT : RB_POWER_OFF);
	return 1;
}

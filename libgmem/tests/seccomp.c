/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The published list of system calls is true: each function runs under a filter that is
 * made from its line in syscalls.list and has nothing else in it. On the fake kernel,
 * which sees calls that this machine's KVM does not lead to, by the names of the calls.
 */
#include "world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

/* A name that is cut short is on no list, and the test says so. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wformat-truncation"
#endif

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static const struct {
	const char *name;
	long number;
} calls[] = {
#define CALL(name)                                                                                 \
	{                                                                                          \
#name, SYS_##name                                                                  \
	}
	CALL(brk),	  CALL(cachestat), CALL(clock_gettime), CALL(clock_nanosleep),
	CALL(close),	  CALL(fallocate), CALL(fstat),		CALL(newfstatat),
	CALL(fcntl),	  CALL(ftruncate), CALL(futex),		CALL(get_mempolicy),
	CALL(madvise),	  CALL(mbind),	   CALL(memfd_create),	CALL(mmap),
	CALL(move_pages), CALL(mprotect),  CALL(munmap),	CALL(set_mempolicy),
};

static const struct {
	char name[32];
	unsigned long number;
} requests[] = {
#define REQUEST(name)                                                                              \
	{                                                                                          \
#name, name                                                                        \
	}
	REQUEST(KVM_CHECK_EXTENSION),
	REQUEST(KVM_GET_API_VERSION),
	REQUEST(KVM_CREATE_GUEST_MEMFD),
	REQUEST(KVM_ENABLE_CAP),
	REQUEST(KVM_SET_MEMORY_ATTRIBUTES),
	REQUEST(KVM_SET_MEMORY_ATTRIBUTES2),
	REQUEST(KVM_SET_USER_MEMORY_REGION),
	REQUEST(KVM_SET_USER_MEMORY_REGION2),
	REQUEST(KVM_GMEM_CONVERT_SHARED),
	REQUEST(KVM_GMEM_CONVERT_PRIVATE),
	REQUEST(KVM_GMEM_GET_RANGES),
	REQUEST(KVM_GMEM_FREEZE),
	REQUEST(KVM_GMEM_LINK),
	REQUEST(KVM_GMEM_CLONE),
};

/* The line of a function, without its name; "" where it has none. */
static const char *line_of(const char *function)
{
	static char line[2000];
	const size_t length = strcspn(function, ",");
	FILE *list = fopen(SYSCALLS_LIST, "r");

	ck_assert_msg(list, "cannot open %s", SYSCALLS_LIST);
	while (fgets(line, sizeof(line), list)) {
		if (strncmp(line, function, length) || line[length] != ':')
			continue;
		fclose(list);
		line[strcspn(line, "\n")] = ' ';
		return line + length + 1;
	}
	fclose(list);
	return "";
}

static bool has_word(const char *line, const char *word)
{
	char padded[100];

	snprintf(padded, sizeof(padded), " %.90s ", word);
	return strstr(line, padded);
}

/* Each word of the list is one that is known here, and each function of it is run. */
START_TEST(the_list)
{
	FILE *list = fopen(SYSCALLS_LIST, "r");
	char line[2000];

	ck_assert_ptr_nonnull(list);
	while (fgets(line, sizeof(line), list)) {
		char *save, *word = strtok_r(line, " \n", &save);

		if (line[0] == '#' || !word)
			continue;
		while ((word = strtok_r(NULL, " \n", &save))) {
			bool known = false;

			for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
				known |= !strcmp(word, calls[i].name);
			for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
				known |= !strncmp(word, "ioctl:", 6) &&
					 !strcmp(word + 6, requests[i].name);
			ck_assert_msg(known, "'%s' in the list is no call that is known here",
				      word);
		}
	}
	fclose(list);
}
END_TEST

struct check_names {
	const char *function, *line;
};

static void check_name(void *data, const char *name)
{
	const struct check_names *check = data;
	char word[100];

	snprintf(word, sizeof(word), "%s%.80s", strncmp(name, "KVM_", 4) ? "" : "ioctl:", name);
	ck_assert_msg(has_word(check->line, word), "%s calls %s, which the list does not have",
		      check->function, word);
}

static struct sock_filter filter[100];
static unsigned short length;

static void add(unsigned short code, uint8_t yes, uint8_t no, uint32_t k)
{
	filter[length++] = (struct sock_filter){code, yes, no, k};
}

static void allow(uint32_t value)
{
	add(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, value);
	add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW);
}

static void make_filter(const char *line)
{
	length = 0;
	add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
	/* The end of the thread; and Check's, from callbacks. */
	allow(SYS_exit);
	allow(SYS_write);
	allow(SYS_rt_sigreturn);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (has_word(line, calls[i].name))
			allow((uint32_t)calls[i].number);
	add(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, SYS_ioctl);
	add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
	add(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, args[1]));
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		char word[100];

		snprintf(word, sizeof(word), "ioctl:%s", requests[i].name);
		if (has_word(line, word))
			allow((uint32_t)requests[i].number);
	}
	add(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_TRAP);
}

static volatile int trapped, result;

static void on_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	trapped = info->si_syscall;
}

/* A thread, not a process: KVM serves only the one that made the VM. */
static void *filtered(void *data)
{
	const struct sock_fprog program = {length, filter};

	/* Check allocates as well, in callbacks: let it have a heap for this thread. */
	free(malloc(1));
	ck_assert(true);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		result = -ENOSYS;
	else
		result = function_run(*(int *)data);
	/* What the C library does at the end of a thread is not on the list. */
	syscall(SYS_exit, 0);
	return NULL;
}

START_TEST(each_function)
{
	const char *line = line_of(function_name(_i));
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	pthread_t thread;
	int f = _i;

	function_begin(f);
	if (!world->real) {
		struct check_names check = {function_name(f), line};

		fake_names_begin();
		ck_assert_int_ge(function_run(f), 0);
		fake_each_name(check_name, &check);
		function_end(f);
		return;
	}
	make_filter(line);
	sigaction(SIGSYS, &action, NULL);
	trapped = -1;
	ck_assert_int_eq(pthread_create(&thread, NULL, filtered, &f), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_msg(trapped == -1,
		      "%s makes system call %d, or an ioctl, that the list does not have",
		      function_name(f), trapped);
	ck_assert_msg(result >= 0, "%s: %d: %s", function_name(f), result, err.message);
	function_end(f);
}
END_TEST

Suite *suite_seccomp(void)
{
	Suite *suite = suite_create("seccomp");
	TCase *tcase = tcase_create(world->name);
	int functions = 0;

	while (function_name(functions))
		functions++;
	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, the_list);
	tcase_add_loop_test(tcase, each_function, 0, functions);
	suite_add_tcase(suite, tcase);
	return suite;
}

/* SPDX-License-Identifier: MIT */
/* vCPUs: what they leave for, each in a thread of its own. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/kvm.h>

#include "launch.h"

/* All of this process ends with a vCPU that cannot go on. */
__attribute__((noreturn, format(printf, 2, 3))) static void stop(const struct vcpu *v,
								 const char *format, ...)
{
	const struct machine *m = v->machine;
	char why[128];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	die("%s%svCPU %u: %s", m->clone ? m->name : "", m->clone ? ": " : "", v->number, why);
}

static void handle(struct vcpu *v, int r)
{
	struct machine *m = v->machine;
	struct kvm_run *run = v->run;

	/* Is it about memory? */
	if (!memory_exit(m, &v->exit, run, r))
		return;
	if (r)
		stop(v, "KVM_RUN: %s", strerror(-r));
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		ports_exit(m, run);
		break;
	case KVM_EXIT_MMIO: /* nothing is there */
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		break;
	case KVM_EXIT_HYPERCALL: /* none that is known */
		run->hypercall.ret = (uint64_t)-ENOSYS;
		break;
	case KVM_EXIT_SHUTDOWN:
		stop(v, "triple fault");
	case KVM_EXIT_INTERNAL_ERROR:
		stop(v, "KVM cannot go on (%u)", run->internal.suberror);
	default:
		stop(v, "exit %u", run->exit_reason);
	}
}

/* An exit's instruction is done only when KVM is entered again: no state before that. */
static void finish_exit(struct vcpu *v)
{
	int r;

	v->run->immediate_exit = 1;
	while ((r = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0) != -EINTR)
		if (r != -EAGAIN)
			handle(v, r);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct machine *m = v->machine;
	int r;

	while (__atomic_load_n(&m->end, __ATOMIC_ACQUIRE) == RUNNING) {
		r = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
		if (r != -EINTR && r != -EAGAIN)
			handle(v, r);
	}
	if (__atomic_load_n(&m->end, __ATOMIC_ACQUIRE) == MARKED)
		finish_exit(v);
	return NULL;
}

static void on_kick(int signal)
{
	(void)signal;
}

void vcpu_start(struct machine *m)
{
	struct sigaction kick = {.sa_handler = on_kick};
	unsigned int i;

	sigaction(SIGUSR1, &kick, NULL);
	for (i = 0; i < m->options->cpus; i++)
		if (pthread_create(&m->vcpus[i].thread, NULL, run_vcpu, &m->vcpus[i]))
			die("no thread for vCPU %u", i);
}

/* Out of KVM_RUN, and not in again: the machine has ended. */
void vcpu_stop(struct machine *m)
{
	unsigned int i;

	for (i = 0; i < m->options->cpus; i++) {
		m->vcpus[i].run->immediate_exit = 1;
		pthread_kill(m->vcpus[i].thread, SIGUSR1);
		pthread_join(m->vcpus[i].thread, NULL);
	}
}

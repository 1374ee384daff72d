/* SPDX-License-Identifier: MIT */
/* A VM: how it begins, and how it ends. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "launch.h"

/* Pages of KVM's own, below the BIOS's end: only Intel needs them. */
#define IDENTITY_MAP 0xfeffc000ul
#define TSS_ADDR 0xfeffd000ul

static int create_vm(int kvm, const struct options *o)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	uint64_t identity_map = IDENTITY_MAP;
	int vm;

	vm = ioctl(kvm, KVM_CREATE_VM, o->vm_type);
	if (vm < 0)
		die("KVM has no %s VM: %s", o->vm_type ? "software-protected" : "plain",
		    strerror(errno));
	if (ioctl(vm, KVM_SET_TSS_ADDR, TSS_ADDR) < 0 ||
	    ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(vm, KVM_CREATE_PIT2, &pit) < 0)
		die("KVM has no interrupt controller or timer: %s", strerror(errno));
	return vm;
}

/* Without memory and processors, so far. */
struct machine *machine_new(int kvm, const struct options *options, unsigned int clone)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		die("no memory for a machine");
	m->options = options;
	m->kvm = kvm;
	m->boot = 1;
	m->clone = clone;
	if (clone)
		snprintf(m->name, sizeof(m->name), "clone %u", clone);
	else
		strcpy(m->name, "the guest");
	m->fd = create_vm(kvm, options);
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	serial_init(&m->serial);
	return m;
}

/* Its vCPUs have stopped. */
void machine_free(struct machine *m)
{
	vcpu_free(m);
	memory_close(m);
	close(m->fd);
	pthread_mutex_destroy(&m->serial.lock);
	pthread_cond_destroy(&m->changed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* From any vCPU; the first that comes tells why. */
void machine_end(struct machine *m, enum end end)
{
	pthread_mutex_lock(&m->lock);
	if (m->end == RUNNING)
		__atomic_store_n(&m->end, end, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

/* Until the guest is off; all vCPUs have stopped by then. */
enum end machine_wait(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	while (m->end == RUNNING)
		pthread_cond_wait(&m->changed, &m->lock);
	pthread_mutex_unlock(&m->lock);
	vcpu_stop(m);
	return m->end;
}

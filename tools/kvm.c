/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "kvm.h"

const struct kvm_type kvm_types[] = {
	{"plain", "plain VMs", "in plain VMs only", 0, "The kernel's KVM has no such VMs."},
#ifdef KVM_X86_SW_PROTECTED_VM
	{"sw_protected", "software-protected VMs", "in software-protected VMs only",
	 KVM_X86_SW_PROTECTED_VM,
	 "The kernel's KVM has none: that takes CONFIG_KVM_SW_PROTECTED_VM, and a processor with "
	 "EPT or NPT."},
#endif
};
const size_t kvm_nr_types = sizeof(kvm_types) / sizeof(kvm_types[0]);

int kvm_open(const char **ret_why)
{
	static char why[128];
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), error = errno;

	if (fd >= 0) {
		if (ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION)
			return fd;
		close(fd);
		*ret_why = "/dev/kvm does not speak KVM's language.";
		return -ENODEV;
	}
	if (error == ENOENT || error == ENODEV || error == ENXIO) {
		*ret_why = "There is no KVM: the processor, the firmware or the kernel has it not, "
			   "or its module is not loaded.";
		return -ENODEV;
	}
	if (error == EACCES || error == EPERM) {
		*ret_why = "You may not use /dev/kvm: its group may, and root.";
	} else {
		snprintf(why, sizeof(why), "/dev/kvm: %s.", strerror(error));
		*ret_why = why;
	}
	return -error;
}

int kvm_vm_new(int kvm, const struct kvm_type *type, struct kvm_vm *ret)
{
	struct gmem_error error = GMEM_ERROR_INIT;
	int r;

	memset(ret, 0, sizeof(*ret));
	/* A signal that arrives meanwhile is no answer. */
	do
		ret->fd = ioctl(kvm, KVM_CREATE_VM, type->type);
	while (ret->fd < 0 && errno == EINTR);
	if (ret->fd < 0) {
		r = -errno;
		if (r == -EINVAL)
			snprintf(ret->why, sizeof(ret->why), "%s", type->unknown);
		else
			snprintf(ret->why, sizeof(ret->why), "KVM cannot make one (%s).",
				 strerror(-r));
		return r;
	}
	r = gmem_vm_new(ret->fd, NULL, &ret->vm, &error);
	if (r < 0) {
		snprintf(ret->why, sizeof(ret->why), "%s", error.message);
		close(ret->fd);
		return r;
	}
	return 0;
}

void kvm_vm_free(struct kvm_vm *vm)
{
	gmem_vm_free(vm->vm);
	close(vm->fd);
}

/* SPDX-License-Identifier: MIT */
/*
 * Dual mode, for kernels that cannot convert in place: a guest_memfd and a memfd, of which
 * one is used at each address. A conversion loses contents, and frees the unused pages.
 *
 *	cc -o dual dual.c $(pkg-config --cflags --libs libgmem)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/kvm.h>
#include <gmem.h>

#define BYTES (16ul << 20)
#define GPA (1ul << 30)
#define PROTECTED_VM 1 /* KVM_X86_SW_PROTECTED_VM */

static int failed(const struct gmem_error *error)
{
	fprintf(stderr, "%s\n", error->message);
	return 1;
}

static int show(struct gmem *memory, const char *when, struct gmem_error *error)
{
	struct gmem_stats stats = GMEM_STATS_INIT;
	int r = gmem_stats(memory, &stats, error);

	if (!r)
		printf("%-22s %2lu MiB private, %2lu MiB shared; in memory %2lu MiB and %2lu MiB\n",
		       when, (unsigned long)(stats.private_bytes >> 20),
		       (unsigned long)(stats.shared_bytes >> 20),
		       (unsigned long)(stats.resident_guest >> 20),
		       (unsigned long)(stats.resident_shared >> 20));
	return r;
}

int main(void)
{
	struct gmem_convert_result result = GMEM_CONVERT_RESULT_INIT;
	struct gmem_options options = GMEM_OPTIONS_INIT;
	struct gmem_error error = GMEM_ERROR_INIT;
	struct gmem *memory;
	struct gmem_vm *vm;
	int kvm, vm_fd;
	void *map;

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm_fd = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, PROTECTED_VM);
	if (vm_fd < 0) {
		fprintf(stderr, "a software-protected VM: %s\n", strerror(errno));
		return 1;
	}
	options.mode = GMEM_MODE_DUAL;
	options.initial = GMEM_STATE_SHARED;
	if (gmem_vm_new(vm_fd, NULL, &vm, &error) < 0 ||
	    gmem_new(vm, BYTES, &options, &memory, &error) < 0 ||
	    gmem_bind(memory, 0, GPA, 0, BYTES, &error) < 0 ||
	    gmem_map(memory, 0, BYTES, 0, &map, &error) < 0)
		return failed(&error);

	memset(map, 1, BYTES);
	if (show(memory, "all shared, written:", &error) < 0 ||
	    gmem_convert(vm, GPA, BYTES / 2, GMEM_STATE_PRIVATE, NULL, &result, &error) < 0 ||
	    show(memory, "one half private:", &error) < 0 ||
	    gmem_convert(vm, GPA, BYTES / 2, GMEM_STATE_SHARED, NULL, &result, &error) < 0 ||
	    show(memory, "and shared again:", &error) < 0)
		return failed(&error);
	printf("the first half reads %d now, the second %d\n", *(char *)map,
	       ((char *)map)[BYTES / 2]);
	if (result.residue)
		printf("%lu bytes that are no longer used could not be freed (%s)\n",
		       (unsigned long)result.residue, strerror(-result.residue_error));
	gmem_unmap(map, BYTES);
	gmem_unref(memory);
	gmem_vm_free(vm);
	return 0;
}

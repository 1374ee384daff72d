// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading Linux the way PVH guests are started: an ELF image, an initramfs with one
 * program in it, and a start info block that describes the machine.
 */
#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm.h"

#define XEN_ELFNOTE_PHYS32_ENTRY	18

#define START_INFO_MAGIC		0x336ec578

enum { RAM = 1, RESERVED = 2, ACPI = 3 };

/* As in Xen's start_info.h, which is no uapi header. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

struct module {
	uint64_t addr, size, cmdline, reserved;
};

struct memmap {
	uint64_t addr, size;
	uint32_t type, reserved;
};

static void read_at(int fd, void *to, size_t len, off_t offset)
{
	ssize_t n;

	for (; len; len -= n, offset += n, to = (char *)to + n) {
		n = must(pread(fd, to, len, offset));
		if (!n)
			fail("an image ends too early");
	}
}

/*
 * Through a buffer, since a file system may hold on to the pages that it reads into
 * for a while, and such pages do not turn private.
 */
static void read_into_ram(int fd, uint8_t *ram, uint64_t to, size_t len, off_t offset)
{
	static char buf[1 << 20];
	size_t n;

	if (to >= RAM_SIZE || len > RAM_SIZE - to)
		fail("an image does not fit into the guest");
	for (; len; len -= n, offset += n, to += n) {
		n = len < sizeof(buf) ? len : sizeof(buf);
		read_at(fd, buf, n, offset);
		memcpy(ram + to, buf, n);
	}
}

static uint32_t find_entry(const uint8_t *notes, size_t len)
{
	size_t pos = 0;

	while (pos + sizeof(Elf64_Nhdr) <= len) {
		const Elf64_Nhdr *n = (const void *)(notes + pos);
		size_t desc = pos + sizeof(*n) + ((n->n_namesz + 3) & ~3ul);

		if (n->n_type == XEN_ELFNOTE_PHYS32_ENTRY && n->n_namesz == 4 &&
		    !memcmp(n + 1, "Xen", 4))
			return *(const uint32_t *)(notes + desc);
		pos = desc + ((n->n_descsz + 3) & ~3ul);
	}
	return 0;
}

static uint32_t load_kernel(uint8_t *ram, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t notes[4096];
	uint32_t entry = 0;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	read_at(fd, &eh, sizeof(eh), 0);
	if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_machine != EM_X86_64)
		fail("%s is no vmlinux for x86_64", path);
	for (int i = 0; i < eh.e_phnum; i++) {
		read_at(fd, &ph, sizeof(ph), eh.e_phoff + i * sizeof(ph));
		if (ph.p_type == PT_LOAD)
			read_into_ram(fd, ram, ph.p_paddr, ph.p_filesz, ph.p_offset);
		if (ph.p_type == PT_NOTE && ph.p_filesz <= sizeof(notes)) {
			read_at(fd, notes, ph.p_filesz, ph.p_offset);
			entry = entry ?: find_entry(notes, ph.p_filesz);
		}
	}
	if (!entry)
		fail("%s cannot be started by PVH: CONFIG_PVH", path);
	close(fd);
	return entry;
}

/* One member of a 'newc' archive: its header and name; where its contents go. */
static size_t cpio_header(uint8_t *at, const char *name, unsigned int mode, size_t size)
{
	size_t len = strlen(name) + 1;
	int n = sprintf((char *)at, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x",
			1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, len, 0);

	memcpy(at + n, name, len);
	return (n + len + 3) & ~3ul;
}

static size_t load_initramfs(uint8_t *ram, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t pos = INITRAMFS;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		fail("%s: %s", path, strerror(errno));
	pos += cpio_header(ram + pos, "init", S_IFREG | 0755, st.st_size);
	read_into_ram(fd, ram, pos, st.st_size, 0);
	pos += (st.st_size + 3) & ~3ul;
	pos += cpio_header(ram + pos, "TRAILER!!!", 0, 0);
	close(fd);
	return pos - INITRAMFS;
}

uint32_t load(uint8_t *ram, const char *vmlinux, const char *init, const char *cmdline,
	      uint64_t rsdp)
{
	struct {
		struct start_info info;
		struct module initramfs;
		struct memmap map[4];
	} start = {
		.info = {
			.magic = START_INFO_MAGIC,
			.version = 1,
			.nr_modules = 1,
			.modules = START_INFO + offsetof(typeof(start), initramfs),
			.cmdline = CMDLINE,
			.rsdp = rsdp,
			.memmap = START_INFO + offsetof(typeof(start), map),
			.memmap_entries = 4,
		},
		.initramfs = {
			.addr = INITRAMFS,
			.size = load_initramfs(ram, init),
		},
		.map = {
			{ 0, RAM_LOW_END, RAM },
			{ RAM_LOW_END, ACPI_TABLES - RAM_LOW_END, RESERVED },
			{ ACPI_TABLES, ACPI_SIZE, ACPI },
			{ 1 << 20, RAM_SIZE - (1 << 20), RAM },
		},
	};

	if (strlen(cmdline) >= PAGE)
		fail("the command line is too long");
	strcpy((char *)ram + CMDLINE, cmdline);
	memcpy(ram + START_INFO, &start, sizeof(start));
	return load_kernel(ram, vmlinux);
}

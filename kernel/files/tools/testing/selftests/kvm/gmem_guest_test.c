// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memfd that converts in place: a guest whose memory is all private, with
 * its code, stacks and page tables, and KVM's own accesses to that memory.
 *
 * Guest functions return 0 when all is well, and else something that tells what
 * is not: the line, or a value.
 */
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "apic.h"
#include "gmem_util.h"
#include "kvm_test_harness.h"
#include "test_util.h"

#define NR_PAGES	16
#define SIZE		((uint64_t)NR_PAGES * PAGE_SIZE)

#define MMIO_GVA	0xd0000000ULL
#define IOAPIC_GVA	0xfec00000ULL
#define PIO_PORT	0x1234

/* Where the guest has the page table of the first page of its data. */
#define PT_GVA		0xd8000000ULL

#define IPI_VECTOR	0x60

#define GUEST_CHECK(cond)	do { if (!(cond)) return __LINE__; } while (0)

FIXTURE(gmem_guest) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu[2];
	int ram;	/* what the library has set up */
	uint64_t pt_gpa;	/* the page table of the data, in there */
	int fd;		/* what tests use */
	char *mem;
};

GMEM_FIXTURE_VARIANTS(gmem_guest);
GMEM_FIXTURE_MORE_VARIANTS(gmem_guest);

/* Of the guest. */
static uint64_t ipis_received;
static uint32_t *pv_eoi;
static uint64_t pv_eois;

static void guest_ipi_handler(struct ex_regs *regs)
{
	uint32_t *word = READ_ONCE(pv_eoi);

	WRITE_ONCE(ipis_received, ipis_received + 1);

	/* KVM has said that it need not be told. */
	if (word && READ_ONCE(*word) & KVM_PV_EOI_ENABLED) {
		WRITE_ONCE(*word, 0);
		WRITE_ONCE(pv_eois, pv_eois + 1);
		return;
	}
	xapic_write_reg(APIC_EOI, 0);
}

FIXTURE_SETUP(gmem_guest)
{
	uint64_t *pte;

	GMEM_SKIP_UNLESS_SUPPORTED(variant->type);

	self->vm = gmem_vm_create(variant->type, 2, self->vcpu, NR_PAGES);
	virt_pg_map(self->vm, MMIO_GVA, MMIO_GVA);
	virt_pg_map(self->vm, IOAPIC_GVA, IOAPIC_GVA);
	virt_pg_map(self->vm, APIC_DEFAULT_GPA, APIC_DEFAULT_GPA);
	vm_install_exception_handler(self->vm, IPI_VECTOR, guest_ipi_handler);

	pte = vm_get_page_table_entry(self->vm, GMEM_GVA);
	self->pt_gpa = addr_hva2gpa(self->vm, (void *)((uintptr_t)pte & ~(PAGE_SIZE - 1)));
	virt_pg_map(self->vm, PT_GVA, self->pt_gpa);

	self->fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	self->mem = gmem_mmap(self->fd, SIZE);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->mem : NULL, self->fd, 0);

	/* From here on the library cannot map or translate anything. */
	self->ram = gmem_vm_make_private(self->vm, variant->hva);
}

FIXTURE_TEARDOWN(gmem_guest)
{
	kvm_vm_free(self->vm);
	munmap(self->mem, SIZE);
	close(self->fd);
	close(self->ram);
}

static uint64_t call(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
		     uint64_t b, uint64_t c)
{
	return gmem_guest_call(vcpu, fn, a, b, c);
}

/* A guest function that has to return 0. */
#define CALL_OK(vcpu, fn, a, b, c)					\
do {									\
	uint64_t __r = call(vcpu, fn, a, b, c);				\
									\
	TEST_ASSERT(!__r, #fn " returned %lu (%#lx)", __r, __r);	\
} while (0)

static uint64_t guest_recurse(uint64_t n, uint64_t sum, uint64_t c)
{
	uint64_t local[16];

	WRITE_ONCE(local[n % 16], n);
	if (!n)
		return sum;
	return guest_recurse(n - 1, sum + READ_ONCE(local[n % 16]), c) +
	       !READ_ONCE(local[n % 16]);
}

/* Code, stack, data and page tables, none of which the host can see. */
GMEM_TEST(gmem_guest, runs_in_private_memory)
{
	struct userspace_mem_region *region = memslot2region(self->vm, 0);

	TEST_ASSERT_EQ(call(self->vcpu[0], guest_recurse, 16, 0, 0), 136);
	TEST_ASSERT_EQ(call(self->vcpu[1], guest_recurse, 16, 0, 0), 136);
	call(self->vcpu[0], gmem_guest_fill, GMEM_GVA, SIZE, 1);
	CALL_OK(self->vcpu[1], gmem_guest_check, GMEM_GVA, SIZE, 1);

	gmem_assert_no_access(region->host_mem, 8 * PAGE_SIZE);
	gmem_assert_no_access(self->mem, SIZE);
	TEST_ASSERT_EQ(gmem_fdinfo(self->ram, "gmem-shared"), 0);

	/* The host can take a page back, and find what the guest wrote. */
	gmem_make_shared(self->fd, PAGE_SIZE, PAGE_SIZE);
	gmem_check(self->mem, PAGE_SIZE, PAGE_SIZE, 1);

	/* RAM that is converted there and back under the guest's feet. */
	gmem_make_shared(self->ram, 0, region->region.memory_size);
	TEST_ASSERT_EQ(call(self->vcpu[0], guest_recurse, 16, 0, 0), 136);
	gmem_make_private(self->ram, 0, region->region.memory_size);
	TEST_ASSERT_EQ(call(self->vcpu[0], guest_recurse, 16, 0, 0), 136);
}

static uint64_t guest_mmio_read(uint64_t gva, uint64_t b, uint64_t c)
{
	return READ_ONCE(*(uint64_t *)gva);
}

static uint64_t guest_mmio_write(uint64_t gva, uint64_t val, uint64_t c)
{
	WRITE_ONCE(*(uint32_t *)gva, val);
	return 0;
}

/* From MMIO to memory, by an instruction that has both as operands. */
static uint64_t guest_mmio_movs(uint64_t to, uint64_t from, uint64_t n)
{
	asm volatile("cld; rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return n;
}

/* Run a call that does MMIO; read as @val, count bytes, return the result. */
static uint64_t run_mmio(struct kvm_vcpu *vcpu, gmem_guest_fn fn, uint64_t a,
			 uint64_t b, uint64_t c, uint64_t val, uint64_t *written,
			 int *bytes)
{
	struct kvm_run *run = vcpu->run;
	uint64_t result;

	*bytes = 0;
	gmem_guest_start(vcpu, fn, a, b, c);
	for (;;) {
		vcpu_run(vcpu);
		if (gmem_guest_done(vcpu, &result))
			return result;

		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
		TEST_ASSERT(run->mmio.phys_addr >= MMIO_GVA &&
			    run->mmio.phys_addr < MMIO_GVA + PAGE_SIZE,
			    "MMIO at %#llx", run->mmio.phys_addr);
		if (run->mmio.is_write)
			memcpy(written, run->mmio.data, run->mmio.len);
		else
			memcpy(run->mmio.data, &val, run->mmio.len);
		*bytes += run->mmio.len;
	}
}

/*
 * Emulation: KVM fetches the instruction, and walks the page tables to it and
 * to its operands, in private memory.
 */
GMEM_TEST(gmem_guest, mmio)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	uint64_t written = 0;
	int bytes, i;

	TEST_ASSERT_EQ(run_mmio(vcpu, guest_mmio_read, MMIO_GVA + 8, 0, 0,
				0x1122334455667788ULL, &written, &bytes),
		       0x1122334455667788ULL);
	TEST_ASSERT_EQ(bytes, 8);

	run_mmio(vcpu, guest_mmio_write, MMIO_GVA + 16, 0xcafef00d, 0, 0, &written,
		 &bytes);
	TEST_ASSERT_EQ(written, 0xcafef00d);
	TEST_ASSERT_EQ(bytes, 4);

	/* Private memory is written, and read, by the emulator. */
	run_mmio(vcpu, guest_mmio_movs, GMEM_GVA, MMIO_GVA, 4, 0xdeadbeef, &written,
		 &bytes);
	TEST_ASSERT_EQ(bytes, 16);
	for (i = 0; i < 16; i += 8)
		TEST_ASSERT_EQ(call(vcpu, gmem_guest_read, GMEM_GVA + i, 0, 0),
			       0xdeadbeefdeadbeefULL);
	call(vcpu, gmem_guest_write, GMEM_GVA + PAGE_SIZE, 0x01020304, 0);
	run_mmio(vcpu, guest_mmio_movs, MMIO_GVA, GMEM_GVA + PAGE_SIZE, 1, 0,
		 &written, &bytes);
	TEST_ASSERT_EQ(written, 0x01020304);

	/* Shared memory, whatever the slot's userspace_addr is. */
	gmem_make_shared(self->fd, 0, SIZE);
	run_mmio(vcpu, guest_mmio_movs, GMEM_GVA + 64, MMIO_GVA, 2, 0x55aa55aa,
		 &written, &bytes);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + 64), 0x55aa55aa55aa55aaULL);
	*(uint32_t *)(self->mem + 128) = 0x31415926;
	run_mmio(vcpu, guest_mmio_movs, MMIO_GVA, GMEM_GVA + 128, 1, 0, &written,
		 &bytes);
	TEST_ASSERT_EQ(written, 0x31415926);
}

static uint64_t guest_outs(uint64_t gva, uint64_t n, uint64_t c)
{
	asm volatile("cld; rep outsl" : "+S"(gva), "+c"(n) : "d"(PIO_PORT) : "memory");
	return n;
}

static uint64_t guest_ins(uint64_t gva, uint64_t n, uint64_t c)
{
	asm volatile("cld; rep insl" : "+D"(gva), "+c"(n) : "d"(PIO_PORT) : "memory");
	return n;
}

/* String I/O, from and to private memory, across a page boundary. */
GMEM_TEST(gmem_guest, string_io)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	const uint64_t start = PAGE_SIZE - 64, len = 128;
	struct kvm_run *run = vcpu->run;
	uint64_t done, result;
	uint32_t n;

	call(vcpu, gmem_guest_fill, GMEM_GVA, 2 * PAGE_SIZE, 1);
	gmem_guest_start(vcpu, guest_outs, GMEM_GVA + start, len / 4, 0);
	for (done = 0; vcpu_run(vcpu), !gmem_guest_done(vcpu, &result);
	     done += 4 * run->io.count) {
		uint32_t *data = (void *)run + run->io.data_offset;

		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		TEST_ASSERT(run->io.port == PIO_PORT &&
			    run->io.direction == KVM_EXIT_IO_OUT &&
			    run->io.size == 4, "unexpected I/O");
		for (n = 0; n < run->io.count; n++) {
			uint64_t offset = start + done + 4 * n;

			TEST_ASSERT_EQ(data[n], (uint32_t)(gmem_pattern(1, offset & ~7ULL) >>
							   (offset % 8 * 8)));
		}
	}
	TEST_ASSERT_EQ(done, len);
	TEST_ASSERT_EQ(result, 0);

	/* In: to pages that nobody has touched before. */
	gmem_guest_start(vcpu, guest_ins, GMEM_GVA + 4 * PAGE_SIZE + start, len / 4, 0);
	for (done = 0; vcpu_run(vcpu), !gmem_guest_done(vcpu, &result);
	     done += 4 * run->io.count) {
		uint32_t *data = (void *)run + run->io.data_offset;

		TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
		TEST_ASSERT(run->io.port == PIO_PORT &&
			    run->io.direction == KVM_EXIT_IO_IN &&
			    run->io.size == 4, "unexpected I/O");
		for (n = 0; n < run->io.count; n++) {
			uint64_t offset = 4 * PAGE_SIZE + start + done + 4 * n;

			data[n] = gmem_pattern(2, offset & ~7ULL) >> (offset % 8 * 8);
		}
	}
	TEST_ASSERT_EQ(done, len);
	CALL_OK(vcpu, gmem_guest_check, GMEM_GVA + 4 * PAGE_SIZE + start, len, 2);
	CALL_OK(vcpu, gmem_guest_check_zero, GMEM_GVA + 4 * PAGE_SIZE, start, 0);
}

static bool fep_enabled(void)
{
	return kvm_is_forced_emulation_enabled();
}

#define REQUIRE_FEP()							\
do {									\
	if (!fep_enabled())						\
		SKIP(return, "kvm.force_emulation_prefix is off");	\
} while (0)

static uint64_t guest_fep_write(uint64_t gva, uint64_t val, uint64_t c)
{
	asm volatile(KVM_FEP "movq %0, (%1)" : : "a"(val), "c"(gva) : "memory");
	return 0;
}

/* Emulated accesses to a page of private memory at @gva, and the one after. */
static uint64_t guest_fep_accesses(uint64_t gva, uint64_t b, uint64_t c)
{
	uint64_t *p = (uint64_t *)gva, *split = (uint64_t *)(gva + PAGE_SIZE - 3);
	uint8_t xmm[16] __aligned(16) = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
	uint64_t val, old;
	bool eq;

	/* Nobody has been here before. */
	GUEST_CHECK(gmem_guest_fep_read(gva, 0, 0) == 0);

	/* Each size, and what the processor sees of it. */
	guest_fep_write(gva, 0x1122334455667788ULL, 0);
	GUEST_CHECK(READ_ONCE(*p) == 0x1122334455667788ULL);
	asm volatile(KVM_FEP "movb %b0, (%1)" : : "a"(0xaa), "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 0x11223344556677aaULL);
	asm volatile(KVM_FEP "movw %w0, 2(%1)" : : "a"(0xbbbb), "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 0x11223344bbbb77aaULL);
	asm volatile(KVM_FEP "movl %k0, 4(%1)" : : "a"(0xcccccccc), "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 0xccccccccbbbb77aaULL);
	GUEST_CHECK(gmem_guest_fep_read(gva, 0, 0) == 0xccccccccbbbb77aaULL);

	/* Across the boundary of two pages. */
	guest_fep_write((uint64_t)split, 0x8877665544332211ULL, 0);
	memcpy(&val, split, sizeof(val));
	GUEST_CHECK(val == 0x8877665544332211ULL);
	GUEST_CHECK(gmem_guest_fep_read((uint64_t)split, 0, 0) == 0x8877665544332211ULL);
	GUEST_CHECK(READ_ONCE(*(uint8_t *)(gva + PAGE_SIZE)) == 0x44);

	/* LOCK CMPXCHG, that does and that does not. */
	WRITE_ONCE(*p, 10);
	old = 10;
	asm volatile("movq %3, %%rdx\n\t"
		     KVM_FEP "lock cmpxchgq %%rdx, (%2)\n\t"
		     "sete %1"
		     : "+a"(old), "=q"(eq) : "c"(p), "r"(20ULL) : "rdx", "memory");
	GUEST_CHECK(eq && old == 10 && READ_ONCE(*p) == 20);
	old = 10;
	asm volatile("movq %3, %%rdx\n\t"
		     KVM_FEP "lock cmpxchgq %%rdx, (%2)\n\t"
		     "sete %1"
		     : "+a"(old), "=q"(eq) : "c"(p), "r"(30ULL) : "rdx", "memory");
	GUEST_CHECK(!eq && old == 20 && READ_ONCE(*p) == 20);

	/* Other instructions that KVM emulates by CMPXCHG, of all sizes. */
	val = 5;
	asm volatile(KVM_FEP "lock xaddq %0, (%1)" : "+a"(val) : "c"(p) : "memory");
	GUEST_CHECK(val == 20 && READ_ONCE(*p) == 25);
	val = 7;
	asm volatile(KVM_FEP "xchgq %0, (%1)" : "+a"(val) : "c"(p) : "memory");
	GUEST_CHECK(val == 25 && READ_ONCE(*p) == 7);
	asm volatile(KVM_FEP "lock incb (%0)" : : "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 8);
	asm volatile(KVM_FEP "lock addw $0x100, 2(%0)" : : "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 0x1000008);
	asm volatile(KVM_FEP "lock orl $0x80, 4(%0)" : : "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 0x8001000008);
	asm volatile(KVM_FEP "lock btsq $63, (%0)" : : "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 0x8000008001000008);

	/* Read, modify and write without LOCK. */
	asm volatile(KVM_FEP "addq $8, (%0)" : : "c"(p) : "memory");
	GUEST_CHECK(READ_ONCE(*p) == 0x8000008001000010);

	/* The stack, below the red zone. */
	asm volatile("leaq -128(%%rsp), %%rsp\n\t"
		     KVM_FEP "pushq %1\n\t"
		     KVM_FEP "popq %0\n\t"
		     "leaq 128(%%rsp), %%rsp"
		     : "=a"(val) : "c"(0x77ULL) : "memory");
	GUEST_CHECK(val == 0x77);

	/* 16 bytes. */
	asm volatile("movdqu (%0), %%xmm0\n\t" KVM_FEP "movdqu %%xmm0, (%1)"
		     : : "a"(xmm), "c"(p) : "xmm0", "memory");
	GUEST_CHECK(!memcmp(p, xmm, sizeof(xmm)));

	return 0;
}

static uint64_t guest_fep_strings(uint64_t gva, uint64_t b, uint64_t c)
{
	uint64_t from = gva, to = gva + PAGE_SIZE, n = 2 * PAGE_SIZE / 8 - 4;
	uint8_t *p;

	gmem_guest_fill(gva, PAGE_SIZE, 9);
	from += 16;
	to += 16;
	n = 64;
	asm volatile("cld;" KVM_FEP "rep movsq"
		     : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	GUEST_CHECK(!n);
	GUEST_CHECK(!memcmp((void *)(gva + 16), (void *)(gva + PAGE_SIZE + 16), 512));

	/* From one page into the next. */
	to = gva + PAGE_SIZE - 32;
	n = 64;
	asm volatile("cld;" KVM_FEP "rep stosb"
		     : "+D"(to), "+c"(n) : "a"(0x5a) : "memory");
	GUEST_CHECK(!n);
	for (p = (uint8_t *)(gva + PAGE_SIZE - 32); p < (uint8_t *)(gva + PAGE_SIZE + 32); p++)
		GUEST_CHECK(READ_ONCE(*p) == 0x5a);
	return 0;
}

/* Tables that the processor defines: KVM reads descriptors, and writes one. */
static uint64_t guest_fep_descriptors(uint64_t a, uint64_t b, uint64_t c)
{
	struct desc_ptr gdt, fep_gdt;
	uint16_t ds;

	asm volatile("sgdt %0" : "=m"(gdt));
	memset(&fep_gdt, 0, sizeof(fep_gdt));
	asm volatile(KVM_FEP "sgdt (%0)" : : "c"(&fep_gdt) : "memory");
	GUEST_CHECK(gdt.size == fep_gdt.size && gdt.address == fep_gdt.address);
	asm volatile(KVM_FEP "lgdt (%0)" : : "c"(&gdt) : "memory");

	asm volatile("mov %%ds, %0" : "=r"(ds));
	/* Clear the accessed bit, which loading has to set. */
	if (ds)
		((uint8_t *)gdt.address)[(ds & ~7) + 5] &= ~1;
	asm volatile(KVM_FEP "mov %%ax, %%ds" : : "a"(ds) : "memory");
	if (ds)
		GUEST_CHECK(READ_ONCE(((uint8_t *)gdt.address)[(ds & ~7) + 5]) & 1);
	return 0;
}

GMEM_TEST(gmem_guest, emulation)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];

	REQUIRE_FEP();

	CALL_OK(vcpu, guest_fep_accesses, GMEM_GVA, 0, 0);
	CALL_OK(vcpu, guest_fep_strings, GMEM_GVA + 2 * PAGE_SIZE, 0, 0);
	CALL_OK(vcpu, guest_fep_descriptors, 0, 0, 0);

	/* The same in shared memory of the same slot; and the host sees it. */
	gmem_make_shared(self->fd, 4 * PAGE_SIZE, 4 * PAGE_SIZE);
	CALL_OK(vcpu, guest_fep_accesses, GMEM_GVA + 4 * PAGE_SIZE, 0, 0);
	CALL_OK(vcpu, guest_fep_strings, GMEM_GVA + 6 * PAGE_SIZE, 0, 0);
	TEST_ASSERT_EQ(*(uint8_t *)(self->mem + 4 * PAGE_SIZE), 1);
	TEST_ASSERT_EQ(*(uint8_t *)(self->mem + 7 * PAGE_SIZE), 0x5a);

	/* 38: host, emulator and guest look at one page, in both states. */
	gmem_poke(self->mem + 5 * PAGE_SIZE, 41);
	TEST_ASSERT_EQ(call(vcpu, gmem_guest_fep_read, GMEM_GVA + 5 * PAGE_SIZE, 0, 0), 41);
	call(vcpu, guest_fep_write, GMEM_GVA + 5 * PAGE_SIZE, 42, 0);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + 5 * PAGE_SIZE), 42);
	gmem_make_private(self->fd, 0, SIZE);
	TEST_ASSERT_EQ(call(vcpu, gmem_guest_fep_read, GMEM_GVA + 5 * PAGE_SIZE, 0, 0), 42);
	call(vcpu, guest_fep_write, GMEM_GVA + 5 * PAGE_SIZE, 43, 0);
	gmem_make_shared(self->fd, 0, SIZE);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + 5 * PAGE_SIZE), 43);

	/* An emulated access does not leave a reference that is in the way. */
	gmem_make_private(self->fd, 0, SIZE);

	/* Nor does it see what a hole has freed. */
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, 0, SIZE), 0);
	TEST_ASSERT_EQ(call(vcpu, gmem_guest_fep_read, GMEM_GVA + 5 * PAGE_SIZE, 0, 0), 0);
}

static uint64_t guest_fep_count(uint64_t gva, uint64_t n, uint64_t c)
{
	uint64_t *p = (uint64_t *)gva;
	bool eq;

	while (n) {
		uint64_t old = READ_ONCE(*p);

		asm volatile(KVM_FEP "lock cmpxchgq %%rdx, (%2)\n\t"
			     "sete %1"
			     : "+a"(old), "=q"(eq) : "c"(p), "d"(old + 1) : "memory");
		n -= eq;
	}
	return 0;
}

static uint64_t guest_count(uint64_t gva, uint64_t n, uint64_t c)
{
	while (n--)
		__atomic_add_fetch((uint64_t *)gva, 1, __ATOMIC_SEQ_CST);
	return 0;
}

struct thread_call {
	struct kvm_vcpu *vcpu;
	gmem_guest_fn fn;
	uint64_t a, b, c, result;
	pthread_t thread;
};

static void *thread_main(void *data)
{
	struct thread_call *t = data;

	t->result = gmem_guest_call(t->vcpu, t->fn, t->a, t->b, t->c);
	return NULL;
}

static void thread_start(struct thread_call *t)
{
	TEST_ASSERT(!pthread_create(&t->thread, NULL, thread_main, t),
		    "pthread_create() failed");
}

/* LOCK is LOCK: between two emulators, and against the other processor. */
GMEM_TEST(gmem_guest, emulation_is_atomic)
{
	struct thread_call emulated[2] = {
		{ self->vcpu[0], guest_fep_count, GMEM_GVA, 1000 },
		{ self->vcpu[1], guest_fep_count, GMEM_GVA, 1000 },
	};
	struct thread_call mixed[2] = {
		{ self->vcpu[0], guest_fep_count, GMEM_GVA, 1000 },
		{ self->vcpu[1], guest_count, GMEM_GVA, 100000 },
	};
	int i;

	REQUIRE_FEP();

	for (i = 0; i < 2; i++)
		thread_start(&emulated[i]);
	for (i = 0; i < 2; i++)
		pthread_join(emulated[i].thread, NULL);
	TEST_ASSERT_EQ(call(self->vcpu[0], gmem_guest_read, GMEM_GVA, 0, 0), 2000);

	for (i = 0; i < 2; i++)
		thread_start(&mixed[i]);
	for (i = 0; i < 2; i++)
		pthread_join(mixed[i].thread, NULL);
	TEST_ASSERT_EQ(call(self->vcpu[0], gmem_guest_read, GMEM_GVA, 0, 0), 103000);
}

/* Emulated accesses against conversions of the page: no value is lost. */
GMEM_TEST(gmem_guest, emulation_and_conversion)
{
	struct thread_call t = { self->vcpu[0], guest_fep_count, GMEM_GVA, 500 };
	int done = 0, n = 0, r;

	REQUIRE_FEP();

	thread_start(&t);
	while (!done) {
		gmem_make_shared(self->fd, 0, PAGE_SIZE);
		r = __gmem_convert(self->fd, true, 0, PAGE_SIZE, 0, NULL);
		TEST_ASSERT(!r, "conversion: %s", strerror(-r));
		n += !r;
		done = !pthread_tryjoin_np(t.thread, NULL);
	}
	TEST_ASSERT(n, "it never became private");
	gmem_make_shared(self->fd, 0, PAGE_SIZE);
	TEST_ASSERT_EQ(*(uint64_t *)self->mem, 500);
}

/* Clear, access by emulation, and look at what KVM's walk has left. */
static uint64_t guest_fep_dirty(uint64_t gva, uint64_t b, uint64_t c)
{
	uint64_t *pte = (uint64_t *)PT_GVA + (gva >> PAGE_SHIFT) % 512;
	const uint64_t bits = PTE_ACCESSED_MASK | PTE_DIRTY_MASK;

	GUEST_CHECK(READ_ONCE(*pte) & PTE_PRESENT_MASK);
	GUEST_CHECK((READ_ONCE(*pte) & PHYSICAL_PAGE_MASK) == gva);

	WRITE_ONCE(*pte, *pte & ~bits);
	asm volatile("invlpg (%0)" : : "r"(gva) : "memory");
	gmem_guest_fep_read(gva, 0, 0);
	GUEST_CHECK((READ_ONCE(*pte) & bits) == PTE_ACCESSED_MASK);
	guest_fep_write(gva, 1, 0);
	GUEST_CHECK((READ_ONCE(*pte) & bits) == bits);
	return 0;
}

/* A walk of page tables in private memory reads them, and sets their bits. */
GMEM_TEST(gmem_guest, page_table_walk)
{
	struct kvm_translation tr;
	uint64_t offset;

	/* What the library cannot do any more, KVM can. */
	for (offset = 0; offset < SIZE; offset += PAGE_SIZE) {
		memset(&tr, 0, sizeof(tr));
		tr.linear_address = GMEM_GVA + offset + 8;
		vcpu_ioctl(self->vcpu[0], KVM_TRANSLATE, &tr);
		TEST_ASSERT(tr.valid, "page %#lx is not mapped", offset);
		TEST_ASSERT_EQ(tr.physical_address, GMEM_GPA + offset + 8);
	}
	memset(&tr, 0, sizeof(tr));
	tr.linear_address = 0x7f0000000000ULL;
	vcpu_ioctl(self->vcpu[0], KVM_TRANSLATE, &tr);
	TEST_ASSERT(!tr.valid, "it is mapped");

	REQUIRE_FEP();
	CALL_OK(self->vcpu[0], guest_fep_dirty, GMEM_GVA, 0, 0);
	CALL_OK(self->vcpu[0], guest_fep_dirty, GMEM_GVA + 3 * PAGE_SIZE, 0, 0);
}

struct freezer {
	pthread_t thread;
	int fd;
	uint64_t error_offset;
	volatile bool stop;
	volatile uint64_t rounds;
};

static void *host_freezes(void *data)
{
	struct freezer *freezer = data;
	uint64_t error_offset;

	while (!freezer->stop) {
		TEST_ASSERT_EQ(__gmem_freeze(freezer->fd, &error_offset), -EAGAIN);
		TEST_ASSERT_EQ(error_offset, freezer->error_offset);
		freezer->rounds++;
	}
	return NULL;
}

/*
 * An attempt to freeze the page tables fails.  It is too early to take them for
 * frozen while it lasts: a walk would leave out the bits that it has to set.
 */
GMEM_TEST(gmem_guest, page_table_walk_and_freeze)
{
	struct userspace_mem_region *region = memslot2region(self->vm, 0);
	struct freezer freezer = {
		.fd = self->ram,
		.error_offset = region->region.memory_size - PAGE_SIZE,
	};
	struct iovec iov = {
		.iov_base = region->host_mem + freezer.error_offset,
		.iov_len = PAGE_SIZE,
	};
	int pipefd[2], n;

	REQUIRE_FEP();

	/* The last page, which nobody needs, is pinned. */
	gmem_make_shared(self->ram, freezer.error_offset, PAGE_SIZE);
	TEST_ASSERT_EQ(pipe(pipefd), 0);
	TEST_ASSERT_EQ(vmsplice(pipefd[1], &iov, 1, 0), PAGE_SIZE);

	TEST_ASSERT(!pthread_create(&freezer.thread, NULL, host_freezes, &freezer),
		    "pthread_create() failed");
	for (n = 0; n < 20 || freezer.rounds < 20; n++)
		CALL_OK(self->vcpu[0], guest_fep_dirty, GMEM_GVA, 0, 0);

	freezer.stop = true;
	TEST_ASSERT(!pthread_join(freezer.thread, NULL), "pthread_join() failed");
	close(pipefd[0]);
	close(pipefd[1]);
}

static uint64_t guest_apic(uint64_t id, uint64_t b, uint64_t c)
{
	xapic_enable();
	GUEST_CHECK(GET_APIC_ID_FIELD(xapic_read_reg(APIC_ID)) == id);
	GUEST_CHECK((xapic_read_reg(APIC_LVR) & 0xff) >= 0x10);
	xapic_write_reg(APIC_TASKPRI, 0x20);
	GUEST_CHECK(xapic_read_reg(APIC_TASKPRI) == 0x20);
	xapic_write_reg(APIC_TASKPRI, 0);
	return 0;
}

static uint64_t guest_ioapic(uint64_t a, uint64_t b, uint64_t c)
{
	uint32_t *ioapic = (uint32_t *)IOAPIC_GVA;

	/* The version register: 24 pins. */
	WRITE_ONCE(ioapic[0], 1);
	GUEST_CHECK((READ_ONCE(ioapic[4]) >> 16 & 0xff) == 23);
	/* A redirection entry, which can be written and read. */
	WRITE_ONCE(ioapic[0], 0x10);
	WRITE_ONCE(ioapic[4], 0x10000 | 0x33);
	WRITE_ONCE(ioapic[0], 0x10);
	GUEST_CHECK((READ_ONCE(ioapic[4]) & 0x100ff) == (0x10000 | 0x33));
	return 0;
}

static uint64_t guest_self_ipi(uint64_t n, uint64_t b, uint64_t c)
{
	uint64_t before = READ_ONCE(ipis_received), i;

	asm volatile("sti");
	for (i = 0; i < n; i++) {
		xapic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_DM_FIXED | IPI_VECTOR);
		while (READ_ONCE(ipis_received) == before + i)
			cpu_relax();
	}
	asm volatile("cli");
	return READ_ONCE(ipis_received) - before - n;
}

static uint64_t guest_send_ipi(uint64_t to, uint64_t n, uint64_t c)
{
	uint64_t i;

	for (i = 0; i < n; i++) {
		uint64_t before = READ_ONCE(ipis_received);

		xapic_write_reg(APIC_ICR2, SET_APIC_DEST_FIELD(to));
		xapic_write_reg(APIC_ICR, APIC_DM_FIXED | IPI_VECTOR);
		while (READ_ONCE(ipis_received) == before)
			cpu_relax();
	}
	return 0;
}

static uint64_t guest_await_ipis(uint64_t n, uint64_t b, uint64_t c)
{
	uint64_t before = READ_ONCE(ipis_received);

	/* Say that interrupts are on, and halt between them. */
	asm volatile("sti");
	WRITE_ONCE(*(uint64_t *)GMEM_GVA, 1);
	while (READ_ONCE(ipis_received) < before + n)
		asm volatile("cli; cmpq %1, %0; jae 1f; sti; hlt; cli; 1: sti"
			     : : "m"(ipis_received), "r"(before + n) : "cc", "memory");
	asm volatile("cli");
	return 0;
}

static uint64_t guest_await_word(uint64_t gva, uint64_t b, uint64_t c)
{
	while (!READ_ONCE(*(uint64_t *)gva))
		cpu_relax();
	return 0;
}

/* APIC and IOAPIC: decoded by KVM, from instructions in private memory. */
GMEM_TEST(gmem_guest, apic)
{
	struct thread_call wait = { self->vcpu[1], guest_await_ipis, 100 };

	CALL_OK(self->vcpu[0], guest_apic, self->vcpu[0]->id, 0, 0);
	CALL_OK(self->vcpu[1], guest_apic, self->vcpu[1]->id, 0, 0);
	CALL_OK(self->vcpu[0], guest_ioapic, 0, 0, 0);
	/* The IDT, the TSS and the stack are private. */
	CALL_OK(self->vcpu[0], guest_self_ipi, 10, 0, 0);
	CALL_OK(self->vcpu[1], guest_self_ipi, 10, 0, 0);

	thread_start(&wait);
	CALL_OK(self->vcpu[0], guest_await_word, GMEM_GVA, 0, 0);
	CALL_OK(self->vcpu[0], guest_send_ipi, self->vcpu[1]->id, 100, 0);
	pthread_join(wait.thread, NULL);
	TEST_ASSERT_EQ(wait.result, 0);
}

/* (MSR, value): 0, or the vector of the exception. */
static uint64_t guest_wrmsr(uint64_t msr, uint64_t val, uint64_t c)
{
	return wrmsr_safe(msr, val);
}

/* Set an MSR of KVM's; false where this VM does not have it. */
static bool set_msr(struct kvm_vcpu *vcpu, uint32_t msr, uint64_t val)
{
	uint64_t vector = call(vcpu, guest_wrmsr, msr, val, 0);

	TEST_ASSERT(!vector || vector == GP_VECTOR, "WRMSR: vector %lu", vector);
	return !vector;
}

/* What KVM says it can do here it has to do; what it does not say is no loss. */
#define REQUIRE_MSR(vcpu, feature, msr, val)				\
do {									\
	bool __set = set_msr(vcpu, msr, val);				\
									\
	if (!kvm_cpu_has(feature) || !__set)				\
		SKIP(return, #feature " is not offered");		\
} while (0)

/* Return the version, or 0 if what is there cannot be a clock. */
static uint64_t guest_kvmclock(uint64_t gva, uint64_t b, uint64_t c)
{
	struct pvclock_vcpu_time_info *ti = (void *)gva;

	if (READ_ONCE(ti->version) & 1 || !READ_ONCE(ti->tsc_to_system_mul) ||
	    !READ_ONCE(ti->tsc_timestamp))
		return 0;
	return READ_ONCE(ti->version);
}

GMEM_TEST(gmem_guest, kvmclock)
{
	const uint64_t offset = 2 * PAGE_SIZE + 64;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct pvclock_vcpu_time_info *ti = (void *)(self->mem + offset);
	struct kvm_clock_data clock = {};
	uint64_t version, next;
	int i, n;

	/* The page comes to life by KVM's own access. */
	REQUIRE_MSR(vcpu, X86_FEATURE_KVM_CLOCKSOURCE2, MSR_KVM_SYSTEM_TIME_NEW,
		    (GMEM_GPA + offset) | KVM_MSR_ENABLED);
	version = call(vcpu, guest_kvmclock, GMEM_GVA + offset, 0, 0);
	TEST_ASSERT(version, "no clock");
	CALL_OK(vcpu, gmem_guest_check_zero, GMEM_GVA + 2 * PAGE_SIZE, 64, 0);

	for (i = 0; i < 6; i++) {
		/* An update, while the page is private and while it is shared. */
		vm_ioctl(self->vm, KVM_SET_CLOCK, &clock);
		next = call(vcpu, guest_kvmclock, GMEM_GVA + offset, 0, 0);
		TEST_ASSERT(next > version, "round %d: the clock was at %lu, is at %lu",
			    i, version, next);
		version = next;

		if (i % 2) {
			TEST_ASSERT_EQ(ti->version, version);
			/* KVM may just be using it. */
			for (n = 0; n < 100; n++)
				if (!__gmem_convert(self->fd, true, 2 * PAGE_SIZE,
						    PAGE_SIZE, 0, NULL))
					break;
			TEST_ASSERT(n < 100, "the clock's page never becomes private");
			gmem_assert_no_access(self->mem + 2 * PAGE_SIZE, PAGE_SIZE);
		} else {
			gmem_make_shared(self->fd, 2 * PAGE_SIZE, PAGE_SIZE);
		}
	}

	/* The page is freed: what KVM holds of it must not be the old one. */
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
					FALLOC_FL_PUNCH_HOLE, 2 * PAGE_SIZE,
					PAGE_SIZE), 0);
	vm_ioctl(self->vm, KVM_SET_CLOCK, &clock);
	TEST_ASSERT(call(vcpu, guest_kvmclock, GMEM_GVA + offset, 0, 0),
		    "no clock in the new page");

	/* The slot goes, and comes back. */
	gmem_unbind(self->vm, GMEM_SLOT);
	vm_ioctl(self->vm, KVM_SET_CLOCK, &clock);
	TEST_ASSERT_EQ(call(vcpu, guest_recurse, 16, 0, 0), 136);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE,
		  variant->hva ? self->mem : NULL, self->fd, 0);
	vm_ioctl(self->vm, KVM_SET_CLOCK, &clock);
	TEST_ASSERT(call(vcpu, guest_kvmclock, GMEM_GVA + offset, 0, 0),
		    "no clock in the new slot");

	set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0);
}

GMEM_TEST(gmem_guest, wall_clock)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	struct pvclock_wall_clock *wc = (void *)self->mem;
	time_t now = time(NULL);

	REQUIRE_MSR(vcpu, X86_FEATURE_KVM_CLOCKSOURCE2, MSR_KVM_WALL_CLOCK_NEW,
		    GMEM_GPA);
	gmem_make_shared(self->fd, 0, PAGE_SIZE);
	TEST_ASSERT(wc->version && !(wc->version & 1), "version %u", wc->version);
	TEST_ASSERT(wc->sec <= now && wc->sec + 3600 > now,
		    "the VM started at %u, now it is %lu", wc->sec, now);
}

/* Return the version, or -1 if what is there cannot be KVM's. */
static uint64_t guest_steal_time(uint64_t gva, uint64_t b, uint64_t c)
{
	struct kvm_steal_time *st = (void *)gva;

	if (READ_ONCE(st->version) & 1 || READ_ONCE(st->flags) ||
	    READ_ONCE(st->preempted))
		return -1;
	return READ_ONCE(st->version);
}

GMEM_TEST(gmem_guest, steal_time)
{
	struct kvm_steal_time *st = (void *)(self->mem + 3 * PAGE_SIZE);
	struct kvm_vcpu *vcpu = self->vcpu[0];
	uint64_t version = 0, next;
	int i, n;

	REQUIRE_MSR(vcpu, X86_FEATURE_KVM_STEAL_TIME, MSR_KVM_STEAL_TIME,
		    (GMEM_GPA + 3 * PAGE_SIZE) | KVM_MSR_ENABLED);

	for (i = 0; i < 6; i++) {
		/* Off the processor and on it again. */
		for (n = 0; n < 3; n++) {
			usleep(1000);
			next = call(vcpu, guest_steal_time, GMEM_GVA + 3 * PAGE_SIZE, 0, 0);
			TEST_ASSERT(next != -1ULL, "not a steal time structure");
		}
		TEST_ASSERT(next > version, "round %d: version was %lu, is %lu", i,
			    version, next);
		version = next;

		if (i % 2) {
			TEST_ASSERT(st->version >= version, "another version");
			for (n = 0; n < 100; n++)
				if (!__gmem_convert(self->fd, true, 3 * PAGE_SIZE,
						    PAGE_SIZE, 0, NULL))
					break;
			TEST_ASSERT(n < 100, "its page never becomes private");
		} else {
			gmem_make_shared(self->fd, 3 * PAGE_SIZE, PAGE_SIZE);
		}
	}
	set_msr(vcpu, MSR_KVM_STEAL_TIME, 0);
}

static uint64_t guest_pv_eoi(uint64_t gva, uint64_t n, uint64_t c)
{
	WRITE_ONCE(pv_eoi, (uint32_t *)gva);
	WRITE_ONCE(pv_eois, 0);
	guest_self_ipi(n, 0, 0);
	WRITE_ONCE(pv_eoi, NULL);
	return READ_ONCE(pv_eois);
}

GMEM_TEST(gmem_guest, pv_eoi)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	uint64_t n;

	CALL_OK(vcpu, guest_apic, vcpu->id, 0, 0);
	REQUIRE_MSR(vcpu, X86_FEATURE_KVM_PV_EOI, MSR_KVM_PV_EOI_EN,
		    (GMEM_GPA + 4 * PAGE_SIZE) | KVM_MSR_ENABLED);

	/* Had KVM missed one of them, the next IPI would not come. */
	n = call(vcpu, guest_pv_eoi, GMEM_GVA + 4 * PAGE_SIZE, 20, 0);
	TEST_ASSERT(n, "KVM has never used it");
	gmem_make_shared(self->fd, 4 * PAGE_SIZE, PAGE_SIZE);
	n = call(vcpu, guest_pv_eoi, GMEM_GVA + 4 * PAGE_SIZE, 20, 0);
	TEST_ASSERT(n, "KVM has never used it");
	gmem_make_private(self->fd, 4 * PAGE_SIZE, PAGE_SIZE);
	n = call(vcpu, guest_pv_eoi, GMEM_GVA + 4 * PAGE_SIZE, 20, 0);
	TEST_ASSERT(n, "KVM has never used it");
	set_msr(vcpu, MSR_KVM_PV_EOI_EN, 0);
}

/* Whether or not KVM offers it: to enable it must do no harm. */
GMEM_TEST(gmem_guest, async_pf)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];

	set_msr(vcpu, MSR_KVM_ASYNC_PF_INT, IPI_VECTOR);
	set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, (GMEM_GPA + 5 * PAGE_SIZE) |
		KVM_ASYNC_PF_ENABLED | KVM_ASYNC_PF_DELIVERY_AS_INT);
	call(vcpu, gmem_guest_fill, GMEM_GVA + 6 * PAGE_SIZE, SIZE - 6 * PAGE_SIZE, 1);
	gmem_make_shared(self->fd, 0, SIZE);
	gmem_make_private(self->fd, 0, SIZE);
	CALL_OK(vcpu, gmem_guest_check, GMEM_GVA + 6 * PAGE_SIZE,
		SIZE - 6 * PAGE_SIZE, 1);
	set_msr(vcpu, MSR_KVM_ASYNC_PF_EN, 0);
}

/* (first byte, size, slot): leave a mark in every page, and keep doing so. */
static uint64_t guest_mark(uint64_t gva, uint64_t size, uint64_t slot)
{
	uint64_t p;
	int i;

	for (i = 1; i <= 50; i++) {
		for (p = gva; p < gva + size; p += PAGE_SIZE) {
			uint64_t *word = (uint64_t *)p + slot;

			GUEST_CHECK(READ_ONCE(*word) == i - 1);
			WRITE_ONCE(*word, i);
		}
	}
	return 0;
}

/* Two vCPUs come to the same fresh pages at the same time. */
GMEM_TEST(gmem_guest, two_vcpus)
{
	struct thread_call t[2] = {
		{ self->vcpu[0], guest_mark, GMEM_GVA, SIZE, 1 },
		{ self->vcpu[1], guest_mark, GMEM_GVA, SIZE, 2 },
	};
	uint64_t offset;
	int round, i;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < 2; i++)
			thread_start(&t[i]);
		for (i = 0; i < 2; i++) {
			pthread_join(t[i].thread, NULL);
			TEST_ASSERT(!t[i].result, "vCPU %d: line %lu", i, t[i].result);
		}
		for (offset = 0; offset < SIZE; offset += PAGE_SIZE) {
			TEST_ASSERT_EQ(call(self->vcpu[0], gmem_guest_read,
					    GMEM_GVA + offset + 8, 0, 0), 50);
			TEST_ASSERT_EQ(call(self->vcpu[1], gmem_guest_read,
					    GMEM_GVA + offset + 16, 0, 0), 50);
		}
		TEST_ASSERT_EQ(__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE |
						FALLOC_FL_PUNCH_HOLE, 0, SIZE), 0);
	}
}

/* An emulated access to @offset that has to end in a fault of the page at @gpa. */
static void emulation_fails(struct kvm_vcpu *vcpu, gmem_guest_fn fn,
			    uint64_t offset, int error, uint64_t gpa)
{
	gmem_guest_start(vcpu, fn, GMEM_GVA + offset, 1, 0);
	TEST_ASSERT(_vcpu_run(vcpu) && errno == error, "KVM_RUN: %s, %s",
		    strerror(errno), exit_reason_str(vcpu->run->exit_reason));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.gpa, gpa);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.size, PAGE_SIZE);
	TEST_ASSERT_EQ(vcpu->run->memory_fault.flags, 0);
}

/* What is emulated meets a broken page, which is neither MMIO nor the guest's fault. */
GMEM_TEST(gmem_guest, emulation_and_poison)
{
	struct userspace_mem_region *region = memslot2region(self->vm, 0);
	uint64_t pt_offset = self->pt_gpa - region->region.guest_phys_addr;
	struct kvm_vcpu *vcpu = self->vcpu[0];
	uint64_t result;
	int r;

	REQUIRE_FEP();

	call(vcpu, gmem_guest_fill, GMEM_GVA, 3 * PAGE_SIZE, 1);
	gmem_make_shared(self->fd, PAGE_SIZE, PAGE_SIZE);
	gmem_check(self->mem, PAGE_SIZE, PAGE_SIZE, 1);
	r = gmem_poison(self->mem + PAGE_SIZE);
	if (r)
		SKIP(return, "MADV_HWPOISON: %s", strerror(-r));

	emulation_fails(vcpu, gmem_guest_fep_read, PAGE_SIZE, EHWPOISON, GMEM_GPA + PAGE_SIZE);
	/* To its end, once the page is a new one. */
	TEST_ASSERT_EQ(__gmem_fallocate(self->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
					PAGE_SIZE, PAGE_SIZE), 0);
	vcpu_run(vcpu);
	TEST_ASSERT(gmem_guest_done(vcpu, &result) && !result, "it is not zero");
	CALL_OK(vcpu, guest_fep_write, GMEM_GVA + PAGE_SIZE, 5, 0);
	TEST_ASSERT_EQ(gmem_peek(self->mem + PAGE_SIZE, &result), 0);
	TEST_ASSERT_EQ(result, 5);

	/* The table through which the guest and KVM reach all of that. */
	gmem_make_shared(self->ram, pt_offset, PAGE_SIZE);
	TEST_ASSERT_EQ(gmem_poison(region->host_mem + pt_offset), 0);
	emulation_fails(vcpu, gmem_guest_fep_read, 0, EHWPOISON, self->pt_gpa);
}

/* The file is gone: KVM's accesses fail like the guest's, and nothing hangs. */
GMEM_TEST(gmem_guest, emulation_after_close)
{
	struct kvm_vcpu *vcpu = self->vcpu[0];
	uint64_t msr_gpa = GMEM_GPA + PAGE_SIZE;
	int fd;

	fd = gmem_create(self->vm, SIZE, GMEM_FLAGS_PRIVATE);
	gmem_unbind(self->vm, GMEM_SLOT);
	gmem_bind(self->vm, GMEM_SLOT, GMEM_GPA, SIZE, NULL, fd, 0);
	call(vcpu, gmem_guest_fill, GMEM_GVA, SIZE, 1);
	/* With a clock in it, which KVM goes on to update. */
	set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, msr_gpa | KVM_MSR_ENABLED);
	close(fd);

	TEST_ASSERT_EQ(call(vcpu, guest_recurse, 16, 0, 0), 136);
	set_msr(vcpu, MSR_KVM_SYSTEM_TIME_NEW, 0);
	set_msr(vcpu, MSR_KVM_WALL_CLOCK_NEW, GMEM_GPA);

	REQUIRE_FEP();
	emulation_fails(vcpu, gmem_guest_fep_read, 0, EFAULT, GMEM_GPA);
}

int main(int argc, char *argv[])
{
	char was;
	int r;

	GMEM_REQUIRE();

	was = gmem_set_fep('1');
	r = test_harness_run(argc, argv);
	gmem_set_fep(was);
	return r;
}

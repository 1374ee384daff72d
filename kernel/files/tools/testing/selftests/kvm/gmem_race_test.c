// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything that can be done to convertible guest_memfd memory, at once.
 *
 * The file has three regions, each with its own rules of ownership:
 *
 * KEEP   Each page holds a public pattern, which names the page and a sequence
 *        number.  Anybody converts any range of it, both ways, at any time;
 *        nobody zeroes or frees.  Who writes, guest or host, holds the lock of
 *        the page, and whoever reads finds the pattern that was written last.
 *
 * CHURN  Anybody does anything to any range of it, without a lock.  The guest
 *        and the host write public values only.
 *
 * SECRET The guest writes private patterns here.  Whoever converts, frees or
 *        zeroes holds the locks of all pages of the range, and so does the guest
 *        while it looks at a page or writes it.  To make a page shared, the
 *        guest wipes it first, and the host asks for it to be zeroed.  While
 *        a page is private it holds exactly what the guest wrote last.  The host
 *        reads, writes, maps, pins and asks at any time, without a lock.
 *
 * A page that somebody outside holds cannot become private.  Whoever may hold
 * pages says so before, see hold(), and for other pages EAGAIN may not last.
 *
 * Beside that, memory of its own is frozen, or not, as a page of it is held, and
 * cloned, with holes in both.
 *
 * All bytes of a private pattern have the top bit set, and no byte of a public
 * value has.  So one look at a byte tells whether the host has seen what it must
 * not: what is private now, or was when its page was freed, or, in a kernel that
 * poisons free pages, memory that nobody has initialised.
 */
#include <linux/falloc.h>
#include <linux/kvm_gmem.h>
#include <linux/mempolicy.h>
#include <linux/sizes.h>

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"
#include "gmem_util.h"

#define NR_VCPUS	2

#define KEEP		0
#define NR_KEEP		32
#define CHURN		(KEEP + NR_KEEP)
#define NR_CHURN	64
#define SECRET		(CHURN + NR_CHURN)
#define NR_SECRET	64
#define NR_PAGES	(SECRET + NR_SECRET)
#define DATA_SIZE	((size_t)NR_PAGES * PAGE_SIZE)

/* At a time. */
#define NR_PINS		4

#define NR_WORDS	(PAGE_SIZE / sizeof(uint64_t))
#define TOP_BITS	0x8080808080808080ull

/* Values of page_meta::seq. */
#define SEQ_ZERO	0u		/* the page reads as zero */
#define SEQ_PUBLIC	(~0u)		/* any public values */

/**
 * struct page_meta - what is known of a page, by guest and host alike
 * @lock: 1 while somebody owns the page
 * @version: for readers without the lock: odd while the page is being written
 * @seq: of the pattern in the first @split words
 * @old_seq: of the pattern in the rest, where a writer met the end of its rights
 * @split: NR_WORDS unless a write was cut short
 * @private: SECRET only
 */
struct page_meta {
	uint32_t lock;
	uint32_t version;
	uint32_t seq;
	uint32_t old_seq;
	uint32_t split;
	uint32_t private;
};

enum {
	OP_GUEST_KEEP_CHECK,
	OP_GUEST_KEEP_WRITE,
	OP_GUEST_CHURN,
	OP_GUEST_SECRET_CHECK,
	OP_GUEST_SECRET_WRITE,
	OP_GUEST_TO_SHARED,
	OP_GUEST_TO_PRIVATE,
	OP_KEEP_TO_SHARED,
	OP_KEEP_TO_PRIVATE,
	OP_CHURN_TO_SHARED_ZERO,
	OP_SECRET_TO_SHARED_ZERO,
	OP_SECRET_TO_PRIVATE,
	OP_SECRET_PUNCH,
	OP_SECRET_ZERO,
	OP_SECRET_ALLOCATE,
	OP_SECRET_STATE,
	OP_SECRET_SIGBUS,
	OP_BUSY,
	OP_CHURN_PUNCH,
	OP_CHURN_ZERO,
	OP_CHURN_ALLOCATE,
	OP_READ,
	OP_READ_SIGBUS,
	OP_READ_KEEP,
	OP_WRITE,
	OP_WRITE_SIGBUS,
	OP_WRITE_KEEP,
	OP_CHILD_READ,
	OP_CHILD_SIGBUS,
	OP_VM_READV,
	OP_VM_READV_EFAULT,
	OP_VM_WRITEV,
	OP_PIPE_WRITE,
	OP_PIPE_WRITE_EFAULT,
	OP_PIPE_READ,
	OP_PIN,
	OP_PIN_EFAULT,
	OP_PIN_STATE,
	OP_MAP,
	OP_MBIND,
	OP_ADVISE,
	OP_RANGES,
	OP_SEEK,
	OP_FDINFO,
	OP_BUSY_RETRY,
	OP_FREEZE_BUSY,
	OP_FREEZE,
	OP_CLONE,
	OP_CLONE_HOLE,
	OP_CLONE_WRITE,
	NR_OPS
};

static const char *const op_names[] = {
	[OP_GUEST_KEEP_CHECK] = "guest: keep checked",
	[OP_GUEST_KEEP_WRITE] = "guest: keep written",
	[OP_GUEST_CHURN] = "guest: churn",
	[OP_GUEST_SECRET_CHECK] = "guest: private pattern checked",
	[OP_GUEST_SECRET_WRITE] = "guest: private pattern written",
	[OP_GUEST_TO_SHARED] = "guest: to shared",
	[OP_GUEST_TO_PRIVATE] = "guest: to private",
	[OP_KEEP_TO_SHARED] = "keep, churn: to shared",
	[OP_KEEP_TO_PRIVATE] = "keep, churn: to private",
	[OP_CHURN_TO_SHARED_ZERO] = "churn: to shared, zeroed",
	[OP_SECRET_TO_SHARED_ZERO] = "secret: to shared, zeroed",
	[OP_SECRET_TO_PRIVATE] = "secret: to private",
	[OP_SECRET_PUNCH] = "secret: punch hole",
	[OP_SECRET_ZERO] = "secret: zero range",
	[OP_SECRET_ALLOCATE] = "secret: allocate",
	[OP_SECRET_STATE] = "secret: state compared",
	[OP_SECRET_SIGBUS] = "secret: SIGBUS where private",
	[OP_BUSY] = "conversions refused, memory in use",
	[OP_CHURN_PUNCH] = "churn: punch hole",
	[OP_CHURN_ZERO] = "churn: zero range",
	[OP_CHURN_ALLOCATE] = "churn: allocate",
	[OP_READ] = "host: pages read",
	[OP_READ_SIGBUS] = "host: reads with SIGBUS",
	[OP_READ_KEEP] = "host: keep checked",
	[OP_WRITE] = "host: words written",
	[OP_WRITE_SIGBUS] = "host: writes with SIGBUS",
	[OP_WRITE_KEEP] = "host: keep written",
	[OP_CHILD_READ] = "child: pages read",
	[OP_CHILD_SIGBUS] = "child: reads with SIGBUS",
	[OP_VM_READV] = "host: process_vm_readv",
	[OP_VM_READV_EFAULT] = "host: process_vm_readv, EFAULT",
	[OP_VM_WRITEV] = "host: process_vm_writev",
	[OP_PIPE_WRITE] = "host: write to pipe",
	[OP_PIPE_WRITE_EFAULT] = "host: write to pipe, EFAULT",
	[OP_PIPE_READ] = "host: read from pipe",
	[OP_PIN] = "host: pins",
	[OP_PIN_EFAULT] = "host: pins, EFAULT",
	[OP_PIN_STATE] = "host: pinned page still shared",
	[OP_MAP] = "host: map and unmap",
	[OP_MBIND] = "host: mbind",
	[OP_ADVISE] = "host: madvise",
	[OP_RANGES] = "query: ranges",
	[OP_SEEK] = "query: seek",
	[OP_FDINFO] = "query: fdinfo",
	[OP_BUSY_RETRY] = "conversions refused for nothing, and tried again",
	[OP_FREEZE_BUSY] = "golden: freezing refused, memory in use",
	[OP_FREEZE] = "golden: frozen",
	[OP_CLONE] = "golden: cloned, and compared",
	[OP_CLONE_HOLE] = "clone: punch hole",
	[OP_CLONE_WRITE] = "clone: written",
};

/* What guest and host have in common; in memory that has nothing to do with gmem. */
static struct common {
	uint64_t seed;
	uint32_t stop;
	uint32_t next_seq;
	int32_t reply[NR_VCPUS];
	uint64_t counts[NR_OPS];
	struct page_meta meta[NR_PAGES];
} guest_common;

/* The host's address of it. */
static struct common *common;

static struct kvm_vm *vm;
static int gmem_fd;
static uint8_t *gmem_mem;
static int nr_nodes;
static uint64_t *child_counts;
static uint64_t stack_tops[NR_VCPUS];

enum { REQUEST_SHARED, REQUEST_PRIVATE };

/*
 * For both sides.
 */

static void count(struct common *c, int op)
{
	__atomic_fetch_add(&c->counts[op], 1, __ATOMIC_RELAXED);
}

static uint64_t rnd(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

static uint32_t rnd_below(uint64_t *state, uint32_t limit)
{
	return (rnd(state) >> 16) % limit;
}

/* A range of pages within [first, first + nr), mostly a short one. */
static uint32_t rnd_range(uint64_t *state, uint32_t first, uint32_t nr,
			  uint32_t max, uint32_t *page)
{
	uint32_t n = 1 + rnd_below(state, max < nr ? max : nr);

	*page = first + rnd_below(state, nr - n + 1);
	return n;
}

static uint64_t mix(uint32_t page, uint32_t word, uint32_t seq)
{
	uint64_t x = (seq * 0x9e3779b97f4a7c15ull) ^ ((uint64_t)page << 40) ^
		     ((uint64_t)word << 20);

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ull;
	return x ^ (x >> 32);
}

static uint64_t public_word(uint32_t page, uint32_t word, uint32_t seq)
{
	return seq == SEQ_ZERO ? 0 : mix(page, word, seq) & ~TOP_BITS;
}

static uint64_t secret_word(uint32_t page, uint32_t word, uint32_t seq)
{
	return seq == SEQ_ZERO ? 0 : mix(page, word, seq) | TOP_BITS;
}

static uint64_t keep_word(const struct page_meta *m, uint32_t page,
			  uint32_t word)
{
	return public_word(page, word, word < m->split ? m->seq : m->old_seq);
}

/* Below SEQ_PUBLIC, and never SEQ_ZERO. */
static uint32_t new_seq(struct common *c)
{
	return __atomic_add_fetch(&c->next_seq, 1, __ATOMIC_RELAXED);
}

/* Nobody waits for a lock: there is always another page. */
static bool lock_pages(struct common *c, uint32_t page, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (!__atomic_exchange_n(&c->meta[page + i].lock, 1,
					 __ATOMIC_ACQUIRE))
			continue;
		while (i--)
			__atomic_store_n(&c->meta[page + i].lock, 0,
					 __ATOMIC_RELEASE);
		return false;
	}

	return true;
}

static void unlock_pages(struct common *c, uint32_t page, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		__atomic_store_n(&c->meta[page + i].lock, 0, __ATOMIC_RELEASE);
}

static void begin_write(struct page_meta *m)
{
	__atomic_fetch_add(&m->version, 1, __ATOMIC_SEQ_CST);
}

static void end_write(struct page_meta *m)
{
	__atomic_fetch_add(&m->version, 1, __ATOMIC_SEQ_CST);
}

/*
 * The guest.
 */

static uint64_t *guest_page(uint32_t page)
{
	return (void *)(GMEM_GVA + (uint64_t)page * PAGE_SIZE);
}

static void guest_keep(struct common *c, uint64_t *rng)
{
	uint32_t page = KEEP + rnd_below(rng, NR_KEEP);
	uint64_t *mem = guest_page(page);
	struct page_meta *m = &c->meta[page];
	uint32_t i, seq;

	if (!lock_pages(c, page, 1))
		return;

	for (i = 0; i < NR_WORDS; i++) {
		uint64_t val = READ_ONCE(mem[i]), want = keep_word(m, page, i);

		__GUEST_ASSERT(val == want,
			       "kept page %u, word %u: 0x%lx, not 0x%lx",
			       page, i, val, want);
	}
	count(c, OP_GUEST_KEEP_CHECK);

	if (rnd_below(rng, 2) || m->split != NR_WORDS) {
		seq = new_seq(c);
		begin_write(m);
		for (i = 0; i < NR_WORDS; i++)
			WRITE_ONCE(mem[i], public_word(page, i, seq));
		m->seq = seq;
		m->split = NR_WORDS;
		end_write(m);
		count(c, OP_GUEST_KEEP_WRITE);
	}

	unlock_pages(c, page, 1);
}

static void guest_churn(struct common *c, uint64_t *rng)
{
	uint32_t page = CHURN + rnd_below(rng, NR_CHURN);
	uint64_t *mem = guest_page(page);
	uint32_t i;

	for (i = 0; i < 16; i++) {
		uint32_t word = rnd_below(rng, NR_WORDS);
		uint64_t val = READ_ONCE(mem[word]);

		__GUEST_ASSERT(!(val & TOP_BITS),
			       "page %u, word %u: 0x%lx, which nobody wrote",
			       page, word, val);
		WRITE_ONCE(mem[word], rnd(rng) & ~TOP_BITS);
	}
	count(c, OP_GUEST_CHURN);
}

static void guest_check_secret(struct common *c, uint32_t page)
{
	uint64_t *mem = guest_page(page);
	struct page_meta *m = &c->meta[page];
	bool exact = m->private && m->seq != SEQ_PUBLIC;
	uint32_t i;

	for (i = 0; i < NR_WORDS; i++) {
		uint64_t val = READ_ONCE(mem[i]);

		if (!exact) {
			__GUEST_ASSERT(!(val & TOP_BITS),
				       "page %u, word %u: 0x%lx, which nobody wrote",
				       page, i, val);
			continue;
		}
		__GUEST_ASSERT(val == secret_word(page, i, m->seq),
			       "private page %u, word %u: 0x%lx, not 0x%lx",
			       page, i, val, secret_word(page, i, m->seq));
	}
	if (exact)
		count(c, OP_GUEST_SECRET_CHECK);
}

static void guest_write_secret(struct common *c, uint32_t page)
{
	uint64_t *mem = guest_page(page);
	struct page_meta *m = &c->meta[page];
	uint32_t i;

	m->seq = new_seq(c);
	for (i = 0; i < NR_WORDS; i++)
		WRITE_ONCE(mem[i], secret_word(page, i, m->seq));
	count(c, OP_GUEST_SECRET_WRITE);
}

static void guest_request(uint64_t what, uint64_t page, uint64_t n, uint64_t id)
{
	GUEST_SYNC4(what, page, n, id);
}

static void guest_secret(struct common *c, uint64_t *rng, uint32_t id)
{
	uint32_t page, n, i, w;

	n = rnd_range(rng, SECRET, NR_SECRET, 4, &page);
	if (!lock_pages(c, page, n))
		return;

	for (i = 0; i < n; i++)
		guest_check_secret(c, page + i);

	switch (rnd_below(rng, 3)) {
	case 0:
		for (i = 0; i < n; i++) {
			if (c->meta[page + i].private)
				guest_write_secret(c, page + i);
		}
		break;

	case 1:
		for (i = 0; i < n; i++) {
			uint64_t *mem = guest_page(page + i);

			if (!c->meta[page + i].private)
				continue;
			for (w = 0; w < NR_WORDS; w++)
				WRITE_ONCE(mem[w], public_word(page + i, w, 1));
		}
		guest_request(REQUEST_SHARED, page, n, id);
		for (i = 0; i < n; i++) {
			c->meta[page + i].private = 0;
			c->meta[page + i].seq = SEQ_PUBLIC;
			guest_check_secret(c, page + i);
		}
		count(c, OP_GUEST_TO_SHARED);
		break;

	case 2:
		guest_request(REQUEST_PRIVATE, page, n, id);
		if (READ_ONCE(c->reply[id]))
			break;
		for (i = 0; i < n; i++) {
			struct page_meta *m = &c->meta[page + i];

			if (!m->private) {
				m->private = 1;
				m->seq = SEQ_PUBLIC;
			}
			/* What was private already has lost nothing. */
			guest_check_secret(c, page + i);
			guest_write_secret(c, page + i);
		}
		count(c, OP_GUEST_TO_PRIVATE);
		break;
	}

	unlock_pages(c, page, n);
}

static void guest_code(uint32_t id)
{
	struct common *c = &guest_common;
	uint64_t rng = c->seed * 31 + id + 1;

	while (!READ_ONCE(c->stop)) {
		switch (rnd_below(&rng, 4)) {
		case 0:
			guest_keep(c, &rng);
			break;
		case 1:
			guest_churn(c, &rng);
			break;
		default:
			guest_secret(c, &rng, id);
			break;
		}
	}

	GUEST_DONE();
}

/*
 * The host.
 */

static __thread void *sigbus_env;

static void sigbus_handler(int sig, siginfo_t *info, void *ctx)
{
	static const char msg[] = "Bail out! SIGBUS out of place\n";

	if (sigbus_env && info->si_code == BUS_ADRERR)
		siglongjmp(*(sigjmp_buf *)sigbus_env, 1);

	if (write(STDOUT_FILENO, msg, sizeof(msg) - 1) < 0)
		abort();
	_exit(KSFT_FAIL);
}

/* Copy until SIGBUS; how many words is the answer. */
static size_t try_copy(uint64_t *dst, const uint64_t *src, size_t n)
{
	/* Not in a register, which siglongjmp() would set back. */
	static __thread size_t i;
	sigjmp_buf env;

	WRITE_ONCE(i, 0);
	if (!sigsetjmp(env, 0)) {
		WRITE_ONCE(sigbus_env, &env);
		while (READ_ONCE(i) < n) {
			WRITE_ONCE(dst[READ_ONCE(i)], READ_ONCE(src[READ_ONCE(i)]));
			WRITE_ONCE(i, READ_ONCE(i) + 1);
		}
	}
	WRITE_ONCE(sigbus_env, NULL);

	return READ_ONCE(i);
}

static uint64_t *host_page(void *mem, uint32_t page)
{
	return (void *)((uint8_t *)mem + (size_t)page * PAGE_SIZE);
}

/* The one thing that this test is about. */
static void check_public(const uint64_t *buf, size_t n, uint32_t page,
			 const char *how)
{
	size_t i;

	for (i = 0; i < n; i++)
		TEST_ASSERT(!(buf[i] & TOP_BITS),
			    "The host has seen 0x%lx by %s, page %u, word %lu",
			    buf[i], how, page, i);
}

static bool begin_read(uint32_t page, struct page_meta *m)
{
	struct page_meta *now = &common->meta[page];

	m->version = __atomic_load_n(&now->version, __ATOMIC_SEQ_CST);
	m->seq = READ_ONCE(now->seq);
	m->old_seq = READ_ONCE(now->old_seq);
	m->split = READ_ONCE(now->split);

	return page < KEEP + NR_KEEP && !(m->version & 1);
}

/* @m is of begin_read(): unless the page was written since, it tells what is in. */
static bool check_kept(const uint64_t *buf, size_t n, uint32_t page,
		       const struct page_meta *m, const char *how)
{
	size_t i;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&common->meta[page].version, __ATOMIC_SEQ_CST) !=
	    m->version)
		return false;

	for (i = 0; i < n; i++)
		TEST_ASSERT(buf[i] == keep_word(m, page, i),
			    "Kept page %u, word %lu by %s: 0x%lx, not 0x%lx",
			    page, i, how, buf[i], keep_word(m, page, i));

	return n > 0;
}

/*
 * Who may hold pages for longer than invalidate_lock, by number: threads of this
 * process at this time, and how often any began to.
 */
static uint32_t holders[NR_PAGES], holds[NR_PAGES];

static void hold(uint32_t page, uint32_t n)
{
	for (; n--; page++) {
		__atomic_fetch_add(&holders[page], 1, __ATOMIC_SEQ_CST);
		__atomic_fetch_add(&holds[page], 1, __ATOMIC_SEQ_CST);
	}
}

static void unhold(uint32_t page, uint32_t n)
{
	while (n--)
		__atomic_fetch_sub(&holders[page++], 1, __ATOMIC_SEQ_CST);
}

#define NR_RETRIES	10

/*
 * Pages that would become private may be in use; nothing else may go wrong.  mm
 * holds a page for a moment now and then, for reasons of its own; so what nobody
 * here explains has to be gone when it is tried again.
 */
static bool convert(bool private, uint32_t page, uint32_t n, uint64_t flags)
{
	const uint64_t offset = (uint64_t)page * PAGE_SIZE;
	const uint64_t size = (uint64_t)n * PAGE_SIZE;
	const uint64_t attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
	uint32_t before[NR_PAGES], i, nr_tries = 0;
	static uint32_t nr_conversions;
	uint64_t error_offset;
	bool held[NR_PAGES];
	int r;

	do {
		for (i = 0; i < n; i++) {
			before[i] = __atomic_load_n(&holds[page + i], __ATOMIC_SEQ_CST);
			held[i] = __atomic_load_n(&holders[page + i], __ATOMIC_SEQ_CST);
		}

		/* By the one interface and by the other. */
		if (flags || __atomic_fetch_add(&nr_conversions, 1, __ATOMIC_RELAXED) % 2)
			r = __gmem_convert(gmem_fd, private, offset, size, flags,
					   &error_offset);
		else
			r = __gmem_set_attributes(gmem_fd, attributes, offset, size,
						  &error_offset);
		if (!r) {
			if (nr_tries)
				count(common, OP_BUSY_RETRY);
			return true;
		}

		TEST_ASSERT(private && r == -EAGAIN,
			    "To %s, pages %u + %u: %s", private ? "private" : "shared",
			    page, n, strerror(-r));
		TEST_ASSERT(!(error_offset % PAGE_SIZE) && error_offset >= offset &&
			    error_offset < offset + size,
			    "Pages %u + %u busy at 0x%lx", page, n, error_offset);

		i = error_offset / PAGE_SIZE - page;
		if (held[i] ||
		    __atomic_load_n(&holds[page + i], __ATOMIC_SEQ_CST) != before[i]) {
			count(common, OP_BUSY);
			return false;
		}
	} while (nr_tries++ < NR_RETRIES);

	TEST_FAIL("Pages %u + %u busy at page %u, which nobody held", page, n, page + i);
}

static bool stopping(void)
{
	return READ_ONCE(common->stop);
}

static uint64_t thread_seed(void)
{
	static uint64_t nr;

	return common->seed * 37 +
	       __atomic_add_fetch(&nr, 1, __ATOMIC_RELAXED) * 0x9e3779b9;
}

/*
 * A guest that has lost its way.  Where KVM resets a vCPU that shuts down, as it
 * does with SVM, the registers say nothing any more.  But the exceptions that led
 * there are on the stack, the first one at the top, unless it is the stack itself
 * that is gone; and as stacks have no gap between them, they may have run from
 * one vCPU's into the next one's below it.
 */
static void fail_exit(struct kvm_vcpu *vcpu)
{
	const uint64_t size = DEFAULT_STACK_PGS * PAGE_SIZE;
	/* What handlers.S and the CPU push. */
	struct {
		uint64_t vector, error_code, rip, cs, rflags, rsp;
	} *f;
	unsigned int n = 0;
	char first[128] = "no exception got as far as its stack";
	uint8_t *stack;
	int64_t at;
	int i;

	vcpu_dump(stderr, vcpu, 2);
	for (i = NR_VCPUS - 1; i >= 0; i--) {
		stack = addr_gva2hva(vm, stack_tops[i] - size);
		for (at = size - sizeof(*f); at >= 0; at -= 8) {
			f = (void *)(stack + at);
			/* The only code segment; a bit that is always set. */
			if (f->vector >= 256 || f->cs != 8 || !(f->rflags & 2))
				continue;
			if (n++ >= 8)
				continue;
			fprintf(stderr, "  vCPU %d: exception %lu (0x%lx), rip 0x%lx, rsp 0x%lx\n",
				i, f->vector, f->error_code, f->rip, f->rsp);
			if (n == 1)
				snprintf(first, sizeof(first),
					 "at first exception %lu (0x%lx) of vCPU %d, rip 0x%lx, rsp 0x%lx",
					 f->vector, f->error_code, i, f->rip, f->rsp);
		}
	}

	TEST_FAIL("Unexpected exit %s of vCPU %u: %s",
		  exit_reason_str(vcpu->run->exit_reason), vcpu->id, first);
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;
	bool private;

	for (;;) {
		vcpu_run(vcpu);
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			private = uc.args[0] == REQUEST_PRIVATE;
			WRITE_ONCE(common->reply[uc.args[3]],
				   convert(private, uc.args[1], uc.args[2], 0) ?
				   0 : EAGAIN);
			break;
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		default:
			fail_exit(vcpu);
		}
	}
}

static void *convert_thread(void *arg)
{
	uint64_t rng = thread_seed();
	uint32_t page, n;

	while (!stopping()) {
		uint32_t max = rnd_below(&rng, 8) ? 8 : NR_KEEP + NR_CHURN;

		switch (rnd_below(&rng, 5)) {
		case 0:
		case 1:
			n = rnd_range(&rng, KEEP, NR_KEEP + NR_CHURN, max, &page);
			convert(false, page, n, 0);
			count(common, OP_KEEP_TO_SHARED);
			break;
		case 2:
		case 3:
			n = rnd_range(&rng, KEEP, NR_KEEP + NR_CHURN, max, &page);
			if (convert(true, page, n, 0))
				count(common, OP_KEEP_TO_PRIVATE);
			break;
		case 4:
			n = rnd_range(&rng, CHURN, NR_CHURN, max, &page);
			convert(false, page, n, KVM_GMEM_CONVERT_ZERO);
			count(common, OP_CHURN_TO_SHARED_ZERO);
			break;
		}
	}

	return NULL;
}

static void host_fallocate(int mode, uint32_t page, uint32_t n)
{
	int r = fallocate(gmem_fd, mode | FALLOC_FL_KEEP_SIZE,
			  (off_t)page * PAGE_SIZE, (off_t)n * PAGE_SIZE);

	TEST_ASSERT(!r, "fallocate(0x%x), pages %u + %u: %s", mode, page, n,
		    strerror(errno));
}

/* Compare with what the kernel thinks; the caller owns the pages. */
static void compare_state(uint32_t page, uint32_t n)
{
	struct kvm_gmem_range ranges[NR_SECRET];
	struct kvm_gmem_get_ranges get = {
		.offset = (uint64_t)page * PAGE_SIZE,
		.size = (uint64_t)n * PAGE_SIZE,
		.ranges = (uintptr_t)ranges,
		.nr = ARRAY_SIZE(ranges),
	};
	uint32_t i, p = page;
	uint64_t buf;

	TEST_ASSERT(!ioctl(gmem_fd, KVM_GMEM_GET_RANGES, &get),
		    "KVM_GMEM_GET_RANGES: %s", strerror(errno));
	TEST_ASSERT(!get.size, "0x%llx bytes not reported", get.size);

	for (i = 0; i < get.nr; i++) {
		TEST_ASSERT(ranges[i].offset == (uint64_t)p * PAGE_SIZE,
			    "Range at 0x%llx, not at page %u",
			    ranges[i].offset, p);
		for (; p * PAGE_SIZE < ranges[i].offset + ranges[i].size; p++)
			TEST_ASSERT(common->meta[p].private ==
				    !!(ranges[i].flags & KVM_GMEM_RANGE_PRIVATE),
				    "Page %u should be %s", p,
				    common->meta[p].private ? "private" : "shared");
	}
	TEST_ASSERT(p == page + n, "Ranges end at page %u, not %u", p, page + n);
	count(common, OP_SECRET_STATE);

	for (p = page; p < page + n; p++) {
		bool reached = try_copy(&buf, host_page(gmem_mem, p), 1);

		TEST_ASSERT(reached == !common->meta[p].private,
			    "The host %s reach %s page %u",
			    reached ? "can" : "cannot",
			    common->meta[p].private ? "private" : "shared", p);
		if (!reached)
			count(common, OP_SECRET_SIGBUS);
	}
}

static void *secret_thread(void *arg)
{
	uint64_t rng = thread_seed();
	uint32_t page, n, i;

	while (!stopping()) {
		n = rnd_range(&rng, SECRET, NR_SECRET, 6, &page);
		if (!lock_pages(common, page, n)) {
			sched_yield();
			continue;
		}

		switch (rnd_below(&rng, 6)) {
		case 0:
			convert(false, page, n, KVM_GMEM_CONVERT_ZERO);
			for (i = 0; i < n; i++) {
				common->meta[page + i].private = 0;
				common->meta[page + i].seq = SEQ_PUBLIC;
			}
			count(common, OP_SECRET_TO_SHARED_ZERO);
			break;
		case 1:
			if (!convert(true, page, n, 0))
				break;
			for (i = 0; i < n; i++)
				common->meta[page + i].private = 1;
			count(common, OP_SECRET_TO_PRIVATE);
			break;
		case 2:
		case 3:
			if (rnd_below(&rng, 2)) {
				host_fallocate(FALLOC_FL_PUNCH_HOLE, page, n);
				count(common, OP_SECRET_PUNCH);
			} else {
				host_fallocate(FALLOC_FL_ZERO_RANGE, page, n);
				count(common, OP_SECRET_ZERO);
			}
			for (i = 0; i < n; i++) {
				if (common->meta[page + i].private)
					common->meta[page + i].seq = SEQ_ZERO;
			}
			break;
		case 4:
			host_fallocate(0, page, n);
			count(common, OP_SECRET_ALLOCATE);
			break;
		case 5:
			break;
		}

		compare_state(page, n);
		unlock_pages(common, page, n);
	}

	return NULL;
}

static void *churn_thread(void *arg)
{
	uint64_t rng = thread_seed();
	uint32_t page, n;

	while (!stopping()) {
		n = rnd_range(&rng, CHURN, NR_CHURN, 16, &page);
		switch (rnd_below(&rng, 3)) {
		case 0:
			host_fallocate(FALLOC_FL_PUNCH_HOLE, page, n);
			count(common, OP_CHURN_PUNCH);
			break;
		case 1:
			host_fallocate(FALLOC_FL_ZERO_RANGE, page, n);
			count(common, OP_CHURN_ZERO);
			break;
		case 2:
			host_fallocate(0, page, n);
			count(common, OP_CHURN_ALLOCATE);
			break;
		}
		sched_yield();
	}

	return NULL;
}

static void read_one(uint64_t *rng)
{
	uint32_t page = rnd_below(rng, NR_PAGES);
	uint64_t buf[NR_WORDS];
	struct page_meta m;
	bool kept;
	size_t n;

	kept = begin_read(page, &m);
	n = try_copy(buf, host_page(gmem_mem, page), NR_WORDS);
	check_public(buf, n, page, "a mapping");
	if (kept && check_kept(buf, n, page, &m, "a mapping"))
		count(common, OP_READ_KEEP);

	count(common, n < NR_WORDS ? OP_READ_SIGBUS : OP_READ);
}

/* The pattern may be cut short by a conversion; then say where. */
static void write_kept(uint32_t page)
{
	struct page_meta *m = &common->meta[page];
	uint64_t buf[NR_WORDS];
	uint32_t seq, i;

	if (!lock_pages(common, page, 1))
		return;

	/* The guest has to mend it first. */
	if (m->split == NR_WORDS) {
		seq = new_seq(common);
		for (i = 0; i < NR_WORDS; i++)
			buf[i] = public_word(page, i, seq);

		begin_write(m);
		m->split = try_copy(host_page(gmem_mem, page), buf, NR_WORDS);
		m->old_seq = m->seq;
		m->seq = seq;
		if (m->split)
			count(common, OP_WRITE_KEEP);
		end_write(m);
	}

	unlock_pages(common, page, 1);
}

static void *touch_thread(void *arg)
{
	uint64_t rng = thread_seed();
	uint64_t val, *where;

	while (!stopping()) {
		switch (rnd_below(&rng, 4)) {
		case 0:
		case 1:
			read_one(&rng);
			break;
		case 2:
			val = rnd(&rng) & ~TOP_BITS;
			where = host_page(gmem_mem, CHURN +
					  rnd_below(&rng, NR_CHURN + NR_SECRET)) +
				rnd_below(&rng, NR_WORDS);
			count(common, try_copy(where, &val, 1) ?
				      OP_WRITE : OP_WRITE_SIGBUS);
			break;
		case 3:
			write_kept(KEEP + rnd_below(&rng, NR_KEEP));
			break;
		}
	}

	return NULL;
}

static void use_vm_readv(uint64_t *rng)
{
	uint32_t page = rnd_below(rng, NR_PAGES);
	uint64_t buf[NR_WORDS];
	struct iovec local = { buf, sizeof(buf) };
	struct iovec remote = { host_page(gmem_mem, page), sizeof(buf) };
	struct page_meta m;
	ssize_t n;
	bool kept;

	kept = begin_read(page, &m);
	hold(page, 1);
	n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	unhold(page, 1);
	if (n < 0) {
		TEST_ASSERT(errno == EFAULT, "process_vm_readv: %s",
			    strerror(errno));
		count(common, OP_VM_READV_EFAULT);
		return;
	}
	check_public(buf, n / sizeof(*buf), page, "process_vm_readv()");
	if (kept)
		check_kept(buf, n / sizeof(*buf), page, &m, "process_vm_readv()");
	count(common, OP_VM_READV);
}

static void use_vm_writev(uint64_t *rng)
{
	uint32_t page = CHURN + rnd_below(rng, NR_CHURN + NR_SECRET);
	uint64_t buf[NR_WORDS];
	struct iovec local = { buf, sizeof(buf) };
	struct iovec remote = { host_page(gmem_mem, page), sizeof(buf) };
	ssize_t n;

	memset(buf, rnd(rng) & 0x7f, sizeof(buf));
	hold(page, 1);
	n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	unhold(page, 1);
	TEST_ASSERT(n >= 0 || errno == EFAULT, "process_vm_writev: %s",
		    strerror(errno));
	if (n > 0)
		count(common, OP_VM_WRITEV);
}

/* What went into a pipe, by copy or by reference, is what the host sees. */
static void drain_pipe(int fd, ssize_t n, uint32_t page, struct page_meta *m,
		       const char *how)
{
	uint64_t buf[NR_WORDS];

	TEST_ASSERT(read(fd, buf, n) == n, "read from pipe: %s",
		    strerror(errno));
	check_public(buf, n / sizeof(*buf), page, how);
	if (m)
		check_kept(buf, n / sizeof(*buf), page, m, how);
}

static void use_pipe_write(uint64_t *rng, int pipefd[2])
{
	uint32_t page = rnd_below(rng, NR_PAGES);
	struct page_meta m;
	ssize_t n;
	bool kept;

	kept = begin_read(page, &m);
	n = write(pipefd[1], host_page(gmem_mem, page), PAGE_SIZE);
	if (n < 0) {
		TEST_ASSERT(errno == EFAULT, "write to pipe: %s",
			    strerror(errno));
		/* The pipe has an empty buffer now: take it out. */
		TEST_ASSERT(read(pipefd[0], &n, 1) < 0 && errno == EAGAIN,
			    "A failed write has left something in the pipe");
		count(common, OP_PIPE_WRITE_EFAULT);
		return;
	}
	drain_pipe(pipefd[0], n, page, kept ? &m : NULL, "write()");
	count(common, OP_PIPE_WRITE);
}

static void use_pipe_read(uint64_t *rng, int pipefd[2])
{
	uint32_t page = CHURN + rnd_below(rng, NR_CHURN + NR_SECRET);
	uint8_t buf[PAGE_SIZE];
	ssize_t n;

	memset(buf, rnd(rng) & 0x7f, sizeof(buf));
	TEST_ASSERT(write(pipefd[1], buf, sizeof(buf)) == sizeof(buf),
		    "write to pipe: %s", strerror(errno));
	n = read(pipefd[0], host_page(gmem_mem, page), PAGE_SIZE);
	if (n < 0) {
		TEST_ASSERT(errno == EFAULT, "read from pipe: %s",
			    strerror(errno));
		n = 0;
	} else {
		count(common, OP_PIPE_READ);
	}
	/* What did not fit is still in there. */
	if (n < sizeof(buf))
		drain_pipe(pipefd[0], sizeof(buf) - n, page, NULL, "a pipe");
}

/* Pages in a pipe, by reference; the oldest is the first to come out. */
struct pins {
	int pipefd[2];
	uint32_t pages[NR_PINS];
	unsigned int in;
	unsigned int out;
};

static void pin(struct pins *pins, uint32_t page)
{
	struct iovec iov = { host_page(gmem_mem, page), PAGE_SIZE };
	ssize_t n;

	hold(page, 1);
	n = vmsplice(pins->pipefd[1], &iov, 1, 0);
	if (n < 0) {
		unhold(page, 1);
		TEST_ASSERT(errno == EFAULT, "vmsplice: %s", strerror(errno));
		count(common, OP_PIN_EFAULT);
		return;
	}
	TEST_ASSERT_EQ(n, PAGE_SIZE);
	pins->pages[pins->in++ % NR_PINS] = page;
}

static void unpin(struct pins *pins)
{
	uint32_t page = pins->pages[pins->out++ % NR_PINS];
	struct page_meta m;
	bool kept;

	/* Nothing is freed there, so the page is what the pipe holds. */
	if (page < KEEP + NR_KEEP) {
		TEST_ASSERT(!gmem_is_private(gmem_fd, (uint64_t)page * PAGE_SIZE),
			    "Pinned page %u became private", page);
		count(common, OP_PIN_STATE);
	}

	kept = begin_read(page, &m);
	drain_pipe(pins->pipefd[0], PAGE_SIZE, page, kept ? &m : NULL,
		   "vmsplice()");
	unhold(page, 1);
	count(common, OP_PIN);
}

static void *pin_thread(void *arg)
{
	uint64_t rng = thread_seed();
	struct pins pins = {};

	TEST_ASSERT(!pipe2(pins.pipefd, O_NONBLOCK), "pipe2: %s",
		    strerror(errno));

	while (!stopping()) {
		if (pins.in - pins.out < NR_PINS)
			pin(&pins, rnd_below(&rng, NR_PAGES));
		if (pins.in != pins.out && !rnd_below(&rng, 4))
			unpin(&pins);
		sched_yield();
	}

	while (pins.in != pins.out)
		unpin(&pins);
	close(pins.pipefd[0]);
	close(pins.pipefd[1]);

	return NULL;
}

static void *syscall_thread(void *arg)
{
	uint64_t rng = thread_seed();
	int pipefd[2];

	TEST_ASSERT(!pipe2(pipefd, O_NONBLOCK), "pipe2: %s", strerror(errno));

	while (!stopping()) {
		switch (rnd_below(&rng, 4)) {
		case 0:
			use_vm_readv(&rng);
			break;
		case 1:
			use_vm_writev(&rng);
			break;
		case 2:
			use_pipe_write(&rng, pipefd);
			break;
		case 3:
			use_pipe_read(&rng, pipefd);
			break;
		}
	}

	close(pipefd[0]);
	close(pipefd[1]);

	return NULL;
}

/* Nobody else changes the policy, so it can be compared. */
static void use_mbind(uint64_t *rng, void *mem, uint32_t page, uint32_t n)
{
	static const int modes[] = {
		MPOL_DEFAULT, MPOL_BIND, MPOL_INTERLEAVE, MPOL_PREFERRED,
	};
	int mode = modes[rnd_below(rng, ARRAY_SIZE(modes))];
	unsigned long mask = 1ul << rnd_below(rng, nr_nodes), got = 0;
	int flags = rnd_below(rng, 4) ? 0 : MPOL_MF_MOVE, got_mode = -1;
	uint32_t i;

	if (mode == MPOL_DEFAULT)
		mask = 0;
	TEST_ASSERT(!syscall(__NR_mbind, mem, n * PAGE_SIZE, mode, &mask, 64, flags),
		    "mbind(%d, 0x%lx): %s", mode, mask, strerror(errno));
	count(common, OP_MBIND);

	if (mode == MPOL_DEFAULT)
		return;
	i = page + rnd_below(rng, n);
	TEST_ASSERT(!syscall(__NR_get_mempolicy, &got_mode, &got, 64,
			     host_page(gmem_mem, i), MPOL_F_ADDR),
		    "get_mempolicy: %s", strerror(errno));
	TEST_ASSERT(got_mode == mode && got == mask,
		    "Page %u: policy %d 0x%lx seen as %d 0x%lx", i, mode, mask,
		    got_mode, got);
}

static void *map_thread(void *arg)
{
	static const int advice[] = {
		MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE, MADV_WILLNEED, MADV_SEQUENTIAL,
	};
	uint64_t rng = thread_seed(), buf[8];
	uint32_t page, n, i;
	uint8_t *mem;

	while (!stopping()) {
		n = rnd_range(&rng, 0, NR_PAGES,
			      rnd_below(&rng, 4) ? 16 : NR_PAGES, &page);
		mem = mmap(NULL, n * PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_SHARED, gmem_fd, (off_t)page * PAGE_SIZE);
		TEST_ASSERT(mem != MAP_FAILED, "mmap: %s", strerror(errno));

		/* To move pages is to take them off their list, with a reference. */
		hold(page, n);
		if (nr_nodes)
			use_mbind(&rng, mem, page, n);
		unhold(page, n);
		for (i = 0; i < n; i += 1 + rnd_below(&rng, 4)) {
			size_t got = try_copy(buf, host_page(mem, i),
					      ARRAY_SIZE(buf));

			check_public(buf, got, page + i, "a new mapping");
		}

		/* What is unmapped is held until the TLBs are flushed. */
		hold(page, n);
		if (madvise(mem, n * PAGE_SIZE,
			    advice[rnd_below(&rng, ARRAY_SIZE(advice))]))
			TEST_ASSERT(errno == EFAULT, "madvise: %s",
				    strerror(errno));
		count(common, OP_ADVISE);

		TEST_ASSERT(!munmap(mem, n * PAGE_SIZE), "munmap: %s",
			    strerror(errno));
		unhold(page, n);
		count(common, OP_MAP);
	}

	return NULL;
}

static void query_ranges(uint64_t *rng)
{
	struct kvm_gmem_range ranges[16];
	uint32_t page, n = rnd_range(rng, 0, NR_PAGES, NR_PAGES, &page);
	struct kvm_gmem_get_ranges get = {
		.offset = (uint64_t)page * PAGE_SIZE,
		.size = (uint64_t)n * PAGE_SIZE,
	};
	uint64_t pos = get.offset, end = get.offset + get.size;
	uint32_t i;

	do {
		get.ranges = (uintptr_t)ranges;
		get.nr = 1 + rnd_below(rng, ARRAY_SIZE(ranges));
		get.flags = rnd_below(rng, 2) ? KVM_GMEM_RANGES_BY_NODE : 0;
		TEST_ASSERT(!ioctl(gmem_fd, KVM_GMEM_GET_RANGES, &get),
			    "KVM_GMEM_GET_RANGES: %s", strerror(errno));
		TEST_ASSERT(get.nr, "No ranges");
		for (i = 0; i < get.nr; i++) {
			struct kvm_gmem_range *r = &ranges[i];

			TEST_ASSERT(r->offset == pos && r->size &&
				    r->size <= end - pos &&
				    r->populated <= r->size &&
				    !r->populated == (r->node == KVM_GMEM_NODE_NONE) &&
				    (r->node != KVM_GMEM_NODE_MIXED ||
				     !(get.flags & KVM_GMEM_RANGES_BY_NODE)),
				    "Range 0x%llx + 0x%llx, populated 0x%llx, node %d, at 0x%lx",
				    r->offset, r->size, r->populated, r->node, pos);
			pos += r->size;
		}
		TEST_ASSERT(get.offset == pos && get.size == end - pos,
			    "0x%llx + 0x%llx left at 0x%lx", get.offset,
			    get.size, pos);
	} while (get.size);
	count(common, OP_RANGES);
}

static void query_seek(uint64_t *rng)
{
	off_t from = rnd(rng) % DATA_SIZE;
	off_t at = lseek(gmem_fd, from, rnd_below(rng, 2) ? SEEK_DATA : SEEK_HOLE);

	if (at < 0)
		TEST_ASSERT(errno == ENXIO, "lseek: %s", strerror(errno));
	else
		TEST_ASSERT(at >= from && at <= DATA_SIZE, "lseek: %ld from %ld",
			    at, from);
	count(common, OP_SEEK);
}

static void query_fdinfo(void)
{
	uint64_t val, size = 0, private = -1, shared = -1, populated = -1;
	uint64_t nodes = 0;
	char path[64], line[128];
	FILE *f;
	int node;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", gmem_fd);
	f = fopen(path, "r");
	TEST_ASSERT(f, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "gmem-size: %lu", &val) == 1)
			size = val;
		else if (sscanf(line, "gmem-private: %lu", &val) == 1)
			private = val;
		else if (sscanf(line, "gmem-shared: %lu", &val) == 1)
			shared = val;
		else if (sscanf(line, "gmem-populated: %lu", &val) == 1)
			populated = val;
		else if (sscanf(line, "gmem-node%d: %lu", &node, &val) == 2)
			nodes += val;
	}
	fclose(f);
	TEST_ASSERT(size == DATA_SIZE && private + shared == size &&
		    populated <= size && nodes == populated,
		    "fdinfo: size %lu, private %lu, shared %lu, populated %lu, on nodes %lu",
		    size, private, shared, populated, nodes);
	count(common, OP_FDINFO);
}

static void *query_thread(void *arg)
{
	uint64_t rng = thread_seed();

	while (!stopping()) {
		switch (rnd_below(&rng, 3)) {
		case 0:
			query_ranges(&rng);
			break;
		case 1:
			query_seek(&rng);
			break;
		case 2:
			query_fdinfo();
			break;
		}
		sched_yield();
	}

	return NULL;
}

#define GOLDEN_PAGES	16
#define GOLDEN_SIZE	((size_t)GOLDEN_PAGES * PAGE_SIZE)

/* What is in each page: a number that all of its words are, 0 in a hole. */
static void check_words(int fd, const uint64_t *words, const char *what)
{
	uint8_t *mem = gmem_mmap(fd, GOLDEN_SIZE);
	uint64_t *word;
	uint32_t i, w;

	for (i = 0; i < GOLDEN_PAGES; i++) {
		word = host_page(mem, i);
		for (w = 0; w < NR_WORDS; w++)
			TEST_ASSERT(READ_ONCE(word[w]) == words[i],
				    "%s page %u, word %u: 0x%lx, not 0x%lx", what,
				    i, w, word[w], words[i]);
	}
	munmap(mem, GOLDEN_SIZE);
}

static void write_words(void *mem, uint32_t page, uint64_t word)
{
	uint32_t w;

	for (w = 0; w < NR_WORDS; w++)
		WRITE_ONCE(host_page(mem, page)[w], word);
}

static void race_clone(uint64_t *rng, int golden, const uint64_t *words)
{
	uint64_t own[GOLDEN_PAGES];
	int fd = gmem_clone(vm, golden);
	uint8_t *mem = gmem_mmap(fd, GOLDEN_SIZE);
	uint32_t i, page;

	memcpy(own, words, sizeof(own));
	for (i = 0; i < GOLDEN_PAGES / 2; i++) {
		page = rnd_below(rng, GOLDEN_PAGES);
		if (rnd_below(rng, 2)) {
			own[page] = 0;
			TEST_ASSERT_EQ(__gmem_fallocate(fd, FALLOC_FL_PUNCH_HOLE |
							FALLOC_FL_KEEP_SIZE,
							page * PAGE_SIZE, PAGE_SIZE), 0);
			count(common, OP_CLONE_HOLE);
		} else {
			own[page] = rnd(rng) & ~TOP_BITS;
			write_words(mem, page, own[page]);
			count(common, OP_CLONE_WRITE);
		}
	}
	gmem_make_private(fd, 0, GOLDEN_SIZE);
	gmem_make_shared(fd, 0, GOLDEN_SIZE);
	check_words(fd, own, "Cloned");
	check_words(golden, words, "Golden");
	munmap(mem, GOLDEN_SIZE);
	close(fd);
	count(common, OP_CLONE);
}

/* Nobody else knows this memory, so a freeze fails for a page that is held here. */
static void *golden_thread(void *arg)
{
	uint64_t rng = thread_seed(), words[GOLDEN_PAGES], error_offset;
	uint8_t page_buf[PAGE_SIZE], *mem;
	uint32_t i, page;
	int fd, pipefd[2];
	struct iovec iov;

	TEST_ASSERT(!pipe(pipefd), "pipe: %s", strerror(errno));
	while (!stopping()) {
		fd = gmem_create(vm, GOLDEN_SIZE, GMEM_FLAGS_SHARED);
		mem = gmem_mmap(fd, GOLDEN_SIZE);
		for (i = 0; i < GOLDEN_PAGES; i++) {
			words[i] = rnd_below(&rng, 2) ? rnd(&rng) & ~TOP_BITS : 0;
			if (words[i])
				write_words(mem, i, words[i]);
		}

		page = rnd_below(&rng, GOLDEN_PAGES);
		if (words[page]) {
			iov = (struct iovec){ host_page(mem, page), PAGE_SIZE };
			TEST_ASSERT_EQ(vmsplice(pipefd[1], &iov, 1, 0), PAGE_SIZE);
			TEST_ASSERT_EQ(__gmem_freeze(fd, &error_offset), -EAGAIN);
			TEST_ASSERT_EQ(error_offset, page * PAGE_SIZE);
			/* Not frozen: it can be written to, and the pipe shows that. */
			words[page] = rnd(&rng) & ~TOP_BITS;
			write_words(mem, page, words[page]);
			TEST_ASSERT_EQ(read(pipefd[0], page_buf, PAGE_SIZE), PAGE_SIZE);
			TEST_ASSERT(!memcmp(page_buf, host_page(mem, page), PAGE_SIZE),
				    "The page that was held is another one");
			count(common, OP_FREEZE_BUSY);
		}
		TEST_ASSERT_EQ(__gmem_freeze(fd, &error_offset), 0);
		count(common, OP_FREEZE);
		munmap(mem, GOLDEN_SIZE);
		check_words(fd, words, "Frozen");
		for (i = 0; i < 3; i++)
			race_clone(&rng, fd, words);
		close(fd);
	}
	close(pipefd[0]);
	close(pipefd[1]);

	return NULL;
}

/*
 * Another process, which mapped the memory before any of it was converted.  What
 * it has of the guest's other memory is a copy, so it counts on its own, and
 * checks no sequence numbers.
 */
static void child_main(uint64_t *stop)
{
	uint64_t rng = thread_seed(), buf[NR_WORDS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!READ_ONCE(*stop)) {
		uint32_t page = rnd_below(&rng, NR_PAGES);
		size_t n = try_copy(buf, host_page(gmem_mem, page), NR_WORDS);

		check_public(buf, n, page, "another process's mapping");
		child_counts[n < NR_WORDS ? OP_CHILD_SIGBUS : OP_CHILD_READ]++;
	}
	fflush(stdout);
	_exit(0);
}

/* All is quiet: nothing may be in the way, and everything is in its place. */
static void check_all(void)
{
	uint64_t buf[NR_WORDS];
	uint32_t p, i;
	size_t n;

	for (p = SECRET; p < SECRET + NR_SECRET; p++)
		compare_state(p, 1);

	TEST_ASSERT(convert(true, 0, NR_PAGES, 0), "Memory is in use by nobody");
	TEST_ASSERT(convert(false, 0, NR_PAGES, 0), "Cannot make all shared");

	for (p = 0; p < NR_PAGES; p++) {
		struct page_meta *m = &common->meta[p];

		TEST_ASSERT(!m->lock, "Page %u is locked", p);
		n = try_copy(buf, host_page(gmem_mem, p), NR_WORDS);
		TEST_ASSERT_EQ(n, NR_WORDS);

		if (p < CHURN)
			TEST_ASSERT(check_kept(buf, n, p, m, "a mapping"),
				    "Page %u changes", p);
		else if (p < SECRET || !m->private || m->seq == SEQ_PUBLIC)
			check_public(buf, n, p, "a mapping");
		else
			for (i = 0; i < NR_WORDS; i++)
				TEST_ASSERT(buf[i] == secret_word(p, i, m->seq),
					    "Page %u, word %u: 0x%lx, not 0x%lx",
					    p, i, buf[i], secret_word(p, i, m->seq));
	}
}

static bool must_happen(int op)
{
	return op != OP_BUSY_RETRY && (op != OP_MBIND || nr_nodes);
}

static bool all_done(void)
{
	int i;

	for (i = 0; i < NR_OPS; i++) {
		if (!must_happen(i))
			continue;
		if (!common->counts[i] && !child_counts[i])
			return false;
	}

	return true;
}

static void test_race(unsigned long type, const char *name, uint64_t seed,
		      unsigned int ms)
{
	static void *(*const host_threads[])(void *) = {
		convert_thread, secret_thread, churn_thread, touch_thread,
		syscall_thread, pin_thread, map_thread, query_thread,
		golden_thread,
	};
	pthread_t threads[NR_VCPUS + ARRAY_SIZE(host_threads)];
	struct vm_shape shape = { .mode = VM_MODE_DEFAULT, .type = type };
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_regs regs;
	uint64_t *stop;
	unsigned int i, waited;
	int status;
	pid_t pid;

	vm = __vm_create_with_vcpus(shape, NR_VCPUS, 0, guest_code, vcpus);
	gmem_fd = gmem_create(vm, DATA_SIZE, GMEM_FLAGS_SHARED);
	gmem_bind(vm, GMEM_SLOT, GMEM_GPA, DATA_SIZE, NULL, gmem_fd, 0);
	virt_map(vm, GMEM_GVA, GMEM_GPA, NR_PAGES);
	gmem_mem = gmem_mmap(gmem_fd, DATA_SIZE);

	common = addr_gva2hva(vm, (vm_vaddr_t)&guest_common);
	memset(common, 0, sizeof(*common));
	common->seed = seed;
	common->next_seq = 1;
	for (i = 0; i < NR_PAGES; i++) {
		common->meta[i].seq = i < SECRET ? SEQ_ZERO : SEQ_PUBLIC;
		common->meta[i].split = NR_WORDS;
	}

	stop = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(stop != MAP_FAILED, "mmap: %s", strerror(errno));
	child_counts = stop + 1;
	fflush(stdout);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid)
		child_main(stop);

	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_regs_get(vcpus[i], &regs);
		stack_tops[i] = align_up(regs.rsp, PAGE_SIZE);
		vcpu_args_set(vcpus[i], 1, i);
		pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]);
	}
	for (i = 0; i < ARRAY_SIZE(host_threads); i++)
		pthread_create(&threads[NR_VCPUS + i], NULL, host_threads[i],
			       NULL);

	/* A slow machine may need longer to get round to everything. */
	for (waited = 0; waited < ms || (waited < ms + 60000 && !all_done());
	     waited += 100) {
		usleep(100000);
		TEST_ASSERT(waitpid(pid, &status, WNOHANG) == 0,
			    "The child has ended: 0x%x", status);
	}

	WRITE_ONCE(*stop, 1);
	WRITE_ONCE(common->stop, 1);
	for (i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	TEST_ASSERT(waitpid(pid, &status, 0) == pid && !status,
		    "The child has failed: 0x%x", status);

	check_all();

	for (i = 0; i < NR_OPS; i++)
		ksft_print_msg("%10lu %s\n", common->counts[i] + child_counts[i],
			       op_names[i]);
	for (i = 0; i < NR_OPS; i++)
		TEST_ASSERT(common->counts[i] + child_counts[i] || !must_happen(i),
			    "Never happened: %s", op_names[i]);

	munmap(stop, PAGE_SIZE);
	munmap(gmem_mem, DATA_SIZE);
	close(gmem_fd);
	kvm_vm_free(vm);

	ksft_test_result_pass("%s\n", name);
}

static void help(const char *name)
{
	printf("usage: %s [-t seconds] [-s seed]\n", name);
	exit(KSFT_SKIP);
}

int main(int argc, char *argv[])
{
	struct sigaction act = {
		.sa_sigaction = sigbus_handler,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};
	uint64_t seed = time(NULL) ^ ((uint64_t)getpid() << 32);
	unsigned int seconds = 5, nr_types;
	unsigned long mask[16] = {};
	bool protected;
	int opt;

	while ((opt = getopt(argc, argv, "ht:s:")) != -1) {
		switch (opt) {
		case 't':
			seconds = atoi_positive("seconds", optarg);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		default:
			help(argv[0]);
		}
	}

	ksft_print_header();
	GMEM_REQUIRE();

	if (!syscall(__NR_get_mempolicy, NULL, mask, sizeof(mask) * 8, NULL,
		     MPOL_F_MEMS_ALLOWED))
		nr_nodes = mask[0] & 2 ? 2 : 1;

	TEST_ASSERT(!sigaction(SIGBUS, &act, NULL), "sigaction: %s",
		    strerror(errno));

	protected = gmem_type_supported(KVM_X86_SW_PROTECTED_VM);
	nr_types = protected ? 2 : 1;
	ksft_set_plan(2);
	ksft_print_msg("seed %lu, %u s, nodes: %d\n", seed, seconds, nr_nodes);

	test_race(KVM_X86_DEFAULT_VM, "ordinary VM", seed,
		  seconds * 1000 / nr_types);
	if (protected)
		test_race(KVM_X86_SW_PROTECTED_VM, "software-protected VM",
			  seed + 1, seconds * 1000 / nr_types);
	else
		ksft_test_result_skip("no software-protected VMs\n");

	ksft_finished();
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The conversion transaction: listeners prepare, the backend converts, listeners commit; or
 * what was done is undone, last first. Nothing is allocated here.
 */
#include "backend.h"

struct change {
	struct target bound;
	/* By offset: all of it, wherever it is bound. */
	struct piece piece;
	struct target all;
	const struct target *parts; /* what changes */
	const struct target *calls; /* what the backend is called with */
	struct news news;
	uint64_t flags;
	bool planned;

	/* What came of it. */
	uint64_t residue;
	uint64_t gpa;
	uint64_t offset;
	int32_t residue_error;
	int undone;	   /* why something could not be undone, or 0 */
	uint32_t attempts; /* that were begun */
	int cancel;	   /* planned: the cancel state that the thread gets back */
};

/* The pieces of a target, one after the other; those that cannot be converted do not change. */
static inline bool next_piece(const struct target *t, size_t *i, struct piece *p)
{
	while (*i < t->nr)
		if (gmem_piece(t, (*i)++, p) && p->memory->backend->convert)
			return true;
	return false;
}

static inline bool last_piece(const struct target *t, size_t *i, struct piece *p)
{
	while (*i > 0)
		if (gmem_piece(t, --*i, p) && p->memory->backend->convert)
			return true;
	return false;
}

/* --- before: what is going to change? */

/* The first address without a slot, or the end. */
static uint64_t first_gap(const struct target *t)
{
	uint64_t at = t->start;
	size_t i;

	for (i = 0; i < t->nr && t->pieces[i].gpa <= at; i++)
		at = t->pieces[i].gpa + t->pieces[i].bytes;
	return at < t->end ? at : t->end;
}

static inline bool has_gap(const struct target *t)
{
	const struct piece *b = t->pieces;

	return t->nr != 1 || b->gpa > t->start || b->gpa + b->bytes < t->end;
}

/*
 * Nobody to tell, and one call that is all or nothing: then the kernel knows best what has
 * to be done. Anything else is planned.
 */
static bool needs_plan(const struct change *c)
{
	const struct gmem_backend *backend;

	if (gmem_is_news(&c->news) || c->parts->nr != 1)
		return true;
	if (c->flags & GMEM_CONVERT_BACKED && has_gap(c->parts))
		return true;
	backend = c->parts->pieces->memory->backend;
	return !backend->convert || backend->by_slot ||
	       (c->flags & GMEM_CONVERT_ZERO && !backend->zeroes);
}

/* What is always shared, or no memory of the library, cannot become private. */
static int check_private(const struct change *c, struct gmem_error *error)
{
	const struct target *t = c->parts;
	struct piece p;
	uint64_t gap;
	size_t i;

	if (c->news.to != GMEM_STATE_PRIVATE)
		return 0;
	for (i = 0; i < t->nr; i++)
		if (gmem_piece(t, i, &p) && !p.memory->backend->convert)
			return gmem_fail(error, GMEM_STEP_CONVERT, -EOPNOTSUPP,
					 gmem_piece_gpa(&p, p.offset), p.offset,
					 "The memory is in %s mode, in which it cannot be private.",
					 p.memory->backend->name);
	if (!(c->flags & GMEM_CONVERT_BACKED))
		return 0;
	gap = first_gap(t);
	if (gap < t->end)
		return gmem_fail(error, GMEM_STEP_CONVERT, -EFAULT, gap, GMEM_NOWHERE,
				 "No memory is bound at %#llx, which cannot become private.",
				 (unsigned long long)gap);
	return 0;
}

static void free_unused(struct change *c, struct gmem *memory, uint64_t start, uint64_t end,
			uint32_t state)
{
	int r = memory->backend->free_unused(memory, start, end - start, state);

	pthread_rwlock_wrlock(&memory->vm->lock);
	gmem_note_residue(memory, start, end, r < 0);
	pthread_rwlock_unlock(&memory->vm->lock);
	if (r < 0) {
		c->residue += end - start;
		c->residue_error = r;
	}
}

/* What could not be freed earlier: 0, or why it still cannot. */
static int retry_residue(struct change *c, const struct piece *p)
{
	struct gmem *memory = p->memory;
	const uint64_t page = memory->vm->page;
	uint64_t at = p->offset / page, limit = (p->offset + p->bytes) / page, start, end, part;
	uint32_t state;
	int r = 0;

	while ((start = gmem_bitmap_find(memory->residue, at, limit, true)) < limit) {
		end = gmem_bitmap_find(memory->residue, start, limit, false);
		for (at = start; at < end; at = part / page) {
			const uint64_t before = c->residue;

			gmem_run_at(memory, at * page, end * page, &state, &part);
			free_unused(c, memory, at * page, part, state);
			/*
			 * The side that would be used from now on has old contents: a guest
			 * must not see them.
			 */
			if (c->residue != before &&
			    gmem_bitmap_find(memory->plan, at, part / page, true) < part / page)
				r = c->residue_error;
		}
	}
	return r;
}

static int plan(struct change *c, bool *any, struct gmem_error *error)
{
	size_t i = 0;
	struct piece p;
	int r;

	r = check_private(c, error);
	if (r)
		return r;
	while (next_piece(c->parts, &i, &p)) {
		r = gmem_plan(&p, c->news.from, any, error);
		if (r)
			return r;
		if (!p.memory->residue)
			continue;
		r = retry_residue(c, &p);
		if (r < 0)
			return gmem_fail(
				error, GMEM_STEP_DISCARD, r, gmem_piece_gpa(&p, p.offset), p.offset,
				"Cannot free old contents, which the guest would see (errno %d).",
				-r);
	}
	return 0;
}

/* --- the listeners */

/* Of pieces below that one. */
static void roll_back(const struct change *c, size_t i)
{
	struct piece p;

	while (last_piece(&c->bound, &i, &p))
		gmem_roll_back(&c->news, &p);
}

static int prepare(const struct change *c, struct gmem_error *error)
{
	size_t i = 0;
	struct piece p;
	int r;

	while (next_piece(&c->bound, &i, &p)) {
		r = gmem_prepare(&c->news, &p, error);
		if (r) {
			roll_back(c, i - 1);
			return r;
		}
	}
	return 0;
}

static void commit(const struct change *c)
{
	size_t i = 0;
	struct piece p;

	while (next_piece(&c->bound, &i, &p))
		gmem_commit(&c->news, &p);
}

/* --- the backend's part */

/* It failed at that offset. */
static int refuse(struct change *c, const struct piece *p, int r, uint64_t bad,
		  struct gmem_error *error)
{
	const uint64_t gpa = gmem_piece_gpa(p, bad);

	if (r == -EAGAIN || r == -EHWPOISON) {
		c->gpa = gpa;
		c->offset = bad;
	}
	return gmem_fail(error, GMEM_STEP_CONVERT, r, gpa, bad,
			 r == -EAGAIN	   ? "The page at %#llx is in use, pinned or mapped for a "
					     "device (errno %d)."
			 : r == -EHWPOISON ? "The page at %#llx is poisoned (errno %d)."
					   : "The kernel cannot convert at %#llx (errno %d).",
			 (unsigned long long)(gpa == GMEM_NOWHERE ? bad : gpa), -r);
}

/* Where the backend does not zero: free what becomes shared, before it does. */
static int empty(struct change *c, struct gmem_error *error)
{
	size_t i = 0;
	struct piece p, run;
	uint64_t at;
	int r;

	while (next_piece(c->parts, &i, &p)) {
		if (p.memory->backend->zeroes)
			continue;
		for (at = p.offset; gmem_next_run(&p, &at, &run);) {
			r = gmem_punch(p.memory, p.memory->shared_fd, run.offset, run.bytes);
			if (r < 0)
				return refuse(c, &run, r, run.offset, error);
		}
	}
	return 0;
}

/*
 * What does not go back has the new state, and is no part of the plan any more: the
 * listeners commit it, and do not roll it back, so that all agree about what is so.
 */
static void keep(struct change *c, const struct piece *run, int reason)
{
	struct gmem *memory = run->memory;
	const uint64_t start = run->offset, end = start + run->bytes;
	struct target t = {.memory = memory, .start = start, .end = end};
	struct piece p;
	size_t i;

	c->undone = reason;
	gmem_aim(&t, memory->vm);
	for (i = 0; i < t.nr; i++)
		if (gmem_piece(&t, i, &p))
			gmem_commit_all(&c->news, &p);
	gmem_unplan(memory, start, end);
	if (memory->residue) {
		c->residue += run->bytes;
		c->residue_error = reason;
	}
	pthread_rwlock_wrlock(&memory->vm->lock);
	gmem_note_state(memory, start, end, c->news.to);
	gmem_note_residue(memory, start, end, true);
	pthread_rwlock_unlock(&memory->vm->lock);
}

/* Convert back what is planned of a piece, below limit. */
static void undo(struct change *c, const struct piece *p, uint64_t limit)
{
	struct piece run;
	uint64_t bad;
	int r;

	while (gmem_last_run(p, &limit, &run)) {
		r = run.memory->backend->convert(&run, c->news.from, 0, &bad);
		if (r < 0)
			keep(c, &run, r);
	}
}

/* All of a piece, of which *done is the end that was converted; 0, or the failure at *bad. */
static int convert_piece(const struct change *c, const struct piece *p, uint64_t *done,
			 uint64_t *bad)
{
	const struct gmem_backend *backend = p->memory->backend;
	uint64_t at = p->offset;
	struct piece run;
	int r;

	*done = p->offset;
	if (!backend->by_slot)
		return backend->convert(p, c->news.to, c->flags, bad);
	while (gmem_next_run(p, &at, &run)) {
		r = backend->convert(&run, c->news.to, c->flags, bad);
		if (r < 0)
			return r;
		*done = at;
	}
	return 0;
}

/* A piece failed, after *done and at bad; those before it have been converted. */
__attribute__((noinline)) static int give_up(struct change *c, size_t i, const struct piece *failed,
					     uint64_t done, uint64_t bad, int r,
					     struct gmem_error *error)
{
	struct piece p;

	refuse(c, failed, r, bad, error);
	if (!c->planned)
		return r;
	undo(c, failed, done);
	while (last_piece(c->calls, &i, &p))
		undo(c, &p, p.offset + p.bytes);
	if (c->undone)
		gmem_fail(error, GMEM_STEP_ROLLBACK, r, gmem_piece_gpa(failed, bad), bad,
			  "Not converted (errno %d), and a part that was converted could not be "
			  "converted back (errno %d).",
			  -r, -c->undone);
	return r;
}

static int convert_pieces(struct change *c, struct gmem_error *error)
{
	size_t i = 0;
	uint64_t done, bad;
	struct piece p;
	int r;

	while (next_piece(c->calls, &i, &p)) {
		r = convert_piece(c, &p, &done, &bad);
		if (r < 0)
			return give_up(c, i - 1, &p, done, bad, r, error);
	}
	return 0;
}

/* --- all of it */

static void discard_unused(struct change *c)
{
	size_t i = 0;
	struct piece p, run;
	uint64_t at;

	while (next_piece(c->parts, &i, &p)) {
		if (!p.memory->backend->free_unused)
			continue;
		for (at = p.offset; gmem_next_run(&p, &at, &run);)
			free_unused(c, run.memory, run.offset, run.offset + run.bytes, c->news.to);
	}
}

/* What is so now, and how often that came about. */
static void note(const struct change *c, int failed)
{
	struct gmem *memory;
	struct piece p;
	size_t i;

	for (i = 0; i < c->parts->nr; i++) {
		memory = c->parts->pieces[i].memory;
		atomic_fetch_add_explicit(failed ? &memory->refusals : &memory->conversions, 1,
					  memory_order_relaxed);
		if (failed || !memory->private || !gmem_piece(c->parts, i, &p))
			continue;
		pthread_rwlock_wrlock(&memory->vm->lock);
		gmem_note_state(memory, p.offset, p.offset + p.bytes, c->news.to);
		pthread_rwlock_unlock(&memory->vm->lock);
	}
}

/* What precedes the backend's part: whether there is anything for it to do, or a failure. */
__attribute__((noinline)) static int begin(struct change *c, struct gmem_error *error)
{
	bool any = false;
	int r;

	/* The kernel's conversion alone is no cancellation point; what is around it is. */
	c->cancel = gmem_begin_uncancelled();
	r = plan(c, &any, error);
	if (r || !any)
		return r;
	r = prepare(c, error);
	if (r)
		return r;
	r = c->flags & GMEM_CONVERT_ZERO ? empty(c, error) : 0;
	if (r)
		roll_back(c, c->bound.nr);
	return r ? r : 1;
}

/* What follows it. */
__attribute__((noinline)) static void end(struct change *c, bool any, int r)
{
	if (any && r) {
		roll_back(c, c->bound.nr);
	} else if (any) {
		commit(c);
		discard_unused(c);
	}
	gmem_end_uncancelled(c->cancel);
}

static int try_once(struct change *c, struct gmem_error *error)
{
	bool any;
	int r;

	c->planned = needs_plan(c);
	r = c->planned ? begin(c, error) : 1;
	any = r > 0;
	if (any)
		r = convert_pieces(c, error);
	note(c, r);
	if (c->planned)
		end(c, any, r);
	return r;
}

int gmem_copy_options(struct gmem_convert_options *copy, const struct gmem_convert_options *options,
		      struct gmem_error *error)
{
	int r = gmem_take_options(copy, sizeof(*copy), GMEM_CONVERT_OPTIONS_1_0, options, error);

	if (r)
		return r;
	if (copy->flags & ~(GMEM_CONVERT_ZERO | GMEM_CONVERT_BACKED))
		return gmem_bad(error, "Unknown flags %#llx.", (unsigned long long)copy->flags);
	return 0;
}

static inline void clear(struct change *c)
{
	c->residue = 0;
	c->gpa = c->offset = GMEM_NOWHERE;
	c->residue_error = 0;
	c->undone = 0;
}

#define TOO_LATE 1 /* not an errno: a listener may return any of these */

/* None after the deadline. */
static inline int attempt(struct change *c, uint64_t deadline, struct gmem_error *error)
{
	struct gmem_vm *vm = c->news.vm;
	int r;

	r = gmem_begin_change(vm, error);
	if (r)
		return r;
	/* It may have waited for others. */
	if (deadline && vm->sys->now() > deadline) {
		gmem_end_change(vm);
		return TOO_LATE;
	}
	if (c->attempts++)
		clear(c);
	gmem_aim(&c->bound, vm);
	r = try_once(c, error);
	gmem_end_change(vm);
	return r;
}

/* Before another attempt: false if the deadline leaves none. */
static bool pause_between(const struct gmem_sys *sys, const struct gmem_convert_options *opt)
{
	const uint64_t ns = (uint64_t)opt->pause_us * 1000;
	int cancel;

	if (opt->deadline_ns && sys->now() + ns > opt->deadline_ns)
		return false;
	if (!ns)
		return true;
	/* Nothing is held, but the caller was not told what came of the attempt before. */
	cancel = gmem_begin_uncancelled();
	sys->pause(ns);
	gmem_end_uncancelled(cancel);
	return true;
}

/* The last attempt, of which *said is told, failed, or there was no time for it. */
__attribute__((noinline)) static int tell(const struct change *c, int r,
					  const struct gmem_error *said, struct gmem_error *error)
{
	if (r == TOO_LATE && !c->attempts)
		return gmem_fail(error, GMEM_STEP_ARGUMENTS, -ETIMEDOUT, GMEM_NOWHERE, GMEM_NOWHERE,
				 "The deadline passed before the first attempt.");
	return said == error ? r : gmem_pass_on(error, said);
}

int gmem_convert_range(struct gmem_vm *vm, struct gmem *memory, uint64_t start, uint64_t end,
		       uint32_t state, const struct gmem_convert_options *opt,
		       struct gmem_convert_result *result, struct gmem_error *error)
{
	struct gmem_error last, *said = error;
	struct change c;
	int r;

	c.news = (struct news){vm, NULL, gmem_other_state(state), state};
	c.flags = opt->flags;
	c.attempts = 0;
	clear(&c);
	c.bound.memory = memory;
	c.bound.start = start;
	c.bound.end = end;
	c.parts = c.calls = &c.bound;
	if (memory) {
		c.piece = (struct piece){GMEM_NOWHERE, end - start, start, memory, 0};
		c.all = (struct target){&c.piece, 1, memory, start, end};
		c.parts = &c.all;
		if (!memory->backend->by_slot)
			c.calls = &c.all;
	}
	/* What succeeds in the end says nothing of the attempts before. */
	if (opt->attempts > 1) {
		last.size = sizeof(last);
		said = &last;
	}
	do
		r = attempt(&c, opt->deadline_ns, said);
	while (r == -EAGAIN && c.attempts < opt->attempts && pause_between(vm->sys, opt));
	if (r)
		r = tell(&c, r, said, error);
	else if (vm->log)
		gmem_log(vm, "made %#llx bytes at %s %#llx %s", (unsigned long long)(end - start),
			 memory ? "offset" : "address", (unsigned long long)start,
			 state == GMEM_STATE_PRIVATE ? "private" : "shared");
	if (result) {
		const struct gmem_convert_result answer = {
			.size = sizeof(answer),
			.residue = c.residue,
			.busy_gpa = c.gpa,
			.busy_offset = c.offset,
			.attempts = c.attempts,
			.residue_error = c.residue_error,
		};

		gmem_copy_out(result, &answer, sizeof(answer));
	}
	return r;
}

/* Of whole pages, for a caller that may have anything wrong but these. */
static inline int convert(struct gmem_vm *vm, struct gmem *memory, uint64_t start, uint64_t end,
			  uint32_t state, const struct gmem_convert_options *options,
			  struct gmem_convert_result *result, struct gmem_error *error)
{
	static const struct gmem_convert_options none = GMEM_CONVERT_OPTIONS_INIT;
	struct gmem_convert_options copy;
	int r;

	if (result && gmem_check_out(result, GMEM_CONVERT_RESULT_1_0))
		return gmem_bad(error, "The size of the result is invalid.");
	if (state != GMEM_STATE_SHARED && state != GMEM_STATE_PRIVATE)
		return gmem_bad(error, "Memory cannot be converted to state %u.", state);
	if (!options)
		return gmem_convert_range(vm, memory, start, end, state, &none, result, error);
	r = gmem_copy_options(&copy, options, error);
	if (r)
		return r;
	if (copy.flags & GMEM_CONVERT_ZERO && state == GMEM_STATE_PRIVATE)
		return gmem_bad(error, "Memory that becomes private cannot be zeroed.");
	if (memory)
		copy.flags &= ~GMEM_CONVERT_BACKED; /* it is */
	return gmem_convert_range(vm, memory, start, end, state, &copy, result, error);
}

PUBLIC int gmem_convert(struct gmem_vm *vm, uint64_t gpa, uint64_t bytes, uint32_t state,
			const struct gmem_convert_options *options,
			struct gmem_convert_result *result, struct gmem_error *error)
{
	if (!vm || !gmem_error_ok(error))
		return gmem_bad(error, "The VM is NULL.");
	if (!bytes || (gpa | bytes) & (vm->page - 1) || gpa + bytes < gpa)
		return gmem_bad(error, "%#llx bytes at %#llx are not a range of whole pages.",
				(unsigned long long)bytes, (unsigned long long)gpa);
	return convert(vm, NULL, gpa, gpa + bytes, state, options, result, error);
}

PUBLIC int gmem_convert_offset(struct gmem *memory, uint64_t offset, uint64_t bytes, uint32_t state,
			       const struct gmem_convert_options *options,
			       struct gmem_convert_result *result, struct gmem_error *error)
{
	int r = gmem_check_range(memory, offset, bytes, error);

	if (r)
		return r;
	return convert(memory->vm, memory, offset, offset + bytes, state, options, result, error);
}

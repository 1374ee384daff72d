/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bitmaps of pages: fixed in size, so that a conversion need not allocate. */
#include <limits.h>

#include "internal.h"

#define BITS (sizeof(unsigned long) * CHAR_BIT)

size_t gmem_bitmap_words(uint64_t bits)
{
	return (size_t)((bits + BITS - 1) / BITS);
}

/* The bits of [first, end) that are in the word of first. */
static unsigned long word_mask(uint64_t first, uint64_t end)
{
	uint64_t word = first / BITS;
	unsigned long mask = ~0UL << (first % BITS);

	if (end < (word + 1) * BITS)
		mask &= ~(~0UL << (end % BITS));
	return mask;
}

static uint64_t next_word(uint64_t bit)
{
	return (bit / BITS + 1) * BITS;
}

void gmem_bitmap_fill(unsigned long *map, uint64_t first, uint64_t end, bool value)
{
	for (; first < end; first = next_word(first)) {
		if (value)
			map[first / BITS] |= word_mask(first, end);
		else
			map[first / BITS] &= ~word_mask(first, end);
	}
}

uint64_t gmem_bitmap_find(const unsigned long *map, uint64_t first, uint64_t end, bool value)
{
	for (; first < end; first = next_word(first)) {
		unsigned long word = value ? map[first / BITS] : ~map[first / BITS];

		word &= word_mask(first, end);
		if (word)
			return first / BITS * BITS + (uint64_t)__builtin_ctzl(word);
	}
	return end;
}

bool gmem_bitmap_last_run(const unsigned long *map, uint64_t first, uint64_t *start, uint64_t *end)
{
	uint64_t at = *end;

	while (at > first && !(map[(at - 1) / BITS] >> ((at - 1) % BITS) & 1))
		at = map[(at - 1) / BITS] ? at - 1 : (at - 1) / BITS * BITS;
	if (at <= first)
		return false;
	*end = at;
	while (at > first && map[(at - 1) / BITS] >> ((at - 1) % BITS) & 1)
		at--;
	*start = at;
	return true;
}

uint64_t gmem_bitmap_count(const unsigned long *map, uint64_t first, uint64_t end)
{
	uint64_t count = 0;

	for (; first < end; first = next_word(first))
		count += (uint64_t)__builtin_popcountl(map[first / BITS] & word_mask(first, end));
	return count;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Structs that begin with their size. A caller may have been compiled with an older
 * header, whose struct is shorter, or a newer one, whose struct is longer.
 */
#include <string.h>

#include "internal.h"

static size_t size_of(const void *option)
{
	size_t size;

	memcpy(&size, option, sizeof(size));
	return size;
}

int gmem_copy_in(void *to, size_t size, size_t v1, const void *from)
{
	size_t theirs = size_of(from), i;

	if (theirs < v1)
		return -EINVAL;
	for (i = size; i < theirs; i++)
		if (((const unsigned char *)from)[i])
			return -E2BIG;
	memset(to, 0, size);
	memcpy(to, from, theirs < size ? theirs : size);
	return 0;
}

int gmem_take_options(void *to, size_t size, size_t v1, const void *from, struct gmem_error *error)
{
	int r = from ? gmem_copy_in(to, size, v1, from) : 0;

	return r ? gmem_fail(error, GMEM_STEP_ARGUMENTS, r, GMEM_NOWHERE, GMEM_NOWHERE,
			     "The size of the options, or what follows them, is invalid.")
		 : 0;
}

int gmem_check_out(const void *to, size_t v1)
{
	return to && size_of(to) >= v1 ? 0 : -EINVAL;
}

void gmem_copy_out(void *to, const void *from, size_t size)
{
	size_t theirs = size_of(to);

	if (theirs > size)
		memset((unsigned char *)to + size, 0, theirs - size);
	memcpy((unsigned char *)to + sizeof(size_t), (const unsigned char *)from + sizeof(size_t),
	       (theirs < size ? theirs : size) - sizeof(size_t));
}

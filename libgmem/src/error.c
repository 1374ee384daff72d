/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

static void say(struct gmem_error *error, uint32_t step, int r, uint64_t gpa, uint64_t offset,
		const char *format, va_list args)
{
	if (!error || !gmem_error_ok(error))
		return;
	error->step = step;
	error->error = r;
	error->gpa = gpa;
	error->offset = offset;
	vsnprintf(error->message, sizeof(error->message), format, args);
}

int gmem_fail(struct gmem_error *error, uint32_t step, int r, uint64_t gpa, uint64_t offset,
	      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(error, step, r, gpa, offset, format, args);
	va_end(args);
	return r;
}

int gmem_pass_on(struct gmem_error *error, const struct gmem_error *from)
{
	return gmem_fail(error, from->step, from->error, from->gpa, from->offset, "%s",
			 from->message);
}

int gmem_bad(struct gmem_error *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(error, GMEM_STEP_ARGUMENTS, -EINVAL, GMEM_NOWHERE, GMEM_NOWHERE, format, args);
	va_end(args);
	return -EINVAL;
}

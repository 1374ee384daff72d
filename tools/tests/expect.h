/* SPDX-License-Identifier: MIT */
#ifndef EXPECT_H
#define EXPECT_H

/* For tests that are programs of their own: the first thing that is not so ends them. */
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);         \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#endif

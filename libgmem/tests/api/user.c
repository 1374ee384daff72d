/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The least that a user of the library can be. */
#include <gmem.h>
int main(void)
{
	unsigned int major = 0;

	gmem_version(&major, 0);
	return major != GMEM_VERSION_MAJOR;
}

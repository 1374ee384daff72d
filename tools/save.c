/* SPDX-License-Identifier: MIT */
/* Writing a file that others may be reading, or that was there before. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"

static int write_all(FILE *f, const char *text, size_t length)
{
	int error = fwrite(text, 1, length, f) == length ? 0 : errno;

	if (fclose(f) && !error)
		error = errno;
	return error;
}

/* Beside the file, and then in its place. */
static int replace(const char *path, const char *text, size_t length, mode_t mode)
{
	int fd, error, later;
	char *beside;
	FILE *f;

	if (asprintf(&beside, "%s.XXXXXX", path) < 0)
		return ENOMEM;
	fd = mkstemp(beside);
	if (fd < 0) {
		error = errno;
		free(beside);
		return error;
	}
	f = fdopen(fd, "w");
	if (!f) {
		error = errno;
		close(fd);
	} else {
		error = fchmod(fd, mode) ? errno : 0;
		later = write_all(f, text, length);
		if (!error)
			error = later;
	}
	if (!error && rename(beside, path))
		error = errno;
	if (error)
		unlink(beside);
	free(beside);
	return error;
}

void save_file(const char *path, const char *text, size_t length)
{
	struct stat stat;
	mode_t mask;
	int error;
	FILE *f;

	if (lstat(path, &stat)) { /* there is none, or what replace() runs into, too */
		mask = umask(0);
		umask(mask);
		error = replace(path, text, length, 0666 & ~mask);
	} else if (S_ISREG(stat.st_mode)) {
		error = access(path, W_OK) ? errno
					   : replace(path, text, length, stat.st_mode & 0777);
	} else { /* /dev/stdout and the like are written to, not replaced */
		f = fopen(path, "w");
		error = f ? write_all(f, text, length) : errno;
	}
	if (error)
		fail("%s: %s", path, strerror(error));
}

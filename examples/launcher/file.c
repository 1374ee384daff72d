/* SPDX-License-Identifier: MIT */
/* Files that the user names. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

bool because(struct why *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return false;
}

/* Up to size bytes; less only at the end of the file. */
static ssize_t read_all(int fd, uint8_t *data, size_t size)
{
	size_t got = 0;
	ssize_t n;

	while (got < size) {
		n = read(fd, data + got, size - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static bool read_fd(int fd, const char *path, const char *what, uint64_t most, struct file *file,
		    struct why *why)
{
	struct stat st;
	uint8_t *data;
	ssize_t got;

	if (fstat(fd, &st))
		return because(why, "%s %s: %s", what, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return because(why, "%s %s is no regular file", what, path);
	if ((uint64_t)st.st_size > most)
		return because(why, "%s %s does not fit into %" PRIu64 " MiB", what, path,
			       most >> 20);
	/* One byte more, to see the end. */
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return because(why, "there is no memory for %s %s", what, path);
	got = read_all(fd, data, (size_t)st.st_size + 1);
	if (got != st.st_size) {
		/* Of a file that grows, or one in /proc, nobody knows where it ends. */
		because(why, "%s %s cannot be read: %s", what, path,
			got < 0 ? strerror(errno) : "it is not as long as it says");
		free(data);
		return false;
	}
	*file = (struct file){path, data, (size_t)st.st_size};
	return true;
}

bool file_read(const char *path, const char *what, uint64_t most, struct file *file,
	       struct why *why)
{
	/* Or a FIFO would wait for a writer, and a terminal become the controlling one. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool done;

	if (fd < 0)
		return because(why, "%s %s: %s", what, path, strerror(errno));
	done = read_fd(fd, path, what, most, file, why);
	close(fd);
	return done;
}

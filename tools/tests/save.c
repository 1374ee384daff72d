/* SPDX-License-Identifier: MIT */
/* A file is replaced as a whole, or stays as it was. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "expect.h"
#include "unit.h"

static void expect_file(const char *path, const char *want, mode_t mode)
{
	char text[64] = "";
	struct stat stat;
	FILE *f = fopen(path, "r");

	CHECK(f && fread(text, 1, sizeof(text) - 1, f) == strlen(want) && !strcmp(text, want));
	fclose(f);
	CHECK(!lstat(path, &stat) && (stat.st_mode & 07777) == mode);
}

static void expect_files(const char *path, int want)
{
	struct dirent *entry;
	DIR *dir = opendir(path);
	int count = 0;

	CHECK(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	CHECK(count == want);
}

static void to_save(void *path)
{
	save_file(path, "three", 5);
	exit(0);
}

/* How it ends if one of its calls does, and that nothing is left then. */
static void expect_failure(const char *call, char *path, int line)
{
	char want[600];

	fake.failing = call;
	fake.failing_error = EDQUOT;
	snprintf(want, sizeof(want), "gmemctl: %s: %s\n", path, strerror(EDQUOT));
	expect_child(to_save, path, 3, "", want, line);
	fake.failing = NULL;
	expect_files(in_root("saved"), 1);
}

static void to_save_much(void *path)
{
	static char much[100000];

	save_file(path, much, sizeof(much));
	exit(0);
}

void test_save(void)
{
	char file[512], fifo[512], other[512], text[16] = "", want[600];
	int fd;

	make_dir("saved");
	snprintf(file, sizeof(file), "%s", in_root("saved/file"));
	umask(027);
	save_file(file, "one", 3);
	expect_file(file, "one", 0640);
	CHECK(umask(022) == 027);
	CHECK(!chmod(file, 0604));
	save_file(file, "two", 3);
	expect_file(file, "two", 0604);
	CHECK(!chmod(file, 04600)); /* who writes it is not who it was of */
	save_file(file, "two", 3);
	expect_file(file, "two", 0600);
	expect_files(in_root("saved"), 1);

	umask(0);
	snprintf(other, sizeof(other), "%s", in_root("open"));
	save_file(other, "one", 3);
	expect_file(other, "one", 0666);
	CHECK(!chmod(other, 0777));
	save_file(other, "two", 3);
	expect_file(other, "two", 0777);

	expect_failure("rename", file, __LINE__);
	expect_failure("fchmod", file, __LINE__);
	expect_failure("mkstemp", file, __LINE__);
	expect_failure("fdopen", file, __LINE__);
	expect_failure("fclose", file, __LINE__);
	expect_failure("access", file, __LINE__);
	fake.failing = "asprintf";
	snprintf(want, sizeof(want), "gmemctl: %s: %s\n", file, strerror(ENOMEM));
	expect_child(to_save, file, 3, "", want, __LINE__);
	fake.failing = NULL;
	expect_file(file, "two", 0600);

	/* Where there is no such directory, and where something is no directory. */
	snprintf(other, sizeof(other), "%s", in_root("nowhere/file"));
	snprintf(want, sizeof(want), "gmemctl: %s: %s\n", other, strerror(ENOENT));
	expect_child(to_save, other, 3, "", want, __LINE__);
	snprintf(other, sizeof(other), "%s", in_root("saved/file/file"));
	snprintf(want, sizeof(want), "gmemctl: %s: %s\n", other, strerror(ENOTDIR));
	expect_child(to_save, other, 3, "", want, __LINE__);
	expect_files(in_root("saved"), 1);

	/* What is no file is written to. A FIFO, as a test that is wrong could replace /dev/null.
	 */
	snprintf(fifo, sizeof(fifo), "%s", in_root("fifo"));
	CHECK(!mkfifo(fifo, 0600));
	fd = open(fifo, O_RDWR | O_NONBLOCK);
	CHECK(fd >= 0);
	save_file(fifo, "three", 5);
	CHECK(read(fd, text, sizeof(text)) == 5 && !strcmp(text, "three"));
	close(fd);
	snprintf(other, sizeof(other), "%s", in_root("link"));
	CHECK(!symlink("/dev/full", other));
	snprintf(want, sizeof(want), "gmemctl: %s: %s\n", other, strerror(ENOSPC));
	expect_child(to_save, other, 3, "", want, __LINE__);
	expect_child(to_save_much, other, 3, "", want, __LINE__);
	snprintf(want, sizeof(want), "gmemctl: %s: %s\n", root, strerror(EISDIR));
	expect_child(to_save, root, 3, "", want, __LINE__);
}

/* SPDX-License-Identifier: MIT */
/* gmemctl's unit tests: they need no kernel, no privilege and no terminal. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "expect.h"
#include "unit.h"

char root[256];

const char *in_root(const char *path)
{
	static char full[4][512];
	static unsigned int next;
	char *ret = full[next++ % 4];

	snprintf(ret, sizeof(full[0]), "%s/%s", root, path);
	return ret;
}

void make(const char *path, const char *text, size_t length)
{
	FILE *f = fopen(in_root(path), "w");

	CHECK(f);
	CHECK(fwrite(text, 1, length, f) == length);
	CHECK(!fclose(f));
}

void make_dir(const char *path)
{
	CHECK(!mkdir(in_root(path), 0755));
}

void make_link(const char *path, const char *target)
{
	CHECK(!symlink(target, in_root(path)));
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	char command[600];

	setrlimit(RLIMIT_FSIZE, &(struct rlimit){64 << 20, 64 << 20}); /* fill no disk */
	snprintf(root, sizeof(root), "%s/gmemctl-test-XXXXXX", tmp ? tmp : "/tmp");
	CHECK(mkdtemp(root));
	unsetenv("NO_COLOR");
	setenv("TERM", "xterm", 1);
	test_text();
	test_save();
	test_picture();
	test_runs();
	test_proc();
	test_commands();
	snprintf(command, sizeof(command), "chmod -R u+rwx '%s' && rm -r '%s'", root, root);
	return system(command) != 0;
}

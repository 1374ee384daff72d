/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target once on each file of a directory, without libFuzzer: any compiler will do. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	unsigned int n = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(dir))) {
		char path[4096];
		uint8_t *data;
		size_t size;
		FILE *f;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		f = fopen(path, "r");
		data = malloc(1 << 16);
		if (!f || !data) {
			perror(path);
			return 1;
		}
		size = fread(data, 1, 1 << 16, f);
		fclose(f);
		/* Who it was, should this be the end. */
		printf("%s\n", entry->d_name);
		fflush(stdout);
		/* Of just that size, for AddressSanitizer and valgrind. */
		data = realloc(data, size ? size : 1);
		LLVMFuzzerTestOneInput(data, size);
		free(data);
		n++;
	}
	closedir(dir);
	printf("%u files\n", n);
	return n ? 0 : 1;
}

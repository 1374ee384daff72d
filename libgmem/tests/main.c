/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * gmem-tests [WORLD [SUITE...]]: all suites that make sense in a world; without one,
 * the worlds are listed with why those that are not to be had are not.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	Suite *(*make)(void);
	bool fake, real;
} suites[] = {
	{"unit", suite_unit, true, false},	    {"behaviour", suite_behaviour, true, true},
	{"bad-input", suite_bad_input, true, true}, {"exits", suite_exits, true, true},
	{"failures", suite_failures, true, false},  {"model", suite_model, true, true},
	{"threads", suite_threads, true, true},	    {"guest", suite_guest, false, true},
	{"life", suite_life, true, true},	    {"seccomp", suite_seccomp, true, true},
	{"backends", suite_backends, true, false},  {"reasons", suite_reasons, true, false},
	{"details", suite_details, true, false},
};

#define NR_SUITES (sizeof(suites) / sizeof(suites[0]))

static bool wanted(int argc, char **argv, const char *name)
{
	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc <= 2;
}

int main(int argc, char **argv)
{
	SRunner *runner = NULL;
	const char *why;
	int failed;

	if (argc < 2) {
		for (unsigned int i = 0; world_at(i); i++) {
			why = world_missing(world_at(i));
			printf("%s%s%s\n", world_at(i)->name, why ? ": " : "", why ? why : "");
		}
		return 0;
	}
	world = world_named(argv[1]);
	if (!world) {
		fprintf(stderr, "There is no world '%s'.\n", argv[1]);
		return 2;
	}
	why = world_missing(world);
	if (why) {
		printf("%s skipped: %s\n", world->name, why);
		return 77;
	}
	for (unsigned int i = 0; i < NR_SUITES; i++) {
		if (!(world->real ? suites[i].real : suites[i].fake) ||
		    !wanted(argc, argv, suites[i].name))
			continue;
		if (runner)
			srunner_add_suite(runner, suites[i].make());
		else
			runner = srunner_create(suites[i].make());
	}
	if (!runner) {
		fprintf(stderr, "There is no such suite for %s.\n", world->name);
		return 2;
	}
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	if (srunner_ntests_run(runner) == 0)
		failed = 1;
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

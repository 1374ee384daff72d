/* SPDX-License-Identifier: MIT */
/* gmemctl probe: what this host can do with guest memory, and why not more. */
#include <errno.h>
#include <getopt.h>
#include <numa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ctl.h"
#include "json.h"
#include "kvm.h"

#define MAX_TYPES 4

static const struct feature {
	const char *id, *name;
	uint64_t cap;
} features[] = {
	{"inplace", "private memory in place", GMEM_CAP_INPLACE},
	{"attributes", "the same, by Linux 7.4's ioctl", GMEM_CAP_ATTRIBUTES},
	{"dual", "private beside shared memory", GMEM_CAP_DUAL},
	{"shared", "shared memory of a guest_memfd", GMEM_CAP_SHARED},
	{"plain", "shared memory of a memfd", GMEM_CAP_PLAIN},
	{"policy", "NUMA policy", GMEM_CAP_POLICY},
	{"ranges", "listing ranges and states", GMEM_CAP_RANGES},
	{"zero", "zeroing in place", GMEM_CAP_ZERO},
	{"link", "memory that outlives its VM", GMEM_CAP_LINK},
	{"clone", "frozen memory and clones", GMEM_CAP_CLONE},
	{"memory_fault", "exits on memory faults", GMEM_CAP_MEMORY_FAULT},
	{"map_gpa_range", "guests that ask to convert", GMEM_CAP_MAP_GPA_RANGE},
};

#define NR_FEATURES (sizeof(features) / sizeof(features[0]))

struct probe {
	const char *kvm_why; /* why there is none; NULL: there is KVM */
	struct kvm_vm vms[MAX_TYPES];
	bool have[MAX_TYPES];
	unsigned int nodes; /* that have memory that may be used */
};

static bool has(const struct probe *probe, size_t type, uint64_t cap)
{
	uint64_t caps = 0;

	if (!probe->have[type] || gmem_vm_caps(probe->vms[type].vm, &caps))
		return false;
	/* KVM hands requests out everywhere; where nothing is private they are all refused. */
	if (cap == GMEM_CAP_MAP_GPA_RANGE && !(caps & GMEM_CAP_PRIVATE))
		return false;
	return caps & cap;
}

static const char *why_not(const struct probe *probe, size_t type, uint64_t cap)
{
	const char *why;

	if (!probe->have[type])
		return probe->vms[type].why;
	why = gmem_vm_why_not(probe->vms[type].vm, cap);
	if (!why && cap == GMEM_CAP_MAP_GPA_RANGE)
		why = "They can ask, but there is nothing to convert.";
	return why ? why : "The library does not say why.";
}

static bool any(const struct probe *probe, uint64_t cap)
{
	size_t type;

	for (type = 0; type < kvm_nr_types; type++)
		if (has(probe, type, cap))
			return true;
	return false;
}

static void find_out(struct probe *probe)
{
	struct bitmask *allowed;
	size_t type;
	int kvm, r;

	if (numa_available() >= 0) { /* else it is one */
		allowed = numa_get_mems_allowed();
		probe->nodes = numa_bitmask_weight(allowed);
		numa_bitmask_free(allowed);
	}
	if (!probe->nodes)
		probe->nodes = 1;
	kvm = kvm_open(&probe->kvm_why);
	if (kvm == -ENODEV)
		return;
	if (kvm < 0) /* that is no answer */
		fail("%s", probe->kvm_why);
	for (type = 0; type < kvm_nr_types; type++) {
		r = kvm_vm_new(kvm, &kvm_types[type], &probe->vms[type]);
		probe->have[type] = r == 0;
		if (r == -ENOMEM || r == -EMFILE || r == -ENFILE) /* that is no answer */
			fail("%s: %s", kvm_types[type].name, probe->vms[type].why);
	}
	close(kvm);
}

static void forget(struct probe *probe)
{
	size_t type;

	for (type = 0; type < kvm_nr_types; type++)
		if (probe->have[type])
			kvm_vm_free(&probe->vms[type]);
}

/* --- for people */

static void print_line(const char *name, bool yes, const char *text)
{
	printf("%-31s %s%-3s%s%s%s\n", name, colour(stdout, yes ? GREEN : RED), yes ? "yes" : "no",
	       colour(stdout, PLAIN), *text ? "  " : "", text);
}

/* Types of VMs that cannot be had have a line of their own, and none here. */
static void print_feature(const struct probe *probe, const struct feature *feature)
{
	size_t type, had = 0, count = 0, last = 0;
	const char *why, *first = NULL;
	char text[1024] = "";
	bool same = true;
	int length = 0;

	for (type = 0; type < kvm_nr_types; type++) {
		if (!probe->have[type])
			continue;
		had++;
		if (has(probe, type, feature->cap)) {
			count++;
			last = type;
			continue;
		}
		why = why_not(probe, type, feature->cap);
		if (!first)
			first = why;
		same &= !strcmp(why, first);
		if (length < (int)sizeof(text))
			length += snprintf(text + length, sizeof(text) - (size_t)length, "%s%s: %s",
					   length ? " " : "", kvm_types[type].name, why);
	}
	if (!had)
		print_line(feature->name, false, "There is no VM that could have it.");
	else if (count && count == had)
		print_line(feature->name, true, "");
	else if (count)
		print_line(feature->name, true, kvm_types[last].only);
	else
		print_line(feature->name, false, same ? first : text);
}

static const char *placement_why_not(const struct probe *probe)
{
	if (probe->nodes == 1)
		return "There is one node only that has memory which this process may use.";
	if (!any(probe, GMEM_CAP_INPLACE | GMEM_CAP_ATTRIBUTES | GMEM_CAP_DUAL | GMEM_CAP_SHARED |
				GMEM_CAP_PLAIN))
		return "There is no guest memory to place.";
	return NULL;
}

static void print_text(const struct probe *probe)
{
	const char *why;
	size_t i;

	if (probe->kvm_why) {
		print_line("KVM", false, probe->kvm_why);
		return;
	}
	print_line("KVM", true, "");
	for (i = 0; i < kvm_nr_types; i++)
		print_line(kvm_types[i].name, probe->have[i],
			   probe->have[i] ? "" : probe->vms[i].why);
	for (i = 0; i < NR_FEATURES; i++)
		print_feature(probe, &features[i]);
	why = placement_why_not(probe);
	print_line("placement on nodes", !why,
		   why				 ? why
		   : any(probe, GMEM_CAP_POLICY) ? ""
						 : "at allocation only, there is no policy");
}

/* --- for programs */

static void json_answer(struct json *json, const char *key, bool yes, const char *why)
{
	json_begin(json, key, '{');
	json_bool(json, "available", yes);
	if (!yes)
		json_string(json, "reason", why);
	json_end(json, '}');
}

static void print_json(const struct probe *probe)
{
	struct json json = {.f = stdout};
	unsigned int major, minor;
	struct utsname kernel;
	size_t type, i;

	gmem_version(&major, &minor);
	uname(&kernel);
	json_begin(&json, NULL, '{');
	json_begin(&json, "libgmem", '{');
	json_number(&json, "major", major);
	json_number(&json, "minor", minor);
	json_end(&json, '}');
	json_string(&json, "kernel", kernel.release);
	json_answer(&json, "kvm", !probe->kvm_why, probe->kvm_why);
	json_number(&json, "nodes", probe->nodes);
	json_begin(&json, "types", '{');
	for (type = 0; !probe->kvm_why && type < kvm_nr_types; type++) {
		json_begin(&json, kvm_types[type].id, '{');
		json_bool(&json, "available", probe->have[type]);
		if (!probe->have[type])
			json_string(&json, "reason", probe->vms[type].why);
		json_begin(&json, "features", '{');
		for (i = 0; i < NR_FEATURES; i++)
			json_answer(&json, features[i].id, has(probe, type, features[i].cap),
				    why_not(probe, type, features[i].cap));
		json_end(&json, '}');
		json_end(&json, '}');
	}
	json_end(&json, '}');
	if (!probe->kvm_why)
		json_answer(&json, "placement", !placement_why_not(probe),
			    placement_why_not(probe));
	json_end(&json, '}');
}

int cmd_probe(int argc, char **argv)
{
	static const struct option known[] = {{"json", no_argument, NULL, 'j'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	struct probe probe = {0};
	bool json = false;
	int c;

	while ((c = next_option(argc, argv, known)) != -1) {
		if (c == 'h')
			return usage();
		json = true;
	}
	if (optind < argc)
		usage_error("probe takes no '%s'", argv[optind]);
	find_out(&probe);
	if (json)
		print_json(&probe);
	else
		print_text(&probe);
	forget(&probe);
	return 0;
}

/* SPDX-License-Identifier: MIT */
#ifndef LAUNCH_H
#define LAUNCH_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gmem.h>

#include "acpi.h"
#include "boot.h"

#define PAGE 4096ul
#define MAX_CPUS 8
#define MAX_CLONES 64
#define MIN_RAM (32ull << 20)
#define MAX_RAM (3ull << 30) /* below the hole for devices */

struct options {
	const char *kernel, *initrd, *append, *map;
	uint64_t bytes;
	unsigned int cpus, nr_nodes;
	struct node nodes[MAX_NODES];
	uint32_t mode;
	unsigned long vm_type;
	unsigned int clones; /* 0: none */
	bool shared, stats, talk, reuse;
};

/* Microseconds, since whenever. */
uint64_t now_us(void);

/* One sentence on stderr, the terminal as it was, status 1. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* memory.c's */
struct memory {
	struct gmem_vm *vm;
	struct gmem_listener *listener;
	struct gmem *memory;
	uint8_t *map;
	uint64_t bytes;
	unsigned long told, requests, refused;
	uint64_t request_us;
};

/* serial.c's */
struct serial {
	pthread_mutex_t lock;
	uint8_t regs[8], received;
	bool full, sent; /* a byte to be read; an interrupt that all is sent */
	char line[256];	 /* what was written of it so far, where that matters */
	size_t length;
};

struct vcpu {
	struct machine *machine;
	unsigned int number;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	struct gmem_exit exit;
};

/* Why a machine stopped. */
enum end { RUNNING, TURNED_OFF, RESET, MARKED };

/* A VM and all that belongs to it: there may be several in a process. */
struct machine {
	const struct options *options;
	int kvm, fd;
	unsigned int boot, clone; /* which it is: from 1, and from 1 where it is one */
	char name[24];		  /* for messages */
	struct memory memory;
	struct serial serial;
	struct vcpu vcpus[MAX_CPUS]; /* options->cpus of them */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* end is no longer RUNNING */
	enum end end;
	uint16_t pm1_enable;
	bool talking; /* --talk, and the guest has begun */
};

/* options.c: dies, or says what there is and ends, where that is no command line */
void options_parse(struct options *o, int argc, char **argv);
void options_check_nodes(const struct options *o);

/* machine.c */
struct machine *machine_new(int kvm, const struct options *options, unsigned int clone);
void machine_free(struct machine *m);
void machine_end(struct machine *m, enum end end);
enum end machine_wait(struct machine *m);

/* memory.c: what there is of libgmem in here */
void memory_connect(struct machine *m);
void memory_open(struct machine *m);
void memory_place(struct machine *m);
void memory_bind(struct machine *m);
void memory_close(struct machine *m);
uint8_t *memory_map(struct machine *m);
void memory_seal(struct machine *m);
int memory_exit(struct machine *m, struct gmem_exit *exit, struct kvm_run *run, int run_result);
uint64_t memory_readable(struct machine *m, uint64_t offset, uint64_t size); /* pages, now */
/* What the guest shares; false where it does not, or no longer */
bool memory_read(struct machine *m, uint64_t gpa, void *to, size_t size);
bool memory_write(struct machine *m, uint64_t gpa, const void *from, size_t size);
uint64_t memory_resident(struct machine *m);
void memory_show(struct machine *m);

/* life.c: memory that outlives its VM, memory that others begin as */
void life_check(const struct machine *m);
void life_link(struct machine *m, struct machine *old);
void life_zero(struct machine *m);
void life_freeze(struct machine *m);
void life_clone(struct machine *m, struct machine *golden);

/* reboot.c: the machine after that one, with its memory; that one is gone */
struct machine *reboot_reuse(struct machine *old);

/* clones.c: of a machine that has said that it is ready, until all of them are off */
void clones_run(struct machine *golden);

/* state.c, state_vcpu.c: what a machine is, but for its memory */
struct vcpu_state;
struct state *state_save(struct machine *m);
void state_restore(struct machine *m, const struct state *state);
void state_free(struct state *state);
struct vcpu_state *vcpu_state_save(const struct vcpu *v);
void vcpu_state_restore(const struct vcpu *v, const struct vcpu_state *state);
void vcpu_state_free(struct vcpu_state *state);

/* serial.c: COM1 */
void serial_init(struct serial *serial);
bool serial_port(uint16_t port);
void serial_write(struct machine *m, uint16_t port, uint8_t value);
uint8_t serial_read(struct machine *m, uint16_t port);
bool serial_receive(struct machine *m, uint8_t value); /* false: not yet */
void serial_flush(struct machine *m);
void serial_restore(struct machine *m, const struct serial *from);

/* terminal.c: what is typed goes to that machine; NULL: to nobody */
void terminal_begin(void);
void terminal_connect(struct machine *m);
void terminal_end(void);

/* talk.c: the other end of examples/guest */
void talk_told(struct machine *m, const struct gmem_event *event);
bool talk_port(const struct machine *m, uint16_t port);
void talk_ring(struct machine *m, uint32_t page);

/* ports.c: devices, but for those that have a file */
void ports_exit(struct machine *m, struct kvm_run *run);

/* vcpu.c: what a vCPU is at first; run.c: what it leaves for */
void vcpu_create(struct machine *m);
void vcpu_boot(struct machine *m, uint64_t entry);
void vcpu_start(struct machine *m);
void vcpu_stop(struct machine *m);
void vcpu_free(struct machine *m);

/* map.c: a picture of the memory, one strip a node */
void map_draw(struct machine *m, const char *path);

#endif

/* SPDX-License-Identifier: MIT */
/* A 16450 on COM1: the guest's console on the terminal, in both directions. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "launch.h"

#define COM1 0x3f8
#define IRQ 4
#define LCR_DLAB 0x80
#define ESCAPE 1 /* Ctrl-A, and then x, ends it */

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static struct termios before;
static bool raw;
static int vm;
static uint8_t regs[8], received;
static bool full, sent; /* a byte to be read; an interrupt that all is sent */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void serial_end(void)
{
	if (raw)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	raw = false;
}

/* The terminal as it was, and then what the signal is for: the handler is gone by now. */
static void on_end(int number)
{
	serial_end();
	raise(number);
}

/* The lock is held. */
static void update_irq(void)
{
	struct kvm_irq_level level = {.irq = IRQ};

	level.level = (full && regs[IER] & 1) || (sent && regs[IER] & 2);
	ioctl(vm, KVM_IRQ_LINE, &level);
}

static void *receive(void *arg)
{
	bool escaped = false;
	uint8_t c;

	(void)arg;
	while (read(STDIN_FILENO, &c, 1) == 1) {
		if (raw && escaped && c == 'x') {
			serial_end();
			fprintf(stderr, "\ngmem-launch: stopped at the terminal\n");
			_exit(0);
		}
		escaped = raw && !escaped && c == ESCAPE;
		if (escaped)
			continue;
		pthread_mutex_lock(&lock);
		while (full) {
			pthread_mutex_unlock(&lock);
			usleep(1000);
			pthread_mutex_lock(&lock);
		}
		received = c;
		full = true;
		update_irq();
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

void serial_begin(int vm_fd)
{
	static const int ends[] = {SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGSEGV, SIGTERM};
	struct sigaction action = {.sa_handler = on_end, .sa_flags = (int)SA_RESETHAND};
	struct termios now;
	pthread_t thread;
	size_t i;

	vm = vm_fd;
	if (isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before)) {
		for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
			sigaction(ends[i], &action, NULL);
		now = before;
		cfmakeraw(&now);
		now.c_oflag = before.c_oflag;
		raw = !tcsetattr(STDIN_FILENO, TCSANOW, &now);
		atexit(serial_end);
	}
	if (!pthread_create(&thread, NULL, receive, NULL))
		pthread_detach(thread);
}

bool serial_port(uint16_t port)
{
	return port >= COM1 && port < COM1 + 8;
}

void serial_write(uint16_t port, uint8_t value)
{
	int reg = port - COM1;

	pthread_mutex_lock(&lock);
	if (reg == DATA && !(regs[LCR] & LCR_DLAB)) {
		if (value != '\r') {
			putchar(value);
			fflush(stdout);
		}
		sent = true;
	} else if (reg != IER || !(regs[LCR] & LCR_DLAB)) {
		if (reg == IER && value & 2 && !(regs[IER] & 2))
			sent = true;
		regs[reg] = value;
	}
	update_irq();
	pthread_mutex_unlock(&lock);
}

uint8_t serial_read(uint16_t port)
{
	bool divisor = regs[LCR] & LCR_DLAB;
	uint8_t value;

	pthread_mutex_lock(&lock);
	switch (port - COM1) {
	case DATA:
		value = divisor ? 1 : received;
		if (!divisor)
			full = false;
		break;
	case IER:
		value = divisor ? 0 : regs[IER] & 0x0f;
		break;
	case IIR:
		value = 1;
		if (full && regs[IER] & 1) {
			value = 4;
		} else if (sent && regs[IER] & 2) {
			value = 2;
			sent = false;
		}
		break;
	case LSR:
		value = 0x60 | full;
		break;
	case MSR:
		value = 0xb0;
		break;
	default:
		value = regs[port - COM1];
	}
	update_irq();
	pthread_mutex_unlock(&lock);
	return value;
}

/* SPDX-License-Identifier: MIT */
/* A 16450 on COM1: the guest's console, in both directions. */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/kvm.h>

#include "../guest/gmem_life.h"
#include "launch.h"

#define COM1 0x3f8
#define IRQ 4
#define LCR_DLAB 0x80

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

void serial_init(struct serial *serial)
{
	pthread_mutex_init(&serial->lock, NULL);
}

/* The lock is held. */
static void update_irq(const struct machine *m)
{
	const struct serial *serial = &m->serial;
	struct kvm_irq_level level = {.irq = IRQ};

	level.level =
		(serial->full && serial->regs[IER] & 1) || (serial->sent && serial->regs[IER] & 2);
	ioctl(m->fd, KVM_IRQ_LINE, &level);
}

/*
 * One guest's console is written as it comes, so that it can be talked to; of several,
 * each line with the clone's number. The lock is held.
 */
static void print(struct machine *m, char c)
{
	struct serial *serial = &m->serial;

	if (c == '\r')
		return;
	if (!m->clone) {
		putchar(c);
		fflush(stdout);
		if (!m->options->clones)
			return;
	}
	if (c != '\n') {
		serial->line[serial->length++] = c;
		/* What is too long is several lines. */
		if (serial->length < sizeof(serial->line) - 1)
			return;
	}
	serial->line[serial->length] = 0;
	serial->length = 0;
	if (m->clone) {
		printf("%u: %s\n", m->clone, serial->line);
		fflush(stdout);
	} else if (strstr(serial->line, GMEM_LIFE_MARKER)) {
		machine_end(m, MARKED);
	}
}

/* A last line may have no end. */
void serial_flush(struct machine *m)
{
	pthread_mutex_lock(&m->serial.lock);
	if (m->serial.length)
		print(m, '\n');
	pthread_mutex_unlock(&m->serial.lock);
}

/* KVM does not keep what a device's interrupt is, so that is set again. */
void serial_restore(struct machine *m, const struct serial *from)
{
	struct serial *serial = &m->serial;

	pthread_mutex_lock(&serial->lock);
	memcpy(serial->regs, from->regs, sizeof(serial->regs));
	serial->received = from->received;
	serial->full = from->full;
	serial->sent = from->sent;
	update_irq(m);
	pthread_mutex_unlock(&serial->lock);
}

bool serial_receive(struct machine *m, uint8_t value)
{
	struct serial *serial = &m->serial;
	bool taken;

	pthread_mutex_lock(&serial->lock);
	taken = !serial->full;
	if (taken) {
		serial->received = value;
		serial->full = true;
		update_irq(m);
	}
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

bool serial_port(uint16_t port)
{
	return port >= COM1 && port < COM1 + 8;
}

void serial_write(struct machine *m, uint16_t port, uint8_t value)
{
	struct serial *serial = &m->serial;
	uint8_t *regs = serial->regs;
	int reg = port - COM1;

	pthread_mutex_lock(&serial->lock);
	if (reg == DATA && !(regs[LCR] & LCR_DLAB)) {
		print(m, (char)value);
		serial->sent = true;
	} else if (reg != IER || !(regs[LCR] & LCR_DLAB)) {
		if (reg == IER && value & 2 && !(regs[IER] & 2))
			serial->sent = true;
		regs[reg] = value;
	}
	update_irq(m);
	pthread_mutex_unlock(&serial->lock);
}

uint8_t serial_read(struct machine *m, uint16_t port)
{
	struct serial *serial = &m->serial;
	uint8_t *regs = serial->regs;
	uint8_t value;
	bool divisor;

	pthread_mutex_lock(&serial->lock);
	divisor = regs[LCR] & LCR_DLAB;
	switch (port - COM1) {
	case DATA:
		value = divisor ? 1 : serial->received;
		if (!divisor)
			serial->full = false;
		break;
	case IER:
		value = divisor ? 0 : regs[IER] & 0x0f;
		break;
	case IIR:
		value = 1;
		if (serial->full && regs[IER] & 1) {
			value = 4;
		} else if (serial->sent && regs[IER] & 2) {
			value = 2;
			serial->sent = false;
		}
		break;
	case LSR:
		value = 0x60 | serial->full;
		break;
	case MSR:
		value = 0xb0;
		break;
	default:
		value = regs[port - COM1];
	}
	update_irq(m);
	pthread_mutex_unlock(&serial->lock);
	return value;
}

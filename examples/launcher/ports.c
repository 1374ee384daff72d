/* SPDX-License-Identifier: MIT */
/* Who is at which port, and the devices that are too small for a file: ACPI's, the reset. */
#include <string.h>
#include <time.h>
#include <linux/kvm.h>

#include "../guest/gmem_life.h"
#include "launch.h"

#define PM_TIMER_HZ 3579545
#define SLEEP_ENABLE (1 << 13)
#define RESET_PORT 0xcf9
#define KEYBOARD 0x64
#define KEYBOARD_RESET 0xfe

static uint32_t pm_timer(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint32_t)((uint64_t)now.tv_sec * PM_TIMER_HZ +
			  (uint64_t)now.tv_nsec * PM_TIMER_HZ / 1000000000);
}

static uint32_t port_read(struct machine *m, uint16_t port)
{
	if (serial_port(port))
		return serial_read(m, port);
	switch (port) {
	case 0x71:
	case KEYBOARD:
	case PM1_EVENT:
		return 0;
	case PM1_EVENT + 2:
		return m->pm1_enable;
	case PM1_CONTROL:
		return 1;
	case PM_TIMER:
		return pm_timer();
	case GMEM_LIFE_PORT:
		return m->options->clones ? m->clone : ~0u;
	}
	return ~0u;
}

static void port_write(struct machine *m, uint16_t port, uint32_t value)
{
	if (serial_port(port))
		serial_write(m, port, (uint8_t)value);
	else if (talk_port(m, port))
		talk_ring(m, value);
	else if (port == PM1_EVENT + 2)
		m->pm1_enable = (uint16_t)value;
	else if (port == PM1_CONTROL && value & SLEEP_ENABLE && (value >> 10 & 7) == SLEEP_TYPE_OFF)
		machine_end(m, TURNED_OFF);
	else if ((port == KEYBOARD && value == KEYBOARD_RESET) || (port == RESET_PORT && value & 4))
		machine_end(m, RESET);
}

void ports_exit(struct machine *m, struct kvm_run *run)
{
	uint8_t *p = (uint8_t *)run + run->io.data_offset;
	uint32_t i, value;

	for (i = 0; i < run->io.count; i++, p += run->io.size) {
		value = 0;
		if (run->io.direction == KVM_EXIT_IO_IN) {
			value = port_read(m, run->io.port);
			memcpy(p, &value, run->io.size);
		} else {
			memcpy(&value, p, run->io.size);
			port_write(m, run->io.port, value);
		}
	}
}

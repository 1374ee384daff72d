/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables of a small PC: fixed hardware, local APICs, one IOAPIC, NUMA nodes.
 * They are not 'hardware reduced', so Linux uses them as on a real machine.
 */
#include <stdlib.h>
#include <string.h>

#include "acpi.h"

struct header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem[6], oem_table[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct rsdp {
	char signature[8];
	uint8_t checksum;
	char oem[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

/* Revision 3: up to the extended addresses, which are left 0. */
struct fadt {
	struct header h;
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer;
	uint32_t gpe0, gpe1;
	uint8_t pm1_event_len, pm1_control_len, pm2_control_len, pm_timer_len;
	uint8_t gpe0_len, gpe1_len, gpe1_base, cst;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_flags;
	uint8_t reserved1;
	uint32_t flags;
	uint8_t reset_register[12], reset_value, reserved2[3];
	uint64_t xfacs, xdsdt;
	uint8_t extended[8][12];
} __attribute__((packed));

_Static_assert(sizeof(struct fadt) == 244, "the FADT of revision 3");

struct facs {
	char signature[4];
	uint32_t length, hardware, waking, lock, flags;
	uint64_t xwaking;
	uint8_t version, reserved[31];
} __attribute__((packed, aligned(64)));

#define FADT_WBINVD (1 << 0)
#define FADT_NO_POWER_BUTTON (1 << 4)
#define FADT_NO_SLEEP_BUTTON (1 << 5)
#define FADT_TIMER_32BIT (1 << 8)
#define BOOT_LEGACY_DEVICES (1 << 0)
#define BOOT_NO_VGA (1 << 2)

struct madt {
	struct header h;
	uint32_t lapic_address, flags;
	struct {
		uint8_t type, length, id;
		uint8_t ioapic_reserved;
		uint32_t address, gsi_base;
	} __attribute__((packed)) ioapic;
	struct {
		uint8_t type, length, bus, irq;
		uint32_t gsi;
		uint16_t flags;
	} __attribute__((packed)) timer, sci;
	struct {
		uint8_t type, length, acpi_id, apic_id;
		uint32_t flags;
	} __attribute__((packed)) cpus[];
} __attribute__((packed));

#define ACTIVE_HIGH_LEVEL 0xd

/* Name (\_S5, Package () { SLEEP_TYPE_OFF, SLEEP_TYPE_OFF, 0, 0 }) */
static const uint8_t dsdt_aml[] = {
	0x08,		'_',  'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, SLEEP_TYPE_OFF, 0x0a,
	SLEEP_TYPE_OFF, 0x00, 0x00};

static uint8_t checksum(const void *table, size_t len)
{
	const uint8_t *p = table;
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return -sum;
}

static uint8_t *tables;
static size_t used;

static uint64_t place(const void *table, size_t len)
{
	uint64_t at = used;

	used += (len + 63) & ~63ul;
	if (used <= ACPI_SIZE)
		memcpy(tables + at, table, len);
	return ACPI_TABLES + at;
}

static uint64_t place_table(struct header *h, const char *signature, uint8_t revision, size_t len)
{
	memcpy(h->signature, signature, 4);
	h->length = len;
	h->revision = revision;
	memcpy(h->oem, "GMEM  ", 6);
	memcpy(h->oem_table, "LABGUEST", 8);
	h->oem_revision = 1;
	memcpy(h->creator, "GMEM", 4);
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = checksum(h, len);
	return place(h, len);
}

static uint64_t place_madt(unsigned int cpus)
{
	size_t len = sizeof(struct madt) + cpus * sizeof(((struct madt *)0)->cpus[0]);
	struct madt *madt = calloc(1, len);
	uint64_t at;

	if (!madt)
		return 0;
	madt->lapic_address = 0xfee00000;
	madt->flags = 1; /* it has 8259s as well */
	madt->ioapic.type = 1;
	madt->ioapic.length = sizeof(madt->ioapic);
	madt->ioapic.id = cpus;
	madt->ioapic.address = 0xfec00000;
	madt->timer.type = madt->sci.type = 2;
	madt->timer.length = madt->sci.length = sizeof(madt->timer);
	madt->timer.gsi = 2;
	madt->sci.irq = madt->sci.gsi = 9;
	madt->sci.flags = ACTIVE_HIGH_LEVEL;
	for (unsigned int i = 0; i < cpus; i++) {
		madt->cpus[i].length = sizeof(madt->cpus[i]);
		madt->cpus[i].acpi_id = madt->cpus[i].apic_id = i;
		madt->cpus[i].flags = 1;
	}
	at = place_table(&madt->h, "APIC", 3, len);
	free(madt);
	return at;
}

static uint64_t place_dsdt(void)
{
	struct {
		struct header h;
		uint8_t aml[sizeof(dsdt_aml)];
	} __attribute__((packed)) dsdt = {0};

	memcpy(dsdt.aml, dsdt_aml, sizeof(dsdt_aml));
	return place_table(&dsdt.h, "DSDT", 2, sizeof(dsdt));
}

static uint64_t place_fadt(void)
{
	struct facs facs = {.signature = "FACS", .length = sizeof(facs), .version = 1};
	struct fadt fadt = {
		.facs = place(&facs, sizeof(facs)),
		.dsdt = place_dsdt(),
		.profile = 1,
		.sci = 9,
		.pm1a_event = PM1_EVENT,
		.pm1a_control = PM1_CONTROL,
		.pm_timer = PM_TIMER,
		.pm1_event_len = 4,
		.pm1_control_len = 2,
		.pm_timer_len = 4,
		.c2_latency = 0xfff, /* neither C2 nor C3 */
		.c3_latency = 0xfff,
		.boot_flags = BOOT_LEGACY_DEVICES | BOOT_NO_VGA,
		.flags = FADT_WBINVD | FADT_NO_POWER_BUTTON | FADT_NO_SLEEP_BUTTON |
			 FADT_TIMER_32BIT,
	};

	return place_table(&fadt.h, "FACP", 3, sizeof(fadt));
}

/* Which memory and which processors are near each other. */
static uint64_t place_srat(unsigned int cpus, const struct node *nodes, unsigned int nr_nodes)
{
	struct srat_cpu {
		uint8_t type, length, domain, apic_id;
		uint32_t flags;
		uint8_t sapic_eid, domain_high[3];
		uint32_t clock_domain;
	} __attribute__((packed));
	struct srat_memory {
		uint8_t type, length;
		uint32_t domain;
		uint16_t reserved0;
		uint64_t base, bytes;
		uint32_t reserved1, flags;
		uint64_t reserved2;
	} __attribute__((packed));
	struct {
		struct header h;
		uint32_t one;
		uint64_t reserved;
		uint8_t entries[256 * sizeof(struct srat_cpu) +
				MAX_NODES * sizeof(struct srat_memory)];
	} __attribute__((packed)) srat = {.one = 1};
	uint8_t *at = srat.entries;

	for (unsigned int i = 0; i < cpus; i++, at += sizeof(struct srat_cpu)) {
		const struct srat_cpu cpu = {
			.length = sizeof(cpu), .domain = i % nr_nodes, .apic_id = i, .flags = 1};

		memcpy(at, &cpu, sizeof(cpu));
	}
	for (unsigned int i = 0; i < nr_nodes; i++, at += sizeof(struct srat_memory)) {
		const struct srat_memory memory = {.type = 1,
						   .length = sizeof(memory),
						   .domain = i,
						   .base = nodes[i].start,
						   .bytes = nodes[i].bytes,
						   .flags = 1};

		memcpy(at, &memory, sizeof(memory));
	}
	return place_table(&srat.h, "SRAT", 3, (size_t)(at - (uint8_t *)&srat));
}

static uint64_t place_slit(unsigned int nr_nodes)
{
	struct {
		struct header h;
		uint64_t nodes;
		uint8_t distance[MAX_NODES * MAX_NODES];
	} __attribute__((packed)) slit = {.nodes = nr_nodes};

	for (unsigned int i = 0; i < nr_nodes * nr_nodes; i++)
		slit.distance[i] = i / nr_nodes == i % nr_nodes ? 10 : 20;
	return place_table(&slit.h, "SLIT", 1,
			   offsetof(typeof(slit), distance) + nr_nodes * nr_nodes);
}

uint64_t acpi_write(uint8_t *ram, unsigned int cpus, const struct node *nodes,
		    unsigned int nr_nodes)
{
	struct {
		struct header h;
		uint64_t tables[4];
	} __attribute__((packed)) xsdt = {0};
	struct rsdp rsdp = {
		.signature = "RSD PTR ", .oem = "GMEM  ", .revision = 2, .length = sizeof(rsdp)};
	size_t n = 0;

	tables = ram + ACPI_TABLES;
	used = 64; /* the RSDP comes first */
	xsdt.tables[n++] = place_fadt();
	xsdt.tables[n++] = place_madt(cpus);
	if (nr_nodes) {
		xsdt.tables[n++] = place_srat(cpus, nodes, nr_nodes);
		xsdt.tables[n++] = place_slit(nr_nodes);
	}
	rsdp.xsdt = place_table(&xsdt.h, "XSDT", 1, sizeof(xsdt.h) + n * sizeof(xsdt.tables[0]));
	rsdp.checksum = checksum(&rsdp, offsetof(struct rsdp, length));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(tables, &rsdp, sizeof(rsdp));
	return used <= ACPI_SIZE && xsdt.tables[1] ? ACPI_TABLES : 0;
}

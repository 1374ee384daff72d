// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a guest cannot do without its kernel: ask the host which clone it is, and look
 * through all of its memory for what should not be there any more.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "gmem_life.h"

#define WORDS_IN_PAGE (PAGE_SIZE / sizeof(u64))

static unsigned int count_in_page(const u64 *words, const u64 *inverted)
{
	unsigned int at, i, found = 0;

	for (at = 0; at + GMEM_LIFE_WORDS <= WORDS_IN_PAGE; at++) {
		for (i = 0; i < GMEM_LIFE_WORDS && words[at + i] == ~inverted[i]; i++)
			;
		found += i == GMEM_LIFE_WORDS;
	}
	return found;
}

/*
 * Free pages too: those first of all. The kernel takes what modules leave behind out of
 * its mapping for a moment, on another processor.
 */
static int read_page(u64 *words, unsigned long pfn)
{
	unsigned int tries;

	for (tries = 0; tries < 1000; tries++) {
		if (!copy_from_kernel_nofault(words, pfn_to_kaddr(pfn), PAGE_SIZE))
			return 0;
		msleep(1);
	}
	return -EFAULT;
}

static int search(struct gmem_life_search *s, u64 *words)
{
	unsigned long pfn;
	int r;

	s->found = s->pages = 0;
	for (pfn = 0; pfn < SZ_4G / PAGE_SIZE; pfn++) {
		/* What is in words was counted where it came from. */
		if (!pfn_valid(pfn) || !page_is_ram(pfn) || pfn == PHYS_PFN(virt_to_phys(words)))
			continue;
		r = read_page(words, pfn);
		if (r)
			return r;
		s->found += count_in_page(words, s->inverted);
		s->pages++;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static long life_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *to = (void __user *)arg;
	struct gmem_life_search s;
	u64 *words;
	int r;

	switch (cmd) {
	case GMEM_LIFE_NUMBER:
		return put_user(inl(GMEM_LIFE_PORT), (u32 __user *)to);
	case GMEM_LIFE_SEARCH:
		if (copy_from_user(&s, to, sizeof(s)))
			return -EFAULT;
		words = kmalloc(PAGE_SIZE, GFP_KERNEL);
		if (!words)
			return -ENOMEM;
		r = search(&s, words);
		kfree_sensitive(words);
		if (!r && copy_to_user(to, &s, sizeof(s)))
			r = -EFAULT;
		return r;
	}
	return -ENOTTY;
}

static const struct file_operations life_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = life_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* Who may look for a word in all memory may find out what is in there. */
static struct miscdevice life_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gmem_life",
	.fops = &life_fops,
	.mode = 0600,
};
module_misc_device(life_device);

MODULE_DESCRIPTION("Which clone a guest is, and what is left in its memory");
MODULE_LICENSE("GPL");

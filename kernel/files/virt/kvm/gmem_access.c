// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM's own accesses to slots whose memory is a guest_memfd that converts in
 * place: instruction emulation, walks of the guest's page tables, and the data
 * that KVM shares with a guest.
 *
 * They access the folio through the kernel's own mapping, for private and for
 * shared pages alike.  There may be no mapping in userspace, and for private
 * pages there cannot be one.
 *
 * Hold invalidate_lock shared while accessing memory, rather than only a
 * reference to the folio: a conversion then waits, instead of failing because
 * the page is in use.
 */

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/guestmem.h>
#include <linux/highmem.h>
#include <linux/kvm_host.h>
#include <linux/pagemap.h>

#include "kvm_mm.h"

/*
 * The offset of the page of @gfn in @folio.  It does not use folio->index, which
 * the zero page does not have.
 */
static size_t kvm_gmem_folio_offset(const struct kvm_memory_slot *slot, gfn_t gfn,
				    struct folio *folio)
{
	return (kvm_gmem_get_index(slot, gfn) & (folio_nr_pages(folio) - 1)) << PAGE_SHIFT;
}

/**
 * kvm_gmem_access_begin - begin an access to a page of a slot that is gmem only
 * @slot: the slot
 * @gfn: the page, in @slot
 * @write: the page is to be written to
 * @access: to be handed to kvm_gmem_access_end(), on success
 *
 * Context: may sleep, and so may the caller until kvm_gmem_access_end(), but
 *	    without touching user memory.  The caller holds kvm->srcu.
 * Return: the kernel address of the page, or an ERR_PTR(): -EFAULT if there is
 * no memory, or it is frozen and @write, -EHWPOISON if it is broken, -ENOMEM,
 * -EINTR if a fatal signal came while waiting for the lock.
 */
void *kvm_gmem_access_begin(struct kvm_memory_slot *slot, gfn_t gfn, bool write,
			    struct kvm_gmem_access *access)
{
	pgoff_t index = kvm_gmem_get_index(slot, gfn);
	struct folio *folio;
	struct inode *inode;
	struct file *file;
	bool writable;

	if (slot->flags & KVM_MEMSLOT_INVALID)
		return ERR_PTR(-EFAULT);

	file = kvm_gmem_get_file(slot);
	if (!file)
		return ERR_PTR(-EFAULT);

	inode = file_inode(file);
	if (down_read_killable(&inode->i_mapping->invalidate_lock)) {
		fput(file);
		return ERR_PTR(-EINTR);
	}

	folio = guestmem_get_folio(inode, index, write, &writable);
	if (IS_ERR(folio)) {
		/* As for a fault of the guest: frozen memory cannot be written. */
		if (folio == ERR_PTR(-EPERM))
			folio = ERR_PTR(-EFAULT);
		goto err;
	}

	if (folio_test_hwpoison(folio)) {
		folio_unlock(folio);
		folio_put(folio);
		folio = ERR_PTR(-EHWPOISON);
		goto err;
	}

	guestmem_init_folio(folio);
	folio_unlock(folio);

	access->file = file;
	access->folio = folio;
	access->kaddr = kmap_local_folio(folio, kvm_gmem_folio_offset(slot, gfn, folio));

	return access->kaddr;

err:
	filemap_invalidate_unlock_shared(inode->i_mapping);
	fput(file);
	return ERR_CAST(folio);
}

/**
 * kvm_gmem_access_end - end what kvm_gmem_access_begin() began
 * @access: as filled in by kvm_gmem_access_begin()
 */
void kvm_gmem_access_end(struct kvm_gmem_access *access)
{
	kunmap_local(access->kaddr);
	folio_put(access->folio);
	filemap_invalidate_unlock_shared(access->file->f_mapping);
	fput(access->file);
}

/* Tell whether the memory of @slot is frozen, so that writes to it fail. */
bool kvm_gmem_frozen(const struct kvm_memory_slot *slot)
{
	struct inode *inode;

	guard(rcu)();

	inode = rcu_dereference(slot->gmem.inode);
	return inode && guestmem_frozen(inode);
}

/*
 * Get the folio of @gfn without sleeping, if there is one that is initialised.
 * The caller drops the reference before it leaves its RCU section: a conversion
 * that finds the reference waits for a grace period, and looks again.
 */
static struct folio *kvm_gmem_get_folio_atomic(const struct kvm_memory_slot *slot,
					       gfn_t gfn, bool write)
{
	struct inode *inode;

	inode = rcu_dereference(slot->gmem.inode);
	if (!inode || slot->flags & KVM_MEMSLOT_INVALID)
		return NULL;

	return guestmem_peek_folio(inode, kvm_gmem_get_index(slot, gfn), write);
}

int kvm_gmem_read_page(struct kvm_memory_slot *slot, gfn_t gfn, void *data,
		       int offset, int len)
{
	struct kvm_gmem_access access;
	void *kaddr;

	kaddr = kvm_gmem_access_begin(slot, gfn, false, &access);
	if (IS_ERR(kaddr))
		return PTR_ERR(kaddr);

	memcpy(data, kaddr + offset, len);
	kvm_gmem_access_end(&access);

	return 0;
}

int kvm_gmem_write_page(struct kvm_memory_slot *slot, gfn_t gfn,
			const void *data, int offset, int len)
{
	struct kvm_gmem_access access;
	void *kaddr;

	kaddr = kvm_gmem_access_begin(slot, gfn, true, &access);
	if (IS_ERR(kaddr))
		return PTR_ERR(kaddr);

	memcpy(kaddr + offset, data, len);
	kvm_gmem_access_end(&access);

	return 0;
}

int kvm_gmem_read_page_atomic(struct kvm_memory_slot *slot, gfn_t gfn,
			      void *data, int offset, int len)
{
	struct folio *folio;

	guard(rcu)();

	folio = kvm_gmem_get_folio_atomic(slot, gfn, false);
	if (!folio)
		return -EFAULT;

	memcpy_from_folio(data, folio, kvm_gmem_folio_offset(slot, gfn, folio) + offset,
			  len);
	folio_put(folio);

	return 0;
}

int kvm_gmem_write_byte_atomic(struct kvm_memory_slot *slot, gpa_t gpa, u8 data)
{
	gfn_t gfn = gpa_to_gfn(gpa);
	struct folio *folio;

	guard(rcu)();

	folio = kvm_gmem_get_folio_atomic(slot, gfn, true);
	if (!folio)
		return -EFAULT;

	memcpy_to_folio(folio, kvm_gmem_folio_offset(slot, gfn, folio) + offset_in_page(gpa),
			&data, sizeof(data));
	folio_put(folio);

	return 0;
}

/**
 * kvm_gmem_cmpxchg - compare and exchange, atomically towards the guest
 * @slot: a slot that is gmem only
 * @gpa: guest physical address, in @slot; all @bytes of it in one page
 * @old: in: what to compare with; out: what was there, if that differed
 * @new: what to store
 * @bytes: 1, 2, 4 or 8
 *
 * Context: as kvm_gmem_access_begin().
 * Return: 0 if exchanged, 1 if not, or an error of kvm_gmem_access_begin().
 */
int kvm_gmem_cmpxchg(struct kvm_memory_slot *slot, gpa_t gpa, void *old,
		     const void *new, unsigned int bytes)
{
	struct kvm_gmem_access access;
	bool done = false;
	void *kaddr;

	kaddr = kvm_gmem_access_begin(slot, gpa_to_gfn(gpa), true, &access);
	if (IS_ERR(kaddr))
		return PTR_ERR(kaddr);

	kaddr += offset_in_page(gpa);
	switch (bytes) {
	case 1:
		done = try_cmpxchg((u8 *)kaddr, (u8 *)old, *(u8 *)new);
		break;
	case 2:
		done = try_cmpxchg((u16 *)kaddr, (u16 *)old, *(u16 *)new);
		break;
	case 4:
		done = try_cmpxchg((u32 *)kaddr, (u32 *)old, *(u32 *)new);
		break;
	case 8:
		done = try_cmpxchg((u64 *)kaddr, (u64 *)old, *(u64 *)new);
		break;
	default:
		WARN_ON_ONCE(1);
	}
	kvm_gmem_access_end(&access);

	return !done;
}

/* As gfn_to_pfn_memslot(), for slots that are gmem only. */
kvm_pfn_t kvm_gmem_gfn_to_pfn(const struct kvm_memory_slot *slot, gfn_t gfn,
			      bool atomic)
{
	struct folio *folio;
	kvm_pfn_t pfn;
	int r;

	/* The caller cannot sleep before it has dropped the reference. */
	if (atomic) {
		guard(rcu)();
		folio = kvm_gmem_get_folio_atomic(slot, gfn, true);
		if (!folio)
			return KVM_PFN_ERR_FAULT;
		return page_to_pfn(folio_file_page(folio, kvm_gmem_get_index(slot, gfn)));
	}

	r = kvm_gmem_get_slot_pfn((struct kvm_memory_slot *)slot, gfn, &pfn);
	if (r)
		return r == -EHWPOISON ? KVM_PFN_ERR_HWPOISON : KVM_PFN_ERR_FAULT;

	return pfn;
}

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Datagrams: which slot a flow is at home at, and how many flows each slot has. A flow is all datagrams from one address and
 * port to one address and port; it is known by the kernel's hash of these four, which nobody outside can foresee. Two flows
 * with one hash share a home, which harms neither.
 *
 * A flow that nobody ends is over when it has been silent: time is cut into windows, and a slot has as many flows as spoke to
 * it in this window or in the one before. Each flow is counted once in a window, so its other datagrams write nothing.
 */
#pragma once

#include <stdbool.h>

#include "maps.bpf.h"

#define WINDOW_BITS 30 /* of the clock in ns: a window lasts 1.07 s */
#define WINDOW_MASK 0xffffu
#define FLOWS_MASK 0xffffffull /* flows of one slot in one window at most: more are not counted */

/* The least recently heard ones leave when there are more. Only the programs for datagrams have it; the loader sets its size. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LB_FLOWS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} flows SEC(".maps");

/* Where a flow is at home, in one word: the worker that it began with, the window that it was last counted in, the slot. */
static __always_inline __u64 home_at(__u32 slot, __u32 tenant, __u32 window)
{
	return (__u64)tenant << 32 | (window & WINDOW_MASK) << 16 | slot;
}

static __always_inline __u32 slot_of(__u64 home)
{
	return home & (LB_MAX_SLOTS - 1);
}

static __always_inline __u32 window_of(__u64 home)
{
	return home >> 16 & WINDOW_MASK;
}

/* The worker that the slot has, by its id, which is never used twice. */
static __always_inline __u32 tenant_of(__u32 slot)
{
	_Static_assert(__builtin_offsetof(struct lb_worker_page, worker_id) == 4, "the upper half of the page's first word");
	return word_at(&workers, slot * WORDS(struct lb_worker_page)) >> 32;
}

/* Its slot is ready, and has the worker that knows it. */
static __always_inline bool at_home(__u64 home)
{
	__u32 slot = slot_of(home);

	return word_at(&group, WORD_OF(struct lb_group, ready) + slot / 64) >> slot % 64 & 1 && tenant_of(slot) == home >> 32;
}

static __always_inline __u32 window_now(void)
{
	return bpf_ktime_get_coarse_ns() >> WINDOW_BITS & WINDOW_MASK;
}

/*
 * The flows of a slot, a word of lb_slot_picks: the window that it was written in, the flows that spoke in it or in the one
 * before, those that spoke in it. Here: how many spoke in `window` or in the one before. Without a branch: the verifier would
 * walk both sides, for each slot.
 */
static __always_inline __u64 flows_in(__u64 word, __u32 window)
{
	__u64 age = (window - (word >> 48)) & WINDOW_MASK;
	__u64 same = (age - 1) >> 63, next = (age - 2) >> 63 ^ same;

	OPAQUE(same);
	OPAQUE(next);
	return (word >> 24 & FLOWS_MASK & -same) | (word & FLOWS_MASK & -next);
}

/* A flow speaks for the first time in the window. `before`: it spoke in the last one, so it is counted among the recent. */
static __always_inline void count_flow(struct lb_slot_picks *p, __u32 window, bool before)
{
	UNROLL
	for (__u32 attempt = 0; attempt < 4; attempt++) { /* then it is missing for this window: the count is there to compare */
		__u64 old = READ_ONCE(p->flows), recent = flows_in(old, window);
		__u64 now = old >> 48 == window ? old & FLOWS_MASK : 0;

		recent += !before && recent < FLOWS_MASK;
		now += now < FLOWS_MASK;
		if (__sync_val_compare_and_swap(&p->flows, old, (__u64)window << 48 | recent << 24 | now) == old)
			return;
	}
}

/* A datagram of a flow that is at home. */
static __always_inline void keep_count(__u64 *home, __u64 old, __u32 window)
{
	__u32 slot = slot_of(old);
	struct lb_slot_picks *p;

	if (window_of(old) == window)
		return;
	p = bpf_map_lookup_elem(&picks, &slot);
	if (p && __sync_val_compare_and_swap(home, old, home_at(slot, old >> 32, window)) == old)
		count_flow(p, window, ((window - window_of(old)) & WINDOW_MASK) == 1);
}

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The slots that may be picked: counted, and the n-th of them found. */
#pragma once

#include <stdbool.h>

#include "maps.bpf.h"

static __always_inline __u32 popcount(__u64 x)
{
	x -= x >> 1 & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return x * 0x0101010101010101ull >> 56;
}

/* Of a slot_count: leave out the slots that have hung. */
#define WITHOUT_HUNG 0x80000000u

/* Ready slots among 64*word .. 64*word+63, none beyond slot_count. */
static __always_inline __u64 ready_word(__u32 slot_count, __u32 word)
{
	bool without_hung = slot_count & WITHOUT_HUNG;
	__u32 left;
	__u64 bits;

	slot_count &= ~WITHOUT_HUNG;
	left = slot_count - word * 64;
	if (word * 64 >= slot_count)
		return 0;
	bits = word_at(&group, WORD_OF(struct lb_group, ready) + word);
	if (without_hung)
		bits &= ~word_at(&hung, WORD_OF(struct lb_hung, slots) + word);
	return left < 64 ? bits & ((1ull << left) - 1) : bits;
}

/*
 * The functions that are neither static nor inlined are checked by the verifier once and by themselves, instead of once for
 * each path that leads to them. Under CAP_BPF alone it also walks the mispredicted paths, and would give up.
 */
__noinline __u32 count_ready(__u32 slot_count)
{
	__u32 n = 0;

	UNROLL
	for (__u32 word = 0; word < LB_MAX_SLOTS / 64; word++)
		n += popcount(ready_word(slot_count, word));
	return n;
}

/* Position of the n-th set bit, by halves: BPF has no instruction for it. */
__noinline __u32 nth_bit(__u64 bits, __u32 n)
{
	__u32 at = 0;

	UNROLL
	for (__u32 width = 32; width; width /= 2) {
		__u32 low = popcount(bits & ((1ull << width) - 1));

		if (n >= low) {
			n -= low;
			at += width;
			bits >>= width;
		}
	}
	return at;
}

/* The n-th ready slot, from 0. Slot 0 if user space took some away since they were counted. */
__noinline __u32 nth_ready(__u32 slot_count, __u32 n)
{
	UNROLL
	for (__u32 word = 0; word < LB_MAX_SLOTS / 64; word++) {
		__u64 bits = ready_word(slot_count, word);
		__u32 here = popcount(bits);

		if (n < here)
			return word * 64 + nth_bit(bits, n);
		n -= here;
	}
	return 0;
}

/* A number below n, with one multiplication; the bias of n / 2^32 doesn't matter. */
static __always_inline __u32 below(__u32 random, __u32 n)
{
	return (__u64)random * n >> 32;
}

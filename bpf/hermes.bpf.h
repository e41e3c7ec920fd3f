// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * hermes: the kernel's part of "Hermes: Enhancing Layer-7 Cloud Load Balancers with Userspace-Directed I/O Event Notification" (SIGCOMM
 * 2025, doi:10.1145/3718958.3750469). The workers judge each other by what they are at (worker/hermes.cc: three filters), and a verdict
 * is a word with a bit for each of 64 workers. The connection goes to one of those that passed, by the hash of its addresses and ports;
 * to any that is ready if fewer than two did. Beyond 64 slots each word of them is a group: the hash picks the group first, and the
 * workers of a group judge their own.
 *
 * The paper's workers write one map by bpf(2), the last one being right. Ours may write their own pages alone and make no bpf(2) call,
 * so each leaves its verdict there, with the time; and so that nonsense on one page steers no traffic, nobody is left out by one worker's
 * word: who passed in either of the two latest verdicts has passed. A page without sense can let everybody pass, which is the plain
 * hash, or somebody who should not, for one share among those whom the other verdict lets through; no more.
 */
#pragma once

#include "maps.bpf.h"
#include "ready.bpf.h"

#define AT_ONCE 8u               /* verdicts that are looked at with one call */
#define KEY_MAX (~0ull >> 1)     /* the difference of two has a sign */
#define ANOTHER_HASH 0x9e3779b1u /* below() goes by the high bits, which a multiplication mixes */

/* The two latest verdicts of the workers in `ready`, a word of slots: time above, slot of the word in the low 6 bits; below 64: none. */
struct latest {
	__u64 last;
	__u64 before;
	__u64 ready;
	__u32 word;
};

static __always_inline __u64 hermes_word(__u32 slot, __u32 field)
{
	return word_at(&workers, slot * WORDS(struct lb_worker_page) + WORD_OF(struct lb_worker_page, hermes) + field);
}

/* Without a branch: the verifier would walk both sides, for each slot. */
static __always_inline void keep_latest(struct latest *v, __u32 bit)
{
	__u64 decided = hermes_word(v->word * 64 + bit, WORD_OF(struct lb_hermes, decided_ns));
	__u64 key = ((decided << 6 & KEY_MAX) | bit) & -(v->ready >> bit & 1);
	__s64 difference = key - v->last, older = difference >> 63, second;

	OPAQUE(older);
	second = v->last + (difference & older); /* the smaller of the two */
	v->last = key - (difference & older);
	difference = second - v->before;
	older = difference >> 63;
	OPAQUE(older);
	v->before = second - (difference & older);
}

static long look_at_some(__u32 turn, struct latest *v)
{
	__u32 first = turn * AT_ONCE & 63;

	if (!(v->ready >> first & ((1u << AT_ONCE) - 1)))
		return 0;
	UNROLL
	for (__u32 i = 0; i < AT_ONCE; i++)
		keep_latest(v, first + i);
	return 0;
}

static __always_inline __u64 verdict(const struct latest *v, __u64 key)
{
	return key < 64 ? 0 : hermes_word(v->word * 64 + (key & 63), WORD_OF(struct lb_hermes, passed));
}

/* Of a word of slots those that may be picked and whom one of the two latest verdicts lets through. */
__noinline __u64 passed_word(__u32 slot_count, __u32 word)
{
	struct latest v = {.ready = ready_word(slot_count, word), .word = word};

	bpf_loop(64 / AT_ONCE, look_at_some, &v, 0);
	return (verdict(&v, v.last) | verdict(&v, v.before)) & v.ready;
}

/* The slot, 0 if none is ready; in the upper half how many were. */
__noinline __u32 choice_by_hash(__u32 slot_count, __u32 hash)
{
	__u32 ready = count_ready(slot_count), slot, n;
	__u64 passed;

	if (!ready)
		return 0;
	slot = nth_ready(slot_count, below(hash, ready)); /* a group with many workers is picked as often */
	passed = passed_word(slot_count, slot / 64);
	n = popcount(passed);
	if (n > 1)
		slot = slot / 64 * 64 + nth_bit(passed, below(hash * ANOTHER_HASH, n));
	return ready << 16 | slot;
}

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Workers that take nothing any more, left out of the choice without anybody else's help. A worker's heartbeat moves whenever it
 * looks for connections. One that was given some, and whose heartbeat has stood still for HUNG_AFTER_NS since the first of them,
 * has hung (or is at one long request, where it can't take any either), if
 *  - a connection still waits in its queue, or
 *  - it was given several: an idle one may have slept through one that a sibling took before it woke.
 * This costs nothing per slot, as only the slot that is about to be given a connection is looked at.
 *
 * It is back when its heartbeat moves. What has hung gets no connections that would wake it, so the primary nudges it, once.
 * While the primary itself does not look, one connection a second goes there to see.
 *
 * A heartbeat of 0 is nobody's: who has never shown a sign of life is not judged by it.
 */
#pragma once

#include "load.bpf.h"
#include "ready.bpf.h"

#define HUNG_AFTER_NS 120000000ull
#define HUNG_PICKS 3
#define PROBE_NS 1000000000ull
#define UNSWEPT_MAX 1500u /* in units of 2^20 ns: the primary looks every 0.5 s at least */
#define LOOKS 4           /* at so many slots of a word that have hung, in each run */

static __always_inline __u64 heartbeat_of(__u32 slot)
{
	return word_at(&workers, slot * WORDS(struct lb_worker_page) + WORD_OF(struct lb_worker_page, heartbeat));
}

static __always_inline __u64 *hung_word(__u32 index)
{
	return bpf_map_lookup_elem(&hung, &index);
}

static __always_inline void mark_hung(__u32 slot)
{
	__u64 *word = hung_word(WORD_OF(struct lb_hung, slots) + slot / 64), *any = hung_word(WORD_OF(struct lb_hung, any));

	if (!word || !any)
		return;
	__sync_fetch_and_or(word, 1ull << slot % 64);
	WRITE_ONCE(*any, 1);
}

/* Its worker has hung. Notes the first pick since its heartbeat moved. */
static __always_inline bool stands_still(const struct walk *w, __u32 slot, enum source source)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &slot);
	__u64 beat = heartbeat_of(slot), sk;

	if (!p || !beat)
		return false;
	if (beat != READ_ONCE(p->beat)) {
		p->waits_since = w->now_ns;
		p->picks_then = p->picks;
		p->beat = beat;
		return false;
	}
	if (w->now_ns - READ_ONCE(p->waits_since) < HUNG_AFTER_NS)
		return false;
	if (READ_ONCE(p->picks) - READ_ONCE(p->picks_then) >= HUNG_PICKS)
		return true;
	if (source != PROBE && source != CAST)
		return false;
	sk = socket_at(w, slot, source);
	return sk && queue_length(sk, source);
}

__noinline __u32 has_hung_by_scoreboard(__u32 slot, __u64 now_ns)
{
	struct walk w = {.now_ns = now_ns};

	return stands_still(&w, slot, SCOREBOARD);
}

__noinline __u32 has_hung_by_probe(__u32 slot, __u64 now_ns, __u64 ptrs)
{
	struct walk w = {.now_ns = now_ns, .ptrs = ptrs};

	return stands_still(&w, slot, PROBE);
}

__noinline __u32 has_hung_by_cast(__u32 slot, __u64 now_ns)
{
	struct walk w = {.now_ns = now_ns};

	return stands_still(&w, slot, CAST);
}

static __always_inline bool has_hung(const struct walk *w, enum source source)
{
	if (source == SCOREBOARD)
		return has_hung_by_scoreboard(w->slot, w->now_ns);
	return source == PROBE ? has_hung_by_probe(w->slot, w->now_ns, w->ptrs) : has_hung_by_cast(w->slot, w->now_ns);
}

/* What to look for among the slots that have hung, and the one that was found to be due for a probe. */
struct hung_look {
	__u64 now_ns;
	__u32 probing;
	__u32 probe;
	__u32 seed;
	__u32 left;
};

static __always_inline void look_at_one(struct hung_look *look, __u64 *word, __u32 slot)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &slot);
	__u64 since;

	if (!p)
		return;
	if (heartbeat_of(slot) != READ_ONCE(p->beat)) {
		__sync_fetch_and_and(word, ~(1ull << slot % 64));
		return;
	}
	look->left = 1;
	since = READ_ONCE(p->waits_since);
	if (look->probing && look->now_ns - since > PROBE_NS && look->now_ns > since &&
	    __sync_val_compare_and_swap(&p->waits_since, since, look->now_ns) == since)
		look->probe = slot;
}

/* A few of the word's slots that have hung, from a random one on. */
static long look_at_word(__u32 index, struct hung_look *look)
{
	__u64 *word = hung_word(WORD_OF(struct lb_hung, slots) + index);
	__u32 turn = look->seed & 63;
	__u64 bits;

	if (!word)
		return 1;
	bits = READ_ONCE(*word);
	bits = bits >> turn | bits << (-turn & 63);
	UNROLL
	for (__u32 i = 0; i < LOOKS; i++) {
		if (!bits)
			return 0;
		look_at_one(look, word, index * 64 + ((nth_bit(bits, 0) + turn) & 63));
		bits &= bits - 1;
	}
	if (bits)
		look->left = 1;
	return 0;
}

/*
 * Lets those back in whose heartbeat has moved. A slot that has hung and is due for a probe, else LB_MAX_SLOTS.
 * Should another CPU mark one while `any` is cleared, the slot is looked at again before it is given a connection.
 */
__noinline __u32 look_at_hung(__u32 slot_count, __u64 now_ns, __u32 seed, __u32 probing)
{
	struct hung_look look = {.now_ns = now_ns, .probing = probing, .probe = LB_MAX_SLOTS, .seed = seed};
	__u64 *any = hung_word(WORD_OF(struct lb_hung, any));

	bpf_loop((slot_count + 63) / 64, look_at_word, &look, 0);
	if (any && !look.left)
		WRITE_ONCE(*any, 0);
	return look.probe;
}

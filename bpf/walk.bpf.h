// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The slot with the smallest load: of all that are ready, of few, of two drawn at random. Eight are weighed at a time. */
#pragma once

#include "cpu.bpf.h"
#include "load.bpf.h"
#include "ready.bpf.h"

#define BATCH 8u /* slots that are weighed with one call: a multiple of 4, at most 16 */
#define FEW 4u   /* so few slots are all weighed at once */
#define BATCH_BITS ((1u << BATCH) - 1)

#define ALL_WEIGHTS_1 0x0001000100010001ull /* or 0, which counts as 1 */

static __always_inline __u64 weights_of_four(__u32 slot)
{
	return word_at(&group, WORD_OF(struct lb_group, weight) + slot / 4);
}

/* The common case, without asking for each slot whether it is ready and what it weighs. */
static __always_inline void weigh_four_alike(struct walk *w, __u32 slot, __u64 ties)
{
	UNROLL
	for (__u32 i = 0; i < 4; i++)
		keep_smaller(w, key_of(slot + i, published_load(slot + i), 1, tie_of(ties, i)));
}

/* The smallest key among `best` and the batch's slots. `batch`: its first slot, and a bit above 16 for each that is ready. */
static __always_inline __u64 best_of_batch(struct walk *w, __u32 batch, enum source source)
{
	__u32 first = batch & (LB_MAX_SLOTS - BATCH);

	UNROLL
	for (__u32 four = 0; four < BATCH; four += 4) {
		__u32 ready = batch >> (16 + four) & 0xf;
		__u64 weights, ties;

		if (!ready)
			continue;
		weights = weights_of_four(first + four);
		ties = ties_of_four(first + four, w->seed);
		if (source == PUBLISHED && ready == 0xf && !(weights & ~ALL_WEIGHTS_1)) {
			weigh_four_alike(w, first + four, ties);
			continue;
		}
		UNROLL
		for (__u32 i = 0; i < 4; i++)
			if (ready >> i & 1)
				weigh(w, first + four + i, weights >> i * 16 & 0xffff, tie_of(ties, i), source);
	}
	return w->best;
}

/* One call for a batch of slots: on CPUs with costly returns a call for each would be most of the cost. */
__noinline __u64 batch_by_published(__u64 best, __u32 batch, __u32 seed)
{
	struct walk w = {.best = best, .seed = seed};

	return best_of_batch(&w, batch, PUBLISHED);
}

__noinline __u64 batch_by_scoreboard(__u64 best, __u32 batch, __u32 seed, __u32 endpoint, __u64 now_ns)
{
	struct walk w = {.best = best, .seed = seed, .endpoint = endpoint, .now_ns = now_ns};

	return best_of_batch(&w, batch, SCOREBOARD);
}

__noinline __u64 batch_by_probe(__u64 best, __u32 batch, __u32 seed, __u64 ptrs)
{
	struct walk w = {.best = best, .seed = seed, .ptrs = ptrs};

	return best_of_batch(&w, batch, PROBE);
}

__noinline __u64 batch_by_cast(__u64 best, __u32 batch, __u32 seed)
{
	struct walk w = {.best = best, .seed = seed};

	return best_of_batch(&w, batch, CAST);
}

__noinline __u64 batch_by_flows(__u64 best, __u32 batch, __u32 seed, __u32 window)
{
	struct walk w = {.best = best, .seed = seed, .window = window};

	return best_of_batch(&w, batch, FLOWS);
}

__noinline __u64 batch_by_flows_probe(__u64 best, __u32 batch, __u32 seed, __u32 window, __u64 ptrs)
{
	struct walk w = {.best = best, .seed = seed, .window = window, .ptrs = ptrs};

	return best_of_batch(&w, batch, FLOWS_PROBE);
}

static __always_inline void weigh_batch(struct walk *w, __u32 batch, enum source source)
{
	if (source == PUBLISHED)
		w->best = batch_by_published(w->best, batch, w->seed);
	else if (source == SCOREBOARD)
		w->best = batch_by_scoreboard(w->best, batch, w->seed, w->endpoint, w->now_ns);
	else if (source == PROBE)
		w->best = batch_by_probe(w->best, batch, w->seed, w->ptrs);
	else if (source == FLOWS)
		w->best = batch_by_flows(w->best, batch, w->seed, w->window);
	else if (source == FLOWS_PROBE)
		w->best = batch_by_flows_probe(w->best, batch, w->seed, w->window, w->ptrs);
	else
		w->best = batch_by_cast(w->best, batch, w->seed);
}

static __always_inline long walk_word(__u32 word, struct walk *w, enum source source)
{
	__u64 ready = ready_word(w->slot_count, word);

	w->ready += popcount(ready);
	UNROLL
	for (__u32 i = 0; i < 64; i += BATCH)
		if (ready >> i & BATCH_BITS)
			weigh_batch(w, word * 64 + i + ((ready >> i & BATCH_BITS) << 16), source);
	return 0;
}

static long walk_word_published(__u32 word, struct walk *w)
{
	return walk_word(word, w, PUBLISHED);
}

static long walk_word_scoreboard(__u32 word, struct walk *w)
{
	return walk_word(word, w, SCOREBOARD);
}

static long walk_word_probe(__u32 word, struct walk *w)
{
	return walk_word(word, w, PROBE);
}

static long walk_word_cast(__u32 word, struct walk *w)
{
	return walk_word(word, w, CAST);
}

static long walk_word_flows(__u32 word, struct walk *w)
{
	return walk_word(word, w, FLOWS);
}

static long walk_word_flows_probe(__u32 word, struct walk *w)
{
	return walk_word(word, w, FLOWS_PROBE);
}

/* The smallest key of all slots that are ready. The verifier checks the body of a bpf_loop once, not for each turn. */
static __always_inline void walk_all(struct walk *w, enum source source)
{
	__u32 words = ((w->slot_count & ~WITHOUT_HUNG) + 63) / 64;

	w->ready = 0;
	if (source == PUBLISHED)
		bpf_loop(words, walk_word_published, w, 0);
	else if (source == SCOREBOARD)
		bpf_loop(words, walk_word_scoreboard, w, 0);
	else if (source == PROBE)
		bpf_loop(words, walk_word_probe, w, 0);
	else if (source == FLOWS)
		bpf_loop(words, walk_word_flows, w, 0);
	else if (source == FLOWS_PROBE)
		bpf_loop(words, walk_word_flows_probe, w, 0);
	else
		bpf_loop(words, walk_word_cast, w, 0);
}

static __always_inline bool are_few(const struct walk *w)
{
	return (w->slot_count & ~WITHOUT_HUNG) <= FEW;
}

/* They are in one batch, and to weigh it takes less than any look that might spare it. */
static __always_inline void walk_few(struct walk *w, enum source source)
{
	__u64 ready = ready_word(w->slot_count, 0);

	_Static_assert(FEW <= BATCH, "");
	w->ready = popcount(ready);
	weigh_batch(w, (__u32)ready << 16, source);
}

/*
 * The kernel's sockets cost most to read. What the workers publish is a lower bound of their loads: when nothing waits at the slot
 * that has the lowest, it has the smallest load of all, and one socket was read.
 */
static __always_inline bool nothing_waits_at_lowest(struct walk *w, enum source source)
{
	__u64 sk;

	walk_all(w, PUBLISHED);
	if (w->best == NOBODY)
		return true;
	sk = socket_at(w, w->best & (LB_MAX_SLOTS - 1), source);
	if (sk && !waiting_at(sk, source))
		return true;
	w->best = NOBODY;
	return false;
}

/* Of its batch, this slot alone. */
static __always_inline __u32 only(__u32 slot)
{
	return (slot & ~(BATCH - 1)) | 1u << (16 + slot % BATCH);
}

/* Two draws: among all that are ready, or those of them on one CPU. */
static __always_inline __u32 nth_candidate(const struct walk *w, __u32 n)
{
	return w->cpu ? nth_on_cpu(w->slot_count, w->cpu, n) : nth_ready(w->slot_count, n);
}

/* The better of two different slots, drawn at random. */
static __always_inline void walk_two(struct walk *w, enum source source)
{
	__u32 first = below(w->seed, w->ready);
	__u32 second = below(bpf_get_prandom_u32(), w->ready - 1);

	weigh_batch(w, only(nth_candidate(w, first)), source);
	weigh_batch(w, only(nth_candidate(w, second < first ? second : second + 1)), source);
}

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The slot that the group's selector chooses among those that are ready. */
#pragma once

#include "load.bpf.h"
#include "ready.bpf.h"

#define BATCH 8u /* slots that are weighed with one call: a multiple of 4, at most 16 */
#define BATCH_BITS ((1u << BATCH) - 1)

static __always_inline __u64 weights_of_four(__u32 slot)
{
	return word_at(&group, WORD_OF(struct lb_group, weight) + slot / 4);
}

/* The smallest key among `best` and the batch's slots. `batch`: its first slot, and a bit above 16 for each that is ready. */
static __always_inline __u64 best_of_batch(struct walk *w, __u32 batch, enum source source)
{
	__u32 first = batch & (LB_MAX_SLOTS - BATCH);

	UNROLL
	for (__u32 four = 0; four < BATCH; four += 4) {
		__u32 ready = batch >> (16 + four) & 0xf;
		__u64 weights;

		if (!ready)
			continue;
		weights = weights_of_four(first + four);
		UNROLL
		for (__u32 i = 0; i < 4; i++)
			if (ready >> i & 1)
				weigh(w, first + four + i, weights >> i * 16 & 0xffff, source);
	}
	return w->best;
}

/* One call for a batch of slots: on CPUs with costly returns a call for each would be most of the cost. */
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

__noinline __u64 batch_by_cast(__u64 best, __u32 batch, __u32 seed, __u64 ptrs)
{
	struct walk w = {.best = best, .seed = seed, .ptrs = ptrs};

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
	if (source == SCOREBOARD)
		w->best = batch_by_scoreboard(w->best, batch, w->seed, w->endpoint, w->now_ns);
	else if (source == PROBE)
		w->best = batch_by_probe(w->best, batch, w->seed, w->ptrs);
	else if (source == FLOWS)
		w->best = batch_by_flows(w->best, batch, w->seed, w->window);
	else if (source == FLOWS_PROBE)
		w->best = batch_by_flows_probe(w->best, batch, w->seed, w->window, w->ptrs);
	else
		w->best = batch_by_cast(w->best, batch, w->seed, w->ptrs);
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

/* The slot with the smallest load of all that are ready. The verifier checks the body of a bpf_loop once, not for each turn. */
static __always_inline void walk_all(struct walk *w, enum source source)
{
	__u32 words = (w->slot_count + 63) / 64;

	if (source == SCOREBOARD)
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

/* Of its batch, this slot alone. */
static __always_inline __u32 only(__u32 slot)
{
	return (slot & ~(BATCH - 1)) | 1u << (16 + slot % BATCH);
}

/* The better of two different slots, drawn at random. */
static __always_inline void walk_two(struct walk *w, enum source source)
{
	__u32 first = below(w->seed, w->ready);
	__u32 second = below(bpf_get_prandom_u32(), w->ready - 1);

	weigh_batch(w, only(nth_ready(w->slot_count, first)), source);
	weigh_batch(w, only(nth_ready(w->slot_count, second < first ? second : second + 1)), source);
}

/* The slot by the group's selector; 0 if none is ready. An unknown selector is least-loaded. LB_MAX_SLOTS: none has a socket. */
static __always_inline __u32 choose(struct walk *w, enum source source)
{
	if (w->selector == LB_SELECT_RANDOM || w->selector == LB_SELECT_P2C) {
		w->ready = count_ready(w->slot_count);
		if (w->selector == LB_SELECT_RANDOM || w->ready < 2)
			return nth_ready(w->slot_count, below(w->seed, w->ready));
		walk_two(w, source);
	} else {
		walk_all(w, source);
	}
	if (!w->ready)
		return 0;
	return w->best == NOBODY ? LB_MAX_SLOTS : w->best & (LB_MAX_SLOTS - 1);
}

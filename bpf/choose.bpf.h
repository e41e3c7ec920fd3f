// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The slot that the group's selector chooses among those that are ready. */
#pragma once

#include "cpu.bpf.h"
#include "hermes.bpf.h"
#include "hung.bpf.h"
#include "sticky.bpf.h"
#include "walk.bpf.h"

#define TRIES 2u       /* to happen on an idle slot */
#define CHOICES_MAX 8u /* when one worker after the other is found to have hung */

/* The slot by the group's selector; 0 if none is ready. An unknown selector is least-loaded. LB_MAX_SLOTS: none has a socket. */
static __always_inline __u32 choose(struct walk *w, enum source source)
{
	w->best = NOBODY;
	w->ready = 0;
	w->cpu = w->selector == LB_SELECT_CPU ? cpu_with_worker(w->slot_count) : 0;
	if (w->selector == LB_SELECT_STICKY) {
		__u64 drawn = draw_all(w->slot_count, w->seed);

		w->ready = drawn >> 32;
		return (__u32)drawn;
	}
	if (w->selector == LB_SELECT_HERMES) {
		__u32 made = choice_by_hash(w->slot_count, w->seed);

		w->ready = made >> 16;
		return made & 0xffff;
	}
	if (w->selector == LB_SELECT_RANDOM || w->selector == LB_SELECT_P2C || w->cpu) {
		w->ready = w->cpu ? count_on_cpu(w->slot_count, w->cpu) : count_ready(w->slot_count);
		if (w->selector == LB_SELECT_RANDOM || w->ready < 2)
			return nth_candidate(w, below(w->seed, w->ready));
		walk_two(w, source);
	} else if (source != FLOWS && source != FLOWS_PROBE && are_few(w)) { /* a flow is placed once: no need to be quick */
		walk_few(w, source);
	} else if ((source != PROBE && source != CAST) || !nothing_waits_at_lowest(w, source)) {
		walk_all(w, source);
	}
	if (!w->ready)
		return 0;
	return w->best == NOBODY ? LB_MAX_SLOTS : w->best & (LB_MAX_SLOTS - 1);
}

/* For a connection there may be several choices, each verified once: the slot, and above it how many were ready. */
static __always_inline __u32 choice(struct walk *w, enum source source)
{
	__u32 slot = choose(w, source);

	return w->ready << 16 | slot;
}

__noinline __u32 choice_by_scoreboard(__u32 selector, __u32 slot_count, __u32 seed, __u32 endpoint, __u64 now_ns)
{
	struct walk w = {.selector = selector, .slot_count = slot_count, .seed = seed, .endpoint = endpoint, .now_ns = now_ns};

	return choice(&w, SCOREBOARD);
}

__noinline __u32 choice_by_probe(__u32 selector, __u32 slot_count, __u32 seed, __u64 ptrs)
{
	struct walk w = {.selector = selector, .slot_count = slot_count, .seed = seed, .ptrs = ptrs};

	return choice(&w, PROBE);
}

__noinline __u32 choice_by_cast(__u32 selector, __u32 slot_count, __u32 seed)
{
	struct walk w = {.selector = selector, .slot_count = slot_count, .seed = seed};

	return choice(&w, CAST);
}

/* Is the slot ready, and another one near it, and has it nothing to do? Then no slot has a smaller load. */
static __always_inline bool is_idle(const struct walk *w, __u32 slot, enum source source)
{
	__u64 ready = ready_word(w->slot_count, slot / 64), sk;

	if (!(ready >> slot % 64 & 1) || !(ready & (ready - 1)) || published_load(slot))
		return false;
	if (source == SCOREBOARD)
		return !pending_load(w, slot);
	sk = socket_at(w, slot, source);
	return sk && !waiting_at(sk, source);
}

/*
 * While many are idle one is soon found by looking at random, which costs the same for any number of slots. Idle ones are found with
 * equal chance, so ties are broken as by a walk over all. LB_MAX_SLOTS: none was found.
 */
static __always_inline __u32 happen_on_idle(const struct walk *w, enum source source)
{
	__u32 count = w->slot_count & ~WITHOUT_HUNG, random = w->seed;

	UNROLL
	for (__u32 i = 0; i < TRIES; i++) {
		__u32 slot = below(random, count) & (LB_MAX_SLOTS - 1);

		if (is_idle(w, slot, source))
			return slot;
		random *= 0x9e3779b1u;
	}
	return LB_MAX_SLOTS;
}

__noinline __u32 idle_by_scoreboard(__u32 slot_count, __u32 seed, __u32 endpoint, __u64 now_ns)
{
	struct walk w = {.slot_count = slot_count, .seed = seed, .endpoint = endpoint, .now_ns = now_ns};

	return happen_on_idle(&w, SCOREBOARD);
}

__noinline __u32 idle_by_probe(__u32 slot_count, __u32 seed, __u64 ptrs)
{
	struct walk w = {.slot_count = slot_count, .seed = seed, .ptrs = ptrs};

	return happen_on_idle(&w, PROBE);
}

__noinline __u32 idle_by_cast(__u32 slot_count, __u32 seed)
{
	struct walk w = {.slot_count = slot_count, .seed = seed};

	return happen_on_idle(&w, CAST);
}

static __always_inline __u32 idle_one(const struct walk *w, enum source source)
{
	if (source == SCOREBOARD)
		return idle_by_scoreboard(w->slot_count, w->seed, w->endpoint, w->now_ns);
	return source == PROBE ? idle_by_probe(w->slot_count, w->seed, w->ptrs) : idle_by_cast(w->slot_count, w->seed);
}

static __always_inline void choose_once(struct walk *w, enum source source)
{
	__u32 made;

	if (w->selector == LB_SELECT_LEAST_LOADED && !are_few(w)) {
		w->slot = idle_one(w, source);
		w->ready = 2; /* at least */
		if (w->slot < LB_MAX_SLOTS)
			return;
	}
	if (source == SCOREBOARD)
		made = choice_by_scoreboard(w->selector, w->slot_count, w->seed, w->endpoint, w->now_ns);
	else if (source == PROBE)
		made = choice_by_probe(w->selector, w->slot_count, w->seed, w->ptrs);
	else
		made = choice_by_cast(w->selector, w->slot_count, w->seed);
	w->slot = made & 0xffff;
	w->ready = made >> 16;
}

/* For a connection: a slot whose worker has not hung, if there is one; else the least loaded of those that have. */
static __always_inline void choose_alive(struct walk *w, enum source source)
{
	bool anybody = false;

	if (word_at(&hung, WORD_OF(struct lb_hung, any))) {
		w->slot = look_at_hung(w->slot_count, w->now_ns, w->seed, (__u32)(w->now_ns >> 20) - w->swept_at > UNSWEPT_MAX);
		w->ready = 1;
		if (w->slot < LB_MAX_SLOTS)
			return;
		w->slot_count |= WITHOUT_HUNG;
	}
	UNROLL
	for (__u32 i = 0; i < CHOICES_MAX; i++) {
		choose_once(w, source);
		if (!w->ready && w->slot_count & WITHOUT_HUNG) {
			w->slot_count &= ~WITHOUT_HUNG;
			anybody = true;
			continue;
		}
		if (!w->ready || anybody || !has_hung(w, source))
			return;
		mark_hung(w->slot);
		w->slot_count |= WITHOUT_HUNG;
		w->avoided = true;
	}
}

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What a slot's load is, and which of two slots has the smaller one. */
#pragma once

#include <stdbool.h>

#include <bpf/bpf_core_read.h>

#include "flow.bpf.h"

#define LOAD_MAX ((1ull << 24) - 1) /* what a slot can be charged with at most; nonsense ends here */
#define WEIGHT_BITS 16              /* loads are scaled up by this before they are divided by a weight */
#define TIE_BITS 14
#define SLOT_BITS 9
#define HALF_LIFE_NS 100000000ull
#define DATAGRAM_BITS 10 /* a datagram that waits takes about so much memory, and counts like a flow */
#define NOBODY (~0ull >> 1)

_Static_assert(LB_MAX_SLOTS == 1 << SLOT_BITS, "a slot fills the low bits of a key");
_Static_assert(24 + WEIGHT_BITS + TIE_BITS + SLOT_BITS == 63, "a key is one word, and the difference of two has a sign");

/* The few kernel fields that select_kernel reads; the loader finds their real offsets (CO-RE). */
typedef struct {
	int counter;
} atomic_t;

struct request_sock_queue {
	atomic_t young;
} __attribute__((preserve_access_index));

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
} __attribute__((preserve_access_index));

struct sock {
	__u32 sk_ack_backlog;
	struct {
		atomic_t rmem_alloc;
	} __attribute__((preserve_access_index)) sk_backlog;
} __attribute__((preserve_access_index));

struct hlist_head {
	void *first;
} __attribute__((preserve_access_index));

struct reuseport_array {
	void *ptrs[0];
} __attribute__((preserve_access_index));

/* Weak: kernels before 6.2 do not have it, and are not given the program that calls it. */
extern void *bpf_rdonly_cast(void *object, __u32 type) __ksym __weak;

/* Where the load of a slot is read from: a constant in each program. */
enum source {
	PUBLISHED,   /* the worker's page alone: a lower bound */
	SCOREBOARD,  /* low rung: the worker's page and our own picks */
	PROBE,       /* top rung: the worker's page and the slot's socket, by bpf_probe_read_kernel */
	CAST,        /* top rung: the same by plain loads, without a call for each; 6.2 */
	FLOWS,       /* datagrams, low rung: the worker's page and the slot's flows */
	FLOWS_PROBE, /* datagrams, top rung: the slot's socket too; for new flows only, so what a call costs does not matter */
};

/* What one run of the program knows. */
struct walk {
	__u64 best;   /* smallest key so far: load, then chance, then slot */
	__u64 ptrs;   /* PROBE, FLOWS_PROBE: address of the sockarray's pointers */
	__u64 now_ns; /* connections */
	__u32 ready;  /* ready slots seen */
	__u32 slot_count;
	__u32 selector;
	__u32 endpoint;
	__u32 seed;
	__u32 window; /* datagrams */
	__u32 cpu;    /* where the choice is among the slots whose workers are pinned to it, from 1; else 0 */
	__u32 slot;   /* the choice */
	__u32 swept_at;
	bool avoided; /* a choice that had hung */
};

/*
 * What slots are compared by: load / weight first, scaled up so that the division keeps the fractions; then chance; the slot
 * comes along in the low bits. One word, so that the smallest key is found with one comparison.
 */
static __always_inline __u64 key_of(__u32 slot, __u64 load, __u32 weight, __u64 tie)
{
	__s64 above = (__s64)(LOAD_MAX - load) >> 63;

	OPAQUE(above);
	load = ((load | above) & LOAD_MAX) << WEIGHT_BITS;
	if (weight > 1)
		load /= weight;
	return load << (TIE_BITS + SLOT_BITS) | tie | slot;
}

/*
 * Chance, for four slots at a time: drawn from the run's one random number and the slots, so that ties are spread without a random
 * number each.
 */
static __always_inline __u64 ties_of_four(__u32 slot, __u32 seed)
{
	__u64 ties = (((__u64)seed << 32) + slot + 1) * 0x9e3779b97f4a7c15ull;

	ties = (ties ^ ties >> 32) * 0xd6e8feb86659fd93ull;
	return ties ^ ties >> 32;
}

/* Of the i-th of the four, where it belongs in a key. */
static __always_inline __u64 tie_of(__u64 ties, __u32 i)
{
	_Static_assert(SLOT_BITS < 16 && TIE_BITS <= 16, "four in a word");
	return (i ? ties >> (i * 16 - SLOT_BITS) : ties << SLOT_BITS) & ((1ull << TIE_BITS) - 1) << SLOT_BITS;
}

/* What the worker itself says: in_flight + reported, which share a word. */
static __always_inline __u64 published_load(__u32 slot)
{
	__u64 both = word_at(&workers, slot * WORDS(struct lb_worker_page) + WORD_OF(struct lb_worker_page, in_flight));

	return (both & LB_IN_FLIGHT) + (both >> 32);
}

/* Picks of the slot that its worker has not yet settled; below 0 when it settled some that had been written off. */
static __always_inline __s32 pending_of(const struct lb_slot_picks *p, __u32 slot, __u32 endpoint)
{
	__u32 cell = WORD_OF(struct lb_worker_page, cells) + (endpoint & (LB_MAX_ENDPOINTS - 1)) * WORDS(struct lb_endpoint_cell);
	__u32 settled = word_at(&workers, slot * WORDS(struct lb_worker_page) + cell + WORD_OF(struct lb_endpoint_cell, settled));

	return (__u32)READ_ONCE(p->picks) - settled - (__u32)READ_ONCE(p->written_off);
}

/*
 * Keeps the count of pending picks near the truth. Handshakes that were never finished are not settled by anyone, so half of
 * what is pending is written off after each 100 ms. What was written off and is settled after all is taken back, else the
 * slot's next picks would not count. Compare-and-swap: of the CPUs that see the same state, one acts.
 */
__noinline __u32 correct_pending(__u32 slot, __s32 pending, __u64 now_ns)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &slot);
	__u64 written_off, decayed_ns, periods;
	__u32 left;

	if (!p)
		return 0;
	written_off = READ_ONCE(p->written_off);
	decayed_ns = READ_ONCE(p->decayed_ns);
	if (pending < 0) {
		__sync_val_compare_and_swap(&p->written_off, written_off, written_off + (__s64)pending);
		return 0;
	}
	periods = (now_ns - decayed_ns) / HALF_LIFE_NS;
	left = periods < 32 ? (__u32)pending >> (periods & 31) : 0;
	if (__sync_val_compare_and_swap(&p->decayed_ns, decayed_ns, now_ns) == decayed_ns)
		__sync_fetch_and_add(&p->written_off, (__u32)pending - left);
	return left;
}

static __always_inline __u32 pending_load(const struct walk *w, __u32 slot)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &slot);
	__u32 pending, some, below_zero, old;

	if (!p)
		return 0;
	pending = pending_of(p, slot, w->endpoint);
	some = (pending | -pending) >> 31;
	below_zero = pending >> 31;
	old = (READ_ONCE(p->decayed_ns) + HALF_LIFE_NS - 1 - w->now_ns) >> 63;
	below_zero |= some & old;
	OPAQUE(below_zero);
	return below_zero ? correct_pending(slot, pending, w->now_ns) : pending;
}

/* The slot's socket: an address, 0 if it has none. */
static __always_inline __u64 socket_at(const struct walk *w, __u32 slot, enum source source)
{
	__u64 address = w->ptrs + slot * sizeof(address), sk = 0;

	if (source == CAST) {
		void *array = bpf_rdonly_cast(&sockets, bpf_core_type_id_kernel(struct reuseport_array));

		array += bpf_core_field_offset(struct reuseport_array, ptrs) + slot * sizeof(address);
		return (__u64)((struct hlist_head *)bpf_rdonly_cast(array, bpf_core_type_id_kernel(struct hlist_head)))->first;
	}
	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)address);
	return sk;
}

/* A listening socket's accept queue. */
static __always_inline __u32 queue_length(__u64 sk, enum source source)
{
	__u32 length = 0;

	if (source == CAST)
		return READ_ONCE(((struct sock *)bpf_rdonly_cast((void *)sk, bpf_core_type_id_kernel(struct sock)))->sk_ack_backlog);
	bpf_probe_read_kernel(&length, sizeof(length), (void *)(sk + bpf_core_field_offset(struct sock, sk_ack_backlog)));
	return length;
}

/* Connections that wait at a listening socket: handshakes begun (and not yet repeated), and the accept queue. */
static __always_inline __u64 waiting_at(__u64 sk, enum source source)
{
	__s32 young = 0;

	if (source == CAST) {
		struct inet_connection_sock *icsk = bpf_rdonly_cast((void *)sk, bpf_core_type_id_kernel(struct inet_connection_sock));

		young = READ_ONCE(icsk->icsk_accept_queue.young.counter);
	} else {
		bpf_probe_read_kernel(&young, sizeof(young),
				      (void *)(sk + bpf_core_field_offset(struct inet_connection_sock, icsk_accept_queue.young)));
	}
	return (__u64)queue_length(sk, source) + (young & ~(young >> 31)); /* never below 0 */
}

/* Datagrams that wait at a socket, by the memory that they take. */
static __always_inline __u64 queued_at(__u64 sk)
{
	__s32 bytes = 0;

	bpf_probe_read_kernel(&bytes, sizeof(bytes), (void *)(sk + bpf_core_field_offset(struct sock, sk_backlog.rmem_alloc)));
	return (__u32)(bytes & ~(bytes >> 31)) >> DATAGRAM_BITS; /* never below 0 */
}

static __always_inline __u64 flows_at(__u32 slot, __u32 window)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &slot);

	return p ? flows_in(READ_ONCE(p->flows), window) : 0;
}

/* Without a branch: the verifier would walk both sides, for each slot. */
static __always_inline void keep_smaller(struct walk *w, __u64 key)
{
	__s64 difference = key - w->best, less = difference >> 63;

	OPAQUE(less);
	w->best += difference & less;
}

/* What waits at a socket costs most to read, so it is not read when the slot loses with an empty queue already. */
static __always_inline void weigh(struct walk *w, __u32 slot, __u32 weight, __u64 tie, enum source source)
{
	__u64 load = published_load(slot), sk;

	if (source == SCOREBOARD) {
		keep_smaller(w, key_of(slot, load + pending_load(w, slot), weight, tie));
		return;
	}
	if (source == FLOWS || source == FLOWS_PROBE)
		load += flows_at(slot, w->window);
	if (source == PUBLISHED || source == FLOWS) {
		keep_smaller(w, key_of(slot, load, weight, tie));
		return;
	}
	if (key_of(slot, load, weight, tie) >= w->best)
		return;
	sk = socket_at(w, slot, source);
	if (sk) /* else it can't be picked */
		keep_smaller(w, key_of(slot, load + (source == FLOWS_PROBE ? queued_at(sk) : waiting_at(sk, source)), weight, tie));
}

/* The address of the sockarray's pointers. A program may not use a map's address as a number, but may read it from memory. */
static __always_inline __u64 address_of_sockets(void)
{
	void *volatile map = &sockets;
	__u64 address = 0;

	if (bpf_probe_read_kernel(&address, sizeof(address), (void *)&map))
		return 0;
	return address + bpf_core_field_offset(struct reuseport_array, ptrs);
}

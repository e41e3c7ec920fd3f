// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Picks the slot of a reuseport group that can serve a new connection soonest. The kernel runs it once for each SYN, once
 * more for the ACK of a handshake made with SYN cookies, for each datagram, and for each connection that a closed listener
 * leaves behind. Three programs, of which one is loaded:
 *
 *   select_kernel_cast  reads what waits at each slot from the kernel's own sockets: CAP_BPF, CAP_PERFMON, BTF, 6.2
 *   select_kernel       the same with a helper for each read, on older kernels
 *   select_scoreboard   counts its own picks until the workers report them settled: CAP_BPF
 *
 * User space writes group and pages at any moment, so no value of theirs is trusted: indexes are masked, sums are clamped.
 * Whatever fails, the program passes without a choice and the kernel's hash decides: it never refuses a connection.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "lb_reuseport.h"

/* Under CAP_BPF alone the verifier also follows a loop whose end is mispredicted, and that never ends. */
#define UNROLL _Pragma("clang loop unroll(full)")
/* Else clang makes branches of the arithmetic that follows, and the verifier walks each. */
#define OPAQUE(x) asm volatile("" : "+r"(x))
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WORDS(type) (sizeof(type) / 8)
#define WORD_OF(type, field) (__builtin_offsetof(type, field) / 8)
#define BATCH 8u                        /* slots that are weighed with one call: a multiple of 4, at most 16 */
#define BATCH_BITS ((1u << BATCH) - 1)
#define LOAD_MAX ((1ull << 24) - 1)     /* what a slot can be charged with at most; nonsense ends here */
#define WEIGHT_BITS 16                  /* loads are scaled up by this before they are divided by a weight */
#define TIE_BITS 14
#define SLOT_BITS 9
#define HALF_LIFE_NS 100000000ull
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
} __attribute__((preserve_access_index));

struct hlist_head {
	void *first;
} __attribute__((preserve_access_index));

struct reuseport_array {
	void *ptrs[0];
} __attribute__((preserve_access_index));

/*
 * The workers' pages and the group are arrays of 8-byte words, in memory the same as arrays of their structs. A look-up in an
 * array is a few instructions of its own, while an index into a struct is arithmetic on a pointer: under CAP_BPF alone the
 * verifier then compares all that it knows on every path, and gives up before the end of the loop over the slots.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_MAX_SLOTS * WORDS(struct lb_worker_page));
	__type(key, __u32);
	__type(value, __u64);
} workers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WORDS(struct lb_group));
	__type(key, __u32);
	__type(value, __u64);
} group SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct lb_slot_picks);
} picks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, LB_MAX_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LB_EXIT_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} exits SEC(".maps");

/* Weak: kernels before 6.2 do not have it, and are not given the program that calls it. */
extern void *bpf_rdonly_cast(void *object, __u32 type) __ksym __weak;

/* Where the load of a slot is read from: a constant in each program. */
enum source {
	SCOREBOARD, /* low rung: the worker's page and our own picks */
	PROBE,      /* top rung: the worker's page and the slot's socket, by bpf_probe_read_kernel */
	CAST,       /* top rung: the same by plain loads, without a call for each; 6.2 */
};

/* What one run of the program knows. */
struct walk {
	__u64 best;            /* smallest key so far: load, then chance, then slot */
	__u64 ptrs;            /* top rung: address of the sockarray's pointers */
	__u64 now_ns;          /* low rung */
	__u32 ready;           /* ready slots seen */
	__u32 slot_count;
	__u32 selector;
	__u32 endpoint;
	__u32 seed;
	bool tcp;              /* sockets have an accept queue */
};

enum arrival {
	CONNECTION, /* a slot will be filled */
	MIGRATION,  /* so will one, by a connection that had another */
	STRAY,      /* no slot will */
};

static __always_inline int leave(__u32 exit)
{
	__u64 *count = bpf_map_lookup_elem(&exits, &exit);

	if (count)
		*count += 1;
	return SK_PASS;
}

/*
 * What brought us here. Without SYN cookies the program sees the SYN alone: the later segments meet the request socket that
 * the SYN left behind. With cookies the SYN leaves nothing, and the handshake's ACK comes here to be given a slot anew. The
 * two look alike on the SYN (whether a cookie is sent depends on the queue of the socket that we are about to pick), so both
 * count as a pick: the ACK because it does fill a queue, the SYN because it normally does, and what it wrongly reserved under
 * cookies is never seen by the top rung and decays on the lower one like any handshake that is not finished. An ACK out of
 * nowhere counts too: it can't be told from a cookie's here, and decays likewise. Nothing else opens a connection.
 * A migration comes first: it may be without a packet.
 */
static __always_inline enum arrival arrival_of(struct sk_reuseport_md *md)
{
	const struct tcphdr *tcp = md->data;

	if (md->migrating_sk)
		return MIGRATION;
	if (md->ip_protocol != IPPROTO_TCP)
		return CONNECTION;
	if ((void *)(tcp + 1) > md->data_end)
		return STRAY;
	return !tcp->rst && tcp->syn != tcp->ack ? CONNECTION : STRAY;
}

static __always_inline __u32 popcount(__u64 x)
{
	x -= x >> 1 & 0x5555555555555555ull;
	x = (x & 0x3333333333333333ull) + (x >> 2 & 0x3333333333333333ull);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return x * 0x0101010101010101ull >> 56;
}

/* A word of an array of words; 0 where there is none. */
static __always_inline __u64 word_at(void *map, __u32 index)
{
	__u64 *word = bpf_map_lookup_elem(map, &index);

	return word ? READ_ONCE(*word) : 0;
}

/* Ready slots among 64*word .. 64*word+63, none beyond slot_count. */
static __always_inline __u64 ready_word(__u32 slot_count, __u32 word)
{
	__u32 left = slot_count - word * 64;
	__u64 bits;

	if (word * 64 >= slot_count)
		return 0;
	bits = word_at(&group, WORD_OF(struct lb_group, ready) + word);
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

/*
 * What slots are compared by: load / weight first, scaled up so that the division keeps the fractions; then chance, drawn from
 * the run's one random number and the slot, so that ties are spread without a random number each; the slot comes along in the
 * low bits. One word, so that the smallest key is found with one comparison.
 */
static __always_inline __u64 key_of(__u32 slot, __u64 load, __u32 weight, __u32 seed)
{
	__u32 tie = slot * 0x9e3779b1u + seed;
	__u64 above;

	tie = (tie ^ tie >> 16) * 0x7feb352du;
	tie ^= tie >> 15;
	above = (LOAD_MAX - load) >> 63;
	OPAQUE(above);
	load = ((load | -above) & LOAD_MAX) << WEIGHT_BITS;
	if (weight > 1)
		load /= weight;
	return load << (TIE_BITS + SLOT_BITS) | (__u64)(tie >> (32 - TIE_BITS)) << SLOT_BITS | slot;
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

	if (source == CAST)
		return (__u64)((struct hlist_head *)bpf_rdonly_cast((void *)address, bpf_core_type_id_kernel(struct hlist_head)))->first;
	bpf_probe_read_kernel(&sk, sizeof(sk), (void *)address);
	return sk;
}

/* Connections that wait at a listening socket: handshakes begun (and not yet repeated), and the accept queue. */
static __always_inline __u64 waiting_at(__u64 sk, enum source source)
{
	__u32 backlog = 0;
	__s32 young = 0;

	if (source == CAST) {
		struct sock *s = bpf_rdonly_cast((void *)sk, bpf_core_type_id_kernel(struct sock));
		struct inet_connection_sock *icsk = bpf_rdonly_cast((void *)sk, bpf_core_type_id_kernel(struct inet_connection_sock));

		backlog = READ_ONCE(s->sk_ack_backlog);
		young = READ_ONCE(icsk->icsk_accept_queue.young.counter);
	} else {
		bpf_probe_read_kernel(&backlog, sizeof(backlog), (void *)(sk + bpf_core_field_offset(struct sock, sk_ack_backlog)));
		bpf_probe_read_kernel(&young, sizeof(young),
				      (void *)(sk + bpf_core_field_offset(struct inet_connection_sock, icsk_accept_queue.young)));
	}
	return (__u64)backlog + (young & ~(young >> 31)); /* never below 0 */
}

/* Without a branch: the verifier would walk both sides, for each slot. */
static __always_inline void keep_smaller(struct walk *w, __u64 key)
{
	__u64 difference = key - w->best, less = difference >> 63;

	OPAQUE(less);
	w->best += difference * less;
}

/* What waits at a socket costs most to read, so it is not read when the slot loses with an empty queue already. */
static __always_inline void weigh(struct walk *w, __u32 slot, __u32 weight, enum source source)
{
	__u64 load = published_load(slot), sk;

	if (source == SCOREBOARD) {
		keep_smaller(w, key_of(slot, load + pending_load(w, slot), weight, w->seed));
		return;
	}
	if (key_of(slot, load, weight, w->seed) >= w->best)
		return;
	sk = socket_at(w, slot, source);
	if (sk) /* else it can't be picked */
		keep_smaller(w, key_of(slot, load + (w->tcp ? waiting_at(sk, source) : 0), weight, w->seed));
}

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

__noinline __u64 batch_by_probe(__u64 best, __u32 batch, __u32 seed, __u64 ptrs, bool tcp)
{
	struct walk w = {.best = best, .seed = seed, .ptrs = ptrs, .tcp = tcp};

	return best_of_batch(&w, batch, PROBE);
}

__noinline __u64 batch_by_cast(__u64 best, __u32 batch, __u32 seed, __u64 ptrs, bool tcp)
{
	struct walk w = {.best = best, .seed = seed, .ptrs = ptrs, .tcp = tcp};

	return best_of_batch(&w, batch, CAST);
}

static __always_inline void weigh_batch(struct walk *w, __u32 batch, enum source source)
{
	if (source == SCOREBOARD)
		w->best = batch_by_scoreboard(w->best, batch, w->seed, w->endpoint, w->now_ns);
	else if (source == PROBE)
		w->best = batch_by_probe(w->best, batch, w->seed, w->ptrs, w->tcp);
	else
		w->best = batch_by_cast(w->best, batch, w->seed, w->ptrs, w->tcp);
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

/* The slot with the smallest load of all that are ready. The verifier checks the body of a bpf_loop once, not for each turn. */
static __always_inline void walk_all(struct walk *w, enum source source)
{
	__u32 words = (w->slot_count + 63) / 64;

	if (source == SCOREBOARD)
		bpf_loop(words, walk_word_scoreboard, w, 0);
	else if (source == PROBE)
		bpf_loop(words, walk_word_probe, w, 0);
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

/*
 * Only after the kernel accepted the choice, and for slot 0 too when it queues for want of a ready one: its queue grows alike.
 * On the lower rung the first pending pick starts the clock, else it would be written off by one that started long ago.
 */
static __always_inline void count_pick(const struct walk *w, __u32 slot, enum source source)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &slot);

	if (!p)
		return;
	if (source == SCOREBOARD && pending_of(p, slot, w->endpoint) <= 0)
		p->decayed_ns = w->now_ns;
	__sync_fetch_and_add(&p->picks, 1);
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

static __always_inline bool start(struct walk *w, struct sk_reuseport_md *md, enum source source)
{
	__u64 first = word_at(&group, 0);

	_Static_assert(WORD_OF(struct lb_group, slot_count) == 0, "selector and slot_count share the first word");
	w->selector = first;
	w->slot_count = first >> 32 < LB_MAX_SLOTS ? first >> 32 : LB_MAX_SLOTS;
	w->endpoint = word_at(&group, WORD_OF(struct lb_group, endpoint));
	w->seed = bpf_get_prandom_u32();
	w->ready = 0;
	w->best = NOBODY;
	w->tcp = md->ip_protocol == IPPROTO_TCP;
	if (source == SCOREBOARD)
		w->now_ns = bpf_ktime_get_coarse_ns();
	else
		w->ptrs = address_of_sockets();
	return source == SCOREBOARD || w->ptrs;
}

static __always_inline int pick(struct sk_reuseport_md *md, enum source source)
{
	enum arrival arrival = arrival_of(md);
	struct walk w;
	__u32 slot;

	if (arrival == STRAY)
		return leave(LB_EXIT_STRAY);
	if (!start(&w, md, source))
		return leave(LB_EXIT_NO_GROUP);
	slot = choose(&w, source);
	if (bpf_sk_select_reuseport(md, &sockets, &slot, 0))
		return leave(LB_EXIT_SELECT_FAILED);
	count_pick(&w, slot, source);
	if (!w.ready)
		return leave(LB_EXIT_NO_READY);
	if (arrival == MIGRATION)
		return leave(LB_EXIT_MIGRATED);
	return leave(w.ready == 1 ? LB_EXIT_SINGLE : LB_EXIT_PICKED);
}

SEC("sk_reuseport/migrate")
int select_kernel(struct sk_reuseport_md *md)
{
	return pick(md, PROBE);
}

SEC("sk_reuseport/migrate")
int select_kernel_cast(struct sk_reuseport_md *md)
{
	return pick(md, CAST);
}

SEC("sk_reuseport/migrate")
int select_scoreboard(struct sk_reuseport_md *md)
{
	return pick(md, SCOREBOARD);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

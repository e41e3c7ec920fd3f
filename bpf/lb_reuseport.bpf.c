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

#include "choose.bpf.h"

enum arrival {
	CONNECTION, /* a slot will be filled */
	MIGRATION,  /* so will one, by a connection that had another */
	STRAY,      /* no slot will */
};

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

/*
 * Only after the kernel accepted the choice, and for slot 0 too when it queues for want of a ready one: its queue grows alike.
 * On the lower rung the first pending pick starts the clock, else it would be written off by one that started long ago.
 */
static __always_inline void count_pick(const struct walk *w, __u32 slot, enum source source)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &slot);
	__u64 number;

	if (!p)
		return;
	if (source == SCOREBOARD && pending_of(p, slot, w->endpoint) <= 0)
		p->decayed_ns = w->now_ns;
	number = __sync_fetch_and_add(&p->picks, 1);
	p->made_at[number % LB_PICK_TIMES] = bpf_ktime_get_ns() >> 10;
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

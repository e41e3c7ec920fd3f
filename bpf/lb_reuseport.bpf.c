// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Picks the slot of a reuseport group that can serve a new connection soonest. The kernel runs it once for each SYN, once
 * more for the ACK of a handshake made with SYN cookies, and for each connection that a closed listener leaves behind; or for
 * each datagram. Five programs, of which one is loaded:
 *
 *   select_kernel_cast  reads what waits at each slot from the kernel's own sockets: CAP_BPF, CAP_PERFMON, BTF, 6.2
 *   select_kernel       the same with a helper for each read, on older kernels
 *   select_scoreboard   counts its own picks until the workers report them settled: CAP_BPF
 *   select_flow_kernel  datagrams: a known flow to its slot, a new one by the flows and what waits at each: as select_kernel
 *   select_flow         the same without what waits: CAP_BPF
 *
 * User space writes group and pages at any moment, so no value of theirs is trusted: indexes are masked, sums are clamped.
 * Whatever fails, the program passes without a choice and the kernel's hash decides: it never refuses a connection.
 */
#include <linux/bpf.h>
#include <linux/tcp.h>

#include "choose.bpf.h"
#include "cookie.bpf.h"

enum arrival {
	SYN,       /* a slot will be filled, most likely */
	ACK,       /* so will one, by a connection of a SYN cookie */
	MIGRATION, /* so will one, by a connection that had another */
	STRAY,     /* no slot will */
};

/*
 * What brought us here. Without SYN cookies the program sees the SYN alone: the later segments meet the request socket that
 * the SYN left behind. With cookies the SYN leaves nothing, and the handshake's ACK comes here to be given a slot anew (see
 * cookie.bpf.h). The SYN looks alike, for whether a cookie is sent depends on the queue of the socket that we are about to pick.
 * An ACK out of nowhere can't be told from a cookie's; it counts as a pick, and decays. Nothing else opens a connection.
 * A migration comes first: it may be without a packet.
 */
static __always_inline enum arrival arrival_of(struct sk_reuseport_md *md)
{
	const struct tcphdr *tcp = md->data;

	if (md->migrating_sk)
		return MIGRATION;
	if ((void *)(tcp + 1) > md->data_end || tcp->rst || tcp->syn == tcp->ack)
		return STRAY;
	return tcp->syn ? SYN : ACK;
}

/* A cookie's ACK goes where its SYN was sent, if that is known and the slot may still be picked. */
static __always_inline bool follow_syn(struct sk_reuseport_md *md)
{
	__u32 slot = slot_of_syn(md->hash);

	if (slot >= LB_MAX_SLOTS || !(word_at(&group, WORD_OF(struct lb_group, ready) + slot / 64) >> slot % 64 & 1))
		return false;
	return !bpf_sk_select_reuseport(md, &sockets, &slot, 0);
}

/*
 * Only after the kernel accepted the choice, and for slot 0 too when it queues for want of a ready one: its queue grows alike.
 * On the lower rung the first pending pick starts the clock, else it would be written off by one that started long ago.
 */
static __always_inline void count_pick(const struct walk *w, enum source source)
{
	struct lb_slot_picks *p = bpf_map_lookup_elem(&picks, &w->slot);
	__u64 number;

	if (!p)
		return;
	if (source == SCOREBOARD && pending_of(p, w->slot, w->endpoint) <= 0)
		p->decayed_ns = w->now_ns;
	number = __sync_fetch_and_add(&p->picks, 1);
	p->made_at[number % LB_PICK_TIMES] = w->now_ns >> 10;
}

static __always_inline bool start(struct walk *w, struct sk_reuseport_md *md, enum source source)
{
	__u64 first = word_at(&group, 0), second = word_at(&group, WORD_OF(struct lb_group, endpoint));

	_Static_assert(WORD_OF(struct lb_group, slot_count) == 0, "selector and slot_count share the first word");
	w->selector = first;
	w->slot_count = first >> 32 < LB_MAX_SLOTS ? first >> 32 : LB_MAX_SLOTS;
	w->endpoint = second;
	w->swept_at = second >> 32;
	w->seed = w->selector == LB_SELECT_STICKY ? client_of(md) : w->selector == LB_SELECT_HERMES ? md->hash : bpf_get_prandom_u32();
	w->ready = 0;
	w->slot = LB_MAX_SLOTS;
	w->avoided = false;
	if (source != FLOWS && source != FLOWS_PROBE)
		w->now_ns = bpf_ktime_get_ns();
	if (source != PROBE && source != FLOWS_PROBE)
		return true;
	w->ptrs = address_of_sockets();
	return w->ptrs;
}

static __always_inline int pick(struct sk_reuseport_md *md, enum source source)
{
	enum arrival arrival = arrival_of(md);
	struct walk w;

	if (arrival == STRAY)
		return leave(LB_EXIT_STRAY);
	if (source == SCOREBOARD && arrival == ACK && follow_syn(md))
		return leave(LB_EXIT_COOKIE);
	if (!start(&w, md, source))
		return leave(LB_EXIT_NO_GROUP);
	choose_alive(&w, source);
	if (bpf_sk_select_reuseport(md, &sockets, &w.slot, 0))
		return leave(LB_EXIT_SELECT_FAILED);
	count_pick(&w, source);
	if (source == SCOREBOARD && arrival == SYN)
		remember_syn(md->hash, w.slot);
	if (!w.ready)
		return leave(LB_EXIT_NO_READY);
	if (arrival == MIGRATION)
		return leave(LB_EXIT_MIGRATED);
	if (w.avoided)
		return leave(LB_EXIT_AVOIDED);
	return leave(w.ready == 1 ? LB_EXIT_SINGLE : LB_EXIT_PICKED);
}

/*
 * The flow gets a home at the slot. Another CPU may be doing the same for another datagram of it, which then decides: true if
 * so, with its slot. A table that has no room for the moment leaves the flow homeless, and its next datagram comes here again.
 */
static __always_inline bool beaten(__u32 flow, __u64 *home, __u64 old, __u64 fresh, __u32 *slot)
{
	if (home) {
		if (__sync_val_compare_and_swap(home, old, fresh) == old)
			return false;
	} else {
		if (!bpf_map_update_elem(&flows, &flow, &fresh, BPF_NOEXIST))
			return false;
		home = bpf_map_lookup_elem(&flows, &flow);
		if (!home)
			return false;
	}
	*slot = slot_of(READ_ONCE(*home));
	return true;
}

/* A flow that is not at home, be it new or because its worker has left. */
static __always_inline int settle_flow(struct sk_reuseport_md *md, __u64 *home, __u64 old, __u32 window, enum source source)
{
	struct lb_slot_picks *p;
	struct walk w = {};
	__u32 slot;

	w.window = window;
	if (!start(&w, md, source))
		return leave(LB_EXIT_NO_GROUP);
	slot = choose(&w, source);
	if (bpf_sk_select_reuseport(md, &sockets, &slot, 0))
		return leave(LB_EXIT_SELECT_FAILED);
	if (!w.ready)
		return leave(LB_EXIT_NO_READY);
	if (beaten(md->hash, home, old, home_at(slot, tenant_of(slot), window), &slot))
		return leave(bpf_sk_select_reuseport(md, &sockets, &slot, 0) ? LB_EXIT_SELECT_FAILED : LB_EXIT_KNOWN);
	p = bpf_map_lookup_elem(&picks, &slot);
	if (p) {
		__sync_fetch_and_add(&p->picks, 1);
		count_flow(p, window, false);
	}
	if (home)
		return leave(LB_EXIT_MOVED);
	return leave(w.ready == 1 ? LB_EXIT_SINGLE : LB_EXIT_PICKED);
}

static __always_inline int pick_for_flow(struct sk_reuseport_md *md, enum source source)
{
	__u32 flow = md->hash, window = window_now(), slot;
	__u64 *home = bpf_map_lookup_elem(&flows, &flow);
	__u64 old = home ? READ_ONCE(*home) : 0;

	if (home && at_home(old)) {
		slot = slot_of(old);
		if (!bpf_sk_select_reuseport(md, &sockets, &slot, 0)) {
			keep_count(home, old, window);
			return leave(LB_EXIT_KNOWN);
		}
	}
	return settle_flow(md, home, old, window, source);
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

SEC("sk_reuseport")
int select_flow_kernel(struct sk_reuseport_md *md)
{
	return pick_for_flow(md, FLOWS_PROBE);
}

SEC("sk_reuseport")
int select_flow(struct sk_reuseport_md *md)
{
	return pick_for_flow(md, FLOWS);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";

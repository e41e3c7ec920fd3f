// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * SYN cookies: the SYN leaves no trace in the kernel, and the program runs again for the ACK that ends the handshake. The top rung
 * then chooses anew, by queues that are true by now. The low rung reserved at the SYN, and a second pick would leave that
 * reservation at a slot that no connection comes to. So it remembers the latest SYNs' slots, by the kernel's hash of the two
 * addresses and ports: the ACK goes where its SYN was sent, and the two are one pick. An entry that another SYN has overwritten
 * costs a second pick, which decays, and nothing else.
 */
#pragma once

#include "maps.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LB_SYNS_MAX);
	__type(key, __u32);
	__type(value, __u64); /* hash, slot + 1 */
} syns SEC(".maps");

_Static_assert((LB_SYNS_MAX & (LB_SYNS_MAX - 1)) == 0, "a hash is masked to an index");

static __always_inline __u64 *syn_at(__u32 hash)
{
	__u32 index = hash & (LB_SYNS_MAX - 1);

	return bpf_map_lookup_elem(&syns, &index);
}

static __always_inline void remember_syn(__u32 hash, __u32 slot)
{
	__u64 *entry = syn_at(hash);

	if (entry)
		*(volatile __u64 *)entry = (__u64)hash << 32 | (slot + 1);
}

/* The slot that the SYN was given; LB_MAX_SLOTS if that is not known. */
static __always_inline __u32 slot_of_syn(__u32 hash)
{
	__u64 *entry = syn_at(hash), syn = entry ? READ_ONCE(*entry) : 0;
	__u32 slot = (__u32)syn - 1;

	return syn >> 32 == hash && slot < LB_MAX_SLOTS ? slot : LB_MAX_SLOTS;
}

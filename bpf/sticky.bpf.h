// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * One slot for each client address, by rendezvous hashing (highest random weight; Thaler and Ravishankar, "Using name-based
 * mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998): each slot draws a number from the address, and
 * the best one has the client. When a slot goes, its clients alone move, spread over all that are left; when it is back, so are they.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>

#include "load.bpf.h"
#include "ready.bpf.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define AF_INET 2

struct client_address {
	__u32 words[4]; /* as IPv6 has it; of IPv4 mapped, so that a client is the same to a socket for both (RFC 4291, 2.5.5.2) */
};

static __always_inline void map_ipv4(struct client_address *client, __u32 address)
{
	*client = (struct client_address){{0, 0, bpf_htonl(0xffff), address}};
}

/* A connection that moves has no packet of its own. Read as they are: clang would calculate with the pointer, which is not allowed. */
static __always_inline void address_of_migrant(struct bpf_sock *sk, struct client_address *client)
{
	__u32 ipv4 = READ_ONCE(sk->dst_ip4), family = READ_ONCE(sk->family);

	UNROLL
	for (__u32 i = 0; i < 4; i++)
		client->words[i] = READ_ONCE(sk->dst_ip6[i]);
	if (family == AF_INET)
		map_ipv4(client, ipv4);
}

/* md->data begins at the transport header, so the source address is asked for. What can't be read is address 0. */
static __always_inline void address_of_sender(struct sk_reuseport_md *md, struct client_address *client)
{
	__u32 ipv4 = 0;

	if (md->eth_protocol == bpf_htons(ETH_P_IPV6)) {
		bpf_skb_load_bytes_relative(md, 8, client, sizeof(*client), BPF_HDR_START_NET);
		return;
	}
	bpf_skb_load_bytes_relative(md, 12, &ipv4, sizeof(ipv4), BPF_HDR_START_NET);
	map_ipv4(client, ipv4);
}

/* A number that stands for the client's address. */
static __always_inline __u32 client_of(struct sk_reuseport_md *md)
{
	struct client_address client = {};
	__u64 x;

	if (md->migrating_sk)
		address_of_migrant(md->migrating_sk, &client);
	else
		address_of_sender(md, &client);
	x = (client.words[0] | (__u64)client.words[1] << 32) * 0x9e3779b97f4a7c15ull;
	x = ((x ^ x >> 32) + (client.words[2] | (__u64)client.words[3] << 32)) * 0xd6e8feb86659fd93ull;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ull;
	return x >> 32;
}

/* What a slot draws for the client, as a key: the smallest wins. */
static __always_inline __u64 draw(__u32 slot, __u32 client)
{
	__u64 x = ((__u64)client << 32 | (slot + 1)) * 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	return (x >> 1 & ~(__u64)(LB_MAX_SLOTS - 1)) | slot;
}

/* The best of eight neighbours. `eight`: the first slot, and a bit above 16 for each that is ready; its own function, as in walk.bpf.h. */
__noinline __u64 draw_eight(__u64 best, __u32 eight, __u32 client)
{
	__u32 first = eight & (LB_MAX_SLOTS - 8);

	UNROLL
	for (__u32 i = 0; i < 8; i++) {
		__u64 drawn;

		if (!(eight >> (16 + i) & 1))
			continue;
		drawn = draw(first + i, client);
		if (drawn < best)
			best = drawn;
	}
	return best;
}

static long draw_word(__u32 word, struct walk *w)
{
	__u64 ready = ready_word(w->slot_count, word);

	w->ready += popcount(ready);
	UNROLL
	for (__u32 i = 0; i < 64; i += 8)
		if (ready >> i & 0xff)
			w->best = draw_eight(w->best, word * 64 + i + ((ready >> i & 0xff) << 16), w->seed);
	return 0;
}

/* The slot that drew best, 0 if none is ready; in the upper half how many were. */
__noinline __u64 draw_all(__u32 slot_count, __u32 client)
{
	struct walk w = {.best = NOBODY, .slot_count = slot_count, .seed = client};

	bpf_loop(LB_MAX_SLOTS / 64, draw_word, &w, 0);
	return (__u64)w.ready << 32 | (w.ready ? w.best & (LB_MAX_SLOTS - 1) : 0);
}

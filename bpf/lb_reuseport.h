/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The memory that the primary, the workers and the kernel's BPF program share. Valid in C, in C++ and in BPF C.
 *
 *   lb_worker_page   one per slot, written by that slot's worker      (BPF array "workers", or a memfd without BPF)
 *   lb_primary_page  one, written by the primary alone               (BPF array "primary", or a memfd without BPF)
 *   lb_group         one per reuseport endpoint, written by primary   (BPF array "group")
 *   lb_slot_picks    one per slot and reuseport endpoint, by the program; the primary clears `beat` (BPF array "picks")
 *   lb_hung          one per reuseport endpoint, by the program; the primary clears bits (BPF array "hung")
 *
 * Every field has one writer; no cache line has two, but for the claim words, which are compare-and-swapped from both sides, and
 * LB_RING_WHEN_LESS, which the primary sets and the worker clears.
 */
#ifndef LB_REUSEPORT_H
#define LB_REUSEPORT_H

#include <linux/types.h>

#define LB_LAYOUT_VERSION 5
#define LB_PAGE_SIZE 4096
#define LB_MAX_SLOTS 512              /* worker slots; a replacement takes a fresh one while the old drains */
#define LB_MAX_ENDPOINTS 64           /* endpoints with a cell of their own on each worker's page */
#define LB_PICK_TIMES 32              /* latest picks of a slot whose time is remembered */
#define LB_SYNS_MAX 4096              /* low rung: latest SYNs whose slot is remembered; see bpf/cookie.bpf.h */
#define LB_FLOWS_MAX 65536            /* datagrams: flows of one endpoint that are remembered; see bpf/flow.bpf.h */
#define LB_MAX_CLAIMS 256             /* hand-offs that one worker may hold un-taken, over all endpoints */
#define LB_IN_FLIGHT 0x7fffffffu      /* of the word in_flight: the count */
#define LB_RING_WHEN_LESS 0x80000000u /* of the word in_flight: the primary waits for it to fall */
#define LB_RULE_STEAL 1u              /* of the word rules: take what waits for busy siblings */
#define LB_RULE_JUDGE 2u              /* of the word rules: judge each other; see bpf/hermes.bpf.h */
#define LB_LINE __attribute__((aligned(64)))

/* A worker's figures for one endpoint. */
struct lb_endpoint_cell {
	__u64 accepted; /* connections taken from this endpoint */
	__u32 settled;  /* picks of this worker's slot that are known to be over: accepted, or found not to be there */
	__u32 waiting;  /* round-robin: enum lb_waiting; shared: not 0 = I can take none; how often I said so */
};

/* Round-robin: what a worker is at. */
enum lb_waiting {
	LB_WAITING_NOT = 0,     /* it takes none (any more) */
	LB_WAITING_IDLE = 1,    /* it has nothing to do: give it a connection */
	LB_WAITING_BLOCKED = 2, /* accept() yielded one, and is to be called again when that is served */
	LB_WAITING_IN_LOOP = 3, /* try_accept() yielded one, and has not yet found that there is no other */
};

/* A claim word says whose a handed-off connection is: (generation << 2) | state. */
enum lb_claim_state {
	LB_CLAIM_FREE = 0,
	LB_CLAIM_SENT = 1,    /* primary: on its way */
	LB_CLAIM_TAKEN = 2,   /* worker: accept() yielded it */
	LB_CLAIM_REFUSED = 3, /* worker: give it to another */
};

/* reuseport:hermes: what a worker is at, and whom of the 64 slots around its own it would let through; see bpf/hermes.bpf.h. */
struct lb_hermes {
	__u64 entered_ns; /* when it last came for connections (CLOCK_MONOTONIC); 0: not since it is to judge */
	__u32 events;     /* at hand then: the connection that it took, those that waited behind it, what it reports */
	__u32 rests;      /* not 0: there was nothing, and it waits */
	__u64 decided_ns; /* when it last judged */
	__u64 passed;     /* its verdict: bit per slot */
	__u64 reserved[4];
} LB_LINE;

struct lb_worker_page {
	/* line 0: written once, by the worker as it starts */
	__u32 layout_version;
	__u32 worker_id;
	__s32 doorbell; /* the number of the doorbell's descriptor in the worker's process; nobody else's business */
	__u32 cpu;      /* 1 + the CPU that it is pinned to; 0: none */
	__u32 reserved0[12];
	/* line 1: hot */
	__u32 in_flight LB_LINE; /* LB_IN_FLIGHT: connections accepted and not yet closed, over all endpoints; LB_RING_WHEN_LESS */
	__u32 reported;          /* load that the user reports on top */
	__u64 heartbeat;
	/* per endpoint */
	struct lb_endpoint_cell cells[LB_MAX_ENDPOINTS] LB_LINE;
	/* per hand-off */
	__u32 claims[LB_MAX_CLAIMS] LB_LINE;
	struct lb_hermes hermes;
} __attribute__((aligned(LB_PAGE_SIZE)));

/* What the primary publishes to all workers. */
struct lb_primary_page {
	__u32 layout_version;
	__u32 slot_max;  /* LB_MAX_SLOTS of the primary */
	__u32 page_size; /* sizeof(struct lb_worker_page) of the primary */
	__u32 reserved0[13];
	__u32 awake LB_LINE; /* 0: asleep, ring the doorbell; 1: will look before it sleeps */
	/* bit per slot: its worker is to finish while others go on (it may not have heard yet), or is gone */
	__u64 leaving[LB_MAX_SLOTS / 64] LB_LINE;
	__u32 work[LB_MAX_ENDPOINTS] LB_LINE;  /* round-robin: connections that an idle worker could be given */
	__u32 rules[LB_MAX_ENDPOINTS] LB_LINE; /* reuseport: LB_RULE_*, what the selector asks of the workers */
} __attribute__((aligned(LB_PAGE_SIZE)));

enum lb_selector {
	LB_SELECT_LEAST_LOADED = 0,
	LB_SELECT_P2C = 1,
	LB_SELECT_RANDOM = 2,
	LB_SELECT_STICKY = 3,
	LB_SELECT_CPU = 4,
	LB_SELECT_HERMES = 5,
};

/* What the program is told about one endpoint's group; written by the primary through mmap. */
struct lb_group {
	__u32 selector;                 /* enum lb_selector: a change takes effect with the next pick */
	__u32 slot_count;               /* slots in use: 0 .. slot_count-1 */
	__u32 endpoint;                 /* index of its cell on the workers' pages */
	__u32 swept_at;                 /* when the primary last looked after the slots; CLOCK_MONOTONIC in units of 2^20 ns */
	__u64 ready[LB_MAX_SLOTS / 64]; /* bit per slot: may be picked */
	__u16 weight[LB_MAX_SLOTS];     /* 0 counts as 1; load is divided by it */
	__u16 cpu[LB_MAX_SLOTS];        /* 1 + the CPU that the slot's worker is pinned to; 0: none, or not known */
} LB_LINE;

/* What the program counts for one slot. */
struct lb_slot_picks {
	__u64 picks; /* connections sent to the slot; top rung: one that came by SYN cookies counts at its SYN and at its ACK; flows */
	__u64 written_off; /* low rung: picks no longer waited for; pending = picks - settled - written_off, modulo 2^32 */
	__u64 decayed_ns;  /* low rung: start of the running 100 ms, after which half of the pending is written off (CLOCK_MONOTONIC) */
	__u64 flows;       /* datagrams: flows that were heard of late, a word of bpf/flow.bpf.h */
	__u64 beat;        /* the worker's heartbeat, as of the pick when it was last seen to have moved */
	__u64 waits_since; /* when that pick was made (CLOCK_MONOTONIC), or it was last probed */
	__u64 picks_then;  /* and how many there had been before */
	__u64 reserved0;
	__u32 made_at[LB_PICK_TIMES]; /* when pick number n was made: [n % LB_PICK_TIMES]; CLOCK_MONOTONIC in units of 1024 ns */
} LB_LINE;

/* Slots that the program passes over, because their workers take nothing any more: see bpf/hung.bpf.h. */
struct lb_hung {
	__u64 slots[LB_MAX_SLOTS / 64]; /* bit per slot */
	__u64 any;                      /* 0: none */
} LB_LINE;

/*
 * Connections taken from one slot's queue, by whichever worker: picks - taken wait there or are still shaking hands. All workers write
 * it, so it is a hint where to look for work and nothing else; the program does not read it. In a memfd.
 */
struct lb_slot_taken {
	__u32 taken;
	__u32 reserved0[15];
} LB_LINE;

/* One counter for each way out of the program; per-CPU array "exits". */
enum lb_exit {
	LB_EXIT_PICKED = 0,    /* a ready slot was chosen */
	LB_EXIT_SINGLE,        /* only one slot was ready */
	LB_EXIT_NO_READY,      /* none was: slot 0 queues */
	LB_EXIT_SELECT_FAILED, /* bpf_sk_select_reuseport refused: the kernel's hash decides */
	LB_EXIT_NO_GROUP,      /* a map look-up failed: the kernel's hash decides */
	LB_EXIT_MIGRATED,      /* picked a new home for a connection of a closed listener */
	LB_EXIT_COOKIE,        /* low rung: ACK of a SYN cookie, to the slot that its SYN was given */
	LB_EXIT_STRAY,         /* TCP segment that opens no connection (RST, half a handshake): the kernel's hash decides */
	LB_EXIT_KNOWN,         /* datagram of a known flow, to its slot */
	LB_EXIT_AVOIDED,       /* the choice had hung: another ready slot was chosen */
	LB_EXIT_MOVED,         /* datagram of a known flow whose worker is not there any more: a new slot was chosen */
	LB_EXIT_COUNT,
};

#endif /* LB_REUSEPORT_H */

// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The program's memory, and how it is read. */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "lb_reuseport.h"

/* Under CAP_BPF alone the verifier also follows a loop whose end is mispredicted, and that never ends. */
#define UNROLL _Pragma("clang loop unroll(full)")
/* Else clang makes branches of the arithmetic that follows, and the verifier walks each. */
#define OPAQUE(x) asm volatile("" : "+r"(x))
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile typeof(x) *)&(x) = (value))
#define WORDS(type) (sizeof(type) / 8)
#define WORD_OF(type, field) (__builtin_offsetof(type, field) / 8)

/*
 * The workers' pages and the group are arrays of 8-byte words, in memory the same as arrays of their structs. A look-up in an
 * array is a few instructions of its own, while an index into a struct is arithmetic on a pointer: under CAP_BPF alone the
 * verifier then compares all that it knows on every path, and gives up before the end of the loop over the slots.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, LB_MAX_SLOTS *WORDS(struct lb_worker_page));
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
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WORDS(struct lb_hung));
	__type(key, __u32);
	__type(value, __u64);
} hung SEC(".maps");

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

static __always_inline int leave(__u32 exit)
{
	__u64 *count = bpf_map_lookup_elem(&exits, &exit);

	if (count)
		*count += 1;
	return SK_PASS;
}

/* A word of an array of words; 0 where there is none. */
static __always_inline __u64 word_at(void *map, __u32 index)
{
	__u64 *word = bpf_map_lookup_elem(map, &index);

	return word ? READ_ONCE(*word) : 0;
}

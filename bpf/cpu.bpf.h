// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The slots whose workers are pinned to the CPU that handles this packet. */
#pragma once

#include "ready.bpf.h"

#define EACH_OF_FOUR 0x0001000100010001ull

/* Bit i: the i-th of four 16-bit numbers is `number`. By arithmetic, for the verifier walks both sides of each branch. */
static __always_inline __u64 equal_among_four(__u64 four, __u64 number)
{
	__u64 other = four ^ number * EACH_OF_FOUR;
	__u64 zero = ~(((other & 0x7fff * EACH_OF_FOUR) + 0x7fff * EACH_OF_FOUR) | other) >> 15 & EACH_OF_FOUR;

	return (zero | zero >> 15 | zero >> 30 | zero >> 45) & 0xf;
}

/* Of slots 64*word .. 64*word+63 those on a CPU; `cpu` counts from 1, as in struct lb_group. */
__noinline __u64 on_cpu_word(__u32 word, __u32 cpu)
{
	__u64 bits = 0;

	UNROLL
	for (__u32 i = 0; i < 16; i++)
		bits |= equal_among_four(word_at(&group, WORD_OF(struct lb_group, cpu) + word * 16 + i), cpu & 0xffff) << i * 4;
	return bits;
}

static __always_inline __u64 ready_on_cpu(__u32 slot_count, __u32 word, __u32 cpu)
{
	__u64 ready = ready_word(slot_count, word);

	return ready ? ready & on_cpu_word(word, cpu) : 0;
}

__noinline __u32 count_on_cpu(__u32 slot_count, __u32 cpu)
{
	__u32 n = 0;

	UNROLL
	for (__u32 word = 0; word < LB_MAX_SLOTS / 64; word++)
		n += popcount(ready_on_cpu(slot_count, word, cpu));
	return n;
}

/* The n-th of them, from 0; as nth_ready. */
__noinline __u32 nth_on_cpu(__u32 slot_count, __u32 cpu, __u32 n)
{
	UNROLL
	for (__u32 word = 0; word < LB_MAX_SLOTS / 64; word++) {
		__u64 bits = ready_on_cpu(slot_count, word, cpu);
		__u32 here = popcount(bits);

		if (n < here)
			return word * 64 + nth_bit(bits, n);
		n -= here;
	}
	return 0;
}

/* This CPU, counted from 1, if a ready slot's worker is pinned to it; else 0. */
__noinline __u32 cpu_with_worker(__u32 slot_count)
{
	__u32 cpu = bpf_get_smp_processor_id() + 1;

	return count_on_cpu(slot_count, cpu) ? cpu : 0;
}

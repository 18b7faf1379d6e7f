/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Checksums: what a change adds to them, and whether those of a packet can be believed. */
#pragma once

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "segment.h"

#define TCP_CHECK_AT (sizeof(struct ethhdr) + sizeof(struct iphdr) + __builtin_offsetof(struct tcphdr, check))
/* Longest segment whose checksum is verified here, and the most that the kernel sums in one call. */
#define SUM_AT_ONCE 512
#define VERIFY_MOST (3 * SUM_AT_ONCE)

/* Room for a segment that is verified, and for zeros behind its last byte. */
struct scratch {
	__u8 bytes[VERIFY_MOST + SUM_AT_ONCE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} room SEC(".maps");

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (__u32)sum;
}

/* What replacing a word adds to a sum (RFC 1624); words as they stand in memory. */
static __always_inline __u64 change(__u32 before, __u32 after)
{
	return (__u64)(__u32)~before + after;
}

static __always_inline void set_word(struct segment *s, __be32 *place, __be32 value)
{
	s->tcp_delta += change(*place, value);
	*place = value;
}

static __always_inline __u64 pseudo_sum(const struct segment *s)
{
	return (__u64)s->ip->saddr + s->ip->daddr + bpf_htons(IPPROTO_TCP) + bpf_htons((__u16)(s->total - sizeof *s->ip));
}

/* Whether the checksum of a whole segment is right. */
static __always_inline bool verify(struct __sk_buff *skb, const struct segment *s)
{
	__u32 zero = 0;
	__u32 length = s->total - sizeof *s->ip;
	struct scratch *scratch = bpf_map_lookup_elem(&room, &zero);
	if (!scratch || length < sizeof *s->tcp || length > VERIFY_MOST)
		return false;
	if (bpf_skb_load_bytes(skb, sizeof *s->eth + sizeof *s->ip, scratch->bytes, length) < 0)
		return false;
	__builtin_memset(scratch->bytes + length, 0, 4);
	__s64 sum = fold(pseudo_sum(s));
	for (__u32 at = 0; at < VERIFY_MOST; at += SUM_AT_ONCE) {
		if (at >= length)
			break;
		__u32 part = (length - at + 3) & ~3;
		if (part > SUM_AT_ONCE)
			part = SUM_AT_ONCE;
		sum = bpf_csum_diff(0, 0, (__be32 *)(scratch->bytes + at), part, (__wsum)sum);
		if (sum < 0)
			return false;
	}
	return fold((__u32)sum) == 0xffff;
}

/*
 * Whether a checksum that looks like the sum of the pseudo header is still to be made, which only the kernel knows: then it leaves it
 * alone where anything else has changed. After this, pointers into the packet are no longer good.
 */
static __always_inline bool to_be_made(struct __sk_buff *skb, __u16 before)
{
	__u16 after;
	if (bpf_l4_csum_replace(skb, TCP_CHECK_AT, 0, 1, 0) || bpf_skb_load_bytes(skb, TCP_CHECK_AT, &after, sizeof after))
		return false;
	if (after == before)
		return true;
	bpf_skb_store_bytes(skb, TCP_CHECK_AT, &before, sizeof before, 0);
	return false;
}

/*
 * Whether the sums are right, or not made yet. What nobody has verified is not believed. After this, pointers into the packet are no
 * longer good.
 */
static __always_inline bool trust_sums(struct __sk_buff *skb, struct segment *s)
{
	__u64 sum = 0;
	__u16 *half = (void *)s->ip;
	for (int i = 0; i < 10; i++)
		sum += half[i];
	if (fold(sum) != 0xffff)
		return false;
	/* One that is still to be made holds the sum of the pseudo header. */
	if (fold(pseudo_sum(s)) == s->tcp->check)
		return to_be_made(skb, s->tcp->check);
	return bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0 || verify(skb, s);
}

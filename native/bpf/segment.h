/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* A TCP segment as it lies in a packet: where its headers and options are, read before anything is decided. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* The gateway's way takes a packet through two routers: into the TUN and out of it. */
#define HOPS 2
/* All but "don't fragment": more fragments, an offset, and the reserved bit, which is our mark. */
#define NO_PLAIN_FRAGMENT 0xbfff
/* Option words of four bytes, in network order: NOP NOP TS(10), NOP NOP SACK(len). */
#define NOP_NOP_TIMESTAMPS 0x0101080a
#define NOP_NOP_SACK 0x01010500
#define MOST_SACK_BLOCKS 4

/* What is read of a packet before anything is decided. */
struct segment {
	struct ethhdr *eth;
	struct iphdr *ip;
	struct tcphdr *tcp;
	/* The words behind the header, NULL where there is none of that kind. */
	__be32 *timestamps;
	__be32 *sack;
	__u32 blocks;
	__u32 payload;
	__u32 total;
	__u32 header;
	/* Sums to add to the checksums. */
	__u64 pseudo_delta;
	__u64 tcp_delta;
};

/* Reads the headers. False for whatever is not plain. */
static __always_inline bool read_segment(struct __sk_buff *skb, struct segment *s)
{
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return false;
	if (*(__u8 *)ip != 0x45 || ip->protocol != IPPROTO_TCP || ip->ttl <= HOPS)
		return false;
	if (ip->frag_off & bpf_htons(NO_PLAIN_FRAGMENT))
		return false;
	s->eth = eth;
	s->ip = ip;
	s->tcp = tcp;
	s->total = bpf_ntohs(ip->tot_len);
	s->header = tcp->doff * 4;
	if (s->header < sizeof *tcp || s->total < sizeof *ip + s->header || s->total + sizeof *eth > skb->len)
		return false;
	s->payload = s->total - sizeof *ip - s->header;
	return true;
}

/* Only ACK, with PSH, ECE and CWR as they may be. */
static __always_inline bool plain_flags(const struct tcphdr *tcp)
{
	return tcp->ack && !tcp->syn && !tcp->fin && !tcp->rst && !tcp->urg;
}

/* Options as they are sent by everyone: nothing, timestamps, SACK, or timestamps and SACK. */
static __always_inline bool read_options(struct __sk_buff *skb, struct segment *s)
{
	void *end = (void *)(long)skb->data_end;
	__be32 *word = (void *)(s->tcp + 1);
	__u32 left = s->header - sizeof *s->tcp;

	s->timestamps = 0;
	s->sack = 0;
	s->blocks = 0;
	if (left >= 12) {
		if ((void *)(word + 3) > end)
			return false;
		if (word[0] == bpf_htonl(NOP_NOP_TIMESTAMPS)) {
			s->timestamps = word + 1;
			word += 3;
			left -= 12;
		}
	}
	if (left == 0)
		return true;
	if ((void *)(word + 1) > end)
		return false;
	__u32 blocks = (left - 4) / 8;
	if (left != 4 + 8 * blocks || blocks < 1 || blocks > MOST_SACK_BLOCKS)
		return false;
	if (word[0] != bpf_htonl(NOP_NOP_SACK | (2 + 8 * blocks)))
		return false;
	s->sack = word + 1;
	s->blocks = blocks;
	return true;
}

/* Whether every SACK block, `shift` added, lies in (0, room] above `lowest`. `count` is a constant to the verifier. */
static __always_inline bool blocks_within(struct __sk_buff *skb, const struct segment *s, __u32 shift, __u32 lowest, __s64 room)
{
	void *end = (void *)(long)skb->data_end;
	for (__u32 i = 0; i < MOST_SACK_BLOCKS; i++) {
		if (i == s->blocks)
			break;
		if ((void *)(s->sack + 2 * i + 2) > end)
			return false;
		__u32 from = bpf_ntohl(s->sack[2 * i]) + shift - lowest;
		__u32 to = bpf_ntohl(s->sack[2 * i + 1]) + shift - lowest;
		if (from >= to || to > room)
			return false;
	}
	return true;
}

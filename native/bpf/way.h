/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* Where a translated packet goes, and how it is sent there. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "checksum.h"
#include "segment.h"

#define AF_INET 2
/* Not ours: the packet goes on as if this program were not there. */
#define PASS (-1)
/* For a packet that was changed and cannot be sent: its sender repeats it. */
#define DROP 2

/* Where the routes of a TUN device lead. Addresses are those after translation. */
static __always_inline bool find_way(struct __sk_buff *skb, const struct segment *s, struct bpf_fib_lookup *way, __u32 tun,
				     __be32 source, __be32 destination, __be16 source_port, __be16 destination_port)
{
	__builtin_memset(way, 0, sizeof *way);
	way->family = AF_INET;
	way->l4_protocol = IPPROTO_TCP;
	way->tos = s->ip->tos;
	way->ipv4_src = source;
	way->ipv4_dst = destination;
	way->sport = source_port;
	way->dport = destination_port;
	way->ifindex = tun;
	if (bpf_fib_lookup(skb, way, sizeof *way, 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return false;
	/* A super-packet is cut to pieces of this size by the device that sends it. */
	return skb->gso_size == 0 || skb->gso_size + sizeof *s->ip + s->header <= way->mtu_result;
}

/* Writes sums, hops and link addresses, and sends the packet. */
static __always_inline int send(struct __sk_buff *skb, struct segment *s, const struct bpf_fib_lookup *way, __be32 source,
				__be32 destination, __be16 source_port, __be16 destination_port)
{
	struct iphdr *ip = s->ip;
	struct tcphdr *tcp = s->tcp;

	s->pseudo_delta += change(ip->saddr, source) + change(ip->daddr, destination);
	s->tcp_delta += change(tcp->source, source_port) + change(tcp->dest, destination_port);
	/* The time to live is the first byte of its word. */
	__u64 sum = (__u16)~ip->check + s->pseudo_delta + (__u16)~bpf_htons((__u16)(ip->ttl << 8));
	ip->ttl -= HOPS;
	sum += bpf_htons((__u16)(ip->ttl << 8));
	ip->check = (__u16)~fold(sum);
	ip->saddr = source;
	ip->daddr = destination;
	tcp->source = source_port;
	tcp->dest = destination_port;
	__builtin_memcpy(s->eth->h_dest, way->dmac, ETH_ALEN);
	__builtin_memcpy(s->eth->h_source, way->smac, ETH_ALEN);
	/* Only the kernel knows for certain whether the checksum is still to be made. */
	if (bpf_l4_csum_replace(skb, TCP_CHECK_AT, 0, fold(s->tcp_delta), 0) ||
	    bpf_l4_csum_replace(skb, TCP_CHECK_AT, 0, fold(s->pseudo_delta), BPF_F_PSEUDO_HDR))
		return DROP;
	return bpf_redirect(way->ifindex, 0);
}

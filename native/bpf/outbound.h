/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* From a guest to its peer. */
#pragma once

#include <bpf/bpf_endian.h>

#include "checksum.h"
#include "flow.h"
#include "progress.h"
#include "segment.h"
#include "way.h"

/* As CUSTODY_LIMIT and CUSTODY_CAPACITY of src/gateway/arena.ts. */
#define CUSTODY_LIMIT (4 * 1024 * 1024)
#define CUSTODY_CAPACITY (CUSTODY_LIMIT + 256 * 1024)

/* A guest's segment: outbound.ts, passPlain and passManaged. */
static __always_inline int to_peer(struct __sk_buff *skb, struct segment *s, struct flow *f)
{
	struct bpf_fib_lookup way;
	struct tcphdr *tcp = s->tcp;
	bool managed = f->flags & FLOW_MANAGED;
	if (skb->ingress_ifindex != f->leg_device)
		return PASS;
	if (!find_way(skb, s, &way, f->outside_tun, f->outside_address, f->peer_address, f->outside_port, f->peer_port))
		return PASS;

	__u32 seq = bpf_ntohl(tcp->seq) + f->delta;
	__s64 start = offset_of(seq, f->out_base, f->snd_nxt);
	__s64 end = start + s->payload;
	__s64 furthest = larger(f->peer_edge, f->snd_nxt) + ((__s64)0xffff << (f->peer_shift & 15));
	if (start < f->socket_base - 1 || end > furthest)
		return PASS;
	__s64 acked = offset_of(bpf_ntohl(tcp->ack_seq), f->in_base, f->peer_nxt);
	if (acked > f->peer_nxt)
		return PASS;
	__u32 window = bpf_ntohs(tcp->window);
	__u32 shift = f->announced_shift & 15;
	/* The gateway tells a closed window, and that it is open again. */
	if (managed && window == 0)
		return PASS;
	/* Without news, what the guest says of a window that the peer must not use yet is the gateway's to tell, or not. */
	if (f->flags & FLOW_HELD && (s->sack || (s->payload == 0 && start >= f->snd_nxt && acked <= f->acked_to_peer)))
		return PASS;
	if (!raise(&f->guest_edge, acked + ((__s64)window << (f->guest_shift & 15))) || !raise(&f->rcv_nxt, acked))
		return PASS;

	__s64 ack = acked;
	if (managed) {
		/* windows.ts, promise */
		__s64 received = f->rcv_nxt;
		__s64 promised = f->max_edge;
		ack = larger(received, f->acked_to_peer);
		__s64 right = larger(smaller(f->guest_edge, received + CUSTODY_LIMIT), promised);
		window = (__u32)smaller(0xffff, larger(0, right - ack) >> shift);
		if (window == 0)
			return PASS;
		if (ack + ((__s64)window << shift) < promised) {
			window = (__u32)smaller(0xffff, (promised - ack + (1 << shift) - 1) >> shift);
			if (ack + ((__s64)window << shift) > received + CUSTODY_CAPACITY)
				return PASS;
		}
		if (s->sack) {
			/* What the guest says of bytes the gateway sent it is the gateway's to know (S17). */
			__s64 lowest = ack != acked ? ack : larger(f->play_nxt, ack - (1 << 30));
			if (!blocks_within(skb, s, 0, f->in_base + (__u32)lowest, larger(f->max_edge, ack) - lowest))
				return PASS;
		}
	} else if ((window << shift) > CUSTODY_LIMIT) {
		window = CUSTODY_LIMIT >> shift;
	}
	/* The promise is on record before it is made (S20). */
	if (!raise(&f->max_edge, ack + ((__s64)window << shift)) || !raise(&f->acked_to_peer, ack) || !raise(&f->snd_nxt, end))
		return PASS;
	if (s->timestamps && (f->flags & FLOW_TIMESTAMPS || !managed)) {
		__u32 value = bpf_ntohl(s->timestamps[0]);
		__u32 shown = value + f->ts_delta;
		__u32 last = f->last_ts_out;
		if (!raise_clock(&f->guest_ts, value))
			return PASS;
		if ((__s32)(shown - last) < 0) {
			shown = last;
		} else {
			f->last_ts_out_at = f->last_seen;
			if (!raise_clock(&f->last_ts_out, shown))
				return PASS;
		}
		if (managed)
			set_word(s, &s->timestamps[0], bpf_htonl(shown));
	}
	__sync_fetch_and_add(&f->bytes_out, s->total);
	__sync_fetch_and_add(&f->packets_out, 1);

	if (managed) {
		set_word(s, (__be32 *)&tcp->seq, bpf_htonl(seq));
		set_word(s, (__be32 *)&tcp->ack_seq, bpf_htonl(f->in_base + (__u32)ack));
	}
	s->tcp_delta += change(tcp->window, bpf_htons((__u16)window));
	tcp->window = bpf_htons((__u16)window);
	return send(skb, s, &way, f->outside_address, f->peer_address, f->outside_port, f->peer_port);
}

/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/* From a peer to a guest. */
#pragma once

#include <bpf/bpf_endian.h>

#include "checksum.h"
#include "flow.h"
#include "progress.h"
#include "segment.h"
#include "way.h"

/* A peer's segment: inbound.ts, recordFromPeer and translateForGuest. */
static __always_inline int to_guest(struct __sk_buff *skb, struct segment *s, struct flow *f)
{
	struct bpf_fib_lookup way;
	struct tcphdr *tcp = s->tcp;
	bool managed = f->flags & FLOW_MANAGED;
	if (!find_way(skb, s, &way, f->leg_tun, f->peer_address, f->guest_address, f->peer_port, f->guest_port))
		return PASS;

	__s64 start = offset_of(bpf_ntohl(tcp->seq), f->in_base, f->peer_nxt);
	__s64 end = start + s->payload;
	/* What does not come in order is the gateway's to hold. */
	if (f->flags & FLOW_HELD && start != f->peer_nxt)
		return PASS;
	if (end > f->max_edge + 1 || (managed && s->payload > 0 && end > f->guest_edge))
		return PASS;
	__s64 sent = f->snd_nxt;
	__s64 acked = offset_of(bpf_ntohl(tcp->ack_seq), f->out_base, sent);
	__s64 unit_window = (__s64)bpf_ntohs(tcp->window) << (f->peer_shift & 15);
	if (acked > sent || acked < f->snd_una - ((__s64)0xffff << (f->peer_shift & 15)))
		return PASS;
	__u32 highest = f->out_base + (__u32)sent - f->delta;
	if (managed && s->sack) {
		__s64 room = smaller(1 << 30, sent - f->socket_base);
		if (!blocks_within(skb, s, -f->delta, highest - (__u32)room, room))
			return PASS;
	}
	/* An old segment, or a keepalive, tells nothing (RFC 9293 §3.10.7.4). */
	if (end >= f->rcv_nxt) {
		if (acked >= f->snd_una) {
			if (!raise(&f->peer_edge, acked + unit_window) || !raise(&f->snd_una, acked))
				return PASS;
			f->peer_window = bpf_ntohs(tcp->window);
		}
		if (s->timestamps) {
			__u32 value = bpf_ntohl(s->timestamps[0]);
			if (!raise_clock(&f->peer_ts, value))
				return PASS;
			if (start <= f->acked_to_peer && !raise_clock(&f->last_ts_in, value))
				return PASS;
		}
		/* What has no data tells nothing of how far the stream goes (recordEnd). */
		if (s->payload > 0 && !raise(&f->peer_nxt, end))
			return PASS;
	}
	__sync_fetch_and_add(&f->bytes_in, s->total);
	__sync_fetch_and_add(&f->packets_in, 1);

	if (managed) {
		set_word(s, (__be32 *)&tcp->ack_seq, bpf_htonl(f->out_base + (__u32)acked - f->delta));
		if (s->sack) {
			void *limit = (void *)(long)skb->data_end;
			for (__u32 i = 0; i < 2 * MOST_SACK_BLOCKS; i++) {
				if (i == 2 * s->blocks || (void *)(s->sack + i + 1) > limit)
					break;
				set_word(s, s->sack + i, bpf_htonl(bpf_ntohl(s->sack[i]) - f->delta));
			}
		}
		if (s->timestamps) {
			/* A value from before the guest's socket becomes the socket's first (S18). */
			__u32 echo = bpf_ntohl(s->timestamps[1]) - f->ts_delta;
			__u32 latest = f->guest_ts;
			if ((__s32)(echo - f->ts_floor) < 0)
				echo = f->ts_floor;
			else if ((__s32)(echo - latest) > 0)
				echo = latest;
			set_word(s, &s->timestamps[1], bpf_htonl(echo));
		}
	}
	return send(skb, s, &way, f->peer_address, f->guest_address, f->peer_port, f->guest_port);
}

/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * The fast path: segments of established connections are translated where they enter the kernel, and sent on their way.
 *
 * Theory of operation. The gateway admits a flow by an entry in `keys` for each direction and a slot in `flows`. What arrives on
 * the outside device or on a leg's device and has an entry is translated in place, exactly as src/gateway/{inbound,outbound}.ts
 * would, and redirected to the device that the routes of the gateway's TUN device name. What such a segment tells (sequence
 * space, acknowledgements, edges, clocks) is noted in the slot, and every note only ever rises: gateway and kernel both add to
 * it, in any order. Everything that is not plain goes on to the TUN unchanged, and the gateway decides: SYN, FIN, RST, URG, what acknowledges
 * or fills more than is known, a window that closes, options in an order that Linux, BSD and Windows do not send, fragments, damage.
 * So nothing is refused here, and to do nothing is always right.
 *
 * A packet that goes on to the gateway takes its flow with it: all that follow go there too, so that none overtakes it, until
 * the gateway has seen as many as went there, and opens the gate again. For a flow that was not carried the count begins, in each
 * direction, with a packet that is marked by the reserved bit of the IPv4 flags (RFC 791: zero), which the gateway takes off again: those that
 * wait before it in that direction's queue are not counted, and the gateway must not take them for others that are.
 *
 * To take a flow back, the gateway clears `gate` and waits until `busy` is 0; it waits too where a packet has let go of a flow, for
 * those that were carried beside it. Both sides use sequentially consistent atomics,
 * so either this program sees that the flow is not live, or the gateway sees that it is busy.
 *
 * Limits. IPv4 without options, Ethernet without VLAN tags. A checksum is trusted when it is still to be made (a local sender, GRO),
 * when the device has verified it, or when it is found right here; longer packets that nobody has verified are the gateway's. Netfilter does not see what passes here,
 * as with flow tables. Needs a kernel with TCX links (6.6): they end with the process that holds them.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>

#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "flow_map.h"
#include "gate.h"
#include "inbound.h"
#include "outbound.h"
#include "segment.h"

static __always_inline int handle(struct __sk_buff *skb, __u32 direction)
{
	struct segment s = {};
	/* What a device only overhears is for somebody else. */
	if (skb->pkt_type != PACKET_HOST || !read_segment(skb, &s))
		return PASS;
	struct flow_key key = {
		.source = s.ip->saddr,
		.destination = s.ip->daddr,
		.source_port = s.tcp->source,
		.destination_port = s.tcp->dest,
	};
	__u32 *entry = bpf_map_lookup_elem(&keys, &key);
	if (!entry || (*entry & 1) != direction)
		return PASS;
	__u32 slot = *entry >> 1;
	struct flow *f = bpf_map_lookup_elem(&flows, &slot);
	if (!f)
		return PASS;
	/* An old socket of the guest, on a host that it has left: such segments stay with the gateway, and nothing is to wait for them. */
	if (direction == TO_PEER && skb->ingress_ifindex != f->leg_device)
		return PASS;

	int verdict = PASS;
	add_in_order(&f->busy, 1);
	/* What is read of the flow is read after these two. */
	__u64 gate = __sync_fetch_and_add(&f->gate, 1);
	__u64 armed = FLOW_ARMED(direction);
	if (gate & armed && __sync_fetch_and_and(&f->gate, ~armed) & armed)
		mark(s.ip);
	if (gate & FLOW_LIVE) {
		f->last_seen = (__s64)bpf_ktime_get_ns();
		if (plain_flags(s.tcp) && trust_sums(skb, &s) && read_segment(skb, &s) && read_options(skb, &s))
			verdict = direction == TO_PEER ? to_peer(skb, &s, f) : to_guest(skb, &s, f);
		if (verdict == PASS)
			let_go(f);
	}
	/* All that was noted is there before this. */
	add_in_order(&f->busy, -1);
	return verdict;
}

/* On the device of a leg. */
SEC("classifier")
int from_guest(struct __sk_buff *skb)
{
	return handle(skb, TO_PEER);
}

/* On the outside device. */
SEC("classifier")
int from_peer(struct __sk_buff *skb)
{
	return handle(skb, TO_GUEST);
}

/* The kernel lends some of its functions to programs under its own licence only; MIT is compatible with both. */
char licence[] SEC("license") = "Dual MIT/GPL";

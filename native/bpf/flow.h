/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * What gateway and kernel share of one flow. `native/src/fast_path/flow.rs` has the same layout.
 *
 * Sequence numbers are kept as 64-bit offsets of their stream, as in the gateway's own table (src/gateway/arena.ts says what each
 * is). "Out" is guest -> peer. Addresses and ports are as they stand in packets; everything else is in host order.
 */
#pragma once
#include <linux/types.h>

/* Which way a packet goes that has this key. */
#define TO_PEER 0
#define TO_GUEST 1

/* Bits of `flow.flags`. */
/* The gateway speaks in this connection: ACK, window, SACK and timestamps are its to translate. */
#define FLOW_MANAGED 1
/* Both ends use timestamps. */
#define FLOW_TIMESTAMPS 2
/* The peer's data is the gateway's to take where the guest has no room for it; none is held now. */
#define FLOW_HELD 4

/* Source and destination as they stand in a packet. */
struct flow_key {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
};

#define FLOW_LIVE (1ULL << 63)
/* The next packet of a direction is marked: the gateway has seen all that went before it once it sees that one. */
#define FLOW_ARMED(direction) (1ULL << (62 - (direction)))

struct flow {
	/*
	 * FLOW_LIVE = packets may pass here. The bits below count those that came: as long as the flow is not live, those that
	 * went on to the gateway. It makes the flow live when it has seen as many, so that no packet overtakes another.
	 */
	__u64 gate;
	/* Packets being handled at this moment: once it is 0 after the flow was live, nothing here changes any more. */
	__u32 busy;

	/* Constant while live. */
	__be32 guest_address;
	__be32 peer_address;
	__be32 outside_address;
	__be16 guest_port;
	__be16 peer_port;
	__be16 outside_port;
	__u16 reserved;
	/* Where the guest's packets must come from, from the first count on. */
	__u32 leg_device;
	/* The TUN devices whose routes lead to the host and to the peer. */
	__u32 leg_tun;
	__u32 outside_tun;
	__u32 flags;
	__u32 delta;
	__u32 ts_delta;
	__u32 ts_floor;
	__u32 out_base;
	__u32 in_base;
	__u8 peer_shift;
	__u8 guest_shift;
	__u8 announced_shift;
	__u8 reserved2;
	__s64 socket_base;
	__s64 play_nxt;

	/* Evidence: each only ever rises, so that gateway and kernel may both add to it, and neither waits. */
	__s64 snd_una;
	__s64 snd_nxt;
	__s64 peer_edge;
	__s64 rcv_nxt;
	__s64 acked_to_peer;
	__s64 peer_nxt;
	__s64 max_edge;
	__s64 guest_edge;
	/* Nanoseconds of CLOCK_MONOTONIC. */
	__s64 last_seen;
	__s64 last_ts_out_at;
	__u32 guest_ts;
	__u32 last_ts_out;
	__u32 peer_ts;
	__u32 last_ts_in;

	/* Taken away by the gateway whenever it looks. */
	__u64 bytes_out;
	__u64 packets_out;
	__u64 bytes_in;
	__u64 packets_in;
	/* Raw, of the peer's last segment. */
	__u32 peer_window;
	__u32 reserved3;
};

/* The other side asserts the same. */
_Static_assert(sizeof(struct flow) == 224, "size");
_Static_assert(__builtin_offsetof(struct flow, socket_base) == 72, "setup");
_Static_assert(__builtin_offsetof(struct flow, snd_una) == 88, "offsets");
_Static_assert(__builtin_offsetof(struct flow, guest_ts) == 168, "clocks");
_Static_assert(__builtin_offsetof(struct flow, bytes_out) == 184, "counts");
_Static_assert(__builtin_offsetof(struct flow, peer_window) == 216, "window");

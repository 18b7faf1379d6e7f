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
 * the gateway has seen as many as went there, and opens the gate again. For a flow that was never carried the count begins with a
 * packet that is marked by the reserved bit of the IPv4 flags (RFC 791: zero), which the gateway takes off again.
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
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "flow.h"

#define AF_INET 2
/* As CUSTODY_LIMIT and CUSTODY_CAPACITY of src/gateway/arena.ts. */
#define CUSTODY_LIMIT (4 * 1024 * 1024)
#define CUSTODY_CAPACITY (CUSTODY_LIMIT + 256 * 1024)
/* The gateway's way takes a packet through two routers: into the TUN and out of it. */
#define HOPS 2
/* All but "don't fragment": more fragments, an offset, and the reserved bit, which is our mark. */
#define NO_PLAIN_FRAGMENT 0xbfff
#define MARK 0x8000
/* Option words of four bytes, in network order: NOP NOP TS(10), NOP NOP SACK(len). */
#define NOP_NOP_TIMESTAMPS 0x0101080a
#define NOP_NOP_SACK 0x01010500
#define MOST_SACK_BLOCKS 4
#define RAISE_TRIES 8
#define TCP_CHECK_AT (sizeof(struct ethhdr) + sizeof(struct iphdr) + __builtin_offsetof(struct tcphdr, check))
/* Longest segment whose checksum is verified here, and the most that the kernel sums in one call. */
#define SUM_AT_ONCE 512
#define VERIFY_MOST (3 * SUM_AT_ONCE)

/* Not ours: the packet goes on as if this program were not there. */
#define PASS (-1)
/* For a packet that was changed and cannot be sent: its sender repeats it. */
#define DROP 2

/* Sizes are set by the gateway before it loads the program. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, __u32);
} keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

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

static __always_inline __u64 pseudo_sum(const struct segment *s)
{
	return (__u64)s->ip->saddr + s->ip->daddr + bpf_htons(IPPROTO_TCP) + bpf_htons((__u16)(s->total - sizeof *s->ip));
}

/* False when the value could not be raised in a few tries: then the gateway takes the packet. */
static __always_inline bool raise(__s64 *place, __s64 value)
{
	for (int i = 0; i < RAISE_TRIES; i++) {
		__s64 before = *(volatile __s64 *)place;
		if (before >= value)
			return true;
		if (__sync_val_compare_and_swap(place, before, value) == before)
			return true;
	}
	return false;
}

/* The same for a clock of 32 bits (RFC 7323 §5.4). */
static __always_inline bool raise_clock(__u32 *place, __u32 value)
{
	for (int i = 0; i < RAISE_TRIES; i++) {
		__u32 before = *(volatile __u32 *)place;
		if ((__s32)(value - before) <= 0)
			return true;
		if (__sync_val_compare_and_swap(place, before, value) == before)
			return true;
	}
	return false;
}

/* Offset of a sequence number, the one nearest to `near`. */
static __always_inline __s64 offset_of(__u32 seq, __u32 base, __s64 near)
{
	return near + (__s32)(seq - (base + (__u32)near));
}

static __always_inline __s64 larger(__s64 a, __s64 b)
{
	return a > b ? a : b;
}

static __always_inline __s64 smaller(__s64 a, __s64 b)
{
	return a < b ? a : b;
}

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

static __always_inline void set_word(struct segment *s, __be32 *place, __be32 value)
{
	s->tcp_delta += change(*place, value);
	*place = value;
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
		if (!raise(&f->peer_nxt, end))
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

/* So that the gateway knows where the count begins. */
static __always_inline void mark(struct iphdr *ip)
{
	__u16 before = ip->frag_off;
	ip->frag_off = before | bpf_htons(MARK);
	ip->check = (__u16)~fold((__u64)(__u16)~ip->check + (__u16)~before + ip->frag_off);
}

/* Additions whose result is used are full barriers on every machine; those whose result is not are none on arm64. */
static __always_inline void add_in_order(__u32 *place, __s32 more)
{
	__u64 before = __sync_fetch_and_add(place, more);
	asm volatile("" : : "r"(before));
}

/* A live flow is the gateway's with this packet, which is the first that is counted, unless one on another processor was. */
static __always_inline void let_go(struct flow *f)
{
	for (int i = 0; i < RAISE_TRIES; i++) {
		__u64 gate = *(volatile __u64 *)&f->gate;
		if (!(gate & FLOW_LIVE))
			break;
		if (__sync_val_compare_and_swap(&f->gate, gate, 1) == gate)
			return;
	}
	__sync_fetch_and_and(&f->gate, ~FLOW_LIVE);
	__sync_fetch_and_add(&f->gate, 1);
}

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

	int verdict = PASS;
	add_in_order(&f->busy, 1);
	/* What is read of the flow is read after these two. */
	__u64 gate = __sync_fetch_and_add(&f->gate, 1);
	if (gate == FLOW_ARMED)
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

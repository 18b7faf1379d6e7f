/**
 * Why a packet was refused. One small number each, so that a counter is an array slot; 0 means accepted.
 *
 * The numbers below 64 are this table's, the gateway's own reasons follow from there on. A number is never given to another
 * reason later.
 */
export const DROP_REASONS = {
  /** Fewer bytes than the headers, or the IP total length, announce. */
  truncated: 1,
  ipv6: 2,
  /** Neither IPv4 nor IPv6. */
  'bad-version': 3,
  /** IHL below 5, or beyond the packet (RFC 791 §3.1). */
  'bad-header-length': 4,
  /** Total length shorter than the header (RFC 791 §3.1). */
  'bad-total-length': 5,
  'bad-ip-checksum': 6,
  /** Only the first fragment has ports, so none of them is translated. */
  fragment: 7,
  /** Not TCP, UDP or ICMP. */
  'unsupported-protocol': 8,
  /** Data offset below 5, or beyond the segment (RFC 9293 §3.1). */
  'bad-tcp-offset': 9,
  /** An option that is cut off, or whose length its kind does not allow (RFC 9293 §3.2). */
  'bad-tcp-options': 10,
  /** SYN with FIN or RST, or none of SYN, RST and ACK, which every receiver drops (RFC 9293 §3.10.7). */
  'bad-tcp-flags': 11,
  /** Length below 8, or beyond the packet (RFC 768). */
  'bad-udp-length': 12,
  /** Shorter than the 8 bytes every message has (RFC 792). */
  'bad-icmp-length': 13,
  /** The virtio header asks for what the packet cannot have. */
  'bad-vnet-header': 14,
  /** Counted by whoever calls `verifyL4Checksum`. */
  'bad-l4-checksum': 15,
} as const;

export type DropReasonName = keyof typeof DROP_REASONS;
export type DropReason = (typeof DROP_REASONS)[DropReasonName];

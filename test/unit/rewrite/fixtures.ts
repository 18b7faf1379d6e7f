/**
 * Packets as a Linux 6 kernel wrote them to a TUN device with IFF_VNET_HDR, TSO and checksum offload: 10.9.0.1 connects to
 * 10.9.0.2:8080 and sends; one segment was lost on the way.
 */

import { repeated } from './reference.ts';

/** Bytes of annotated hexadecimal; what follows a `#` is for the reader. */
export function hex(text: string): number[] {
  const digits = text.replace(/#.*$/gm, '').replace(/\s+/g, '');
  return (digits.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
}

/** The connecting SYN: all the options Linux has. */
export const SYN = hex(`
  01 00 0000 0000    # NEEDS_CSUM, no GSO
  1400 1000          # csum_start 20, csum_offset 16
  45 00 003c         # IPv4, IHL 5, 60 bytes
  5ad0 4000 40 06    # ident, DF, TTL 64, TCP
  cbd7               # header checksum
  0a090001 0a090002  # 10.9.0.1 to 10.9.0.2
  c9ae 1f90          # port 51630 to 8080
  546703f3 00000000  # SEQ, no ACK
  a0 02 faf0         # 40 bytes of header, SYN, window 64240
  1443 0000          # pseudo-header sum, no urgent data
  02 04 05b4         # MSS 1460
  04 02              # SACK permitted
  08 0a d1c97b76 00000000
  01 03 03 0a        # NOP, window scale 10
`);

/** Its answer. */
export const SYN_ACK = hex(`
  01 00 0000 0000
  1400 1000
  45 00 003c
  0000 4000 40 06
  26a8
  0a090002 0a090001
  1f90 c9ae
  8184edeb 546703f4
  a0 12 fe88         # SYN ACK, window 65160
  1443 0000
  02 04 05b4
  04 02
  08 0a 215e3b78 d1c97b76
  01 03 03 0a
`);

/** The headers of a super-packet of 7240 bytes of data, five pieces; the data is 'x'. */
export const SUPER_PACKET = [
  ...hex(`
  01 01 3400 a805    # NEEDS_CSUM, TCPV4, headers of 52 bytes, pieces of 1448
  1400 1000
  45 00 1c7c         # 7292 bytes
  5ad3 4000 40 06
  af94
  0a090001 0a090002
  c9ae 1f90
  546703f9 8184edec
  80 18 003f         # 32 bytes of header, PSH ACK, window 63 << 10
  3083 0000          # pseudo-header sum with the super-packet's length
  01 01 08 0a d1c97b76 215e3b78
`),
  ...repeated(7240, 0x78),
];

/** An ACK that reports 600 bytes behind a gap of 1448. */
export const SACK = hex(`
  01 00 0000 0000
  1400 1000
  45 00 0040
  befb 4000 40 06
  67a8
  0a090002 0a090001
  1f90 c9ae
  8184edec 54672721
  b0 10 0055         # 44 bytes of header, ACK
  1447 0000
  01 01 08 0a 215e3b7a d1c97b76
  01 01 05 0a 54672cc9 54672f21
`);

/** The RST of a closed port; the kernel had its whole checksum computed. */
export const RST = hex(`
  00 00 0000 0000
  0000 0000          # the checksum is complete
  45 00 0028
  0000 4000 40 06
  26bc
  0a090002 0a090001
  0051 865a          # port 81 to 34394
  00000000 b93faa6d
  50 14 0000         # RST ACK
  b163 0000
`);

/** A datagram. */
export const DATAGRAM = hex(`
  01 00 0000 0000
  1400 0600          # csum_start 20, csum_offset 6
  45 00 0021
  bbe4 4000 40 11    # UDP
  6ad3
  0a090001 0a090002
  b1f9 0035          # port 45561 to 53
  000d 1433          # 13 bytes, pseudo-header sum
  70 69 6e 67 3f     # 'ping?'
`);

/**
 * Packets made byte by byte, so that anything can be wrong with them, and a way to put them on a device of the topology. Uses nothing
 * of Kedge.
 */
import { join } from 'node:path';
import { run } from './process.ts';
import { PROJECT, type Place, type Topology } from './topology.ts';

function address(text: string): number[] {
  return text.split('.').map(Number);
}

/** The Internet checksum (RFC 1071) of bytes in which its own field is 0. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export interface Ends {
  /** "address:port". */
  readonly from: string;
  readonly to: string;
}

/** Fields of the IP header that are not as they should be. */
export interface IpFaults {
  readonly version?: number;
  /** In words of 4 bytes. */
  readonly headerLength?: number;
  readonly totalLength?: number;
  /** The 16 bits with the flags and the offset. */
  readonly fragment?: number;
  readonly protocol?: number;
  readonly checksum?: number;
}

/** An IPv4 packet. `payload` gets no checksum here. */
export function ipv4({ from, to }: Ends, protocol: number, payload: Uint8Array, faults: IpFaults = {}): Buffer {
  const header = Buffer.alloc(20);
  header[0] = ((faults.version ?? 4) << 4) | (faults.headerLength ?? 5);
  header.writeUInt16BE(faults.totalLength ?? 20 + payload.length, 2);
  header.writeUInt16BE(faults.fragment ?? 0x4000, 6);
  header[8] = 64;
  header[9] = faults.protocol ?? protocol;
  header.set(address(host(from)), 12);
  header.set(address(host(to)), 16);
  header.writeUInt16BE(faults.checksum ?? checksum(header), 10);
  return Buffer.concat([header, payload]);
}

const host = (end: string): string => end.split(':')[0] ?? '';
const port = (end: string): number => Number(end.split(':')[1]);

/** Fills in the checksum of a TCP, UDP or ICMP part at `at`; `wrong` is added to it. */
function sealed({ from, to }: Ends, protocol: number, part: Buffer, at: number, wrong: number): Buffer {
  const pseudo = Buffer.from([...address(host(from)), ...address(host(to)), 0, protocol, 0, 0]);
  pseudo.writeUInt16BE(part.length, 10);
  const sum = checksum(protocol === 1 ? part : Buffer.concat([pseudo, part]));
  part.writeUInt16BE((sum + wrong) & 0xffff, at);
  return part;
}

export interface TcpFields {
  readonly flags: number;
  readonly seq?: number;
  readonly ack?: number;
  readonly window?: number;
  /** Raw options; padded with zeros to whole words. */
  readonly options?: readonly number[];
  readonly data?: Uint8Array;
  /** In words of 4 bytes, where it is to be wrong. */
  readonly offset?: number;
  /** Added to the checksum. */
  readonly wrong?: number;
}

/** A TCP segment (RFC 9293 §3.1) in its packet. */
export function tcp(ends: Ends, fields: TcpFields, faults: IpFaults = {}): Buffer {
  const { flags, seq = 1, ack = 0, window = 1000, options = [], data = new Uint8Array(), wrong = 0 } = fields;
  const words = Math.ceil(options.length / 4);
  const header = Buffer.alloc(20 + 4 * words);
  header.writeUInt16BE(port(ends.from), 0);
  header.writeUInt16BE(port(ends.to), 2);
  header.writeUInt32BE(seq >>> 0, 4);
  header.writeUInt32BE(ack >>> 0, 8);
  header[12] = (fields.offset ?? 5 + words) << 4;
  header[13] = flags;
  header.writeUInt16BE(window, 14);
  header.set(options, 20);
  return ipv4(ends, 6, sealed(ends, 6, Buffer.concat([header, data]), 16, wrong), faults);
}

/** A UDP datagram (RFC 768) in its packet, with a length field of any value. */
export function udp(ends: Ends, data: Uint8Array, length = 8 + data.length, wrong = 0): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(port(ends.from), 0);
  header.writeUInt16BE(port(ends.to), 2);
  header.writeUInt16BE(length, 4);
  return ipv4(ends, 17, sealed(ends, 17, Buffer.concat([header, data]), 6, wrong));
}

/** An ICMP message (RFC 792) in its packet: its bytes with a checksum of 0. */
export function icmp(ends: Ends, message: readonly number[]): Buffer {
  return ipv4(ends, 1, sealed(ends, 1, Buffer.from(message), 2, 0));
}

/** Puts packets on a device. */
export class Injector {
  readonly #topology: Topology;
  readonly #place: Place;
  readonly #device: string;
  readonly #program: string;
  readonly #header: Buffer;

  private constructor(topology: Topology, place: Place, device: string, program: string, header: Buffer) {
    this.#topology = topology;
    this.#place = place;
    this.#device = device;
    this.#program = program;
    this.#header = header;
  }

  /** `neighbour`: over an Ethernet device, to the station that has this address. Without: a TUN device. */
  static async of(topology: Topology, place: Place, device: string, neighbour?: string): Promise<Injector> {
    const program = topology.path('inject');
    const source = join(PROJECT, 'test', 'support', 'inject.c');
    await run(['cc', '-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source]);
    const header = neighbour === undefined ? Buffer.alloc(0) : await ethernet(topology, place, device, neighbour);
    return new Injector(topology, place, device, program, header);
  }

  async send(packets: readonly Uint8Array[]): Promise<void> {
    const lines = packets.map((packet) => Buffer.concat([this.#header, packet]).toString('hex'));
    await this.#topology.run(this.#place, [this.#program, this.#device], { input: `${lines.join('\n')}\n` });
  }
}

/** The header of frames to a neighbour. */
async function ethernet(topology: Topology, place: Place, device: string, neighbour: string): Promise<Buffer> {
  // Resolves the address, whatever answers.
  await topology.tryRun(place, ['bash', '-c', `echo >/dev/udp/${neighbour}/9`]);
  const [entry] = JSON.parse(await topology.run(place, ['ip', '-j', 'neigh', 'show', neighbour])) as {
    lladdr: string;
  }[];
  const [link] = JSON.parse(await topology.run(place, ['ip', '-j', 'link', 'show', device])) as { address: string }[];
  if (entry === undefined || link === undefined) throw new Error(`no way from ${device} to ${neighbour}`);
  return Buffer.from(`${entry.lladdr}${link.address}0800`.replaceAll(':', ''), 'hex');
}

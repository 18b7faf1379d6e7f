/**
 * What tshark reads in a capture, as typed rows. Nothing here is Kedge's: the oracle must not share our mistakes.
 *
 * Sequence numbers are raw, windows unscaled, times in milliseconds since 1970 (comparable with `Date.now()`, good to 1 µs).
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/**
 * What tshark found of a checksum. `unverified`: the packet is not whole in the capture. A packet that was captured before
 * its sender's device completed the checksum is `bad`: switch offload off.
 */
export type ChecksumStatus = 'good' | 'bad' | 'unverified';

export interface TcpRow {
  readonly frame: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly src: string;
  readonly dst: string;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  /** As in the header: not scaled. */
  readonly window: number;
  /** Bytes of payload. */
  readonly len: number;
  readonly mss?: number;
  readonly wscale?: number;
  readonly sackPermitted: boolean;
  /** SACK blocks, in their order. */
  readonly sack: readonly { readonly left: number; readonly right: number }[];
  readonly ts?: { readonly value: number; readonly echo: number };
  readonly urgent: number;
  readonly tcpChecksum: ChecksumStatus;
  readonly ipChecksum: ChecksumStatus;
}

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;

const OPTIONS = [
  'tcp.relative_sequence_numbers:FALSE',
  'tcp.analyze_sequence_numbers:FALSE',
  'tcp.desegment_tcp_streams:FALSE',
  'tcp.check_checksum:TRUE',
  'udp.check_checksum:TRUE',
  'ip.check_checksum:TRUE',
];

const TCP_FIELDS = [
  'frame.number',
  'frame.time_epoch',
  'ip.src',
  'ip.dst',
  'tcp.srcport',
  'tcp.dstport',
  'tcp.seq_raw',
  'tcp.ack_raw',
  'tcp.flags',
  'tcp.window_size_value',
  'tcp.len',
  'tcp.options.mss_val',
  'tcp.options.wscale.shift',
  'tcp.options.sack_perm',
  'tcp.options.sack_le',
  'tcp.options.sack_re',
  'tcp.options.timestamp.tsval',
  'tcp.options.timestamp.tsecr',
  'tcp.urgent_pointer',
  'tcp.checksum',
  'tcp.checksum_calculated',
  'tcp.checksum.status',
  'ip.checksum.status',
] as const;

/**
 * Values of tshark's fields for each packet that passes the display filter; a field that occurs several times in a packet has its
 * values separated by commas, one that does not occur is ''.
 */
export async function readFields(file: string, filter: string, fields: readonly string[]): Promise<string[][]> {
  const args = ['-r', file, '-n', '-Q', '-Y', filter, '-T', 'fields', '-E', 'separator=/t', '-E', 'occurrence=a'];
  args.push(...OPTIONS.flatMap((option) => ['-o', option]), ...fields.flatMap((field) => ['-e', field]));
  const tshark = spawn('tshark', args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: 120_000 });
  const ended = Promise.withResolvers<number | null>();
  tshark.once('error', ended.reject);
  tshark.once('close', ended.resolve);
  ended.promise.catch(() => undefined);
  let said = '';
  tshark.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const rows: string[][] = [];
  for await (const line of createInterface({ input: tshark.stdout })) rows.push(line.split('\t'));
  const code = await ended.promise;
  if (code !== 0) throw new Error(`tshark on ${file} ended with ${code}: ${said}`);
  return rows;
}

/** All TCP segments of a capture (those quoted in ICMP errors are none), in the order they were captured. */
export async function readTcp(file: string, filter = 'tcp'): Promise<TcpRow[]> {
  return (await readFields(file, `(${filter}) && tcp && !icmp`, TCP_FIELDS)).map(parseTcpRow);
}

/** One row of values in the order of TCP_FIELDS. Throws when tshark's output is not what it was when this was written. */
export function parseTcpRow(values: readonly string[]): TcpRow {
  if (values.length !== TCP_FIELDS.length)
    throw new Error(`${values.length} fields of ${TCP_FIELDS.length}: ${values.join('|')}`);
  const text = (name: (typeof TCP_FIELDS)[number]): string => values[TCP_FIELDS.indexOf(name)] ?? '';
  const number = (name: (typeof TCP_FIELDS)[number]): number => {
    const value = Number(text(name));
    if (text(name) === '' || !Number.isFinite(value))
      throw new Error(`frame ${text('frame.number')}: bad ${name} '${text(name)}'`);
    return value;
  };
  const maybe = (name: (typeof TCP_FIELDS)[number]): number | undefined =>
    text(name) === '' ? undefined : number(name);
  const mss = maybe('tcp.options.mss_val');
  const wscale = maybe('tcp.options.wscale.shift');
  const value = maybe('tcp.options.timestamp.tsval');
  return {
    frame: number('frame.number'),
    time: number('frame.time_epoch') * 1000,
    src: text('ip.src'),
    dst: text('ip.dst'),
    srcPort: number('tcp.srcport'),
    dstPort: number('tcp.dstport'),
    seq: number('tcp.seq_raw'),
    ack: number('tcp.ack_raw'),
    flags: number('tcp.flags'),
    window: number('tcp.window_size_value'),
    len: number('tcp.len'),
    ...(mss === undefined ? {} : { mss }),
    ...(wscale === undefined ? {} : { wscale }),
    sackPermitted: text('tcp.options.sack_perm') !== '',
    sack: blocks(text('tcp.options.sack_le'), text('tcp.options.sack_re')),
    ...(value === undefined ? {} : { ts: { value, echo: number('tcp.options.timestamp.tsecr') } }),
    urgent: number('tcp.urgent_pointer'),
    tcpChecksum: tcpStatus(text('tcp.checksum.status'), text('tcp.checksum'), text('tcp.checksum_calculated')),
    ipChecksum: status(text('ip.checksum.status')),
  };
}

function blocks(left: string, right: string): { left: number; right: number }[] {
  if (left === '') return [];
  const rights = right.split(',');
  return left.split(',').map((edge, index) => ({ left: Number(edge), right: Number(rights[index]) }));
}

function status(text: string): ChecksumStatus {
  if (text === '1') return 'good';
  return text === '2' ? 'unverified' : 'bad';
}

/**
 * Linux completes a checksum of 0 as 0xffff for TCP too, where only UDP asks for it. The receiver's sum is right either way
 * (both are zero in one's complement); tshark calls it bad.
 */
function tcpStatus(text: string, found: string, calculated: string): ChecksumStatus {
  if (text === '0' && Number(found) === 0xffff && Number(calculated) === 0) return 'good';
  return status(text);
}

/**
 * Captures written by hand, one segment a line:
 *
 *     time side dir flags seq ack window len tsval/tsecr [option...]
 *
 * time in ms; side: peer, a or b; dir: > from the guest, < from the peer; flags of S F R P and . for ACK; options: bad (checksum),
 * sack=left-right, bare (a SYN without options), nots. SYNs have MSS 1460, window scale 7 and SACK permitted. '#' begins a comment.
 * Lines may stand in any order.
 */
import type { CapturedRows, Tuple } from '../../support/checker/conversation.ts';
import { ACK, FIN, PSH, RST, SYN, type TcpRow } from '../../support/fields.ts';

export const TUPLE: Tuple = {
  peer: { address: '10.0.0.2', port: 40000 },
  outside: { address: '10.0.0.1', port: 80 },
  guest: { address: '100.64.0.1', port: 8080 },
};

const FLAGS: Readonly<Record<string, number>> = { S: SYN, F: FIN, R: RST, P: PSH, '.': ACK };

export function parseTable(text: string): CapturedRows {
  const sides: Record<string, TcpRow[]> = { peer: [], a: [], b: [] };
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim());
  for (const line of lines.toSorted((x, y) => parseFloat(x) - parseFloat(y))) {
    const [time, side, dir, flags, seq, ack, window, len, ts, ...options] = line.split(/\s+/);
    if (ts === undefined) continue;
    const rows = sides[side ?? ''];
    if (rows === undefined) throw new Error(`no side ${side}`);
    const inner = side === 'peer' ? TUPLE.outside : TUPLE.guest;
    const [from, to] = dir === '>' ? [inner, TUPLE.peer] : [TUPLE.peer, inner];
    const bits = [...(flags ?? '')].reduce((sum, letter) => sum | (FLAGS[letter] ?? 0), 0);
    const [value, echo] = ts.split('/').map(Number);
    const full = (bits & SYN) !== 0 && !options.includes('bare');
    rows.push({
      frame: rows.length + 1,
      time: Number(time),
      src: from.address,
      srcPort: from.port,
      dst: to.address,
      dstPort: to.port,
      seq: Number(seq),
      ack: Number(ack),
      flags: bits,
      window: Number(window),
      len: Number(len),
      ...(full ? { mss: 1460, wscale: 7 } : {}),
      sackPermitted: full,
      sack: options.filter((option) => option.startsWith('sack=')).map(sackBlock),
      ...(options.includes('nots') || value === undefined || echo === undefined ? {} : { ts: { value, echo } }),
      urgent: 0,
      tcpChecksum: options.includes('bad') ? 'bad' : 'good',
      ipChecksum: 'good',
    });
  }
  return { peer: sides['peer'] ?? [], legs: { a: sides['a'] ?? [], b: sides['b'] ?? [] } };
}

function sackBlock(option: string): { left: number; right: number } {
  const [left, right] = option.slice('sack='.length).split('-').map(Number);
  return { left: left ?? NaN, right: right ?? NaN };
}

/** Replaces text that must be there, so that a test cannot go on meaning nothing after the table was changed. */
export function edit(table: string, from: string, to: string): string {
  if (!table.includes(from)) throw new Error(`'${from}' is not in the table`);
  return table.replace(from, to);
}

/** Time of the move in {@link MOVED}, milliseconds. */
export const MOVE_AT = 100;

/** A guest serves on a, is moved to b while 100 bytes come in, sends 50 more and closes. */
export const MOVED = `
  0.0  peer < S  1000 0    64000 0   100/0
  0.1  a    < S  1000 0    64000 0   100/0
  0.2  a    > S. 5000 1001 60000 0   700/100
  0.3  peer > S. 5000 1001 60000 0   700/100
  1.0  peer < .  1001 5001 500   0   101/700
  1.1  a    < .  1001 5001 500   0   101/700
  2.0  peer < .  1001 5001 500   100 102/700
  2.1  a    < .  1001 5001 500   100 102/700
  3.0  a    > .  5001 1101 500   200 710/102
  3.1  peer > .  5001 1101 500   200 710/102
  4.0  peer < .  1101 5201 500   0   103/710
  4.1  a    < .  1101 5201 500   0   103/710
# frozen: 100 bytes into custody
  110  peer < .  1101 5201 500   100 110/710
  111  peer > .  5201 1201 500   0   720/110
# epoch 1 on b: expects 1101 = 1000 + 1 + 100
  120  b    > S  9000 0    64000 0   2000/0
  121  b    < S. 1100 9001 64000 0   111/2000
  122  b    > .  9001 1101 500   0   2001/111
  130  b    < .  1101 9001 500   100 111/2000
  131  b    > .  9001 1201 500   0   2002/111
  140  b    > .  9001 1201 500   50  2003/111
  141  peer > .  5201 1201 500   50  730/110
  150  peer < .  1201 5251 500   0   120/730
  151  b    < .  1201 9051 500   0   120/2003
  160  b    > F. 9051 1201 500   0   2010/120
  161  peer > F. 5251 1201 500   0   740/120
  170  peer < F. 1201 5252 500   0   121/740
  171  b    < F. 1201 9052 500   0   121/2010
  180  b    > .  9052 1202 500   0   2011/121
  181  peer > .  5252 1202 500   0   741/121
`;

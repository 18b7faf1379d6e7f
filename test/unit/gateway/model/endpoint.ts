/**
 * A plain TCP end (RFC 9293) for the simulation: one connection, in-order delivery, SACK as a receiver, timestamps with PAWS, a
 * window that its reader opens, retransmission by timer and by three duplicate ACKs, window probes. It knows nothing of a gateway;
 * what it is told off the wire it holds against the streams' pattern.
 *
 * Sequence numbers of the wire are turned to offsets at once: offset 0 is the first byte this *socket* sends or gets, plus the
 * `base` of its stream.
 */
import assert from 'node:assert/strict';
import { SegmentWriter } from '../../../../src/rewrite/build.ts';
import type { Ipv4, Port, Seq } from '../../../../src/rewrite/numbers.ts';
import { flagBits, pattern, patternBytes } from '../wire.ts';
import type { Seen } from '../wire.ts';
import type { Clock } from './net.ts';

export type Address = { readonly address: number; readonly port: number };

export type EndpointOptions = {
  readonly name: string;
  readonly clock: Clock;
  readonly local: Address;
  readonly remote: Address;
  readonly isn: number;
  /** Offset of its first byte in the stream it sends. */
  readonly outBase: number;
  /** Offset of the next byte in the stream it gets. */
  readonly inBase: number;
  /** Numbers of the streams in `pattern`. */
  readonly outStream: number;
  readonly inStream: number;
  readonly shift: number;
  readonly mss: number;
  readonly sack: boolean;
  /** Added to milliseconds. */
  readonly clockOffset: number;
  /** Receive buffer, bytes. */
  readonly buffer: number;
  readonly send: (packet: Uint8Array) => void;
};

const wrap = (value: number): number => ((value % 2 ** 32) + 2 ** 32) % 2 ** 32;
const near = (offset: number, seq: number, anchor: number): number => offset + ((seq - anchor) | 0);

export class Endpoint {
  readonly o: EndpointOptions;
  state: 'syn-sent' | 'syn-received' | 'open' | 'closed' = 'closed';
  /** Why it is closed: a RST that it accepted. */
  reset = false;
  // What it sends, as offsets of its stream; a FIN counts.
  una: number;
  nxt: number;
  /** Highest ever sent. */
  most: number;
  /** Bytes the application has written so far, and whether it has closed. */
  written: number;
  finWritten = false;
  edge: number;
  // What it gets.
  peerIsn = 0;
  rcv: number;
  finAt = -1;
  readonly #islands: [number, number][] = [];
  /** What the application has read: opens the window. */
  read: number;
  #advertised: number;
  #peerShift = 0;
  #scaled = false;
  #sack = false;
  #ts = false;
  #tsRecent = 0;
  #lastAcked = 0;
  #duplicates = 0;
  #rto = 200;
  #timer = 0;
  #cwnd = 20_000;
  pawsDrops = 0;
  readonly #writer = new SegmentWriter();

  constructor(options: EndpointOptions) {
    this.o = options;
    this.una = this.nxt = this.most = this.written = options.outBase;
    this.edge = options.outBase;
    this.rcv = this.read = options.inBase;
    this.#advertised = options.inBase;
  }

  // --- opening ---

  connect(): void {
    this.state = 'syn-sent';
    this.#transmit('S', this.o.outBase - 1, 0);
    this.#arm();
  }

  /** As a listener does when this SYN comes. */
  accept(syn: Seen): void {
    this.state = 'syn-received';
    this.#learn(syn);
    this.#transmit('SA', this.o.outBase - 1, 0);
    this.#arm();
  }

  #learn(syn: Seen): void {
    this.peerIsn = syn.seq;
    this.#scaled = syn.wscale !== undefined && this.o.shift >= 0;
    this.#peerShift = this.#scaled ? Math.min(14, syn.wscale ?? 0) : 0;
    this.#sack = syn.sackOk && this.o.sack;
    this.#ts = syn.ts !== undefined;
    this.#tsRecent = syn.ts?.[0] ?? 0;
    this.edge = this.o.outBase + syn.window;
  }

  /** Ends without a word, or with the RST of SO_LINGER {1,0}. */
  abort(rst: boolean): void {
    if (rst && this.state !== 'closed' && this.state !== 'syn-sent') this.#transmit('RA', this.nxt, 0);
    this.state = 'closed';
    this.#timer++;
  }

  // --- the application ---

  write(to: number): void {
    if (this.finWritten) return;
    this.written = Math.max(this.written, to);
    this.#pump();
  }

  close(): void {
    this.finWritten = true;
    this.#pump();
  }

  /** Reads up to `bytes`. */
  take(bytes: number): number {
    const to = Math.min(this.inEnd, this.read + bytes);
    const got = to - this.read;
    this.read = to;
    // A window update, when it is worth one.
    if (this.state === 'open' && this.read + this.o.buffer - this.#advertised >= 2 * this.o.mss) this.#acknowledge();
    return got;
  }

  /** End of the bytes that came in order, without the FIN. */
  get inEnd(): number {
    return this.finAt >= 0 ? Math.min(this.rcv, this.finAt) : this.rcv;
  }

  get peerEnded(): boolean {
    return this.finAt >= 0 && this.rcv > this.finAt;
  }

  get finAcked(): boolean {
    return this.finWritten && this.una > this.written;
  }

  // --- segments in ---

  receive(seen: Seen): void {
    if (this.state === 'closed') return;
    if (this.state === 'syn-sent') return this.#inSynSent(seen);
    const seq = near(this.rcv, seen.seq, wrap(this.peerIsn + 1 + this.rcv - this.o.inBase));
    const length = seen.payload.length + (seen.flags.includes('F') ? 1 : 0);
    if (seen.flags.includes('S')) {
      if (this.state === 'syn-received') this.#transmit('SA', this.o.outBase - 1, 0);
      else this.#acknowledge();
      return;
    }
    if (seen.flags.includes('R')) {
      if (seq === this.rcv) this.#fail();
      else if (seq > this.rcv && seq <= this.#advertised) this.#acknowledge();
      return;
    }
    if (this.#ts && seen.ts !== undefined && ((seen.ts[0] - this.#tsRecent) | 0) < 0) {
      this.pawsDrops++;
      return this.#acknowledge();
    }
    // Linux: what ends before the last acknowledgement, or begins beyond the window, is answered and not looked at.
    if (seq + length < this.#lastAcked || seq > this.#advertised) return this.#acknowledge();
    if (seen.ts !== undefined && seq <= this.#lastAcked) this.#tsRecent = seen.ts[0];
    if (!this.#acked(seen, length)) return;
    if (length > 0) this.#data(seen, seq);
    this.#pump();
  }

  #inSynSent(seen: Seen): void {
    const ok = seen.flags.includes('A') && seen.ack === wrap(this.o.isn + 1);
    if (seen.flags.includes('R')) {
      if (ok) this.#fail();
      return;
    }
    if (!seen.flags.includes('S') || !ok) return;
    this.#learn(seen);
    assert.equal(this.o.inBase >= 0, true);
    this.state = 'open';
    this.#lastAcked = this.rcv;
    this.#timer++;
    this.#acknowledge();
    this.#pump();
  }

  #fail(): void {
    this.reset = true;
    this.state = 'closed';
    this.#timer++;
  }

  #acked(seen: Seen, length: number): boolean {
    if (!seen.flags.includes('A')) return false;
    const ack = near(this.una, seen.ack, wrap(this.o.isn + 1 + this.una - this.o.outBase));
    if (ack > this.most) {
      this.#acknowledge();
      return false;
    }
    if (this.state === 'syn-received') this.state = 'open';
    if (ack < this.una) return true;
    const edge = ack + seen.window * 2 ** this.#peerShift;
    if (ack > this.una) {
      this.una = ack;
      this.nxt = Math.max(this.nxt, ack);
      this.#duplicates = 0;
      this.#rto = 200;
      this.#cwnd += 1448;
      this.#timer++;
      if (this.una < this.most) this.#arm();
    } else if (length === 0 && edge === this.edge && this.una < this.most && ++this.#duplicates === 3) {
      this.#repeat();
    }
    this.edge = Math.max(this.edge, edge);
    return true;
  }

  #data(seen: Seen, seq: number): void {
    const end = seq + seen.payload.length;
    for (let i = 0; i < seen.payload.length; i += 7)
      if (seen.payload[i] !== pattern(this.o.inStream, seq + i))
        assert.fail(`${this.o.name}: byte ${seq + i} is another`);
    if (seen.flags.includes('F')) this.finAt = end;
    const limit = Math.max(this.#advertised, this.rcv);
    if (Math.min(end, limit) > seq) this.#islands.push([seq, Math.min(end, limit)]);
    this.#islands.sort((a, b) => a[0] - b[0]);
    while (this.#islands.length > 0 && this.#islands[0]![0] <= this.rcv) {
      this.rcv = Math.max(this.rcv, this.#islands[0]![1]);
      this.#islands.shift();
    }
    if (this.rcv === this.finAt) this.rcv++;
    this.#acknowledge();
  }

  // --- segments out ---

  #acknowledge(): void {
    // SND.NXT never goes back (as in Linux): after a timeout of both ends their ACKs would look old to each other.
    this.#transmit('A', Math.max(this.most, this.una), 0);
  }

  #limit(): number {
    return Math.min(this.edge, this.una + this.#cwnd);
  }

  #pump(): void {
    if (this.state !== 'open') return;
    const end = this.finWritten ? this.written + 1 : this.written;
    while (this.nxt < end) {
      const room = Math.min(this.#limit(), this.written) - this.nxt;
      const length = Math.min(this.o.mss - 12, room);
      const fin = this.finWritten && this.nxt + Math.max(0, length) === this.written && this.edge >= this.written;
      if (length <= 0 && !fin) break;
      this.#transmit(fin ? 'FPA' : 'PA', this.nxt, Math.max(0, length));
      this.nxt += Math.max(0, length) + (fin ? 1 : 0);
      this.most = Math.max(this.most, this.nxt);
    }
    if (this.una < end && this.#armed !== this.#timer) this.#arm();
  }

  #repeat(): void {
    const length = Math.min(this.o.mss - 12, Math.min(this.written, this.most) - this.una);
    const fin = this.finWritten && this.una + length === this.written && this.most > this.written;
    if (length > 0 || fin) this.#transmit(fin ? 'FPA' : 'PA', this.una, Math.max(0, length));
  }

  #armed = -1;

  #arm(): void {
    const mine = ++this.#timer;
    this.#armed = mine;
    this.o.clock.after(this.#rto, () => {
      if (mine === this.#timer) this.#timeout();
    });
  }

  #timeout(): void {
    this.#rto = Math.min(5000, this.#rto * 2);
    this.#duplicates = 0;
    if (this.state === 'syn-sent') this.#transmit('S', this.o.outBase - 1, 0);
    else if (this.state === 'syn-received') this.#transmit('SA', this.o.outBase - 1, 0);
    else if (this.state === 'open' && this.edge <= this.una && this.nxt <= this.una)
      // A closed window is probed from one byte back, as Linux does.
      this.#transmit('A', this.una - 1, 0);
    else if (this.state === 'open') {
      this.nxt = this.una;
      this.#cwnd = 8000;
      this.#armed = -1;
      this.#pump();
      if (this.#armed === this.#timer) return;
    }
    this.#arm();
  }

  #transmit(flags: string, offset: number, length: number): void {
    const { local, remote, isn, outBase, inBase, outStream, clock, clockOffset, shift, mss } = this.o;
    const w = this.#writer;
    const syn = flags.includes('S');
    w.reset();
    w.src = local.address as Ipv4;
    w.dst = remote.address as Ipv4;
    w.srcPort = local.port as Port;
    w.dstPort = remote.port as Port;
    w.flags = flagBits(flags);
    w.seq = wrap(isn + 1 + offset - outBase) as Seq;
    if (flags.includes('A')) w.ack = wrap(this.peerIsn + 1 + this.rcv - inBase) as Seq;
    w.window = this.#window(syn);
    if (syn) {
      w.mss = mss;
      if (flags === 'S' ? shift >= 0 : this.#scaled) w.wscale = shift;
      w.sackPermitted = flags === 'S' ? this.o.sack : this.#sack;
    }
    if (flags === 'S' || this.#ts) w.setTimestamps(Math.floor(clock.now + clockOffset) >>> 0, this.#tsRecent);
    if (this.#sack && !syn) {
      let last = -1;
      for (const [from, to] of this.#islands) {
        if (from > last && w.sackCount < 3)
          w.addSack(wrap(this.peerIsn + 1 + from - inBase) as Seq, wrap(this.peerIsn + 1 + to - inBase) as Seq);
        last = to;
      }
    }
    w.payloadLen = length;
    const packet = new Uint8Array(120 + length);
    packet.set(patternBytes(outStream, offset, length), w.payloadOffset(0));
    this.#lastAcked = this.rcv;
    this.o.send(packet.slice(0, w.write(packet, 0)));
  }

  /** The raw window: never takes an edge back, and is rounded up where it otherwise would (as Linux rounds). */
  #window(syn: boolean): number {
    const unit = syn ? 1 : 2 ** (this.#scaled ? this.o.shift : 0);
    let raw = Math.floor((this.read + this.o.buffer - this.rcv) / unit);
    if (this.rcv + raw * unit < this.#advertised) raw = Math.ceil((this.#advertised - this.rcv) / unit);
    raw = Math.min(0xffff, Math.max(0, raw));
    this.#advertised = Math.max(this.#advertised, this.rcv + raw * unit);
    return raw;
  }
}

/**
 * Packet captures that can be relied on: a capture has begun when `start` returns, holds every packet up to the call of `stop`,
 * and fails when the kernel had to drop one.
 *
 * tcpdump forgets what is still in its ring when it is told to end, so `stop` sends a marker packet over the captured device and
 * ends tcpdump only once the marker is in the file: all earlier packets are before it.
 */
import { randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { ADDRESSES, type Place, type Topology } from './topology.ts';
import type { Running } from './process.ts';
import { waitFor } from './wait.ts';

export interface CaptureOptions {
  /** Whole frames, needed to verify checksums; only sensible with offload off. Else the headers alone are kept. */
  readonly full?: boolean;
  /** A pcap filter; default all of IPv4. */
  readonly filter?: string;
}

/** A place where packets can be seen: a device of a namespace and a neighbour reached over it. */
export interface Tap {
  readonly place: Place;
  readonly device: string;
  readonly neighbour: string;
}

export const TAPS = {
  /** The gateway's device towards the peer: exactly what the gateway received from and sent to the peer. */
  gwPeer: { place: 'gw', device: 'up0', neighbour: ADDRESSES.peer },
  gwA: { place: 'gw', device: 'ha0', neighbour: ADDRESSES.a },
  gwB: { place: 'gw', device: 'hb0', neighbour: ADDRESSES.b },
  /** The peer's own device: what arrived there, and what it sent that was not lost. */
  peer: { place: 'peer', device: 'eth0', neighbour: ADDRESSES.gwPeer },
} as const satisfies Record<string, Tap>;

/** Ethernet, IPv4 and TCP headers with all options are at most 134 bytes. */
const SNAP_HEADERS = 160;
const SNAP_FULL = 2048;
const RING_KIB = 32 * 1024;
const MARKER_PORT = 9;
const MARKER_REPEAT_MS = 100;

export class Capture {
  readonly file: string;
  readonly #topology: Topology;
  readonly #tap: Tap;
  readonly #tcpdump: Running;
  #stopping: Promise<string> | undefined;

  /** Use {@link Capture.start}. */
  private constructor(topology: Topology, tap: Tap, options: CaptureOptions) {
    this.#topology = topology;
    this.#tap = tap;
    this.file = topology.path(`${tap.place}-${tap.device}-${randomBytes(3).toString('hex')}.pcap`);
    const filter = options.filter === undefined ? 'ip' : `(${options.filter}) or (udp dst port ${MARKER_PORT})`;
    this.#tcpdump = topology.spawn(tap.place, [
      'tcpdump',
      ...['-i', tap.device, '-w', this.file, '-n', '-p', '-Z', 'root'],
      ...['-s', String(options.full === true ? SNAP_FULL : SNAP_HEADERS), '-B', String(RING_KIB)],
      ...['--immediate-mode', '--packet-buffered', '--time-stamp-precision=nano'],
      filter,
    ]);
  }

  static async start(topology: Topology, tap: Tap, options: CaptureOptions = {}): Promise<Capture> {
    const capture = new Capture(topology, tap, options);
    const tcpdump = capture.#tcpdump;
    await waitFor(() => !tcpdump.running || tcpdump.stderr.includes('listening on'), {
      what: `tcpdump on ${tap.place} ${tap.device}`,
      explain: () => tcpdump.describe(),
    });
    if (!tcpdump.running) throw new Error(tcpdump.describe());
    return capture;
  }

  /** Ends the capture and returns the file. Fails when a packet is missing from it. Later calls return the same. */
  stop(): Promise<string> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<string> {
    await this.#throughMarker();
    this.#tcpdump.signal('SIGINT');
    await this.#tcpdump.done(10_000);
    const said = this.#tcpdump.stderr;
    for (const by of ['kernel', 'interface']) {
      const dropped = new RegExp(`(\\d+) packets? dropped by ${by}`).exec(said)?.[1] ?? (by === 'kernel' ? '?' : '0');
      if (dropped !== '0') throw new Error(`${this.file}: ${dropped} packets dropped by the ${by}\n${said}`);
    }
    return this.file;
  }

  async #throughMarker(): Promise<void> {
    const marker = randomBytes(12).toString('hex');
    await using file = await open(this.file, 'r');
    let offset = (await file.stat()).size;
    let window: Buffer = Buffer.alloc(0);
    let sentAt = -Infinity;
    await waitFor(
      async () => {
        if (performance.now() - sentAt > MARKER_REPEAT_MS) {
          sentAt = performance.now();
          await this.#sendMarker(marker);
        }
        const chunk = Buffer.alloc(1024 * 1024);
        for (;;) {
          const { bytesRead } = await file.read(chunk, 0, chunk.length, offset);
          if (bytesRead === 0) return false;
          offset += bytesRead;
          window = Buffer.concat([window, chunk.subarray(0, bytesRead)]);
          if (window.includes(marker)) return true;
          window = window.subarray(-marker.length);
        }
      },
      { what: `the end marker in ${this.file}`, explain: () => this.#tcpdump.describe() },
    );
  }

  /** A UDP datagram to the discard port of the neighbour, by a program that is not ours. */
  async #sendMarker(marker: string): Promise<void> {
    const script = `printf %s ${marker} >/dev/udp/${this.#tap.neighbour}/${MARKER_PORT}`;
    await this.#topology.run(this.#tap.place, ['bash', '-c', script]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopping === undefined) await this.#tcpdump.stop();
  }
}

/** Files of one run, as the checker takes them. */
export interface BothSides {
  readonly peer: string;
  readonly a: string;
  readonly b: string;
}

/** Captures on both sides of the gateway: towards the peer and towards either host. */
export class BothSidesCapture {
  readonly #captures: { readonly peer: Capture; readonly a: Capture; readonly b: Capture };

  private constructor(peer: Capture, a: Capture, b: Capture) {
    this.#captures = { peer, a, b };
  }

  static async start(topology: Topology, options: CaptureOptions = {}): Promise<BothSidesCapture> {
    const [peer, a, b] = await Promise.all([
      Capture.start(topology, TAPS.gwPeer, options),
      Capture.start(topology, TAPS.gwA, options),
      Capture.start(topology, TAPS.gwB, options),
    ]);
    return new BothSidesCapture(peer, a, b);
  }

  async stop(): Promise<BothSides> {
    const { peer, a, b } = this.#captures;
    const [peerFile, aFile, bFile] = await Promise.all([peer.stop(), a.stop(), b.stop()]);
    return { peer: peerFile, a: aFile, b: bFile };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { peer, a, b } = this.#captures;
    await Promise.all([peer, a, b].map(async (capture) => capture[Symbol.asyncDispose]()));
  }
}

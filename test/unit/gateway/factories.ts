/** Gateways whose flow is in a given state (the factories of the test language). */
import { Bench } from './lang.ts';
import type { BenchOptions, Leg } from './lang.ts';

/** The peer has connected to the guest's listener on leg a; nothing else has happened. */
export function established(options: BenchOptions = {}): Bench {
  const t = new Bench(options);
  t.firstSocket = { ...t.sockets.a };
  t.fromPeer({ flags: 'S', win: 64_000 });
  t.fromGuest('a', { flags: 'SA', win: 65_000 });
  t.fromPeer({ seq: 0, ack: 0 });
  t.drain();
  return t;
}

/** The guest has connected to the peer. */
export function connected(options: BenchOptions = {}): Bench {
  const t = new Bench({ publish: false, ...options });
  t.firstSocket = { ...t.sockets.a };
  t.ports = { guest: 5000, peer: 443, outside: 5000 };
  t.fromGuest('a', { flags: 'S', win: 65_000 });
  t.fromPeer({ flags: 'SA', win: 64_000 });
  t.fromGuest('a', { seq: 0, ack: 0 });
  t.drain();
  return t;
}

/** Established; then `out` bytes went to the peer and were acknowledged, and `in` bytes came and were. */
export function talked(out: number, into: number, options: BenchOptions = {}): Bench {
  const t = established(options);
  for (let at = 0; at < out; at += 1448) {
    const len = Math.min(1448, out - at);
    t.fromGuest('a', { seq: at, len });
    t.fromPeer({ ack: at + len });
  }
  for (let at = 0; at < into; at += 1448) {
    const len = Math.min(1448, into - at);
    t.fromPeer({ seq: at, ack: out, len });
    t.fromGuest('a', { seq: out, ack: at + len });
  }
  t.drain();
  return t;
}

export function frozen(t: Bench = established()): Bench {
  t.freeze();
  t.drain();
  return t;
}

/** Frozen and exported at K = `received`. */
export function cutAt(received: number, t: Bench = frozen()): Bench {
  const result = t.export(received);
  if (!result.settled) throw new Error(result.reasons.join());
  t.drain();
  return t;
}

/** Exported, and the next socket has made its handshake on a leg. */
export function attached(leg: Leg, received: number, t: Bench = frozen()): Bench {
  cutAt(received, t);
  t.attach(leg);
  handshake(leg, received, t);
  t.drain();
  return t;
}

/** The next socket connects, as `wasi-sock` has it do. */
export function handshake(leg: Leg, received: number, t: Bench): void {
  t.fromGuest(leg, { flags: 'S', win: 64_240 });
  t.fromGuest(leg, { seq: t.sockets[leg].base, ack: received });
}

/** Moved to leg b: the new socket is the flow's. */
export function spliced(received = 0, t: Bench = frozen(), leg: Leg = 'b'): Bench {
  attached(leg, received, t);
  t.commit();
  t.drain();
  return t;
}

/** Moves the running guest to a leg, with K as the gateway knows it. */
export function move(t: Bench, leg: Leg, isn: number): void {
  t.freeze();
  const received = Math.max(
    0,
    Math.min(t.f.rcvNxt[t.slot()]!, t.f.inFin[t.slot()]! < 0 ? Infinity : t.f.inFin[t.slot()]!),
  );
  t.sockets[leg].isn = isn;
  attached(leg, received, t);
  t.commit();
}

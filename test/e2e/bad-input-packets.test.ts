/**
 * Packets that nobody should send, into the gateway's TUN devices and over the wire: each is counted by its reason and dropped, the
 * pump lives, and connections whose ports and addresses they bear notice nothing.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Busy } from '../support/busy.ts';
import { ACK, FIN, PSH, RST, SYN } from '../support/fields.ts';
import { Hosts } from '../support/hosts.ts';
import { PeerDriver } from '../support/peer-driver.ts';
import { Injector, icmp, ipv4, tcp, udp, type Ends } from '../support/packets.ts';
import { ADDRESSES } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

const URG = 0x20;
/** Of each kind, so that one that is counted by chance does not pass. */
const COPIES = 3;
const DATA = Buffer.from('bytes that must never arrive');

/** Everything that is wrong before anybody looks at ports, by the reason it is counted under. */
function malformed(ends: Ends): Record<string, Buffer[]> {
  const good = { flags: ACK | PSH, data: DATA };
  const option = (...options: number[]): Buffer => tcp(ends, { ...good, options });
  return {
    truncated: [
      tcp(ends, good).subarray(0, 1),
      tcp(ends, good).subarray(0, 19),
      tcp(ends, good).subarray(0, -1),
      ipv4(ends, 6, Buffer.alloc(19)),
    ],
    ipv6: [tcp(ends, good, { version: 6 })],
    'bad-version': [tcp(ends, good, { version: 0 }), tcp(ends, good, { version: 15 })],
    'bad-header-length': [tcp(ends, good, { headerLength: 0 }), tcp(ends, good, { headerLength: 4 })],
    'bad-total-length': [
      tcp(ends, good, { totalLength: 0 }),
      tcp(ends, good, { totalLength: 19 }),
      tcp(ends, { flags: ACK }, { headerLength: 15 }),
    ],
    'bad-ip-checksum': [tcp(ends, good, { checksum: 0x1234 })],
    fragment: [tcp(ends, good, { fragment: 0x2000 }), tcp(ends, good, { fragment: 0x0001 })],
    'unsupported-protocol': [tcp(ends, good, { protocol: 47 }), tcp(ends, good, { protocol: 0 })],
    'bad-tcp-offset': [0, 4, 15].map((offset) => tcp(ends, { flags: ACK, offset })),
    'bad-tcp-options': [
      option(8, 0),
      option(8, 1),
      option(1, 1, 1, 8),
      option(8, 10, 0, 0),
      option(2, 3, 5),
      option(3, 2),
      option(5, 3, 0),
      option(4, 3, 0),
    ],
    'bad-tcp-flags': [0, FIN, PSH | URG, SYN | FIN, SYN | RST, SYN | FIN | ACK, SYN | RST | ACK].map((flags) =>
      tcp(ends, { ...good, flags }),
    ),
    'bad-l4-checksum': [tcp(ends, { ...good, wrong: 1 }), tcp(ends, { flags: RST, wrong: 0x100 })],
    'bad-udp-length': [udp(ends, DATA, 7), udp(ends, DATA, 0), udp(ends, DATA, 9 + DATA.length)],
    'bad-icmp-length': [icmp(ends, [8, 0, 0, 0]), icmp(ends, [3, 4, 0, 0, 0, 0, 0])],
  };
}

describe('malformed packets', { timeout: 300_000 }, () => {
  let hosts: Hosts;
  let busy: Busy;
  /** A connection of the guest, as the peer and as the guest sends on it. */
  let toGuest: Ends;
  let toPeer: Ends;
  before(async () => {
    hosts = await Hosts.up();
    busy = await Busy.start(hosts, new PeerDriver(hosts.topology));
    // Spliced, so that the gateway speaks in it and answers for it.
    await busy.guest.move();
    await busy.isAt('b', 2);
    const [flow] = await busy.guest.flows();
    assert.ok(flow !== undefined);
    toGuest = { from: flow.peer, to: flow.outside };
    toPeer = { from: flow.guest, to: flow.peer };
  });
  after(() => hosts[Symbol.asyncDispose]());

  /** Sends packets of many kinds, some copies of each, and waits until each has been counted under its reason. */
  async function dropped(injector: Injector, kinds: Readonly<Record<string, readonly Buffer[]>>): Promise<void> {
    const earlier = (await hosts.gateway.status()).drops;
    const all = Object.values(kinds).flat();
    for (let copy = 0; copy < COPIES; copy++) await injector.send(all);
    const expected = Object.fromEntries(Object.entries(kinds).map(([kind, list]) => [kind, COPIES * list.length]));
    const counted = async (): Promise<Record<string, number>> => {
      const { drops } = await hosts.gateway.status();
      return Object.fromEntries(Object.keys(kinds).map((kind) => [kind, (drops[kind] ?? 0) - (earlier[kind] ?? 0)]));
    };
    await waitFor(async () => Object.entries(await counted()).every(([kind, n]) => n >= (expected[kind] ?? 0)), {
      what: 'all of them to be counted',
      explain: async () => JSON.stringify({ expected, counted: await counted() }),
    });
    assert.deepEqual(await counted(), expected);
    await busy.isAt('b', 2);
  }

  async function tun(name: string): Promise<Injector> {
    const { body } = await hosts.gateway.get('/v1/status');
    const { outside, legs } = body as { outside: { tun: string }; legs: { name: string; tun: string }[] };
    const device = name === 'outside' ? outside.tun : legs.find((leg) => leg.name === name)?.tun;
    assert.ok(device !== undefined);
    return await Injector.of(hosts.topology, 'gw', device);
  }

  test('S24: from outside, of every kind', async () => {
    await dropped(await tun('outside'), {
      ...malformed(toGuest),
      'not-our-address': [tcp({ ...toGuest, to: '10.77.1.99:80' }, { flags: SYN })],
      icmp: [icmp(toGuest, [3, 1, 0, 0, 0, 0, 0, 0]), icmp(toGuest, [8, 0, 0, 0, 0, 1, 0, 1])],
    });
  });

  test('S24: from a host, of every kind', async () => {
    await dropped(await tun('b'), {
      ...malformed(toPeer),
      'unknown-guest': [tcp({ ...toPeer, from: '100.64.99.99:80' }, { flags: SYN })],
      hairpin: [tcp({ ...toPeer, to: `${ADDRESSES.outside}:80` }, { flags: SYN })],
    });
  });

  test('S40: from a host that has not the guest’s epoch', async () => {
    const own = [{ flags: ACK, data: DATA }, { flags: FIN | ACK }, { flags: RST }, { flags: SYN }];
    await dropped(await tun('a'), { 'fenced-epoch': own.map((fields) => tcp(toPeer, fields)) });
  });

  test('over the wire, what routers let through', async () => {
    const injector = await Injector.of(hosts.topology, 'peer', 'eth0', ADDRESSES.outside);
    const kinds = Object.entries(malformed(toGuest)).filter(([kind]) => /^bad-(tcp|udp|icmp|l4)|^unsupp/.test(kind));
    await dropped(injector, Object.fromEntries(kinds));
  });

  test('S33: forged segments of a connection, from outside', async () => {
    const [flow] = await busy.guest.flows();
    assert.ok(flow !== undefined);
    const { body } = await hosts.gateway.get(`/v1/flows/${flow.id}`);
    const { sequence } = body as { sequence: { peerIsn: number; peerNxt: number; guestIsn: number; sndUna: number } };
    const next = sequence.peerIsn + 1 + sequence.peerNxt;
    const ack = sequence.guestIsn + 1 + sequence.sndUna;
    const injector = await tun('outside');
    await injector.send([
      // Beyond the window, and just before it (RFC 5961 §3.2, §4.2, §5.2).
      tcp(toGuest, { flags: RST, seq: next + 0x4000_0000 }),
      tcp(toGuest, { flags: RST, seq: next - 1 }),
      tcp(toGuest, { flags: SYN, seq: next }),
      tcp(toGuest, { flags: SYN, seq: 12_345 }),
      tcp(toGuest, { flags: ACK, seq: next, ack: ack + 0x4000_0000, data: DATA }),
      tcp(toGuest, { flags: ACK, seq: next - 0x4000_0000, ack, data: DATA }),
      tcp(toGuest, { flags: FIN | ACK, seq: next + 0x2000_0000, ack }),
    ]);
    await busy.isAt('b', 2);
  });

  test('a thousand packets of noise', async () => {
    const injector = await tun('outside');
    let state = 1;
    const noise = Array.from({ length: 1000 }, (_, n) => {
      const packet = Buffer.alloc(20 + ((n * 37) % 1460));
      for (let at = 0; at < packet.length; at++) {
        state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
        packet[at] = state >>> 16;
      }
      // Half of them look like IPv4 of a sensible length, so that they get further.
      if (n % 2 === 0) return packet;
      const { from, to } = toGuest;
      return ipv4({ from, to }, [6, 17, 1][n % 3] ?? 6, packet.subarray(20));
    });
    await injector.send(noise);
    await busy.isAt('b', 2);
  });

  test('the pump is alive: the guest moves, and every byte has come', async () => {
    assert.match(await hosts.gateway.cli('status'), /^bad-tcp-options +\d+$/m);
    await busy.guest.move();
    await busy.isAt('a', 3);
    await busy.finish();
    assert.deepEqual(await hosts.harm(), {});
  });
});

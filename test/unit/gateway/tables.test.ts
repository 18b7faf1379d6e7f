/** Flow table, outside ports and guests against simple models; and that each finds itself again in an arena that was there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { createArena, openArena } from '../../../src/gateway/arena.ts';
import { TCP, UDP } from '../../../src/gateway/flow.ts';
import { FlowTable } from '../../../src/gateway/flow-table.ts';
import { GuestTable } from '../../../src/gateway/guests.ts';
import { listFlows, listGuests } from '../../../src/gateway/listing.ts';
import { PortMap } from '../../../src/gateway/nat.ts';

const LIMITS = { maxFlows: 24, maxGuests: 4, custodyBytes: 65536 };

type Key = { proto: number; guest: number; guestPort: number; outsidePort: number; peer: number; peerPort: number };
const GUEST = (guest: number): number => 0x64400000 + guest;
const guestKey = (k: Key): string => `${k.proto} ${k.guest} ${k.guestPort} ${k.peer} ${k.peerPort}`;
const outsideKey = (k: Key): string => `${k.proto} ${k.outsidePort} ${k.peer} ${k.peerPort}`;

const key: fc.Arbitrary<Key> = fc.record({
  proto: fc.constantFrom(TCP, UDP),
  guest: fc.nat(1),
  guestPort: fc.constantFrom(80, 81, 50_000),
  outsidePort: fc.constant(0),
  peer: fc.constantFrom(1, 0xffffffff, 0x80000000),
  peerPort: fc.constantFrom(1, 2, 65_535),
});

test('the flow table finds what was made and not removed, by both tuples, in any order', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ key, remove: fc.boolean() }), { maxLength: 120 }), (run) => {
      const arena = createArena(LIMITS);
      const table = new FlowTable(arena);
      const model = new Map<string, { key: Key; slot: number; id: number }>();
      let nextId = 1;
      for (const { key: drawn, remove } of run) {
        // The outside port follows from the guest's, as a mapping is endpoint-independent.
        const k = { ...drawn, outsidePort: drawn.guestPort + 1000 * drawn.guest };
        const known = model.get(guestKey(k));
        if (known !== undefined) {
          if (!remove) continue;
          table.remove(known.slot);
          model.delete(guestKey(k));
        } else {
          const slot = table.create(
            k.proto,
            k.guest,
            GUEST(k.guest),
            k.guestPort,
            k.outsidePort,
            k.peer,
            k.peerPort,
            5,
          );
          if (model.size === LIMITS.maxFlows) assert.equal(slot, -1);
          else {
            assert.ok(slot >= 0);
            model.set(guestKey(k), { key: k, slot, id: nextId++ });
          }
        }
        assert.equal(arena.gauges[2], model.size);
        const highest = Math.max(-1, ...[...model.values()].map(({ slot }) => slot));
        assert.equal(table.highWater, highest + 1);
      }
      const outside = new Map([...model.values()].map(({ key: k, slot }) => [outsideKey(k), slot]));
      for (const { key: k, slot, id } of model.values()) {
        assert.equal(table.findGuest(k.proto, GUEST(k.guest), k.guestPort, k.peer, k.peerPort), slot);
        assert.equal(table.findOutside(k.proto, k.outsidePort, k.peer, k.peerPort), outside.get(outsideKey(k)));
        assert.equal(arena.flows.flowId[slot], id);
      }
      assert.equal(table.findGuest(TCP, GUEST(0), 9999, 1, 1), -1);
      assert.equal(table.findOutside(TCP, 9999, 1, 1), -1);
      const names = { legs: ['a'], outsideAddress: '' };
      assert.deepEqual(
        listFlows(arena, names, {}).map(({ id }) => id),
        [...model.values()].map(({ id }) => id).sort((a, b) => a - b),
      );
    }),
    { numRuns: 200 },
  );
});

test('a slot that is used again has nothing of the flow before', () => {
  const arena = createArena(LIMITS);
  const table = new FlowTable(arena);
  const pristine = (): Record<string, number> => {
    const slot = table.create(TCP, 0, 1, 2, 3, 4, 5, 6);
    const { flowId: _, ...columns } = arena.flows;
    const values = Object.entries(columns).map(
      ([name, column]) => [name, column[slot * (column.length / 24)]!] as const,
    );
    const found = Object.fromEntries(values);
    for (const [name, column] of Object.entries(columns))
      if (name !== 'nextFree') column.fill(1, 0, column.length / 24);
    // As the context does it: custody first. Its chunks are not really taken here.
    arena.flows.rangeCount[slot] = 0;
    arena.flows.chunks.fill(0);
    arena.flows.ranges.fill(0);
    Object.assign(arena.flows, {});
    arena.flows.proto[slot] = TCP;
    arena.flows.guestAddress[slot] = 1;
    arena.flows.guestPort[slot] = 2;
    arena.flows.outsidePort[slot] = 3;
    arena.flows.peerAddress[slot] = 4;
    arena.flows.peerPort[slot] = 5;
    table.remove(slot);
    return found;
  };
  const first = pristine();
  assert.deepEqual(pristine(), first);
});

test('outside ports: kept where free, one for each port of a guest, counted back; against a map', () => {
  const action = fc.record({
    proto: fc.constantFrom(TCP, UDP),
    guest: fc.nat(2),
    port: fc.constantFrom(22, 1024, 5000, 5001, 65_535),
    release: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), (run) => {
      const arena = createArena(LIMITS);
      const ports = new PortMap(arena);
      const model = new Map<string, { outside: number; flows: number }>();
      const taken = (proto: number, outside: number): boolean =>
        [...model].some(([name, known]) => name.startsWith(`${proto} `) && known.outside === outside);
      for (const { proto, guest, port, release } of run) {
        const name = `${proto} ${guest} ${port}`;
        const known = model.get(name);
        if (release) {
          if (known === undefined) continue;
          ports.release(proto, guest, port);
          if (--known.flows === 0) model.delete(name);
          continue;
        }
        const outside = ports.acquire(proto, guest, port);
        if (known !== undefined) {
          assert.equal(outside, known.outside);
          known.flows++;
          continue;
        }
        if (!taken(proto, port)) assert.equal(outside, port);
        else assert.ok(outside >= 1024 && outside <= 65_535);
        assert.ok(!taken(proto, outside));
        model.set(name, { outside, flows: 1 });
      }
      assert.equal([...arena.portKind].filter((kind) => kind !== 0).length, model.size);
      for (const [name, { outside }] of model) assert.equal(ports.isFree(Number(name.split(' ')[0]), outside), false);
    }),
    { numRuns: 40 },
  );
});

test('published ports lead to their guest, also as the source of what it opens, and go with it', () => {
  const arena = createArena(LIMITS);
  const ports = new PortMap(arena);
  assert.ok(ports.publish(TCP, 8080, 1, 80));
  assert.ok(ports.publish(TCP, 9090, 1, 80));
  assert.ok(ports.publish(UDP, 8080, 2, 80));
  assert.equal(ports.publish(TCP, 8080, 2, 81), false);
  assert.deepEqual([ports.publishedGuest(TCP, 8080), ports.publishedPort(TCP, 8080)], [1, 80]);
  assert.equal(ports.publishedGuest(UDP, 8080), 2);
  assert.equal(ports.publishedGuest(TCP, 80), -1);
  // Of two, the last is what it opens from.
  assert.equal(ports.acquire(TCP, 1, 80), 9090);
  assert.equal(ports.acquire(TCP, 3, 8080) !== 8080, true);
  ports.unpublish(1);
  assert.equal(ports.publishedGuest(TCP, 8080), -1);
  assert.ok(ports.isFree(TCP, 8080));
  assert.ok(!ports.isFree(TCP, 9090), 'a flow that still ends has it');
  ports.release(TCP, 1, 80);
  assert.ok(ports.isFree(TCP, 9090));
  assert.ok(!ports.isFree(UDP, 8080));
});

test('every outside port taken: no more connections, until one is given back', () => {
  const arena = createArena(LIMITS);
  const ports = new PortMap(arena);
  arena.portKind.fill(1, 1024, 65_536);
  assert.equal(ports.acquire(TCP, 0, 5000), -1);
  assert.equal(ports.acquire(TCP, 0, 80), 80, 'a low port only for itself');
  arena.portKind[40_000] = 0;
  assert.equal(ports.acquire(TCP, 0, 5000), 40_000);
});

test('guests: by id and address, slots used again, names cut to their room', () => {
  const arena = createArena(LIMITS);
  const guests = new GuestTable(arena);
  const id = (n: number): string => `00000000-0000-4000-8000-00000000000${n}`;
  const slots = [0, 1, 2, 3].map((n) => guests.add(id(n), `guest ${n}`.repeat(20), 100 + n, 0));
  assert.deepEqual(slots, [0, 1, 2, 3]);
  assert.equal(guests.add(id(4), 'x', 104, 0), undefined);
  guests.remove(1);
  assert.equal(guests.find(id(1)), undefined);
  assert.equal(guests.byAddress(101), undefined);
  assert.equal(guests.add(id(4), 'x', 104, 1), 1);
  assert.equal(guests.find(id(4)), 1);
  assert.equal(guests.byAddress(104), 1);
  assert.equal(arena.gauges[7], 4);
});

test('a pump that starts over an arena that was there finds guests, ports and flows again', () => {
  const arena = createArena(LIMITS);
  const guests = new GuestTable(arena);
  const ports = new PortMap(arena);
  const table = new FlowTable(arena);
  const slot = guests.add('00000000-0000-4000-8000-000000000001', 'x', 100, 0) ?? -1;
  ports.publish(TCP, 8080, slot, 80);
  for (const peer of [1, 2]) {
    const outside = ports.acquire(TCP, slot, 5000);
    table.create(TCP, slot, 100, 5000, outside, peer, 443, 0);
  }
  const again = openArena(arena.buffer);
  const guestsAgain = new GuestTable(again);
  const portsAgain = new PortMap(again);
  const tableAgain = new FlowTable(again);
  assert.equal(guestsAgain.find('00000000-0000-4000-8000-000000000001'), slot);
  assert.equal(guestsAgain.byAddress(100), slot);
  assert.equal(portsAgain.publishedGuest(TCP, 8080), slot);
  assert.equal(portsAgain.acquire(TCP, slot, 80), 8080);
  assert.ok(tableAgain.findOutside(TCP, 5000, 2, 443) >= 0);
  portsAgain.release(TCP, slot, 5000);
  assert.ok(!portsAgain.isFree(TCP, 5000), 'two flows use it');
  portsAgain.release(TCP, slot, 5000);
  assert.ok(portsAgain.isFree(TCP, 5000));
});

test('guests are listed with the ports and flows that are theirs, and read the port table once for all of them', () => {
  const arena = createArena({ ...LIMITS, maxGuests: 64 });
  const guests = new GuestTable(arena);
  const ports = new PortMap(arena);
  const table = new FlowTable(arena);
  const id = (n: number): string => `00000000-0000-4000-8000-0000000000${n + 10}`;
  for (let n = 0; n < 40; n++) {
    const slot = guests.add(id(n), `g${n}`, 100 + n, 0) ?? -1;
    ports.publish(UDP, 3000 + n, slot, 53);
    if (n % 2 === 0) ports.publish(TCP, 2000 + n, slot, 80);
    for (let flow = 0; flow < n % 3 && n < 12; flow++)
      table.create(TCP, slot, 100 + n, 5000, ports.acquire(TCP, slot, 5000), flow, 443, 0);
  }
  let reads = 0;
  const portKind = new Proxy(arena.portKind, {
    get(kinds, at) {
      if (typeof at === 'string' && /^\d+$/.test(at)) reads++;
      const value: unknown = Reflect.get(kinds, at, kinds);
      return value;
    },
  });
  const listed = listGuests({ ...arena, portKind }, ['a']);
  assert.equal(reads, 2 * 65_536);
  const expected = Array.from({ length: 40 }, (_, n) => ({
    name: `g${n}`,
    publish: [
      ...(n % 2 === 0 ? [{ proto: 'tcp', outsidePort: 2000 + n, guestPort: 80 }] : []),
      { proto: 'udp', outsidePort: 3000 + n, guestPort: 53 },
    ],
    flows: n < 12 ? n % 3 : 0,
  }));
  assert.deepEqual(
    listed.map(({ name, publish, flows }) => ({ name, publish, flows })),
    expected,
  );
});

test('what a guest published is withdrawn by a pump that started later, and may be published again', () => {
  const arena = createArena(LIMITS);
  const before = new PortMap(arena);
  before.publish(TCP, 8080, 1, 80);
  before.publish(UDP, 8080, 1, 80);
  before.publish(TCP, 9090, 2, 80);
  const ports = new PortMap(arena);
  ports.unpublish(1);
  assert.deepEqual([ports.isFree(TCP, 8080), ports.isFree(UDP, 8080), ports.isFree(TCP, 9090)], [true, true, false]);
  assert.ok(ports.publish(TCP, 8080, 2, 81));
  ports.unpublish(1);
  assert.equal(ports.publishedGuest(TCP, 8080), 2);
  ports.unpublish(2);
  assert.ok(ports.isFree(TCP, 8080) && ports.isFree(TCP, 9090));
});

test('a memory that is no arena is refused', () => {
  assert.throws(() => openArena(new SharedArrayBuffer(1024)), /not an arena/);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from 'cborg';
import fc from 'fast-check';
import { KedgeError } from '../../../src/errors.ts';
import { parseSavedSockets } from '../../../src/wasi-sock/saved.ts';
import { SHUT } from '../../../src/wasi-sock/tcp.ts';
import { SocketTable } from '../../../src/wasi-sock/table.ts';
import { Peer, at, flow, guest, listener, ok, openFds, streamOf, text, until } from './support.ts';

/** An image's sockets with one of each kind. */
function sample(): { saved: unknown; address: number } {
  using g = guest();
  const { handle, port } = listener(g);
  using first = new Peer().connect(at(g.address, port));
  const conn = ok(g.table.accept(handle));
  using second = new Peer().connect(at(g.address, port));
  using third = new Peer().connect(at(g.address, port));
  first.send(text('inbound'));
  g.table.send(conn, [text('outbound')]);
  g.table.setOption(conn, 'noDelay', 1);
  g.table.shutdown(conn, SHUT.WRITE);
  const bound = ok(g.table.open('tcp'));
  g.table.bind(bound, at(g.address, 0));
  const udp = ok(g.table.open('udp'));
  g.table.bind(udp, at(g.address, 0));
  const ended = ok(g.table.accept(handle));
  assert.equal(streamOf(ended).remote.port, second.port);
  g.table.send(ended, [text('bye')]);
  g.table.close(ended);
  until(() => g.table.drain().connections.some(({ received }) => received === 7), 'drained');
  const reports = [
    flow(g.address, port, first, { acked: 2, received: 7 }),
    flow(g.address, port, second, { acked: 0, received: 0 }),
    flow(g.address, port, third, { acked: 0, received: 0 }),
  ];
  return { saved: decode(encode(g.table.save(reports))), address: g.address };
}

test('what was saved reads back as it was', () => {
  const { saved } = sample();
  const parsed = parseSavedSockets(saved);
  assert.deepEqual(parsed, saved);
  assert.deepEqual(encode(parsed), encode(saved), 'plain data, the same bytes');
});

test('a newer version is refused by name', () => {
  const { saved } = sample();
  assert.throws(() => parseSavedSockets({ ...(saved as object), version: 2 }), { code: 'KEDGE_IMAGE_VERSION' });
});

/** All places of a structure, as paths. */
function places(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => places(inner, [...path, key]))];
}

/** A copy with one place replaced. */
function withPlace(value: unknown, [key, ...rest]: readonly (string | number)[], other: unknown): unknown {
  if (key === undefined) return other;
  const copy = Array.isArray(value) ? [...(value as unknown[])] : { ...(value as object) };
  const fields = copy as Record<string | number, unknown>;
  fields[key] = withPlace(fields[key], rest, other);
  return copy;
}

test('anything else in an image is an error with a code, and opens nothing', () => {
  const { saved } = sample();
  const all = places(saved);
  using g = guest();
  const before = openFds();
  const nonsense = fc.oneof(
    fc.constantFrom(undefined, null, -1, 1.5, 2 ** 60, NaN, '', 'open', true, [], {}, new Uint8Array(3)),
    fc.integer(),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.constantFrom(...all), nonsense, (path, other) => {
      try {
        parseSavedSockets(withPlace(saved, path, other));
      } catch (error) {
        assert.ok(error instanceof KedgeError && error.code.startsWith('KEDGE_IMAGE_'), String(error));
      }
    }),
    { numRuns: 2000 },
  );
  assert.throws(() => SocketTable.restore(g.host, withPlace(saved, ['guestAddress'], g.address), []), {
    code: 'KEDGE_IMAGE_INVALID',
    message: /is bound to/u,
  });
  assert.equal(openFds(), before);
});

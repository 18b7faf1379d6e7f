/** What tests of moves have in common. */
import assert from 'node:assert/strict';
import { decode, encode } from 'cborg';
import type { FlowReport } from '../../../src/wasi-sock/save.ts';
import type { SavedSockets } from '../../../src/wasi-sock/saved.ts';
import { Peer, at, listener, ok } from './support.ts';
import type { Guest } from './support.ts';

/** As the image carries it. */
export function carried(saved: SavedSockets): unknown {
  return decode(encode(saved));
}

/** A guest with one connection that its listener has accepted. */
export function accepted(g: Guest, receiveBuffer = 0) {
  const { handle, port } = listener(g);
  const peer = new Peer().connect(at(g.address, port), receiveBuffer);
  const conn = ok(g.table.accept(handle));
  return { handle, port, peer, conn };
}

/** The handle of the same id after a move. */
export function same(g: Guest, { id }: { readonly id: number }) {
  const handle = g.table.handle(id);
  assert.ok(handle !== undefined);
  return handle;
}

/** Drains and saves with these flows, and moves; the peer reads what is left of its old connection before the attach. */
export function move(g: Guest, peer: Peer, exported: FlowReport[], attached: () => FlowReport[]): void {
  const saved = carried(g.table.save(exported));
  g.table.destroy();
  peer.readAll();
  peer.reset();
  peer.listen();
  g.move(saved, attached());
}

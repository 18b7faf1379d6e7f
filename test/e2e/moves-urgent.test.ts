/** A peer that marks bytes urgent (RFC 6093): they are bytes of the stream as any other, wherever its guest is. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../support/process.ts';
import { useScene } from '../support/scene.ts';
import { ADDRESSES, PROJECT } from '../support/topology.ts';
import { waitFor } from '../support/wait.ts';

let program: string;
const scene = useScene({
  ready: async ({ topology }) => {
    program = topology.path('urgent');
    const source = join(PROJECT, 'test', 'support', 'urgent.c');
    await run(['cc', '-O1', '-Wall', '-Wextra', '-Werror', '-o', program, source]);
  },
});

test('S22: bytes marked urgent stay in the stream, before, during and after moves', { timeout: 120_000 }, async () => {
  const { topology } = scene.hosts;
  const guest = await scene.hosts.run('stream', { publish: true });
  const peer = topology.spawn('peer', [program, ADDRESSES.outside, String(guest.port)]);
  let echoed = '';
  /** Sends a line, whose last byte is urgent. */
  const mark = (line: string): void => {
    echoed += `${line}\n`;
    peer.child.stdin.write(`!${line}\n`);
  };
  const heard = async (): Promise<void> => {
    await waitFor(() => peer.stdout.length >= echoed.length, { what: 'the echo', explain: () => peer.describe() });
    assert.equal(peer.stdout, echoed);
  };
  peer.child.stdin.write('ECHO\n');
  await guest.untilFlow(({ sequence }) => sequence.rcvNxt === 'ECHO\n'.length);
  mark('before');
  await heard();
  await guest.move();
  mark('after a move');
  await heard();
  await guest.frozenDuring(async () => {
    mark('while it is frozen');
    await guest.untilFlow(({ custodyBytes }) => custodyBytes > 0);
  });
  await heard();
  mark('at last');
  await heard();
  peer.child.stdin.end();
  await peer.done();
  assert.equal(peer.stdout, echoed);
  await scene.noHarm();
});

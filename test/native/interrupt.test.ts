import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { once } from 'node:events';
import { native, NO_WAKE, TCP_STATE, type SocketFd } from '../../src/native.ts';
import { Blocker, type Call } from './support/blocker.ts';
import {
  close,
  connect,
  connected,
  datagrams,
  fails,
  listener,
  ok,
  openDescriptors,
  PATIENCE,
} from './support/sockets.ts';

const ROUNDS = 10_000;

/** A listener whose queue of connections is full: further SYNs are dropped, so attempts hang. */
function deafListener(): { port: number; dispose: () => void } {
  const { fd, name } = listener(0);
  const first = connect(name);
  const pending = ok(native.sockOpen(true));
  fails(native.sockConnectStart(pending, name.address, name.port), 'EINPROGRESS');
  return {
    port: name.port,
    dispose: () => {
      close(fd, first, pending);
    },
  };
}

test('each blocked call is interrupted at once, consumes nothing and can be issued again', async () => {
  const wake = ok(native.wakeCreate());
  const { client, server } = connected();
  const { fd: listening, name } = listener();
  const udp = datagrams();
  const full = connected();
  const data = new Uint8Array(1 << 20);
  // With a fixed size (SO_SNDBUF of SOL_SOCKET) the kernel does not make more room later. Full is what stays full: it moves
  // bytes on for a moment, and fills up what it has begun.
  ok(native.sockSetInt(full.client, 1, 7, 65_536));
  while (native.sockSend(full.client, data, 0, data.length, NO_WAKE, 50) > 0);

  const cases: [Call, () => void, expected: (result: number) => void][] = [
    [
      { kind: 'recv', fd: server, wake },
      () => native.sockSend(client, data, 0, 3, NO_WAKE, -1),
      (n) => {
        assert.equal(n, 3);
      },
    ],
    [
      { kind: 'poll', fd: server, wake },
      () => native.sockSend(client, data, 0, 3, NO_WAKE, -1),
      (n) => {
        assert.equal(n, 1);
      },
    ],
    [
      { kind: 'accept', fd: listening, wake },
      () => {
        close(connect(name));
      },
      (fd) => {
        assert.ok(fd > 2);
      },
    ],
    [
      { kind: 'recvFrom', fd: udp.fd, wake },
      () => native.sockSendTo(udp.fd, data, 0, 9, udp.name.address, udp.name.port, NO_WAKE, -1),
      (n) => {
        assert.equal(n, 9);
      },
    ],
    [
      { kind: 'send', fd: full.client, wake },
      () => {
        while (native.sockRecv(full.server, data, 0, data.length, false, NO_WAKE, 100) > 0);
      },
      (n) => {
        assert.equal(n, 64);
      },
    ],
  ];
  for (const [call, makeReady, expect] of cases) {
    await using blocker = await Blocker.start(call);
    blocker.beginBlocked();
    const start = performance.now();
    ok(native.wakeSignal(wake));
    fails(blocker.result(), 'EINTR');
    assert.ok(performance.now() - start < 500, `${call.kind}: at once`);

    // While it is signalled, even what is ready is left alone.
    makeReady();
    blocker.begin();
    fails(blocker.result(), 'EINTR');

    ok(native.wakeClear(wake));
    blocker.begin();
    expect(blocker.result());
  }
  close(client, server, listening, udp.fd, full.client, full.server, wake);
});

test('a connection attempt is interrupted and goes on', async () => {
  const wake = ok(native.wakeCreate());
  const deaf = deafListener();
  const fd = ok(native.sockOpen(true));
  fails(native.sockConnectStart(fd, 0x7f000001, deaf.port), 'EINPROGRESS');
  await using blocker = await Blocker.start({ kind: 'connectWait', fd, wake });
  blocker.beginBlocked();
  ok(native.wakeSignal(wake));
  fails(blocker.result(), 'EINTR');
  assert.equal(native.sockTcpState(fd), TCP_STATE.SYN_SENT);
  fails(native.sockConnectWait(fd, NO_WAKE, 1), 'EAGAIN');
  deaf.dispose();
  close(fd, wake);
});

test(`${ROUNDS} interrupted accepts and connects leave no descriptor behind`, async () => {
  const wake = ok(native.wakeCreate());
  const { fd, name } = listener();
  const deaf = deafListener();
  for (const call of [
    { kind: 'accept', fd, wake },
    { kind: 'connect', port: deaf.port, wake },
  ] satisfies Call[]) {
    await using blocker = await Blocker.start(call);
    const before = openDescriptors();
    for (let round = 0; round < ROUNDS; round++) {
      blocker.begin();
      ok(native.wakeSignal(wake));
      fails(blocker.result(), 'EINTR');
      ok(native.wakeClear(wake));
    }
    assert.equal(openDescriptors(), before, call.kind);
  }
  // The listener still works.
  const client = connect(name);
  close(ok(native.sockAccept(fd, NO_WAKE, PATIENCE, new Uint32Array(2))), client, fd, wake);
  deaf.dispose();
});

test('a race of connections and interruptions loses no connection', async () => {
  const wake = ok(native.wakeCreate());
  const { fd, name } = listener(256);
  await using blocker = await Blocker.start({ kind: 'accept', fd, wake });
  const before = openDescriptors();
  const clients = [];
  const accepted: SocketFd[] = [];
  let interrupted = 0;
  for (let round = 0; round < 200; round++) {
    blocker.begin();
    // Either order, without waiting: both are there when the worker looks, or one, or none yet.
    if (round % 2 === 0) ok(native.wakeSignal(wake));
    clients.push(connect(name));
    if (round % 2 === 1) ok(native.wakeSignal(wake));
    const result = blocker.result();
    if (result >= 0) accepted.push(result as SocketFd);
    else interrupted++;
    ok(native.wakeClear(wake));
  }
  for (let rest = 0; rest < interrupted; rest++) accepted.push(ok(native.sockAccept(fd, wake, 0, new Uint32Array(2))));
  assert.equal(accepted.length, clients.length);
  fails(native.sockAccept(fd, wake, 0, new Uint32Array(2)), 'EAGAIN');
  close(...clients, ...accepted);
  assert.equal(openDescriptors(), before);
  close(fd, wake);
});

test('one signal stops workers blocked in different calls', async () => {
  const wake = ok(native.wakeCreate());
  const { client, server } = connected();
  const { fd } = listener();
  await using reader = await Blocker.start({ kind: 'recv', fd: server, wake });
  await using acceptor = await Blocker.start({ kind: 'accept', fd, wake });
  reader.begin();
  acceptor.beginBlocked();
  ok(native.wakeSignal(wake));
  fails(reader.result(), 'EINTR');
  fails(acceptor.result(), 'EINTR');
  close(client, server, fd, wake);
});

test('the addon is loaded and left by many threads', async () => {
  const module = new URL('../../src/native.ts', import.meta.url).href;
  const source = `import(${JSON.stringify(module)}).then(({ native }) => {
    const fd = native.sockOpen(true);
    if (native.fdClose(fd) !== 0) throw new Error('close');
  });`;
  const before = openDescriptors();
  for (let batch = 0; batch < 3; batch++) {
    const workers = Array.from({ length: 4 }, () => new Worker(source, { eval: true }));
    const codes = await Promise.all(workers.map(async (worker) => (await once(worker, 'exit'))[0] as number));
    assert.deepEqual(codes, [0, 0, 0, 0]);
  }
  assert.equal(native.fdClose(ok(native.sockOpen(false))), 0, 'it still works here');
  assert.ok(openDescriptors() <= before + 2, 'threads take their descriptors along');
});

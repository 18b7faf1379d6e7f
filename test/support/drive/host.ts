/**
 * A host with one guest and no Wasm: drives `src/wasi-sock` and the gateway's client through the life of a guest, every step of a
 * move apart, so that a test can do something, or let something fail, between any two. Driven by ../host-driver.ts.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { decode, encode } from 'cborg';
import { GatewayClient } from '../../../src/gateway/admin/client.ts';
import type { AttachResult, ExportResult, Publish } from '../../../src/gateway/admin/schema.ts';
import { native } from '../../../src/native.ts';
import { parseIpv4 } from '../../../src/rewrite/numbers.ts';
import type { SocketHost } from '../../../src/wasi-sock/core.ts';
import { SocketTable } from '../../../src/wasi-sock/table.ts';
import { DrivenGuest, type GuestState } from './guest.ts';
import { serve } from './json-lines.ts';

interface Identity {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly epoch: number;
}

interface Image {
  readonly identity: Identity;
  readonly sockets: unknown;
  readonly guest: GuestState;
}

type Exported = Extract<ExportResult, { settled: true }>;

/** How often a drain may be asked for again. */
const MOST_EXPORTS = 100;
/** Without progress the guest looks again after this, milliseconds. */
const IDLE_MS = 1;
const SWEEP_MS = 50;

const [gatewaySocket = '', leg = ''] = process.argv.slice(2);
const gateway = new GatewayClient(gatewaySocket);
const wake = native.wakeCreate();

let identity: Identity | undefined;
let guest: DrivenGuest | undefined;
let running = false;
let exported: Exported | undefined;
let image: Image | undefined;
let attached: AttachResult | undefined;
let sweptAt = 0;

function the<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`no ${what}`);
  return value;
}

const own = (): Identity => the(identity, 'guest registered or attached');
const body = (): { epoch: number } => ({ epoch: own().epoch });
const guestNow = (): DrivenGuest => the(guest, 'guest on this host');

function socketHost(address: string): SocketHost {
  const guestAddress = the(parseIpv4(address), `IPv4 address ${address}`);
  return { native, wakeFd: wake as SocketHost['wakeFd'], guestAddress, now: () => performance.now() };
}

/** The guest runs while `running`; between two steps it is at a stable point, and calls are answered. */
function run(): void {
  if (!running || guest === undefined) return;
  const progress = guest.step();
  const now = performance.now();
  if (now - sweptAt > SWEEP_MS) {
    sweptAt = now;
    guest.table.sweep();
  }
  if (progress) setImmediate(run);
  else setTimeout(run, IDLE_MS);
}

function start(): void {
  if (running) return;
  running = true;
  setImmediate(run);
}

interface RegisterParams {
  readonly id: string;
  readonly name: string;
  readonly address?: string;
  readonly publish: readonly Publish[];
}

async function register({ id, name, address, publish }: RegisterParams): Promise<Identity> {
  const at = address === undefined ? {} : { address };
  const registered = (await gateway.register({ id, name, leg, publish: [...publish], ...at })).guest;
  identity = { id, name, address: registered.address, epoch: registered.epoch };
  guest = new DrivenGuest(new SocketTable(socketHost(registered.address)));
  start();
  return identity;
}

/** Drains until the gateway agrees that nothing is left. Returns how often that took. */
async function drain(): Promise<{ exports: number; connections: number; flows: Exported['flows'] }> {
  for (let exports = 1; exports <= MOST_EXPORTS; exports++) {
    const { connections } = guestNow().table.drain();
    const result = await gateway.export(own().id, { ...body(), sockets: connections.map((socket) => ({ ...socket })) });
    if (!result.settled) continue;
    exported = result;
    return { exports, connections: connections.length, flows: result.flows };
  }
  throw new Error(`not settled after ${MOST_EXPORTS} exports`);
}

async function save({ file }: { file: string }): Promise<{ bytes: number }> {
  const sockets = guestNow().table.save(the(exported, 'settled export').flows);
  const bytes = encode({ identity: own(), sockets, guest: guestNow().state() });
  await writeFile(file, bytes);
  return { bytes: bytes.length };
}

async function load({ file }: { file: string }): Promise<Identity> {
  image = decode(await readFile(file)) as Image;
  identity = { ...image.identity, epoch: image.identity.epoch + 1 };
  return identity;
}

async function attach(): Promise<AttachResult> {
  attached = await gateway.attach(own().id, { ...body(), leg });
  return attached;
}

function restore({ timeoutMs }: { timeoutMs?: number }): { connections: number } {
  const { sockets, guest: state } = the(image, 'image');
  const { flows } = the(attached, 'attach');
  guest = new DrivenGuest(SocketTable.restore(socketHost(own().address), sockets, flows, timeoutMs), state);
  return { connections: state.connections.length };
}

function destroy(): void {
  running = false;
  guest?.table.destroy();
  guest = undefined;
}

interface Of {
  readonly connection: number;
}

/** Waits for a connection to be accepted, connected or failed: all of it happens in the guest's steps. */
async function until<T>(look: () => T | undefined): Promise<T> {
  for (;;) {
    const value = look();
    if (value !== undefined) return value;
    if (!running) throw new Error('the guest does not run');
    await new Promise((resolve) => {
      setTimeout(resolve, IDLE_MS);
    });
  }
}

interface ConnectParams {
  readonly address: string;
  readonly port: number;
  readonly localPort?: number;
  /** False: answer before it is connected. */
  readonly wait?: boolean;
}

async function connect({ address, port, localPort, wait }: ConnectParams): Promise<number> {
  const index = guestNow().connect(address, port, localPort ?? 0);
  if (wait === false) return index;
  const error = await until(() => {
    const { connected, error: failed } = guestNow().connection(index);
    return connected ? '' : (failed ?? undefined);
  });
  if (error !== '') throw Object.assign(new Error(`connect to ${address}:${port}: ${error}`), { code: error });
  return index;
}

await serve({
  register,
  unregister: () => gateway.unregister(own().id, body()),

  listen: ({ port, backlog }: { port: number; backlog?: number }) => guestNow().listen(port, backlog ?? 128),
  accept: ({ listener }: { listener: number }) => until(() => guestNow().takeAccepted(listener)),
  connect,
  send: ({ connection, seed, bytes }: Of & { seed: number; bytes: number }) => {
    guestNow().connection(connection).sent.ask(seed, bytes);
  },
  expect: ({ connection, seed, bytes }: Of & { seed: number; bytes?: number }) => {
    guestNow().connection(connection).received.expect(seed, bytes);
  },
  finish: ({ connection }: Of) => {
    guestNow().connection(connection).sent.askFinish();
  },
  close: ({ connection }: Of) => {
    guestNow().connection(connection).closing = true;
  },
  pause: ({ connection }: Of) => {
    guestNow().connection(connection).paused = true;
  },
  resume: ({ connection }: Of) => {
    guestNow().connection(connection).paused = false;
  },
  destroy: ({ connection }: Of) => {
    guestNow().reset(connection);
  },
  report: ({ connection }: Of) => guestNow().report(connection),
  sweep: () => guestNow().table.sweep(),

  stop: () => {
    running = false;
  },
  start,
  check: () => gateway.check(own().id, body()),
  freeze: () => gateway.freeze(own().id, body()),
  drain,
  save,
  seal: () => gateway.seal(own().id, body()),
  load,
  attach,
  restore,
  commit: () => gateway.commit(own().id, body()),
  detach: () => gateway.detach(own().id, body()),
  release: () => {
    guestNow().table.release();
    start();
  },
  abort: () => gateway.abort(own().id, body()),
  thaw: () => {
    guestNow().table.thaw();
    start();
  },
  destroyGuest: destroy,
});

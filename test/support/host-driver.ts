/**
 * A host that carries a guest without Wasm: the near end of drive/host.ts, and the move of such a guest in one call.
 *
 *     await using a = await HostDriver.start(gateway, 'a');
 *     await a.register({ publish: [7000] });
 *     const listener = await a.listen(7000);
 *     ...
 *     await moveGuest(a, b);
 *     const connection = b.connection(0);
 */
import { randomUUID } from 'node:crypto';
import { Driver } from './driver.ts';
import type { Gateway } from './gateway.ts';
import { DrivenConnection } from './peer-driver.ts';
import { NODE, PROJECT, type Topology } from './topology.ts';
import { unprivileged } from './unprivileged.ts';
import { join } from 'node:path';

export interface RegisterOptions {
  readonly name?: string;
  /** Without: one that the gateway chooses. */
  readonly address?: string;
  /** TCP ports that are the same outside and for the guest, or [outside, guest]. */
  readonly publish?: readonly (number | readonly [number, number])[];
}

export interface GuestIdentity {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly epoch: number;
}

export interface DrivenListener {
  readonly index: number;
  readonly port: number;
  accept(): Promise<DrivenConnection>;
}

let serial = 1;

export class HostDriver extends Driver {
  readonly topology: Topology;
  readonly leg: 'a' | 'b';

  private constructor(gateway: Gateway, leg: 'a' | 'b', as: readonly string[]) {
    const script = join(PROJECT, 'test/support/drive/host.ts');
    const command = [...as, NODE, '--disable-warning=ExperimentalWarning', script, gateway.socket, leg];
    super(gateway.topology.spawn(leg, command, { cwd: gateway.topology.directory }));
    this.topology = gateway.topology;
    this.leg = leg;
  }

  /** Starts a host's driver, without privilege, as an agent runs. */
  static async start(gateway: Gateway, leg: 'a' | 'b'): Promise<HostDriver> {
    return new HostDriver(gateway, leg, await unprivileged());
  }

  /** Makes a guest, which runs from then on. */
  async register(options: RegisterOptions = {}): Promise<GuestIdentity> {
    const publish = (options.publish ?? []).map((port) => {
      const [outsidePort, guestPort] = typeof port === 'number' ? [port, port] : port;
      return { proto: 'tcp', outsidePort, guestPort };
    });
    const name = options.name ?? `guest-${serial++}`;
    const address = options.address === undefined ? {} : { address: options.address };
    return await this.call('register', { id: randomUUID(), name, publish, ...address });
  }

  async listen(port: number, backlog?: number): Promise<DrivenListener> {
    const params = { port, ...(backlog === undefined ? {} : { backlog }) };
    const { listener, port: bound } = await this.call<{ listener: number; port: number }>('listen', params);
    return this.listener(listener, bound);
  }

  /** A listener that moved here keeps its index. */
  listener(index: number, port: number): DrivenListener {
    const accept = async (): Promise<DrivenConnection> =>
      this.connection(await this.call<number>('accept', { listener: index }));
    return { index, port, accept };
  }

  /** Connects from the guest's address; `wait: false` returns before there is an answer. */
  async connect(
    address: string,
    port: number,
    options: { localPort?: number; wait?: boolean } = {},
  ): Promise<DrivenConnection> {
    return this.connection(await this.call<number>('connect', { address, port, ...options }));
  }

  /** A connection that moved here keeps its index. */
  connection(index: number): DrivenConnection {
    return new DrivenConnection(this, index);
  }

  /** Closes as a program does that has nothing more to say: at once after its last byte, without waiting for the peer. */
  async close(connection: DrivenConnection): Promise<void> {
    await this.call('close', { connection: connection.index });
  }
}

/** Steps of a move, in their order. Those of the source come first. */
export type Step =
  'check' | 'freeze' | 'drain' | 'save' | 'seal' | 'load' | 'attach' | 'restore' | 'commit' | 'release';

export interface MoveOptions {
  /** Called after a step; a test does here what must happen in the middle of a move, or throws to end it there. */
  readonly after?: (step: Step) => void | Promise<void>;
  /** As a checkpoint to disk: the image is sealed and the source's sockets are destroyed before the target begins. */
  readonly seal?: boolean;
}

export interface MoveTimes {
  /** Milliseconds since 1970: before the guest was stopped, and when it ran again. */
  readonly from: number;
  readonly to: number;
  readonly exports: number;
  readonly imageFile: string;
}

/** Stops the guest of `from` and saves it to a file, all but frozen in the gateway. */
export async function checkpointGuest(
  from: HostDriver,
  options: MoveOptions = {},
): Promise<{ file: string; exports: number }> {
  const after = async (step: Step): Promise<void> => {
    await options.after?.(step);
  };
  const file = from.topology.path(`image-${serial++}`);
  await from.call('check');
  await after('check');
  await from.call('stop');
  await from.call('freeze');
  await after('freeze');
  const { exports } = await from.call<{ exports: number }>('drain');
  await after('drain');
  await from.call('save', { file });
  await after('save');
  if (options.seal === true) {
    await from.call('seal');
    await from.call('destroyGuest');
    await after('seal');
  }
  return { file, exports };
}

/** Continues a saved guest on `to`. */
export async function restoreGuest(file: string, to: HostDriver, options: MoveOptions = {}): Promise<void> {
  for (const step of ['load', 'attach', 'restore', 'commit', 'release'] as const) {
    await to.call(step, step === 'load' ? { file } : {});
    await options.after?.(step);
  }
}

/**
 * Moves the guest of one host to another (or, over a checkpoint, to the same). When a step fails before the commit, the target
 * detaches, the guest is thawed where it was, and the error is thrown.
 */
export async function moveGuest(from: HostDriver, to: HostDriver, options: MoveOptions = {}): Promise<MoveTimes> {
  const start = Date.now();
  let done: Step | undefined;
  const noting: MoveOptions = {
    ...options,
    after: async (step) => {
      done = step;
      await options.after?.(step);
    },
  };
  try {
    const { file, exports } = await checkpointGuest(from, noting);
    await restoreGuest(file, to, noting);
    if (options.seal !== true) await from.call('destroyGuest');
    return { from: start, to: Date.now(), exports, imageFile: file };
  } catch (error) {
    if (done !== 'commit' && done !== 'release' && options.seal !== true) await undo(from, to, done);
    throw error;
  }
}

async function undo(from: HostDriver, to: HostDriver, done: Step | undefined): Promise<void> {
  if (done === undefined || done === 'check') {
    await from.call('start');
    return;
  }
  if (done === 'restore') await to.call('destroyGuest');
  if (done === 'attach' || done === 'restore') await to.call('detach');
  await from.call('abort');
  await from.call('thaw');
}

/**
 * A scriptable TCP peer: many connections in one process, each over a socket of Node or over `socat`, that send and check
 * deterministic streams, half-close, stop reading, or say nothing. Driven by ../peer-driver.ts.
 */
import { spawn } from 'node:child_process';
import { connect as connectSocket, createServer, type Server, type Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { ReceiveAccount, SendAccount } from './account.ts';
import { serve } from './json-lines.ts';

export interface ConnectParams {
  readonly address: string;
  readonly port: number;
  readonly localPort?: number;
  /** TCP keepalive: idle time and interval, milliseconds (whole seconds). */
  readonly keepAlive?: number;
  /** Not a socket of Node but socat, with these options of its address: 'setsockopt-int=6:18:3000' is a TCP_USER_TIMEOUT of 3 s. */
  readonly socat?: string;
}

export interface SendParams {
  readonly connection: number;
  readonly seed: number;
  readonly bytes: number;
  /** Bytes a second; without: as fast as it goes. */
  readonly rate?: number;
}

export interface PaceParams {
  readonly connection: number;
  /** Bytes a second that are read; without: as fast as they come. */
  readonly rate?: number;
}

const CHUNK = 64 * 1024;
/** A slow sender sends this often, milliseconds. */
const PACE_MS = 50;

const CONNECT_TIMEOUT_MS = 15_000;

class Connection {
  readonly input: Readable;
  readonly output: Writable;
  readonly local: string;
  readonly remote: string;
  readonly received = new ReceiveAccount();
  readonly sent = new SendAccount();
  error: string | undefined;
  closed = false;
  #echo = false;
  #rate = Infinity;
  #pumping = false;
  #pace: { rate: number; bytes: number; since: number } | undefined;
  #abort: () => void;

  constructor(input: Readable, output: Writable, local: string, remote: string, abort: () => void) {
    this.input = input;
    this.output = output;
    this.local = local;
    this.remote = remote;
    this.#abort = abort;
    input.on('data', (bytes: Buffer) => {
      this.received.take(bytes);
      this.#slowDown();
      if (!this.#echo) return;
      this.sent.sent(bytes);
      if (!output.write(bytes)) {
        input.pause();
        output.once('drain', () => input.resume());
      }
    });
    input.on('end', () => {
      this.received.ended = true;
      if (this.#echo) this.#finish();
    });
    // A pipe to socat that breaks says less than socat does when it ends.
    const note = (error: NodeJS.ErrnoException): void => {
      if (input === (output as unknown) || error.code !== 'EPIPE') this.error ??= error.code ?? error.message;
    };
    input.on('error', note);
    if (input !== (output as unknown)) output.on('error', note);
    input.on('close', () => (this.closed = true));
  }

  echo(): void {
    this.#echo = true;
  }

  pace({ rate }: Pick<PaceParams, 'rate'>): void {
    this.#pace = rate === undefined ? undefined : { rate, bytes: this.received.bytes, since: performance.now() };
    this.input.resume();
  }

  /** Reading rests until the pace allows more; the kernel's queue, and then the window, fill meanwhile. */
  #slowDown(): void {
    const pace = this.#pace;
    if (pace === undefined) return;
    const ahead = ((this.received.bytes - pace.bytes) / pace.rate) * 1000 - (performance.now() - pace.since);
    if (ahead <= 1) return;
    this.input.pause();
    setTimeout(() => {
      if (this.#pace === pace) this.input.resume();
    }, ahead);
  }

  send({ seed, bytes, rate }: SendParams): void {
    this.sent.ask(seed, bytes);
    this.#rate = rate ?? Infinity;
    void this.#pump();
  }

  hurry(): void {
    this.#rate = Infinity;
    this.pace({});
  }

  finish(): void {
    this.sent.askFinish();
    void this.#pump();
  }

  destroy(): void {
    this.#abort();
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.sent.waiting > 0 && this.error === undefined && !this.closed) {
      const slow = Number.isFinite(this.#rate);
      const bytes = this.sent.next(slow ? Math.max(1, Math.round((this.#rate * PACE_MS) / 1000)) : CHUNK);
      this.sent.sent(bytes);
      const room = this.output.write(bytes);
      if (slow) await delay(PACE_MS);
      else if (!room) await this.#writable();
    }
    this.#pumping = false;
    if (this.sent.finishDue) this.#finish();
  }

  #writable(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = (): void => {
      this.output.off('drain', done).off('close', done).off('error', done);
      resolve();
    };
    this.output.once('drain', done).once('close', done).once('error', done);
    return promise;
  }

  #finish(): void {
    this.sent.finished = true;
    this.output.end();
  }

  report(): unknown {
    const { local, remote, error, closed } = this;
    return { local, remote, sent: this.sent.report(), received: this.received.report(), closed, error: error ?? null };
  }
}

const connections: Connection[] = [];
const listeners: { server: Server; pending: number[]; waiting: ((connection: number) => void)[] }[] = [];

function at(index: number): Connection {
  const connection = connections[index];
  if (connection === undefined) throw new Error(`no connection ${index}`);
  return connection;
}

function overSocket(socket: Socket): number {
  const local = `${socket.localAddress}:${socket.localPort}`;
  const remote = `${socket.remoteAddress}:${socket.remotePort}`;
  return connections.push(new Connection(socket, socket, local, remote, () => socket.resetAndDestroy())) - 1;
}

function connect(params: ConnectParams): Promise<number> {
  return params.socat === undefined ? connectNode(params) : connectSocat(params, params.socat);
}

async function connectNode({ address, port, localPort, keepAlive }: ConnectParams): Promise<number> {
  const socket = connectSocket({
    host: address,
    port,
    allowHalfOpen: true,
    noDelay: true,
    ...(localPort === undefined ? {} : { localPort }),
    ...(keepAlive === undefined ? {} : { keepAlive: true, keepAliveInitialDelay: keepAlive }),
  });
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const timer = setTimeout(
    () => socket.destroy(new Error(`connect to ${address}:${port} timed out`)),
    CONNECT_TIMEOUT_MS,
  );
  socket.once('connect', () => {
    resolve(undefined);
  });
  socket.once('error', reject);
  await promise.finally(() => {
    clearTimeout(timer);
  });
  return overSocket(socket);
}

/** socat tells on stderr when it is connected, and from where: "successfully connected from local address AF=2 1.2.3.4:5". */
async function connectSocat({ address, port, localPort, keepAlive }: ConnectParams, options: string): Promise<number> {
  const bind = localPort === undefined ? [] : [`sourceport=${localPort}`, 'reuseaddr'];
  const probes =
    keepAlive === undefined ? [] : ['keepalive', `keepidle=${keepAlive / 1000}`, `keepintvl=${keepAlive / 1000}`];
  const target = [`TCP4:${address}:${port}`, ...bind, ...probes, ...(options === '' ? [] : [options])].join(',');
  const child = spawn('socat', ['-d', '-d', '-t', '3600', 'STDIO', target], { stdio: 'pipe' });
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let said = '';
  child.once('error', reject);
  child.once('close', () => {
    reject(new Error(`socat could not connect: ${said}`));
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    const local = /successfully connected from local address AF=2 (\S+)/.exec(said)?.[1];
    if (local !== undefined) resolve(local);
  });
  const local = await promise;
  const connection = new Connection(child.stdout, child.stdin, local, `${address}:${port}`, () =>
    child.kill('SIGKILL'),
  );
  child.once('close', (code) => {
    if (code !== 0) connection.error ??= / E (.*)/.exec(said)?.[1] ?? `socat ended with ${code}`;
  });
  return connections.push(connection) - 1;
}

interface ListenParams {
  readonly address?: string;
  readonly port: number;
  /** At which each connection reads, from its first byte on. */
  readonly rate?: number;
}

function listen({ address, port, rate }: ListenParams): Promise<{ listener: number; port: number }> {
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  const listener = { server, pending: [] as number[], waiting: [] as ((connection: number) => void)[] };
  server.on('connection', (socket) => {
    const connection = overSocket(socket);
    if (rate !== undefined) at(connection).pace({ rate });
    const waiter = listener.waiting.shift();
    if (waiter === undefined) listener.pending.push(connection);
    else waiter(connection);
  });
  const index = listeners.push(listener) - 1;
  const { promise, resolve, reject } = Promise.withResolvers<{ listener: number; port: number }>();
  server.once('error', reject);
  server.listen({ host: address ?? '0.0.0.0', port, backlog: 511 }, () => {
    const bound = server.address();
    resolve({ listener: index, port: bound === null || typeof bound === 'string' ? port : bound.port });
  });
  return promise;
}

async function accept({ listener: index }: { listener: number }): Promise<number> {
  const listener = listeners[index];
  if (listener === undefined) throw new Error(`no listener ${index}`);
  const ready = listener.pending.shift();
  if (ready !== undefined) return ready;
  const { promise, resolve } = Promise.withResolvers<number>();
  listener.waiting.push(resolve);
  return await promise;
}

interface Of {
  readonly connection: number;
}

await serve({
  connect,
  listen,
  accept,
  send: (params: SendParams) => {
    at(params.connection).send(params);
  },
  expect: ({ connection, seed, bytes }: Of & { seed: number; bytes?: number }) => {
    at(connection).received.expect(seed, bytes);
  },
  say: ({ connection, text }: Of & { text: string }) => {
    at(connection).output.write(text);
  },
  echo: ({ connection }: Of) => {
    at(connection).echo();
  },
  finish: ({ connection }: Of) => {
    at(connection).finish();
  },
  pace: (params: PaceParams) => {
    at(params.connection).pace(params);
  },
  hurry: ({ connection }: Of) => {
    at(connection).hurry();
  },
  pause: ({ connection }: Of) => {
    at(connection).input.pause();
  },
  resume: ({ connection }: Of) => {
    at(connection).input.resume();
  },
  destroy: ({ connection }: Of) => {
    at(connection).destroy();
  },
  report: ({ connection }: Of) => at(connection).report(),
});

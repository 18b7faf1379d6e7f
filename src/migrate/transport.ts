/**
 * How agents and their users reach an agent: links that carry messages, each a small record and raw bytes behind it. Unix sockets
 * now; another transport (TLS between machines) is another `Transport`.
 *
 *     0  4  length H of the record, little endian
 *     4  8  length P of the payload
 *    12  H  the record: CBOR
 *        P  the payload, as it is
 */
import { randomBytes } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { lstat, rename, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { decode, encode } from 'cborg';
import { KedgeError } from '../errors.ts';
import { MAX_SOCKET_PATH } from '../gateway/admin/socket.ts';
import { hasMoreItems } from '../image/cbor.ts';
import { MAX_IMAGE } from '../image/format.ts';

const PREFIX = 12;
const MAX_RECORD = 16 * 1024 * 1024;
/** Items of a record: some hundred thousand arguments and variables are its largest part. Each may become a hundred bytes. */
const MAX_ITEMS = 1 << 20;

export type Frame = { readonly message: unknown; readonly payload: Uint8Array };

/** Bytes, or where so many of them come from; a piece of those may be written over when the next is asked for. */
export type Payload = Uint8Array | { readonly length: number; read(): AsyncIterable<Uint8Array> };

/** One conversation. `receive` gives undefined when the other end has closed. */
export interface Link {
  /**
   * Resolves when all is with the system. Messages go whole, in the order of the calls. Rejects with KEDGE_LINK_BROKEN, with
   * `stallMs` also when the other end takes nothing for so long, and with what reading the payload throws; the link is of no use then.
   */
  send(message: unknown, payload?: readonly Payload[], stallMs?: number): Promise<void>;
  /** The next message. Throws KEDGE_LINK_BROKEN, with `stallMs` also when nothing more of it comes for so long. */
  receive(stallMs?: number): Promise<Frame | undefined>;
  close(): void;
  /** Settles when the link is gone, for whatever reason. */
  readonly closed: Promise<void>;
}

export interface Listener {
  close(): Promise<void>;
}

export interface Transport {
  /** Throws KEDGE_AGENT_UNREACHABLE, and KEDGE_SOCKET_PATH for a path that no socket can have. */
  connect(target: string): Promise<Link>;
  listen(target: string, onLink: (link: Link) => void): Promise<Listener>;
}

/** Bytes that are read ahead of `receive`. */
const READ_AHEAD = 1024 * 1024;
/** Bytes given to the system at once: by these the other end is seen to make progress. */
const PIECE = 4 * 1024 * 1024;
/** Parts that are together not longer are sent as one: each piece is a system call, and wakes the other end. */
const GATHER = 256 * 1024;

/** A link over a stream socket. Reads only as fast as frames are taken. */
class SocketLink implements Link {
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  #parts: Buffer[] = [];
  #length = 0;
  /** Bytes that `receive` waits for. */
  #wanted = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  /** How long `receive` waits for more, milliseconds. */
  #patience: number | undefined;
  /** Runs while `receive` waits, and begins again with all that comes. */
  #stall: NodeJS.Timeout | undefined;
  #sending: Promise<void> = Promise.resolve();

  constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (part: Buffer) => {
      this.#parts.push(part);
      this.#length += part.length;
      this.#stall?.refresh();
      if (this.#length > this.#wanted + READ_AHEAD) socket.pause();
      if (this.#length >= this.#wanted) this.#wake?.();
    });
    const end = () => {
      this.#ended = true;
      this.#wake?.();
    };
    socket.on('end', end);
    socket.on('close', end);
    // What a broken link means is seen by `receive`.
    socket.on('error', end);
  }

  send(message: unknown, payload: readonly Payload[] = [], stallMs?: number): Promise<void> {
    const record = encode(message);
    const length = payload.reduce((sum, part) => sum + part.length, 0);
    const head = Buffer.alloc(PREFIX + record.length);
    head.writeUInt32LE(record.length, 0);
    head.writeBigUInt64LE(BigInt(length), 4);
    head.set(record, PREFIX);
    const sent = this.#sending.then(() => this.#sendParts([head, ...payload], stallMs));
    // Whoever sends next finds the socket broken by itself.
    this.#sending = sent.catch(() => undefined);
    return sent;
  }

  async #sendParts(parts: readonly Payload[], stallMs: number | undefined): Promise<void> {
    try {
      for await (const piece of pieces(parts)) {
        const written = this.#write(piece);
        await (stallMs === undefined ? written : unlessStalled(stallMs, written, 'took'));
      }
    } catch (error) {
      // What came next would be taken for the rest of this message.
      this.#socket.destroy();
      throw error;
    }
  }

  #write(part: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.write(part, (error) => (error ? reject(broken(error)) : resolve()));
    });
  }

  async receive(stallMs?: number): Promise<Frame | undefined> {
    this.#patience = stallMs;
    const prefix = await this.#take(PREFIX);
    if (prefix === undefined) return undefined;
    const recordLength = prefix.readUInt32LE(0);
    const payloadLength = Number(prefix.readBigUInt64LE(4));
    if (recordLength > MAX_RECORD || payloadLength > MAX_IMAGE) throw stranger();
    const record = await this.#take(recordLength);
    const payload = await this.#take(payloadLength);
    if (record === undefined || payload === undefined) throw broken(new Error('it ended within a message'));
    if (hasMoreItems(record, MAX_ITEMS)) throw broken(new Error('a record of more items than any'));
    return { message: decode(record), payload };
  }

  async #take(length: number): Promise<Buffer | undefined> {
    if (length > READ_AHEAD) return await this.#takeLarge(length);
    if (!(await this.#has(length))) return undefined;
    if (length === 0) return Buffer.alloc(0);
    const all = this.#parts.length === 1 && this.#parts[0] !== undefined ? this.#parts[0] : Buffer.concat(this.#parts);
    const rest = all.subarray(length);
    this.#parts = rest.length > 0 ? [rest] : [];
    this.#length = rest.length;
    return all.subarray(0, length);
  }

  /** Into memory of its own as it comes: kept in parts until the last one, it would be there twice. What does not come costs nothing. */
  async #takeLarge(length: number): Promise<Buffer | undefined> {
    const all = Buffer.allocUnsafeSlow(length);
    for (let at = 0; at < length;) {
      if (!(await this.#has(1))) return undefined;
      const part = this.#parts.shift() ?? Buffer.alloc(0);
      const used = part.copy(all, at);
      at += used;
      this.#length -= used;
      if (used < part.length) this.#parts.unshift(part.subarray(used));
    }
    return all;
  }

  /** Waits until so many bytes are there; false when they will never be. */
  async #has(length: number): Promise<boolean> {
    while (this.#length < length) {
      if (this.#ended) return false;
      const more = Promise.withResolvers<void>();
      this.#wanted = length;
      this.#wake = more.resolve;
      this.#socket.resume();
      await this.#patient(more.promise);
    }
    this.#wake = undefined;
    this.#wanted = 0;
    return true;
  }

  async #patient(more: Promise<void>): Promise<void> {
    const ms = this.#patience;
    if (ms === undefined) return await more;
    try {
      await unlessStalled(ms, more, 'sent', (timer) => (this.#stall = timer));
    } catch (error) {
      // What came later would be taken for the answer to another question. The other end can still be told.
      this.#ended = true;
      this.#socket.pause();
      throw error;
    } finally {
      this.#stall = undefined;
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Rejects with KEDGE_LINK_BROKEN when the other end has not done it in time. */
async function unlessStalled<T>(
  ms: number,
  work: Promise<T>,
  done: 'took' | 'sent',
  started: (timer: NodeJS.Timeout) => void = () => undefined,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(broken(new Error(`it ${done} nothing for ${ms} ms`)));
    }, ms);
    started(timer);
  });
  try {
    return await Promise.race([work, stalled]);
  } finally {
    clearTimeout(timer);
  }
}

/** The same bytes as it is good to give them to the system: small parts in one, large ones cut. */
async function* pieces(parts: readonly Payload[]): AsyncGenerator<Uint8Array> {
  let small: Uint8Array[] = [];
  let length = 0;
  for (const part of parts) {
    if (part instanceof Uint8Array && length + part.length <= GATHER) {
      small.push(part);
      length += part.length;
      continue;
    }
    if (length > 0) yield Buffer.concat(small);
    small = [];
    length = 0;
    if (!(part instanceof Uint8Array)) yield* part.read();
    else for (let at = 0; at < part.length; at += PIECE) yield part.subarray(at, at + PIECE);
  }
  if (length > 0) yield Buffer.concat(small);
}

/** Whoever sends such a frame does not speak as agents do. */
function stranger(): KedgeError {
  return new KedgeError('KEDGE_AGENT_PROTOCOL', 'what answers there is no agent of Kedge', {
    hint: "name an agent's socket: what kedge agent --socket was given",
  });
}

function broken(cause: Error): KedgeError {
  return new KedgeError('KEDGE_LINK_BROKEN', `the connection to the agent broke: ${cause.message}`, { cause });
}

/** A path that Node takes for one: a bare number it takes for a port, and TCP would let anybody in. Throws KEDGE_SOCKET_PATH. */
function pathOf(target: string): string {
  const bytes = Buffer.byteLength(target);
  if (bytes === 0 || bytes > MAX_SOCKET_PATH)
    throw new KedgeError(
      'KEDGE_SOCKET_PATH',
      `a socket's path has 1 to ${MAX_SOCKET_PATH} bytes, and this one ${bytes}`,
      {
        hint: 'name a socket with a shorter path',
      },
    );
  return target.includes('/') ? target : `./${target}`;
}

export const unixTransport: Transport = {
  async connect(target) {
    const path = pathOf(target);
    return await new Promise((resolve, reject) => {
      const socket = connect({ path });
      socket.once('connect', () => resolve(new SocketLink(socket)));
      socket.once('error', (cause) =>
        reject(
          new KedgeError('KEDGE_AGENT_UNREACHABLE', `no agent answers at ${target}: ${cause.message}`, {
            hint: 'start one: kedge agent --socket PATH --gateway PATH --leg NAME',
            cause,
          }),
        ),
      );
    });
  },

  async listen(target, onLink) {
    const path = pathOf(target);
    await refuseRunning(target);
    const links = new Set<Link>();
    const server = createServer((socket) => {
      const link = new SocketLink(socket);
      links.add(link);
      void link.closed.then(() => links.delete(link));
      onLink(link);
    });
    await bind(server, path);
    return {
      close: async () => {
        for (const link of links) link.close();
        await new Promise<void>((resolve) => server.close(() => resolve()));
        await rm(target, { force: true });
      },
    };
  },
};

/** Clears a socket file that nobody listens behind, and nothing else. */
async function refuseRunning(target: string): Promise<void> {
  const stat = await lstat(target, { bigint: true }).catch(() => undefined);
  // Where there is nothing, or a directory that cannot be looked into, the bind says what is wrong.
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new KedgeError('KEDGE_SOCKET_PATH', `${target} is there and is no socket`, { hint: 'choose another path' });
  const code = await unixTransport.connect(target).then(
    (link) => {
      link.close();
      return undefined;
    },
    (error: unknown) => codeOf(error instanceof KedgeError ? error.cause : error),
  );
  if (code === undefined) throw alreadyRunning(target);
  if (code !== 'ECONNREFUSED' && code !== 'ENOENT')
    throw new KedgeError('KEDGE_SOCKET_PATH', `cannot tell whether an agent listens at ${target}: ${code}`);
  if (code === 'ECONNREFUSED') await removeStale(target, stat);
}

/** Removes this socket file, unless another agent has put its own there since it was looked at. */
async function removeStale(target: string, stale: BigIntStats): Promise<void> {
  const aside = `${target}.${randomBytes(6).toString('hex')}.stale`;
  try {
    await rename(target, aside);
  } catch (error) {
    // Another that starts was first.
    if (codeOf(error) === 'ENOENT') return;
    throw new KedgeError('KEDGE_SOCKET_PATH', `cannot remove ${target}, which nobody listens at: ${codeOf(error)}`, {
      hint: 'remove it, or choose another path',
      cause: error,
    });
  }
  // Numbers of files are used again; a new name changes neither.
  const { ino, mtimeNs } = await lstat(aside, { bigint: true });
  if (ino !== stale.ino || mtimeNs !== stale.mtimeNs) {
    await rename(aside, target);
    throw alreadyRunning(target);
  }
  await rm(aside, { force: true });
}

function alreadyRunning(target: string): KedgeError {
  return new KedgeError('KEDGE_AGENT_RUNNING', `an agent already listens at ${target}`, {
    hint: 'stop it first, or give this one another --socket',
  });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

/** At no moment may anybody but its owner connect: whoever may speak to an agent owns its guests. */
function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: Error) => {
      const taken = codeOf(cause) === 'EADDRINUSE';
      reject(
        taken
          ? alreadyRunning(path)
          : new KedgeError('KEDGE_SOCKET_PATH', `cannot listen at ${path}: ${cause.message}`, { cause }),
      );
    });
    // The socket file is made within the call.
    const before = process.umask(0o177);
    server.listen({ path }, () => resolve());
    process.umask(before);
  });
}

/**
 * How agents and their users reach an agent: links that carry messages, each a small record and raw bytes behind it. Unix sockets
 * now; another transport (TLS between machines) is another `Transport`.
 *
 *     0  4  length H of the record, little endian
 *     4  8  length P of the payload
 *    12  H  the record: CBOR
 *        P  the payload, as it is
 */
import { chmod, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { decode, encode } from 'cborg';
import { KedgeError } from '../errors.ts';

const PREFIX = 12;
const MAX_RECORD = 16 * 1024 * 1024;
/** The largest image that is taken: linear memory has 4 GiB at most. */
const MAX_PAYLOAD = 4 * 1024 ** 3;

export type Frame = { readonly message: unknown; readonly payload: Uint8Array };

/** One conversation. `receive` gives undefined when the other end has closed. */
export interface Link {
  send(message: unknown, payload?: readonly Uint8Array[]): Promise<void>;
  receive(): Promise<Frame | undefined>;
  close(): void;
  /** Settles when the link is gone, for whatever reason. */
  readonly closed: Promise<void>;
}

export interface Listener {
  close(): Promise<void>;
}

export interface Transport {
  /** Throws KEDGE_AGENT_UNREACHABLE. */
  connect(target: string): Promise<Link>;
  listen(target: string, onLink: (link: Link) => void): Promise<Listener>;
}

/** A link over a stream socket. Reads only as fast as frames are taken. */
class SocketLink implements Link {
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  #parts: Buffer[] = [];
  #length = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    socket.on('data', (part: Buffer) => {
      this.#parts.push(part);
      this.#length += part.length;
      this.#wake?.();
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

  async send(message: unknown, payload: readonly Uint8Array[] = []): Promise<void> {
    const record = encode(message);
    const length = payload.reduce((sum, part) => sum + part.length, 0);
    const head = Buffer.alloc(PREFIX + record.length);
    head.writeUInt32LE(record.length, 0);
    head.writeBigUInt64LE(BigInt(length), 4);
    head.set(record, PREFIX);
    this.#socket.cork();
    const written = [head, ...payload].map((part) => this.#write(part));
    this.#socket.uncork();
    await Promise.all(written);
  }

  #write(part: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.write(part, (error) => (error ? reject(broken(error)) : resolve()));
    });
  }

  async receive(): Promise<Frame | undefined> {
    const prefix = await this.#take(PREFIX);
    if (prefix === undefined) return undefined;
    const recordLength = prefix.readUInt32LE(0);
    const payloadLength = Number(prefix.readBigUInt64LE(4));
    if (recordLength > MAX_RECORD || payloadLength > MAX_PAYLOAD)
      throw broken(new Error('a frame of impossible length'));
    const record = await this.#take(recordLength);
    const payload = await this.#take(payloadLength);
    if (record === undefined || payload === undefined) throw broken(new Error('it ended within a message'));
    return { message: decode(record), payload };
  }

  async #take(length: number): Promise<Buffer | undefined> {
    while (this.#length < length) {
      if (this.#ended) return undefined;
      const more = Promise.withResolvers<void>();
      this.#wake = more.resolve;
      await more.promise;
    }
    if (length === 0) return Buffer.alloc(0);
    const all = this.#parts.length === 1 && this.#parts[0] !== undefined ? this.#parts[0] : Buffer.concat(this.#parts);
    const rest = all.subarray(length);
    this.#parts = rest.length > 0 ? [rest] : [];
    this.#length = rest.length;
    return all.subarray(0, length);
  }

  close(): void {
    this.#socket.destroy();
  }
}

function broken(cause: Error): KedgeError {
  return new KedgeError('KEDGE_LINK_BROKEN', `the connection to the agent broke: ${cause.message}`, { cause });
}

export const unixTransport: Transport = {
  connect(target) {
    return new Promise((resolve, reject) => {
      const socket = connect(target);
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
    await refuseRunning(target);
    const links = new Set<Link>();
    const server = createServer((socket) => {
      const link = new SocketLink(socket);
      links.add(link);
      void link.closed.then(() => links.delete(link));
      onLink(link);
    });
    await bind(server, target);
    // Its owner only: whoever may speak to an agent owns its guests.
    await chmod(target, 0o600);
    return {
      close: async () => {
        for (const link of links) link.close();
        await new Promise<void>((resolve) => server.close(() => resolve()));
        await rm(target, { force: true });
      },
    };
  },
};

/** Clears a socket file that nobody listens behind. */
async function refuseRunning(target: string): Promise<void> {
  const running = await unixTransport.connect(target).then(
    (link) => {
      link.close();
      return true;
    },
    () => false,
  );
  if (running)
    throw new KedgeError('KEDGE_AGENT_RUNNING', `an agent already listens at ${target}`, {
      hint: 'stop it first, or give this one another --socket',
    });
  await rm(target, { force: true });
}

function bind(server: Server, target: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: Error) =>
      reject(new KedgeError('KEDGE_SOCKET_PATH', `cannot listen at ${target}: ${cause.message}`, { cause })),
    );
    server.listen(target, () => resolve());
  });
}

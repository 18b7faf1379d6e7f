/**
 * One end of a measured connection, on kernel sockets alone, for either side of the gateway. It listens or connects, then does what
 * it is told by lines of JSON on stdin, and answers each with one line. The same program runs in every compared set-up.
 */
import { createInterface } from 'node:readline';
import { ERRNO, NO_WAKE, failed, native } from '../src/native.ts';
import type { SocketFd } from '../src/native.ts';
import { parseIpv4 } from '../src/rewrite/numbers.ts';

type Command =
  | { readonly do: 'listen'; readonly address: string; readonly port: number }
  | { readonly do: 'accept' }
  | { readonly do: 'connect'; readonly from?: [string, number]; readonly to: [string, number] }
  /** Sends so many bytes and waits until all are acknowledged. */
  | { readonly do: 'send'; readonly bytes: number }
  /** Reads and drops until so many bytes have come. */
  | { readonly do: 'sink'; readonly bytes: number }
  /** Gives back what comes until the end of the stream. */
  | { readonly do: 'echo'; readonly messages: number }
  /** Sends one byte and waits for one, so many times; answers the round-trip times in µs, sorted. */
  | { readonly do: 'ping'; readonly messages: number }
  | { readonly do: 'reset' };

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const buffer = new Uint8Array(1024 * 1024);
let listener: SocketFd | undefined;
let socket: SocketFd | undefined;

function check<T extends number>(result: T, what: string): T {
  if (result < 0) throw new Error(`${what}: errno ${-result}`);
  return result;
}

function address(text: string): number {
  const value = parseIpv4(text);
  if (value === undefined) throw new Error(`${text} is not an address`);
  return value;
}

function open(): SocketFd {
  const fd = native.sockOpen(true);
  if (failed(fd)) throw new Error(`socket: errno ${-fd}`);
  check(native.sockSetInt(fd, SOL_SOCKET, SO_REUSEADDR, 1), 'SO_REUSEADDR');
  return fd;
}

function connected(): SocketFd {
  if (socket === undefined) throw new Error('no connection');
  return socket;
}

function receive(fd: SocketFd, most: number): number {
  return check(native.sockRecv(fd, buffer, 0, most, false, NO_WAKE, -1), 'recv');
}

function send(fd: SocketFd, bytes: number): number {
  return check(native.sockSend(fd, buffer, 0, bytes, NO_WAKE, -1), 'send');
}

async function run(command: Command): Promise<object> {
  switch (command.do) {
    case 'listen':
      listener = open();
      check(native.sockBind(listener, address(command.address), command.port), 'bind');
      check(native.sockListen(listener, 16), 'listen');
      return {};
    case 'accept': {
      if (listener === undefined) throw new Error('not listening');
      const peer = new Uint32Array(2);
      const fd = native.sockAccept(listener, NO_WAKE, -1, peer);
      if (failed(fd)) throw new Error(`accept: errno ${-fd}`);
      socket = fd;
      check(native.sockSetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1), 'TCP_NODELAY');
      return { port: peer[1] };
    }
    case 'connect': {
      socket = open();
      if (command.from !== undefined) check(native.sockBind(socket, address(command.from[0]), command.from[1]), 'bind');
      const started = native.sockConnectStart(socket, address(command.to[0]), command.to[1]);
      if (started !== -ERRNO.EINPROGRESS) check(started, 'connect');
      check(native.sockConnectWait(socket, NO_WAKE, 5000), 'connect');
      check(native.sockSetInt(socket, IPPROTO_TCP, TCP_NODELAY, 1), 'TCP_NODELAY');
      return {};
    }
    case 'send': {
      const fd = connected();
      const start = process.hrtime.bigint();
      for (let left = command.bytes; left > 0;) left -= send(fd, Math.min(left, buffer.length));
      // The queue drains in well under a millisecond once the last byte is given to it.
      while (native.sockOutQueue(fd) > 0) await new Promise<void>((resolve) => setImmediate(resolve));
      return { seconds: Number(process.hrtime.bigint() - start) / 1e9 };
    }
    case 'sink': {
      const fd = connected();
      for (let left = command.bytes; left > 0;) {
        const n = receive(fd, buffer.length);
        if (n === 0) throw new Error(`the stream ended ${left} bytes early`);
        left -= n;
      }
      return {};
    }
    case 'echo': {
      const fd = connected();
      for (let i = 0; i < command.messages; i++) {
        if (receive(fd, 1) === 0) throw new Error('the stream ended early');
        send(fd, 1);
      }
      return {};
    }
    case 'ping': {
      const fd = connected();
      const times = new Float64Array(command.messages);
      for (let i = 0; i < command.messages; i++) {
        const start = process.hrtime.bigint();
        send(fd, 1);
        receive(fd, 1);
        times[i] = Number(process.hrtime.bigint() - start) / 1000;
      }
      times.sort();
      return { p50: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)] };
    }
    case 'reset':
      for (const fd of [socket, listener])
        if (fd !== undefined) {
          native.sockSetLinger(fd, true, 0);
          native.fdClose(fd);
        }
      socket = listener = undefined;
      return {};
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer: object;
  try {
    answer = await run(JSON.parse(line) as Command);
  } catch (error) {
    answer = { error: error instanceof Error ? error.message : String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

/** A scriptable UDP peer: many sockets in one process. Driven by ../datagram-peer.ts. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { serve } from './json-lines.ts';

export interface Datagram {
  /** "address:port". */
  readonly from: string;
  readonly text: string;
}

interface Peer {
  readonly socket: Socket;
  readonly received: Datagram[];
}

/** What a socket of the peer has room for, bytes: a burst is not to be lost here. */
const ROOM = 4_000_000;

const peers: Peer[] = [];

function at(index: number): Peer {
  const peer = peers[index];
  if (peer === undefined) throw new Error(`no socket ${index}`);
  return peer;
}

await serve({
  open: async () => {
    const socket = createSocket('udp4');
    const received: Datagram[] = [];
    socket.on('message', (bytes, { address, port }) => {
      received.push({ from: `${address}:${port}`, text: bytes.toString() });
    });
    socket.bind(0);
    await once(socket, 'listening');
    socket.setRecvBufferSize(ROOM);
    return { index: peers.push({ socket, received }) - 1, port: socket.address().port };
  },
  send: async ({ index, address, port, text }: { index: number; address: string; port: number; text: string }) => {
    const { promise, resolve, reject } = Promise.withResolvers<undefined>();
    at(index).socket.send(text, port, address, (error) => {
      if (error === null) resolve(undefined);
      else reject(error);
    });
    await promise;
  },
  received: ({ index }: { index: number }) => at(index).received,
});

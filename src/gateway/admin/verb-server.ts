/** The gateway's end of `verb-lines.ts`. */
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { Type } from 'typebox';
import type { TSchema } from 'typebox';
import { KedgeError } from '../../errors.ts';
import { matches, mismatch } from '../../schema.ts';
import { AttachBody, ClaimBody, EpochBody, ExportBody } from './schema.ts';
import type { ControlVerbs, ErrorBody } from './schema.ts';
import { LineReader, VERBS_PATH, VERBS_PROTOCOL } from './verb-lines.ts';
import type { AnswerLine, LineVerb } from './verb-lines.ts';

const BODIES: Readonly<Record<LineVerb, TSchema>> = {
  check: EpochBody,
  freeze: EpochBody,
  export: ExportBody,
  seal: EpochBody,
  attach: AttachBody,
  commit: ClaimBody,
  detach: ClaimBody,
  abort: EpochBody,
};

const Line = Type.Object(
  {
    n: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    verb: Type.Enum(Object.keys(BODIES)),
    id: Type.String(),
    body: Type.Object({}),
  },
  { additionalProperties: false },
);

/** Carries a verb out. Rejects with KedgeError. */
export type CallVerb = <V extends LineVerb>(verb: V, args: ControlVerbs[V]['args']) => Promise<object>;

export type VerbServer = {
  /** Ends all connections. */
  close(): void;
};

/** Takes upgrades of an HTTP server. `refusal` makes the answer of any error. */
export function serveVerbs(server: Server, call: CallVerb, refusal: (error: unknown) => ErrorBody): VerbServer {
  const connections = new Set<Duplex>();
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    // A client that has gone does not read its answers; what it asked is carried out nevertheless.
    socket.on('error', () => socket.destroy());
    if (request.url !== VERBS_PATH || request.headers.upgrade !== VERBS_PROTOCOL) {
      const body = JSON.stringify(
        refusal(new KedgeError('KEDGE_NOT_FOUND', `there is no ${request.url} as ${request.headers.upgrade}`)),
      );
      const heads = ['HTTP/1.1 404 Not Found', 'Content-Type: application/json', `Content-Length: ${body.length}`];
      socket.end(`${[...heads, 'Connection: close'].join('\r\n')}\r\n\r\n${body}`);
      // Its end is seen only by who reads.
      socket.resume();
      return;
    }
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    let asked = 0;
    let ended = false;
    const endIfDone = (): void => {
      if (ended && asked === 0) socket.end();
    };
    // The server's sockets stay half open: one that its client has ended is closed here, once all it asked is answered.
    socket.on('end', () => {
      ended = true;
      endIfDone();
    });
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${VERBS_PROTOCOL}\r\nConnection: Upgrade\r\n\r\n`);
    const answer = (line: AnswerLine): void => {
      if (!socket.writableEnded && !socket.destroyed) socket.write(`${JSON.stringify(line)}\n`);
    };
    const reader = new LineReader((text) => {
      const line = parse(text);
      if (!matches(Line, line)) {
        const { at, why } = mismatch(Line, line);
        answer({ n: 0, error: refusal(new KedgeError('KEDGE_BAD_REQUEST', `line${at} ${why}`)) });
        socket.end();
        return;
      }
      const { n, id } = line;
      // The enumeration of the schema is the keys of the table.
      const verb = line.verb as LineVerb;
      asked++;
      void carryOut(call, verb, id, line.body)
        .then(
          (result) => answer({ n, result }),
          (error: unknown) => answer({ n, error: refusal(error) }),
        )
        .finally(() => {
          asked--;
          endIfDone();
        });
    });
    const take = (bytes: Buffer): void => {
      if (!socket.writableEnded && !reader.push(bytes)) socket.destroy();
    };
    if (head.length > 0) take(head);
    socket.on('data', take);
  });
  return {
    close: () => {
      for (const socket of connections) socket.destroy();
    },
  };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

async function carryOut(call: CallVerb, verb: LineVerb, id: string, body: object): Promise<object> {
  if (!matches(BODIES[verb], body)) {
    const { at, why } = mismatch(BODIES[verb], body);
    throw new KedgeError('KEDGE_BAD_REQUEST', `body${at} ${why}`);
  }
  return await call(verb, { ...(body as ControlVerbs[typeof verb]['args']), id });
}

/** Messages of agents, and their checks. One link carries one request and what follows from it. */
import { Type } from 'typebox';
import type { Static } from 'typebox';
import { coded, KedgeError, isErrorCode } from '../errors.ts';
import { POLICIES } from '../engine/engine.ts';
import { matches, mismatch } from '../schema.ts';
import type { Frame, Link } from './transport.ts';

const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const Text = Type.String({ maxLength: 1 << 20 });
/** Names of guests. */
export const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const Name = Type.String({ pattern: NAME.source, description: 'name of a guest' });
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' });

export const Publish = Type.Object({
  proto: Type.Union([Type.Literal('tcp'), Type.Literal('udp')]),
  outsidePort: Port,
  guestPort: Port,
});
export type Publish = Static<typeof Publish>;

/** Where a guest can be stopped while it computes; one that can never be is of no use to an agent. */
export const POINTS = POLICIES.filter((policy) => policy !== 'none');
export type Points = (typeof POINTS)[number];
const Points = Type.Enum(POINTS);

export const Directory = Type.Object({ host: Text, guest: Text });

export const RunSpec = Type.Object({
  name: Type.Optional(Name),
  address: Type.Optional(Text),
  engine: Type.Optional(Text),
  policy: Type.Optional(Points),
  publish: Type.Array(Publish),
  dirs: Type.Array(Directory),
  env: Type.Record(Type.String(), Text),
  moduleName: Text,
  args: Type.Array(Text),
});
export type RunSpec = Static<typeof RunSpec>;

/** What a target must know to make ready for a guest before it stops. */
export const Incoming = Type.Object({
  id: Uuid,
  name: Name,
  address: Text,
  epoch: Type.Integer({ minimum: 1 }),
  /** What executes it there. */
  engine: Text,
  policy: Points,
  publish: Type.Array(Publish),
  dirs: Type.Array(Directory),
  env: Type.Record(Type.String(), Text),
  moduleName: Text,
  moduleHash: Type.String(),
  args: Type.Array(Text),
  startedAt: Text,
});
export type Incoming = Static<typeof Incoming>;

/** How the guest of an image is continued. Engine and policy are those of the image unless they are given. */
export const RestoreOptions = Type.Object({
  /** Another guest of the image, whose connections are reset. */
  withoutFlows: Type.Boolean(),
  /** Its ports in the place of those of the image. One that keeps its connections keeps its ports. */
  publish: Type.Optional(Type.Array(Publish)),
  /** Unless they are to be those of the image. */
  engine: Type.Optional(Text),
  policy: Type.Optional(Points),
});
export type RestoreOptions = Static<typeof RestoreOptions>;

/** Whether the answer to a start is followed by what the guest prints, which waits for whoever takes it. */
const Attach = Type.Optional(Type.Boolean());

/** Every message that opens a link. */
export const Requests = {
  run: Type.Object({ type: Type.Literal('run'), spec: RunSpec, attach: Attach }),
  list: Type.Object({ type: Type.Literal('list') }),
  logs: Type.Object({ type: Type.Literal('logs'), name: Text, follow: Type.Boolean() }),
  wait: Type.Object({ type: Type.Literal('wait'), name: Text }),
  stop: Type.Object({ type: Type.Literal('stop'), name: Text }),
  migrate: Type.Object({
    type: Type.Literal('migrate'),
    name: Text,
    to: Text,
    /** The engine on the target, unless it is to be the same. */
    engine: Type.Optional(Text),
  }),
  checkpoint: Type.Object({ type: Type.Literal('checkpoint'), name: Text, leaveRunning: Type.Boolean() }),
  restore: Type.Object({ type: Type.Literal('restore'), ...RestoreOptions.properties, attach: Attach }),
  /** From another agent; the payload is the module. */
  receive: Type.Object({ type: Type.Literal('receive'), version: Type.Integer(), guest: Incoming }),
} as const;
export type RequestName = keyof typeof Requests;
export type Request = { [K in RequestName]: Static<(typeof Requests)[K]> }[RequestName];

export const GuestInfo = Type.Object({
  id: Text,
  name: Text,
  address: Text,
  state: Type.Union([
    Type.Literal('running'),
    Type.Literal('moving'),
    Type.Literal('lingering'),
    Type.Literal('exited'),
    Type.Literal('trapped'),
    Type.Literal('failed'),
    /** Stopped, or it lives elsewhere: `message` says where. */
    Type.Literal('gone'),
  ]),
  epoch: Type.Integer(),
  engine: Text,
  policy: Text,
  module: Text,
  startedAt: Text,
  exitCode: Type.Optional(Type.Integer()),
  /** Why it trapped or failed, or where it went. */
  message: Type.Optional(Text),
  publish: Type.Array(Publish),
});
export type GuestInfo = Static<typeof GuestInfo>;

export const StageTime = Type.Object({ name: Text, ms: Type.Number() });
export const MoveResult = Type.Object({ epoch: Type.Integer(), stages: Type.Array(StageTime), totalMs: Type.Number() });
export type MoveResult = Static<typeof MoveResult>;

/** Every message that answers one. */
export const Answers = {
  done: Type.Object({ type: Type.Literal('done') }),
  /** `elsewhere`: it had left, and only the list of this agent has lost it. */
  stopped: Type.Object({ type: Type.Literal('stopped'), elsewhere: Type.Optional(Text) }),
  guest: Type.Object({ type: Type.Literal('guest'), guest: GuestInfo }),
  guests: Type.Object({ type: Type.Literal('guests'), guests: Type.Array(GuestInfo) }),
  log: Type.Object({
    type: Type.Literal('log'),
    stream: Type.Union([Type.Literal('stdout'), Type.Literal('stderr')]),
    /** Bytes before it that the agent has forgotten by now. */
    missed: Type.Integer({ minimum: 0 }),
  }),
  ended: Type.Object({
    type: Type.Literal('ended'),
    exitCode: Type.Optional(Type.Integer()),
    gone: Type.Optional(Text),
  }),
  moved: Type.Object({ type: Type.Literal('moved'), result: MoveResult }),
  /** The payload is the image. */
  image: Type.Object({ type: Type.Literal('image') }),
  /** The other end stored, or could not store, an image. */
  written: Type.Object({ type: Type.Literal('written') }),
  prepared: Type.Object({ type: Type.Literal('prepared') }),
  committed: Type.Object({ type: Type.Literal('committed'), stages: Type.Array(StageTime) }),
  error: Type.Object({ type: Type.Literal('error'), code: Text, message: Text, hint: Type.Optional(Text) }),
} as const;
export type AnswerName = keyof typeof Answers;
export type Answer<K extends AnswerName> = Static<(typeof Answers)[K]>;

function typeOf(message: unknown): string {
  return typeof message === 'object' && message !== null && 'type' in message ? String(message.type) : 'nothing known';
}

/** The request in a frame. Throws KEDGE_AGENT_PROTOCOL. */
export function readRequest(message: unknown): Request {
  const type = typeOf(message);
  if (!Object.hasOwn(Requests, type)) throw protocol(`no request is called ${type}`);
  const schema = Requests[type as RequestName];
  if (matches(schema, message)) return message;
  const { at, why } = mismatch(schema, message);
  throw protocol(`${type}${at}: ${why}`);
}

function protocol(what: string): KedgeError {
  return new KedgeError('KEDGE_AGENT_PROTOCOL', what, { hint: 'are both ends of the same version of Kedge?' });
}

/** Waits for an answer of one of these kinds. An `error` is thrown as what it is; a closed link is KEDGE_LINK_BROKEN. */
export async function expect<K extends AnswerName>(
  link: Link,
  ...kinds: readonly K[]
): Promise<Answer<K> & { readonly payload: Uint8Array }> {
  return answerOf(await link.receive(), kinds);
}

/** The same of one that must begin to come in time, and then not stall: milliseconds for each. */
export async function expectSoon<K extends AnswerName>(
  link: Link,
  stallMs: number,
  ...kinds: readonly K[]
): Promise<Answer<K> & { readonly payload: Uint8Array }> {
  return answerOf(await link.receive(stallMs), kinds);
}

function answerOf<K extends AnswerName>(
  frame: Frame | undefined,
  kinds: readonly K[],
): Answer<K> & { readonly payload: Uint8Array } {
  if (frame === undefined) throw new KedgeError('KEDGE_LINK_BROKEN', 'the agent closed the connection');
  const { message, payload } = frame;
  if (matches(Answers.error, message)) {
    const { code, message: text, hint } = message;
    throw new KedgeError(isErrorCode(code) ? code : 'KEDGE_INTERNAL', text, { hint });
  }
  for (const kind of kinds) if (matches(Answers[kind], message)) return { ...(message as Answer<K>), payload };
  throw protocol(`${typeOf(message)} came where ${kinds.join(' or ')} was expected`);
}

/** A failure as a message. */
export function errorMessage(error: unknown): Answer<'error'> {
  const { code, message, hint } = coded(error);
  return { type: 'error', code, message, ...(hint === undefined ? {} : { hint }) };
}

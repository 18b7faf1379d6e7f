/** The agent's end of a link: one request, carried out and answered. */
import { KedgeError } from '../errors.ts';
import { sizeOf } from '../image/writer.ts';
import type { Agent } from './agent.ts';
import { Log } from './kept.ts';
import type { Kept, ReadPart } from './kept.ts';
import { STORE_BYTES } from './limits.ts';
import type { GuestInfo, Request } from './protocol.ts';
import { errorMessage, expect, expectSoon, readRequest } from './protocol.ts';
import { MOVE_VERSION, within } from './stages.ts';
import type { Link } from './transport.ts';

const NOT_STORED =
  'the guest goes on, and no image is left: name a file on a faster disk, and do not stop the command meanwhile';

/** Serves a link until it is closed. Never throws: what goes wrong is the caller's answer. */
export async function serve(agent: Agent, link: Link): Promise<void> {
  try {
    const frame = await link.receive();
    if (frame !== undefined) await answer(agent, link, readRequest(frame.message), frame.payload);
  } catch (error) {
    // A link that is gone takes no answer, and needs none.
    await link.send(errorMessage(error)).catch(() => undefined);
  } finally {
    link.close();
  }
}

async function answer(agent: Agent, link: Link, request: Request, payload: Uint8Array): Promise<void> {
  switch (request.type) {
    case 'run':
      return await started(agent, link, request.attach, (log) => agent.run(request.spec, payload, log));
    case 'list':
      return await link.send({ type: 'guests', guests: agent.list() });
    case 'logs':
      return await logs(link, agent.find(request.name), request.follow);
    case 'wait':
      return await wait(link, agent.find(request.name));
    case 'stop':
      return await stop(agent, link, request.name);
    case 'migrate':
      return await link.send({ type: 'moved', result: await agent.move(request.name, request.to, request.engine) });
    case 'checkpoint':
      return await checkpoint(agent, link, request);
    case 'restore':
      return await started(agent, link, request.attach, (log) => agent.restore(payload, request, log));
    case 'receive':
      return await receive(agent, link, request, payload);
  }
}

async function stop(agent: Agent, link: Link, name: string): Promise<void> {
  const elsewhere = await agent.stop(name);
  await link.send({ type: 'stopped', ...(elsewhere === undefined ? {} : { elsewhere }) });
}

/** Whoever stores the image may be stopped, or gone: the guest does not stand still for it for ever. */
async function checkpoint(
  agent: Agent,
  link: Link,
  { name, leaveRunning }: Extract<Request, { type: 'checkpoint' }>,
): Promise<void> {
  const { stall, store } = agent.limits;
  try {
    await agent.checkpoint(name, leaveRunning, async (image) => {
      await link.send({ type: 'image' }, image, stall);
      const bytes = sizeOf(image);
      const limit = store * Math.max(1, Math.ceil(bytes / STORE_BYTES));
      await within(limit, 'storing the image', NOT_STORED, expect(link, 'written'));
    });
    await link.send({ type: 'done' });
  } catch (error) {
    await link.send(errorMessage(error));
    // Left to the other end to close: one that only now says that the image is written is to find this answer, and no broken link,
    // which would mean that the agent has died.
    await link.closed;
  }
}

/** Starts a guest, and stays with it when it is asked to: what it prints follows, and it waits for whoever takes that. */
async function started(
  agent: Agent,
  link: Link,
  attach = false,
  start: (log: Log) => Promise<GuestInfo>,
): Promise<void> {
  const log = new Log(attach);
  try {
    const guest = await start(log);
    await link.send({ type: 'guest', guest });
    if (attach) await copy(link, log.readAwaited(untilEnd(link, agent.find(guest.id))));
  } finally {
    log.release();
  }
}

function untilEnd(link: Link, kept: Kept): Promise<unknown> {
  return Promise.race([kept.guest.codeEnded, link.closed]);
}

async function logs(link: Link, kept: Kept, follow: boolean): Promise<void> {
  await copy(link, kept.log.read(follow ? untilEnd(link, kept) : Promise.resolve()));
}

async function copy(link: Link, parts: AsyncIterable<ReadPart>): Promise<void> {
  for await (const { stream, bytes, missed } of parts) await link.send({ type: 'log', stream, missed }, [bytes]);
  await link.send({ type: 'done' });
}

async function wait(link: Link, kept: Kept): Promise<void> {
  const end = await Promise.race([kept.guest.codeEnded, link.closed]);
  if (end === undefined) return;
  if (end.kind === 'exited') return await link.send({ type: 'ended', exitCode: end.code });
  const gone = kept.fate ?? (end.kind === 'destroyed' ? 'stopped' : `${end.kind}: ${end.message}`);
  await link.send({ type: 'ended', gone });
}

async function receive(
  agent: Agent,
  link: Link,
  request: Extract<Request, { type: 'receive' }>,
  module: Uint8Array,
): Promise<void> {
  if (request.version !== MOVE_VERSION) {
    const older = request.version < MOVE_VERSION ? 'source' : 'target';
    throw new KedgeError(
      'KEDGE_MOVE_VERSION',
      `the source speaks version ${request.version} of the hand-over, the target version ${MOVE_VERSION}`,
      { hint: `update the older agent, the ${older}: both must speak the same version` },
    );
  }
  const incoming = await agent.prepare(request.guest, module);
  try {
    await link.send({ type: 'prepared' });
    const { payload } = await expectSoon(link, agent.limits.image, 'image');
    const stages = await incoming.take(payload);
    await link.send({ type: 'committed', stages });
  } finally {
    await incoming.drop();
  }
}

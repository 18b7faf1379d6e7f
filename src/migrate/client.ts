/** How the command line and other users speak to an agent. Each call is a link of its own; all failures are KedgeErrors. */
import { withHint } from '../errors.ts';
import type { GuestInfo, MoveResult, RestoreOptions, RunSpec } from './protocol.ts';
import { errorMessage, expect } from './protocol.ts';
import type { Link } from './transport.ts';
import { unixTransport } from './transport.ts';

/** Where an agent listens unless told otherwise. */
export const DEFAULT_AGENT_SOCKET = '/run/kedge/agent.sock';

const NOT_WHOLE = 'no image was written; unless its agent has died, the guest goes on: kedge ps';

/** What a guest printed. `missed` are bytes before `data` that its agent had forgotten when they were asked for. */
export type Output = AsyncGenerator<
  { readonly stream: 'stdout' | 'stderr'; readonly data: Uint8Array; readonly missed: number },
  void
>;

/** A guest, and all that it prints until its code ends here: once it is well ahead, it waits for whoever takes that. */
export type Attached = { readonly guest: GuestInfo; readonly output: Output };

export class AgentClient {
  readonly #socket: string;
  readonly #links = new Set<Link>();

  constructor(socketPath: string) {
    this.#socket = socketPath;
  }

  /** A link with its request sent; whoever gets it drops it. */
  async #open(request: object, payload: readonly Uint8Array[] = []): Promise<Link> {
    const link = await unixTransport.connect(this.#socket);
    this.#links.add(link);
    try {
      await link.send(request, payload);
      return link;
    } catch (error) {
      this.#drop(link);
      throw error;
    }
  }

  #drop(link: Link): void {
    this.#links.delete(link);
    link.close();
  }

  async #ask<T>(request: object, payload: readonly Uint8Array[], take: (link: Link) => Promise<T>): Promise<T> {
    const link = await this.#open(request, payload);
    try {
      return await take(link);
    } finally {
      this.#drop(link);
    }
  }

  /** Starts a guest. Returns when it runs. */
  run(spec: RunSpec, module: Uint8Array): Promise<GuestInfo> {
    return this.#ask({ type: 'run', spec }, [module], async (link) => (await expect(link, 'guest')).guest);
  }

  list(): Promise<GuestInfo[]> {
    return this.#ask({ type: 'list' }, [], async (link) => (await expect(link, 'guests')).guests);
  }

  /** What a guest printed, and with `follow` what it prints until its code ends. A guest does not wait for it. */
  async *logs(name: string, options: { readonly follow: boolean }): Output {
    yield* this.#output(await this.#open({ type: 'logs', name, follow: options.follow }));
  }

  async *#output(link: Link): Output {
    try {
      for (;;) {
        const part = await expect(link, 'log', 'done');
        if (part.type === 'done') return;
        yield { stream: part.stream, data: part.payload, missed: part.missed };
      }
    } finally {
      this.#drop(link);
    }
  }

  /** Starts a guest and stays with it. Returns when it runs. */
  runAttached(spec: RunSpec, module: Uint8Array): Promise<Attached> {
    return this.#attached({ type: 'run', spec, attach: true }, module);
  }

  /** Continues the guest of an image and stays with it. Returns when it runs. */
  restoreAttached(image: Uint8Array, options: RestoreOptions): Promise<Attached> {
    return this.#attached({ type: 'restore', ...options, attach: true }, image);
  }

  async #attached(request: object, payload: Uint8Array): Promise<Attached> {
    const link = await this.#open(request, [payload]);
    try {
      const { guest } = await expect(link, 'guest');
      return { guest, output: this.#output(link) };
    } catch (error) {
      this.#drop(link);
      throw error;
    }
  }

  /** Waits until the guest's code ends here: by itself, or because it was moved or stopped. */
  wait(name: string): Promise<{ readonly exitCode: number } | { readonly gone: string }> {
    return this.#ask({ type: 'wait', name }, [], async (link) => {
      const { exitCode, gone } = await expect(link, 'ended');
      return exitCode === undefined ? { gone: gone ?? 'ended' } : { exitCode };
    });
  }

  /** Ends a guest, or takes one that has ended off the list. Returns where it is, if it has left and may go on there. */
  stop(name: string): Promise<string | undefined> {
    return this.#ask({ type: 'stop', name }, [], async (link) => (await expect(link, 'stopped')).elsewhere);
  }

  /** Moves a guest to the agent at `toSocket`; resolves when it runs there. */
  migrate(name: string, toSocket: string, options: { readonly engine?: string } = {}): Promise<MoveResult> {
    return this.#ask(
      { type: 'migrate', name, to: toSocket, ...options },
      [],
      async (link) => (await expect(link, 'moved')).result,
    );
  }

  /** Gives the image to `write`; only when that has resolved, the agent lets the guest end. */
  checkpoint(
    name: string,
    leaveRunning: boolean,
    write: (chunks: AsyncIterable<Uint8Array>) => Promise<void>,
  ): Promise<{ readonly bytes: number }> {
    return this.#ask({ type: 'checkpoint', name, leaveRunning }, [], async (link) => {
      const { payload } = await expect(link, 'image').catch((error: unknown) => {
        throw withHint(error, 'KEDGE_LINK_BROKEN', NOT_WHOLE);
      });
      try {
        await write(once(payload));
      } catch (error) {
        await link.send(errorMessage(error));
        // The guest goes on before this call says that it failed.
        await expect(link, 'done').catch(() => undefined);
        throw error;
      }
      await link.send({ type: 'written' });
      await expect(link, 'done');
      return { bytes: payload.length };
    });
  }

  restore(image: Uint8Array, options: RestoreOptions): Promise<GuestInfo> {
    return this.#ask({ type: 'restore', ...options }, [image], async (link) => (await expect(link, 'guest')).guest);
  }

  /** Breaks off what is under way. */
  close(): void {
    for (const link of this.#links) link.close();
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}

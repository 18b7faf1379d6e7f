/** Agents in this process, over a fake gateway, with guests on loopback addresses. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { GatewayClient } from '../../../src/gateway/admin/client.ts';
import { Agent } from '../../../src/migrate/agent.ts';
import { AgentClient } from '../../../src/migrate/client.ts';
import type { Limits } from '../../../src/migrate/limits.ts';
import { LIMITS } from '../../../src/migrate/limits.ts';
import type { GuestInfo, RunSpec } from '../../../src/migrate/protocol.ts';
import { noRegistry } from '../../../src/migrate/registry.ts';
import { serve } from '../../../src/migrate/serve.ts';
import { unixTransport } from '../../../src/migrate/transport.ts';
import type { Listener, Transport } from '../../../src/migrate/transport.ts';
import { waitFor } from '../../support/wait.ts';
import { wat } from '../engine/support.ts';
import { FakeGateway } from './fake-gateway.ts';

const EXAMPLES = join(import.meta.dirname, '..', '..', '..', 'build', 'examples');

/** An example guest, as the set-up has built it. */
export function example(name: 'chat' | 'compute'): Uint8Array {
  return new Uint8Array(readFileSync(join(EXAMPLES, `${name}.wasm`)));
}

/** A guest that says `text` on a stream and exits with a code. */
export function speaker(text: string, stream: 1 | 2, code: number): Uint8Array {
  return wat(`(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\\10\\00\\00\\00\\${text.length.toString(16).padStart(2, '0')}\\00\\00\\00")
    (data (i32.const 16) "${text}")
    (func (export "_start")
      (drop (call $write (i32.const ${stream}) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $exit (i32.const ${code}))))`);
}

/** A guest that prints so many pieces of 64 KiB, each of them of one letter, at once, and ends. */
export function printer(pieces: number): Uint8Array {
  return wat(`(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 0) "\\00\\00\\01\\00\\00\\00\\01\\00")
    (func (export "_start") (local $n i32)
      (loop $again
        (memory.fill (i32.const 65536)
          (i32.add (i32.const 97) (i32.rem_u (local.get $n) (i32.const 26))) (i32.const 65536))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const ${pieces}))))))`);
}

/**
 * A guest that prints `tick 0001`, `tick 0002` and so on, one each 20 ms, and for the rest sleeps. A tick that is missing or there
 * twice shows that it did not go on where it was. `several`: it counts in another memory than the one that host functions see, which
 * grows to three pages.
 */
export function ticker(several = false): Uint8Array {
  const text = '(i32.const 16) "tick 0000\\n"';
  return wat(
    `(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    ${several ? `(memory 1) (data ${text})` : ''}
    (memory $seen (export "memory") 1)
    (data (memory $seen) (i32.const 0) "\\10\\00\\00\\00\\0a\\00\\00\\00")
    (data (memory $seen) ${text})
    ;; A subscription at 64: the monotonic clock, 20 000 000 ns.
    (data (memory $seen) (i32.const 80) "\\01\\00\\00\\00")
    (data (memory $seen) (i32.const 88) "\\00\\2d\\31\\01")
    (func (export "_start") (local $digit i32)
      (loop $again
        (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 192)))
        (local.set $digit (i32.const 24))
        (loop $carry
          (i32.store8 (local.get $digit) (i32.add (i32.load8_u (local.get $digit)) (i32.const 1)))
          (if (i32.gt_u (i32.load8_u (local.get $digit)) (i32.const 57)) (then
            (i32.store8 (local.get $digit) (i32.const 48))
            (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
            (br_if $carry (i32.ge_u (local.get $digit) (i32.const 21))))))
        ${several ? '(memory.copy $seen 0 (i32.const 16) (i32.const 16) (i32.const 10))' : ''}
        ${several ? '(if (i32.lt_u (memory.size $seen) (i32.const 3)) (then (drop (memory.grow $seen (i32.const 2)))))' : ''}
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (br $again))))`,
    ...(several ? ['--enable-multi-memory'] : []),
  );
}

/** A guest that traps. */
export function trapper(): Uint8Array {
  return wat('(module (memory (export "memory") 1) (func (export "_start") unreachable))');
}

export interface Host {
  readonly agent: Agent;
  readonly client: AgentClient;
  readonly socket: string;
  /** What it warned of. */
  readonly warnings: string[];
}

/** A fake gateway and the agents of hosts `a` and `b`. */
export class Hosts {
  readonly gateway: FakeGateway;
  readonly a: Host;
  readonly b: Host;
  readonly #closing: (() => Promise<void>)[];

  private constructor(gateway: FakeGateway, a: Host, b: Host, closing: (() => Promise<void>)[]) {
    this.gateway = gateway;
    this.a = a;
    this.b = b;
    this.#closing = closing;
  }

  /** `transport` is how the agents reach each other, `directories` what both give to guests from elsewhere. */
  static async start(
    transport: Transport = unixTransport,
    directories: ReadonlyMap<string, string> = new Map(),
    limits: Limits = LIMITS,
  ): Promise<Hosts> {
    const gateway = await FakeGateway.start();
    const closing: (() => Promise<void>)[] = [];
    const host = async (leg: string): Promise<Host> => {
      const warnings: string[] = [];
      const client = new GatewayClient(gateway.socket);
      const warn = (what: string): void => void warnings.push(what);
      const agent = new Agent({ gateway: client, leg, transport, registry: noRegistry, directories, limits, warn });
      const socket = gateway.path(`${leg}.sock`);
      const listener: Listener = await unixTransport.listen(socket, (link) => void serve(agent, link));
      closing.push(async () => {
        await listener.close();
        await agent.close();
        client.close();
      });
      return { agent, client: new AgentClient(socket), socket, warnings };
    };
    return new Hosts(gateway, await host('a'), await host('b'), closing);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#closing.map((close) => close()));
    await this.gateway[Symbol.asyncDispose]();
  }
}

export function spec(change: Partial<RunSpec> = {}): RunSpec {
  return { publish: [], dirs: [], env: {}, moduleName: 'guest.wasm', args: [], ...change };
}

/** A guest as an agent lists it. */
export async function listed(host: Host, name: string): Promise<GuestInfo> {
  const found = (await host.client.list()).find((guest) => guest.name === name);
  if (found === undefined) throw new Error(`no guest is called ${name}`);
  return found;
}

/** All that a guest has printed. */
export async function printed(host: Host, name: string, follow = false): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const { data } of host.client.logs(name, { follow })) parts.push(data);
  return Buffer.concat(parts).toString();
}

/** Waits until a guest has printed at least so many lines. */
export async function lines(host: Host, name: string, count: number): Promise<string[]> {
  return await waitFor(
    async () => {
      const all = (await printed(host, name)).split('\n').slice(0, -1);
      return all.length >= count && all;
    },
    { what: `${count} lines of ${name}` },
  );
}

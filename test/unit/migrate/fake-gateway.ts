/**
 * A gateway without packets: the admin server of the real one over a table of guests and epochs that decides as the real one does.
 * Guests live on loopback addresses, where no gateway is needed for them to be reached.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { KedgeError } from '../../../src/errors.ts';
import type { ErrorCode } from '../../../src/errors.ts';
import type { AdminControl, AdminListing } from '../../../src/gateway/admin/server.ts';
import { createAdminServer } from '../../../src/gateway/admin/server.ts';
import type { ControlVerbs, ExportBody, GuestSummary, RegisterBody } from '../../../src/gateway/admin/schema.ts';
import { STATUS } from '../gateway/admin-fake.ts';

type Verb = keyof ControlVerbs;

type Entry = Pick<GuestSummary, 'id' | 'name' | 'address' | 'publish'> & {
  leg: string;
  epoch: number;
  state: GuestSummary['state'];
  nextLeg: string | undefined;
};

export class FakeGateway {
  readonly socket: string;
  /** Verbs in the order in which they came, e.g. `freeze`. */
  readonly calls: Verb[] = [];
  readonly exports: ExportBody[] = [];
  /** Called before a verb is carried out; throwing is a refusal. */
  before: (verb: Verb) => void | Promise<void> = () => undefined;
  /** Called when it has been carried out; throwing loses the answer. */
  after: (verb: Verb) => void | Promise<void> = () => undefined;
  /** Exports that do not settle before one does. */
  unsettled = 0;
  readonly #guests = new Map<string, Entry>();
  readonly #directory = mkdtempSync(join(tmpdir(), 'kedge-fake-'));
  readonly #net = 1 + Math.floor(Math.random() * 250);
  #last = 0;
  #claims = 0;
  #close: (() => Promise<void>) | undefined;

  private constructor() {
    this.socket = join(this.#directory, 'gw.sock');
  }

  static async start(): Promise<FakeGateway> {
    const fake = new FakeGateway();
    const listing: AdminListing = {
      status: () => ({ ...STATUS, legs: ['a', 'b'].map((name) => ({ ...legOf(), name })) }),
      flows: () => [],
      flow: () => undefined,
      guests: () => fake.guests(),
    };
    const control: AdminControl = { call: (verb, args) => fake.#call(verb, args) };
    const server = await createAdminServer({ control, listing, logger: pino({ level: 'silent' }) });
    await server.listen({ path: fake.socket });
    fake.#close = () => server.close();
    return fake;
  }

  /** A place for sockets of agents. */
  path(name: string): string {
    return join(this.#directory, name);
  }

  guests(): GuestSummary[] {
    return [...this.#guests.values()].map(({ nextLeg, ...guest }) => ({
      ...guest,
      state: nextLeg === undefined ? guest.state : 'attaching',
      flows: 0,
    }));
  }

  async #call(verb: Verb, args: object): Promise<object> {
    this.calls.push(verb);
    await this.before(verb);
    if (verb === 'register') return { guest: this.#register(args as RegisterBody) };
    const { id, epoch } = args as { id: string; epoch: number };
    const guest = this.#guests.get(id);
    if (guest === undefined) throw refuse('KEDGE_GUEST_UNKNOWN');
    if (verb === 'export') this.exports.push(args as ExportBody);
    const result = this.#decide(verb, guest, epoch, args);
    await this.after(verb);
    return result;
  }

  #register(body: RegisterBody): GuestSummary {
    const address = body.address ?? `127.77.${this.#net}.${(this.#last += 1)}`;
    if ([...this.#guests.values()].some((guest) => guest.address === address)) throw refuse('KEDGE_ADDRESS_IN_USE');
    const { id, name, leg, publish } = body;
    const taken = this.guests().flatMap((guest) => guest.publish);
    if (publish.some((p) => taken.some((q) => p.proto === q.proto && p.outsidePort === q.outsidePort)))
      throw refuse('KEDGE_PORT_IN_USE');
    const guest: Entry = { id, name, leg, publish, address, epoch: 1, state: 'running', nextLeg: undefined };
    this.#guests.set(id, guest);
    return { ...guest, flows: 0 };
  }

  /** As `verbs.ts` of the real gateway, without flows. */
  #decide(verb: Verb, guest: Entry, epoch: number, args: object): object {
    const held = (): void => {
      if (epoch !== guest.epoch) throw refuse('KEDGE_EPOCH_STALE');
    };
    switch (verb) {
      case 'unregister':
        held();
        this.#guests.delete(guest.id);
        return {};
      case 'check':
        held();
        return { movable: true };
      case 'freeze':
        held();
        if (guest.state !== 'running') throw refuse('KEDGE_GUEST_NOT_RUNNING');
        guest.state = 'frozen';
        return { flows: [] };
      case 'export':
        held();
        if (guest.state !== 'frozen') throw refuse('KEDGE_GUEST_NOT_FROZEN');
        if (this.unsettled === 0) return { settled: true, flows: [] };
        this.unsettled -= 1;
        return { settled: false, reasons: ['flow 1: an ACK is under way'] };
      case 'seal':
        held();
        if (guest.state === 'running') throw refuse('KEDGE_GUEST_NOT_FROZEN');
        guest.state = 'sealed';
        return {};
      case 'attach':
        if (epoch !== guest.epoch + 1 || guest.nextLeg !== undefined) throw refuse('KEDGE_EPOCH_CLAIMED');
        if (guest.state === 'running') throw refuse('KEDGE_GUEST_NOT_FROZEN');
        guest.nextLeg = (args as { leg: string }).leg;
        return { flows: [], claim: (this.#claims += 1) };
      case 'commit':
        if (epoch === guest.epoch && guest.state === 'running') return {};
        if (epoch !== guest.epoch + 1 || guest.nextLeg === undefined) throw refuse('KEDGE_EPOCH_STALE');
        Object.assign(guest, { epoch, leg: guest.nextLeg, nextLeg: undefined, state: 'running' });
        return {};
      case 'detach':
        if (epoch <= guest.epoch) throw refuse('KEDGE_EPOCH_COMMITTED');
        guest.nextLeg = undefined;
        return {};
      case 'abort':
        if (guest.epoch > epoch) throw refuse('KEDGE_EPOCH_COMMITTED');
        held();
        if (guest.state === 'sealed') throw refuse('KEDGE_GUEST_SEALED');
        Object.assign(guest, { nextLeg: undefined, state: 'running' });
        return {};
      default:
        throw new Error(`no verb ${verb}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close?.();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function legOf(): (typeof STATUS)['legs'][number] {
  const [leg] = STATUS.legs;
  if (leg === undefined) throw new Error('the sample status has no leg');
  return leg;
}

/** A refusal as the gateway's own, or a failure that a test puts in its place. */
export function refuse(code: ErrorCode): KedgeError {
  return new KedgeError(code, `refused by the fake gateway: ${code}`);
}

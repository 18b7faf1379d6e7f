/** A gateway without a pump: the admin server over a listing and a control that a test scripts. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { AdminControl, AdminListing } from '../../../src/gateway/admin/server.ts';
import { createAdminServer } from '../../../src/gateway/admin/server.ts';
import type { ControlVerbs, FlowDetail, GuestSummary, Status } from '../../../src/gateway/admin/schema.ts';

export const GUEST_ID = '7d444840-9dc0-11d1-b245-5ffdce74fad2';

export const FLOW: FlowDetail = {
  id: 7,
  proto: 'tcp',
  state: 'CLOSE-WAIT',
  guestId: GUEST_ID,
  guestName: 'chat',
  guest: '100.64.0.1:80',
  outside: '192.0.2.10:8080',
  peer: '198.51.100.7:43210',
  leg: 'a',
  epoch: 3,
  ageMs: 125_000,
  bytesOut: 1000,
  bytesIn: 2 ** 40,
  packetsOut: 10,
  packetsIn: 20,
  custodyBytes: 300,
  splices: 2,
  direction: 'in',
  frozen: true,
  fast: false,
  delta: 4_294_967_295,
  sequence: {
    guestIsn: 1,
    peerIsn: 2,
    currentGuestIsn: 3,
    sndUna: -1,
    sndNxt: 5_000_000_000,
    rcvNxt: 6,
    peerNxt: 7,
    delta: 4_294_967_295,
    attachOffset: 8,
  },
  windows: { peerWindow: 501, peerShift: 7, guestShift: 9, maxEdge: 65_543, guestEdge: 65_000 },
  timestamps: { enabled: true, delta: 11, lastToPeer: 12, lastFromPeer: 13 },
  custody: {
    bytes: 300,
    start: 100,
    end: 500,
    ranges: [
      { start: 100, end: 300 },
      { start: 400, end: 500 },
    ],
    received: 100,
  },
  sack: true,
  mss: { guest: 1460, peer: 1400 },
};

export const GUEST: GuestSummary = {
  id: GUEST_ID,
  name: 'chat',
  address: '100.64.0.1',
  leg: 'a',
  epoch: 3,
  state: 'frozen',
  publish: [{ proto: 'tcp', outsidePort: 8080, guestPort: 80 }],
  flows: 1,
};

export const STATUS: Status = {
  version: '0.1.0',
  pid: 42,
  uptimeMs: 90_061_000,
  outside: { address: '192.0.2.10', device: 'up0', tun: 'kg-out', packetsIn: 20, packetsOut: 10 },
  pool: '100.64.0.0/10',
  fastPath: { state: 'on' },
  legs: [{ name: 'a', device: 'ha0', via: '10.0.1.2', tun: 'kg-a', packetsIn: 10, packetsOut: 20 }],
  flows: 1,
  guests: 1,
  custody: { bytes: 300, limitBytes: 268_435_456 },
  writeErrors: 7,
  drops: { 'no-flow': 3, fragment: 12 },
};

type Call = { verb: keyof ControlVerbs; args: unknown };

export class FakeGateway {
  readonly socket: string;
  /** What reached the pump. */
  readonly calls: Call[] = [];
  /** Queries that reached the listing of flows. */
  readonly queries: unknown[] = [];
  /** What a verb answers; throwing is a refusal. */
  answer: (verb: keyof ControlVerbs, args: unknown) => object = () => ({});
  readonly #directory: string;
  #close: (() => Promise<void>) | undefined;

  private constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), 'kedge-admin-'));
    this.socket = join(this.#directory, 'gw.sock');
  }

  static async start(): Promise<FakeGateway> {
    const fake = new FakeGateway();
    const listing: AdminListing = {
      status: () => STATUS,
      flows: (query) => {
        fake.queries.push({ ...query });
        return [FLOW];
      },
      flow: (id) => (id === FLOW.id ? FLOW : undefined),
      guests: () => [GUEST],
    };
    const control: AdminControl = {
      call: (verb, args) => {
        fake.calls.push({ verb, args });
        return Promise.resolve().then(() => fake.answer(verb, args) as never);
      },
    };
    const server = await createAdminServer({ control, listing, logger: pino({ level: 'silent' }) });
    await server.listen({ path: fake.socket });
    fake.#close = () => server.close();
    return fake;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close?.();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

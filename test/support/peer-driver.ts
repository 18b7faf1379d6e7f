/**
 * A scriptable TCP peer in a place of the topology (usually the peer): the near end of drive/peer.ts.
 *
 *     await using peer = new PeerDriver(topology);
 *     const connection = await peer.connect({ address: '10.77.1.10', port: 80 });
 *     await connection.send(1, 1_000_000);
 *     await connection.until((state) => state.received.bytes === 5_000_000);
 */
import { createHash } from 'node:crypto';
import { Driver } from './driver.ts';
import { patternHash } from './pattern.ts';
import type { ReceiveReport, SendReport } from './drive/account.ts';
import type { ConnectParams, SendParams } from './drive/peer.ts';
import type { Place, Topology } from './topology.ts';
import { waitFor, type WaitOptions } from './wait.ts';

export interface ConnectionReport {
  /** "address:port" as the peer sees them. */
  readonly local: string;
  readonly remote: string;
  readonly sent: SendReport;
  readonly received: ReceiveReport;
  readonly closed: boolean;
  /** What went wrong, e.g. ECONNRESET; null: nothing. */
  readonly error: string | null;
}

/** What tests do with either end of a connection, the peer's or a host's. */
export class DrivenConnection {
  readonly index: number;
  readonly #driver: Driver;

  constructor(driver: Driver, index: number) {
    this.#driver = driver;
    this.index = index;
  }

  async #call(method: string, params: object = {}): Promise<void> {
    await this.#driver.call(method, { connection: this.index, ...params });
  }

  /** Sends so many more bytes of the stream of `seed`, in the background; `rate` in bytes a second. */
  async send(seed: number, bytes: number, rate?: number): Promise<void> {
    const params: Omit<SendParams, 'connection'> = { seed, bytes, ...(rate === undefined ? {} : { rate }) };
    await this.#call('send', params);
  }

  /**
   * All that comes must be the stream of `seed`; call it before anything can come. What comes after `bytes` of it is `rest` in
   * reports: the answer of a server.
   */
  async expect(seed: number, bytes?: number): Promise<void> {
    await this.#call('expect', { seed, ...(bytes === undefined ? {} : { bytes }) });
  }

  /** Sends text that is in no books: the request to a server. Only a peer can. */
  async say(text: string): Promise<void> {
    await this.#call('say', { text });
  }

  /** Sends back all that comes, and its end. */
  async echo(): Promise<void> {
    await this.#call('echo');
  }

  /** Half-closes, after all that was asked to be sent. */
  async finish(): Promise<void> {
    await this.#call('finish');
  }

  /** Reads so many bytes a second from now on; without a rate as fast as they come. Only a peer can. */
  async pace(rate?: number): Promise<void> {
    await this.#call('pace', rate === undefined ? {} : { rate });
  }

  /** Sends and reads as fast as it goes from now on. Only a peer can. */
  async hurry(): Promise<void> {
    await this.#call('hurry');
  }

  /** Stops reading, so that its window closes. */
  async pause(): Promise<void> {
    await this.#call('pause');
  }

  async resume(): Promise<void> {
    await this.#call('resume');
  }

  /** Ends it by RST. */
  async destroy(): Promise<void> {
    await this.#call('destroy');
  }

  async report(): Promise<ConnectionReport> {
    return await this.#driver.call('report', { connection: this.index });
  }

  /** Waits until the report is as wanted; fails at once when the connection has an error. */
  async until(condition: (report: ConnectionReport) => boolean, options: WaitOptions = {}): Promise<ConnectionReport> {
    let last: ConnectionReport | undefined;
    await waitFor(
      async () => {
        last = await this.report();
        return condition(last) || last.error !== null || last.received.wrongAt >= 0;
      },
      { interval: 20, timeout: 30_000, what: String(condition), explain: () => JSON.stringify(last), ...options },
    );
    if (last === undefined || !condition(last)) throw new Error(`connection failed: ${JSON.stringify(last)}`);
    return last;
  }

  /** Waits until so many bytes of the stream of `seed` have come (or `ended`: and then the end), and compares their hash. */
  async hasReceived(
    seed: number,
    bytes: number,
    options: WaitOptions & { ended?: boolean } = {},
  ): Promise<ConnectionReport> {
    const { ended = false, ...rest } = options;
    const what = `${bytes} bytes${ended ? ' and the end' : ''}`;
    const report = await this.until(({ received }) => received.bytes >= bytes && (received.ended || !ended), {
      what,
      ...rest,
    });
    if (report.received.bytes !== bytes || report.received.sha256 !== patternHash(seed, bytes)) {
      throw new Error(`not the ${bytes} bytes of stream ${seed}: ${JSON.stringify(report.received)}`);
    }
    return report;
  }

  /** Waits until exactly this text has come, and nothing before it (books without a pattern). */
  async hasReceivedText(text: string, options: WaitOptions = {}): Promise<ConnectionReport> {
    const report = await this.until(({ received }) => received.bytes >= text.length, { what: text, ...options });
    const sha256 = createHash('sha256').update(text).digest('hex');
    if (report.received.sha256 !== sha256) throw new Error(`not the text ${text}: ${JSON.stringify(report.received)}`);
    return report;
  }
}

export class PeerDriver extends Driver {
  constructor(topology: Topology, place: Place = 'peer') {
    super(topology.spawnNode(place, 'test/support/drive/peer.ts'));
  }

  async connect(params: ConnectParams): Promise<DrivenConnection> {
    return new DrivenConnection(this, await this.call<number>('connect', params));
  }

  /** Listens on a port (0: any) of all addresses of the place. `rate`: bytes a second that connections read, from the first one on. */
  async listen({ port = 0, rate }: { readonly port?: number; readonly rate?: number } = {}): Promise<{
    port: number;
    accept: () => Promise<DrivenConnection>;
  }> {
    const params = { port, ...(rate === undefined ? {} : { rate }) };
    const { listener, port: bound } = await this.call<{ listener: number; port: number }>('listen', params);
    const accept = async (): Promise<DrivenConnection> =>
      new DrivenConnection(this, await this.call<number>('accept', { listener }));
    return { port: bound, accept };
  }
}

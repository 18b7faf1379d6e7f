/** UDP sockets in a place of the topology (usually the peer): the near end of drive/datagrams.ts. */
import { Driver } from './driver.ts';
import type { Datagram } from './drive/datagrams.ts';
import type { Place, Topology } from './topology.ts';
import { waitFor } from './wait.ts';

export class DatagramSocket {
  readonly port: number;
  readonly #driver: Driver;
  readonly #index: number;
  /** Datagrams that were returned by {@link next}. */
  #taken = 0;

  constructor(driver: Driver, { index, port }: { index: number; port: number }) {
    this.#driver = driver;
    this.#index = index;
    this.port = port;
  }

  /** Sends to "address:port". */
  async send(to: string, text: string): Promise<void> {
    const [address, port] = to.split(':');
    await this.#driver.call('send', { index: this.#index, address, port: Number(port), text });
  }

  /** All that has come so far, in order. */
  async received(): Promise<Datagram[]> {
    return await this.#driver.call<Datagram[]>('received', { index: this.#index });
  }

  /** The next datagrams, when so many have come. */
  async next(count: number): Promise<Datagram[]> {
    let all: Datagram[] = [];
    const until = this.#taken + count;
    await waitFor(async () => (all = await this.received()).length >= until, {
      what: `${count} datagrams at port ${this.port}`,
      explain: () => JSON.stringify(all.slice(this.#taken)),
    });
    const taken = all.slice(this.#taken, until);
    this.#taken = until;
    return taken;
  }

  /** Sends, and gives the text of what comes next. */
  async ask(to: string, text: string): Promise<string> {
    await this.send(to, text);
    return (await this.next(1))[0]?.text ?? '';
  }
}

export class DatagramPeer extends Driver {
  constructor(topology: Topology, place: Place = 'peer') {
    super(topology.spawnNode(place, 'test/support/drive/datagrams.ts'));
  }

  async open(): Promise<DatagramSocket> {
    return new DatagramSocket(this, await this.call('open'));
  }
}

/**
 * Peers that are not our code: curl, nginx, iperf3, socat and nc, started in a place of the topology.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import type { Place, Topology } from './topology.ts';
import type { Running } from './process.ts';
import { waitFor } from './wait.ts';

let serial = 0;

export interface Bytes {
  readonly bytes: number;
  readonly sha256: string;
}

/** Length and hash of a file. */
export async function hashFile(file: string): Promise<Bytes> {
  const hash = createHash('sha256');
  let bytes = 0;
  await pipeline(createReadStream(file), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      bytes += chunk.length;
      hash.update(chunk);
    }
  });
  return { bytes, sha256: hash.digest('hex') };
}

/** Waits until something listens on a TCP port in a place, as `ss` sees it. */
export async function waitListening(topology: Topology, place: Place, port: number, server?: Running): Promise<void> {
  await waitFor(
    async () => {
      if (server?.running === false) throw new Error('the server has ended');
      return (await topology.run(place, ['ss', '-H', '-tln', `sport = :${port}`])) !== '';
    },
    { what: `a listener on port ${port} in ${place}`, explain: () => server?.describe() ?? '' },
  );
}

/** A download that is on its way. */
export class Download {
  readonly curl: Running;
  readonly #file: string;

  constructor(topology: Topology, place: Place, url: string, extra: readonly string[] = []) {
    this.#file = topology.path(`download-${serial++}`);
    // No retries of any kind: the one connection has to do.
    const report = [
      '--silent',
      '--show-error',
      '--fail',
      '--retry',
      '0',
      '--write-out',
      '%{num_connects} %{http_code}',
    ];
    this.curl = topology.spawn(place, ['curl', ...report, '--output', this.#file, ...extra, url]);
  }

  /** Waits for the end; it must have been one connection and a whole answer with status 200 (206 for a range). */
  async result(timeout = 60_000): Promise<Bytes> {
    const { stdout } = await this.curl.done(timeout);
    if (!/^1 20[06]$/.test(stdout)) throw new Error(`curl reports '${stdout}' (connections, status)`);
    return await hashFile(this.#file);
  }
}

/** Downloads to the end. */
export async function curl(
  topology: Topology,
  place: Place,
  url: string,
  extra: readonly string[] = [],
): Promise<Bytes> {
  return await new Download(topology, place, url, extra).result();
}

export interface NginxOptions {
  readonly place?: Place;
  readonly address?: string;
  readonly port?: number;
  /** Contents by path below '/'. */
  readonly files: Readonly<Record<string, Uint8Array | string>>;
  /** More directives for the server block, e.g. 'limit_rate 1m;'. */
  readonly directives?: string;
}

/** Starts nginx with files of its own; ended with the topology. */
export async function nginx(topology: Topology, options: NginxOptions): Promise<Running> {
  const { place = 'peer', address = '0.0.0.0', port = 80, directives = '' } = options;
  const directory = topology.path(`nginx-${serial++}`);
  await mkdir(`${directory}/html`, { recursive: true });
  for (const [path, content] of Object.entries(options.files)) await writeFile(`${directory}/html/${path}`, content);
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${directory}/${kind};`)
    .join('\n  ');
  const config = `
user root;
daemon off;
worker_processes 1;
pid ${directory}/pid;
error_log stderr notice;
events { worker_connections 1024; }
http {
  ${temporary}
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  keepalive_timeout 600s;
  server {
    listen ${address}:${port};
    root ${directory}/html;
    ${directives}
  }
}
`;
  await writeFile(`${directory}/nginx.conf`, config);
  const running = topology.spawn(place, ['nginx', '-p', directory, '-e', 'stderr', '-c', `${directory}/nginx.conf`]);
  await waitListening(topology, place, port, running);
  return running;
}

/** Directives of an nginx whose content comes from a port of its own host, as it comes. */
export function proxyTo(port: number): string {
  return `location / { proxy_pass http://127.0.0.1:${port}; proxy_buffering off; }`;
}

export interface Iperf3Result {
  readonly bitsPerSecond: number;
  readonly retransmits: number;
  readonly bytes: number;
}

/** Starts an iperf3 server for one test. */
export async function iperf3Server(topology: Topology, place: Place, address: string, port = 5201): Promise<Running> {
  const running = topology.spawn(place, ['iperf3', '--server', '--one-off', '--bind', address, '--port', String(port)]);
  await waitListening(topology, place, port, running);
  return running;
}

/** Runs an iperf3 client to its end; `extra` e.g. ['--reverse', '--time', '3']. */
export async function iperf3(
  topology: Topology,
  place: Place,
  address: string,
  extra: readonly string[],
  port = 5201,
): Promise<Iperf3Result> {
  const command = ['iperf3', '--client', address, '--port', String(port), '--json', ...extra];
  const finished = await topology.tryRun(place, command, { timeout: 120_000 });
  const report = JSON.parse(finished.stdout) as {
    error?: string;
    end?: { sum_sent?: { retransmits?: number }; sum_received?: { bits_per_second: number; bytes: number } };
  };
  const received = report.end?.sum_received;
  if (finished.code !== 0 || received === undefined) throw new Error(`iperf3: ${report.error ?? finished.stderr}`);
  return {
    bitsPerSecond: received.bits_per_second,
    retransmits: report.end?.sum_sent?.retransmits ?? 0,
    bytes: received.bytes,
  };
}

/** A conversation in lines with a program's standard input and output. */
export class Talk {
  readonly running: Running;
  #heard = 0;

  constructor(running: Running) {
    this.running = running;
  }

  /** Everything heard so far. */
  get transcript(): string {
    return this.running.stdout;
  }

  say(line: string): void {
    this.running.child.stdin.write(`${line}\n`);
  }

  /** Half-closes: the program sees the end of its input. */
  finish(): void {
    this.running.child.stdin.end();
  }

  /** Waits for a whole line that matches, after those already heard; returns the match. */
  async hear(pattern: RegExp, timeout = 10_000): Promise<RegExpExecArray> {
    return await waitFor(
      () => {
        const end = this.running.stdout.lastIndexOf('\n') + 1;
        let at = this.#heard;
        for (const line of this.running.stdout.slice(at, end).split(/(?<=\n)/)) {
          at += line.length;
          const match = pattern.exec(line.trimEnd());
          if (match === null) continue;
          this.#heard = at;
          return match;
        }
        if (!this.running.running) throw new Error('the program has ended');
        return null;
      },
      { timeout, what: `a line like ${String(pattern)}`, explain: () => this.running.describe() },
    );
  }
}

/**
 * A conversation over `socat`; `options` of its TCP address, e.g. 'keepalive,keepidle=1,keepintvl=1' or 'bind=:4000'.
 * After the end of its input it waits for the other side as long as that takes.
 */
export function socat(topology: Topology, place: Place, address: string, port: number, options = ''): Talk {
  const target = `TCP4:${address}:${port}${options === '' ? '' : `,${options}`}`;
  return new Talk(topology.spawn(place, ['socat', '-t', '3600', 'STDIO', target]));
}

/** A conversation over OpenBSD's `nc`, which half-closes at the end of its input. */
export function nc(
  topology: Topology,
  place: Place,
  address: string,
  port: number,
  options: readonly string[] = [],
): Talk {
  return new Talk(topology.spawn(place, ['nc', '-N', ...options, address, String(port)]));
}

/**
 * Client of the gateway's admin API, for agents and the command line: HTTP/1.1 with JSON bodies over a Unix socket, and for the verbs
 * of a move lines over one connection (`verb-lines.ts`).
 *
 * Every failure is a KedgeError. One the gateway answered has the gateway's own code and hint; one on the way there is
 * `KEDGE_GATEWAY_UNREACHABLE`, `KEDGE_GATEWAY_TIMEOUT` or `KEDGE_GATEWAY_PROTOCOL`. After the last two a verb may have been
 * carried out or not: `commit`, `abort` and `detach` may be called again.
 *
 * Connections are kept between calls, so that a call during a migration costs one round trip; an idle one does not keep the
 * process alive.
 */
import { Agent, request } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { KedgeError, isErrorCode } from '../../errors.ts';
import type {
  AttachBody,
  AttachResult,
  ClaimBody,
  CheckResult,
  EpochBody,
  ErrorBody,
  ExportBody,
  ExportResult,
  FlowDetail,
  FlowList,
  FlowQuery,
  FreezeResult,
  GuestList,
  Health,
  RegisterBody,
  RegisterResult,
  RemoveBody,
  Status,
} from './schema.ts';
import { NoVerbs, VerbClient } from './verb-client.ts';
import type { LineVerb } from './verb-lines.ts';

/** Where the gateway listens unless told otherwise. */
export const DEFAULT_GATEWAY_SOCKET = '/run/kedge/gateway.sock';

const DEFAULT_TIMEOUT_MS = 10_000;
/** A listing of all flows a gateway can have is below this. */
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;

export type GatewayClientOptions = {
  /** How long a call waits for its answer, milliseconds. */
  readonly timeoutMs?: number;
};

type Method = 'GET' | 'POST' | 'DELETE';

export class GatewayClient {
  readonly socketPath: string;
  readonly #timeoutMs: number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 16 });
  #verbs: VerbClient | undefined;

  constructor(socketPath: string, options: GatewayClientOptions = {}) {
    this.socketPath = socketPath;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  health(): Promise<Health> {
    return this.#call('GET', '/v1/health');
  }

  status(): Promise<Status> {
    return this.#call('GET', '/v1/status');
  }

  /** Flows that match all of the query. */
  async flows(query: FlowQuery = {}): Promise<FlowList['flows']> {
    const search = new URLSearchParams(Object.entries(query)).toString();
    const list = await this.#call<FlowList>('GET', search === '' ? '/v1/flows' : `/v1/flows?${search}`);
    return list.flows;
  }

  /** One flow with all its numbers; KEDGE_FLOW_UNKNOWN when there is none of that id (now). */
  flow(id: number): Promise<FlowDetail> {
    return this.#call('GET', `/v1/flows/${id}`);
  }

  async guests(): Promise<GuestList['guests']> {
    const list = await this.#call<GuestList>('GET', '/v1/guests');
    return list.guests;
  }

  /** Makes a guest known, at epoch 1; without an address it gets one of the pool. */
  register(guest: RegisterBody): Promise<RegisterResult> {
    return this.#call('POST', '/v1/guests', guest);
  }

  /** The guest has ended: peers of flows that are still open get a RST. */
  async unregister(id: string, body: EpochBody): Promise<void> {
    await this.#call('DELETE', guestPath(id), body);
  }

  /**
   * Gives up a guest that nobody will continue: peers of its open connections get a RST, its address and ports are free. One that
   * runs, or is being restored, is refused (KEDGE_GUEST_RUNNING, KEDGE_GUEST_BUSY) unless forced.
   */
  async remove(id: string, body: RemoveBody): Promise<void> {
    await this.#call('POST', `${guestPath(id)}/remove`, body);
  }

  /** Whether every flow of the guest can move; KEDGE_FLOW_UNMOVABLE names the one that cannot. Changes nothing. */
  check(id: string, body: EpochBody): Promise<CheckResult> {
    return this.#verb(id, 'check', body);
  }

  /** The gateway stands in for the guest from here on. */
  freeze(id: string, body: EpochBody): Promise<FreezeResult> {
    return this.#verb(id, 'freeze', body);
  }

  /** Tells what was drained. `settled: false`: drain and export again. */
  export(id: string, body: ExportBody): Promise<ExportResult> {
    return this.#verb(id, 'export', body);
  }

  /** The image is complete and holds the only claim; the sockets it was taken from are dead. */
  async seal(id: string, body: EpochBody): Promise<void> {
    await this.#verb(id, 'seal', body);
  }

  /** Claims the next epoch (`epoch` = old + 1) for a leg, whose connects for these flows are answered from here on. */
  attach(id: string, body: AttachBody): Promise<AttachResult> {
    return this.#verb(id, 'attach', body);
  }

  /** The flows switch to the attached epoch, and the old one is fenced. May be repeated. */
  async commit(id: string, body: ClaimBody): Promise<void> {
    await this.#verb(id, 'commit', body);
  }

  /** Gives an attached epoch back before commit. */
  async detach(id: string, body: ClaimBody): Promise<void> {
    await this.#verb(id, 'detach', body);
  }

  /** Thaws the guest where it was; KEDGE_EPOCH_COMMITTED when it already runs elsewhere. May be repeated. */
  async abort(id: string, body: EpochBody): Promise<void> {
    await this.#verb(id, 'abort', body);
  }

  /** Closes idle connections. */
  close(): void {
    this.#agent.destroy();
    this.#verbs?.close();
  }

  async #verb<T>(id: string, verb: LineVerb, body: object): Promise<T> {
    if (this.#verbs?.open !== true) this.#verbs = new VerbClient(this.socketPath);
    const verbs = this.#verbs;
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      // What it may still say is of no interest, and the next call finds a connection that answers.
      verbs.close();
    }, this.#timeoutMs);
    try {
      const answer = await verbs.call(verb, id, body);
      // The other end is the same version of the same program.
      if ('result' in answer) return answer.result as T;
      throw this.#refused(answer.error, verb);
    } catch (error) {
      if (error instanceof KedgeError) throw error;
      if (timedOut) throw this.#timeout(verb);
      throw error instanceof NoVerbs ? this.#protocol(error.message) : this.#unreachable(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #call<T>(method: Method, path: string, body?: object): Promise<T> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise<T>((resolve, reject) => {
      const call = request({
        agent: this.#agent,
        socketPath: this.socketPath,
        method,
        path,
        headers:
          payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': payload.byteLength },
      });
      const timer = setTimeout(() => {
        call.destroy(this.#timeout(`${method} ${path}`));
      }, this.#timeoutMs);
      call.on('error', (error) => {
        clearTimeout(timer);
        reject(error instanceof KedgeError ? error : this.#unreachable(error));
      });
      call.on('response', (response) => {
        readAnswer(response)
          .finally(() => clearTimeout(timer))
          .then((text) => resolve(this.#decode<T>(response.statusCode ?? 0, text)))
          .catch((error: unknown) => reject(error instanceof KedgeError ? error : this.#unreachable(error)));
      });
      call.end(payload);
    });
  }

  /** A body of a success has the shape of its schema: the other end is the same version of the same program. */
  #decode<T>(status: number, text: string): T {
    let body: unknown;
    try {
      body = JSON.parse(text);
    } catch {
      body = undefined;
    }
    if (typeof body !== 'object' || body === null)
      throw this.#protocol(`${this.socketPath} answered ${status} without a JSON object`);
    if (status >= 200 && status < 300) return body as T;
    throw this.#refused(body, String(status));
  }

  #refused(body: Partial<ErrorBody>, what: string): KedgeError {
    const { code, message, hint } = body;
    if (typeof code === 'string' && isErrorCode(code))
      return new KedgeError(code, message ?? code, hint === undefined ? {} : { hint });
    return new KedgeError('KEDGE_GATEWAY_PROTOCOL', `gateway answered ${what}: ${message ?? JSON.stringify(body)}`);
  }

  #protocol(what: string): KedgeError {
    return new KedgeError('KEDGE_GATEWAY_PROTOCOL', what, { hint: 'is it the socket of a Kedge gateway?' });
  }

  #timeout(what: string): KedgeError {
    return new KedgeError(
      'KEDGE_GATEWAY_TIMEOUT',
      `gateway at ${this.socketPath} did not answer ${what} within ${this.#timeoutMs} ms`,
    );
  }

  #unreachable(error: unknown): KedgeError {
    const cause = error instanceof Error && 'code' in error ? String(error.code) : String(error);
    // Node's parser of HTTP: somebody answers, in another language.
    if (cause.startsWith('HPE_')) return this.#protocol(`what answers at ${this.socketPath} does not speak HTTP`);
    return new KedgeError('KEDGE_GATEWAY_UNREACHABLE', `cannot reach a gateway at ${this.socketPath}: ${cause}`, {
      hint: hintFor(cause),
      cause: error,
    });
  }
}

function guestPath(id: string): string {
  return `/v1/guests/${encodeURIComponent(id)}`;
}

function hintFor(cause: string): string {
  if (cause === 'EACCES')
    return 'this user may not use the socket: see socket_mode and socket_group in the gateway config';
  return 'start one with: gateway run --config FILE; or name its socket with --socket or KEDGE_GATEWAY';
}

async function readAnswer(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    const part = chunk as Buffer;
    bytes += part.byteLength;
    if (bytes > MAX_ANSWER_BYTES) throw new KedgeError('KEDGE_GATEWAY_PROTOCOL', 'the answer is too large');
    chunks.push(part);
  }
  return Buffer.concat(chunks).toString('utf8');
}

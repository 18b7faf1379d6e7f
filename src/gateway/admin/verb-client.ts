/** The agent's end of `verb-lines.ts`. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { LineReader, VERBS_PATH, VERBS_PROTOCOL } from './verb-lines.ts';
import type { AnswerLine, LineVerb } from './verb-lines.ts';

const END_OF_HEAD = '\r\n\r\n';
/** What a server says before the lines begin is shorter. */
const HEAD_LIMIT = 16 * 1024;

type Waiting = { readonly resolve: (answer: AnswerLine) => void; readonly reject: (error: Error) => void };

/** What is at the other end does not speak this. */
export class NoVerbs extends Error {}

/**
 * One connection. It is of use until `open` is false: then whatever waited was rejected, and the next call needs another one. While
 * nothing waits it does not keep the process alive.
 */
export class VerbClient {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #reader = new LineReader((line) => this.#line(line));
  #head: string | undefined = '';
  #nextN = 1;
  #open = true;

  constructor(socketPath: string) {
    // A bare number is a path, too, as for `http.request`.
    this.#socket = connect({ path: socketPath });
    this.#socket.write(
      `GET ${VERBS_PATH} HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: ${VERBS_PROTOCOL}${END_OF_HEAD}`,
    );
    this.#socket.on('data', (bytes: Buffer) => this.#take(bytes));
    this.#socket.on('error', (error) => this.#end(error));
    this.#socket.on('close', () =>
      this.#end(Object.assign(new Error('it closed the connection'), { code: 'ECONNRESET' })),
    );
    this.#socket.unref();
  }

  get open(): boolean {
    return this.#open;
  }

  /** Rejects with a system error when the connection breaks (the verb may have been carried out), and with NoVerbs. */
  call(verb: LineVerb, id: string, body: object): Promise<AnswerLine> {
    return new Promise((resolve, reject) => {
      const n = this.#nextN++;
      this.#waiting.set(n, { resolve, reject });
      this.#socket.ref();
      this.#socket.write(`${JSON.stringify({ n, verb, id, body })}\n`);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #end(error: Error): void {
    if (!this.#open) return;
    this.#open = false;
    this.#socket.destroy();
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #take(bytes: Buffer): void {
    if (this.#head === undefined) {
      if (!this.#reader.push(bytes)) this.#end(new NoVerbs('a line that is longer than any is'));
      return;
    }
    this.#head += bytes.toString('latin1');
    const end = this.#head.indexOf(END_OF_HEAD);
    if (end < 0 && this.#head.length < HEAD_LIMIT) return;
    if (end < 0 || !this.#head.startsWith('HTTP/1.1 101 ')) {
      this.#end(new NoVerbs(`it answered ${this.#head.slice(0, this.#head.indexOf('\r\n'))}`));
      return;
    }
    const rest = Buffer.from(this.#head.slice(end + END_OF_HEAD.length), 'latin1');
    this.#head = undefined;
    if (rest.length > 0) this.#take(rest);
  }

  #line(text: string): void {
    let answer: AnswerLine;
    try {
      answer = JSON.parse(text) as AnswerLine;
    } catch {
      this.#end(new NoVerbs('a line that is not JSON'));
      return;
    }
    const waiting = this.#waiting.get(answer.n);
    if (waiting === undefined) {
      this.#end(new NoVerbs('an answer to nothing that was asked'));
      return;
    }
    this.#waiting.delete(answer.n);
    if (this.#waiting.size === 0) this.#socket.unref();
    waiting.resolve(answer);
  }
}

/**
 * The verbs of agents over one connection, beside the HTTP routes of the same verbs: a move asks the gateway four things while a
 * guest stands still, and an HTTP exchange costs both ends a millisecond where this costs a tenth.
 *
 * A client asks `GET /v1/verbs` to be upgraded to `kedge-verbs/1`. From then on each end sends lines of JSON:
 *
 *     → {"n": 1, "verb": "freeze", "id": GUEST, "body": {"epoch": 3}}
 *     ← {"n": 1, "result": {...}}        or  {"n": 1, "error": {"code": ..., "message": ..., "hint"?: ...}}
 *
 * Verbs, bodies, results and errors are those of the routes. Answers come as they are ready; `n` says whose. A line that is no
 * request ends the connection.
 */
import type { ControlVerbs, ErrorBody } from './schema.ts';

export const VERBS_PATH = '/v1/verbs';
export const VERBS_PROTOCOL = 'kedge-verbs/1';

/** The longest line: an export tells of every socket of a guest, about 200 bytes each. */
export const LINE_LIMIT = 16 * 1024 * 1024;

/** Verbs about one guest that is there. */
export type LineVerb = Exclude<keyof ControlVerbs, 'register' | 'unregister' | 'remove'>;

export type VerbLine = {
  readonly n: number;
  readonly verb: LineVerb;
  readonly id: string;
  readonly body: object;
};

export type AnswerLine =
  { readonly n: number; readonly result: object } | { readonly n: number; readonly error: ErrorBody };

const NEWLINE = 10;

/** Cuts a stream of bytes into lines. */
export class LineReader {
  readonly #onLine: (line: string) => void;
  #parts: Buffer[] = [];
  #length = 0;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  /** Takes what has come. False: the line it is in is longer than any may be. */
  push(bytes: Buffer): boolean {
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      const part = bytes.subarray(from, end);
      const line = this.#length === 0 ? part : Buffer.concat([...this.#parts, part]);
      this.#parts = [];
      this.#length = 0;
      from = end + 1;
      this.#onLine(line.toString('utf8'));
    }
    if (from < bytes.length) {
      this.#parts.push(bytes.subarray(from));
      this.#length += bytes.length - from;
    }
    return this.#length <= LINE_LIMIT;
  }
}

/** One table of a TOML document, read key by key. It knows its path, and at the end which keys nobody asked for. */
import type { ErrorCode } from '../errors.ts';
import { KedgeError } from '../errors.ts';

export class Table {
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #path: string;
  readonly #source: string;
  readonly #known = new Set<string>();

  /** `path` is empty for the whole document. Throws when the value is no table. */
  constructor(value: unknown, path: string, source: string) {
    this.#path = path;
    this.#source = source;
    if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Date) {
      throw new KedgeError('KEDGE_CONFIG_VALUE', `${source}: ${path}: expected a table, found ${shown(value)}`);
    }
    this.#values = new Map(Object.entries(value));
  }

  text(key: string): string {
    const value = this.optionalText(key);
    if (value === undefined) throw this.#missing(key, 'a string');
    return value;
  }

  optionalText(key: string): string | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'string' || value === '')
      throw this.wrong('KEDGE_CONFIG_VALUE', key, 'a string that is not empty');
    return value;
  }

  integer(key: string, lowest: number, highest: number, otherwise: number): number {
    const value = this.#take(key);
    if (value === undefined) return otherwise;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < lowest || value > highest) {
      throw this.wrong('KEDGE_CONFIG_VALUE', key, `a whole number from ${lowest} to ${highest}`);
    }
    return value;
  }

  table(key: string): Table {
    const value = this.#take(key);
    if (value === undefined) throw this.#missing(key, `a table [${key}]`);
    return new Table(value, this.#pathOf(key), this.#source);
  }

  /** An array of tables; empty when there is none. */
  tables(key: string): Table[] {
    const value = this.#take(key) ?? [];
    if (!Array.isArray(value)) throw this.wrong('KEDGE_CONFIG_VALUE', key, `tables [[${key}]], with two brackets`);
    return value.map((item: unknown, i) => new Table(item, `${this.#pathOf(key)}[${i}]`, this.#source));
  }

  /** Throws for a key that was not asked for. */
  finish(): void {
    for (const key of this.#values.keys()) {
      if (this.#known.has(key)) continue;
      const names = [...this.#known].join(', ');
      throw new KedgeError('KEDGE_CONFIG_UNKNOWN_KEY', `${this.#source}: unknown key ${this.#pathOf(key)}`, {
        hint: this.#path === '' ? `keys are: ${names}` : `keys of ${this.#path} are: ${names}`,
      });
    }
  }

  /** The error for a value that is not what is expected. */
  wrong(code: ErrorCode, key: string, expected: string): KedgeError {
    const found = shown(this.#values.get(key));
    return new KedgeError(code, `${this.#source}: ${this.#pathOf(key)}: expected ${expected}, found ${found}`);
  }

  #take(key: string): unknown {
    this.#known.add(key);
    return this.#values.get(key);
  }

  #missing(key: string, expected: string): KedgeError {
    const message = `${this.#source}: ${this.#pathOf(key)} is missing: expected ${expected}`;
    return new KedgeError('KEDGE_CONFIG_MISSING_KEY', message);
  }

  #pathOf(key: string): string {
    return this.#path === '' ? key : `${this.#path}.${key}`;
  }
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? `${inner}` : inner));
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

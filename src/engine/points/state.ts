/** What a guest consists of beside memory, numeric globals and frames, read and written through the helpers that the pass exports. */
import { KedgeError } from '../../errors.ts';
import type { GlobalState, ValueType } from '../engine.ts';
import type { Machine } from './machine.ts';
import { corrupt, type Stack } from './stack.ts';
import type { Letter, PointTable } from './table.ts';
import type { FrameTransfer } from './transfer.ts';

const NUMERIC: Readonly<Partial<Record<Letter, ValueType>>> = { i: 'i32', I: 'i64', f: 'f32', F: 'f64' };
const LOW = 0xffff_ffff_ffff_ffffn;

/** The mutable globals that hold numbers. */
export function numericGlobals(table: PointTable): readonly { readonly index: number; readonly type: ValueType }[] {
  return table.globals.flatMap(({ index, type }) => {
    const numeric = NUMERIC[type];
    return numeric === undefined ? [] : [{ index, type: numeric }];
  });
}

/** What is not in the instance's memory. */
export type Beside = Pick<Stack, 'globals' | 'tables' | 'data' | 'elements'>;

export class State {
  readonly #machine: Machine;
  readonly #table: PointTable;
  readonly #transfer: FrameTransfer;
  readonly #numeric: readonly { readonly index: number; readonly type: ValueType }[];

  constructor(machine: Machine, table: PointTable, transfer: FrameTransfer) {
    this.#machine = machine;
    this.#table = table;
    this.#transfer = transfer;
    this.#numeric = numericGlobals(table);
  }

  numbers(): readonly GlobalState[] {
    return this.#numeric.map(({ index, type }) => ({ type, bits: this.#bits(`kedge:get_global:${index}`) }));
  }

  setNumbers(globals: readonly GlobalState[]): void {
    this.#numeric.forEach(({ index }, n) => {
      // CBOR gives small integers back as numbers.
      this.#set(`kedge:set_global:${index}`, BigInt(globals[n]?.bits ?? 0n));
    });
  }

  capture(): Beside {
    const { globals, data, elements } = this.#table;
    return {
      globals: globals
        .filter(({ type }) => type === 'r' || type === 'v')
        .map(({ index, type }) => ({ index, bits: type === 'v' ? this.#vector(index) : this.#reference(index) })),
      tables: this.#tables(),
      data: data.filter((index) => this.#machine.call(`kedge:dropped_data:${index}`) !== 0),
      elements: elements.filter((index) => this.#machine.call(`kedge:dropped_elem:${index}`) !== 0),
    };
  }

  /** Of what `checkStack` has let pass. Throws KEDGE_FRAMES_CORRUPT for references and tables this module cannot have, KEDGE_RESTORE_MEMORY for tables that are too large. */
  restore(beside: Beside): void {
    const types = new Map(this.#table.globals.map(({ index, type }) => [index, type]));
    for (const { index, bits } of beside.globals) {
      const type = types.get(index);
      if (type === 'v') {
        this.#set(`kedge:set_global:${index}:lo`, bits & LOW);
        this.#set(`kedge:set_global:${index}:hi`, bits >> 64n);
      } else if (type === 'r') {
        this.#transfer.around([bits], () => this.#machine.call(`kedge:load_global:${index}`));
      } else {
        throw corrupt(`global ${index} holds neither a reference nor a vector`);
      }
    }
    for (const { index, elements } of beside.tables) {
      this.#fill(index, elements);
    }
    for (const index of beside.data) {
      this.#machine.call(`kedge:drop_data:${index}`);
    }
    for (const index of beside.elements) {
      this.#machine.call(`kedge:drop_elem:${index}`);
    }
  }

  /** The elements of all tables that can change. Hosts give no references, so one of theirs is always null. */
  #tables(): Stack['tables'] {
    return this.#table.tables.map((index) => {
      const name = `kedge:table:${index}`;
      const length = this.#machine.tableSize(name);
      if (!this.#ofFunctions(index)) return { index, elements: Array.from({ length }, () => 0) };
      const elements = Array.from({ length }, (_, at) =>
        Number(this.#transfer.bitsOf(this.#machine.tableGet(name, at))),
      );
      return { index, elements };
    });
  }

  #fill(index: number, elements: readonly number[]): void {
    const missing = elements.length - this.#machine.tableSize(`kedge:table:${index}`);
    if (missing < 0) throw corrupt(`table ${index} is smaller than it began`);
    if (missing > 0 && this.#machine.call(`kedge:table_grow:${index}`, missing) === -1) {
      throw new KedgeError('KEDGE_RESTORE_MEMORY', `cannot have ${elements.length} elements in table ${index}`);
    }
    if (this.#ofFunctions(index)) {
      elements.forEach((element, at) => {
        this.#machine.call(`kedge:table_set:${index}`, at, this.#transfer.slotOf(BigInt(element)));
      });
    } else if (elements.some((element) => element !== 0)) {
      throw corrupt(`table ${index} holds no functions`);
    }
  }

  /** A table of the host's references takes the value in another way. */
  #ofFunctions(index: number): boolean {
    return this.#machine.parameters(`kedge:table_set:${index}`) === 2;
  }

  #reference(index: number): bigint {
    const [bits] = this.#transfer.around([], () => this.#machine.call(`kedge:save_global:${index}`));
    return bits ?? 0n;
  }

  #vector(index: number): bigint {
    return this.#bits(`kedge:get_global:${index}:lo`) | (this.#bits(`kedge:get_global:${index}:hi`) << 64n);
  }

  #bits(name: string): bigint {
    return BigInt.asUintN(64, BigInt(this.#machine.call(name) as bigint));
  }

  #set(name: string, bits: bigint): void {
    this.#machine.call(name, BigInt.asIntN(64, bits));
  }
}

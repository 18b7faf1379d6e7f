import type { Cursor } from '../../src/engine/wasm/cursor.ts';

/** Opcodes that somebody outside this file looks at. Prefixed ones are `prefix << 16 | number`. */
export const OP = {
  loop: 0x03,
  end: 0x0b,
  call: 0x10,
  callIndirect: 0x11,
  globalGet: 0x23,
  i32Const: 0x41,
  i64Const: 0x42,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32Mul: 0x6c,
} as const;

/** A feature of the language that the stable-point encoding cannot carry, by the name it has in error messages. */
export type Feature =
  | 'exception handling'
  | 'tail calls'
  | 'typed function references'
  | 'reference values'
  | 'changing tables at run time'
  | 'garbage collection'
  | 'threads'
  | 'data.drop'
  | 'multiple memories'
  | 'memory64'
  | 'mutable v128 globals'
  | 'an unknown instruction';

/** One decoded instruction; a single object is reused (see `decode`). */
export interface Instruction {
  op: number;
  /** Callee of `call`, type of `call_indirect`, global of `global.get`; otherwise 0. */
  operand: number;
  /** The feature that makes this instruction impossible to capture. */
  refused: Feature | undefined;
}

const INSTRUCTION: Instruction = { op: 0, operand: 0, refused: undefined };

/**
 * Reads the instruction at the cursor and moves behind its immediates. The module has been validated before, so only the
 * shape of immediates matters here. Returns one reused object.
 */
export function decode(cursor: Cursor): Instruction {
  const op = cursor.u8();
  INSTRUCTION.op = op;
  INSTRUCTION.operand = 0;
  INSTRUCTION.refused = undefined;
  if (op >= 0x28 && op <= 0x3e) {
    memoryArgument(cursor);
  } else if (op >= 0x45 && op <= 0xc4) {
    // Numeric instructions have no immediates.
  } else if (op >= 0xfb) {
    INSTRUCTION.op = (op << 16) | prefixed(cursor, op);
  } else {
    plain(cursor, op);
  }
  return INSTRUCTION;
}

function refuse(feature: Feature): void {
  INSTRUCTION.refused = feature;
}

function plain(cursor: Cursor, op: number): void {
  switch (op) {
    case 0x00: // unreachable
    case 0x01: // nop
    case 0x05: // else
    case 0x0b: // end
    case 0x0f: // return
    case 0x1a: // drop
    case 0x1b: // select
      return;
    case 0x02: // block
    case 0x03: // loop
    case 0x04: // if
      cursor.skipLeb();
      return;
    case 0x0c: // br
    case 0x0d: // br_if
    case 0x20: // local.get
    case 0x21: // local.set
    case 0x22: // local.tee
    case 0x24: // global.set
    case 0x41: // i32.const
    case 0x42: // i64.const
      cursor.skipLeb();
      return;
    case 0x0e: // br_table
      for (let left = cursor.u32() + 1; left > 0; left -= 1) {
        cursor.skipLeb();
      }
      return;
    case 0x10: // call
    case 0x23: // global.get
      INSTRUCTION.operand = cursor.u32();
      return;
    case 0x11: // call_indirect
      INSTRUCTION.operand = cursor.u32();
      cursor.skipLeb();
      return;
    case 0x1c: // select with types
      for (let left = cursor.u32(); left > 0; left -= 1) {
        if (cursor.u8() < 0x7b) {
          refuse('reference values');
        }
      }
      return;
    case 0x3f: // memory.size
    case 0x40: // memory.grow
      if (cursor.u8() !== 0) {
        refuse('multiple memories');
      }
      return;
    case 0x43: // f32.const
      cursor.skip(4);
      return;
    case 0x44: // f64.const
      cursor.skip(8);
      return;
    default:
      refuse(rare(op));
  }
}

/** Instructions that end the decoding of a body: what follows them is never looked at, because the module is refused. */
function rare(op: number): Feature {
  if ((op >= 0x06 && op <= 0x0a) || op === 0x18 || op === 0x19 || op === 0x1f) {
    return 'exception handling';
  }
  if (op === 0x12 || op === 0x13 || op === 0x15) {
    return 'tail calls';
  }
  if (op === 0x14) {
    return 'typed function references';
  }
  if (op === 0x25 || op === 0x26) {
    return 'changing tables at run time';
  }
  return op >= 0xd0 && op <= 0xd6 ? 'reference values' : 'an unknown instruction';
}

function prefixed(cursor: Cursor, prefix: number): number {
  const number = cursor.u32();
  if (prefix === 0xfc) {
    bulk(cursor, number);
  } else if (prefix === 0xfd) {
    vector(cursor, number);
  } else if (prefix === 0xfe) {
    refuse('threads');
  } else {
    refuse(prefix === 0xfb ? 'garbage collection' : 'an unknown instruction');
  }
  return number;
}

function bulk(cursor: Cursor, number: number): void {
  if (number <= 7) {
    return; // saturating float-to-int conversions
  }
  switch (number) {
    case 8: // memory.init
      cursor.skipLeb();
      zeroMemory(cursor);
      return;
    case 10: // memory.copy
      zeroMemory(cursor);
      zeroMemory(cursor);
      return;
    case 11: // memory.fill
      zeroMemory(cursor);
      return;
    case 13: // elem.drop: without table.init nobody can see it
    case 16: // table.size
      cursor.skipLeb();
      return;
    case 9:
      refuse('data.drop');
      return;
    case 12: // table.init
    case 14: // table.copy
    case 15: // table.grow
    case 17: // table.fill
      refuse('changing tables at run time');
      return;
    default:
      refuse('an unknown instruction');
  }
}

function vector(cursor: Cursor, number: number): void {
  if (number <= 11 || number === 92 || number === 93) {
    memoryArgument(cursor); // loads and stores
  } else if (number === 12 || number === 13) {
    cursor.skip(16); // v128.const, i8x16.shuffle
  } else if (number >= 21 && number <= 34) {
    cursor.skip(1); // lane accesses
  } else if (number >= 84 && number <= 91) {
    memoryArgument(cursor);
    cursor.skip(1); // lane loads and stores
  }
}

function memoryArgument(cursor: Cursor): void {
  const alignment = cursor.u32();
  if ((alignment & 0x40) !== 0 && cursor.u32() !== 0) {
    refuse('multiple memories');
  }
  cursor.skipLeb();
}

function zeroMemory(cursor: Cursor): void {
  if (cursor.u32() !== 0) {
    refuse('multiple memories');
  }
}

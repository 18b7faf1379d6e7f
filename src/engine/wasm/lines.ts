/**
 * Lines of source for places in a module that was compiled with `-g`: the line programs of DWARF 2 to 5 in its custom section
 * `.debug_line`, whose addresses count from the beginning of the code section.
 *
 * Theory of operation. A program is run once and makes rows of rising addresses; a place belongs to the last row that is not behind it.
 * What is not well-formed is nobody's error, as in the name section: lines are for people only.
 */
import { Cursor } from './cursor.ts';
import { parseModule, SECTION } from './module.ts';

export interface SourceLine {
  /** As the compiler was given it, with its directory. */
  readonly file: string;
  /** Both from 1; column 0 is not known. */
  readonly line: number;
  readonly column: number;
}

/** `file:line:column` */
export function showLine({ file, line, column }: SourceLine): string {
  return `${file}:${line}${column === 0 ? '' : `:${column}`}`;
}

const TEXT = new TextDecoder();

/** Attributes and forms of DWARF 5 that describe files. */
const PATH = 1;
const DIRECTORY = 2;
const FORM = {
  data2: 0x05,
  data4: 0x06,
  data8: 0x07,
  string: 0x08,
  data1: 0x0b,
  strp: 0x0e,
  udata: 0x0f,
  lineStrp: 0x1f,
  data16: 0x1e,
} as const;

const MOST_FILES = 1 << 16;

interface Program {
  readonly files: readonly SourceFile[];
  /** Number of the first file: 1 before DWARF 5. */
  readonly firstFile: number;
  readonly minimum: number;
  readonly lineBase: number;
  readonly lineRange: number;
  readonly opcodeBase: number;
  readonly operands: readonly number[];
}

interface SourceFile {
  readonly name: string;
  readonly directory: string;
}

/** The lines of some byte offsets of a module; those for which there is none are left out. */
export function sourceLines(module: Uint8Array, offsets: readonly number[]): ReadonlyMap<number, SourceLine> {
  const found = new Map<number, SourceLine>();
  const { sections } = parseModule(module);
  const code = sections.find(({ id }) => id === SECTION.code);
  const custom = (wanted: string): Cursor | undefined => {
    const section = sections.find(({ id, name }) => id === SECTION.custom && name === wanted);
    if (section === undefined) return undefined;
    const cursor = new Cursor(module, section.start, section.end);
    cursor.name();
    return cursor;
  };
  const lines = custom('.debug_line');
  if (code === undefined || lines === undefined) return found;
  const strings = { line: custom('.debug_line_str'), other: custom('.debug_str') };
  const wanted = [...new Set(offsets)].map((offset) => offset - code.start).toSorted((a, b) => a - b);
  const keepLine = (address: number, line: SourceLine): void => void found.set(address + code.start, line);
  try {
    while (!lines.done) {
      const size = word(lines);
      const program = new Cursor(module, lines.at, Math.min(lines.at + size, lines.end));
      lines.skip(size);
      runProgram(program, strings, wanted, keepLine);
    }
  } catch {
    // What was read until here is right.
  }
  return found;
}

type Strings = { readonly line: Cursor | undefined; readonly other: Cursor | undefined };
type Keep = (address: number, line: SourceLine) => void;

/** `wanted`: addresses that rise. */
function runProgram(cursor: Cursor, strings: Strings, wanted: readonly number[], found: Keep): void {
  const program = header(cursor, strings);
  const start = { address: 0, file: 1, line: 1, column: 0 };
  let now = { ...start };
  let last: typeof now | undefined;
  const row = (): void => {
    // The linker puts what it has dropped to address 0, where no code can be.
    if (last !== undefined && last.address > 0 && last.line > 0) keep(program, last, now.address, wanted, found);
    last = { ...now };
  };
  const advance = (operation: number): void => {
    now.address += operation * program.minimum;
  };
  while (!cursor.done) {
    const opcode = cursor.u8();
    if (opcode >= program.opcodeBase) {
      const special = opcode - program.opcodeBase;
      advance(Math.floor(special / program.lineRange));
      now.line += program.lineBase + (special % program.lineRange);
      row();
      continue;
    }
    switch (opcode) {
      case 0: {
        const size = cursor.u32();
        const end = cursor.at + size;
        const extended = size === 0 ? 0 : cursor.u8();
        if (extended === 1) {
          row();
          now = { ...start };
          last = undefined;
        } else if (extended === 2) {
          now.address = word(cursor);
        }
        skipTo(cursor, end);
        break;
      }
      case 1:
        row();
        break;
      case 2:
        advance(cursor.u32());
        break;
      case 3:
        now.line += Number(cursor.s64());
        break;
      case 4:
        now.file = cursor.u32();
        break;
      case 5:
        now.column = cursor.u32();
        break;
      case 8:
        advance(Math.floor((255 - program.opcodeBase) / program.lineRange));
        break;
      case 9:
        now.address += half(cursor);
        break;
      default:
        for (let left = program.operands[opcode - 1] ?? 0; left > 0; left -= 1) cursor.skipLeb();
    }
  }
}

function keep(
  { files, firstFile }: Program,
  row: { readonly address: number; readonly file: number; readonly line: number; readonly column: number },
  end: number,
  wanted: readonly number[],
  found: Keep,
): void {
  const file = files[row.file - firstFile];
  if (file === undefined) return;
  const name = file.directory === '' || file.name.startsWith('/') ? file.name : `${file.directory}/${file.name}`;
  let low = 0;
  let high = wanted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((wanted[middle] ?? 0) < row.address) low = middle + 1;
    else high = middle;
  }
  for (let n = low; n < wanted.length && (wanted[n] ?? end) < end; n += 1) {
    found(wanted[n] ?? 0, { file: name, line: row.line, column: row.column });
  }
}

/** Leaves out what is not read. */
function skipTo(cursor: Cursor, end: number): void {
  if (cursor.at > end) throw cursor.fail('line numbers that reach over their end');
  cursor.skip(end - cursor.at);
}

function header(cursor: Cursor, strings: Strings): Program {
  const version = half(cursor);
  if (version < 2 || version > 5) throw cursor.fail('line numbers of another version');
  if (version === 5) cursor.skip(2); // sizes of addresses and of segment selectors
  const length = word(cursor);
  const end = cursor.at + length;
  const minimum = cursor.u8();
  if (version >= 4) cursor.u8(); // operations for each instruction: 1 where there are no bundles
  cursor.u8(); // whether rows are statements at first
  const lineBase = (cursor.u8() << 24) >> 24;
  const lineRange = Math.max(1, cursor.u8());
  const opcodeBase = cursor.u8();
  const operands = Array.from({ length: Math.max(0, opcodeBase - 1) }, () => cursor.u8());
  const files = version === 5 ? filesOf5(cursor, strings) : filesOf4(cursor);
  skipTo(cursor, end);
  return { files, firstFile: version === 5 ? 0 : 1, minimum, lineBase, lineRange, opcodeBase, operands };
}

function filesOf4(cursor: Cursor): readonly SourceFile[] {
  const directories = [''];
  for (let name = text(cursor); name !== ''; name = text(cursor)) directories.push(name);
  const files: SourceFile[] = [];
  for (let name = text(cursor); name !== ''; name = text(cursor)) {
    files.push({ name, directory: directories[cursor.u32()] ?? '' });
    cursor.skipLeb(); // time
    cursor.skipLeb(); // size
  }
  return files;
}

function filesOf5(cursor: Cursor, strings: Strings): readonly SourceFile[] {
  const directories = entries(cursor, strings).map(({ name }) => name);
  return entries(cursor, strings).map(({ name, directory }) => ({ name, directory: directories[directory] ?? '' }));
}

function entries(cursor: Cursor, strings: Strings): readonly { readonly name: string; readonly directory: number }[] {
  const formats = Array.from({ length: cursor.u8() }, () => ({ content: cursor.u32(), form: cursor.u32() }));
  const count = cursor.u32();
  if (count > MOST_FILES || (formats.length === 0 && count > 0)) throw cursor.fail('too many files');
  return Array.from({ length: count }, () => {
    let name = '';
    let directory = 0;
    for (const { content, form } of formats) {
      const value = formValue(cursor, form, strings);
      if (content === PATH && typeof value === 'string') name = value;
      if (content === DIRECTORY && typeof value === 'number') directory = value;
    }
    return { name, directory };
  });
}

function formValue(cursor: Cursor, form: number, { line, other }: Strings): string | number {
  switch (form) {
    case FORM.string:
      return text(cursor);
    case FORM.lineStrp:
      return stringAt(line, word(cursor));
    case FORM.strp:
      return stringAt(other, word(cursor));
    case FORM.udata:
      return cursor.u32();
    case FORM.data1:
      return cursor.u8();
    case FORM.data2:
      return half(cursor);
    case FORM.data4:
      return word(cursor);
    case FORM.data8:
      cursor.skip(8);
      return 0;
    case FORM.data16:
      cursor.skip(16);
      return 0;
    default:
      throw cursor.fail('a form that is not known');
  }
}

function stringAt(section: Cursor | undefined, offset: number): string {
  return section === undefined ? '' : text(new Cursor(section.bytes, section.at + offset, section.end));
}

/** Up to a zero. */
function text(cursor: Cursor): string {
  const start = cursor.at;
  while (cursor.u8() !== 0);
  return TEXT.decode(cursor.bytes.subarray(start, cursor.at - 1));
}

function half(cursor: Cursor): number {
  return cursor.u8() | (cursor.u8() << 8);
}

function word(cursor: Cursor): number {
  return (half(cursor) | (half(cursor) << 16)) >>> 0;
}

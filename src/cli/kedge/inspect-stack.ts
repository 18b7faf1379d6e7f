/** The stack of a stopped guest, for `kedge inspect`. */
import { showValue } from '../../engine/points/show.ts';
import { decodeStack } from '../../engine/points/stack.ts';
import { showLine, sourceLines, type SourceLine } from '../../engine/wasm/lines.ts';
import { functionNames } from '../../engine/wasm/names.ts';

export type StackLine = {
  readonly function: number;
  /** From the name section, or null. */
  readonly name: string | null;
  /** Bytes from the beginning of the original module. */
  readonly offset: number;
  /** `file:line:column` of a module that was compiled with -g, or null. */
  readonly source: string | null;
  /** Before the instruction there, or in the call that it makes. */
  readonly stands: 'at' | 'in';
  /** Values of those locals that still matter. */
  readonly locals: Readonly<Record<string, string>>;
  /** From the bottom of the function's stack up. */
  readonly operands: readonly string[];
};

/** Innermost first. Throws KEDGE_FRAMES_CORRUPT, and KEDGE_MODULE_INVALID for a module that is none. */
export function describeStack(frames: Uint8Array, module: Uint8Array | undefined): readonly StackLine[] {
  if (frames.length === 0) return [];
  const names = module === undefined ? new Map<number, string>() : functionNames(module);
  const stack = decodeStack(frames).frames;
  const offsets = stack.map(({ offset }) => offset);
  const lines = module === undefined ? new Map<number, SourceLine>() : sourceLines(module, offsets);
  return stack
    .map(({ function: index, offset, stand, locals, operands }) => ({
      function: index,
      name: names.get(index) ?? null,
      offset,
      source: formatLine(lines.get(offset)),
      stands: stand,
      locals: Object.fromEntries(locals.map((local) => [local.index, showValue(local)])),
      operands: operands.map(showValue),
    }))
    .toReversed();
}

function formatLine(at: SourceLine | undefined): string | null {
  return at === undefined ? null : showLine(at);
}

/** Columns: function, name, offset, source, stands, locals, operands. */
export function stackRows(stack: readonly StackLine[]): string[][] {
  return stack.map(({ function: index, name, offset, source, stands, locals, operands }) => [
    String(index),
    name ?? '-',
    `0x${offset.toString(16)}`,
    source ?? '-',
    stands,
    shortened(Object.entries(locals).map(([local, value]) => `${local}=${value}`)),
    shortened(operands),
  ]);
}

const SHOWN = 6;

function shortened(list: readonly string[]): string {
  const more = list.length > SHOWN ? [`and ${list.length - SHOWN} more`] : [];
  return [...list.slice(0, SHOWN), ...more].join(' ') || '-';
}

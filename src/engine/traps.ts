/**
 * Traps in words that do not tell which engine ran: those of the WebAssembly specification where engines agree on what they are.
 * Where one engine has a single message for what the specification, or the other engine, tells apart, all of it has one text here:
 * V8 does not say whether a call through a table found null or a function of another type, nor whether a float was too large for
 * its integer or none; WAMR has the same words for that and for a division that overflows. A message that is not known stays as it is.
 */
const OUT_OF_MEMORY_BOUNDS = 'out of bounds memory access';
const OUT_OF_TABLE_BOUNDS = 'out of bounds table access';
const DIVIDE_BY_ZERO = 'integer divide by zero';
const INDIRECT_CALL = 'indirect call of null or of another type';
const INTEGER = 'integer overflow or invalid conversion to integer';

/** Said of a guest that calls too deeply, by every engine. */
export const STACK_EXHAUSTED = 'call stack exhausted';

const TEXTS: ReadonlyMap<string, string> = new Map([
  // V8
  ['memory access out of bounds', OUT_OF_MEMORY_BOUNDS],
  ['data segment out of bounds', OUT_OF_MEMORY_BOUNDS],
  ['table index is out of bounds', OUT_OF_TABLE_BOUNDS],
  ['table access out of bounds', OUT_OF_TABLE_BOUNDS],
  ['element segment out of bounds', OUT_OF_TABLE_BOUNDS],
  ['divide by zero', DIVIDE_BY_ZERO],
  ['remainder by zero', DIVIDE_BY_ZERO],
  ['divide result unrepresentable', INTEGER],
  ['float unrepresentable in integer range', INTEGER],
  ['null function or function signature mismatch', INDIRECT_CALL],
  // WAMR
  ['undefined element', OUT_OF_TABLE_BOUNDS],
  ['uninitialized element', INDIRECT_CALL],
  ['indirect call type mismatch', INDIRECT_CALL],
  ['integer overflow', INTEGER],
  ['invalid conversion to integer', INTEGER],
]);

/** What an engine calls a trap, in words that are the same for all. */
export function trapText(message: string): string {
  return TEXTS.get(message) ?? message;
}

/**
 * Traps in the words of the WebAssembly specification, so that an outcome does not tell which engine ran. A message that is
 * not known stays as it is.
 *
 * Limit: V8 has one message where the specification has two (indirect calls, conversions to integers): there WAMR's words are others.
 */
const OF_V8: ReadonlyMap<string, string> = new Map([
  ['memory access out of bounds', 'out of bounds memory access'],
  ['table index is out of bounds', 'out of bounds table access'],
  ['table access out of bounds', 'out of bounds table access'],
  ['divide by zero', 'integer divide by zero'],
  ['remainder by zero', 'integer divide by zero'],
  ['divide result unrepresentable', 'integer overflow'],
  ['float unrepresentable in integer range', 'invalid conversion to integer'],
  ['null function or function signature mismatch', 'indirect call type mismatch'],
  ['data segment out of bounds', 'out of bounds memory access'],
  ['element segment out of bounds', 'out of bounds table access'],
]);

/** What V8 calls a trap, in the specification's words. */
export function trapOfV8(message: string): string {
  return OF_V8.get(message) ?? message;
}

/** Said of a guest that calls too deeply, by every engine. */
export const STACK_EXHAUSTED = 'call stack exhausted';

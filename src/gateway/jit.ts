/**
 * How the compiler of the engine sees the way of a packet. It is some thirty small functions over typed arrays; V8's usual budget
 * inlines about half of them, and each number above 2^31 that crosses a call which stays one (an address, a sequence number) is a
 * heap object. With room for the whole way a packet costs a third less, and nothing is allocated (bench/micro-plane.ts).
 */
import { setFlagsFromString } from 'node:v8';

/** Call it before the first packet: functions that are compiled already stay as they are. */
export function inlineThePath(): void {
  setFlagsFromString('--max-inlined-bytecode-size=1000');
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=4000');
}

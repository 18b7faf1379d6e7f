import { Cursor } from './cursor.ts';
import { OP } from './opcodes.ts';
import { type ModuleInfo, parseModule, type Range } from './module.ts';

/** Bytes of one page of linear memory. */
export const PAGE_SIZE = 65536;

/**
 * The linear memories as the module itself makes them, before any of its code runs: zeros and its active data segments.
 * Their lengths are the initial sizes. An image stores only what differs from this.
 * Throws KEDGE_MODULE_INVALID when a segment lies outside its memory.
 */
export function initialMemories(module: Uint8Array, info = parseModule(module)): readonly Uint8Array[] {
  const memories = info.memories.map(({ initial }) => new Uint8Array(initial * PAGE_SIZE));
  for (const segment of info.data) {
    if (segment.offset !== undefined) {
      const at = evaluate(info, segment.offset);
      const content = module.subarray(segment.start, segment.end);
      const memory = memories[segment.memory];
      if (memory === undefined || at + content.length > memory.length) {
        throw new Cursor(module, segment.start).fail('a data segment lies outside the memory');
      }
      memory.set(content, at);
    }
  }
  return memories;
}

/** Evaluates an address expression (extended constant expressions included) to an unsigned 32-bit number. */
function evaluate(info: ModuleInfo, range: Range): number {
  const cursor = new Cursor(info.bytes, range.start, range.end);
  const stack: number[] = [];
  const pop = (): number => {
    const value = stack.pop();
    if (value === undefined) {
      throw cursor.fail('a constant expression lacks an operand');
    }
    return value;
  };
  for (;;) {
    const op = cursor.u8();
    switch (op) {
      case OP.end:
        return pop() >>> 0;
      case OP.i32Const:
        stack.push(Number(BigInt.asIntN(32, cursor.s64())));
        break;
      case OP.globalGet: {
        const index = cursor.u32();
        const global = info.globals[index];
        // Only a global before this one in the module can be named, so this recursion ends.
        if (global === undefined || global.init.start >= range.start) {
          throw cursor.fail('a constant expression uses an imported global');
        }
        stack.push(evaluate(info, global.init));
        break;
      }
      case OP.i32Add:
        stack.push((pop() + pop()) | 0);
        break;
      case OP.i32Sub: {
        const right = pop();
        stack.push((pop() - right) | 0);
        break;
      }
      case OP.i32Mul:
        stack.push(Math.imul(pop(), pop()));
        break;
      default:
        throw cursor.fail('a constant expression uses an instruction that is not known');
    }
  }
}

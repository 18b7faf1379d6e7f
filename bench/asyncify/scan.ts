import { Cursor } from '../../src/engine/wasm/cursor.ts';
import { decode, OP } from './instructions.ts';
import { type ModuleInfo, type Range, unsupported, valueType } from '../../src/engine/wasm/module.ts';

/** What the code of one defined function shows. Offsets are those of the original module. */
export interface ScannedFunction {
  readonly body: Range;
  /** Where the instructions begin, behind the locals. */
  readonly codeStart: number;
  /** For each loop, the offset of its first instruction. Ascending. */
  readonly loops: readonly number[];
  /** Function indices called directly. */
  readonly calls: ReadonlySet<number>;
  /** Type indices of indirect calls. */
  readonly indirectCalls: ReadonlySet<number>;
}

/** Walks all code once. Throws KEDGE_MODULE_UNSUPPORTED for what the frames of a stopped guest could not hold. */
export function scanCode(info: ModuleInfo): readonly ScannedFunction[] {
  return info.bodies.map((body) => scanFunction(info, body));
}

function scanFunction(info: ModuleInfo, body: Range): ScannedFunction {
  const cursor = new Cursor(info.bytes, body.start, body.end);
  for (let groups = cursor.u32(); groups > 0; groups -= 1) {
    cursor.skipLeb();
    if (valueType(cursor) === 'reference') {
      throw unsupported('reference values');
    }
  }
  const codeStart = cursor.at;
  const loops: number[] = [];
  const calls = new Set<number>();
  const indirectCalls = new Set<number>();
  while (!cursor.done) {
    const instruction = decode(cursor);
    if (instruction.refused !== undefined) {
      throw unsupported(instruction.refused);
    }
    if (instruction.op === OP.loop) {
      loops.push(cursor.at);
    } else if (instruction.op === OP.call) {
      calls.add(instruction.operand);
    } else if (instruction.op === OP.callIndirect) {
      indirectCalls.add(instruction.operand);
    }
  }
  return { body, codeStart, loops, calls, indirectCalls };
}

/**
 * One function of every cycle of the call graph: with a poll at each of these, code without loops cannot run for long
 * either. An indirect call is taken to reach every function of its type that is in some table.
 */
export function recursiveFunctions(info: ModuleInfo, functions: readonly ScannedFunction[]): ReadonlySet<number> {
  const byType = new Map<string, number[]>();
  const typeKey = (index: number | undefined): string => JSON.stringify(info.types[index ?? -1] ?? null);
  for (const index of info.addressTaken) {
    const key = typeKey(info.functions[index]);
    const group = byType.get(key) ?? [];
    group.push(index);
    byType.set(key, group);
  }
  const callees = functions.map((scanned) => {
    const all = new Set(scanned.calls);
    for (const type of scanned.indirectCalls) {
      for (const index of byType.get(typeKey(type)) ?? []) {
        all.add(index);
      }
    }
    return [...all].map((index) => index - info.importedFunctions).filter((index) => index >= 0);
  });
  return backEdgeTargets(callees);
}

/** Depth-first search without recursion; the targets of back edges meet every cycle. Indices are of `callees`. */
function backEdgeTargets(callees: readonly (readonly number[])[]): ReadonlySet<number> {
  const NEW = 0;
  const OPEN = 1;
  const DONE = 2;
  const state = new Uint8Array(callees.length);
  const targets = new Set<number>();
  for (let root = 0; root < callees.length; root += 1) {
    if (state[root] !== NEW) {
      continue;
    }
    state[root] = OPEN;
    const path = [{ node: root, next: 0 }];
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const callee = callees[top.node]?.[top.next];
      top.next += 1;
      if (callee === undefined) {
        state[top.node] = DONE;
        path.pop();
      } else if (state[callee] === OPEN) {
        targets.add(callee);
      } else if (state[callee] === NEW) {
        state[callee] = OPEN;
        path.push({ node: callee, next: 0 });
      }
    }
  }
  return targets;
}

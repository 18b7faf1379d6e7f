import { Cursor } from './cursor.ts';
import { parseModule, SECTION } from './module.ts';

const FUNCTIONS = 1;

/**
 * The names of functions that a module's name section has, by their index. A section that is not well-formed is nobody's error:
 * names are for people only.
 */
export function functionNames(module: Uint8Array): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  const section = parseModule(module).sections.find(({ id, name }) => id === SECTION.custom && name === 'name');
  if (section === undefined) return names;
  const cursor = new Cursor(module, section.start, section.end);
  try {
    cursor.name();
    while (!cursor.done) {
      const kind = cursor.u8();
      const size = cursor.u32();
      const end = cursor.at + size;
      if (kind !== FUNCTIONS) {
        cursor.skip(size);
        continue;
      }
      const part = new Cursor(module, cursor.at, Math.min(end, section.end));
      for (let left = part.u32(); left > 0; left -= 1) names.set(part.u32(), part.name());
      cursor.skip(size);
    }
  } catch {
    // What was read until here is right.
  }
  return names;
}

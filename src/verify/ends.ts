/** How runs end, and host calls that are not the same, in words. */
import type { Call } from './call-log.ts';
import type { Difference } from './difference.ts';
import { showBytes } from './memory.ts';
import type { CallMismatch, Ran } from './side.ts';

export function describeEnd(end: Ran['end']): string {
  switch (end.kind) {
    case 'stopped':
      return 'goes on';
    case 'exited':
      return `exits with code ${end.code}`;
    case 'trapped':
      return `traps: ${end.message}`;
    case 'call':
      return `calls ${showCall(end.mismatch.made)}`;
  }
}

/** `module.name(1, 0x400, 2)` */
export function showCall({ module, name, args }: Call): string {
  const shown = args.map((bits) => (bits < 1024n ? String(bits) : `0x${bits.toString(16)}`));
  return `${module}.${name}(${shown.join(', ')})`;
}

export function differentCall({ recorded, made, at }: CallMismatch): readonly Difference[] {
  const second = showCall(made);
  if (recorded === undefined) return [{ kind: 'call', first: 'no call', second }];
  if (at === undefined) return [{ kind: 'call', first: showCall(recorded), second }];
  const { address } = at;
  return [
    { kind: 'call-memory', address, first: showBytes(at.first), second: showBytes(at.second) },
    { kind: 'call', first: showCall(recorded), second },
  ];
}

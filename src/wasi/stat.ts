import type { BigIntStats } from 'node:fs';
import { ERRNO, WasiError } from './errno.ts';
import { fileType, type NewTime, type NewTimes } from './files.ts';
import type { GuestMemory } from './memory.ts';

const TIME_FLAG = { accessed: 1, accessedNow: 2, modified: 4, modifiedNow: 8 } as const;

/** Writes a `filestat` (64 bytes). */
export function putFilestat(memory: GuestMemory, pointer: number, stats: BigIntStats): void {
  const at = pointer >>> 0;
  memory.bytes(at, 64).fill(0);
  memory.setU64(at, stats.dev);
  memory.setU64(at + 8, stats.ino);
  memory.setU8(at + 16, fileType(stats));
  memory.setU64(at + 24, stats.nlink);
  memory.setU64(at + 32, stats.size);
  memory.setU64(at + 40, stats.atimeNs);
  memory.setU64(at + 48, stats.mtimeNs);
  memory.setU64(at + 56, stats.ctimeNs);
}

/** What `fstflags` ask for. EINVAL for a contradiction. */
export function timesOf(accessed: bigint, modified: bigint, flags: number): NewTimes {
  const one = (value: bigint, given: number, now: number): NewTime => {
    if ((flags & given) !== 0 && (flags & now) !== 0) {
      throw new WasiError(ERRNO.EINVAL);
    }
    if ((flags & now) !== 0) {
      return 'now';
    }
    return (flags & given) === 0 ? 'keep' : BigInt.asUintN(64, value);
  };
  return {
    accessed: one(accessed, TIME_FLAG.accessed, TIME_FLAG.accessedNow),
    modified: one(modified, TIME_FLAG.modified, TIME_FLAG.modifiedNow),
  };
}

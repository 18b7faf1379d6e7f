/**
 * Which guests an agent has, on disk: an agent that was killed leaves guests at the gateway whose sockets are gone. The next one
 * of the same state directory signs them off. Only ids are kept; a guest that moved on since has another epoch and is left alone.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { KedgeError } from '../errors.ts';

export interface Registry {
  add(id: string): void;
  remove(id: string): void;
  /** Ids that an earlier agent left. */
  readonly left: readonly string[];
}

/** For an agent without a state directory. */
export const noRegistry: Registry = { add: () => undefined, remove: () => undefined, left: [] };

const ANOTHER = 'give the agent a directory of its own: kedge agent --state-dir DIRECTORY';
const HINTS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: make room',
  EDQUOT: 'the quota is used up: make room',
  EACCES: `the agent's user may not write there: ${ANOTHER}`,
  EROFS: `the file system is read-only: ${ANOTHER}`,
};

function notJson(file: string): string {
  return `${file} is damaged: remove it, and give up guests that are left: gateway guests list, gateway guests rm`;
}

/** Throws KEDGE_AGENT_STATE when the directory cannot be used; so do `add` and `remove` later, for a disk that is full. */
export function fileRegistry(directory: string): Registry {
  const file = join(directory, 'guests.json');
  const attempt = <T>(work: () => T): T => {
    try {
      return work();
    } catch (cause) {
      const hint =
        cause instanceof SyntaxError
          ? notJson(file)
          : HINTS[cause instanceof Error && 'code' in cause ? String(cause.code) : ''];
      throw new KedgeError('KEDGE_AGENT_STATE', `the state directory ${directory} cannot be used: ${String(cause)}`, {
        hint: hint ?? ANOTHER,
        cause,
      });
    }
  };
  const left = attempt(() => {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const text = readFileSync(file, { encoding: 'utf8', flag: 'a+' });
    const known: unknown = text === '' ? [] : JSON.parse(text);
    return Array.isArray(known) ? known.filter((id) => typeof id === 'string') : [];
  });
  // What was left stays on record until it is cleared up: this agent may be killed before that, too.
  const ids = new Set(left);
  const write = (): void => {
    attempt(() => {
      writeFileSync(`${file}.tmp`, JSON.stringify([...ids]));
      renameSync(`${file}.tmp`, file);
    });
  };
  return {
    add: (id) => {
      if (ids.has(id)) return;
      ids.add(id);
      write();
    },
    remove: (id) => {
      if (ids.delete(id)) write();
    },
    left,
  };
}

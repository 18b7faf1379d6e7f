/**
 * The part of an image that is WASI's own, except sockets: plain data, fit for CBOR. Names of files are those of the
 * guest (preopen and path inside it): the target host gives its own directories for the same names.
 */
import { type BigIntStats, closeSync, fstatSync, lstatSync, openSync } from 'node:fs';
import { KedgeError } from '../errors.ts';
import type { Descriptor, DescriptorTable, DirectoryDescriptor, FileDescriptor, Preopen } from './descriptors.ts';
import { errnoOf } from './errno.ts';
import { hostFlags } from './files.ts';
import { openHostDirectory, withPlace } from './paths.ts';
import { WRITE_RIGHTS } from './rights.ts';
import type { SocketTable } from '../wasi-sock/table.ts';

export interface SavedWasi {
  readonly args: readonly string[];
  readonly environ: readonly string[];
  /** Reading of the monotonic clock, in nanoseconds. */
  readonly monotonic: bigint;
  readonly descriptors: readonly SavedDescriptor[];
}

interface SavedCommon {
  readonly fd: number;
  readonly rights: bigint;
  readonly inheriting: bigint;
  readonly flags: number;
}

export type SavedDescriptor =
  | (SavedCommon & { readonly kind: 'stdio'; readonly stream: 0 | 1 | 2 })
  | (SavedCommon & {
      readonly kind: 'directory';
      readonly preopen: string;
      readonly path: string;
      readonly preopened: boolean;
    })
  | (SavedCommon & { readonly kind: 'file'; readonly preopen: string; readonly path: string; readonly offset: number })
  | (SavedCommon & { readonly kind: 'socket'; readonly socket: number });

/** Records every descriptor. Throws KEDGE_FILE_DELETED for an open file that no name leads to any more. */
export function saveDescriptors(descriptors: DescriptorTable): readonly SavedDescriptor[] {
  return [...descriptors.entries()].map(([fd, descriptor]): SavedDescriptor => {
    const { rights, inheriting, flags } = descriptor;
    const common = { fd, rights, inheriting, flags };
    switch (descriptor.kind) {
      case 'stdio':
        return { ...common, kind: 'stdio', stream: descriptor.stream };
      case 'socket':
        return { ...common, kind: 'socket', socket: descriptor.handle.id };
      case 'file':
        mustHaveName(descriptor);
        return { ...common, kind: 'file', ...named(descriptor), offset: descriptor.offset };
      case 'directory':
        mustHaveName(descriptor);
        return { ...common, kind: 'directory', ...named(descriptor), preopened: descriptor.preopened };
    }
  });
}

function named(descriptor: FileDescriptor | DirectoryDescriptor): { readonly preopen: string; readonly path: string } {
  return { preopen: descriptor.preopen.guestPath, path: descriptor.path };
}

/** Makes sure that the name under which something was opened still leads to it: only names go into an image. */
function mustHaveName(descriptor: FileDescriptor | DirectoryDescriptor): void {
  const { dev, ino } = fstatSync(descriptor.host, { bigint: true });
  const found = statPlace(descriptor.preopen, descriptor.path);
  if (found?.dev !== dev || found.ino !== ino) {
    const name = nameOf(named(descriptor));
    throw new KedgeError('KEDGE_FILE_DELETED', `the guest has ${name} open, which is deleted or renamed`, {
      hint: 'a guest can move only while its open files have the names under which it opened them',
    });
  }
}

function statPlace(preopen: Preopen, path: string): BigIntStats | undefined {
  let root: number | undefined;
  try {
    root = openPreopen(preopen);
    const start = { host: root, path: '' };
    return withPlace(start, path === '' ? '.' : path, 'keep', (place) => lstatSync(place.hostPath, { bigint: true }));
  } catch (error) {
    if (errnoOf(error) === undefined) {
      throw error;
    }
    return undefined;
  } finally {
    if (root !== undefined) {
      closeSync(root);
    }
  }
}

/**
 * Fills an empty table from an image. Files must exist on this host under the same names: KEDGE_RESTORE_FILE names the
 * one that does not, or the preopened directory that the host does not give.
 */
export function restoreDescriptors(
  saved: readonly SavedDescriptor[],
  descriptors: DescriptorTable,
  preopens: readonly Preopen[],
  sockets: SocketTable | undefined,
): void {
  for (const entry of saved) {
    descriptors.set(entry.fd, restoreDescriptor(entry, preopens, sockets));
  }
}

function restoreDescriptor(
  entry: SavedDescriptor,
  preopens: readonly Preopen[],
  sockets: SocketTable | undefined,
): Descriptor {
  const common = { rights: BigInt(entry.rights), inheriting: BigInt(entry.inheriting), flags: entry.flags };
  switch (entry.kind) {
    case 'stdio':
      return { ...common, kind: 'stdio', stream: entry.stream };
    case 'socket': {
      const handle = sockets?.handle(entry.socket);
      if (handle === undefined) {
        throw new KedgeError('KEDGE_IMAGE_INVALID', `descriptor ${entry.fd} is a socket that the image does not hold`);
      }
      return { ...common, kind: 'socket', handle };
    }
    case 'file':
    case 'directory': {
      const preopen = preopens.find((candidate) => candidate.guestPath === entry.preopen);
      if (preopen === undefined) {
        throw new KedgeError('KEDGE_RESTORE_FILE', `this host gives the guest no directory ${entry.preopen}`, {
          hint: `start the agent with --dir HOST-DIRECTORY:${entry.preopen}`,
        });
      }
      const host = reopen(entry, preopen, common.rights);
      const place = { preopen, path: entry.path, host };
      return entry.kind === 'file'
        ? { ...common, kind: 'file', ...place, offset: entry.offset }
        : { ...common, kind: 'directory', ...place, preopened: entry.preopened, listing: undefined };
    }
  }
}

function reopen(
  entry: Extract<SavedDescriptor, { readonly kind: 'file' | 'directory' }>,
  preopen: Preopen,
  rights: bigint,
): number {
  let root: number | undefined;
  let host: number | undefined;
  try {
    root = openPreopen(preopen);
    if (entry.kind === 'directory') {
      host =
        entry.path === ''
          ? openPreopen(preopen)
          : withPlace({ host: root, path: '' }, entry.path, 'keep', (place) => openHostDirectory(place.hostPath));
    } else {
      if (preopen.readOnly === true && (rights & WRITE_RIGHTS) !== 0n) {
        throw new Error('the directory is read only on this host');
      }
      const flags = hostFlags(rights, entry.flags);
      host = withPlace({ host: root, path: '' }, entry.path, 'keep', (place) => openSync(place.hostPath, flags));
      if (!fstatSync(host).isFile()) {
        throw new Error('it is no file');
      }
    }
    return host;
  } catch (cause) {
    if (host !== undefined) {
      closeSync(host);
    }
    const whole = cause instanceof Error ? cause.message : String(cause);
    // Node names the path that it was given, which is one of this process.
    const why = whole.replace(/, \w+ '\/proc\/self\/fd\/.*'$/u, '');
    throw new KedgeError('KEDGE_RESTORE_FILE', `cannot open ${nameOf(entry)} again: ${why}`, {
      hint: `the guest had it open; it must be below ${preopen.hostPath} on this host too, and no link`,
      cause,
    });
  } finally {
    if (root !== undefined) {
      closeSync(root);
    }
  }
}

/** Opens a preopened directory; a link at its end is followed, because the host's owner named it. */
export function openPreopen(preopen: Preopen): number {
  return openHostDirectory(`${preopen.hostPath}/.`);
}

function nameOf({ preopen, path }: { readonly preopen: string; readonly path: string }): string {
  return path === '' ? preopen : `${preopen.replace(/\/$/u, '')}/${path}`;
}

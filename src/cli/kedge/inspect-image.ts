/** What `kedge inspect` does: an image as plain data, and as text for people. */
import type { CommandContext } from '@stricli/core';
import { Type } from 'typebox';
import { ExportedFlow } from '../../gateway/admin/schema.ts';
import { stateHash } from '../../engine/hash.ts';
import { initialMemories, PAGE_SIZE } from '../../engine/wasm/initial-memory.ts';
import { checkHandles } from '../../guest/handles-check.ts';
import { type Manifest, pagesOf } from '../../image/manifest.ts';
import { applyDeltas } from '../../image/memory-delta.ts';
import { readImageFile } from '../../image/file.ts';
import type { Image } from '../../image/reader.ts';
import { decodeFlows, decodeImage } from '../../image/reader.ts';
import { checkShape } from '../../image/shape.ts';
import { formatSaved } from '../../wasi-sock/save.ts';
import type { SavedSocket, SavedStream } from '../../wasi-sock/saved.ts';
import { parseSavedSockets } from '../../wasi-sock/saved.ts';
import type { SavedDescriptor } from '../../wasi/saved.ts';
import { formatPairs, formatPublish, toJson } from '../format.ts';
import { renderTable } from '../table.ts';
import type { OutputFlags } from './options.ts';
import { describeStack, type StackLine, stackRows } from './inspect-stack.ts';

type Descriptor = { readonly fd: number; readonly kind: string; readonly what: string };

type Socket = {
  readonly id: number | null;
  readonly kind: string;
  readonly state: string;
  readonly local: string;
  readonly remote: string;
  /** Bytes that came and that the guest has not read. */
  readonly unread: number;
  /** Bytes the guest wrote and the peer has not acknowledged. */
  readonly unacknowledged: number;
};

/** What an image holds, without its bytes. Plain data, fit for JSON. */
export type Description = {
  readonly manifest: Manifest;
  /** Bytes as stored. */
  readonly sections: Readonly<Record<string, number>>;
  /** Where the guest's code stands. */
  readonly frames: {
    readonly encoding: string;
    readonly bytes: number;
    readonly call: string | null;
    /** Innermost first. */
    readonly stack: readonly StackLine[];
  };
  /** The same for equal states on every engine; null when the code has ended or the image has no module. */
  readonly stateHash: string | null;
  readonly exitCode: number | null;
  readonly descriptors: readonly Descriptor[];
  readonly sockets: readonly Socket[];
  readonly flows: readonly ExportedFlow[];
};

/** Checks what `decodeImage` leaves to others. Throws KEDGE_IMAGE_INVALID. */
export function describeImage(image: Image): Description {
  const { exited, wasi, sockets } = checkHandles(image.handles);
  const saved = parseSavedSockets(sockets);
  const { encoding, bytes } = image.frames;
  const { call } = image;
  return {
    manifest: image.manifest,
    sections: image.sectionSizes,
    frames: {
      encoding,
      bytes: bytes.length,
      call: call === undefined ? null : `${call.module}.${call.name}`,
      stack: describeStack(bytes, image.module),
    },
    stateHash: exited === null ? hashOf(image) : null,
    exitCode: exited,
    descriptors: (wasi?.descriptors ?? []).map(describeDescriptor),
    sockets: [
      ...saved.sockets.flatMap(describeSocket),
      ...saved.lingering.map(({ stream }) => describeStream(stream, null, 'lingering')),
    ],
    flows: checkShape(Type.Array(ExportedFlow), decodeFlows(image), 'flows'),
  };
}

function hashOf({ manifest, module, memory: delta, globals, frames }: Image): string | null {
  if (module === undefined) return null;
  const initial = initialMemories(module);
  const all = pagesOf(manifest);
  const [memory = new Uint8Array(), ...otherMemories] = all.map((pages, n) => {
    const own = new Uint8Array(pages * PAGE_SIZE);
    own.set(initial[n]?.subarray(0, own.length) ?? []);
    return own;
  });
  applyDeltas(delta, [memory, ...otherMemories], all);
  return stateHash({ originalHash: manifest.module.sha256, memory, otherMemories, globals, frames });
}

function describeDescriptor(saved: SavedDescriptor): Descriptor {
  const { fd, kind } = saved;
  switch (saved.kind) {
    case 'stdio':
      return { fd, kind, what: ['stdin', 'stdout', 'stderr'][saved.stream] ?? '' };
    case 'socket':
      return { fd, kind, what: `socket ${saved.socket}` };
    case 'file':
      return { fd, kind, what: `${saved.preopen}/${saved.path} at ${saved.offset}` };
    case 'directory':
      return { fd, kind, what: saved.path === '' ? saved.preopen : `${saved.preopen}/${saved.path}` };
  }
}

function describeSocket(saved: SavedSocket): Socket[] {
  const { id, kind } = saved;
  const none = { id, kind, remote: '-', unread: 0, unacknowledged: 0 };
  if (saved.kind === 'udp') {
    const { local, remote, queue } = saved;
    const unread = queue.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const name = (address: typeof local): string => (address === null ? '-' : formatSaved(address));
    return [{ ...none, state: 'open', local: name(local), remote: name(remote), unread }];
  }
  const { state } = saved;
  switch (state.name) {
    case 'open':
      return [{ ...none, state: state.name, local: state.local === null ? '-' : formatSaved(state.local) }];
    case 'listening': {
      const pending = state.pending.map((stream) => describeStream(stream, id, 'pending'));
      return [{ ...none, state: state.name, local: formatSaved(state.local) }, ...pending];
    }
    case 'connecting':
      return [{ ...none, state: state.name, local: formatSaved(state.local), remote: formatSaved(state.remote) }];
    case 'connected':
      return [describeStream(state.stream, id, state.stream.link === 'open' ? state.name : state.stream.link)];
  }
}

function describeStream(stream: SavedStream, id: number | null, state: string): Socket {
  const { local, remote, inbound, tail } = stream;
  return {
    id,
    kind: 'tcp',
    state,
    local: formatSaved(local),
    remote: formatSaved(remote),
    unread: inbound.length,
    unacknowledged: tail.length,
  };
}

const LEFT = 'left' as const;
const RIGHT = 'right' as const;

function table(title: string, columns: readonly (readonly [string, 'left' | 'right'])[], rows: string[][]): string {
  if (rows.length === 0) return '';
  return `\n${title}\n${renderTable(
    columns.map(([name, align]) => ({ title: name, align })),
    rows,
  )}`;
}

/** The text of `kedge inspect`. */
export function imageText({
  manifest,
  sections,
  frames,
  stateHash: hash,
  exitCode,
  descriptors,
  sockets,
  flows,
}: Description): string {
  const { guest, module, claim } = manifest;
  const code = exitCode === null ? `${frames.bytes} bytes of frames, ${frames.encoding}` : `exited with ${exitCode}`;
  const facts = formatPairs([
    ['guest', `${guest.name} (${guest.id})`],
    ['address', guest.address],
    ['epoch', guest.epoch],
    ['connections', claim ? 'move with it' : 'none: a copy of a guest that went on'],
    ['published', formatPublish(manifest.publish)],
    ['module', `${module.name}, ${module.size} bytes, ${'module' in sections ? 'included' : 'not included'}`],
    ['module SHA-256', module.sha256],
    ['arguments', JSON.stringify(manifest.args)],
    ['environment', JSON.stringify(manifest.env)],
    ['memory', `${pagesOf(manifest).join(' + ')} pages of 64 KiB`],
    ['code', code],
    ['stands in', exitCode === null ? (frames.call ?? 'its own code') : '-'],
    ['state hash', hash ?? '-'],
    ['engine', `${manifest.engine}, policy ${manifest.policy}`],
    ['made', `${manifest.createdAt} by Kedge ${manifest.kedgeVersion}, format ${manifest.formatVersion}`],
  ]);
  const sizes = Object.entries(sections).map(([name, bytes]) => [name, String(bytes)]);
  const fds = descriptors.map(({ fd, kind, what }) => [String(fd), kind, what]);
  const socketRows = sockets.map((s) => [
    s.id === null ? '-' : String(s.id),
    s.kind,
    s.state,
    s.local,
    s.remote,
    String(s.unread),
    String(s.unacknowledged),
  ]);
  const flowRows = flows.map((flow) => [
    String(flow.id),
    `${flow.local.address}:${flow.local.port}`,
    `${flow.remote.address}:${flow.remote.port}`,
    String(flow.acked),
    String(flow.received),
    [flow.finAcked ? 'fin-acked' : '', flow.peerFin ? 'peer-fin' : '', flow.reset ? 'reset' : '']
      .filter(Boolean)
      .join(',') || '-',
  ]);
  return [
    facts,
    table(
      'Stack, innermost first',
      [
        ['FUNCTION', RIGHT],
        ['NAME', LEFT],
        ['OFFSET', RIGHT],
        ['SOURCE', LEFT],
        ['STANDS', LEFT],
        ['LOCALS', LEFT],
        ['OPERANDS', LEFT],
      ],
      stackRows(frames.stack),
    ),
    table(
      'Sections',
      [
        ['SECTION', LEFT],
        ['BYTES', RIGHT],
      ],
      sizes,
    ),
    table(
      'Descriptors',
      [
        ['FD', RIGHT],
        ['KIND', LEFT],
        ['WHAT', LEFT],
      ],
      fds,
    ),
    table(
      'Sockets',
      [
        ['ID', RIGHT],
        ['KIND', LEFT],
        ['STATE', LEFT],
        ['LOCAL', LEFT],
        ['REMOTE', LEFT],
        ['UNREAD', RIGHT],
        ['UNACKED', RIGHT],
      ],
      socketRows,
    ),
    table(
      'Flows',
      [
        ['ID', RIGHT],
        ['LOCAL', LEFT],
        ['REMOTE', LEFT],
        ['ACKED', RIGHT],
        ['RECEIVED', RIGHT],
        ['FLAGS', LEFT],
      ],
      flowRows,
    ),
  ].join('');
}

export async function inspectImage(this: CommandContext, flags: OutputFlags, path: string): Promise<void> {
  const description = describeImage(await decodeImage(await readImageFile(path)));
  this.process.stdout.write(flags.output === 'json' ? toJson(description) : imageText(description));
}

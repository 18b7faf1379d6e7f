/**
 * TUN devices, packet batches and interruptible sockets.
 *
 * - Descriptors are plain numbers of the process: they can be handed to worker threads.
 * - A result ≥ 0 is a success, a negative one is `-errno` (Linux numbers). Only {@link tunOpen} and the
 *   constructors of the fast path throw (and any function on arguments of the wrong type).
 * - IPv4 addresses are unsigned 32-bit numbers (127.0.0.1 = 0x7f000001), ports numbers, both in host byte order.
 * - A `wakeFd` comes from {@link wakeCreate}; while it is signalled every socket call that takes one returns `-EINTR` at once,
 *   having consumed nothing (even if it could have succeeded), so the call can be issued again. -1: not interruptible.
 * - `timeoutMs` may be a fraction; negative is for ever, 0 does not wait. When it runs out: `-EAGAIN` (0 from
 *   `readBatch` and `pollMany`).
 * - Offsets, lengths and counts outside their array give `-EINVAL`. Arrays may be views of a SharedArrayBuffer
 *   or of a Wasm memory.
 */

/**
 * Opens (or creates) a TUN device in the network namespace of the process, non-blocking and close-on-exec, with
 * IFF_VNET_HDR (10 bytes, little-endian), TSO4 and checksum offload. It is neither up nor addressed yet.
 * @throws Error with `code` KEDGE_TUN_MISSING, KEDGE_TUN_PERMISSION, KEDGE_TUN_BUSY or KEDGE_TUN_FAILED, `errno` (negative) and `hint`.
 */
export function tunOpen(name: string): number;
/** Closes any descriptor. */
export function fdClose(fd: number): number;

/** An eventfd, not signalled. */
export function wakeCreate(): number;
/** Interrupts every call that waits with this descriptor, now and until {@link wakeClear}. */
export function wakeSignal(fd: number): number;
/** Takes the signal back. */
export function wakeClear(fd: number): number;

/**
 * Sets when a file was read and changed last: whole seconds from 1970 on, and nanoseconds, which are -1 to leave that time as it is and -2
 * for now. Without `follow` a link at the end of the path is what is changed.
 */
export function fileSetTimes(
  path: string,
  follow: boolean,
  accessed: number,
  accessedNanoseconds: number,
  modified: number,
  modifiedNanoseconds: number,
): number;
/** Reserves space for a part of a file, which grows when it is shorter. `-EOPNOTSUPP`: the file system reserves nothing. */
export function fileAllocate(fd: number, offset: number, length: number): number;

/**
 * Lets the calling thread, when it wakes up, have a core before the slice of another has ended: it asks for the same share of it in smaller
 * parts. Kernels before 6.12 take no notice.
 */
export function shortenSlices(): number;

/** Index of a network device of this network namespace. */
export function deviceIndex(name: string): number;

/**
 * The fast path (`bpf/fast_path.bpf.c`): BPF programs on the ingress of devices, and the memory they share with the gateway.
 *
 * A flow crosses as a Float64Array of 39 elements. What describes it, constant while the kernel carries it:
 *
 *      0–5   guest, peer, outside address; guest, peer, outside port
 *      6–8   index of the leg's device; of the leg's TUN; of the outside TUN
 *      9     flags: 1 = managed (ACK, window, SACK and timestamps are translated), 2 = both ends use timestamps, 4 = held: the
 *           peer's data is the gateway's to take
 *     10–14  delta, tsDelta, tsFloor, outBase, inBase
 *     15–17  peerShift, guestShift, announcedShift
 *     18–19  socketBase, playNxt
 *
 * What is known of it, which only rises; names as in src/gateway/arena.ts:
 *
 *     20–27  sndUna, sndNxt, peerEdge, rcvNxt, ackedToPeer, peerNxt, maxEdge, guestEdge
 *     28–29  lastSeen, lastTsOutAt, milliseconds of the monotonic clock
 *     30–33  guestTs, lastTsOut, peerTs, lastTsIn
 *     34–37  bytes and packets out, bytes and packets in, since they were taken last
 *     38     the peer's last window, raw; -1 before its first segment
 */
export class FastPathPrograms {
  /**
   * Loads the programs for `slots` flows and puts them in front of the outside device and the devices of the legs. They are gone
   * when this is closed or collected, and when the process ends.
   * @throws Error with `code` KEDGE_FAST_PATH_UNAVAILABLE and `hint`.
   */
  constructor(outside: string, legs: string[], slots: number);
  /** Descriptors of the maps, keys and flows, for {@link FastPathFlows}; empty when closed. */
  maps(): number[];
  close(): void;
}

/** A view of the flows that the kernel carries; each thread has its own. All give 0 or `-errno`. */
export class FastPathFlows {
  /** @throws when the descriptors are not those of a fast path. */
  constructor(keysFd: number, flowsFd: number, slots: number);
  /** Makes the kernel know a flow, armed. -ENOSPC: no room for its keys; then it does not. */
  propose(slot: number, record: Float64Array): number;
  /**
   * Begins to count packets that go on to the TUN, of the guest's those that come from the device: the next one of each direction is marked
   * by the reserved bit of its IPv4 flags, and the first.
   */
  arm(slot: number, legDevice: number): number;
  /**
   * Lets the kernel carry a proposed flow, unless one of its packets is on the way to the TUN, that is, another number than `seen`
   * was counted, or a mark is still to be made. 1 when it is carried, else 0.
   */
  admit(slot: number, record: Float64Array, seen: number): number;
  /** 1 when the kernel carries the flow: it stops to with the first packet that it passes on, which is then the first counted. After 0 no packet is being carried. */
  isLive(slot: number): number;
  /** Raises what the kernel knows to the record's, and the record to what the kernel knows; counts are taken away. */
  exchange(slot: number, record: Float64Array): number;
  /** As `exchange`, after which the kernel carries no further packet of the flow, and none is being carried. */
  withdraw(slot: number, record: Float64Array): number;
  /** Only looks: the record becomes what the kernel knows. */
  read(slot: number, record: Float64Array): number;
  /** Removes the keys (elements 0 to 5) of a flow that was withdrawn. */
  forget(record: Float64Array): number;
}

/**
 * Reads packets of several TUN devices into `buffer`, in slots `slotSize` bytes apart (use at least 10 + 65535: a longer
 * packet is cut). One packet from each device in turn until all are empty; when all were empty, tries again for
 * `spinUs` microseconds (during which the wake is not looked at), then sleeps up to `timeoutMs`. A negative entry of `fds` is skipped; at most 64.
 *
 * `desc` gets a triple `[deviceIndex, offset, length]` a packet: offset of the 10-byte virtio header, length including it.
 * @returns packets read; 0 at the timeout or when woken (packets that are there come first); -errno of a device when
 *   there was no packet, its index in `desc[0]`.
 */
export function readBatch(
  fds: Int32Array,
  wakeFd: number,
  buffer: Uint8Array,
  slotSize: number,
  maxPackets: number,
  desc: Int32Array,
  spinUs: number,
  timeoutMs: number,
): number;

/**
 * Writes the packets that the first `count` triples of `desc` describe. A full device (EAGAIN) is waited for, up to
 * 20 ms a call. A packet that a device refuses adds 1 to `stats[0]`, puts its errno into `stats[1]` if there is one, and is skipped.
 * @returns packets written; -EINVAL at the first triple that is out of bounds (those before it are written).
 */
export function writeBatch(
  fds: Int32Array,
  buffer: Uint8Array,
  desc: Int32Array,
  count: number,
  stats: Int32Array,
): number;

/** A TCP (`stream`) or UDP socket, non-blocking and close-on-exec. */
export function sockOpen(stream: boolean): number;
export function sockBind(fd: number, addr: number, port: number): number;
export function sockListen(fd: number, backlog: number): number;
/** 0 when connected at once (UDP always), usually `-EINPROGRESS`: then call {@link sockConnectWait}. */
export function sockConnectStart(fd: number, addr: number, port: number): number;
/** 0 when connected, else `-errno` of the attempt. `-EINTR` and `-EAGAIN` leave the attempt under way. */
export function sockConnectWait(fd: number, wakeFd: number, timeoutMs: number): number;
/** A new descriptor; `peer` gets `[address, port]`. */
export function sockAccept(fd: number, wakeFd: number, timeoutMs: number, peer: Uint32Array): number;
/** Waits for room for at least one byte. Returns how many were taken (may be short). No SIGPIPE. */
export function sockSend(
  fd: number,
  data: Uint8Array,
  offset: number,
  length: number,
  wakeFd: number,
  timeoutMs: number,
): number;
/** Waits for at least one byte. 0 is the end of the stream. `peek` leaves the bytes in the kernel. */
export function sockRecv(
  fd: number,
  data: Uint8Array,
  offset: number,
  length: number,
  peek: boolean,
  wakeFd: number,
  timeoutMs: number,
): number;
export function sockSendTo(
  fd: number,
  data: Uint8Array,
  offset: number,
  length: number,
  addr: number,
  port: number,
  wakeFd: number,
  timeoutMs: number,
): number;
/** One datagram; what does not fit is lost. `from` gets `[address, port]`. */
export function sockRecvFrom(
  fd: number,
  data: Uint8Array,
  offset: number,
  length: number,
  peek: boolean,
  wakeFd: number,
  timeoutMs: number,
  from: Uint32Array,
): number;
/** 0 receiving, 1 sending, 2 both. */
export function sockShutdown(fd: number, how: 0 | 1 | 2): number;
export function sockSetInt(fd: number, level: number, name: number, value: number): number;
/** The value of an option whose values are ≥ 0, or `-errno`. */
export function sockGetInt(fd: number, level: number, name: number): number;
/** SO_LINGER; `on` with 0 seconds makes a close a reset. */
export function sockSetLinger(fd: number, on: boolean, seconds: number): number;
/** `out` gets the socket's own `[address, port]`. */
export function sockLocal(fd: number, out: Uint32Array): number;
/** `out` gets the peer's `[address, port]`. */
export function sockRemote(fd: number, out: Uint32Array): number;
/** Bytes the peer has not acknowledged, a sent FIN counting as one (SIOCOUTQ). `-EINVAL` on a listener. */
export function sockOutQueue(fd: number): number;
/** Bytes that can be received now (SIOCINQ). `-EINVAL` on a listener. */
export function sockInQueue(fd: number): number;
/** The kernel's TCP state: 1 ESTABLISHED, 2 SYN_SENT, 3 SYN_RECV, 4 FIN_WAIT1, 5 FIN_WAIT2, 6 TIME_WAIT, 7 CLOSE, 8 CLOSE_WAIT, 9 LAST_ACK, 10 LISTEN, 11 CLOSING. */
export function sockTcpState(fd: number): number;
/** Takes the pending error (SO_ERROR): a positive errno, or 0. */
export function sockError(fd: number): number;

/**
 * Waits for any of the first `count` triples `[fd, events, revents]` of `set` (POLLIN 1, POLLOUT 4; in revents also
 * POLLERR 8, POLLHUP 16, POLLNVAL 32). A negative fd is skipped.
 * @returns how many are ready, 0 at the timeout, `-EINTR` when woken (all revents are then 0).
 */
export function pollMany(set: Int32Array, count: number, wakeFd: number, timeoutMs: number): number;

/**
 * A module that WAMR has loaded, for any number of instances in this thread. The bytes are copied.
 * @throws Error with `code` KEDGE_MODULE_UNSUPPORTED (the message names the features) or KEDGE_MODULE_INVALID.
 */
export class WamrModule {
  constructor(bytes: Uint8Array);
  /** Its function imports, in order. Signatures have WAMR's letters, and `c` for funcref, `e` for externref. */
  imports(): { readonly module: string; readonly name: string; readonly signature: string }[];
  /** The signature of an exported function, or null. */
  function(name: string): string | null;
}

/** A value of the guest: i32, f32 and f64 are numbers, i64 bigints, funcref function indices of the module or null, externref null. */
export type WamrValue = number | bigint | null;

/** One guest in WAMR. It belongs to the thread that made it, and all it does happens in its calls. */
export class WamrInstance {
  /**
   * `stackSize`: bytes for the frames of its functions; beyond that it traps with `call stack exhausted`.
   * @throws Error with `code` KEDGE_MODULE_INVALID when segments lie outside memory or table, or memory is short.
   */
  constructor(module: WamrModule, stackSize: number);
  /**
   * Calls an exported function and gives its result (an array of several, undefined for none). `functions` are the host functions in
   * the order of the imports; they are called in this thread before `call` returns, and may call this object.
   * @throws what a host function threw, the very object; an Error with `code` KEDGE_TRAP and the specification's words.
   */
  call(
    name: string,
    args: readonly WamrValue[],
    functions: readonly ((...args: never[]) => unknown)[],
  ): WamrValue | readonly WamrValue[] | undefined;
  /** The bytes of linear memory, not a copy. Never transfer it. Detached when memory moves or grows, before any JavaScript sees that; then ask again. */
  memory(): ArrayBuffer;
  /** Adds pages; false when memory may not or cannot grow so far, when no instruction of the module could grow it, or while a call runs. */
  grow(pages: number): boolean;
  /** The bits of an exported global: `[low, high]`, unsigned. null: there is none. */
  getGlobal(name: string): [number, number] | null;
  /** Writes an exported mutable global of a number type; false when there is none. */
  setGlobal(name: string, low: number, high: number): boolean;
  /** A number by which any thread can write an exported mutable i32 global, see {@link wamrWriteFlag}. 0: there is none. */
  shareFlag(name: string): number;
  /** A number by which any thread can end what the instance runs, see {@link wamrEnd}. */
  shareEnd(): number;
  /** The number of elements of an exported table, or null. */
  tableSize(name: string): number | null;
  /** The function index of an element, -1 for null, -2 when there is no such table or element. */
  tableGet(name: string, index: number): number;
  /** Writes a function index or -1 for null; false when there is no such element or function. */
  tableSet(name: string, index: number, func: number): boolean;
  /** Frees everything now and detaches the memory. Throws while a call runs. */
  dispose(): void;
}

/** Writes a shared flag from any thread; false when its instance is gone. */
export function wamrWriteFlag(flag: number, value: number): boolean;
/** Ends what an instance runs, from any thread: its call throws KEDGE_TRAP. False when the instance is gone. */
export function wamrEnd(number: number): boolean;
/** The version of WAMR. */
export function wamrVersion(): string;

/** What the stable-point pass may be told. */
export interface InstrumentOptions {
  /** Where the guest may be stopped while it computes; `loop` when left out. */
  readonly policy?: 'call' | 'function' | 'loop' | 'loop-all' | 'instruction';
  /**
   * How a poll reads the stop flag: a shared memory `kedge.stop` (when left out), the global `kedge:stop`, or that global as a count,
   * which each poll takes one from and which stops the guest at 0.
   */
  readonly flag?: 'memory' | 'global' | 'count';
  /** Imports that can suspend, as `module.name`; all of them when left out. */
  readonly suspending?: readonly string[];
  /** Function index and byte offset in turn, of further points that can be entered. */
  readonly entries?: readonly number[];
}

/**
 * Writes the instrumented form of a module. Throws an Error with code `KEDGE_MODULE_INVALID`, or `KEDGE_MODULE_UNSUPPORTED`
 * when it uses a feature that the pass does not cover; the message has the feature's name and the byte offset.
 */
export function instrument(module: Uint8Array, options?: InstrumentOptions): Uint8Array;

/**
 * Runs of 4 KiB pages of `memory` that differ from `initial`, beyond whose end all is zero: first page, count, and 0 for pages that
 * became zero or 1 for data, of each. Nobody may write to either meanwhile. Throws when a length is not whole pages.
 */
export function deltaRuns(memory: Uint8Array, initial: Uint8Array): Uint32Array;

/** Copies the data runs of `memory` one after the other to `into`, from byte `at` to its very end; 0, or `-EINVAL` when they do not fit. */
export function deltaCopy(memory: Uint8Array, runs: Uint32Array, into: Uint8Array, at: number): number;

/** SHA-256 over the SHA-256 of each mebibyte of the parts' bytes, one part after the other; the last may be short. */
export function pieceDigest(parts: readonly Uint8Array[]): Uint8Array;

/**
 * TCP options (RFC 9293 §3.2): one walk over the list that notes where each known option is.
 *
 * An option that is cut off, or whose length its kind does not allow, makes the whole packet bad: what a receiver makes of it
 * is not known, so it cannot be translated. Unknown kinds pass. Of a kind that comes twice the first counts; receivers differ
 * there, so the others are marked, and overwritten before the packet goes on.
 */
import { DROP_REASONS } from './drops.ts';
import type { DropReason } from './drops.ts';

export const OPT_END = 0;
export const OPT_NOP = 1;
export const OPT_MSS = 2;
export const OPT_WSCALE = 3;
export const OPT_SACK_PERMITTED = 4;
export const OPT_SACK = 5;
export const OPT_TIMESTAMPS = 8;
/** TCP MD5 signature (RFC 2385). */
export const OPT_MD5 = 19;
/** TCP authentication option (RFC 5925). */
export const OPT_AO = 29;
/** Multipath TCP (RFC 8684). */
export const OPT_MPTCP = 30;
/** Fast Open (RFC 7413), and its experimental form: kind 254 with a magic number. */
export const OPT_FAST_OPEN = 34;
export const OPT_EXPERIMENT = 254;
export const FAST_OPEN_MAGIC = 0xf989;

/** NOP NOP, then kind and length of timestamps: what nearly every segment of a modern stack begins with. */
const USUAL_TIMESTAMPS = 0x0101080a;

export type TcpOptionFields = {
  /** Offsets in the buffer of the kind byte; 0 when the option is absent. */
  mssAt: number;
  wscaleAt: number;
  sackPermAt: number;
  sackAt: number;
  tsAt: number;
  fastOpenAt: number;
  md5At: number;
  aoAt: number;
  mptcpAt: number;
  /** Bytes; 0 when absent. */
  mss: number;
  /** Shift count as it stands there, which may be above 14; -1 when absent. */
  wscale: number;
  /** Blocks of the SACK option. */
  sackCount: number;
  tsVal: number;
  tsEcr: number;
  /** A kind that is translated came more than once. */
  duplicateOptions: boolean;
};

/** Marks all options as absent. */
export function clearOptions(into: TcpOptionFields): void {
  into.mssAt = 0;
  into.wscaleAt = 0;
  into.sackPermAt = 0;
  into.sackAt = 0;
  into.tsAt = 0;
  into.fastOpenAt = 0;
  into.md5At = 0;
  into.aoAt = 0;
  into.mptcpAt = 0;
  into.mss = 0;
  into.wscale = -1;
  into.sackCount = 0;
  into.tsVal = 0;
  into.tsEcr = 0;
  into.duplicateOptions = false;
}

/** Walks the options in [from, to) of the buffer. Everything must be marked absent before. */
export function readOptions(view: DataView, from: number, to: number, into: TcpOptionFields): DropReason | 0 {
  let at = from;
  if (to - at >= 12 && view.getUint32(at) === USUAL_TIMESTAMPS) {
    into.tsAt = at + 2;
    into.tsVal = view.getUint32(at + 4);
    into.tsEcr = view.getUint32(at + 8);
    at += 12;
  }
  while (at < to) {
    const kind = view.getUint8(at);
    if (kind === OPT_NOP) {
      at++;
      continue;
    }
    if (kind === OPT_END) return 0;
    if (at + 1 >= to) return DROP_REASONS['bad-tcp-options'];
    const length = view.getUint8(at + 1);
    if (length < 2 || at + length > to) return DROP_REASONS['bad-tcp-options'];
    if (!noteOption(view, at, kind, length, into)) return DROP_REASONS['bad-tcp-options'];
    at += length;
  }
  return 0;
}

/** Notes one option that lies within the header. False when its kind does not allow its length. */
function noteOption(view: DataView, at: number, kind: number, length: number, into: TcpOptionFields): boolean {
  switch (kind) {
    case OPT_TIMESTAMPS:
      if (length !== 10) return false;
      if (into.tsAt !== 0) into.duplicateOptions = true;
      else {
        into.tsAt = at;
        into.tsVal = view.getUint32(at + 2);
        into.tsEcr = view.getUint32(at + 6);
      }
      return true;
    case OPT_SACK:
      if (length < 10 || (length & 7) !== 2) return false;
      if (into.sackAt !== 0) into.duplicateOptions = true;
      else {
        into.sackAt = at;
        into.sackCount = length >>> 3;
      }
      return true;
    case OPT_MSS:
      if (length !== 4) return false;
      if (into.mssAt !== 0) into.duplicateOptions = true;
      else {
        into.mssAt = at;
        into.mss = view.getUint16(at + 2);
      }
      return true;
    case OPT_WSCALE:
      if (length !== 3) return false;
      if (into.wscaleAt !== 0) into.duplicateOptions = true;
      else {
        into.wscaleAt = at;
        into.wscale = view.getUint8(at + 2);
      }
      return true;
    case OPT_SACK_PERMITTED:
      if (length !== 2) return false;
      if (into.sackPermAt !== 0) into.duplicateOptions = true;
      else into.sackPermAt = at;
      return true;
    case OPT_MD5:
      if (into.md5At === 0) into.md5At = at;
      return true;
    case OPT_AO:
      if (into.aoAt === 0) into.aoAt = at;
      return true;
    case OPT_MPTCP:
      if (into.mptcpAt === 0) into.mptcpAt = at;
      return true;
    case OPT_FAST_OPEN:
      noteFastOpen(at, into);
      return true;
    case OPT_EXPERIMENT:
      if (length >= 4 && view.getUint16(at + 2) === FAST_OPEN_MAGIC) noteFastOpen(at, into);
      return true;
    default:
      return true;
  }
}

function noteFastOpen(at: number, into: TcpOptionFields): void {
  if (into.fastOpenAt === 0) into.fastOpenAt = at;
  else into.duplicateOptions = true;
}

//! Memory that is a gigabyte of a guest's: what differs from what its module makes of it, copies of that, and digests, by several
//! threads at once where it is worth one.
//!
//! The caller says that nobody writes to the memory meanwhile: the guest stands still. If somebody did, the result would be of no
//! use, as it is when the kernel writes out a page that is being changed.

use std::{cmp::min, num::NonZero, ops::Range, thread};

use sha2::{Digest, Sha256};

use crate::{
    errno::{Errno, Result},
    memory::{Bytes, address, window},
};

pub const PAGE: usize = 4096;
/// What a section's digest is made of: each piece has one of its own.
pub const PIECE: usize = 1 << 20;
/// Below this a thread costs more than it saves.
const APART_FROM: usize = 4 << 20;
const MOST_THREADS: usize = 8;
const HUGE_PAGE: usize = 2 << 20;
/// What a hash sees at a time: it stays in the nearest cache.
const SIP: usize = 16 << 10;

static ZEROS: [u8; PAGE] = [0; PAGE];

/// Pages from `first` on that became zero, or that hold data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: u32,
    pub count: u32,
    pub data: bool,
}

fn threads(bytes: usize) -> usize {
    if bytes < APART_FROM {
        return 1;
    }
    min(thread::available_parallelism().map_or(1, NonZero::get), MOST_THREADS)
}

/// `work` for each of as many equal shares of `units` as there are threads for so many bytes; results in order.
fn shared<T: Send>(units: usize, bytes: usize, work: impl Fn(Range<usize>) -> T + Sync) -> Vec<T> {
    let count = threads(bytes);
    let share = |n: usize| units * n / count..units * (n + 1) / count;
    thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..count).map(|n| scope.spawn(move || work(share(n)))).collect();
        let mut results = vec![work(share(0))];
        results.extend(others.into_iter().map(|other| other.join().expect("a share of the work")));
        results
    })
}

fn same(a: &Bytes, b: *const u8) -> bool {
    // SAFETY: `b` has as many bytes as `a`; nobody writes to either.
    unsafe { libc::memcmp(address(a), b.cast(), a.len()) == 0 }
}

/// Runs of pages of `memory` that differ from `initial`, beyond whose end all is zero.
///
/// # Errors
/// `EINVAL` unless both are whole pages, and not more than 2^32 of them.
pub fn runs(memory: &Bytes, initial: &Bytes) -> Result<Vec<Run>> {
    let pages = memory.len() / PAGE;
    if !memory.len().is_multiple_of(PAGE) || !initial.len().is_multiple_of(PAGE) || u32::try_from(pages).is_err() {
        return Err(Errno::INVALID);
    }
    let mut found: Vec<Run> = Vec::new();
    for part in shared(pages, memory.len(), |share| runs_of(memory, initial, share)) {
        for run in part {
            join(&mut found, run);
        }
    }
    Ok(found)
}

fn runs_of(memory: &Bytes, initial: &Bytes, pages: Range<usize>) -> Vec<Run> {
    let mut found = Vec::new();
    for index in pages {
        let range = index * PAGE..(index + 1) * PAGE;
        let page = &memory[range.clone()];
        let zero = same(page, ZEROS.as_ptr());
        let unchanged = initial.get(range).map_or(zero, |own| same(page, own.as_ptr().cast()));
        if !unchanged {
            // In range: the number of pages was checked.
            #[allow(clippy::cast_possible_truncation)]
            join(&mut found, Run { first: index as u32, count: 1, data: !zero });
        }
    }
    found
}

fn join(runs: &mut Vec<Run>, next: Run) {
    match runs.last_mut() {
        Some(last) if last.data == next.data && last.first + last.count == next.first => last.count += next.count,
        _ => runs.push(next),
    }
}

/// Copies the pages of the data runs one after the other to `into`.
///
/// # Errors
/// `EINVAL` when they do not lie within `memory`, or do not fill `into` exactly. Then nothing is copied.
pub fn copy(memory: &Bytes, runs: &[Run], into: &Bytes) -> Result<()> {
    let mut parts: Vec<(&Bytes, usize)> = Vec::new();
    let mut at = 0;
    for run in runs.iter().filter(|run| run.data) {
        let from = window(memory, run.first as usize * PAGE, run.count as usize * PAGE)?;
        parts.push((from, at));
        at += from.len();
    }
    if at != into.len() {
        return Err(Errno::INVALID);
    }
    ask_for_huge_pages(into);
    shared(into.len() / PAGE, into.len(), |pages| {
        let share = pages.start * PAGE..pages.end * PAGE;
        let begin = parts.partition_point(|(from, at)| at + from.len() <= share.start);
        for (from, at) in &parts[begin..] {
            let (start, end) = (share.start.max(*at), share.end.min(at + from.len()));
            if start >= end {
                break;
            }
            let (source, target) = (&from[start - at..end - at], &into[start..end]);
            // SAFETY: both have this length, and nobody else writes to either; `memmove` as they may be views of one buffer.
            unsafe { libc::memmove(address(target), address(source), source.len()) };
        }
    });
    Ok(())
}

/// Memory that was never touched comes in pages of 2 MiB then, which takes a fraction of the time. A hint: it may do nothing.
fn ask_for_huge_pages(bytes: &Bytes) {
    let start = address(bytes) as usize;
    let (first, last) = (start.next_multiple_of(HUGE_PAGE), (start + bytes.len()) / HUGE_PAGE * HUGE_PAGE);
    if first < last {
        // SAFETY: the range is part of a live allocation, and the advice changes none of its bytes.
        unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_HUGEPAGE) };
    }
}

/// SHA-256 over the SHA-256 of each piece of the parts' bytes, one part after the other; the last piece may be short.
#[must_use]
pub fn digest(parts: &[&Bytes]) -> [u8; 32] {
    let mut ends = Vec::with_capacity(parts.len());
    let mut total = 0;
    for part in parts {
        total += part.len();
        ends.push(total);
    }
    let pieces = shared(total.div_ceil(PIECE), total, |pieces| {
        pieces.map(|n| digest_of(parts, &ends, n * PIECE..min((n + 1) * PIECE, total))).collect::<Vec<_>>()
    });
    let mut whole = Sha256::new();
    for piece in pieces.iter().flatten() {
        whole.update(piece);
    }
    whole.finalize().into()
}

/// `ends` says where in the whole each part ends.
fn digest_of(parts: &[&Bytes], ends: &[usize], piece: Range<usize>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut sip = [0_u8; SIP];
    let mut at = piece.start;
    let mut index = ends.partition_point(|end| *end <= at);
    while at < piece.end {
        let (part, end) = (parts[index], ends[index]);
        let length = min(min(end, piece.end) - at, SIP);
        let from = part.len() - (end - at);
        let bytes = &part[from..from + length];
        // SAFETY: `sip` is ours and has room for `length` bytes; nobody writes to the part.
        unsafe { libc::memcpy(sip.as_mut_ptr().cast(), address(bytes), length) };
        hash.update(&sip[..length]);
        at += length;
        // An empty part ends where the one before it does.
        while index < ends.len() && ends[index] <= at {
            index += 1;
        }
    }
    hash.finalize().into()
}

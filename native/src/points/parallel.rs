//! Work on many functions at once. What comes out never depends on how many threads there were, or on which of them did what.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use super::refusal::{Refusal, Result};

/// Bytes of code that are worth a thread. To start one takes as long as to instrument a few KiB.
const SHARE: usize = 64 * 1024;
/// The most threads. What is not parallel would make more of them wait.
const MOST: usize = 16;

/// How many threads to use for so many bytes of code.
#[must_use]
pub fn threads(bytes: usize) -> usize {
    if bytes < 2 * SHARE {
        return 1;
    }
    let available = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (bytes / SHARE).min(available).min(MOST)
}

/// Does `work` for each index below `count` on so many threads, and gives the results in order. `fresh` makes what a thread
/// keeps from one index to the next.
///
/// # Errors
/// That of the lowest index that fails. Indices are taken in order, so those below it have been tried as well.
pub fn each<State, Out: Send>(
    count: usize,
    threads: usize,
    fresh: impl Fn() -> State + Sync,
    work: impl Fn(&mut State, usize) -> Result<Out> + Sync,
) -> Result<Vec<Out>> {
    if threads < 2 {
        let mut state = fresh();
        return (0..count).map(|index| work(&mut state, index)).collect();
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let run = || {
        let mut state = fresh();
        let mut done: Vec<(usize, Out)> = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                break;
            }
            match work(&mut state, index) {
                Ok(out) => done.push((index, out)),
                Err(refusal) => {
                    failed.store(true, Ordering::Relaxed);
                    return (done, Some((index, refusal)));
                }
            }
        }
        (done, None)
    };
    let finished = thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).filter_map(|_| thread::Builder::new().spawn_scoped(scope, run).ok()).collect();
        // Where no thread can be had, this one does it all.
        let mut finished = vec![run()];
        for other in others {
            finished.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        finished
    });
    let mut first: Option<(usize, Refusal)> = None;
    let mut slots: Vec<Option<Out>> = (0..count).map(|_| None).collect();
    for (done, refusal) in finished {
        for (index, out) in done {
            slots[index] = Some(out);
        }
        if let Some((index, refusal)) = refusal
            && first.as_ref().is_none_or(|(lowest, _)| index < *lowest)
        {
            first = Some((index, refusal));
        }
    }
    match first {
        Some((_, refusal)) => Err(refusal),
        None => Ok(slots.into_iter().flatten().collect()),
    }
}

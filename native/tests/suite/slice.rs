//! What the scheduler says of a thread that has asked for short slices.

use std::{fs, thread};

use kedge_native::slice::shorten_slices;

/// Nanoseconds, of the calling thread; none where the kernel does not tell.
fn slice() -> Option<u64> {
    let told = fs::read_to_string("/proc/thread-self/sched").ok()?;
    let line = told.lines().find(|line| line.starts_with("se.slice"))?;
    line.split(':').nth(1)?.trim().parse().ok()
}

#[test]
fn slices_become_short_and_only_those_of_the_calling_thread() {
    let before = slice();
    let of_another = thread::spawn(|| {
        shorten_slices().expect("anybody may ask");
        slice()
    });
    // A kernel that takes no notice leaves it as it is.
    let after = of_another.join().expect("a thread");
    assert!(after == Some(100_000) || after == before, "{before:?} became {after:?}");
    assert_eq!(slice(), before);
}

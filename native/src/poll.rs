//! Waiting for many descriptors at once.

use std::{array, os::fd::RawFd};

use crate::{
    deadline::Deadline,
    errno::{Errno, Result},
    interrupt::{entry, poll_until, woken},
    memory::{Words, get, set},
};

/// Sets up to this size need no allocation.
const ON_STACK: usize = 128;
/// More descriptors than any process of ours may have.
const LARGEST: usize = 1 << 20;

/// Waits until one of the `count` triples `[fd, events, revents]` in `triples` is ready and fills in every
/// `revents`. A negative fd is skipped, a closed one gets POLLNVAL. Returns how many have events, 0 at the deadline.
///
/// # Errors
/// `EINTR` when woken (every `revents` is then 0), `EINVAL` when `triples` is too short.
pub fn poll_many(triples: &Words, count: usize, wake: RawFd, deadline: Deadline) -> Result<usize> {
    if count > LARGEST {
        return Err(Errno::INVALID);
    }
    let triples = triples.get(..count * 3).ok_or(Errno::INVALID)?;
    let mut small: [libc::pollfd; ON_STACK];
    let mut large: Vec<libc::pollfd>;
    let polled = if count < ON_STACK {
        small = array::from_fn(|_| entry(-1, 0));
        &mut small[..=count]
    } else {
        large = vec![entry(-1, 0); count + 1];
        &mut large[..]
    };
    for (slot, triple) in polled.iter_mut().zip(triples.chunks_exact(3)) {
        // The kernel only knows the low 16 bits.
        #[allow(clippy::cast_possible_truncation)]
        let events = get(&triple[1]) as i16;
        *slot = entry(get(&triple[0]), events);
        set(&triple[2], 0);
    }
    polled[count] = entry(wake, libc::POLLIN);

    let ready = poll_until(polled, deadline)?;
    woken(&polled[count])?;
    for (slot, triple) in polled.iter().zip(triples.chunks_exact(3)) {
        set(&triple[2], i32::from(slot.revents));
    }
    Ok(ready)
}

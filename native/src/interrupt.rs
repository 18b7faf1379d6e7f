//! Calls that block in one thread and are interrupted at once by another.
//!
//! # Theory of operation
//! The wake descriptor is an eventfd that stays readable from [`wake_signal`] to [`wake_clear`].
//! Every waiting call polls its own descriptor together with it. The wake descriptor wins: a call
//! looks at it before it does anything, and when it is signalled the call returns `EINTR` having
//! consumed nothing, so it can be issued again later, even by another process after a restore.
//! Because the descriptor is level-triggered there is no window between "check" and "sleep" in
//! which a signal could be lost, and one signal stops any number of calls.
//!
//! Unix signals are different: a `poll` that a signal cuts short is repeated with the time left.
//!
//! A wake descriptor of -1 means the call cannot be interrupted.

use std::{os::fd::RawFd, ptr, time::Duration};

use crate::{
    deadline::Deadline,
    errno::{Errno, Result, check, check_size},
};

/// Makes a wake descriptor, not signalled.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn wake_create() -> Result<RawFd> {
    // SAFETY: eventfd takes no pointers.
    check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// Signals: every call that waits with this descriptor returns `EINTR` until it is cleared.
///
/// # Errors
/// `EBADF`, `EINVAL` when it is no eventfd.
pub fn wake_signal(wake: RawFd) -> Result<()> {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: `one` is 8 readable bytes.
    match check_size(unsafe { libc::write(wake, one.as_ptr().cast(), one.len()) }) {
        // A counter at its maximum is as signalled as can be.
        Err(error) if !error.would_block() => Err(error),
        _ => Ok(()),
    }
}

/// Takes the signal back.
///
/// # Errors
/// `EBADF`, `EINVAL`.
pub fn wake_clear(wake: RawFd) -> Result<()> {
    let mut count = [0_u8; 8];
    // SAFETY: `count` is 8 writable bytes.
    match check_size(unsafe { libc::read(wake, count.as_mut_ptr().cast(), count.len()) }) {
        Err(error) if !error.would_block() => Err(error),
        _ => Ok(()),
    }
}

/// `ppoll` until something is ready or the deadline has passed; repeated when a signal cuts it short.
/// Returns how many entries have events.
///
/// # Errors
/// `EINVAL` for too many entries, `ENOMEM`.
pub fn poll_until(set: &mut [libc::pollfd], deadline: Deadline) -> Result<usize> {
    loop {
        let limit = deadline.remaining().map(timespec);
        let limit_ptr = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `set` is an exclusive slice of its stated length; `limit_ptr` is null or points
        // at `limit`, which outlives the call; a null mask leaves the signal mask alone.
        let ready = unsafe { libc::ppoll(set.as_mut_ptr(), set.len() as libc::nfds_t, limit_ptr, ptr::null()) };
        match check(ready) {
            Err(Errno::INTERRUPTED) => {}
            Err(error) => return Err(error),
            Ok(count) => return usize::try_from(count).map_err(|_| Errno::INVALID),
        }
    }
}

/// `EINTR` when the wake descriptor is signalled now, `EBADF` when it is none.
///
/// # Errors
/// As said.
pub fn check_wake(wake: RawFd) -> Result<()> {
    if wake < 0 {
        return Ok(());
    }
    let mut set = [entry(wake, libc::POLLIN)];
    poll_until(&mut set, Deadline::Now)?;
    woken(&set[0])
}

/// Waits until `fd` has one of `events` (or an error or hang-up). Returns its events; 0 at the deadline.
///
/// # Errors
/// `EINTR` when woken, `EBADF`.
pub fn wait(fd: RawFd, events: i16, wake: RawFd, deadline: Deadline) -> Result<i16> {
    if fd < 0 {
        // `poll` skips negative descriptors: it would wait for nothing.
        return Err(Errno::BAD_DESCRIPTOR);
    }
    let mut set = [entry(fd, events), entry(wake, libc::POLLIN)];
    poll_until(&mut set, deadline)?;
    woken(&set[1])?;
    if set[0].revents & libc::POLLNVAL != 0 {
        return Err(Errno::BAD_DESCRIPTOR);
    }
    Ok(set[0].revents)
}

/// Runs the non-blocking `attempt` until it does not ask to wait.
///
/// The attempt comes before the first wait, as in the kernel's own blocking calls: its immediate errors
/// need no readiness, and a send takes what little room there is.
///
/// # Errors
/// `EINTR` when woken (then `attempt` has not succeeded), `EAGAIN` at the deadline, or what `attempt` says.
pub fn blocking<T>(
    fd: RawFd,
    events: i16,
    wake: RawFd,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    check_wake(wake)?;
    loop {
        match attempt() {
            Err(error) if error.would_block() => {}
            Err(Errno::INTERRUPTED) => continue,
            result => return result,
        }
        if matches!(deadline, Deadline::Now) || wait(fd, events, wake, deadline)? == 0 {
            return Err(Errno::TIMED_OUT);
        }
    }
}

/// What a polled wake descriptor says.
///
/// # Errors
/// `EINTR` when signalled, `EBADF` when it is no open descriptor.
pub fn woken(entry: &libc::pollfd) -> Result<()> {
    match entry.revents {
        0 => Ok(()),
        events if events & libc::POLLNVAL != 0 => Err(Errno::BAD_DESCRIPTOR),
        _ => Err(Errno::INTERRUPTED),
    }
}

/// A `pollfd` without results yet.
#[must_use]
pub fn entry(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(duration.subsec_nanos().cast_signed()),
    }
}

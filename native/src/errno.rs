//! Errors of system calls as plain Linux numbers.

use std::io;

/// A Linux error number, greater than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a system call gives: a value or an error number.
pub type Result<T> = std::result::Result<T, Errno>;

impl Errno {
    /// The call was interrupted by the wake descriptor; it can be issued again.
    pub const INTERRUPTED: Self = Self(libc::EINTR);
    /// Nothing was ready before the deadline.
    pub const TIMED_OUT: Self = Self(libc::EAGAIN);
    /// An argument makes no sense: an index out of bounds, a port above 65535.
    pub const INVALID: Self = Self(libc::EINVAL);
    /// Not an open descriptor.
    pub const BAD_DESCRIPTOR: Self = Self(libc::EBADF);
    /// The socket has no peer.
    pub const NOT_CONNECTED: Self = Self(libc::ENOTCONN);

    /// The error of the last failed call of this thread.
    #[must_use]
    pub fn last() -> Self {
        // `raw_os_error` of `last_os_error` is always present; EIO stands for the impossible.
        Self(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    /// True when the call would have had to wait.
    #[must_use]
    pub fn would_block(self) -> bool {
        // EWOULDBLOCK is the same number on Linux.
        self.0 == libc::EAGAIN
    }
}

/// Turns the `-1` of an `int` system call into the error of the thread.
///
/// # Errors
/// The error of the thread when `result` is negative.
pub fn check(result: libc::c_int) -> Result<i32> {
    if result < 0 { Err(Errno::last()) } else { Ok(result) }
}

/// Turns the `-1` of a call that moves bytes into the error of the thread.
///
/// # Errors
/// The error of the thread when `result` is negative.
pub fn check_size(result: libc::ssize_t) -> Result<usize> {
    usize::try_from(result).map_err(|_| Errno::last())
}

//! What `node:fs` cannot do to a file: times to the nanosecond, one without the other, and space that is reserved.

use std::{ffi::CStr, os::fd::RawFd};

use crate::errno::{Errno, Result, check};

/// What becomes of one of a file's two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Keep,
    Now,
    At { seconds: i64, nanoseconds: u32 },
}

impl Time {
    fn to_raw(self) -> libc::timespec {
        match self {
            Self::Keep => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
            Self::Now => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
            Self::At { seconds, nanoseconds } => libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
        }
    }
}

/// Sets when a file was read and changed last. Without `follow` a link at the end of the path is what is changed.
///
/// # Errors
/// As `utimensat(2)`; `EINVAL` for a second and more of nanoseconds.
pub fn set_times(path: &CStr, follow: bool, accessed: Time, modified: Time) -> Result<()> {
    for time in [accessed, modified] {
        // Numbers above stand for `Keep` and `Now`.
        if matches!(time, Time::At { nanoseconds: 1_000_000_000.., .. }) {
            return Err(Errno::INVALID);
        }
    }
    let times = [accessed.to_raw(), modified.to_raw()];
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    // SAFETY: the path ends in a NUL, and there are two times.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), flags) }).map(drop)
}

/// Reserves space for a part of a file, which grows if it ends before that part does.
///
/// # Errors
/// `EOPNOTSUPP` when the file system reserves nothing, else as `fallocate(2)`.
pub fn allocate(fd: RawFd, offset: i64, length: i64) -> Result<()> {
    loop {
        // SAFETY: fallocate takes no pointers.
        match check(unsafe { libc::fallocate(fd, 0, offset, length) }) {
            // What is reserved already is kept.
            Err(Errno::INTERRUPTED) => {}
            other => return other.map(drop),
        }
    }
}

//! How soon the scheduler lets a thread that has woken up have a core that another has.

use std::ptr;

use crate::errno::{Result, check};

/// The shortest that there is, nanoseconds. A thread of short slices waits for no slice of others to end (Linux 6.12).
const SHORTEST_NS: u64 = 100_000;

/// As `struct sched_attr` begins in every version (`sched_setattr(2)`).
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const _: () = assert!(size_of::<Attributes>() == 48);

/// Gives the calling thread short slices: the same share of a core, in more and smaller parts. Older kernels take no notice.
///
/// # Errors
/// What `sched_getattr` or `sched_setattr` says.
pub fn shorten_slices() -> Result<()> {
    let mut attributes =
        Attributes { size: 0, policy: 0, flags: 0, nice: 0, priority: 0, runtime: 0, deadline: 0, period: 0 };
    let size = size_of::<Attributes>();
    // SAFETY: thread 0 is the calling one; `attributes` has room for `size` bytes.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, ptr::from_mut(&mut attributes), size, 0) };
    check(i32::try_from(got).unwrap_or(-1))?;
    attributes.runtime = SHORTEST_NS;
    // SAFETY: as above; it is only read.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, ptr::from_ref(&attributes), 0) };
    check(i32::try_from(set).unwrap_or(-1)).map(drop)
}

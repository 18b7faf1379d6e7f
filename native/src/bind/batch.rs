use std::{
    sync::atomic::{AtomicI32, AtomicU8},
    time::Duration,
};

use napi_derive::napi;

use super::{
    args::{Fd, View, size},
    number,
};
use crate::{
    batch::{self, ReadBatch},
    deadline::Deadline,
    errno::Errno,
};

/// Longest spin; more is a mistake in units.
const MAX_SPIN_US: f64 = 1e6;

#[napi]
#[allow(clippy::too_many_arguments)] // numbers and arrays cross to native code faster than an object of them
pub fn read_batch(
    fds: View<AtomicI32>,
    wake_fd: Fd,
    buffer: View<AtomicU8>,
    slot_size: f64,
    max_packets: f64,
    desc: View<AtomicI32>,
    spin_us: f64,
    timeout_ms: f64,
) -> i32 {
    let read = || {
        if !(0.0..=MAX_SPIN_US).contains(&spin_us) {
            return Err(Errno::INVALID);
        }
        let spin = Duration::from_secs_f64(spin_us / 1e6);
        ReadBatch::new(fds.words(), buffer.bytes(), size(slot_size)?, size(max_packets)?, desc.words())?.read(
            wake_fd.0,
            spin,
            Deadline::after_ms(timeout_ms)?,
        )
    };
    number(read())
}

#[napi]
pub fn write_batch(
    fds: View<AtomicI32>,
    buffer: View<AtomicU8>,
    desc: View<AtomicI32>,
    count: f64,
    stats: View<AtomicI32>,
) -> i32 {
    number(
        size(count)
            .and_then(|count| batch::write_batch(fds.words(), buffer.bytes(), desc.words(), count, stats.words())),
    )
}

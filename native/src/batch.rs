//! Batches of packets between TUN devices and one preallocated buffer.
//!
//! # Theory of operation
//! A batch is described by triples `[device, offset, length]`: the index of the device in the list of
//! descriptors, and where in the buffer its virtio header starts and how long header and packet are.
//! Reading drains all devices in turn, one packet from each, so that a busy device cannot starve
//! another; only when all were empty does it spin and then sleep. Nothing is allocated and nothing
//! is kept between calls.
//!
//! Limits: one system call a packet (a super-packet counts as one); at most 64 devices. A packet
//! longer than its slot is cut by the kernel without notice, so slots should hold the longest
//! super-packet, 10 + 65535 bytes; the IP total length tells.
//!
//! A negative descriptor stands for a device that is gone, so that indexes of others stay as they are.

use std::{
    hint,
    os::fd::RawFd,
    time::{Duration, Instant},
};

use crate::{
    deadline::Deadline,
    errno::{Errno, Result, check_size},
    interrupt::{entry, poll_until, wait, woken},
    memory::{Bytes, Words, address, get, set, window},
};

/// Most devices in one call.
pub const MAX_DEVICES: usize = 64;
/// Longest time one write batch waits for full devices; then the packets that do not fit are lost.
const BACK_PRESSURE_MS: f64 = 20.0;

/// Where read packets go.
pub struct ReadBatch<'a> {
    devices: [RawFd; MAX_DEVICES],
    device_count: usize,
    buffer: &'a Bytes,
    slot_size: usize,
    max_packets: usize,
    triples: &'a Words,
}

impl<'a> ReadBatch<'a> {
    /// Checks once that everything fits, so that the loops below need not.
    ///
    /// # Errors
    /// `EINVAL` when there are no or too many devices, slots of size 0 or no packet to read, or when the buffer
    /// or `triples` is too small for `max_packets`.
    pub fn new(
        devices: &Words,
        buffer: &'a Bytes,
        slot_size: usize,
        max_packets: usize,
        triples: &'a Words,
    ) -> Result<Self> {
        let fits = slot_size.checked_mul(max_packets).is_some_and(|size| size > 0 && size <= buffer.len())
            && max_packets <= triples.len() / 3
            // Offsets are passed back as 32-bit numbers.
            && i32::try_from(buffer.len()).is_ok();
        if !fits || devices.is_empty() || devices.len() > MAX_DEVICES {
            return Err(Errno::INVALID);
        }
        let mut own = [-1; MAX_DEVICES];
        for (to, from) in own.iter_mut().zip(devices) {
            *to = get(from);
        }
        Ok(Self { devices: own, device_count: devices.len(), buffer, slot_size, max_packets, triples })
    }

    /// Reads what is there; when nothing is, tries again for `spin`, then sleeps until the deadline.
    /// Returns the number of packets: 0 at the deadline or when woken.
    ///
    /// # Errors
    /// An error of a device (`EBADFD` when it was removed), only when there was no packet; the first triple then
    /// names the device.
    pub fn read(&self, wake: RawFd, spin: Duration, deadline: Deadline) -> Result<usize> {
        loop {
            let count = self.drain()?;
            if count > 0 || matches!(deadline, Deadline::Now) && spin.is_zero() {
                return Ok(count);
            }
            let count = self.spin(spin)?;
            if count > 0 || !self.sleep(wake, deadline)? {
                return Ok(count);
            }
        }
    }

    /// One packet from each device in turn until all are empty or all slots are full.
    fn drain(&self) -> Result<usize> {
        let mut count = 0;
        // Bit i: device i had a packet the last time.
        let mut busy = u64::MAX >> (MAX_DEVICES - self.device_count);
        let mut failure = None;
        while busy != 0 {
            for (index, &fd) in self.devices[..self.device_count].iter().enumerate() {
                if busy & (1 << index) == 0 {
                    continue;
                }
                if count == self.max_packets {
                    return Ok(count);
                }
                let offset = count * self.slot_size;
                // In bounds: `new` checked that all slots are.
                let slot = &self.buffer[offset..offset + self.slot_size];
                match read_packet(fd, slot) {
                    Ok(length) => {
                        self.describe(count, index, offset, length);
                        count += 1;
                    }
                    Err(error) => {
                        busy &= !(1 << index);
                        if !error.would_block() && fd >= 0 {
                            failure.get_or_insert((index, error));
                        }
                    }
                }
            }
        }
        match failure {
            Some((index, error)) if count == 0 => {
                self.describe(0, index, 0, 0);
                Err(error)
            }
            _ => Ok(count),
        }
    }

    fn spin(&self, time: Duration) -> Result<usize> {
        if time.is_zero() {
            return Ok(0);
        }
        let start = Instant::now();
        loop {
            hint::spin_loop();
            let count = self.drain()?;
            if count > 0 || start.elapsed() >= time {
                return Ok(count);
            }
        }
    }

    /// Sleeps until a device has a packet (true), or the deadline or the wake signal (false).
    fn sleep(&self, wake: RawFd, deadline: Deadline) -> Result<bool> {
        let mut polled = [entry(-1, 0); MAX_DEVICES + 1];
        for (slot, &fd) in polled.iter_mut().zip(&self.devices[..self.device_count]) {
            *slot = entry(fd, libc::POLLIN);
        }
        polled[self.device_count] = entry(wake, libc::POLLIN);
        let ready = poll_until(&mut polled[..=self.device_count], deadline)?;
        match woken(&polled[self.device_count]) {
            Err(Errno::INTERRUPTED) => Ok(false),
            Err(error) => Err(error),
            Ok(()) => Ok(ready > 0),
        }
    }

    fn describe(&self, packet: usize, device: usize, offset: usize, length: usize) {
        // `new` checked that the buffer is smaller than 2 GiB and that there are triples enough.
        let triple = &self.triples[packet * 3..packet * 3 + 3];
        for (word, value) in triple.iter().zip([device, offset, length]) {
            set(word, i32::try_from(value).unwrap_or(i32::MAX));
        }
    }
}

fn read_packet(fd: RawFd, slot: &Bytes) -> Result<usize> {
    loop {
        // SAFETY: `slot` is that many writable bytes (atomics) and outlives the call.
        match check_size(unsafe { libc::read(fd, address(slot), slot.len()) }) {
            Err(Errno::INTERRUPTED) => {}
            result => return result,
        }
    }
}

/// Writes the first `count` packets that `triples` describes, in order. A full device is waited for, up to 20 ms in one
/// call. A packet a device refuses is counted in `stats[0]`, its error number put into `stats[1]` when there is one, and the next is tried.
/// Returns how many packets were written.
///
/// # Errors
/// `EINVAL` when `triples` or `stats` is too short, or at the first triple that names no device or lies outside the
/// buffer (the packets before it are written).
pub fn write_batch(devices: &Words, buffer: &Bytes, triples: &Words, count: usize, stats: &Words) -> Result<usize> {
    let triples = count.checked_mul(3).and_then(|end| triples.get(..end)).ok_or(Errno::INVALID)?;
    let refused = stats.first().ok_or(Errno::INVALID)?;
    let mut deadline = None;
    let mut written = 0;
    for triple in triples.chunks_exact(3) {
        let fd = get(devices.get(index(&triple[0])?).ok_or(Errno::INVALID)?);
        let packet = window(buffer, index(&triple[1])?, index(&triple[2])?)?;
        match write_packet(fd, packet, &mut deadline) {
            Ok(()) => written += 1,
            Err(error) => {
                set(refused, get(refused).wrapping_add(1));
                if let Some(last) = stats.get(1) {
                    set(last, error.0);
                }
            }
        }
    }
    Ok(written)
}

fn index(word: &std::sync::atomic::AtomicI32) -> Result<usize> {
    usize::try_from(get(word)).map_err(|_| Errno::INVALID)
}

fn write_packet(fd: RawFd, packet: &Bytes, deadline: &mut Option<Deadline>) -> Result<()> {
    loop {
        // SAFETY: `packet` is that many bytes and outlives the call.
        match check_size(unsafe { libc::write(fd, address(packet), packet.len()) }) {
            Ok(_) => return Ok(()),
            Err(Errno::INTERRUPTED) => {}
            Err(error) if error.would_block() => {
                let until = match *deadline {
                    Some(until) => until,
                    None => *deadline.insert(Deadline::after_ms(BACK_PRESSURE_MS)?),
                };
                if wait(fd, libc::POLLOUT, -1, until)? == 0 {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

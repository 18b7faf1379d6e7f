//! Batches over queues of datagrams that stand in for devices; `tun.rs` has the real ones.

use std::{
    sync::atomic::{AtomicI32, AtomicU8},
    thread,
    time::{Duration, Instant},
};

use kedge_native::{
    batch::{MAX_DEVICES, ReadBatch, write_batch},
    errno::{Errno, Result},
    interrupt::wake_signal,
    socket,
};

use crate::support::{NO_WAKE, Owned, blocked, bytes, datagram_pair, numbers, patience, plain, wake, within, words};

const SLOT: usize = 64;

fn put(end: &Owned, packet: &[u8]) {
    assert_eq!(socket::send(end.0, &bytes(packet), NO_WAKE, patience()), Ok(packet.len()));
}

struct Reader {
    buffer: Vec<AtomicU8>,
    triples: Vec<AtomicI32>,
}

impl Reader {
    fn new(slots: usize) -> Self {
        Self { buffer: bytes(&vec![0; slots * SLOT]), triples: words(&vec![-7; slots * 3]) }
    }

    fn read(&self, devices: &[i32], wake: i32, spin_us: u64, timeout_ms: f64) -> Result<usize> {
        let slots = self.triples.len() / 3;
        ReadBatch::new(&words(devices), &self.buffer, SLOT, slots, &self.triples)?.read(
            wake,
            Duration::from_micros(spin_us),
            within(timeout_ms),
        )
    }

    /// The packets as (device, bytes).
    fn packets(&self, count: usize) -> Vec<(i32, Vec<u8>)> {
        let buffer = plain(&self.buffer);
        let triples = numbers(&self.triples[..count * 3]);
        let packet = |triple: &[i32]| {
            let (offset, length) = (usize::try_from(triple[1]).unwrap(), usize::try_from(triple[2]).unwrap());
            (triple[0], buffer[offset..offset + length].to_vec())
        };
        triples.chunks(3).map(packet).collect()
    }
}

#[test]
fn devices_take_turns() {
    let (a, a_kernel) = datagram_pair();
    let (b, b_kernel) = datagram_pair();
    for packet in [b"a0", b"a1", b"a2", b"a3"] {
        put(&a_kernel, packet);
    }
    put(&b_kernel, b"b0 is longer");
    put(&b_kernel, b"b1");
    let reader = Reader::new(5);
    let devices = [a.0, -1, b.0];
    assert_eq!(reader.read(&devices, NO_WAKE, 0, 0.0), Ok(5));
    let order: Vec<_> = reader.packets(5).into_iter().map(|(device, packet)| (device, packet[..2].to_vec())).collect();
    let expected = [(0, b"a0"), (2, b"b0"), (0, b"a1"), (2, b"b1"), (0, b"a2")];
    assert_eq!(order, expected.map(|(device, packet)| (device, packet.to_vec())));
    assert_eq!(reader.packets(5)[1].1, b"b0 is longer");
    assert_eq!(reader.read(&devices, NO_WAKE, 0, 0.0), Ok(1), "the rest");
    assert_eq!(reader.packets(1), [(0, b"a3".to_vec())]);
    assert_eq!(reader.read(&devices, NO_WAKE, 0, 0.0), Ok(0));
}

#[test]
fn it_spins_then_sleeps_then_gives_up() {
    let (a, _a_kernel) = datagram_pair();
    let reader = Reader::new(1);
    let start = Instant::now();
    assert_eq!(reader.read(&[a.0], NO_WAKE, 10_000, 0.0), Ok(0));
    assert!(start.elapsed() >= Duration::from_millis(10), "span");
    let start = Instant::now();
    assert_eq!(reader.read(&[a.0], NO_WAKE, 0, 10.0), Ok(0));
    assert!(start.elapsed() >= Duration::from_millis(10), "slept");
}

#[test]
fn a_packet_ends_spin_and_sleep() {
    let (a, a_kernel) = datagram_pair();
    for spin_us in [0, 1_000_000] {
        let fd = a.0;
        let thread = thread::spawn(move || Reader::new(1).read(&[fd], NO_WAKE, spin_us, -1.0));
        put(&a_kernel, b"packet");
        assert_eq!(thread.join().expect("no panic"), Ok(1));
    }
}

#[test]
fn the_wake_ends_the_sleep_and_packets_come_first() {
    let (a, a_kernel) = datagram_pair();
    let wake = wake();
    let (fd, w) = (a.0, wake.0);
    let thread = blocked(move || Reader::new(1).read(&[fd], w, 0, -1.0));
    wake_signal(wake.0).expect("signal");
    assert_eq!(thread.join().expect("no panic"), Ok(0));
    let reader = Reader::new(1);
    assert_eq!(reader.read(&[a.0], wake.0, 0, -1.0), Ok(0), "still signalled");
    put(&a_kernel, b"packet");
    assert_eq!(reader.read(&[a.0], wake.0, 0, -1.0), Ok(1));
}

#[test]
fn a_broken_device_is_named_when_nothing_else_came() {
    let (a, a_kernel) = datagram_pair();
    let reader = Reader::new(2);
    put(&a_kernel, b"packet");
    let devices = [a.0, i32::MAX];
    assert_eq!(reader.read(&devices, NO_WAKE, 0, -1.0), Ok(1));
    assert_eq!(reader.read(&devices, NO_WAKE, 0, -1.0), Err(Errno::BAD_DESCRIPTOR));
    assert_eq!(numbers(&reader.triples)[0], 1);
}

#[test]
fn read_bounds() {
    let (a, _a_kernel) = datagram_pair();
    let buffer = bytes(&[0; 100]);
    let triples = words(&[0; 6]);
    let new =
        |devices: &[i32], slot, packets| ReadBatch::new(&words(devices), &buffer, slot, packets, &triples).map(drop);
    assert_eq!(new(&[a.0], 50, 2), Ok(()));
    assert_eq!(new(&[a.0], 51, 2), Err(Errno::INVALID), "slots beyond the buffer");
    assert_eq!(new(&[a.0], 10, 3), Err(Errno::INVALID), "more packets than triples");
    assert_eq!(new(&[a.0], 0, 1), Err(Errno::INVALID));
    assert_eq!(new(&[a.0], 10, 0), Err(Errno::INVALID));
    assert_eq!(new(&[a.0], usize::MAX, 2), Err(Errno::INVALID));
    assert_eq!(new(&[], 10, 1), Err(Errno::INVALID));
    assert_eq!(new(&[a.0; MAX_DEVICES], 10, 1), Ok(()));
    assert_eq!(new(&[a.0; MAX_DEVICES + 1], 10, 1), Err(Errno::INVALID));
}

#[test]
fn packets_are_written_in_order_to_their_devices() {
    let (a, a_kernel) = datagram_pair();
    let (b, b_kernel) = datagram_pair();
    let buffer = bytes(b"..one..two..three");
    let triples = words(&[0, 2, 3, 1, 7, 3, 0, 12, 5, 0, 0, 99]);
    let stats = words(&[0]);
    assert_eq!(write_batch(&words(&[a.0, b.0]), &buffer, &triples, 3, &stats), Ok(3));
    let got = bytes(&[0; 8]);
    for (end, packet) in [(&a_kernel, "one"), (&b_kernel, "two"), (&a_kernel, "three")] {
        assert_eq!(socket::recv(end.0, &got, false, NO_WAKE, patience()), Ok(packet.len()));
        assert_eq!(plain(&got[..packet.len()]), packet.as_bytes());
    }
    assert_eq!(numbers(&stats), [0]);
}

#[test]
fn refused_packets_are_counted_and_skipped() {
    let (a, a_kernel) = datagram_pair();
    let buffer = bytes(b"packet");
    let triples = words(&[1, 0, 6, 0, 0, 6, 2, 0, 6]);
    let stats = words(&[5, 0]);
    assert_eq!(write_batch(&words(&[a.0, -1, i32::MAX]), &buffer, &triples, 3, &stats), Ok(1));
    assert_eq!(numbers(&stats), [7, libc::EBADF]);
    assert_eq!(socket::in_queue(a_kernel.0), Ok(6));
}

#[test]
fn write_bounds() {
    let (a, _a_kernel) = datagram_pair();
    let devices = words(&[a.0]);
    let buffer = bytes(&[0; 10]);
    let stats = words(&[0]);
    let write = |triple: [i32; 3], count| write_batch(&devices, &buffer, &words(&triple), count, &stats);
    for bad in [[1, 0, 1], [-1, 0, 1], [0, -1, 1], [0, 0, -1], [0, 5, 6], [0, 11, 0], [0, i32::MAX, i32::MAX]] {
        assert_eq!(write(bad, 1), Err(Errno::INVALID), "{bad:?}");
    }
    assert_eq!(write([0, 0, 10], 2), Err(Errno::INVALID));
    assert_eq!(write([0, 0, 10], usize::MAX), Err(Errno::INVALID));
    assert_eq!(write_batch(&devices, &buffer, &words(&[0, 0, 1]), 1, &[]), Err(Errno::INVALID));
    assert_eq!(write([0, 0, 10], 1), Ok(1));
    assert_eq!(numbers(&stats), [0]);
}

#[test]
fn s43_a_full_device_is_waited_for() {
    let (a, a_kernel) = datagram_pair();
    let buffer = bytes(&[7; 16]);
    let mut queued = 0;
    while socket::send(a.0, &buffer, NO_WAKE, within(0.0)).is_ok() {
        queued += 1;
    }
    let devices = words(&[a.0]);
    let triples = words(&[0, 0, 16]);
    let stats = words(&[0, 0]);
    let start = Instant::now();
    assert_eq!(write_batch(&devices, &buffer, &triples, 1, &stats), Ok(0), "nobody reads");
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(numbers(&stats), [1, libc::EAGAIN]);

    let fd = a.0;
    let writer = blocked(move || write_batch(&words(&[fd]), &bytes(&[7; 16]), &words(&[0, 0, 16]), 1, &words(&[0])));
    let got = bytes(&[0; 16]);
    for _ in 0..queued {
        assert_eq!(socket::recv(a_kernel.0, &got, false, NO_WAKE, patience()), Ok(16));
    }
    assert_eq!(writer.join().expect("no panic"), Ok(1));
}

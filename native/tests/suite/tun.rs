use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use kedge_native::{
    batch::{ReadBatch, write_batch},
    errno::{Errno, check},
    interrupt::wake_signal,
    socket::{self, Endpoint},
    tun::{self, Cause, TunError},
};

use crate::support::{
    NO_WAKE, Owned, bytes, connect, in_namespace, ip, listener_on, numbers, patience, plain, udp_on, until, wake,
    within, words,
};

const HERE: u32 = 0x0a07_0001;
const THERE: u32 = 0x0a07_0002;
const SLOT: usize = 10 + 65_535;
const SLOTS: usize = 32;

fn open() -> Owned {
    let device = Owned(tun::open("t0").expect("a TUN device"));
    ip("addr add 10.7.0.1/24 dev t0");
    ip("link set t0 up");
    device
}

/// What a [`mirror`] saw.
#[derive(Default)]
struct Seen {
    packets: AtomicUsize,
    longest: AtomicUsize,
    /// Super-packets: `gso_type` TCPV4 and a segment size.
    segmented: AtomicUsize,
    /// Packets whose checksum the kernel left unfinished.
    unfinished: AtomicUsize,
    stop: AtomicBool,
}

/// Sends every packet back with its addresses swapped: what the kernel sends to THERE comes from THERE, so it talks
/// to itself through the device. Swapping changes no checksum.
fn mirror(device: i32, wake: i32, seen: Arc<Seen>) -> JoinHandle<()> {
    thread::spawn(move || {
        let devices = words(&[device]);
        let buffer = bytes(&vec![0; SLOT * SLOTS]);
        let triples = words(&[0; SLOTS * 3]);
        let stats = words(&[0, 0]);
        let batch = ReadBatch::new(&devices, &buffer, SLOT, SLOTS, &triples).expect("a batch");
        while !seen.stop.load(Ordering::Relaxed) {
            let count = batch.read(wake, Duration::ZERO, patience()).expect("packets");
            for triple in triples[..count * 3].chunks(3) {
                swap(&buffer, triple, &seen);
            }
            assert_eq!(write_batch(&devices, &buffer, &triples, count, &stats), Ok(count), "{stats:?}");
        }
    })
}

fn swap(buffer: &[AtomicU8], triple: &[AtomicI32], seen: &Seen) {
    let [offset, length] = [1, 2].map(|at: usize| usize::try_from(numbers(triple)[at]).expect("not negative"));
    let packet = &buffer[offset..offset + length];
    let header = plain(&packet[..10]);
    seen.packets.fetch_add(1, Ordering::Relaxed);
    seen.longest.fetch_max(length, Ordering::Relaxed);
    seen.unfinished.fetch_add(usize::from(header[0] & 1), Ordering::Relaxed);
    let segment_size = u16::from_le_bytes([header[4], header[5]]);
    seen.segmented.fetch_add(usize::from(header[1] & 0x7f == 1 && segment_size > 0), Ordering::Relaxed);
    if packet[10].load(Ordering::Relaxed) >> 4 == 4 {
        let addresses = plain(&packet[22..30]);
        for (at, byte) in addresses.iter().enumerate() {
            packet[22 + (at + 4) % 8].store(*byte, Ordering::Relaxed);
        }
    }
}

#[test]
fn packets_of_the_kernel_arrive_behind_a_ten_byte_header_and_go_back() {
    in_namespace(|| {
        let device = open();
        let (client, name) = udp_on(HERE);
        let to = Endpoint { address: THERE, port: 7777 };
        assert_eq!(socket::send_to(client.0, &bytes(b"hello"), to, NO_WAKE, patience()), Ok(5));

        let devices = words(&[device.0]);
        let buffer = bytes(&vec![0; SLOT * 4]);
        let triples = words(&[0; 12]);
        let batch = ReadBatch::new(&devices, &buffer, SLOT, 4, &triples).expect("a batch");
        let packet = loop {
            let count = batch.read(NO_WAKE, Duration::ZERO, patience()).expect("a packet");
            let found = numbers(&triples[..count * 3]).chunks(3).find_map(|triple| {
                let (offset, length) = (usize::try_from(triple[1]).unwrap(), usize::try_from(triple[2]).unwrap());
                // The kernel may also send IPv6 router solicitations.
                (plain(&buffer)[offset + 10] >> 4 == 4).then_some((offset, length))
            });
            if let Some(found) = found {
                break found;
            }
        };
        let (offset, length) = packet;
        assert_eq!(length, 10 + 20 + 8 + 5);
        let content = plain(&buffer[offset..offset + length]);
        assert_eq!(content[10..12], [0x45, 0]);
        assert_eq!(content[22..26], HERE.to_be_bytes());
        assert_eq!(content[26..30], THERE.to_be_bytes());
        assert_eq!(content[30..32], name.port.to_be_bytes());
        assert_eq!(content[38..], *b"hello");

        // Back as a datagram from THERE: addresses and ports swapped, the payload changed, no UDP checksum.
        let mut answer = content;
        answer[..10].fill(0);
        let (addresses, ports) = (answer[22..30].to_vec(), answer[30..34].to_vec());
        answer[22..26].copy_from_slice(&addresses[4..]);
        answer[26..30].copy_from_slice(&addresses[..4]);
        answer[30..32].copy_from_slice(&ports[2..]);
        answer[32..34].copy_from_slice(&ports[..2]);
        answer[36..38].fill(0);
        answer[38..].copy_from_slice(b"HELLO");
        let (answer, triple, stats) = (bytes(&answer), words(&[0, 0, 43]), words(&[0, 0]));
        assert_eq!(write_batch(&devices, &answer, &triple, 1, &stats), Ok(1), "{stats:?}");
        let got = bytes(&[0; 16]);
        assert_eq!(socket::recv_from(client.0, &got, false, NO_WAKE, patience()), Ok((5, to)));
        assert_eq!(plain(&got[..5]), b"HELLO");
    });
}

#[test]
fn tcp_crosses_the_device_in_super_packets() {
    in_namespace(|| {
        const TOTAL: usize = 16 << 20;
        let device = open();
        let wake = wake();
        let seen = Arc::new(Seen::default());
        let pump = mirror(device.0, wake.0, seen.clone());

        let (listener, name) = listener_on(HERE);
        let client = connect(Endpoint { address: THERE, port: name.port });
        let (server, peer) = socket::accept(listener.0, NO_WAKE, patience()).expect("accept");
        let server = Owned(server);
        assert_eq!(peer.address, THERE, "it came through the device");

        let fd = client.0;
        let sender = thread::spawn(move || {
            let pattern: Vec<u8> = (0..=250).cycle().take(251 * 512).collect();
            let data = bytes(&pattern);
            let mut sent = 0;
            while sent < TOTAL {
                let part = &data[sent % 251..];
                sent += socket::send(fd, &part[..part.len().min(TOTAL - sent)], NO_WAKE, patience()).expect("sent");
            }
            socket::shutdown(fd, libc::SHUT_WR).expect("shutdown");
        });
        let data = bytes(&vec![0; 1 << 18]);
        let mut received = 0;
        loop {
            let count = socket::recv(server.0, &data, false, NO_WAKE, patience()).expect("bytes");
            if count == 0 {
                break;
            }
            for (at, byte) in data[..count].iter().enumerate() {
                let expected = (received + at) % 251;
                assert_eq!(usize::from(byte.load(Ordering::Relaxed)), expected, "byte {}", received + at);
            }
            received += count;
        }
        sender.join().expect("sender");
        assert_eq!(received, TOTAL);

        seen.stop.store(true, Ordering::Relaxed);
        wake_signal(wake.0).expect("signal");
        pump.join().expect("pump");
        let [packets, longest, segmented, unfinished] =
            [&seen.packets, &seen.longest, &seen.segmented, &seen.unfinished]
                .map(|count| count.load(Ordering::Relaxed));
        assert!(segmented > 0, "super-packets");
        assert!(unfinished > 0, "checksums left to us");
        assert!(longest > 20_000, "the longest was {longest}");
        assert!(packets < TOTAL / 1460, "{packets} packets: fewer than segments");
    });
}

#[test]
fn a_device_that_is_down_refuses_and_a_removed_one_is_an_error() {
    in_namespace(|| {
        let device = Owned(tun::open("t0").expect("a TUN device"));
        let devices = words(&[-1, device.0]);
        let buffer = bytes(&[0; 64]);
        buffer[10].store(0x45, Ordering::Relaxed);
        let triples = words(&[1, 0, 30]);
        let stats = words(&[0, 0]);
        assert_eq!(write_batch(&devices, &buffer, &triples, 1, &stats), Ok(0));
        assert_eq!(numbers(&stats), [1, libc::EIO]);
        let batch = ReadBatch::new(&devices, &buffer, 64, 1, &triples).expect("a batch");
        assert_eq!(batch.read(NO_WAKE, Duration::ZERO, within(1.0)), Ok(0));
        ip("link del t0");
        assert_eq!(batch.read(NO_WAKE, Duration::ZERO, patience()), Err(Errno(libc::EBADFD)));
        assert_eq!(numbers(&triples)[0], 1);
    });
}

#[test]
fn the_device_ends_with_its_descriptor() {
    in_namespace(|| {
        let exists = || {
            std::process::Command::new("ip").args(["link", "show", "t0"]).output().is_ok_and(|out| out.status.success())
        };
        let device = Owned(tun::open("t0").expect("a TUN device"));
        assert!(exists());
        drop(device);
        until("the device is gone", || !exists());
        drop(tun::open("t0").map(Owned).expect("the name is free again"));
    });
}

fn refused(name: &str) -> TunError {
    match tun::open(name) {
        Err(error) => {
            assert!(!error.hint.is_empty());
            error
        }
        Ok(fd) => panic!("{name:?} was opened as {fd}"),
    }
}

#[test]
fn bad_names_are_refused_with_a_hint() {
    for name in ["", "a-name-of-16-byt", ".", "..", "a/b", "a:b", "tun%d", "a b", "a\0b"] {
        let error = refused(name);
        assert_eq!(error.cause, Cause::Failed, "{name:?}");
        assert!(error.hint.contains("15 bytes"), "{}", error.hint);
    }
}

#[test]
fn a_name_in_use_is_busy() {
    in_namespace(|| {
        let _device = Owned(tun::open("t0").expect("a TUN device"));
        let again = refused("t0");
        assert_eq!((again.cause, again.errno), (Cause::Busy, Errno(libc::EBUSY)));
        assert!(again.hint.contains("ip -details link show t0"), "{}", again.hint);
        assert_eq!(refused("lo").cause, Cause::Busy, "a device of another kind");
    });
}

#[test]
fn without_the_capability_the_hint_names_it() {
    in_namespace(|| {
        // One header and two data words: version 3 of the interface, this thread, nothing granted.
        let header = [0x2008_0522_u32, 0];
        let none = [0_u32; 6];
        // SAFETY: both arrays have the layout and size that version 3 of capset reads.
        let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
        assert_eq!(result, 0, "capset");
        let error = refused("t0");
        assert_eq!(error.cause, Cause::Permission);
        assert!(error.hint.contains("CAP_NET_ADMIN") || error.hint.contains("chmod"), "{}", error.hint);
    });
}

#[test]
fn without_the_device_node_the_hint_says_how_to_get_it() {
    in_namespace(|| {
        // SAFETY: a mount namespace for this thread alone.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).expect("a mount namespace (needs root)");
        for arguments in ["--make-rprivate /", "-t tmpfs none /dev/net"] {
            let status = std::process::Command::new("mount").args(arguments.split(' ')).status().expect("mount");
            assert!(status.success(), "mount {arguments}");
        }
        let error = refused("t0");
        assert_eq!(error.cause, Cause::Missing);
        assert!(error.hint.contains("modprobe tun"), "{}", error.hint);
    });
}

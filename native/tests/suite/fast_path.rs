//! One flow as gateway and kernel share it. The kernel's part is played by writes to the memory at the places of `bpf/flow.h`.

use std::{
    ptr,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst},
    thread,
};

use kedge_native::fast_path::{Evidence, FLOW_BYTES, Flow, Setup};

const LIVE: u64 = 1 << 63;
const TO_PEER_ARMED: u64 = 1 << 62;
const TO_GUEST_ARMED: u64 = 1 << 61;
/// Offsets in `struct flow`.
const GATE: usize = 0;
const BUSY: usize = 8;
const GUEST_ADDRESS: usize = 12;
const PEER_PORT: usize = 26;
const LEG_DEVICE: usize = 32;
const SOCKET_BASE: usize = 72;
const SND_UNA: usize = 88;
const RCV_NXT: usize = 112;
const GUEST_TS: usize = 168;
const BYTES_OUT: usize = 184;
const PEER_WINDOW: usize = 216;

/// Yields after which a thread that was started has come to where it waits, or has gone on if it does not.
const LONG: usize = 20_000;

fn at<T>(flow: &Flow, offset: usize) -> &T {
    assert!(offset + size_of::<T>() <= FLOW_BYTES);
    // SAFETY: inside the flow and aligned, both by `bpf/flow.h`; all of it is atomics of these very types.
    unsafe { &*ptr::from_ref(flow).cast::<u8>().add(offset).cast::<T>() }
}

fn gate(flow: &Flow) -> &AtomicU64 {
    at(flow, GATE)
}

fn evidence(base: i64) -> Evidence {
    Evidence {
        offsets: std::array::from_fn(|i| base + i64::try_from(i).expect("small")),
        clocks: [1, 2, 3, 4],
        counts: [9; 4],
        peer_window: None,
    }
}

fn live() -> Flow {
    let flow = Flow::default();
    assert!(flow.admit(&Setup::default(), &evidence(100), 0));
    flow
}

#[test]
fn setup_is_where_the_program_reads_it_addresses_in_network_order() {
    let flow = Flow::default();
    let setup =
        Setup { guest_address: 0x6440_0009, peer_port: 0x1234, leg_device: 5, socket_base: -7, ..Setup::default() };
    assert!(flow.admit(&setup, &evidence(0), 0));
    assert_eq!(at::<AtomicU32>(&flow, GUEST_ADDRESS).load(SeqCst).to_ne_bytes(), [0x64, 0x40, 0, 9]);
    assert_eq!(at::<std::sync::atomic::AtomicU16>(&flow, PEER_PORT).load(SeqCst).to_ne_bytes(), [0x12, 0x34]);
    assert_eq!(at::<AtomicU32>(&flow, LEG_DEVICE).load(SeqCst), 5);
    assert_eq!(at::<AtomicI64>(&flow, SOCKET_BASE).load(SeqCst), -7);
}

#[test]
fn admitted_when_as_many_were_seen_as_were_counted() {
    let flow = Flow::default();
    flow.arm(7);
    assert_eq!(at::<AtomicU32>(&flow, LEG_DEVICE).load(SeqCst), 7, "whose packets are counted");
    assert_eq!(gate(&flow).load(SeqCst), TO_PEER_ARMED | TO_GUEST_ARMED);
    gate(&flow).fetch_add(3, SeqCst);
    for armed in [TO_PEER_ARMED, TO_GUEST_ARMED] {
        assert!(!flow.admit(&Setup::default(), &evidence(0), 3), "an older packet may be on its way");
        gate(&flow).fetch_and(!armed, SeqCst);
    }
    assert!(!flow.admit(&Setup::default(), &evidence(0), 2), "one is on its way");
    assert_eq!(gate(&flow).load(SeqCst), 3, "the count goes on");
    assert!(!flow.is_live());
    assert!(flow.admit(&Setup::default(), &evidence(0), 3));
    assert!(flow.is_live());
    assert_eq!(gate(&flow).load(SeqCst), LIVE, "neither count nor mark is left");
}

#[test]
fn packets_of_a_live_flow_are_counted_and_leave_it_live() {
    let flow = live();
    gate(&flow).fetch_add(1_000_000, SeqCst);
    assert!(flow.is_live());
}

#[test]
fn an_exchange_gives_the_higher_of_both_and_takes_counts_once() {
    let flow = live();
    at::<AtomicI64>(&flow, SND_UNA).store(5000, SeqCst);
    at::<AtomicU64>(&flow, BYTES_OUT).store(77, SeqCst);
    let known = flow.exchange(&evidence(200));
    assert_eq!(known.offsets, [5000, 201, 202, 203, 204, 205, 206, 207, 208, 209]);
    assert_eq!(known.counts, [77, 0, 0, 0], "those of the caller are the caller's");
    assert_eq!(at::<AtomicI64>(&flow, RCV_NXT).load(SeqCst), 203, "and the kernel knows what the gateway knew");
    assert_eq!(flow.exchange(&evidence(0)).counts, [0; 4]);
    assert_eq!(flow.exchange(&evidence(0)).offsets, known.offsets, "nothing goes back");
}

#[test]
fn clocks_rise_across_their_end() {
    let flow = Flow::default();
    let before = Evidence { clocks: [u32::MAX - 1; 4], ..evidence(0) };
    assert!(flow.admit(&Setup::default(), &before, 0));
    at::<AtomicU32>(&flow, GUEST_TS).store(3, SeqCst);
    let known = flow.exchange(&Evidence { clocks: [u32::MAX, 1, u32::MAX - 5, u32::MAX], ..evidence(0) });
    assert_eq!(known.clocks, [3, 1, u32::MAX - 1, u32::MAX]);
}

#[test]
fn a_window_is_none_before_the_first_segment() {
    let flow = live();
    assert_eq!(flow.read().peer_window, None);
    at::<AtomicU32>(&flow, PEER_WINDOW).store(0, SeqCst);
    assert_eq!(flow.read().peer_window, Some(0));
    assert_eq!(flow.exchange(&evidence(0)).peer_window, Some(0));
}

#[test]
fn a_look_takes_nothing() {
    let flow = live();
    at::<AtomicU64>(&flow, BYTES_OUT).store(77, SeqCst);
    assert_eq!(flow.read().counts, [77, 0, 0, 0]);
    assert_eq!(flow.read().counts, [77, 0, 0, 0]);
}

/// Runs `ask` in a thread while a packet is in the middle of the program; that ends only after the thread has had time to go wrong.
fn asked_amid_a_packet(ask: impl FnOnce(&Flow) + Send, flow: &Flow) -> Evidence {
    let begun = AtomicBool::new(false);
    at::<AtomicU32>(flow, BUSY).store(1, SeqCst);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            begun.store(true, SeqCst);
            ask(flow);
            flow.read()
        });
        while !begun.load(SeqCst) {
            thread::yield_now();
        }
        for _ in 0..LONG {
            thread::yield_now();
        }
        at::<AtomicI64>(flow, SND_UNA).store(9999, SeqCst);
        at::<AtomicU32>(flow, BUSY).store(0, SeqCst);
        asking.join().expect("the thread")
    })
}

#[test]
fn withdrawn_it_has_what_a_packet_in_the_program_still_showed() {
    let flow = live();
    let known = asked_amid_a_packet(Flow::withdraw, &flow);
    assert_eq!(known.offsets[0], 9999);
    assert!(!flow.is_live());
    assert_eq!(gate(&flow).load(SeqCst), 0);
}

#[test]
fn a_flow_is_let_go_of_when_the_packets_beside_the_one_that_did_it_are_through() {
    let flow = live();
    // As the program does with a packet that it passes on.
    gate(&flow).store(1, SeqCst);
    let known = asked_amid_a_packet(|flow| assert!(!flow.is_live()), &flow);
    assert_eq!(known.offsets[0], 9999);
    assert_eq!(gate(&flow).load(SeqCst), 1, "the count is kept");
}

#[test]
fn maps_that_are_none_are_refused() {
    assert!(kedge_native::fast_path::Flows::open(-1, -1, 8).is_err());
    let null = std::fs::File::open("/dev/null").expect("/dev/null");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&null);
    assert!(kedge_native::fast_path::Flows::open(fd, fd, 8).is_err());
}

#[test]
fn a_device_that_is_not_there_has_no_index() {
    assert!(kedge_native::fast_path::device_index("lo").is_ok());
    assert!(kedge_native::fast_path::device_index("no-such-dev").is_err());
    assert!(kedge_native::fast_path::device_index("a\0b").is_err());
}

//! One flow as gateway and kernel share it: `struct flow` of `bpf/flow.h`, field by field.

use std::{
    array, hint,
    mem::offset_of,
    sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst},
    thread,
};

/// Looks before a thread that waits for a packet gives its processor away.
const SPINS: u32 = 10_000;

/// `struct flow` of `bpf/flow.h`. Each side sees changes of the other at any time, so all is atomic.
#[repr(C)]
#[derive(Default)]
pub struct Flow {
    gate: AtomicU64,
    busy: AtomicU32,
    guest_address: AtomicU32,
    peer_address: AtomicU32,
    outside_address: AtomicU32,
    guest_port: AtomicU16,
    peer_port: AtomicU16,
    outside_port: AtomicU16,
    reserved: AtomicU16,
    leg_device: AtomicU32,
    leg_tun: AtomicU32,
    outside_tun: AtomicU32,
    flags: AtomicU32,
    delta: AtomicU32,
    ts_delta: AtomicU32,
    ts_floor: AtomicU32,
    out_base: AtomicU32,
    in_base: AtomicU32,
    peer_shift: AtomicU8,
    guest_shift: AtomicU8,
    announced_shift: AtomicU8,
    reserved2: AtomicU8,
    socket_base: AtomicI64,
    play_nxt: AtomicI64,

    /// In the order of [`Evidence::offsets`].
    offsets: [AtomicI64; 10],
    /// In the order of [`Evidence::clocks`].
    clocks: [AtomicU32; 4],

    /// In the order of [`Evidence::counts`].
    counts: [AtomicU64; 4],
    peer_window: AtomicU32,
    reserved3: AtomicU32,
}

/// Bytes of a slot, as the kernel's map has it.
pub const FLOW_BYTES: usize = size_of::<Flow>();

// `bpf/flow.h` asserts the same.
const _: () = assert!(FLOW_BYTES == 224);
const _: () = assert!(offset_of!(Flow, socket_base) == 72);
const _: () = assert!(offset_of!(Flow, offsets) == 88);
const _: () = assert!(offset_of!(Flow, clocks) == 168);
const _: () = assert!(offset_of!(Flow, counts) == 184);
const _: () = assert!(offset_of!(Flow, peer_window) == 216);

/// What does not change while a flow is live. Addresses and ports are plain numbers here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub guest_address: u32,
    pub peer_address: u32,
    pub outside_address: u32,
    pub guest_port: u16,
    pub peer_port: u16,
    pub outside_port: u16,
    /// Index of the device the guest's packets come from.
    pub leg_device: u32,
    /// Indices of the TUN devices whose routes lead to the host and to the peer.
    pub leg_tun: u32,
    pub outside_tun: u32,
    pub flags: u32,
    pub delta: u32,
    pub ts_delta: u32,
    pub ts_floor: u32,
    pub out_base: u32,
    pub in_base: u32,
    pub peer_shift: u8,
    pub guest_shift: u8,
    pub announced_shift: u8,
    pub socket_base: i64,
    pub play_nxt: i64,
}

/// What segments have shown. All but the window only ever rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// `snd_una`, `snd_nxt`, `peer_edge`, `rcv_nxt`, `acked_to_peer`, `peer_nxt`, `max_edge`, `guest_edge` as offsets of their
    /// streams; then `last_seen` and `last_ts_out_at`, nanoseconds of the monotonic clock.
    pub offsets: [i64; 10],
    /// `guest_ts`, `last_ts_out`, `peer_ts`, `last_ts_in`: clocks of 32 bits that wrap.
    pub clocks: [u32; 4],
    /// Bytes and packets out, bytes and packets in, that nobody has taken yet.
    pub counts: [u64; 4],
    /// Of the peer's last segment here, raw; `None` before the first.
    pub peer_window: Option<u32>,
}

/// Bit of `gate`: packets may pass.
const LIVE: u64 = 1 << 63;
/// Bits of `gate`: the next packet to the peer, and to the guest, is marked.
const ARMED: u64 = 3 << 61;

/// A window no segment can have: none has come yet.
const NO_WINDOW: u32 = u32::MAX;

impl Flow {
    /// Begins a count of the packets that go on to the gateway. The next one in each direction is marked: it is the first of its
    /// direction that counts. Of the guest's, those that come from `leg_device` do. The flow must not be live.
    pub fn arm(&self, leg_device: u32) {
        self.leg_device.store(leg_device, SeqCst);
        self.gate.store(ARMED, SeqCst);
    }

    /// Makes the slot a flow that packets may pass, unless one is on its way to the gateway: then another number than `seen` was
    /// counted, or a direction has had no packet since the count began, so that an older one may be. The flow must not be live. True when it is.
    pub fn admit(&self, setup: &Setup, evidence: &Evidence, seen: u32) -> bool {
        self.guest_address.store(setup.guest_address.to_be(), SeqCst);
        self.peer_address.store(setup.peer_address.to_be(), SeqCst);
        self.outside_address.store(setup.outside_address.to_be(), SeqCst);
        self.guest_port.store(setup.guest_port.to_be(), SeqCst);
        self.peer_port.store(setup.peer_port.to_be(), SeqCst);
        self.outside_port.store(setup.outside_port.to_be(), SeqCst);
        self.leg_device.store(setup.leg_device, SeqCst);
        self.leg_tun.store(setup.leg_tun, SeqCst);
        self.outside_tun.store(setup.outside_tun, SeqCst);
        self.flags.store(setup.flags, SeqCst);
        self.delta.store(setup.delta, SeqCst);
        self.ts_delta.store(setup.ts_delta, SeqCst);
        self.ts_floor.store(setup.ts_floor, SeqCst);
        self.out_base.store(setup.out_base, SeqCst);
        self.in_base.store(setup.in_base, SeqCst);
        self.peer_shift.store(setup.peer_shift, SeqCst);
        self.guest_shift.store(setup.guest_shift, SeqCst);
        self.announced_shift.store(setup.announced_shift, SeqCst);
        self.socket_base.store(setup.socket_base, SeqCst);
        self.play_nxt.store(setup.play_nxt, SeqCst);
        self.offsets.iter().zip(evidence.offsets).for_each(|(place, value)| place.store(value, SeqCst));
        self.clocks.iter().zip(evidence.clocks).for_each(|(place, value)| place.store(value, SeqCst));
        self.counts.iter().for_each(|place| place.store(0, SeqCst));
        self.peer_window.store(NO_WINDOW, SeqCst);
        self.gate.compare_exchange(u64::from(seen), LIVE, SeqCst, SeqCst).is_ok()
    }

    /// Whether packets may pass. The kernel may take it back with each of them. When it has, those that were beside the one that
    /// did it are through when this returns, and what they showed can be read.
    pub fn is_live(&self) -> bool {
        if self.gate.load(SeqCst) & LIVE != 0 {
            return true;
        }
        self.drain();
        false
    }

    /// Raises what is here to what the caller knows, and gives what both know; counts are taken away.
    pub fn exchange(&self, known: &Evidence) -> Evidence {
        Evidence {
            offsets: array::from_fn(|i| {
                let value = known.offsets[i];
                self.offsets[i].fetch_max(value, SeqCst).max(value)
            }),
            clocks: array::from_fn(|i| raise_clock(&self.clocks[i], known.clocks[i])),
            counts: array::from_fn(|i| self.counts[i].swap(0, SeqCst)),
            peer_window: Some(self.peer_window.load(SeqCst)).filter(|&window| window != NO_WINDOW),
        }
    }

    /// What is here, for somebody who only looks.
    pub fn read(&self) -> Evidence {
        Evidence {
            offsets: array::from_fn(|i| self.offsets[i].load(SeqCst)),
            clocks: array::from_fn(|i| self.clocks[i].load(SeqCst)),
            counts: array::from_fn(|i| self.counts[i].load(SeqCst)),
            peer_window: Some(self.peer_window.load(SeqCst)).filter(|&window| window != NO_WINDOW),
        }
    }

    /// Lets no further packet pass; when it returns, nothing changes here any more.
    pub fn withdraw(&self) {
        self.gate.store(0, SeqCst);
        self.drain();
    }

    /// Waits for packets that saw the flow live.
    fn drain(&self) {
        // The kernel's program runs to its end without a pause, a microsecond at most.
        let mut spins = 0;
        while self.busy.load(SeqCst) != 0 {
            spins += 1;
            if spins < SPINS { hint::spin_loop() } else { thread::yield_now() }
        }
    }
}

/// The later of two values of a clock that wraps (RFC 7323 §5.4); both sides have it afterwards.
fn raise_clock(place: &AtomicU32, value: u32) -> u32 {
    let mut before = place.load(SeqCst);
    // The sign of the difference says which is later.
    while value.wrapping_sub(before).cast_signed() > 0 {
        match place.compare_exchange(before, value, SeqCst, SeqCst) {
            Ok(_) => return value,
            Err(now) => before = now,
        }
    }
    before
}

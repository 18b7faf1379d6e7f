//! The fast path: a BPF program that carries established connections past the pump, and the memory it shares with the gateway.
//!
//! [`Programs`] loads it and puts it on devices; [`Flows`] is a view of the flows it carries. Both end with their last
//! descriptor, so a gateway that is killed leaves nothing behind. `bpf/fast_path.bpf.c` has the theory of operation.

mod flow;
mod programs;

use std::{
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr::{self, NonNull},
};

use aya::{
    Pod,
    maps::{HashMap, MapData},
};

pub use flow::{Evidence, FLOW_BYTES, Flow, Setup};
pub use programs::{Programs, Unavailable};

use crate::errno::{self, Errno, Result};

/// `struct flow_key` of `bpf/flow.h`: network order, as in a packet.
#[repr(C)]
#[derive(Clone, Copy)]
struct Key {
    source: u32,
    destination: u32,
    source_port: u16,
    destination_port: u16,
}

// SAFETY: plain integers without padding.
unsafe impl Pod for Key {}

const TO_PEER: u32 = 0;
const TO_GUEST: u32 = 1;

/// What arrives from the guest, and from the peer.
fn keys_of(setup: &Setup) -> [Key; 2] {
    [
        Key {
            source: setup.guest_address.to_be(),
            destination: setup.peer_address.to_be(),
            source_port: setup.guest_port.to_be(),
            destination_port: setup.peer_port.to_be(),
        },
        Key {
            source: setup.peer_address.to_be(),
            destination: setup.outside_address.to_be(),
            source_port: setup.peer_port.to_be(),
            destination_port: setup.outside_port.to_be(),
        },
    ]
}

/// A view of the flows that the kernel carries. Several threads may have one each.
pub struct Flows {
    keys: HashMap<MapData, Key, u32>,
    slots: NonNull<Flow>,
    count: usize,
}

// SAFETY: the mapping belongs to this value alone and all of it is atomics.
unsafe impl Send for Flows {}

impl Flows {
    /// Opens a view on the maps of [`Programs`]; the descriptors stay the caller's.
    ///
    /// # Errors
    /// Descriptors that are not of such maps, or no memory.
    pub fn open(keys: RawFd, flows: RawFd, count: usize) -> Result<Self> {
        let map = MapData::from_fd(duplicate(keys)?).map_err(|_| Errno::BAD_DESCRIPTOR)?;
        let keys = HashMap::try_from(aya::maps::Map::HashMap(map)).map_err(|_| Errno::INVALID)?;
        // SAFETY: a new mapping at an address of the kernel's choice; it outlives the descriptor.
        let mapped = unsafe {
            libc::mmap(
                ptr::null_mut(),
                count * FLOW_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                flows,
                0,
            )
        };
        match NonNull::new(mapped.cast::<Flow>()) {
            Some(slots) if mapped != libc::MAP_FAILED => Ok(Self { keys, slots, count }),
            _ => Err(Errno::last()),
        }
    }

    fn slot(&self, slot: u32) -> Result<&Flow> {
        let index = usize::try_from(slot).map_err(|_| Errno::INVALID)?;
        if index >= self.count {
            return Err(Errno::INVALID);
        }
        // SAFETY: within the mapping, which lives as long as `self`; the kernel gives zeroed memory, which is a `Flow`.
        Ok(unsafe { self.slots.add(index).as_ref() })
    }

    /// Makes the kernel know a flow that it does not carry.
    ///
    /// # Errors
    /// No such slot, or no room for its keys; then nothing has changed.
    pub fn propose(&mut self, slot: u32, setup: &Setup) -> Result<()> {
        self.slot(slot)?.arm(setup.leg_device);
        for (key, direction) in keys_of(setup).into_iter().zip([TO_PEER, TO_GUEST]) {
            if self.keys.insert(key, (slot << 1) | direction, 0).is_err() {
                self.forget(setup);
                return Err(Errno(libc::ENOSPC));
            }
        }
        Ok(())
    }

    /// See [`Flow::arm`].
    ///
    /// # Errors
    /// No such slot.
    pub fn arm(&self, slot: u32, leg_device: u32) -> Result<()> {
        self.slot(slot)?.arm(leg_device);
        Ok(())
    }

    /// See [`Flow::admit`].
    ///
    /// # Errors
    /// No such slot.
    pub fn admit(&self, slot: u32, setup: &Setup, evidence: &Evidence, seen: u32) -> Result<bool> {
        Ok(self.slot(slot)?.admit(setup, evidence, seen))
    }

    /// See [`Flow::is_live`].
    ///
    /// # Errors
    /// No such slot.
    pub fn is_live(&self, slot: u32) -> Result<bool> {
        Ok(self.slot(slot)?.is_live())
    }

    /// See [`Flow::exchange`].
    ///
    /// # Errors
    /// No such slot.
    pub fn exchange(&self, slot: u32, known: &Evidence) -> Result<Evidence> {
        Ok(self.slot(slot)?.exchange(known))
    }

    /// See [`Flow::read`].
    ///
    /// # Errors
    /// No such slot.
    pub fn read(&self, slot: u32) -> Result<Evidence> {
        Ok(self.slot(slot)?.read())
    }

    /// Takes a flow back: from now on its packets are the gateway's. Gives the last of what the kernel knew.
    ///
    /// # Errors
    /// No such slot.
    pub fn withdraw(&self, slot: u32, known: &Evidence) -> Result<Evidence> {
        let flow = self.slot(slot)?;
        flow.withdraw();
        Ok(flow.exchange(known))
    }

    /// Removes the keys of a flow that is not live.
    pub fn forget(&mut self, setup: &Setup) {
        for key in keys_of(setup) {
            // One that is not there is what was wanted.
            let _ = self.keys.remove(&key);
        }
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`; nobody can have a reference into it any more.
        unsafe { libc::munmap(self.slots.as_ptr().cast(), self.count * FLOW_BYTES) };
    }
}

fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: any number may be asked about.
    let copy = errno::check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Index of a network device of this thread's network namespace.
///
/// # Errors
/// There is none of that name.
pub fn device_index(name: &str) -> Result<u32> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::INVALID)?;
    // SAFETY: a string that ends in NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::last()),
        index => Ok(index),
    }
}

/// The number of a descriptor that stays its owner's.
fn raw(fd: BorrowedFd<'_>) -> RawFd {
    fd.as_raw_fd()
}

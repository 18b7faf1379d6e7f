//! Bounds-checked windows of memory that JavaScript owns.
//!
//! The bytes may be seen by other threads (a `SharedArrayBuffer`, a shared Wasm memory) and two
//! windows may overlap, so they are slices of atomics: shared access is then no data race and
//! aliasing is allowed. Relaxed order is enough; whoever shares the memory orders it by other means.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::errno::{Errno, Result};

/// Bytes of a `Uint8Array`.
pub type Bytes = [AtomicU8];
/// Elements of an `Int32Array`.
pub type Words = [AtomicI32];
/// Elements of a `Uint32Array`.
pub type Unsigned = [AtomicU32];
/// Elements of a `Float64Array`, as their bits.
pub type Doubles = [AtomicU64];

/// The `length` bytes from `offset`.
///
/// # Errors
/// `EINVAL` when they do not all lie within `bytes`.
pub fn window(bytes: &Bytes, offset: usize, length: usize) -> Result<&Bytes> {
    let end = offset.checked_add(length).ok_or(Errno::INVALID)?;
    bytes.get(offset..end).ok_or(Errno::INVALID)
}

/// The address of the first byte, for a system call that reads or writes the window.
#[must_use]
pub fn address(bytes: &Bytes) -> *mut libc::c_void {
    // Atomics have interior mutability, so writing through a pointer made from `&` is allowed.
    bytes.as_ptr().cast_mut().cast()
}

/// A copy, in one go. The caller says that nobody writes to the bytes meanwhile.
#[must_use]
pub fn to_vec(bytes: &Bytes) -> Vec<u8> {
    let mut copy: Vec<u8> = Vec::with_capacity(bytes.len());
    // SAFETY: the copy has room for so many bytes, all of which are written before they count; nobody writes to the window.
    unsafe {
        libc::memcpy(copy.as_mut_ptr().cast(), address(bytes), bytes.len());
        copy.set_len(bytes.len());
    }
    copy
}

/// Reads one element with relaxed order.
#[must_use]
pub fn get(word: &AtomicI32) -> i32 {
    word.load(Ordering::Relaxed)
}

/// Writes one element with relaxed order.
pub fn set(word: &AtomicI32, value: i32) {
    word.store(value, Ordering::Relaxed);
}

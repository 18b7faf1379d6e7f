//! What other threads can do to a guest that runs: write a flag inside it, or end it.
//!
//! A flag is a global of an instance, and an instance may go at any time in its own thread. So others know either only by number;
//! the number means nothing any more once the instance is gone, and using it holds the lock that removing it takes.

use std::{
    collections::HashMap,
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::sys::{self, CInstance};

/// Only used under the lock of the table.
#[derive(Clone, Copy)]
enum Place {
    Flag(NonNull<u32>),
    Instance(NonNull<CInstance>),
}

// SAFETY: a flag is only dereferenced as an atomic, an instance only given to what WAMR has for other threads, and only while it is
// in the table.
unsafe impl Send for Place {}

#[derive(Default)]
struct Table {
    last: u32,
    places: HashMap<u32, Place>,
}

static TABLE: Mutex<Option<Table>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<Table>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a flag or an instance known until it is dropped.
pub struct Known(u32);

impl Known {
    /// # Safety
    /// `place` is an aligned 32-bit word that lives until this is dropped and is only read, or written as an atomic.
    pub(super) unsafe fn flag(place: NonNull<u32>) -> Self {
        Self::new(Place::Flag(place))
    }

    /// # Safety
    /// The instance lives until this is dropped.
    pub(super) unsafe fn instance(instance: NonNull<CInstance>) -> Self {
        Self::new(Place::Instance(instance))
    }

    fn new(place: Place) -> Self {
        let mut guard = table();
        let table = guard.get_or_insert_default();
        // Zero stands for no flag. Numbers come again after four thousand million instances.
        loop {
            table.last = table.last.wrapping_add(1).max(1);
            if !table.places.contains_key(&table.last) {
                break;
            }
        }
        table.places.insert(table.last, place);
        Self(table.last)
    }

    #[must_use]
    pub fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(table) = table().as_mut() {
            table.places.remove(&self.0);
        }
    }
}

/// Writes a flag from any thread; false when it is gone.
#[must_use]
pub fn write(number: u32, value: u32) -> bool {
    let guard = table();
    let Some(Place::Flag(place)) = guard.as_ref().and_then(|table| table.places.get(&number)) else {
        return false;
    };
    // SAFETY: while it is in the table, which is locked, the word is alive.
    unsafe { AtomicU32::from_ptr(place.as_ptr()) }.store(value, Ordering::SeqCst);
    true
}

/// Waits for whoever is about to end an instance: what WAMR says of it is whole then.
pub(super) fn settle() {
    drop(table());
}

/// Ends what an instance runs, from any thread; false when it is gone. The call into it then ends in a trap: at once where it
/// branches, at its end where it is in a host function.
#[must_use]
pub fn end(number: u32) -> bool {
    let guard = table();
    let Some(Place::Instance(instance)) = guard.as_ref().and_then(|table| table.places.get(&number)) else {
        return false;
    };
    // SAFETY: while it is in the table, which is locked, the instance is alive; WAMR has this for other threads.
    unsafe { sys::wasm_runtime_terminate(instance.as_ptr()) };
    true
}

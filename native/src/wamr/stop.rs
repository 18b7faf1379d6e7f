//! Flags inside guests that another thread can write.
//!
//! A flag is a global of an instance, and an instance may go at any time in its own thread. So others know a flag only by number;
//! the number means nothing any more once the instance is gone, and writing holds the lock that removing it takes.

use std::{
    collections::HashMap,
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// The address of a flag. Only used under the lock of the table.
struct Place(NonNull<u32>);

// SAFETY: it is only dereferenced as an atomic, and only while it is in the table.
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

/// Keeps a flag known until it is dropped.
pub struct StopFlag(u32);

impl StopFlag {
    /// # Safety
    /// `place` is an aligned 32-bit word that lives until this is dropped and is only read, or written as an atomic.
    pub(super) unsafe fn new(place: NonNull<u32>) -> Self {
        let mut guard = table();
        let table = guard.get_or_insert_default();
        // Zero stands for no flag. Numbers come again after four thousand million instances.
        loop {
            table.last = table.last.wrapping_add(1).max(1);
            if !table.places.contains_key(&table.last) {
                break;
            }
        }
        table.places.insert(table.last, Place(place));
        Self(table.last)
    }

    #[must_use]
    pub fn number(&self) -> u32 {
        self.0
    }
}

impl Drop for StopFlag {
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
    let Some(place) = guard.as_ref().and_then(|table| table.places.get(&number)) else {
        return false;
    };
    // SAFETY: while it is in the table, which is locked, the word is alive.
    unsafe { AtomicU32::from_ptr(place.0.as_ptr()) }.store(value, Ordering::SeqCst);
    true
}

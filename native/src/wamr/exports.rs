//! The globals and tables that an instance exports, by their names.

use std::{
    ffi::{CString, c_void},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    instance::Instance,
    stop::Known,
    sys,
    types::{Export, Kind},
};

impl Instance {
    fn global_place(&self, name: &str) -> Option<(NonNull<c_void>, Kind, bool)> {
        let Export::Global { kind, mutable } = self.module.export(name)? else {
            return None;
        };
        let text = CString::new(name).ok()?;
        let mut global = sys::GlobalInstance { kind: 0, mutable: false, data: ptr::null_mut() };
        // SAFETY: the instance is alive, the name ends in a zero, and the result has the layout of the header.
        let found =
            unsafe { sys::wasm_runtime_get_export_global_inst(self.handle.as_ptr(), text.as_ptr(), &raw mut global) };
        if found { NonNull::new(global.data).map(|data| (data, *kind, *mutable)) } else { None }
    }

    /// The bits of an exported global.
    #[must_use]
    pub fn global(&self, name: &str) -> Option<u64> {
        let (place, kind, _) = self.global_place(name)?;
        // SAFETY: the place holds as many bytes as the type has cells, aligned to one cell, as long as the instance lives.
        Some(unsafe {
            match kind.cells() {
                1 => u64::from(place.cast::<u32>().read()),
                _ => place.cast::<u64>().read_unaligned(),
            }
        })
    }

    /// Writes the bits of an exported mutable global of a number type; false when there is none of that name.
    #[must_use]
    pub fn set_global(&self, name: &str, bits: u64) -> bool {
        match self.global_place(name) {
            Some((place, Kind::I32 | Kind::F32, true)) => {
                #[allow(clippy::cast_possible_truncation)] // the upper half means nothing
                let word = bits as u32;
                // SAFETY: as in `global`. Atomic, because another thread may write a flag at the same time.
                unsafe { AtomicU32::from_ptr(place.cast().as_ptr()) }.store(word, Ordering::SeqCst);
                true
            }
            Some((place, Kind::I64 | Kind::F64, true)) => {
                // SAFETY: as in `global`.
                unsafe { place.cast::<u64>().write_unaligned(bits) };
                true
            }
            _ => false,
        }
    }

    /// Makes an exported mutable i32 global writable from other threads, by the number that is returned.
    #[must_use]
    pub fn share_flag(&self, name: &str) -> Option<u32> {
        let Some((place, Kind::I32, true)) = self.global_place(name) else {
            return None;
        };
        // SAFETY: the place is an aligned 32-bit word of the instance, which drops its flags before it goes.
        let flag = unsafe { Known::flag(place.cast()) };
        let number = flag.number();
        self.known.borrow_mut().push(flag);
        Some(number)
    }

    /// The number by which any thread may end what the instance runs; see [`super::stop::end`].
    #[must_use]
    pub fn share_end(&self) -> u32 {
        // SAFETY: the instance drops what is known of it before it goes.
        let known = unsafe { Known::instance(self.handle) };
        let number = known.number();
        self.known.borrow_mut().push(known);
        number
    }

    fn table(&self, name: &str) -> Option<(sys::TableInstance, Kind)> {
        let Export::Table { element } = self.module.export(name)? else {
            return None;
        };
        let text = CString::new(name).ok()?;
        let mut table = sys::TableInstance { kind: 0, size: 0, maximum: 0, elements: ptr::null_mut() };
        // SAFETY: as in `global_place`.
        let found =
            unsafe { sys::wasm_runtime_get_export_table_inst(self.handle.as_ptr(), text.as_ptr(), &raw mut table) };
        found.then_some((table, *element))
    }

    /// The number of elements of an exported table.
    #[must_use]
    pub fn table_size(&self, name: &str) -> Option<u32> {
        self.table(name).map(|(table, _)| table.size)
    }

    /// The function index in an exported table of functions: `Some(None)` is null, `None` that there is no such element.
    #[must_use]
    pub fn table_get(&self, name: &str, index: u32) -> Option<Option<u32>> {
        let (table, Kind::FuncRef) = self.table(name)? else {
            return None;
        };
        if index >= table.size {
            return None;
        }
        // SAFETY: the elements are `size` words of the instance, and the index is below it.
        let element = unsafe { table.elements.add(index as usize).read() };
        // WAMR writes 32-bit values there.
        #[allow(clippy::cast_possible_truncation)]
        let function = element as u32;
        Some((function != sys::NULL_REF).then_some(function))
    }

    /// Writes a function index into an exported table of functions; false when there is no such element or function.
    #[must_use]
    pub fn table_set(&self, name: &str, index: u32, function: Option<u32>) -> bool {
        let Some((table, Kind::FuncRef)) = self.table(name) else {
            return false;
        };
        if index >= table.size || function.is_some_and(|function| function >= self.module.functions()) {
            return false;
        }
        // SAFETY: as in `table_get`; a function index is what calls expect there, and they check its type.
        unsafe { table.elements.add(index as usize).write(function.unwrap_or(sys::NULL_REF) as usize) };
        true
    }
}

//! Typed arrays and numbers as arguments, without a copy and without a reference count.

use std::{
    os::fd::RawFd,
    ptr::{self, NonNull},
    slice,
    sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64},
};

use napi::{
    Error, Result, Status,
    bindgen_prelude::{FromNapiValue, TypeName, ValidateNapiValue, ValueType},
    sys,
};

use crate::{
    errno::{self, Errno},
    memory::{Bytes, Doubles, Unsigned, Words},
};

/// A typed array for the time of one call. Raw pointers keep it on the thread that made it.
pub struct View<T> {
    start: NonNull<T>,
    length: usize,
}

/// The element types there are, with the type of typed array they come from.
pub trait Element {
    const KIND: sys::napi_typedarray_type;
    const NAME: &'static str;
}

impl Element for AtomicU8 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::uint8_array;
    const NAME: &'static str = "Uint8Array";
}

impl Element for AtomicI32 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::int32_array;
    const NAME: &'static str = "Int32Array";
}

impl Element for AtomicU32 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::uint32_array;
    const NAME: &'static str = "Uint32Array";
}

/// Doubles, as their bits.
impl Element for AtomicU64 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::float64_array;
    const NAME: &'static str = "Float64Array";
}

impl<T: Element> TypeName for View<T> {
    fn type_name() -> &'static str {
        T::NAME
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl<T: Element> ValidateNapiValue for View<T> {
    unsafe fn validate(_env: sys::napi_env, _value: sys::napi_value) -> Result<sys::napi_value> {
        // `from_napi_value` checks everything itself.
        Ok(ptr::null_mut())
    }
}

impl<T: Element> FromNapiValue for View<T> {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        let mut kind = 0;
        let mut length = 0;
        let mut data = ptr::null_mut();
        // SAFETY: the caller gives a live environment and value; the three results are owned for the call
        // and the two that are not wanted may be null.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                env,
                value,
                &raw mut kind,
                &raw mut length,
                &raw mut data,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if status != sys::Status::napi_ok || kind != T::KIND {
            return Err(Error::new(Status::InvalidArg, format!("expected a {}", T::NAME)));
        }
        // An empty or detached array may have no address.
        Ok(match NonNull::new(data.cast::<T>()) {
            Some(start) => Self { start, length },
            None => Self { start: NonNull::dangling(), length: 0 },
        })
    }
}

impl<T> View<T> {
    fn elements(&self) -> &[T] {
        // SAFETY: V8 keeps `length` aligned elements from `start` alive while the array is on the caller's stack,
        // which it is until the native function returns; this thread is in that function, so nothing can detach or
        // shrink the memory. `T` is an atomic, so that other views and threads may use the same bytes.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl View<AtomicU8> {
    pub fn bytes(&self) -> &Bytes {
        self.elements()
    }
}

impl View<AtomicI32> {
    pub fn words(&self) -> &Words {
        self.elements()
    }
}

impl View<AtomicU32> {
    pub fn unsigned(&self) -> &Unsigned {
        self.elements()
    }
}

impl View<AtomicU64> {
    pub fn doubles(&self) -> &Doubles {
        self.elements()
    }
}

/// A descriptor. What is no 32-bit integer (NaN, above all) becomes -1, not descriptor 0, and so gives `EBADF`.
#[derive(Clone, Copy)]
pub struct Fd(pub RawFd);

impl TypeName for Fd {
    fn type_name() -> &'static str {
        "number"
    }

    fn value_type() -> ValueType {
        ValueType::Number
    }
}

impl ValidateNapiValue for Fd {
    unsafe fn validate(_env: sys::napi_env, _value: sys::napi_value) -> Result<sys::napi_value> {
        // `from_napi_value` checks everything itself.
        Ok(ptr::null_mut())
    }
}

impl FromNapiValue for Fd {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        // SAFETY: the caller gives a live environment and value.
        let number = unsafe { f64::from_napi_value(env, value) }?;
        #[allow(clippy::cast_possible_truncation)] // compared below
        let fd = number as RawFd;
        // Exact: the cast gives the same number or the comparison fails.
        #[allow(clippy::float_cmp)]
        let exact = f64::from(fd) == number;
        Ok(Self(if exact { fd } else { -1 }))
    }
}

/// A JavaScript number as an index, length or count.
///
/// # Errors
/// `EINVAL` unless it is a whole number from 0 to 2^53.
pub fn size(number: f64) -> errno::Result<usize> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    if (0.0..=LIMIT).contains(&number) && number.fract() == 0.0 {
        // Exact: it is whole and in range, and this is a 64-bit platform.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(number as usize)
    } else {
        Err(Errno::INVALID)
    }
}

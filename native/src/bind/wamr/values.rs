//! Values of WebAssembly as values of JavaScript, and back.

use std::ptr;

use napi::{Env, Error, JsValue, Result, bindgen_prelude::Object, sys};

use crate::wamr::types::{FunctionType, Kind, NULL};

/// `napi_ok`, or an error that says what failed.
pub fn check(status: sys::napi_status, what: &str) -> Result<()> {
    if status == sys::Status::napi_ok { Ok(()) } else { Err(Error::from_reason(format!("{what} failed ({status})"))) }
}

fn letters(kinds: &[Kind]) -> String {
    kinds
        .iter()
        .map(|kind| match kind {
            Kind::I32 => 'i',
            Kind::I64 => 'I',
            Kind::F32 => 'f',
            Kind::F64 => 'F',
            Kind::FuncRef => 'c',
            Kind::ExternRef => 'e',
        })
        .collect()
}

/// A type in letters, `(iI)f`.
pub fn signature(function: &FunctionType) -> String {
    format!("({}){}", letters(&function.params), letters(&function.results))
}

/// A value of the guest. A function reference is its index, or null.
pub fn to_js(env: sys::napi_env, kind: Kind, bits: u64) -> Option<sys::napi_value> {
    let mut value = ptr::null_mut();
    // The upper half of a 32-bit value means nothing.
    #[allow(clippy::cast_possible_truncation)]
    let low = bits as u32;
    // SAFETY: the environment is the one of the running native function, and the result has room for one handle.
    let status = unsafe {
        match kind {
            Kind::I32 => sys::napi_create_int32(env, low.cast_signed(), &raw mut value),
            Kind::I64 => sys::napi_create_bigint_int64(env, bits.cast_signed(), &raw mut value),
            Kind::F32 => sys::napi_create_double(env, f64::from(f32::from_bits(low)), &raw mut value),
            Kind::F64 => sys::napi_create_double(env, f64::from_bits(bits), &raw mut value),
            Kind::FuncRef if u64::from(low) != NULL => sys::napi_create_uint32(env, low, &raw mut value),
            Kind::FuncRef | Kind::ExternRef => sys::napi_get_null(env, &raw mut value),
        }
    };
    (status == sys::Status::napi_ok).then_some(value)
}

/// The bits of a value of JavaScript, converted as WebAssembly in JavaScript does; `None` with an exception pending.
pub fn from_js(env: sys::napi_env, kind: Kind, value: sys::napi_value) -> Option<u64> {
    let mut given = 0;
    // SAFETY: as in `to_js`.
    if unsafe { sys::napi_typeof(env, value, &raw mut given) } != sys::Status::napi_ok {
        return None;
    }
    let mismatch = || {
        // SAFETY: as in `to_js`; the text ends in a zero.
        unsafe {
            sys::napi_throw_type_error(env, ptr::null(), c"not a value of the type that WebAssembly expects".as_ptr())
        };
        None
    };
    match kind {
        Kind::I64 if given == sys::ValueType::napi_bigint => {
            let (mut bits, mut lossless) = (0, false);
            // SAFETY: as in `to_js`.
            let status = unsafe { sys::napi_get_value_bigint_int64(env, value, &raw mut bits, &raw mut lossless) };
            (status == sys::Status::napi_ok).then_some(bits.cast_unsigned())
        }
        Kind::I32 if given == sys::ValueType::napi_number => {
            let mut bits = 0;
            // SAFETY: as in `to_js`. What does not fit is taken modulo 2^32.
            let status = unsafe { sys::napi_get_value_int32(env, value, &raw mut bits) };
            (status == sys::Status::napi_ok).then_some(u64::from(bits.cast_unsigned()))
        }
        Kind::F32 | Kind::F64 if given == sys::ValueType::napi_number => {
            let mut number = 0.0;
            // SAFETY: as in `to_js`.
            let status = unsafe { sys::napi_get_value_double(env, value, &raw mut number) };
            #[allow(clippy::cast_possible_truncation)] // as WebAssembly in JavaScript does it
            let bits = if kind == Kind::F32 { u64::from((number as f32).to_bits()) } else { number.to_bits() };
            (status == sys::Status::napi_ok).then_some(bits)
        }
        Kind::I32 if given == sys::ValueType::napi_undefined || given == sys::ValueType::napi_boolean => {
            let mut truth = false;
            if given == sys::ValueType::napi_boolean {
                // SAFETY: as in `to_js`.
                unsafe { sys::napi_get_value_bool(env, value, &raw mut truth) };
            }
            Some(u64::from(truth))
        }
        Kind::FuncRef | Kind::ExternRef if given == sys::ValueType::napi_null => Some(NULL),
        Kind::FuncRef if given == sys::ValueType::napi_number => {
            let mut index = 0;
            // SAFETY: as in `to_js`.
            let status = unsafe { sys::napi_get_value_uint32(env, value, &raw mut index) };
            (status == sys::Status::napi_ok).then_some(u64::from(index))
        }
        _ => mismatch(),
    }
}

/// JavaScript's `undefined`.
pub fn undefined(env: &Env) -> Result<sys::napi_value> {
    let mut value = ptr::null_mut();
    // SAFETY: the environment is the one of the running native function.
    check(unsafe { sys::napi_get_undefined(env.raw(), &raw mut value) }, "undefined")?;
    Ok(value)
}

/// The first elements of an array, as handles of the running native function.
pub fn elements(env: &Env, array: &Object<'_>, count: usize) -> Result<Vec<sys::napi_value>> {
    let mut handles = Vec::with_capacity(count);
    for index in 0..count {
        let mut value = ptr::null_mut();
        // The number of imports of a module is bounded far below 2^32.
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        // SAFETY: as in `undefined`.
        check(unsafe { sys::napi_get_element(env.raw(), array.raw(), index, &raw mut value) }, "an element")?;
        handles.push(value);
    }
    Ok(handles)
}

/// An array of handles.
pub fn array(env: &Env, values: &[sys::napi_value]) -> Result<sys::napi_value> {
    let mut made = ptr::null_mut();
    // SAFETY: as in `undefined`.
    check(unsafe { sys::napi_create_array_with_length(env.raw(), values.len(), &raw mut made) }, "an array")?;
    for (index, value) in (0..).zip(values) {
        // SAFETY: as in `undefined`; the value is a handle of the running native function.
        check(unsafe { sys::napi_set_element(env.raw(), made, index, *value) }, "an element")?;
    }
    Ok(made)
}

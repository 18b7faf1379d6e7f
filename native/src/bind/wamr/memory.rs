//! Guest memory as an `ArrayBuffer` over the very bytes, which is detached as soon as it does not show them any more.

use std::{cell::Cell, ffi::c_void, ptr, rc::Rc};

use napi::{Result, sys};

use super::values::check;
use crate::wamr::instance::Instance;

/// What the JavaScript object and the buffers over its memory share.
pub struct Shared {
    pub instance: Instance,
    pub env: sys::napi_env,
    /// The buffer over the memory as it was when this was looked at last: base, length, and a weak reference.
    seen: Cell<(usize, usize)>,
    buffer: Cell<sys::napi_ref>,
}

impl Shared {
    pub fn new(instance: Instance, env: sys::napi_env) -> Self {
        Self { instance, env, seen: Cell::new((0, 0)), buffer: Cell::new(ptr::null_mut()) }
    }

    fn place(&self) -> (usize, usize) {
        self.instance.memory().map_or((0, 0), |(base, length)| (base.as_ptr() as usize, length))
    }

    /// Detaches the buffer when it does not show the memory any more.
    pub fn settle(&self) {
        let place = self.place();
        if self.seen.get() != place {
            self.forget();
            self.seen.set(place);
        }
    }

    /// Detaches the buffer, if there is one.
    pub fn forget(&self) {
        let reference = self.buffer.replace(ptr::null_mut());
        if reference.is_null() {
            return;
        }
        let mut buffer = ptr::null_mut();
        // SAFETY: the reference was made in this environment, whose thread this is, and is deleted only here. A buffer that was
        // collected gives null. Failing to detach would leave a view of freed memory, so that ends the process.
        unsafe {
            if sys::napi_get_reference_value(self.env, reference, &raw mut buffer) == sys::Status::napi_ok
                && !buffer.is_null()
            {
                let status = sys::napi_detach_arraybuffer(self.env, buffer);
                assert!(status == sys::Status::napi_ok, "the buffer of a guest's memory cannot be detached ({status})");
            }
            sys::napi_delete_reference(self.env, reference);
        }
    }

    /// The buffer over the memory.
    pub fn memory(self: &Rc<Self>) -> Result<sys::napi_value> {
        self.settle();
        let mut value = ptr::null_mut();
        let reference = self.buffer.get();
        if !reference.is_null() {
            // SAFETY: as in `forget`.
            check(unsafe { sys::napi_get_reference_value(self.env, reference, &raw mut value) }, "the buffer")?;
            if !value.is_null() {
                return Ok(value);
            }
            // SAFETY: as in `forget`.
            unsafe { sys::napi_delete_reference(self.env, reference) };
            self.buffer.set(ptr::null_mut());
        }
        let (base, length) = self.seen.get();
        if length == 0 {
            // SAFETY: the environment is alive; the bytes are not wanted.
            let status = unsafe { sys::napi_create_arraybuffer(self.env, 0, ptr::null_mut(), &raw mut value) };
            return check(status, "an empty buffer").map(|()| value);
        }
        let hint = Rc::into_raw(Rc::clone(self)).cast_mut().cast();
        // SAFETY: the bytes are the guest's memory, which the reference in `hint` keeps alive, and the buffer is detached before
        // they move. The finalizer runs in the thread of the environment.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(
                self.env,
                base as *mut c_void,
                length,
                Some(release),
                hint,
                &raw mut value,
            )
        };
        if status != sys::Status::napi_ok {
            // SAFETY: nothing was made that would release it.
            drop(unsafe { Rc::from_raw(hint.cast::<Self>()) });
            return check(status, "a buffer over guest memory").map(|()| value);
        }
        let mut reference = ptr::null_mut();
        // SAFETY: a count of zero makes it weak.
        check(unsafe { sys::napi_create_reference(self.env, value, 0, &raw mut reference) }, "a reference")?;
        self.buffer.set(reference);
        Ok(value)
    }
}

/// A buffer is gone: so is its hold on the instance.
unsafe extern "C" fn release(_env: sys::napi_env, _data: *mut c_void, hint: *mut c_void) {
    // SAFETY: `hint` is what `memory` made of an `Rc`, and this runs once for it.
    drop(unsafe { Rc::from_raw(hint.cast::<Shared>()) });
}

impl Drop for Shared {
    fn drop(&mut self) {
        let reference = self.buffer.get();
        if !reference.is_null() {
            // SAFETY: as in `forget`. A buffer that is alive holds on to this, so there is none to detach.
            unsafe { sys::napi_delete_reference(self.env, reference) };
        }
    }
}

//! Host functions: called in the thread of the guest, within the call that reaches them.

use std::{cell::RefCell, ptr};

use napi::{Env, Result, bindgen_prelude::Object, sys};

use super::{
    memory::Shared,
    values::{elements, from_js, to_js, undefined},
};
use crate::wamr::{imports::Host, types::Import};

/// The host functions of one call. Handles live as long as the native function that made it.
pub struct Functions<'call> {
    shared: &'call Shared,
    receiver: sys::napi_value,
    callees: Vec<sys::napi_value>,
    /// Room for the arguments of a call.
    arguments: RefCell<Vec<sys::napi_value>>,
}

impl Host for Functions<'_> {
    fn call(&self, import: &Import, arguments: &[u64]) -> Option<u64> {
        let env = self.shared.env;
        self.shared.settle();
        let mut scope = ptr::null_mut();
        // SAFETY: the environment is the one of the running native function, in its thread.
        if unsafe { sys::napi_open_handle_scope(env, &raw mut scope) } != sys::Status::napi_ok {
            return None;
        }
        let result = self.invoke(import, arguments);
        // SAFETY: opened above, and scopes nest.
        unsafe { sys::napi_close_handle_scope(env, scope) };
        result
    }
}

impl<'call> Functions<'call> {
    /// Those of an array, in the order of the imports.
    pub fn new(shared: &'call Shared, env: &Env, functions: &Object<'_>) -> Result<Self> {
        let callees = elements(env, functions, shared.instance.module().imports().len())?;
        Ok(Self { shared, receiver: undefined(env)?, callees, arguments: RefCell::default() })
    }

    /// What they are called on: `undefined`.
    pub fn receiver(&self) -> sys::napi_value {
        self.receiver
    }

    /// Calls the JavaScript function; `None` with an exception pending.
    fn invoke(&self, import: &Import, arguments: &[u64]) -> Option<u64> {
        let env = self.shared.env;
        // Taken out, for a host function may call back into the guest.
        let mut values = self.arguments.take();
        values.clear();
        for (kind, bits) in import.function.params.iter().zip(arguments) {
            values.push(to_js(env, *kind, *bits)?);
        }
        let mut result = ptr::null_mut();
        // SAFETY: all handles are alive: the functions in the scope of the call, the arguments in the one just opened.
        let status = unsafe {
            sys::napi_call_function(
                env,
                self.receiver,
                *self.callees.get(import.index)?,
                values.len(),
                values.as_ptr(),
                &raw mut result,
            )
        };
        self.arguments.replace(values);
        if status != sys::Status::napi_ok {
            return None;
        }
        match import.function.results.first() {
            None => Some(0),
            Some(kind) => from_js(env, *kind, result),
        }
    }
}

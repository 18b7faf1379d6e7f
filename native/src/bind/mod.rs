//! The only part that knows Node: arguments in, a number out.
//!
//! A result of 0 or more is a success, a negative one is `-errno`. Only `tunOpen` and the constructors of the fast path
//! throw, and any function called with arguments of the wrong type.

// Arguments arrive by value: each stands for a JavaScript value that lives as long as the call.
#![allow(clippy::needless_pass_by_value)]

mod args;
mod batch;
mod fast_path;
mod file;
mod points;
mod snapshot;
mod socket;
mod tun;
mod wake;
mod wamr;

use napi::{Env, Error, JsValue};

use crate::errno::Result;

/// An error with a `code`.
fn error_with_code(env: Env, code: &str, message: &str) -> Error {
    error_with(env, message, &[("code", code)])
}

/// An error with these properties, which are text.
fn error_with(env: Env, message: &str, properties: &[(&str, &str)]) -> Error {
    let made = env.create_error(Error::from_reason(message)).and_then(|mut object| {
        for (name, value) in properties {
            object.set(name, *value)?;
        }
        Ok(Error::from(object.to_unknown()))
    });
    made.unwrap_or_else(|error| error)
}

/// A value JavaScript gets as a number ≥ 0.
trait Number {
    fn number(self) -> i32;
}

impl Number for () {
    fn number(self) -> i32 {
        0
    }
}

impl Number for i32 {
    fn number(self) -> i32 {
        self
    }
}

impl Number for usize {
    fn number(self) -> i32 {
        // Counts of bytes never exceed what Linux moves in one call (0x7ffff000).
        i32::try_from(self).unwrap_or(i32::MAX)
    }
}

/// The value, or `-errno`.
fn number<T: Number>(result: Result<T>) -> i32 {
    match result {
        Ok(value) => value.number(),
        Err(error) => -error.0,
    }
}

use napi::{Env, Error, JsValue, Result};
use napi_derive::napi;

use crate::tun::{self, Cause, TunError};

/// The stable code of a cause, as in the table of error codes.
fn code(cause: Cause) -> &'static str {
    match cause {
        Cause::Missing => "KEDGE_TUN_MISSING",
        Cause::Permission => "KEDGE_TUN_PERMISSION",
        Cause::Busy => "KEDGE_TUN_BUSY",
        Cause::Failed => "KEDGE_TUN_FAILED",
    }
}

#[napi]
pub fn tun_open(env: Env, name: String) -> Result<i32> {
    tun::open(&name).or_else(|error| Err(thrown(env, error)?))
}

/// An `Error` with `code`, `errno` and `hint`.
fn thrown(env: Env, error: TunError) -> Result<Error> {
    let mut object = env.create_error(Error::from_reason(error.message))?;
    object.set("code", code(error.cause))?;
    object.set("errno", -error.errno.0)?;
    object.set("hint", error.hint)?;
    Ok(Error::from(object.to_unknown()))
}

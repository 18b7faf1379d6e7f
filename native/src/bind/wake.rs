use napi_derive::napi;

use super::{args::Fd, number};
use crate::{interrupt, slice, socket};

#[napi]
pub fn fd_close(fd: Fd) -> i32 {
    number(socket::close(fd.0))
}

#[napi]
pub fn wake_create() -> i32 {
    number(interrupt::wake_create())
}

#[napi]
pub fn wake_signal(fd: Fd) -> i32 {
    number(interrupt::wake_signal(fd.0))
}

#[napi]
pub fn wake_clear(fd: Fd) -> i32 {
    number(interrupt::wake_clear(fd.0))
}

#[napi]
pub fn shorten_slices() -> i32 {
    number(slice::shorten_slices())
}

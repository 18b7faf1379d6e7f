use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use napi_derive::napi;

use super::{
    args::{Fd, View, size},
    number,
};
use crate::{
    deadline::Deadline,
    errno::{Errno, Result},
    memory::{Bytes, Unsigned, window},
    poll,
    socket::{self, Endpoint},
};

type Data = View<AtomicU8>;
type Name = View<AtomicU32>;

fn endpoint(address: u32, port: u32) -> Result<Endpoint> {
    let port = u16::try_from(port).map_err(|_| Errno::INVALID)?;
    Ok(Endpoint { address, port })
}

/// Where to put `[address, port]`, checked before a call that cannot be undone.
fn pair(name: &Name) -> Result<&Unsigned> {
    name.unsigned().get(..2).ok_or(Errno::INVALID)
}

fn put(pair: &Unsigned, endpoint: Endpoint) {
    pair[0].store(endpoint.address, Ordering::Relaxed);
    pair[1].store(u32::from(endpoint.port), Ordering::Relaxed);
}

fn part(data: &Data, offset: f64, length: f64) -> Result<&Bytes> {
    window(data.bytes(), size(offset)?, size(length)?)
}

#[napi]
pub fn sock_open(stream: bool) -> i32 {
    number(socket::open(stream))
}

#[napi]
pub fn sock_bind(fd: Fd, addr: u32, port: u32) -> i32 {
    number(endpoint(addr, port).and_then(|to| socket::bind(fd.0, to)))
}

#[napi]
pub fn sock_listen(fd: Fd, backlog: i32) -> i32 {
    number(socket::listen(fd.0, backlog))
}

#[napi]
pub fn sock_connect_start(fd: Fd, addr: u32, port: u32) -> i32 {
    number(endpoint(addr, port).and_then(|to| socket::connect_start(fd.0, to)))
}

#[napi]
pub fn sock_connect_wait(fd: Fd, wake_fd: Fd, timeout_ms: f64) -> i32 {
    number(Deadline::after_ms(timeout_ms).and_then(|deadline| socket::connect_wait(fd.0, wake_fd.0, deadline)))
}

#[napi]
pub fn sock_accept(fd: Fd, wake_fd: Fd, timeout_ms: f64, peer: Name) -> i32 {
    let accept = || {
        let out = pair(&peer)?;
        let (accepted, from) = socket::accept(fd.0, wake_fd.0, Deadline::after_ms(timeout_ms)?)?;
        put(out, from);
        Ok(accepted)
    };
    number(accept())
}

#[napi]
pub fn sock_send(fd: Fd, data: Data, offset: f64, length: f64, wake_fd: Fd, timeout_ms: f64) -> i32 {
    let send = || socket::send(fd.0, part(&data, offset, length)?, wake_fd.0, Deadline::after_ms(timeout_ms)?);
    number(send())
}

#[napi]
pub fn sock_recv(fd: Fd, data: Data, offset: f64, length: f64, peek: bool, wake_fd: Fd, timeout_ms: f64) -> i32 {
    let recv = || socket::recv(fd.0, part(&data, offset, length)?, peek, wake_fd.0, Deadline::after_ms(timeout_ms)?);
    number(recv())
}

#[napi]
#[allow(clippy::too_many_arguments)] // one number each, as the system call has them
pub fn sock_send_to(
    fd: Fd,
    data: Data,
    offset: f64,
    length: f64,
    addr: u32,
    port: u32,
    wake_fd: Fd,
    timeout_ms: f64,
) -> i32 {
    let send = || {
        let deadline = Deadline::after_ms(timeout_ms)?;
        socket::send_to(fd.0, part(&data, offset, length)?, endpoint(addr, port)?, wake_fd.0, deadline)
    };
    number(send())
}

#[napi]
#[allow(clippy::too_many_arguments)] // one number each, as the system call has them
pub fn sock_recv_from(
    fd: Fd,
    data: Data,
    offset: f64,
    length: f64,
    peek: bool,
    wake_fd: Fd,
    timeout_ms: f64,
    from: Name,
) -> i32 {
    let recv = || {
        let out = pair(&from)?;
        let deadline = Deadline::after_ms(timeout_ms)?;
        let (length, sender) = socket::recv_from(fd.0, part(&data, offset, length)?, peek, wake_fd.0, deadline)?;
        put(out, sender);
        Ok(length)
    };
    number(recv())
}

#[napi]
pub fn sock_shutdown(fd: Fd, how: i32) -> i32 {
    number(socket::shutdown(fd.0, how))
}

#[napi]
pub fn sock_set_int(fd: Fd, level: i32, name: i32, value: i32) -> i32 {
    number(socket::set_int(fd.0, level, name, value))
}

#[napi]
pub fn sock_get_int(fd: Fd, level: i32, name: i32) -> i32 {
    number(socket::get_int(fd.0, level, name))
}

#[napi]
pub fn sock_set_linger(fd: Fd, on: bool, seconds: i32) -> i32 {
    number(socket::set_linger(fd.0, on, seconds))
}

#[napi]
pub fn sock_local(fd: Fd, out: Name) -> i32 {
    number(pair(&out).and_then(|out| socket::local(fd.0).map(|name| put(out, name))))
}

#[napi]
pub fn sock_remote(fd: Fd, out: Name) -> i32 {
    number(pair(&out).and_then(|out| socket::remote(fd.0).map(|name| put(out, name))))
}

#[napi]
pub fn sock_out_queue(fd: Fd) -> i32 {
    number(socket::out_queue(fd.0))
}

#[napi]
pub fn sock_in_queue(fd: Fd) -> i32 {
    number(socket::in_queue(fd.0))
}

#[napi]
pub fn sock_tcp_state(fd: Fd) -> i32 {
    number(socket::tcp_state(fd.0))
}

#[napi]
pub fn sock_error(fd: Fd) -> i32 {
    number(socket::take_error(fd.0))
}

#[napi]
pub fn poll_many(set: View<AtomicI32>, count: f64, wake_fd: Fd, timeout_ms: f64) -> i32 {
    let poll = || poll::poll_many(set.words(), size(count)?, wake_fd.0, Deadline::after_ms(timeout_ms)?);
    number(poll())
}

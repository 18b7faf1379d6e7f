//! IPv4 TCP and UDP sockets. Every socket made here is non-blocking and close-on-exec; the calls that
//! wait do so in [`interrupt`](crate::interrupt). Addresses and ports are numbers in host byte order.

use std::{mem, os::fd::RawFd};

use crate::{
    deadline::Deadline,
    errno::{Errno, Result, check, check_size},
    interrupt::{blocking, wait},
    memory::{Bytes, address},
};

/// An IPv4 address and a port, both in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub address: u32,
    pub port: u16,
}

const ADDRESS_LENGTH: libc::socklen_t = length_of::<libc::sockaddr_in>();
const INT_LENGTH: libc::socklen_t = length_of::<libc::c_int>();
const LINGER_LENGTH: libc::socklen_t = length_of::<libc::linger>();

/// The size of a struct as the kernel wants it.
const fn length_of<T>() -> libc::socklen_t {
    // These structs are a few bytes.
    #[allow(clippy::cast_possible_truncation)]
    let length = mem::size_of::<T>() as libc::socklen_t;
    length
}

impl Endpoint {
    fn to_raw(self) -> libc::sockaddr_in {
        libc::sockaddr_in {
            // AF_INET is 2.
            #[allow(clippy::cast_possible_truncation)]
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: self.port.to_be(),
            sin_addr: libc::in_addr { s_addr: self.address.to_be() },
            sin_zero: [0; 8],
        }
    }

    fn from_raw(raw: &libc::sockaddr_in) -> Self {
        Self { address: u32::from_be(raw.sin_addr.s_addr), port: u16::from_be(raw.sin_port) }
    }
}

/// Runs a call that fills in a socket address.
fn with_address<T>(call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> Result<T>) -> Result<(T, Endpoint)> {
    let mut raw = Endpoint::default().to_raw();
    let mut length = ADDRESS_LENGTH;
    let value = call((&raw mut raw).cast(), &raw mut length)?;
    Ok((value, Endpoint::from_raw(&raw)))
}

/// Opens a TCP (`stream`) or UDP socket.
///
/// # Errors
/// As `socket(2)`.
pub fn open(stream: bool) -> Result<RawFd> {
    let kind = if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    // SAFETY: socket takes no pointers.
    check(unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) })
}

/// Closes any descriptor.
///
/// # Errors
/// `EBADF`. A close that a signal interrupts has closed on Linux, so `EINTR` is no error.
pub fn close(fd: RawFd) -> Result<()> {
    // SAFETY: close takes no pointers. The descriptor belongs to the caller, who gives it up.
    match check(unsafe { libc::close(fd) }) {
        Ok(_) | Err(Errno::INTERRUPTED) => Ok(()),
        Err(error) => Err(error),
    }
}

/// # Errors
/// As `bind(2)`.
pub fn bind(fd: RawFd, to: Endpoint) -> Result<()> {
    let raw = to.to_raw();
    // SAFETY: `raw` is a whole socket address of the length given.
    check(unsafe { libc::bind(fd, (&raw const raw).cast(), ADDRESS_LENGTH) }).map(drop)
}

/// # Errors
/// As `listen(2)`.
pub fn listen(fd: RawFd, backlog: i32) -> Result<()> {
    // SAFETY: listen takes no pointers.
    check(unsafe { libc::listen(fd, backlog) }).map(drop)
}

/// Starts a connection, or sets the peer of a UDP socket.
///
/// # Errors
/// `EINPROGRESS` when [`connect_wait`] must be called, else as `connect(2)`.
pub fn connect_start(fd: RawFd, to: Endpoint) -> Result<()> {
    let raw = to.to_raw();
    // SAFETY: `raw` is a whole socket address of the length given.
    match check(unsafe { libc::connect(fd, (&raw const raw).cast(), ADDRESS_LENGTH) }) {
        Ok(_) => Ok(()),
        // A connect that a signal interrupts goes on by itself.
        Err(Errno::INTERRUPTED) => Err(Errno(libc::EINPROGRESS)),
        Err(error) => Err(error),
    }
}

/// Waits until a started connection is there or has failed.
///
/// # Errors
/// `EINTR` when woken, `EAGAIN` at the deadline (the attempt goes on in both cases), the error the connection
/// failed with, `ENOTCONN` when none was started.
pub fn connect_wait(fd: RawFd, wake: RawFd, deadline: Deadline) -> Result<()> {
    if wait(fd, libc::POLLOUT, wake, deadline)? == 0 {
        return Err(Errno::TIMED_OUT);
    }
    match take_error(fd)? {
        // A socket that never tried, or whose error was taken before, is writable too and has no error.
        0 => remote(fd).map(drop),
        error => Err(Errno(error)),
    }
}

/// Waits for a connection of a listener. The new socket is non-blocking and close-on-exec.
///
/// # Errors
/// `EINTR` when woken, `EAGAIN` at the deadline, else as `accept4(2)`.
pub fn accept(fd: RawFd, wake: RawFd, deadline: Deadline) -> Result<(RawFd, Endpoint)> {
    blocking(fd, libc::POLLIN, wake, deadline, || {
        with_address(|raw, length| {
            // SAFETY: `raw` and `length` come from `with_address`, which owns both for the call.
            check(unsafe { libc::accept4(fd, raw, length, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) })
        })
    })
}

/// Sends to the peer; waits until at least one byte was taken. Never raises SIGPIPE.
///
/// # Errors
/// `EINTR` when woken, `EAGAIN` at the deadline, else as `send(2)`.
pub fn send(fd: RawFd, data: &Bytes, wake: RawFd, deadline: Deadline) -> Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    blocking(fd, libc::POLLOUT, wake, deadline, || {
        // SAFETY: `data` is that many bytes and outlives the call.
        check_size(unsafe { libc::send(fd, address(data), data.len(), flags) })
    })
}

/// Receives; waits for at least one byte. 0 is the end of the stream. With `peek` the bytes stay queued.
///
/// # Errors
/// `EINTR` when woken, `EAGAIN` at the deadline, else as `recv(2)`.
pub fn recv(fd: RawFd, data: &Bytes, peek: bool, wake: RawFd, deadline: Deadline) -> Result<usize> {
    blocking(fd, libc::POLLIN, wake, deadline, || {
        // SAFETY: `data` is that many writable bytes (atomics) and outlives the call.
        check_size(unsafe { libc::recv(fd, address(data), data.len(), recv_flags(peek)) })
    })
}

/// Sends one datagram.
///
/// # Errors
/// `EINTR` when woken, `EAGAIN` at the deadline, else as `sendto(2)`.
pub fn send_to(fd: RawFd, data: &Bytes, to: Endpoint, wake: RawFd, deadline: Deadline) -> Result<usize> {
    let raw = to.to_raw();
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    blocking(fd, libc::POLLOUT, wake, deadline, || {
        // SAFETY: `data` is that many bytes, `raw` a whole socket address; both outlive the call.
        check_size(unsafe {
            libc::sendto(fd, address(data), data.len(), flags, (&raw const raw).cast(), ADDRESS_LENGTH)
        })
    })
}

/// Receives one datagram and where it came from; what does not fit is lost, as in `recvfrom(2)`.
///
/// # Errors
/// `EINTR` when woken, `EAGAIN` at the deadline, else as `recvfrom(2)`.
pub fn recv_from(fd: RawFd, data: &Bytes, peek: bool, wake: RawFd, deadline: Deadline) -> Result<(usize, Endpoint)> {
    blocking(fd, libc::POLLIN, wake, deadline, || {
        with_address(|raw, length| {
            // SAFETY: `data` is that many writable bytes (atomics); `raw` and `length` come from
            // `with_address`, which owns both for the call.
            check_size(unsafe { libc::recvfrom(fd, address(data), data.len(), recv_flags(peek), raw, length) })
        })
    })
}

fn recv_flags(peek: bool) -> libc::c_int {
    libc::MSG_DONTWAIT | if peek { libc::MSG_PEEK } else { 0 }
}

/// # Errors
/// As `shutdown(2)`.
pub fn shutdown(fd: RawFd, how: i32) -> Result<()> {
    // SAFETY: shutdown takes no pointers.
    check(unsafe { libc::shutdown(fd, how) }).map(drop)
}

/// Sets an option whose value is an `int`.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_int(fd: RawFd, level: i32, name: i32, value: i32) -> Result<()> {
    // SAFETY: `value` is an int of the length given.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), INT_LENGTH) }).map(drop)
}

/// Reads an option whose value is an `int`.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn get_int(fd: RawFd, level: i32, name: i32) -> Result<i32> {
    let mut value: libc::c_int = 0;
    let mut length = INT_LENGTH;
    // SAFETY: `value` is an int of the length given; both are owned for the call.
    check(unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut length) })?;
    Ok(value)
}

/// `SO_LINGER`; on with 0 seconds makes the close of a TCP socket a reset.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_linger(fd: RawFd, on: bool, seconds: i32) -> Result<()> {
    let linger = libc::linger { l_onoff: i32::from(on), l_linger: seconds };
    // SAFETY: `linger` is a whole struct of the length given.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), LINGER_LENGTH) })
        .map(drop)
}

/// The socket's own address.
///
/// # Errors
/// As `getsockname(2)`.
pub fn local(fd: RawFd) -> Result<Endpoint> {
    // SAFETY: both pointers come from `with_address`, which owns what they point at for the call.
    let (_, name) = with_address(|raw, length| check(unsafe { libc::getsockname(fd, raw, length) }))?;
    Ok(name)
}

/// The peer's address.
///
/// # Errors
/// `ENOTCONN`, else as `getpeername(2)`.
pub fn remote(fd: RawFd) -> Result<Endpoint> {
    // SAFETY: both pointers come from `with_address`, which owns what they point at for the call.
    let (_, name) = with_address(|raw, length| check(unsafe { libc::getpeername(fd, raw, length) }))?;
    Ok(name)
}

/// Bytes (and one for a sent FIN) the peer has not acknowledged: `SIOCOUTQ`.
///
/// # Errors
/// `EINVAL` for a listener, else as `ioctl(2)`.
pub fn out_queue(fd: RawFd) -> Result<i32> {
    queue(fd, libc::TIOCOUTQ)
}

/// Bytes that can be read now: `SIOCINQ`.
///
/// # Errors
/// `EINVAL` for a listener, else as `ioctl(2)`.
pub fn in_queue(fd: RawFd) -> Result<i32> {
    queue(fd, libc::FIONREAD)
}

fn queue(fd: RawFd, request: libc::Ioctl) -> Result<i32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int, which is owned for the call.
    check(unsafe { libc::ioctl(fd, request, &raw mut bytes) })?;
    Ok(bytes)
}

/// The state of a TCP socket as the kernel numbers them (1 ESTABLISHED … 11 CLOSING, 12 `NEW_SYN_RECV`).
///
/// # Errors
/// As `getsockopt(2)`; `EOPNOTSUPP` or `ENOPROTOOPT` when it is no TCP socket.
pub fn tcp_state(fd: RawFd) -> Result<i32> {
    let mut state = 0_u8;
    let mut length: libc::socklen_t = 1;
    // `tcpi_state` is the first byte of `struct tcp_info`; the kernel copies no more than asked for.
    // SAFETY: `state` is one byte, the length given; both are owned for the call.
    check(unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &raw mut length)
    })?;
    Ok(i32::from(state))
}

/// Takes the pending error of a socket: a positive number, or 0.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn take_error(fd: RawFd) -> Result<i32> {
    get_int(fd, libc::SOL_SOCKET, libc::SO_ERROR)
}

//! What the tests share.

use std::{
    net::Ipv4Addr,
    os::fd::RawFd,
    process::Command,
    sync::atomic::{AtomicI32, AtomicU8, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use kedge_native::{
    deadline::Deadline,
    errno::{Errno, check},
    interrupt,
    socket::{self, Endpoint},
};

pub const LOOPBACK: u32 = Ipv4Addr::LOCALHOST.to_bits();
pub const NO_WAKE: RawFd = -1;
/// Long enough never to pass in a test that works.
pub const PATIENCE_MS: f64 = 10_000.0;

pub fn patience() -> Deadline {
    within(PATIENCE_MS)
}

pub fn within(ms: f64) -> Deadline {
    Deadline::after_ms(ms).expect("a number")
}

/// Closes its descriptor at the end of a test.
#[derive(Debug)]
pub struct Owned(pub RawFd);

impl Drop for Owned {
    fn drop(&mut self) {
        // A test may have closed it already.
        let _ = socket::close(self.0);
    }
}

pub fn wake() -> Owned {
    Owned(interrupt::wake_create().expect("eventfd"))
}

pub fn tcp() -> Owned {
    Owned(socket::open(true).expect("socket"))
}

pub fn udp_on(address: u32) -> (Owned, Endpoint) {
    let socket = Owned(socket::open(false).expect("socket"));
    socket::bind(socket.0, Endpoint { address, port: 0 }).expect("bind");
    let name = socket::local(socket.0).expect("name");
    (socket, name)
}

pub fn listener_on(address: u32) -> (Owned, Endpoint) {
    let listener = tcp();
    socket::bind(listener.0, Endpoint { address, port: 0 }).expect("bind");
    socket::listen(listener.0, 16).expect("listen");
    let name = socket::local(listener.0).expect("name");
    (listener, name)
}

pub fn connect(to: Endpoint) -> Owned {
    let client = tcp();
    match socket::connect_start(client.0, to) {
        Ok(()) | Err(Errno(libc::EINPROGRESS)) => {}
        Err(error) => panic!("connect: {error:?}"),
    }
    socket::connect_wait(client.0, NO_WAKE, patience()).expect("connected");
    client
}

/// A connection over loopback: (connecting side, accepted side).
pub fn connected() -> (Owned, Owned) {
    let (listener, name) = listener_on(LOOPBACK);
    let client = connect(name);
    let (server, peer) = socket::accept(listener.0, NO_WAKE, patience()).expect("accept");
    assert_eq!(peer, socket::local(client.0).expect("name"));
    (client, Owned(server))
}

/// Two ends of a queue of datagrams, non-blocking: stands in for a device and its kernel side.
pub fn datagram_pair() -> (Owned, Owned) {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0, ends.as_mut_ptr()) })
        .expect("socketpair");
    (Owned(ends[0]), Owned(ends[1]))
}

pub fn bytes(values: &[u8]) -> Vec<AtomicU8> {
    values.iter().copied().map(AtomicU8::new).collect()
}

pub fn words(values: &[i32]) -> Vec<AtomicI32> {
    values.iter().copied().map(AtomicI32::new).collect()
}

pub fn plain(atomics: &[AtomicU8]) -> Vec<u8> {
    atomics.iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
}

pub fn numbers(atomics: &[AtomicI32]) -> Vec<i32> {
    atomics.iter().map(|word| word.load(Ordering::Relaxed)).collect()
}

/// Runs `body` in a thread and waits until that thread sleeps in the kernel, so that what follows finds it blocked.
pub fn blocked<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        // SAFETY: gettid takes no arguments.
        let id = unsafe { libc::syscall(libc::SYS_gettid) };
        tell.send(id).expect("the test waits");
        body()
    });
    let id = told.recv().expect("thread id");
    until("the thread sleeps", || {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/syscall")).unwrap_or_default();
        // The number of the system call it is in; "running" otherwise.
        stat.starts_with(&format!("{} ", libc::SYS_ppoll))
    });
    thread
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
        thread::yield_now();
    }
}

/// Runs `body` in a new network namespace (with loopback up) that belongs to one thread and ends with it.
pub fn in_namespace<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(|| {
        // SAFETY: unshare takes no pointers; a new network namespace concerns this thread only.
        check(unsafe { libc::unshare(libc::CLONE_NEWNET) }).expect("a network namespace (needs root)");
        ip("link set lo up");
        body()
    });
    thread.join().expect("the test in the namespace")
}

/// Runs `ip` in the namespace of the calling thread.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments}");
}

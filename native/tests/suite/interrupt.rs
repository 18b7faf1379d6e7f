use std::{
    os::unix::thread::JoinHandleExt,
    time::{Duration, Instant},
};

use kedge_native::{
    errno::Errno,
    interrupt::{check_wake, wake_clear, wake_signal},
    socket::{self, Endpoint},
    tun,
};

use crate::support::{
    LOOPBACK, NO_WAKE, Owned, blocked, bytes, connected, in_namespace, ip, listener_on, tcp, udp_on, wake, within,
};

const INTERRUPTED: Errno = Errno(libc::EINTR);

#[test]
fn a_signal_stays_until_it_is_cleared() {
    let wake = wake();
    assert_eq!(check_wake(wake.0), Ok(()));
    wake_signal(wake.0).expect("signal");
    wake_signal(wake.0).expect("again");
    assert_eq!(check_wake(wake.0), Err(INTERRUPTED));
    assert_eq!(check_wake(wake.0), Err(INTERRUPTED));
    wake_clear(wake.0).expect("clear");
    wake_clear(wake.0).expect("again");
    assert_eq!(check_wake(wake.0), Ok(()));
    assert_eq!(check_wake(NO_WAKE), Ok(()));
}

#[test]
fn a_full_counter_is_a_signal_and_no_error() {
    let wake = wake();
    let most = (u64::MAX - 1).to_ne_bytes();
    // SAFETY: `most` is 8 readable bytes.
    assert_eq!(unsafe { libc::write(wake.0, most.as_ptr().cast(), 8) }, 8);
    assert_eq!(wake_signal(wake.0), Ok(()));
    assert_eq!(check_wake(wake.0), Err(INTERRUPTED));
}

#[test]
fn one_signal_ends_every_blocked_call() {
    let (listener, _) = listener_on(LOOPBACK);
    let (client, server) = connected();
    let (datagrams, _) = udp_on(LOOPBACK);
    let wake = wake();
    let data = bytes(&vec![0; 1 << 20]);
    while socket::send(client.0, &data, NO_WAKE, within(0.0)).is_ok() {}

    let (w, a, s, r, d) = (wake.0, listener.0, client.0, client.0, datagrams.0);
    let threads = [
        blocked(move || socket::accept(a, w, within(-1.0)).map(drop)),
        blocked(move || socket::send(s, &bytes(&[0; 9]), w, within(-1.0)).map(drop)),
        blocked(move || socket::recv(r, &bytes(&[0; 9]), false, w, within(60_000.0)).map(drop)),
        blocked(move || socket::recv_from(d, &bytes(&[0; 9]), false, w, within(-1.0)).map(drop)),
    ];
    let start = Instant::now();
    wake_signal(wake.0).expect("signal");
    for thread in threads {
        assert_eq!(thread.join().expect("no panic"), Err(INTERRUPTED));
    }
    assert!(start.elapsed() < Duration::from_secs(1), "at once: {:?}", start.elapsed());
    drop(server);
}

#[test]
fn a_connection_attempt_goes_on_when_its_wait_is_interrupted() {
    in_namespace(|| {
        // A device nobody reads: the SYN gets lost.
        let _device = Owned(tun::open("void").expect("a TUN device"));
        ip("addr add 10.9.0.1/24 dev void");
        ip("link set void up");
        let client = tcp();
        let to = Endpoint { address: 0x0a09_0002, port: 80 };
        assert_eq!(socket::connect_start(client.0, to), Err(Errno(libc::EINPROGRESS)));
        let wake = wake();
        let (fd, w) = (client.0, wake.0);
        let thread = blocked(move || socket::connect_wait(fd, w, within(-1.0)));
        wake_signal(wake.0).expect("signal");
        assert_eq!(thread.join().expect("no panic"), Err(INTERRUPTED));
        assert_eq!(socket::tcp_state(client.0), Ok(2), "SYN_SENT");
        wake_clear(wake.0).expect("clear");
        assert_eq!(socket::connect_wait(client.0, wake.0, within(5.0)), Err(Errno(libc::EAGAIN)));
        assert_eq!(socket::tcp_state(client.0), Ok(2), "SYN_SENT");
    });
}

extern "C" fn ignore(_signal: libc::c_int) {}

#[test]
fn a_unix_signal_does_not_end_a_wait() {
    // SAFETY: the handler does nothing; `action` is whole, with an empty mask and no SA_RESTART.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()), 0);
    }
    let (listener, _) = listener_on(LOOPBACK);
    let fd = listener.0;
    let start = Instant::now();
    let thread = blocked(move || socket::accept(fd, NO_WAKE, within(100.0)).map(drop));
    for _ in 0..5 {
        // SAFETY: the thread was not joined yet, so its id is valid.
        assert_eq!(unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR2) }, 0);
    }
    assert_eq!(thread.join().expect("no panic"), Err(Errno(libc::EAGAIN)));
    assert!(start.elapsed() >= Duration::from_millis(100), "the whole time");
}

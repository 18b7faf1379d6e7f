use std::time::{Duration, Instant};

use kedge_native::{errno::Errno, interrupt::wake_signal, poll::poll_many, socket};

use crate::support::{
    LOOPBACK, NO_WAKE, blocked, bytes, connected, listener_on, numbers, patience, udp_on, wake, within, words,
};

const IN: i32 = libc::POLLIN as i32;
const OUT: i32 = libc::POLLOUT as i32;
const HUP: i32 = libc::POLLHUP as i32;
const NVAL: i32 = libc::POLLNVAL as i32;

#[test]
fn each_entry_gets_its_own_events() {
    let (client, server) = connected();
    let (listener, _) = listener_on(LOOPBACK);
    socket::send(client.0, &bytes(b"x"), NO_WAKE, patience()).expect("sent");
    let set = words(&[server.0, IN, 0, client.0, IN | OUT, 99, listener.0, IN, 99, -1, IN, 99, i32::MAX, IN, 99]);
    assert_eq!(poll_many(&set, 5, NO_WAKE, patience()), Ok(3));
    let revents: Vec<i32> = numbers(&set).chunks(3).map(|triple| triple[2]).collect();
    assert_eq!(revents, [IN, OUT, 0, 0, NVAL]);
}

#[test]
fn it_ends_at_the_deadline_and_by_the_wake() {
    let (client, _server) = connected();
    let start = Instant::now();
    let set = words(&[client.0, IN, 99]);
    assert_eq!(poll_many(&set, 1, NO_WAKE, within(20.0)), Ok(0));
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(numbers(&set)[2], 0);

    let wake = wake();
    let (fd, w) = (client.0, wake.0);
    let thread = blocked(move || poll_many(&words(&[fd, IN, 0]), 1, w, within(-1.0)));
    wake_signal(wake.0).expect("signal");
    assert_eq!(thread.join().expect("no panic"), Err(Errno(libc::EINTR)));

    let set = words(&[client.0, OUT, 99]);
    assert_eq!(poll_many(&set, 1, wake.0, patience()), Err(Errno(libc::EINTR)), "the wake wins");
    assert_eq!(numbers(&set)[2], 0);
}

#[test]
fn sets_of_every_size_and_bounds() {
    let (one, _) = udp_on(LOOPBACK);
    for count in [0, 1, 127, 128, 500] {
        let set = words(&[one.0, OUT, 0].repeat(count));
        let expected = if count == 0 { Ok(0) } else { Ok(count) };
        assert_eq!(poll_many(&set, count, NO_WAKE, within(0.0)), expected);
        assert!(numbers(&set).chunks(3).all(|triple| triple[2] == OUT));
        assert_eq!(poll_many(&set, count + 1, NO_WAKE, within(0.0)), Err(Errno::INVALID));
    }
    assert_eq!(poll_many(&[], usize::MAX, NO_WAKE, within(0.0)), Err(Errno::INVALID));
}

#[test]
fn a_hang_up_is_reported_unasked() {
    let (client, server) = connected();
    socket::set_linger(server.0, true, 0).expect("linger");
    drop(server);
    let set = words(&[client.0, 0, 0]);
    assert_eq!(poll_many(&set, 1, NO_WAKE, patience()), Ok(1));
    assert_ne!(numbers(&set)[2] & HUP, 0);
}

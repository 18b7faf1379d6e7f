use std::time::{Duration, Instant};

use kedge_native::{
    errno::Errno,
    interrupt::wake_signal,
    socket::{self, Endpoint},
};

use crate::support::{
    LOOPBACK, NO_WAKE, Owned, bytes, connect, connected, listener_on, patience, plain, tcp, udp_on, until, wake, within,
};

fn error<T>(number: i32) -> Result<T, Errno> {
    Err(Errno(number))
}

#[test]
fn bytes_go_both_ways_and_end() {
    let (client, server) = connected();
    let data = bytes(b"what a nice day");
    assert_eq!(socket::send(client.0, &data, NO_WAKE, patience()), Ok(15));

    let got = bytes(&[0; 32]);
    assert_eq!(socket::recv(server.0, &got[..4], true, NO_WAKE, patience()), Ok(4), "a peek");
    assert_eq!(plain(&got[..4]), b"what");
    assert_eq!(socket::in_queue(server.0), Ok(15), "a peek takes nothing");
    assert_eq!(socket::recv(server.0, &got, false, NO_WAKE, patience()), Ok(15));
    assert_eq!(plain(&got[..15]), b"what a nice day");

    assert_eq!(socket::shutdown(client.0, libc::SHUT_WR), Ok(()));
    assert_eq!(socket::recv(server.0, &got, false, NO_WAKE, patience()), Ok(0), "the end");
    assert_eq!(socket::send(server.0, &data[..3], NO_WAKE, patience()), Ok(3), "the other way is still open");
    assert_eq!(socket::recv(client.0, &got, false, NO_WAKE, patience()), Ok(3));
}

#[test]
fn names_are_in_host_order() {
    let (listener, name) = listener_on(LOOPBACK);
    assert_eq!(name.address, 0x7f00_0001);
    let client = connect(name);
    let (server, peer) = socket::accept(listener.0, NO_WAKE, patience()).expect("accept");
    let server = Owned(server);
    assert_eq!(Ok(peer), socket::local(client.0));
    assert_eq!(Ok(peer), socket::remote(server.0));
    assert_eq!(Ok(name), socket::remote(client.0));
    assert_eq!(socket::remote(listener.0), error(libc::ENOTCONN));
}

#[test]
fn waiting_ends_at_the_deadline() {
    let (listener, _) = listener_on(LOOPBACK);
    let (client, _server) = connected();
    let got = bytes(&[0; 8]);
    let start = Instant::now();
    assert_eq!(socket::accept(listener.0, NO_WAKE, within(20.0)).map(drop), error(libc::EAGAIN));
    assert_eq!(socket::recv(client.0, &got, false, NO_WAKE, within(20.5)), error(libc::EAGAIN));
    assert!(start.elapsed() >= Duration::from_millis(40), "not before");
    assert_eq!(socket::recv(client.0, &got, false, NO_WAKE, within(0.0)), error(libc::EAGAIN));
}

#[test]
fn a_refused_connection_says_so_once() {
    let (listener, name) = listener_on(LOOPBACK);
    drop(listener);
    let client = tcp();
    assert_eq!(socket::connect_start(client.0, name), error(libc::EINPROGRESS));
    assert_eq!(socket::connect_wait(client.0, NO_WAKE, patience()), error(libc::ECONNREFUSED));
    assert_eq!(socket::connect_wait(client.0, NO_WAKE, patience()), error(libc::ENOTCONN), "the error was taken");
}

#[test]
fn errors_that_need_no_waiting_do_not_wait() {
    let (client, _server) = connected();
    let (listener, _) = listener_on(LOOPBACK);
    let never = within(-1.0);
    let got = bytes(&[0; 8]);
    // poll() would never report these sockets as readable.
    assert_eq!(socket::accept(client.0, NO_WAKE, never).map(drop), error(libc::EINVAL));
    assert_eq!(socket::recv(listener.0, &got, false, NO_WAKE, never), error(libc::ENOTCONN));
    assert_eq!(socket::connect_wait(tcp().0, NO_WAKE, never), error(libc::ENOTCONN));
    assert_eq!(socket::send(tcp().0, &got, NO_WAKE, never), error(libc::EPIPE));
}

#[test]
fn bad_descriptors_are_errors() {
    let got = bytes(&[0; 8]);
    for fd in [-1, i32::MAX] {
        let never = within(-1.0);
        assert_eq!(socket::recv(fd, &got, false, NO_WAKE, never), error(libc::EBADF));
        assert_eq!(socket::connect_wait(fd, NO_WAKE, never), error(libc::EBADF));
        assert_eq!(socket::close(fd), error(libc::EBADF));
        assert_eq!(wake_signal(fd), error(libc::EBADF));
    }
    let (client, _server) = connected();
    assert_eq!(socket::recv(client.0, &got, false, i32::MAX, within(-1.0)), error(libc::EBADF), "no such wake");
}

#[test]
fn datagrams_carry_their_sender() {
    let (one, one_name) = udp_on(LOOPBACK);
    let (two, two_name) = udp_on(LOOPBACK);
    let data = bytes(b"ping");
    let got = bytes(&[0; 16]);
    assert_eq!(socket::send_to(one.0, &data, two_name, NO_WAKE, patience()), Ok(4));
    assert_eq!(socket::send_to(one.0, &[], two_name, NO_WAKE, patience()), Ok(0), "an empty datagram");
    assert_eq!(socket::recv_from(two.0, &got, true, NO_WAKE, patience()), Ok((4, one_name)), "a peek");
    assert_eq!(socket::recv_from(two.0, &got, false, NO_WAKE, patience()), Ok((4, one_name)));
    assert_eq!(plain(&got[..4]), b"ping");
    assert_eq!(socket::recv_from(two.0, &got, false, NO_WAKE, patience()), Ok((0, one_name)));
    assert_eq!(socket::connect_start(one.0, two_name), Ok(()), "UDP connects at once");
    assert_eq!(socket::send(one.0, &data, NO_WAKE, patience()), Ok(4));
}

#[test]
fn a_full_peer_makes_send_wait_and_the_queue_counts_what_is_not_acknowledged() {
    let (client, server) = connected();
    let data = bytes(&vec![7; 1 << 20]);
    let mut sent = 0;
    while let Ok(count) = socket::send(client.0, &data, NO_WAKE, within(0.0)) {
        sent += count;
    }
    assert!(socket::out_queue(client.0).expect("a queue") > 0);

    let sender = std::thread::spawn({
        let fd = client.0;
        move || socket::send(fd, &bytes(&[7; 100]), NO_WAKE, patience())
    });
    let mut received = 0;
    while received < sent + 100 {
        received += socket::recv(server.0, &data, false, NO_WAKE, patience()).expect("bytes");
    }
    assert_eq!(sender.join().expect("sender"), Ok(100));
    assert_eq!(received, sent + 100);
    until("all is acknowledged", || socket::out_queue(client.0) == Ok(0));
}

#[test]
fn the_queue_counts_a_fin_that_was_not_acknowledged() {
    let (listener, name) = listener_on(LOOPBACK);
    // Everything to this listener's port is acknowledged by the kernel, so look at both ends of the FIN.
    let client = connect(name);
    assert_eq!(socket::out_queue(client.0), Ok(0));
    assert_eq!(socket::shutdown(client.0, libc::SHUT_WR), Ok(()));
    until("FIN_WAIT2", || socket::tcp_state(client.0) == Ok(5));
    assert_eq!(socket::out_queue(client.0), Ok(0));
    assert_eq!(socket::out_queue(listener.0), error(libc::EINVAL));
    assert_eq!(socket::in_queue(listener.0), error(libc::EINVAL));
}

#[test]
fn states_have_the_kernels_numbers() {
    let (client, server) = connected();
    assert_eq!(socket::tcp_state(client.0), Ok(1));
    assert_eq!(socket::tcp_state(tcp().0), Ok(7));
    assert_eq!(socket::tcp_state(listener_on(LOOPBACK).0.0), Ok(10));
    assert_eq!(socket::shutdown(client.0, libc::SHUT_WR), Ok(()));
    until("CLOSE_WAIT", || socket::tcp_state(server.0) == Ok(8));
    assert!(socket::tcp_state(udp_on(LOOPBACK).0.0).is_err());
}

#[test]
fn linger_zero_makes_a_close_a_reset() {
    let (client, server) = connected();
    assert_eq!(socket::set_linger(client.0, true, 0), Ok(()));
    drop(client);
    let got = bytes(&[0; 8]);
    assert_eq!(socket::recv(server.0, &got, false, NO_WAKE, patience()), error(libc::ECONNRESET));
}

#[test]
fn the_pending_error_is_taken_once() {
    let (client, server) = connected();
    assert_eq!(socket::set_linger(client.0, true, 0), Ok(()));
    drop(client);
    until("the reset", || socket::tcp_state(server.0) == Ok(7));
    assert_eq!(socket::take_error(server.0), Ok(libc::ECONNRESET));
    assert_eq!(socket::take_error(server.0), Ok(0));
}

#[test]
fn integer_options() {
    let socket = tcp();
    assert_eq!(socket::set_int(socket.0, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1), Ok(()));
    assert_eq!(socket::get_int(socket.0, libc::IPPROTO_TCP, libc::TCP_NODELAY), Ok(1));
    assert_eq!(socket::get_int(socket.0, libc::SOL_SOCKET, libc::SO_TYPE), Ok(libc::SOCK_STREAM));
    assert_eq!(socket::get_int(socket.0, libc::IPPROTO_TCP, 9999), error(libc::ENOPROTOOPT));
}

#[test]
fn a_signalled_wake_wins_over_readiness_and_nothing_is_consumed() {
    let (listener, name) = listener_on(LOOPBACK);
    let client = connect(name);
    let waiting = connect(name);
    let (server, _) = socket::accept(listener.0, NO_WAKE, patience()).expect("accept");
    let server = Owned(server);
    assert_eq!(socket::send(client.0, &bytes(b"abc"), NO_WAKE, patience()), Ok(3));
    until("the bytes are there", || socket::in_queue(server.0) == Ok(3));

    let wake = wake();
    let got = bytes(&[0; 8]);
    wake_signal(wake.0).expect("signal");
    assert_eq!(socket::recv(server.0, &got, false, wake.0, within(-1.0)), error(libc::EINTR));
    assert_eq!(socket::send(client.0, &got, wake.0, within(0.0)), error(libc::EINTR));
    assert_eq!(socket::accept(listener.0, wake.0, within(-1.0)).map(drop), error(libc::EINTR));
    assert_eq!(socket::connect_wait(waiting.0, wake.0, within(-1.0)), error(libc::EINTR));

    kedge_native::interrupt::wake_clear(wake.0).expect("clear");
    assert_eq!(socket::recv(server.0, &got, false, wake.0, within(0.0)), Ok(3));
    assert_eq!(plain(&got[..3]), b"abc");
    let (second, peer) = socket::accept(listener.0, wake.0, within(0.0)).expect("the connection still waits");
    let _second = Owned(second);
    assert_eq!(Ok(peer), socket::local(waiting.0));
    assert_eq!(socket::connect_wait(waiting.0, wake.0, within(0.0)), Ok(()));
    assert_eq!(socket::in_queue(server.0), Ok(0), "the refused send sent nothing");
}

#[test]
fn sockets_do_not_survive_exec_and_do_not_block() {
    let (client, server) = connected();
    let wake = wake();
    for fd in [client.0, server.0, wake.0] {
        // SAFETY: these two requests take and give no pointers.
        let (descriptor, status) = unsafe { (libc::fcntl(fd, libc::F_GETFD), libc::fcntl(fd, libc::F_GETFL)) };
        assert_ne!(descriptor & libc::FD_CLOEXEC, 0);
        assert_ne!(status & libc::O_NONBLOCK, 0);
    }
}

#[test]
fn an_unknown_address_cannot_be_bound() {
    let unknown = Endpoint { address: 0xc000_0201, port: 0 };
    assert_eq!(socket::bind(tcp().0, unknown), error(libc::EADDRNOTAVAIL));
}

/*
 * Sockets for guests, with the names of POSIX.
 *
 * wasi-libc has accept, send, recv, shutdown and poll; it declares no way to make a socket, because WASI preview1 has
 * none. This header and kedge_socket.c add what is missing, over the socket functions that WAMR and Kedge offer as
 * imports of wasi_snapshot_preview1. IPv4, TCP and UDP.
 *
 * All functions return -1 and set errno on failure, as in POSIX. Differences: accept() does not fill in the address (ask
 * getpeername), and descriptors of sockets are ordinary WASI descriptors: close, read, write, fcntl(O_NONBLOCK) and poll
 * work on them.
 */
#ifndef KEDGE_SOCKET_H
#define KEDGE_SOCKET_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Socket options that wasi-libc leaves out, by musl's numbers. */
#define SO_REUSEADDR 2
#define SO_BROADCAST 6
#define SO_SNDBUF 7
#define SO_RCVBUF 8
#define SO_KEEPALIVE 9
#define SO_LINGER 13
#define SO_REUSEPORT 15
#define SO_RCVTIMEO 20
#define SO_SNDTIMEO 21

/* domain AF_INET; type SOCK_STREAM or SOCK_DGRAM; protocol 0 or the one that belongs to the type. */
int socket(int domain, int type, int protocol);
int bind(int fd, const struct sockaddr *address, socklen_t length);
int listen(int fd, int backlog);
int connect(int fd, const struct sockaddr *address, socklen_t length);
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length);
ssize_t recvfrom(int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length);
int getsockname(int fd, struct sockaddr *address, socklen_t *length);
int getpeername(int fd, struct sockaddr *address, socklen_t *length);

/*
 * SOL_SOCKET: SO_REUSEADDR, SO_REUSEPORT, SO_BROADCAST, SO_KEEPALIVE, SO_SNDBUF, SO_RCVBUF (int), SO_LINGER (struct
 * linger), SO_RCVTIMEO and SO_SNDTIMEO (struct timeval); getsockopt also SO_TYPE. IPPROTO_TCP: TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_QUICKACK,
 * TCP_FASTOPEN_CONNECT. IPPROTO_IP: IP_TTL. Any other: ENOPROTOOPT.
 */
int setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int getsockopt(int fd, int level, int name, void *value, socklen_t *length);

/* Convenience: an IPv4 address from text and a port in host order. Returns -1 when the text is no address. */
int kedge_address(struct sockaddr_in *address, const char *text, unsigned port);

#endif

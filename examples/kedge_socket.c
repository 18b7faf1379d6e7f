#include "kedge_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define IMPORT(name) __attribute__((__import_module__("wasi_snapshot_preview1"), __import_name__(#name)))

/* The address as it crosses to the host: 24 bytes; the port is in the guest's byte order. */
struct host_address {
    uint32_t kind; /* 0: IPv4 */
    uint8_t ipv4[4];
    uint16_t port;
    uint8_t rest[14];
};

struct host_buffer {
    void *data;
    size_t size;
};

enum { FAMILY_IPV4 = 0, TYPE_DATAGRAM = 0, TYPE_STREAM = 1, KIND_IPV4 = 0 };

typedef uint32_t code;

IMPORT(sock_open) code host_open(int pool, int family, int type, int *fd);
IMPORT(sock_bind) code host_bind(int fd, const struct host_address *address);
IMPORT(sock_listen) code host_listen(int fd, uint32_t backlog);
IMPORT(sock_connect) code host_connect(int fd, const struct host_address *address);
IMPORT(sock_send_to)
code host_send_to(int fd, const struct host_buffer *buffers, uint32_t count, uint32_t flags,
                  const struct host_address *to, uint32_t *sent);
IMPORT(sock_recv_from)
code host_receive_from(int fd, const struct host_buffer *buffers, uint32_t count, uint32_t flags,
                       struct host_address *from, uint32_t *received);
IMPORT(sock_addr_local) code host_local(int fd, struct host_address *address);
IMPORT(sock_addr_remote) code host_remote(int fd, struct host_address *address);

IMPORT(sock_set_reuse_addr) code set_reuse_addr(int fd, bool on);
IMPORT(sock_get_reuse_addr) code get_reuse_addr(int fd, bool *on);
IMPORT(sock_set_reuse_port) code set_reuse_port(int fd, bool on);
IMPORT(sock_get_reuse_port) code get_reuse_port(int fd, bool *on);
IMPORT(sock_set_broadcast) code set_broadcast(int fd, bool on);
IMPORT(sock_get_broadcast) code get_broadcast(int fd, bool *on);
IMPORT(sock_set_keep_alive) code set_keep_alive(int fd, bool on);
IMPORT(sock_get_keep_alive) code get_keep_alive(int fd, bool *on);
IMPORT(sock_set_send_buf_size) code set_send_size(int fd, size_t size);
IMPORT(sock_get_send_buf_size) code get_send_size(int fd, size_t *size);
IMPORT(sock_set_recv_buf_size) code set_receive_size(int fd, size_t size);
IMPORT(sock_get_recv_buf_size) code get_receive_size(int fd, size_t *size);
IMPORT(sock_set_linger) code set_linger(int fd, bool on, int seconds);
IMPORT(sock_get_linger) code get_linger(int fd, bool *on, int *seconds);
IMPORT(sock_set_recv_timeout) code set_receive_timeout(int fd, uint64_t microseconds);
IMPORT(sock_get_recv_timeout) code get_receive_timeout(int fd, uint64_t *microseconds);
IMPORT(sock_set_send_timeout) code set_send_timeout(int fd, uint64_t microseconds);
IMPORT(sock_get_send_timeout) code get_send_timeout(int fd, uint64_t *microseconds);
IMPORT(sock_set_tcp_no_delay) code set_no_delay(int fd, bool on);
IMPORT(sock_get_tcp_no_delay) code get_no_delay(int fd, bool *on);
IMPORT(sock_set_tcp_quick_ack) code set_quick_ack(int fd, bool on);
IMPORT(sock_get_tcp_quick_ack) code get_quick_ack(int fd, bool *on);
IMPORT(sock_set_tcp_fastopen_connect) code set_fast_open(int fd, bool on);
IMPORT(sock_get_tcp_fastopen_connect) code get_fast_open(int fd, bool *on);
IMPORT(sock_set_tcp_keep_idle) code set_keep_idle(int fd, uint32_t seconds);
IMPORT(sock_get_tcp_keep_idle) code get_keep_idle(int fd, uint32_t *seconds);
IMPORT(sock_set_tcp_keep_intvl) code set_keep_interval(int fd, uint32_t seconds);
IMPORT(sock_get_tcp_keep_intvl) code get_keep_interval(int fd, uint32_t *seconds);
IMPORT(sock_set_ip_ttl) code set_ttl(int fd, uint8_t hops);
IMPORT(sock_get_ip_ttl) code get_ttl(int fd, uint8_t *hops);

static int result(code error)
{
    if (error == 0)
        return 0;
    errno = (int)error;
    return -1;
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static code to_host(const struct sockaddr *address, socklen_t length, struct host_address *host)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)address;
    if (address == NULL || length < sizeof *in)
        return EINVAL;
    if (in->sin_family != AF_INET)
        return EAFNOSUPPORT;
    memset(host, 0, sizeof *host);
    host->kind = KIND_IPV4;
    memcpy(host->ipv4, &in->sin_addr, 4);
    host->port = ntohs(in->sin_port);
    return 0;
}

static int from_host(const struct host_address *host, struct sockaddr *address, socklen_t *length)
{
    struct sockaddr_in in;
    if (host->kind != KIND_IPV4)
        return fail(EAFNOSUPPORT);
    memset(&in, 0, sizeof in);
    in.sin_family = AF_INET;
    in.sin_port = htons(host->port);
    memcpy(&in.sin_addr, host->ipv4, 4);
    if (address != NULL && length != NULL) {
        memcpy(address, &in, *length < sizeof in ? *length : sizeof in);
        *length = sizeof in;
    }
    return 0;
}

int socket(int domain, int type, int protocol)
{
    int fd = -1;
    int stream = type == SOCK_STREAM;
    if (domain != AF_INET)
        return fail(EAFNOSUPPORT);
    if (!stream && type != SOCK_DGRAM)
        return fail(EPROTOTYPE);
    if (protocol != 0 && protocol != (stream ? IPPROTO_TCP : IPPROTO_UDP))
        return fail(EPROTONOSUPPORT);
    if (result(host_open(-1, FAMILY_IPV4, stream ? TYPE_STREAM : TYPE_DATAGRAM, &fd)) != 0)
        return -1;
    return fd;
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    struct host_address host;
    code error = to_host(address, length, &host);
    return result(error != 0 ? error : host_bind(fd, &host));
}

int listen(int fd, int backlog)
{
    return result(host_listen(fd, backlog < 0 ? 0 : (uint32_t)backlog));
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
    struct host_address host;
    code error = to_host(address, length, &host);
    return result(error != 0 ? error : host_connect(fd, &host));
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    struct host_address host;
    struct host_buffer buffer = {(void *)data, size};
    uint32_t sent = 0;
    code error;
    if (to == NULL)
        return send(fd, data, size, flags);
    error = to_host(to, length, &host);
    if (result(error != 0 ? error : host_send_to(fd, &buffer, 1, (uint32_t)flags, &host, &sent)) != 0)
        return -1;
    return (ssize_t)sent;
}

ssize_t recvfrom(int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
    struct host_address host;
    struct host_buffer buffer = {data, size};
    uint32_t received = 0;
    memset(&host, 0, sizeof host);
    if (result(host_receive_from(fd, &buffer, 1, (uint32_t)flags, &host, &received)) != 0)
        return -1;
    if (from != NULL && from_host(&host, from, length) != 0)
        return -1;
    return (ssize_t)received;
}

int getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
    struct host_address host;
    return result(host_local(fd, &host)) != 0 ? -1 : from_host(&host, address, length);
}

int getpeername(int fd, struct sockaddr *address, socklen_t *length)
{
    struct host_address host;
    return result(host_remote(fd, &host)) != 0 ? -1 : from_host(&host, address, length);
}

static int set_int(int fd, int level, int name, int value)
{
    if (level == SOL_SOCKET) {
        switch (name) {
        case SO_REUSEADDR: return result(set_reuse_addr(fd, value != 0));
        case SO_REUSEPORT: return result(set_reuse_port(fd, value != 0));
        case SO_BROADCAST: return result(set_broadcast(fd, value != 0));
        case SO_KEEPALIVE: return result(set_keep_alive(fd, value != 0));
        case SO_SNDBUF: return value < 0 ? fail(EINVAL) : result(set_send_size(fd, (size_t)value));
        case SO_RCVBUF: return value < 0 ? fail(EINVAL) : result(set_receive_size(fd, (size_t)value));
        }
    } else if (level == IPPROTO_TCP) {
        switch (name) {
        case TCP_NODELAY: return result(set_no_delay(fd, value != 0));
        case TCP_QUICKACK: return result(set_quick_ack(fd, value != 0));
        case TCP_FASTOPEN_CONNECT: return result(set_fast_open(fd, value != 0));
        case TCP_KEEPIDLE: return value < 0 ? fail(EINVAL) : result(set_keep_idle(fd, (uint32_t)value));
        case TCP_KEEPINTVL: return value < 0 ? fail(EINVAL) : result(set_keep_interval(fd, (uint32_t)value));
        }
    } else if (level == IPPROTO_IP && name == IP_TTL) {
        return value < 0 || value > 255 ? fail(EINVAL) : result(set_ttl(fd, (uint8_t)value));
    }
    return fail(ENOPROTOOPT);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    if (value == NULL)
        return fail(EFAULT);
    if (level == SOL_SOCKET && name == SO_LINGER) {
        const struct linger *linger = value;
        return length < sizeof *linger ? fail(EINVAL) : result(set_linger(fd, linger->l_onoff != 0, linger->l_linger));
    }
    if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
        const struct timeval *time = value;
        uint64_t microseconds;
        if (length < sizeof *time || time->tv_sec < 0 || time->tv_usec < 0)
            return fail(EINVAL);
        microseconds = (uint64_t)time->tv_sec * 1000000u + (uint64_t)time->tv_usec;
        return result(name == SO_RCVTIMEO ? set_receive_timeout(fd, microseconds) : set_send_timeout(fd, microseconds));
    }
    return length < sizeof(int) ? fail(EINVAL) : set_int(fd, level, name, *(const int *)value);
}

static code get_int(int fd, int level, int name, int *value)
{
    bool on = false;
    size_t size = 0;
    uint32_t seconds = 0;
    uint8_t hops = 0;
    __wasi_fdstat_t stat;
    code error = ENOPROTOOPT;
    if (level == SOL_SOCKET) {
        switch (name) {
        case SO_TYPE:
            error = __wasi_fd_fdstat_get(fd, &stat);
            *value = stat.fs_filetype;
            return error;
        case SO_REUSEADDR: error = get_reuse_addr(fd, &on); break;
        case SO_REUSEPORT: error = get_reuse_port(fd, &on); break;
        case SO_BROADCAST: error = get_broadcast(fd, &on); break;
        case SO_KEEPALIVE: error = get_keep_alive(fd, &on); break;
        case SO_SNDBUF: error = get_send_size(fd, &size); break;
        case SO_RCVBUF: error = get_receive_size(fd, &size); break;
        }
    } else if (level == IPPROTO_TCP) {
        switch (name) {
        case TCP_NODELAY: error = get_no_delay(fd, &on); break;
        case TCP_QUICKACK: error = get_quick_ack(fd, &on); break;
        case TCP_FASTOPEN_CONNECT: error = get_fast_open(fd, &on); break;
        case TCP_KEEPIDLE: error = get_keep_idle(fd, &seconds); break;
        case TCP_KEEPINTVL: error = get_keep_interval(fd, &seconds); break;
        }
    } else if (level == IPPROTO_IP && name == IP_TTL) {
        error = get_ttl(fd, &hops);
    }
    *value = on ? 1 : (int)(size + seconds + hops);
    return error;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    bool on = false;
    if (value == NULL || length == NULL)
        return fail(EFAULT);
    if (level == SOL_SOCKET && name == SO_LINGER) {
        struct linger *linger = value;
        if (*length < sizeof *linger)
            return fail(EINVAL);
        *length = sizeof *linger;
        if (result(get_linger(fd, &on, &linger->l_linger)) != 0)
            return -1;
        linger->l_onoff = on;
        return 0;
    }
    if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
        struct timeval *time = value;
        uint64_t microseconds = 0;
        if (*length < sizeof *time)
            return fail(EINVAL);
        *length = sizeof *time;
        if (result(name == SO_RCVTIMEO ? get_receive_timeout(fd, &microseconds) : get_send_timeout(fd, &microseconds)) != 0)
            return -1;
        time->tv_sec = (time_t)(microseconds / 1000000u);
        time->tv_usec = (suseconds_t)(microseconds % 1000000u);
        return 0;
    }
    if (*length < sizeof(int))
        return fail(EINVAL);
    *length = sizeof(int);
    return result(get_int(fd, level, name, value));
}

int kedge_address(struct sockaddr_in *address, const char *text, unsigned port)
{
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_port = htons((uint16_t)port);
    if (port > 65535 || inet_pton(AF_INET, text, &address->sin_addr) != 1)
        return fail(EINVAL);
    return 0;
}

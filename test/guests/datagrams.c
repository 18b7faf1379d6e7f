/*
 * datagrams PORT: serves UDP at PORT, and over sockets of its own that it is told to make. Answers each datagram with a line that says
 * which of its sockets had it (0 serves), from whom, and how long it was, and then repeats it:
 *
 *   <socket> <address>:<port> <bytes> <datagram>
 *
 * but for these, which come to socket 0 from whoever commands it:
 *
 *   CONNECT <address> <port> <text>   makes a socket with that peer and sends it the text; answers "<socket> <its own port>"
 *   SAY <socket> <text>               sends the text to the peer of that socket
 *   SEND <bytes> <address> <port>     sends so many bytes there; answers what sendto returned, or its errno
 *   SLEEP                             says "asleep" and looks at no socket before "wake" comes to socket 0's PORT + 1
 *   SET, OPTIONS                      sets options of socket 0 to what they are not by default; answers what they are
 */
#include "kedge_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 16

static char data[65536], answer[66000];
static struct pollfd sockets[MOST];
static int count;
static int alarm_fd;

static int bound(unsigned port)
{
    struct sockaddr_in address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || kedge_address(&address, "0.0.0.0", port) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror("datagrams");
        exit(1);
    }
    return fd;
}

static void add(int fd)
{
    sockets[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static int option(int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    if (getsockopt(sockets[0].fd, level, name, &value, &size) != 0)
        return -errno;
    return value;
}

static size_t options(void)
{
    struct timeval patience = {0};
    socklen_t size = sizeof patience;
    getsockopt(sockets[0].fd, SOL_SOCKET, SO_RCVTIMEO, &patience, &size);
    return (size_t)sprintf(answer, "ttl %d, broadcast %d, rcvbuf %d, sndbuf %d, rcvtimeo %ld ms", option(IPPROTO_IP, IP_TTL),
                           option(SOL_SOCKET, SO_BROADCAST), option(SOL_SOCKET, SO_RCVBUF), option(SOL_SOCKET, SO_SNDBUF),
                           (long)(patience.tv_sec * 1000 + patience.tv_usec / 1000));
}

static void set(void)
{
    int ttl = 33, on = 1, room = 100000, less = 50000;
    struct timeval patience = {.tv_sec = 77};
    int fd = sockets[0].fd;
    setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &less, sizeof less);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

static size_t open_to(const char *to, unsigned port, const char *text)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (count == MOST || kedge_address(&address, to, port) != 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0 || send(fd, text, strlen(text), 0) < 0)
        return (size_t)sprintf(answer, "failed: %s", strerror(errno));
    add(fd);
    getsockname(fd, (struct sockaddr *)&address, &size);
    return (size_t)sprintf(answer, "%d %u", count - 1, ntohs(address.sin_port));
}

static size_t send_to(size_t size, const char *to, unsigned port)
{
    struct sockaddr_in address;
    kedge_address(&address, to, port);
    memset(data, 'x', size < sizeof data ? size : sizeof data);
    ssize_t sent = sendto(sockets[0].fd, data, size, 0, (struct sockaddr *)&address, sizeof address);
    if (sent < 0)
        return (size_t)sprintf(answer, "failed: %s", strerror(errno));
    return (size_t)sprintf(answer, "%zd", sent);
}

/* The answer to what came to a socket; its length. */
static size_t answer_to(int which, size_t size, const struct sockaddr_in *from)
{
    char to[32], text[200] = "";
    unsigned port, bytes;
    int other;
    data[size < sizeof data ? size : sizeof data - 1] = '\0';
    if (which == 0 && sscanf(data, "CONNECT %31s %u %199[^\n]", to, &port, text) >= 2)
        return open_to(to, port, text);
    if (which == 0 && sscanf(data, "SAY %d %199[^\n]", &other, text) >= 1 && other < count) {
        ssize_t sent = send(sockets[other].fd, text, strlen(text), 0);
        return (size_t)sprintf(answer, "%zd %s", sent, sent < 0 ? strerror(errno) : "");
    }
    if (which == 0 && sscanf(data, "SEND %u %31s %u", &bytes, to, &port) == 3)
        return send_to(bytes, to, port);
    if (which == 0 && strcmp(data, "SLEEP") == 0) {
        printf("asleep\n"), fflush(stdout);
        recv(alarm_fd, data, sizeof data, 0);
        return (size_t)sprintf(answer, "awake");
    }
    if (which == 0 && strcmp(data, "SET") == 0)
        set();
    if (which == 0 && (strcmp(data, "SET") == 0 || strcmp(data, "OPTIONS") == 0))
        return options();
    inet_ntop(AF_INET, &from->sin_addr, to, sizeof to);
    int head = sprintf(answer, "%d %s:%u %zu ", which, to, ntohs(from->sin_port), size);
    memcpy(answer + head, data, size);
    return (size_t)head + size;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    add(bound((unsigned)atoi(argv[1])));
    alarm_fd = bound((unsigned)atoi(argv[1]) + 1);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        if (poll(sockets, (nfds_t)count, -1) < 0) {
            perror("poll");
            return 1;
        }
        for (int which = 0; which < count; which++) {
            struct sockaddr_in from;
            socklen_t size = sizeof from;
            if (sockets[which].revents == 0)
                continue;
            ssize_t got = recvfrom(sockets[which].fd, data, sizeof data, 0, (struct sockaddr *)&from, &size);
            if (got < 0) {
                printf("socket %d: %s\n", which, strerror(errno)), fflush(stdout);
                continue;
            }
            size_t length = answer_to(which, (size_t)got, &from);
            if (length > 1400)
                length = 1400;
            sendto(sockets[which].fd, answer, length, 0, (struct sockaddr *)&from, size);
        }
    }
}

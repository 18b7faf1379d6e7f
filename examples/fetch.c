/*
 * fetch MODE ADDRESS PORT [ARGUMENTS]: a client; connects out, and says on standard output what came.
 *
 *   http ADDRESS PORT PATH         GET over HTTP/1.1, body to the end
 *   get ADDRESS PORT BYTES SEED    "GET" of the stream protocol (stream.c), every byte checked
 *   put ADDRESS PORT BYTES SEED    "PUT": sends the stream, checks the answer
 *   both ADDRESS PORT BYTES SEED   "BOTH": both directions at once
 *   send ADDRESS PORT BYTES SEED   sends the bare stream, half-closes, reads to the end
 *   raw ADDRESS PORT               sends nothing, reads to the end
 *   idle ADDRESS PORT              says "idle", then answers each line that comes with "idle <n>", until the end
 *
 * After the address, --pause MS waits between any two receives. The last line is "bytes <n> sha256 <hex>", of what was
 * received (http: of the body). Exit code 0 when all was right, 1 when not.
 */
#include "kedge_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pattern.h"
#include "sha256.h"

enum { CHUNK = 65536 };

static uint8_t in[CHUNK], out[CHUNK];
static struct sha256 hash;
static uint64_t received;
static unsigned pause_ms;

static void quit(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("fetch: failed: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    exit(1);
}

static void report(void)
{
    char digest[65];
    sha256_hex(&hash, digest);
    printf("bytes %" PRIu64 " sha256 %s\n", received, digest);
}

static void keep(const uint8_t *data, size_t size)
{
    sha256_update(&hash, data, size);
    received += size;
}

static void send_all(int fd, const void *data, size_t size)
{
    const uint8_t *from = data;
    while (size > 0) {
        ssize_t sent = send(fd, from, size, 0);
        if (sent < 0)
            quit("send: %s", strerror(errno));
        from += sent;
        size -= (size_t)sent;
    }
}

/* At most `limit` bytes; 0 at the end. */
static size_t receive(int fd, size_t limit)
{
    if (pause_ms > 0)
        usleep(pause_ms * 1000);
    ssize_t size = recv(fd, in, limit < CHUNK ? limit : CHUNK, 0);
    if (size < 0)
        quit("receive after %" PRIu64 " bytes: %s", received, strerror(errno));
    return (size_t)size;
}

static void check(const uint8_t *data, size_t size, uint32_t seed)
{
    size_t good = pattern_match(data, size, seed, received);
    if (good < size)
        quit("wrong byte at %" PRIu64, received + good);
    keep(data, size);
}

static void http(int fd, const char *host, const char *path)
{
    static char head[CHUNK];
    size_t head_size = 0;
    uint64_t length = UINT64_MAX;
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nUser-Agent: kedge-fetch\r\n\r\n", path, host);
    send_all(fd, head, strlen(head));
    for (char *end = NULL; end == NULL;) {
        size_t size = receive(fd, sizeof head - 1 - head_size);
        if (size == 0)
            quit("no HTTP response");
        memcpy(head + head_size, in, size);
        head_size += size;
        head[head_size] = '\0';
        end = strstr(head, "\r\n\r\n");
        if (end != NULL) {
            size_t body = head_size - (size_t)(end + 4 - head);
            keep((uint8_t *)end + 4, body);
            *end = '\0';
        }
    }
    printf("%.*s\n", (int)strcspn(head, "\r\n"), head);
    for (const char *line = head; (line = strchr(line, '\n')) != NULL;)
        if (strncasecmp(++line, "content-length:", 15) == 0)
            length = strtoull(line + 15, NULL, 10);
    if (strncmp(head, "HTTP/1.", 7) != 0 || strncmp(head + 8, " 200", 4) != 0)
        quit("the server did not say 200");
    while (received < length) {
        size_t size = receive(fd, length - received < CHUNK ? (size_t)(length - received) : CHUNK);
        if (size == 0)
            break;
        keep(in, size);
    }
    if (length != UINT64_MAX && received != length)
        quit("%" PRIu64 " of %" PRIu64 " bytes", received, length);
}

static void request(int fd, const char *verb, uint64_t bytes, uint32_t seed)
{
    char line[128];
    snprintf(line, sizeof line, "%s %" PRIu64 " %" PRIu32 "\n", verb, bytes, seed);
    send_all(fd, line, strlen(line));
}

static void send_pattern(int fd, uint64_t bytes, uint32_t seed)
{
    for (uint64_t done = 0; done < bytes;) {
        size_t size = bytes - done < CHUNK ? (size_t)(bytes - done) : CHUNK;
        pattern_fill(out, size, seed, done);
        send_all(fd, out, size);
        done += size;
    }
}

static void to_the_end(int fd)
{
    for (size_t size; (size = receive(fd, CHUNK)) > 0;)
        keep(in, size);
}

/* Reads the answer line of PUT and BOTH and compares it with what was sent. */
static void expect_answer(int fd, uint64_t bytes, uint32_t seed)
{
    char line[256], expected[256], digest[65];
    size_t size = 0;
    struct sha256 sent;
    while (size == 0 || line[size - 1] != '\n') {
        size_t part = receive(fd, sizeof line - 1 - size);
        if (part == 0)
            quit("no answer");
        memcpy(line + size, in, part);
        size += part;
    }
    line[size - 1] = '\0';
    sha256_init(&sent);
    for (uint64_t done = 0; done < bytes;) {
        size_t part = bytes - done < CHUNK ? (size_t)(bytes - done) : CHUNK;
        pattern_fill(out, part, seed, done);
        sha256_update(&sent, out, part);
        done += part;
    }
    sha256_hex(&sent, digest);
    snprintf(expected, sizeof expected, "OK %" PRIu64 " %s", bytes, digest);
    printf("%s\n", line);
    if (strcmp(line, expected) != 0)
        quit("the answer should be: %s", expected);
}

static void both(int fd, uint64_t bytes, uint32_t seed)
{
    uint64_t sent = 0;
    size_t from = 0, to = 0;
    request(fd, "BOTH", bytes, seed);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        quit("fcntl: %s", strerror(errno));
    while (received < bytes || sent < bytes || from < to) {
        struct pollfd set = {.fd = fd, .events = (short)((received < bytes ? POLLIN : 0) | (sent < bytes || from < to ? POLLOUT : 0))};
        if (poll(&set, 1, -1) < 0)
            quit("poll: %s", strerror(errno));
        if (received < bytes && (set.revents & ~POLLOUT) != 0) {
            size_t limit = bytes - received < CHUNK ? (size_t)(bytes - received) : CHUNK;
            ssize_t size = recv(fd, in, limit, 0);
            if (size == 0 || (size < 0 && errno != EAGAIN))
                quit("receive after %" PRIu64 " bytes: %s", received, size == 0 ? "end" : strerror(errno));
            if (size > 0)
                check(in, (size_t)size, seed);
        }
        if (from == to && sent < bytes) {
            to = bytes - sent < CHUNK ? (size_t)(bytes - sent) : CHUNK;
            from = 0;
            pattern_fill(out, to, seed + 1, sent);
            sent += to;
        }
        if (from < to) {
            ssize_t size = send(fd, out + from, to - from, 0);
            if (size < 0 && errno != EAGAIN)
                quit("send: %s", strerror(errno));
            from += size > 0 ? (size_t)size : 0;
        }
    }
    if (fcntl(fd, F_SETFL, 0) != 0)
        quit("fcntl: %s", strerror(errno));
    expect_answer(fd, bytes, seed + 1);
}

static void idle(int fd)
{
    unsigned long lines = 0;
    send_all(fd, "idle\n", 5);
    for (size_t size; (size = receive(fd, CHUNK)) > 0;) {
        keep(in, size);
        for (size_t i = 0; i < size; i++) {
            if (in[i] == '\n') {
                char text[64];
                snprintf(text, sizeof text, "idle %lu\n", ++lines);
                printf("%s", text);
                fflush(stdout);
                send_all(fd, text, strlen(text));
            }
        }
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: fetch http ADDRESS PORT [--pause MS] PATH\n"
                    "       fetch get|put|both|send ADDRESS PORT [--pause MS] BYTES SEED\n"
                    "       fetch raw|idle ADDRESS PORT [--pause MS]\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    int next = 4;
    if (argc < 4 || kedge_address(&address, argv[2], (unsigned)atoi(argv[3])) != 0)
        return usage();
    if (argc > 5 && strcmp(argv[4], "--pause") == 0) {
        pause_ms = (unsigned)atoi(argv[5]);
        next = 6;
    }
    const char *mode = argv[1];
    int left = argc - next;
    int streams = strcmp(mode, "get") == 0 || strcmp(mode, "put") == 0 || strcmp(mode, "both") == 0 || strcmp(mode, "send") == 0;
    int bare = strcmp(mode, "raw") == 0 || strcmp(mode, "idle") == 0;
    if (!(streams && left == 2) && !(bare && left == 0) && !(strcmp(mode, "http") == 0 && left == 1))
        return usage();
    uint64_t bytes = streams ? strtoull(argv[next], NULL, 10) : 0;
    uint32_t seed = streams ? (uint32_t)strtoul(argv[next + 1], NULL, 10) : 0;

    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        quit("connect: %s", strerror(errno));
    printf("fetch: connected\n");
    fflush(stdout);
    sha256_init(&hash);
    if (strcmp(mode, "http") == 0) {
        http(fd, argv[2], argv[next]);
    } else if (strcmp(mode, "get") == 0) {
        request(fd, "GET", bytes, seed);
        for (size_t size; (size = receive(fd, CHUNK)) > 0;)
            check(in, size, seed);
        if (received != bytes)
            quit("%" PRIu64 " of %" PRIu64 " bytes", received, bytes);
    } else if (strcmp(mode, "put") == 0) {
        request(fd, "PUT", bytes, seed);
        send_pattern(fd, bytes, seed);
        expect_answer(fd, bytes, seed);
    } else if (strcmp(mode, "both") == 0) {
        both(fd, bytes, seed);
    } else if (strcmp(mode, "send") == 0) {
        send_pattern(fd, bytes, seed);
        if (shutdown(fd, SHUT_WR) != 0)
            quit("shutdown: %s", strerror(errno));
        to_the_end(fd);
    } else if (strcmp(mode, "raw") == 0) {
        to_the_end(fd);
    } else {
        idle(fd);
    }
    close(fd);
    report();
    return 0;
}

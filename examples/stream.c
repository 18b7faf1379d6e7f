/*
 * stream [PORT] [--burn N]: serves and checks the deterministic byte stream (pattern.h, README.md), many connections at
 * once, each with requests of its own. --burn N runs N rounds of arithmetic between any two waits.
 *
 *   GET <bytes> <seed>\n     sends that many bytes, then closes
 *   PUT <bytes> <seed>\n     takes that many bytes, answers "OK <bytes> <sha256>\n" or "BAD <position>\n"; then the next request
 *   SINK <bytes>\n           takes that many bytes unseen, answers "OK <bytes>\n"; then the next request
 *   BOTH <bytes> <seed>\n    sends the stream and takes the one of seed + 1 at the same time, then answers as PUT and closes
 *   ECHO\n                   sends back what comes until the end, then closes
 *   GET /stream/<bytes>/<seed> HTTP/1.x    the same bytes as a response, then closes
 *
 * Any other line is answered with "ERROR\n" and the end of the connection.
 */
#include "kedge_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pattern.h"
#include "sha256.h"

enum { REQUEST = 4096, CHUNK = 65536 };

struct connection {
    int fd;
    char request[REQUEST]; /* bytes of a request that is not complete yet */
    size_t request_size;
    int http;              /* reading the headers of an HTTP request */
    int echo, echo_end;
    int checked;           /* what comes is compared with the stream and hashed */
    int answer_due;        /* an answer follows when all has come */
    int close_after;       /* close when all has been sent */
    int dead;
    uint64_t out_left, out_position, in_left, in_position, in_total, bad;
    uint32_t out_seed, in_seed;
    struct sha256 hash;
    uint8_t *out; /* CHUNK bytes that are ready to be sent */
    size_t out_from, out_to;
};

static struct connection **connections;
static size_t count;
static volatile uint32_t burnt = 1;

static void put_text(struct connection *c, const char *text)
{
    size_t size = strlen(text);
    if (c->out_from == c->out_to)
        c->out_from = c->out_to = 0;
    if (CHUNK - c->out_to < size) {
        c->dead = 1;
        return;
    }
    memcpy(c->out + c->out_to, text, size);
    c->out_to += size;
}

static void begin_out(struct connection *c, uint64_t bytes, uint32_t seed)
{
    c->out_left = bytes;
    c->out_seed = seed;
    c->out_position = 0;
}

static void begin_in(struct connection *c, uint64_t bytes, uint32_t seed, int checked)
{
    c->in_left = c->in_total = bytes;
    c->in_seed = seed;
    c->in_position = 0;
    c->checked = checked;
    c->bad = UINT64_MAX;
    c->answer_due = 1;
    sha256_init(&c->hash);
}

static void finish_in(struct connection *c)
{
    char text[128], digest[65];
    c->answer_due = 0;
    if (c->bad != UINT64_MAX) {
        snprintf(text, sizeof text, "BAD %" PRIu64 "\n", c->bad);
    } else if (c->checked) {
        sha256_hex(&c->hash, digest);
        snprintf(text, sizeof text, "OK %" PRIu64 " %s\n", c->in_total, digest);
    } else {
        snprintf(text, sizeof text, "OK %" PRIu64 "\n", c->in_total);
    }
    put_text(c, text);
}

static void take(struct connection *c, const uint8_t *data, size_t size)
{
    if (c->checked) {
        size_t good = c->bad == UINT64_MAX ? pattern_match(data, size, c->in_seed, c->in_position) : size;
        if (good < size)
            c->bad = c->in_position + good;
        sha256_update(&c->hash, data, size);
    }
    c->in_position += size;
    c->in_left -= size;
}

static void refuse(struct connection *c)
{
    put_text(c, "ERROR\n");
    c->close_after = 1;
}

static void respond(struct connection *c)
{
    char text[256];
    uint64_t bytes;
    uint32_t seed;
    if (sscanf(c->request, "GET /stream/%" SCNu64 "/%" SCNu32, &bytes, &seed) == 2) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %" PRIu64 "\r\nConnection: close\r\n\r\n",
                 bytes);
        put_text(c, text);
        begin_out(c, bytes, seed);
    } else {
        put_text(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    c->close_after = 1;
}

/* A whole line, without its end. */
static void serve(struct connection *c, const char *line)
{
    uint64_t bytes;
    uint32_t seed;
    char extra;
    if (sscanf(line, "GET %" SCNu64 " %" SCNu32 "%c", &bytes, &seed, &extra) == 2) {
        begin_out(c, bytes, seed);
        c->close_after = 1;
    } else if (sscanf(line, "PUT %" SCNu64 " %" SCNu32 "%c", &bytes, &seed, &extra) == 2) {
        begin_in(c, bytes, seed, 1);
    } else if (sscanf(line, "SINK %" SCNu64 "%c", &bytes, &extra) == 1) {
        begin_in(c, bytes, 0, 0);
    } else if (sscanf(line, "BOTH %" SCNu64 " %" SCNu32 "%c", &bytes, &seed, &extra) == 2) {
        begin_out(c, bytes, seed);
        begin_in(c, bytes, seed + 1, 1);
        c->close_after = 1;
    } else if (strcmp(line, "ECHO") == 0) {
        c->echo = 1;
    } else {
        refuse(c);
    }
}

static int taking_requests(const struct connection *c)
{
    return !c->echo && !c->close_after && c->in_left == 0 && !c->answer_due;
}

/* Consumes bytes of a request; returns how many. */
static size_t take_request(struct connection *c, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (c->request_size >= REQUEST - 1) {
            refuse(c);
            return size;
        }
        c->request[c->request_size++] = (char)data[i];
        if (data[i] != '\n')
            continue;
        c->request[c->request_size] = '\0';
        if (strstr(c->request, " HTTP/1.") != NULL) {
            if (strstr(c->request, "\r\n\r\n") == NULL && strstr(c->request, "\n\n") == NULL)
                continue;
            respond(c);
        } else {
            c->request[strcspn(c->request, "\r\n")] = '\0';
            serve(c, c->request);
        }
        c->request_size = 0;
        return i + 1;
    }
    return size;
}

static void consume(struct connection *c, const uint8_t *data, size_t size)
{
    while (size > 0 && !c->dead) {
        size_t part = size;
        if (c->in_left > 0) {
            part = size < c->in_left ? size : (size_t)c->in_left;
            take(c, data, part);
        } else if (taking_requests(c)) {
            part = take_request(c, data, size);
        } else if (c->echo) {
            /* What came along with the request is the first of what is sent back. */
            memcpy(c->out, data, size);
            c->out_from = 0;
            c->out_to = size;
        } /* else: more than was asked for; ignored */
        if (c->answer_due && c->in_left == 0 && c->out_left == 0)
            finish_in(c);
        data += part;
        size -= part;
    }
}

static int wants_in(const struct connection *c)
{
    if (c->echo)
        return !c->echo_end && c->out_from == c->out_to;
    return c->in_left > 0 || taking_requests(c);
}

static void receive(struct connection *c)
{
    static uint8_t data[CHUNK];
    ssize_t size = recv(c->fd, data, sizeof data, 0);
    if (size < 0) {
        c->dead |= errno != EAGAIN;
    } else if (size == 0) {
        /* The peer may still want what we send. */
        if (c->in_left > 0)
            c->dead = 1;
        c->echo_end = c->close_after = 1;
    } else if (c->echo) {
        memcpy(c->out, data, (size_t)size);
        c->out_from = 0;
        c->out_to = (size_t)size;
    } else {
        consume(c, data, (size_t)size);
    }
}

static void refill(struct connection *c)
{
    if (c->out_from < c->out_to || c->out_left == 0)
        return;
    c->out_from = 0;
    c->out_to = c->out_left < CHUNK ? (size_t)c->out_left : CHUNK;
    pattern_fill(c->out, c->out_to, c->out_seed, c->out_position);
    c->out_position += c->out_to;
    c->out_left -= c->out_to;
    /* The answer of BOTH comes after the stream. */
}

static void transmit(struct connection *c)
{
    refill(c);
    if (c->out_from < c->out_to) {
        ssize_t sent = send(c->fd, c->out + c->out_from, c->out_to - c->out_from, 0);
        if (sent >= 0)
            c->out_from += (size_t)sent;
        else
            c->dead |= errno != EAGAIN;
    }
    if (c->out_from == c->out_to && c->answer_due && c->in_left == 0 && c->out_left == 0)
        finish_in(c);
}

static int finished(const struct connection *c)
{
    int sent = c->out_left == 0 && c->out_from == c->out_to && !c->answer_due;
    return c->dead || (sent && c->close_after);
}

static void welcome(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return;
    struct connection *c = calloc(1, sizeof *c);
    struct connection **more = realloc(connections, (count + 1) * sizeof *more);
    if (c == NULL || more == NULL || (c->out = malloc(CHUNK)) == NULL || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        exit(70);
    connections = more;
    connections[count++] = c;
    c->fd = fd;
}

static void burn(unsigned long rounds)
{
    uint32_t x = burnt;
    for (unsigned long i = 0; i < rounds; i++)
        x = x * 1664525u + 1013904223u;
    burnt = x;
}

static int serve_for_ever(int listener, unsigned long rounds)
{
    struct pollfd *set = NULL;
    for (;;) {
        struct pollfd *larger = realloc(set, (count + 1) * sizeof *set);
        if (larger == NULL)
            return 70;
        set = larger;
        set[0] = (struct pollfd){.fd = listener, .events = POLLIN};
        for (size_t i = 0; i < count; i++) {
            const struct connection *c = connections[i];
            int sends = c->out_left > 0 || c->out_from < c->out_to;
            set[i + 1] = (struct pollfd){.fd = c->fd, .events = (short)((wants_in(c) ? POLLIN : 0) | (sends ? POLLOUT : 0))};
        }
        if (poll(set, count + 1, -1) < 0) {
            perror("stream: poll");
            return 1;
        }
        burn(rounds);
        size_t known = count;
        for (size_t i = 0; i < known; i++) {
            struct connection *c = connections[i];
            if ((set[i + 1].revents & ~POLLOUT) != 0 && wants_in(c))
                receive(c);
            else if ((set[i + 1].revents & (POLLERR | POLLNVAL)) != 0)
                c->dead = 1;
            if (!c->dead)
                transmit(c);
        }
        if (set[0].revents != 0)
            welcome(listener);
        for (size_t i = 0; i < count;) {
            struct connection *c = connections[i];
            if (finished(c)) {
                close(c->fd);
                free(c->out);
                free(c);
                connections[i] = connections[--count];
            } else {
                i++;
            }
        }
    }
}

int main(int argc, char **argv)
{
    unsigned port = 7000;
    unsigned long rounds = 0;
    struct sockaddr_in address;
    int on = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--burn") == 0 && i + 1 < argc)
            rounds = strtoul(argv[++i], NULL, 10);
        else
            port = (unsigned)atoi(argv[i]);
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (kedge_address(&address, "0.0.0.0", port) != 0 || listener < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0) {
        perror("stream");
        return 1;
    }
    printf("stream: listening on port %u\n", port);
    fflush(stdout);
    return serve_for_ever(listener, rounds);
}

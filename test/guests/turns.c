/*
 * turns PORT: serves one connection after the other, and every call blocks: accept, recv, send. Takes requests in lines:
 *
 *   SEND <bytes> <seed>   sends that much of the stream (examples/README.md), closes at once, and says "closed"
 *   QUIT <bytes> <seed>   sends that much and ends the program with the connection open
 *   WORK <rounds>         says "working", computes without any call, says "worked", answers "<result>\n"
 */
#include "kedge_socket.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pattern.h"

static uint8_t chunk[65536];

static void say(const char *text)
{
    printf("%s\n", text);
    fflush(stdout);
}

static int send_all(int fd, const void *data, size_t size)
{
    for (const uint8_t *from = data; size > 0;) {
        ssize_t sent = send(fd, from, size, 0);
        if (sent < 0) {
            perror("send");
            return -1;
        }
        from += sent;
        size -= (size_t)sent;
    }
    return 0;
}

static void send_stream(int fd, uint64_t bytes, uint32_t seed)
{
    for (uint64_t done = 0; done < bytes;) {
        size_t size = bytes - done < sizeof chunk ? (size_t)(bytes - done) : sizeof chunk;
        pattern_fill(chunk, size, seed, done);
        if (send_all(fd, chunk, size) != 0)
            return;
        done += size;
    }
}

/* xorshift64*, as in examples/compute.c. */
__attribute__((noinline)) static uint64_t work(uint64_t rounds)
{
    uint64_t state = 88172645463325252u;
    for (uint64_t i = 0; i < rounds; i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state *= UINT64_C(2685821657736338717);
    }
    return state;
}

/* A line without its end; 0 at the end of the connection. */
static int read_line(int fd, char *line, size_t room)
{
    for (size_t size = 0; size + 1 < room; size++) {
        if (recv(fd, line + size, 1, 0) != 1)
            return 0;
        if (line[size] == '\n') {
            line[size] = '\0';
            return 1;
        }
    }
    return 0;
}

static void serve(int fd)
{
    char line[128], answer[64];
    uint64_t bytes;
    uint32_t seed;
    while (read_line(fd, line, sizeof line)) {
        if (sscanf(line, "SEND %" SCNu64 " %" SCNu32, &bytes, &seed) == 2) {
            send_stream(fd, bytes, seed);
            break;
        }
        if (sscanf(line, "QUIT %" SCNu64 " %" SCNu32, &bytes, &seed) == 2) {
            send_stream(fd, bytes, seed);
            exit(0);
        }
        if (sscanf(line, "WORK %" SCNu64, &bytes) == 1) {
            say("working");
            snprintf(answer, sizeof answer, "%016" PRIx64 "\n", work(bytes));
            say("worked");
            send_all(fd, answer, strlen(answer));
        }
    }
    close(fd);
    say("closed");
}

int main(int argc, char **argv)
{
    struct sockaddr_in address;
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc < 2 || kedge_address(&address, "0.0.0.0", (unsigned)atoi(argv[1])) != 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0) {
        perror("turns");
        return 1;
    }
    say("listening");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            perror("accept");
            return 1;
        }
        say("accepted");
        serve(fd);
    }
}

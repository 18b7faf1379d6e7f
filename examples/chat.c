/*
 * chat [PORT]: a line chat bot for many people at once.
 *
 * It asks for a name, and remembers everybody by it: how many lines they said, and the last ones, also when they leave
 * and come back. Its answers depend on nothing else, so a conversation is the same wherever it goes on.
 *
 *   my name is X    introduces you (the first line is taken for a name anyway)
 *   recall          what you said last
 *   who             everybody it knows, and how many lines they said
 *   bye             ends the conversation
 */
#include "kedge_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { LINE = 1024, REMEMBERED = 5, NAME = 32, PENDING = 65536 };

struct person {
    char name[NAME];
    unsigned long lines;
    char last[REMEMBERED][LINE];
    struct person *next;
};

struct conversation {
    int fd;
    struct person *person;
    char in[LINE];
    size_t in_size;
    int skipping; /* the rest of a line that was too long */
    char out[PENDING];
    size_t out_size;
    int leaving;
};

static struct person *people;
static struct conversation **conversations;
static size_t count;

static struct person *meet(const char *name)
{
    struct person **at = &people;
    for (; *at != NULL; at = &(*at)->next)
        if (strcasecmp((*at)->name, name) == 0)
            return *at;
    *at = calloc(1, sizeof **at);
    if (*at == NULL)
        exit(70);
    snprintf((*at)->name, NAME, "%s", name);
    return *at;
}

static void say(struct conversation *c, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int written = vsnprintf(c->out + c->out_size, PENDING - c->out_size, format, arguments);
    va_end(arguments);
    if (written < 0 || (size_t)written >= PENDING - c->out_size)
        c->leaving = 1; /* reads nothing of what it is told */
    else
        c->out_size += (size_t)written;
}

static const char *after(const char *line, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncasecmp(line, prefix, length) == 0 ? line + length : NULL;
}

static void introduce(struct conversation *c, const char *name)
{
    c->person = meet(name);
    if (c->person->lines == 0)
        say(c, "nice to meet you, %s\n", c->person->name);
    else
        say(c, "welcome back, %s: %lu lines so far\n", c->person->name, c->person->lines);
}

static void recall(struct conversation *c)
{
    const struct person *p = c->person;
    unsigned long first = p->lines > REMEMBERED ? p->lines - REMEMBERED : 0;
    say(c, "you said %lu lines\n", p->lines);
    for (unsigned long i = first; i < p->lines; i++)
        say(c, "%lu: %s\n", i + 1, p->last[i % REMEMBERED]);
}

static void hear(struct conversation *c, const char *line)
{
    const char *name = after(line, "my name is ");
    struct person *p = c->person;
    if (name != NULL || p == NULL) {
        introduce(c, name != NULL && *name != '\0' ? name : *line != '\0' ? line : "stranger");
    } else if (strcasecmp(line, "recall") == 0) {
        recall(c);
    } else if (strcasecmp(line, "who") == 0) {
        for (const struct person *other = people; other != NULL; other = other->next)
            say(c, "%s: %lu\n", other->name, other->lines);
    } else if (strcasecmp(line, "bye") == 0) {
        say(c, "bye, %s: %lu lines\n", p->name, p->lines);
        c->leaving = 1;
    } else {
        const char *before = p->lines > 0 ? p->last[(p->lines - 1) % REMEMBERED] : NULL;
        say(c, "%s, line %lu has %zu characters", p->name, p->lines + 1, strlen(line));
        say(c, before != NULL ? "; before that you said: %s\n" : "\n", before);
        snprintf(p->last[p->lines % REMEMBERED], LINE, "%s", line);
        p->lines++;
    }
}

static void listen_to(struct conversation *c)
{
    char data[LINE];
    ssize_t size = recv(c->fd, data, sizeof data, 0);
    if (size <= 0) {
        c->leaving |= size == 0 || errno != EAGAIN;
        if (size < 0 && errno != EAGAIN)
            c->out_size = 0;
        return;
    }
    for (ssize_t i = 0; i < size && !c->leaving; i++) {
        if (data[i] == '\n') {
            c->in[c->in_size] = '\0';
            if (c->in_size > 0 && c->in[c->in_size - 1] == '\r')
                c->in[c->in_size - 1] = '\0';
            c->in_size = 0;
            c->skipping = 0;
            hear(c, c->in);
        } else if (c->in_size < LINE - 1) {
            c->in[c->in_size++] = data[i];
        }
    }
}

static void answer(struct conversation *c)
{
    ssize_t sent = send(c->fd, c->out, c->out_size, 0);
    if (sent >= 0) {
        memmove(c->out, c->out + sent, c->out_size - (size_t)sent);
        c->out_size -= (size_t)sent;
    } else if (errno != EAGAIN) {
        c->leaving = 1;
        c->out_size = 0;
    }
}

static void welcome(int listener)
{
    int fd = accept(listener, NULL, NULL);
    if (fd < 0)
        return;
    struct conversation *c = calloc(1, sizeof *c);
    struct conversation **more = realloc(conversations, (count + 1) * sizeof *more);
    if (c == NULL || more == NULL || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        exit(70);
    conversations = more;
    conversations[count++] = c;
    c->fd = fd;
    say(c, "hello, who are you?\n");
}

int main(int argc, char **argv)
{
    unsigned port = argc > 1 ? (unsigned)atoi(argv[1]) : 7001;
    struct sockaddr_in address;
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (kedge_address(&address, "0.0.0.0", port) != 0 || listener < 0 ||
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 64) != 0) {
        perror("chat");
        return 1;
    }
    printf("chat: listening on port %u\n", port);
    fflush(stdout);
    for (;;) {
        struct pollfd *set = calloc(count + 1, sizeof *set);
        if (set == NULL)
            return 70;
        set[0] = (struct pollfd){.fd = listener, .events = POLLIN};
        for (size_t i = 0; i < count; i++)
            set[i + 1] = (struct pollfd){
                .fd = conversations[i]->fd,
                .events = (short)((conversations[i]->leaving ? 0 : POLLIN) | (conversations[i]->out_size > 0 ? POLLOUT : 0))};
        if (poll(set, count + 1, -1) < 0) {
            perror("chat: poll");
            return 1;
        }
        size_t known = count;
        for (size_t i = 0; i < known; i++) {
            struct conversation *c = conversations[i];
            if (!c->leaving && (set[i + 1].revents & ~POLLOUT) != 0)
                listen_to(c);
            if (c->out_size > 0)
                answer(c);
        }
        if (set[0].revents != 0)
            welcome(listener);
        free(set);
        for (size_t i = 0; i < count;) {
            struct conversation *c = conversations[i];
            if (c->leaving && c->out_size == 0) {
                close(c->fd);
                free(c);
                conversations[i] = conversations[--count];
            } else {
                i++;
            }
        }
    }
}

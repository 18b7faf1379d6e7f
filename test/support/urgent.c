/*
 * A peer that marks bytes urgent, which no socket of Node can. Part of the tests.
 *
 *     urgent ADDRESS PORT
 *
 * Connects, and sends each line of standard input as it is, with its end; of one that begins with '!' the last byte before the end goes
 * by itself with MSG_OOB. What comes back goes to standard output. Half-closes at the end of input, and ends at the end of the connection.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int say(int fd, const char *data, size_t size, int flags) {
  return send(fd, data, size, flags) == (ssize_t)size ? 0 : -1;
}

static int line(int fd, const char *data, size_t size) {
  if (size < 2 || data[0] != '!') return say(fd, data, size, 0);
  return say(fd, data + 1, size - 3, 0) || say(fd, data + size - 2, 1, MSG_OOB) || say(fd, data + size - 1, 1, 0);
}

int main(int argc, char **argv) {
  char data[4096];
  struct sockaddr_in to = {.sin_family = AF_INET};
  if (argc != 3 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) return fprintf(stderr, "usage: urgent ADDRESS PORT\n"), 2;
  to.sin_port = htons((unsigned short)atoi(argv[2]));
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) return perror("connect"), 1;
  struct pollfd both[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
  for (;;) {
    if (poll(both, 2, -1) < 0) return perror("poll"), 1;
    if (both[0].revents) {
      ssize_t size = recv(fd, data, sizeof data, 0);
      if (size < 0) return perror("recv"), 1;
      if (size == 0) return 0;
      if (write(1, data, (size_t)size) != size) return 1;
    }
    if (both[1].revents) {
      /* Whoever writes here sends line by line. */
      ssize_t size = read(0, data, sizeof data);
      if (size <= 0) shutdown(fd, SHUT_WR), both[1].fd = -1;
      else if (line(fd, data, (size_t)size) != 0) return perror("send"), 1;
    }
  }
}

/*
 * Puts frames on one device and says what comes out of another, as they are. Part of the tests; needs root.
 *
 *     exchange DEVICE DEVICE
 *
 * Reads lines "WAY HEX HEX": a frame goes to the device WAY (0 or 1), then another, which is known to come out of the other device and is
 * found by its last eight bytes. Prints all that came out before it, one line each, then an empty line. Every frame has a virtio header
 * in front, with which a checksum may be left to be made. On one processor, so that frames keep their order.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define MARK 8
#define PATIENCE_MS 10000

static unsigned char packet[70000];

static size_t from_hex(const char *at) {
  size_t length = 0;
  unsigned byte;
  for (; sscanf(at, "%2x", &byte) == 1; at += 2) packet[length++] = (unsigned char)byte;
  return length;
}

static int open_device(const char *name) {
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
  int on = 1, room = 4 << 20;
  int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP));
  at.sll_ifindex = (int)if_nametoindex(name);
  if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
  return bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? -1 : fd;
}

int main(int argc, char **argv) {
  static char line[300000], first[150000], second[4096];
  unsigned char mark[MARK];
  int fds[2], way;
  cpu_set_t one;
  if (argc != 3) return fprintf(stderr, "usage: exchange DEVICE DEVICE\n"), 2;
  CPU_ZERO(&one);
  CPU_SET(0, &one);
  sched_setaffinity(0, sizeof one, &one);
  for (int i = 0; i < 2; i++)
    if ((fds[i] = open_device(argv[1 + i])) < 0) return perror(argv[1 + i]), 1;
  while (fgets(line, sizeof line, stdin)) {
    if (sscanf(line, "%d %149999s %4095s", &way, first, second) != 3) return fprintf(stderr, "what? %s", line), 2;
    size_t length = from_hex(first);
    if (send(fds[way], packet, length, 0) < 0) return perror("send"), 1;
    length = from_hex(second);
    memcpy(mark, packet + length - MARK, MARK);
    if (send(fds[way], packet, length, 0) < 0) return perror("send the second"), 1;
    for (;;) {
      struct sockaddr_ll from;
      socklen_t size = sizeof from;
      struct pollfd ready = {.fd = fds[1 - way], .events = POLLIN};
      if (poll(&ready, 1, PATIENCE_MS) != 1) return fprintf(stderr, "the second frame does not come\n"), 1;
      ssize_t got = recvfrom(fds[1 - way], packet, sizeof packet, 0, (struct sockaddr *)&from, &size);
      if (got < 0) return perror("recv"), 1;
      if (from.sll_pkttype == PACKET_OUTGOING) continue;
      if (got >= MARK && memcmp(packet + got - MARK, mark, MARK) == 0) break;
      for (ssize_t i = 0; i < got; i++) printf("%02x", packet[i]);
      printf("\n");
    }
    printf("\n");
    fflush(stdout);
  }
  return 0;
}

/*
 * Puts packets on a device as they are, whatever is wrong with them: what no socket would send. Part of the tests; needs root.
 *
 *     inject DEVICE < lines of hex, one packet each
 *
 * An Ethernet device wants whole frames; a TUN device takes IP packets, and whoever reads it gets them. The first nibble tells the
 * device's driver nothing, so all are sent as IPv4.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
  static char line[140000];
  static unsigned char packet[70000];
  if (argc != 2) return fprintf(stderr, "usage: inject DEVICE\n"), 2;
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
  to.sll_ifindex = (int)if_nametoindex(argv[1]);
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0 || to.sll_ifindex == 0) return perror(argv[1]), 1;
  while (fgets(line, sizeof line, stdin)) {
    size_t length = 0;
    unsigned byte;
    for (char *at = line; sscanf(at, "%2x", &byte) == 1; at += 2) packet[length++] = (unsigned char)byte;
    if (length == 0) continue;
    if (sendto(fd, packet, length, 0, (struct sockaddr *)&to, sizeof to) < 0) return perror("sendto"), 1;
  }
  return 0;
}

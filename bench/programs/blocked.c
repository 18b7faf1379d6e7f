/* blocked accept|recv|poll: waits for ever in that call, with a connection to itself that nobody writes to. */
#include "../../examples/kedge_socket.h"

#include <stdio.h>
#include <string.h>

enum { PORT = 7000 };

int main(int argc, char **argv)
{
    const char *call = argc > 1 ? argv[1] : "accept";
    int listener = socket(AF_INET, SOCK_STREAM, 0), connection = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in any, self;
    socklen_t length = sizeof self;
    kedge_address(&any, "0.0.0.0", PORT);
    if (listener < 0 || connection < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 4) < 0 ||
        getsockname(listener, (struct sockaddr *)&self, &length) < 0 ||
        connect(connection, (struct sockaddr *)&self, sizeof self) < 0) {
        perror("blocked");
        return 1;
    }
    int accepted = accept(listener, NULL, NULL);
    printf("waiting\n");
    fflush(stdout);
    char byte;
    struct pollfd set = {.fd = accepted, .events = POLLIN};
    if (strcmp(call, "accept") == 0)
        return accept(listener, NULL, NULL) < 0;
    if (strcmp(call, "recv") == 0)
        return recv(accepted, &byte, 1, 0) < 0;
    return poll(&set, 1, -1) < 0;
}

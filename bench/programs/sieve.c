/* sieve [N]: the primes below N, in rounds. Very short loops over bytes. */
#include <string.h>

#include "program.h"

int main(int argc, char **argv)
{
    uint32_t n = program_size(argc, argv, 1000000);
    uint8_t *composite = malloc(n);
    if (composite == NULL)
        abort();
    uint64_t sum = PROGRAM_HASH;
    for (int round = 0; round < 10; round++) {
        memset(composite, 0, n);
        uint32_t primes = 0;
        for (uint32_t i = 2; i < n; i++)
            if (!composite[i]) {
                primes++;
                for (uint64_t j = (uint64_t)i * i; j < n; j += i)
                    composite[j] = 1;
            }
        sum = program_mix(sum, primes);
    }
    return program_end(sum);
}

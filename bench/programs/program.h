/* What the programs share: a size as the only argument, numbers from a seed, and one line with a checksum at the end. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint32_t program_size(int argc, char **argv, uint32_t otherwise)
{
    return argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : otherwise;
}

/* xorshift32; the state is never 0. */
static inline uint32_t program_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

/* FNV-1a over the bytes of a number. */
static inline uint64_t program_mix(uint64_t hash, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        hash = (hash ^ (value >> 8 * i & 0xff)) * UINT64_C(0x100000001b3);
    return hash;
}

#define PROGRAM_HASH UINT64_C(0xcbf29ce484222325)

static inline int program_end(uint64_t checksum)
{
    printf("checksum %016" PRIx64 "\n", checksum);
    return 0;
}

#endif

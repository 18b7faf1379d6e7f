/*
 * heap [MIB] [PERCENT] [NOISE]: a heap of which a part of the pages is in use, spread over it: records of small numbers and
 * words, or noise that does not compress when NOISE is 1. Then it computes without end on what it has.
 */
#include "program.h"

#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, RECORD = 64 };

int main(int argc, char **argv)
{
    size_t pages = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 8;
    uint32_t percent = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 30, seed = 5;
    int noise = argc > 3 && argv[3][0] == '1';
    static const char *const words[] = {"amber", "birch", "cobalt", "dune", "ember", "flint", "grove", "harbor"};
    uint8_t *heap = aligned_alloc(PAGE, pages * PAGE);
    if (heap == NULL)
        return 1;
    for (size_t page = 0; page < pages; page++) {
        if (program_random(&seed) % 100 >= percent)
            continue;
        for (uint8_t *at = heap + page * PAGE, *end = at + PAGE; at < end; at += RECORD) {
            if (noise) {
                for (int i = 0; i < RECORD; i += 4)
                    *(uint32_t *)(at + i) = program_random(&seed);
                continue;
            }
            uint32_t number = program_random(&seed);
            *(uint32_t *)at = number;
            *(uint32_t *)(at + 4) = (uint32_t)page;
            *(double *)(at + 8) = (double)(number % 1000) / 8;
            strcpy((char *)at + 16, words[number >> 8 & 7]);
            strcpy((char *)at + 32, words[number >> 16 & 7]);
        }
    }
    /* Not by stdio, whose buffer changes after the line is out: who has read it finds a memory that stays as it is. */
    if (write(1, "filled\n", 7) != 7)
        return 1;
    uint64_t hash = PROGRAM_HASH;
    for (;;)
        for (size_t page = 0; page < pages; page++)
            if ((hash = program_mix(hash, heap[page * PAGE])) == 0)
                return 0;
}

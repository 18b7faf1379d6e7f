/* queens [N]: all ways to put N queens on a board of N × N. A recursive search. */
#include "program.h"

static uint32_t all;

static uint64_t place(uint32_t columns, uint32_t left, uint32_t right)
{
    if (columns == all)
        return 1;
    uint64_t ways = 0;
    for (uint32_t free = all & ~(columns | left | right); free != 0; free &= free - 1) {
        uint32_t queen = free & -free;
        ways += place(columns | queen, (left | queen) << 1, (right | queen) >> 1);
    }
    return ways;
}

int main(int argc, char **argv)
{
    uint32_t n = program_size(argc, argv, 10);
    all = (1u << n) - 1;
    return program_end(place(0, 0, 0));
}

/* fannkuch [N]: flips of pancakes over all permutations of N. Short inner loops over small arrays. */
#include "program.h"

#define MOST 16

__attribute__((noinline)) static uint64_t fannkuch(int n)
{
    int order[MOST], work[MOST], count[MOST];
    int most = 0, sum = 0, r = n;
    uint32_t number = 0;
    for (int i = 0; i < n; i++)
        order[i] = i;
    for (;;) {
        for (; r != 1; r--)
            count[r - 1] = r;
        if (order[0] != 0) {
            for (int i = 0; i < n; i++)
                work[i] = order[i];
            int flips = 0;
            for (int k; (k = work[0]) != 0; flips++)
                for (int i = 0, j = k; i < j; i++, j--) {
                    int t = work[i];
                    work[i] = work[j];
                    work[j] = t;
                }
            if (flips > most)
                most = flips;
            sum += number % 2 == 0 ? flips : -flips;
        }
        for (;; r++) {
            if (r == n)
                return (uint64_t)(uint32_t)sum << 32 | (uint32_t)most;
            int first = order[0];
            for (int i = 0; i < r; i++)
                order[i] = order[i + 1];
            order[r] = first;
            if (--count[r] > 0)
                break;
        }
        number++;
    }
}

int main(int argc, char **argv)
{
    uint32_t n = program_size(argc, argv, 9);
    return program_end(fannkuch(n < MOST ? (int)n : MOST - 1));
}

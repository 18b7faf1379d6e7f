/*
 * compute [ROUNDS] [STEPS]: arithmetic without any call, for tests and benchmarks. Prints "step <n> <value>" after each of STEPS
 * steps (default 10) of ROUNDS rounds (default 100 million), and at the end "result <value>", which depends on these
 * numbers only.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* xorshift64*, kept out of line so that a step is one long loop. */
__attribute__((noinline)) static uint64_t work(uint64_t state, uint64_t rounds)
{
    for (uint64_t i = 0; i < rounds; i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state *= UINT64_C(2685821657736338717);
    }
    return state;
}

int main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000000u;
    uint64_t steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 10;
    uint64_t state = 88172645463325252u;
    for (uint64_t step = 1; step <= steps; step++) {
        state = work(state, rounds);
        printf("step %" PRIu64 " %016" PRIx64 "\n", step, state);
        fflush(stdout);
    }
    printf("result %016" PRIx64 "\n", state);
    return 0;
}

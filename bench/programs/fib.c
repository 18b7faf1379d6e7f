/* fib [N]: Fibonacci's numbers the slow way. Nothing but calls. */
#include "program.h"

__attribute__((noinline)) static uint64_t fib(uint32_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

int main(int argc, char **argv)
{
    return program_end(fib(program_size(argc, argv, 30)));
}

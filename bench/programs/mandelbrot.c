/* mandelbrot [N]: an N × N picture of the set. One hot loop of floating point with an early end. */
#include "program.h"

__attribute__((noinline)) static uint32_t turns(double cx, double cy)
{
    double x = 0, y = 0;
    uint32_t n = 0;
    for (; n < 200 && x * x + y * y < 4; n++) {
        double t = x * x - y * y + cx;
        y = 2 * x * y + cy;
        x = t;
    }
    return n;
}

int main(int argc, char **argv)
{
    uint32_t n = program_size(argc, argv, 400);
    uint64_t sum = PROGRAM_HASH;
    for (uint32_t row = 0; row < n; row++) {
        uint64_t line = 0;
        for (uint32_t column = 0; column < n; column++)
            line = line * 31 + turns(3.0 * column / n - 2, 2.0 * row / n - 1);
        sum = program_mix(sum, line);
    }
    return program_end(sum);
}

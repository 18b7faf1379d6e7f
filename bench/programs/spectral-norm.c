/* spectral-norm [N]: power iteration over an infinite matrix. Divisions in a double loop, through small functions. */
#include <math.h>
#include <string.h>

#include "program.h"

static double element(uint32_t i, uint32_t j)
{
    return 1.0 / ((double)(i + j) * (i + j + 1) / 2 + i + 1);
}

__attribute__((noinline)) static void times(const double *from, double *to, uint32_t n, int transposed)
{
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < n; j++)
            sum += (transposed ? element(j, i) : element(i, j)) * from[j];
        to[i] = sum;
    }
}

int main(int argc, char **argv)
{
    uint32_t n = program_size(argc, argv, 500);
    double *u = malloc(3 * n * sizeof *u), *v = u + n, *t = v + n;
    if (u == NULL || n == 0)
        abort();
    for (uint32_t i = 0; i < n; i++)
        u[i] = 1;
    for (int round = 0; round < 10; round++) {
        times(u, t, n, 0);
        times(t, v, n, 1);
        times(v, t, n, 0);
        times(t, u, n, 1);
    }
    double uv = 0, vv = 0;
    for (uint32_t i = 0; i < n; i++) {
        uv += u[i] * v[i];
        vv += v[i] * v[i];
    }
    double norm = sqrt(uv / vv);
    uint64_t bits;
    memcpy(&bits, &norm, sizeof bits);
    return program_end(bits);
}

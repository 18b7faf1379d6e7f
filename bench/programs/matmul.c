/* matmul [N]: two N × N matrices of doubles are multiplied. A tight triple loop over much memory. */
#include <string.h>

#include "program.h"

__attribute__((noinline)) static void multiply(const double *a, const double *b, double *c, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            double sum = 0;
            for (uint32_t k = 0; k < n; k++)
                sum += a[i * n + k] * b[k * n + j];
            c[i * n + j] = sum;
        }
}

int main(int argc, char **argv)
{
    uint32_t n = program_size(argc, argv, 300), seed = 1;
    double *a = malloc(3 * (size_t)n * n * sizeof *a);
    if (a == NULL)
        abort();
    double *b = a + (size_t)n * n, *c = b + (size_t)n * n;
    for (size_t i = 0; i < 2 * (size_t)n * n; i++)
        a[i] = (double)(program_random(&seed) % 1000) / 8;
    multiply(a, b, c, n);
    double sum = 0;
    for (size_t i = 0; i < (size_t)n * n; i++)
        sum += c[i];
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return program_end(bits);
}

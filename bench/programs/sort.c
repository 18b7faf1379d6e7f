/* sort [N]: N numbers by heap sort, by quicksort, and by the library's qsort with a comparison through a pointer. */
#include <string.h>

#include "program.h"

static void heap_sort(uint32_t *a, uint32_t n)
{
    for (uint32_t start = n / 2, end = n; end > 1;) {
        uint32_t value;
        if (start > 0) {
            value = a[--start];
        } else {
            value = a[--end];
            a[end] = a[0];
        }
        uint32_t hole = start, child;
        while ((child = 2 * hole + 1) < end) {
            if (child + 1 < end && a[child + 1] > a[child])
                child++;
            if (a[child] <= value)
                break;
            a[hole] = a[child];
            hole = child;
        }
        a[hole] = value;
    }
}

static void quick_sort(uint32_t *a, int32_t low, int32_t high)
{
    while (low < high) {
        uint32_t pivot = a[low + (high - low) / 2];
        int32_t i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        quick_sort(a, low, j);
        low = i;
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    uint32_t n = program_size(argc, argv, 200000), seed = 7;
    uint32_t *from = malloc(2 * n * sizeof *from), *a = from + n;
    if (from == NULL || n == 0)
        abort();
    for (uint32_t i = 0; i < n; i++)
        from[i] = program_random(&seed);
    uint64_t sum = PROGRAM_HASH;
    for (int kind = 0; kind < 3; kind++) {
        memcpy(a, from, n * sizeof *a);
        if (kind == 0)
            heap_sort(a, n);
        else if (kind == 1)
            quick_sort(a, 0, (int32_t)n - 1);
        else
            qsort(a, n, sizeof *a, compare);
        for (uint32_t i = 0; i < n; i += 97)
            sum = program_mix(sum, a[i]);
    }
    free(from);
    return program_end(sum);
}

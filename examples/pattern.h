/*
 * The deterministic byte stream that the example guests send and check. README.md defines it; test/support/stream.ts is
 * the same in TypeScript. Any part of it can be made from its position alone.
 */
#ifndef PATTERN_H
#define PATTERN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The word (4 bytes, little-endian) at an index. */
static inline uint32_t pattern_word(uint32_t seed, uint32_t index)
{
    uint32_t x = seed + index * 0x9e3779b9u;
    x = (x ^ x >> 16) * 0x85ebca6bu;
    x = (x ^ x >> 13) * 0xc2b2ae35u;
    return x ^ x >> 16;
}

/* Fills `size` bytes with the stream from byte `position` on. */
static void pattern_fill(uint8_t *out, size_t size, uint32_t seed, uint64_t position)
{
    uint32_t index = (uint32_t)(position / 4);
    unsigned skip = position % 4;
    while (size > 0) {
        uint32_t word = pattern_word(seed, index++);
        size_t part = 4 - skip < size ? 4 - skip : size;
        if (part == 4) {
            memcpy(out, &word, 4);
        } else {
            for (size_t i = 0; i < part; i++)
                out[i] = (uint8_t)(word >> 8 * (skip + i));
        }
        out += part;
        size -= part;
        skip = 0;
    }
}

/* The number of leading bytes of `data` that are those of the stream from `position` on. */
static size_t pattern_match(const uint8_t *data, size_t size, uint32_t seed, uint64_t position)
{
    size_t done = 0;
    while (done < size) {
        uint8_t expected[256];
        size_t part = size - done < sizeof expected ? size - done : sizeof expected;
        pattern_fill(expected, part, seed, position + done);
        if (memcmp(data + done, expected, part) != 0) {
            while (data[done] == expected[0] && part > 1) {
                done++;
                memmove(expected, expected + 1, --part);
            }
            return data[done] == expected[0] ? done + 1 : done;
        }
        done += part;
    }
    return done;
}

#endif

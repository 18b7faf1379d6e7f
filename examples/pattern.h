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

enum { PATTERN_BLOCK = 256 };

/* One block from a word on. Without loops once compiled, so that it has no stable points and runs at full speed. */
__attribute__((noinline)) static void pattern_block(uint8_t *out, uint32_t seed, uint32_t index)
{
#pragma clang loop unroll(full)
    for (unsigned i = 0; i < PATTERN_BLOCK / 4; i++) {
        uint32_t word = pattern_word(seed, index + i);
        memcpy(out + 4 * i, &word, 4);
    }
}

/* Whether two blocks are the same. */
__attribute__((noinline)) static int pattern_same_block(const uint8_t *a, const uint8_t *b)
{
    uint64_t difference = 0;
#pragma clang loop unroll(full)
    for (unsigned i = 0; i < PATTERN_BLOCK; i += 8) {
        uint64_t x, y;
        memcpy(&x, a + i, 8);
        memcpy(&y, b + i, 8);
        difference |= x ^ y;
    }
    return difference == 0;
}

/* Fills `size` bytes with the stream from byte `position` on. */
static void pattern_fill(uint8_t *out, size_t size, uint32_t seed, uint64_t position)
{
    while (size > 0) {
        uint32_t index = (uint32_t)(position / 4);
        if (position % 4 == 0 && size >= PATTERN_BLOCK) {
            pattern_block(out, seed, index);
            out += PATTERN_BLOCK;
            size -= PATTERN_BLOCK;
            position += PATTERN_BLOCK;
        } else {
            *out++ = (uint8_t)(pattern_word(seed, index) >> 8 * (position % 4));
            size--;
            position++;
        }
    }
}

/* The number of leading bytes of `data` that are those of the stream from `position` on. */
static size_t pattern_match(const uint8_t *data, size_t size, uint32_t seed, uint64_t position)
{
    size_t done = 0;
    while (done < size) {
        uint8_t expected[PATTERN_BLOCK];
        if ((position + done) % 4 == 0 && size - done >= PATTERN_BLOCK) {
            pattern_block(expected, seed, (uint32_t)((position + done) / 4));
            if (pattern_same_block(data + done, expected)) {
                done += PATTERN_BLOCK;
                continue;
            }
        }
        pattern_fill(expected, 1, seed, position + done);
        if (data[done] != expected[0])
            break;
        done++;
    }
    return done;
}

#endif

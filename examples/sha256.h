/* SHA-256 (FIPS 180-4), for the example guests. Include it in one file only. */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
};

static const uint32_t SHA256_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t sha256_rotate(uint32_t value, int count)
{
    return value >> count | value << (32 - count);
}

/* Without loops once compiled, so that it has no stable points and runs at full speed. */
__attribute__((noinline)) static void sha256_block(struct sha256 *hash, const uint8_t *data)
{
    uint32_t w[64], s[8];
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 | (uint32_t)data[4 * i + 2] << 8 | data[4 * i + 3];
#pragma clang loop unroll(full)
    for (int i = 16; i < 64; i++) {
        uint32_t a = sha256_rotate(w[i - 15], 7) ^ sha256_rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = sha256_rotate(w[i - 2], 17) ^ sha256_rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, hash->state, sizeof s);
#pragma clang loop unroll(full)
    for (int i = 0; i < 64; i++) {
        uint32_t e = sha256_rotate(s[4], 6) ^ sha256_rotate(s[4], 11) ^ sha256_rotate(s[4], 25);
        uint32_t choose = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint32_t t1 = s[7] + e + choose + SHA256_K[i] + w[i];
        uint32_t a = sha256_rotate(s[0], 2) ^ sha256_rotate(s[0], 13) ^ sha256_rotate(s[0], 22);
        uint32_t t2 = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3], s[3] = s[2], s[2] = s[1], s[1] = s[0];
        s[4] += t1;
        s[0] = t1 + t2;
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 8; i++)
        hash->state[i] += s[i];
}

static void sha256_init(struct sha256 *hash)
{
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, initial, sizeof initial);
    hash->length = 0;
}

static void sha256_update(struct sha256 *hash, const void *data, size_t size)
{
    const uint8_t *from = data;
    size_t filled = hash->length % 64;
    hash->length += size;
    if (filled > 0) {
        size_t part = size < 64 - filled ? size : 64 - filled;
        memcpy(hash->block + filled, from, part);
        from += part;
        size -= part;
        if (filled + part < 64)
            return;
        sha256_block(hash, hash->block);
    }
    for (; size >= 64; from += 64, size -= 64)
        sha256_block(hash, from);
    memcpy(hash->block, from, size);
}

/* Writes the digest as 64 hexadecimal digits and a NUL. The hash is used up. */
static void sha256_hex(struct sha256 *hash, char text[65])
{
    uint64_t bits = hash->length * 8;
    size_t filled = hash->length % 64;
    hash->block[filled++] = 0x80;
    if (filled > 56) {
        memset(hash->block + filled, 0, 64 - filled);
        sha256_block(hash, hash->block);
        filled = 0;
    }
    memset(hash->block + filled, 0, 56 - filled);
    for (int i = 0; i < 8; i++)
        hash->block[56 + i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_block(hash, hash->block);
    for (int i = 0; i < 32; i++) {
        uint8_t byte = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
        text[2 * i] = "0123456789abcdef"[byte >> 4];
        text[2 * i + 1] = "0123456789abcdef"[byte & 15];
    }
    text[64] = '\0';
}

#endif

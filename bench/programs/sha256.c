/* sha256 [MIB]: the digest of so many MiB. Long straight code, one block after the other. */
#include "../../examples/sha256.h"
#include "program.h"

int main(int argc, char **argv)
{
    uint32_t mib = program_size(argc, argv, 8), seed = 3;
    static uint8_t block[1 << 16];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (uint8_t)program_random(&seed);
    struct sha256 hash;
    sha256_init(&hash);
    for (uint32_t i = 0; i < 16 * mib; i++)
        sha256_update(&hash, block, sizeof block);
    char text[65];
    sha256_hex(&hash, text);
    uint64_t sum = PROGRAM_HASH;
    for (int i = 0; i < 64; i++)
        sum = program_mix(sum, (uint8_t)text[i]);
    return program_end(sum);
}

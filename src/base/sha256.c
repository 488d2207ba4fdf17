// SPDX-License-Identifier: MIT
// sha256.c - SHA-256 as FIPS 180-4 writes it, section numbers in the comments.  Made to be read, not to be
// fast: it hashes a few hundred kilobytes when a kernel is first needed.
#include "base/sha256.h"

#include <string.h>

// 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes.
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t word, int right)
{
    return word >> right | word << (32 - right);
}

static uint32_t load_big_endian(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

// 6.2.2, step 1: the message schedule.
static void expand(const unsigned char block[64], uint32_t w[64])
{
    for (int t = 0; t < 16; t++)
        w[t] = load_big_endian(block + 4 * t);
    for (int t = 16; t < 64; t++) {
        const uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        const uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = s1 + w[t - 7] + s0 + w[t - 16];
    }
}

// 6.2.2, steps 2 to 4.  v holds a b c d e f g h.
static void compress(uint32_t state[8], const unsigned char block[64])
{
    uint32_t w[64], v[8];
    expand(block, w);
    memcpy(v, state, sizeof v);
    for (int t = 0; t < 64; t++) {
        const uint32_t s1 = rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        const uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        const uint32_t t1 = v[7] + s1 + choice + constants[t] + w[t];
        const uint32_t s0 = rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        const uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

void dg_sha256_begin(struct dg_sha256 *hash)
{
    // 5.3.3: the first 32 bits of the fractional parts of the square roots of the first 8 primes.
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, initial, sizeof initial);
    hash->num_bytes = 0;
}

void dg_sha256_add(struct dg_sha256 *hash, const void *bytes, size_t length)
{
    const unsigned char *from = bytes;
    while (length) {
        const size_t filled = hash->num_bytes % 64;
        const size_t part = length < 64 - filled ? length : 64 - filled;
        memcpy(hash->block + filled, from, part);
        hash->num_bytes += part;
        from += part;
        length -= part;
        if (hash->num_bytes % 64 == 0)
            compress(hash->state, hash->block);
    }
}

void dg_sha256_add_field(struct dg_sha256 *hash, const void *bytes, size_t length)
{
    unsigned char count[8];
    for (int i = 0; i < 8; i++)
        count[i] = (unsigned char)((uint64_t)length >> 8 * i);
    dg_sha256_add(hash, count, sizeof count);
    dg_sha256_add(hash, bytes, length);
}

void dg_sha256_end_hex(struct dg_sha256 *hash, char hex[DG_SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    // 5.1.1: a one bit, zeros, and the length in bits as 64 bits, to a whole number of blocks.
    const uint64_t num_bits = hash->num_bytes * 8;
    unsigned char padding[64 + 8] = {0x80};
    const size_t zeros = (119 - hash->num_bytes % 64) % 64;
    for (int i = 0; i < 8; i++)
        padding[1 + zeros + i] = (unsigned char)(num_bits >> (56 - 8 * i));
    dg_sha256_add(hash, padding, 1 + zeros + 8);
    for (int i = 0; i < 64; i++)
        hex[i] = digits[hash->state[i / 8] >> (28 - 4 * (i % 8)) & 15];
    hex[64] = 0;
}

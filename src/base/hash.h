// SPDX-License-Identifier: MIT
// hash.h - a fast hash for in-process tables.  Not for anything on disk: the kernel cache uses SHA-256.
#ifndef DG_BASE_HASH_H
#define DG_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t dg_hash_word(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0xff51afd7ed558ccdu;
    return hash ^ hash >> 32;
}

static inline uint64_t dg_hash(const void *bytes, size_t length)
{
    const unsigned char *p = (const unsigned char *)bytes;
    uint64_t hash = 0x9e3779b97f4a7c15u ^ length;
    if (length >= 64) { // two chains side by side: one alone waits for its multiplier
        uint64_t other = ~hash, words[2];
        for (; length >= sizeof words; p += sizeof words, length -= sizeof words) {
            memcpy(words, p, sizeof words);
            hash = dg_hash_word(hash, words[0]);
            other = dg_hash_word(other, words[1]);
        }
        hash = dg_hash_word(hash, other);
    }
    for (; length; p += 8, length -= length < 8 ? length : 8) {
        uint64_t word = 0;
        memcpy(&word, p, length < 8 ? length : 8);
        hash = dg_hash_word(hash, word);
    }
    return hash;
}

#endif

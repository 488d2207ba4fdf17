// SPDX-License-Identifier: MIT
// hash.h - a fast hash for in-process tables.  Not for anything on disk: the kernel cache uses SHA-256.
#ifndef DG_BASE_HASH_H
#define DG_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t dg_hash(const void *bytes, size_t length)
{
    const unsigned char *p = (const unsigned char *)bytes;
    uint64_t hash = 0x9e3779b97f4a7c15u ^ length;
    for (; length; p += 8, length -= length < 8 ? length : 8) {
        uint64_t word = 0;
        memcpy(&word, p, length < 8 ? length : 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    return hash;
}

#endif

// SPDX-License-Identifier: MIT
// sha256.h - SHA-256 (FIPS 180-4), for what is kept on disk: keys and checksums of compiled kernels.
#ifndef DG_BASE_SHA256_H
#define DG_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct dg_sha256 {
    uint32_t state[8];
    uint64_t num_bytes;
    unsigned char block[64];
};

enum { DG_SHA256_HEX = 65 }; // 64 digits and the ending 0

void dg_sha256_begin(struct dg_sha256 *hash);
void dg_sha256_add(struct dg_sha256 *hash, const void *bytes, size_t length);
// Adds the text with its length in front, so that neighbouring fields cannot run into one another.
void dg_sha256_add_field(struct dg_sha256 *hash, const void *bytes, size_t length);
void dg_sha256_end_hex(struct dg_sha256 *hash, char hex[DG_SHA256_HEX]);

#endif

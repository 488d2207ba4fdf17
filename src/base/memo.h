// SPDX-License-Identifier: MIT
// memo.h - remembers values by their keys, so that a repeated question costs a look-up.  Fixed memory; old
// entries make room for new ones, so a value must be one that can be made again.  Readers take no lock.
//
// Keys and values are plain bytes of one size each, in multiples of 8; keys are compared bit for bit, so
// they must be free of padding or zeroed before they are filled.
#ifndef DG_BASE_MEMO_H
#define DG_BASE_MEMO_H

#include <stdbool.h>
#include <stddef.h>

struct dg_memo;

// num_sets: a power of two, of four entries each.  NULL: no memory.
struct dg_memo *dg_memo_create(size_t num_sets, size_t key_bytes, size_t value_bytes);
void dg_memo_destroy(struct dg_memo *memo); // NULL is allowed

bool dg_memo_find(struct dg_memo *memo, const void *key, void *value);
void dg_memo_store(struct dg_memo *memo, const void *key, const void *value);

#endif

// SPDX-License-Identifier: MIT
// strbuf.h - text that grows.  Start from {0}; after an allocation failure `failed` stays set, further
// appends do nothing, and text() is still a valid string.
#ifndef DG_BASE_STRBUF_H
#define DG_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

struct dg_strbuf {
    char *data;
    size_t length, capacity;
    bool failed;
};

__attribute__((format(printf, 2, 3))) void dg_strbuf_add(struct dg_strbuf *buffer,
                                                         const char *format, ...);
void dg_strbuf_add_bytes(struct dg_strbuf *buffer, const void *bytes, size_t length);
// Never NULL, always ended with 0; borrowed from the buffer.
const char *dg_strbuf_text(const struct dg_strbuf *buffer);
void dg_strbuf_free(struct dg_strbuf *buffer);

#endif

// SPDX-License-Identifier: MIT
// strbuf.c - text that grows.
#include "base/strbuf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct dg_strbuf *buffer, size_t extra)
{
    if (buffer->failed || extra > SIZE_MAX / 2 - buffer->length - 1)
        return !(buffer->failed = true);
    size_t needed = buffer->length + extra + 1;
    if (needed <= buffer->capacity)
        return true;
    size_t capacity = needed < 256 ? 256 : needed * 2;
    char *data = realloc(buffer->data, capacity);
    if (!data)
        return !(buffer->failed = true);
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void dg_strbuf_add_bytes(struct dg_strbuf *buffer, const void *bytes, size_t length)
{
    if (!reserve(buffer, length))
        return;
    if (length)
        memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = 0;
}

void dg_strbuf_add(struct dg_strbuf *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        buffer->failed = true;
    else if (reserve(buffer, (size_t)length)) {
        vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, again);
        buffer->length += (size_t)length;
    }
    va_end(again);
}

const char *dg_strbuf_text(const struct dg_strbuf *buffer)
{
    return buffer->data ? buffer->data : "";
}

void dg_strbuf_free(struct dg_strbuf *buffer)
{
    free(buffer->data);
    *buffer = (struct dg_strbuf){0};
}

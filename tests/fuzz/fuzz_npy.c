// SPDX-License-Identifier: MIT
// fuzz_npy.c - files for the npy reader: every element that an accepted header describes must lie in the
// file, which reading them all proves.
//
// The first byte chooses: 255 gives the rest as a whole file; any other value is the size of the data,
// and the rest is the text of a header behind a right beginning.
#include "formats/npy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const uint8_t *bytes, const struct dg_npy_header *header)
{
    struct dg_tensor from = header->tensor, to;
    uint8_t *copy = malloc(header->data_bytes ? (size_t)header->data_bytes : 1);
    if (!copy)
        return;
    memcpy(copy, bytes + header->data_start, (size_t)header->data_bytes);
    from.data = copy;
    if (dg_npy_to_f32(&from, &to) == DG_OK)
        free(to.data);
    else if (from.type != DG_E4M3)
        abort();
    free(copy);
}

static void parse(const uint8_t *bytes, uint64_t size)
{
    struct dg_npy_header header;
    if (dg_npy_parse(bytes, size, &header) != DG_OK) {
        if (!*dg_last_error())
            abort();
        return;
    }
    if (header.data_start + header.data_bytes != size || header.tensor.rank > DG_MAX_RANK)
        abort();
    read_all(bytes, &header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 255) {
        parse(data + 1, size - 1);
        return 0;
    }
    const size_t length = size - 1, total = 12 + length + data[0];
    uint8_t *file = calloc(1, total);
    if (!file)
        return 0;
    memcpy(file, "\x93NUMPY\x02", 7);
    for (int i = 0; i < 4; i++)
        file[8 + i] = (uint8_t)(length >> 8 * i);
    memcpy(file + 12, data + 1, length);
    parse(file, total);
    free(file);
    return 0;
}

// SPDX-License-Identifier: MIT
// fuzz_safetensors.c - files for the safetensors reader: the tensors it accepts must cover the data, each
// byte once.
//
// The first byte chooses: 255 gives the rest as a whole file; any other value is the size of the data
// section, and the rest is a header whose length is filled in, so that changes reach past it.
#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct dg_safetensors_header *header, uint64_t size)
{
    uint64_t end = header->data_start;
    for (uint32_t i = 0; i < header->count; i++) {
        const struct dg_safetensors_tensor *tensor = &header->tensors[i];
        uint64_t bytes;
        if (header->data_start + tensor->begin != end || !*tensor->name || tensor->rank < 0 ||
            tensor->rank > DG_SAFETENSORS_MAX_RANK)
            abort();
        if (dg_safetensors_tensor_bytes(tensor, &bytes) != DG_OK || bytes != tensor->bytes)
            abort();
        end += tensor->bytes;
    }
    for (uint32_t i = 0; i < header->metadata_count; i++)
        if (!dg_json_is_utf8(header->metadata[i].value, strlen(header->metadata[i].value)))
            abort();
    if (end != size)
        abort();
}

static void parse(const void *bytes, uint64_t size)
{
    struct dg_safetensors_header header;
    if (dg_safetensors_parse_header(bytes, size, &header) == DG_OK)
        check(&header, size);
    else if (!*dg_last_error() || header.tensors)
        abort();
    dg_safetensors_free_header(&header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 255) {
        parse(data + 1, size - 1);
        return 0;
    }
    const uint64_t length = size - 1, total = 8 + length + data[0];
    uint8_t *file = calloc(1, (size_t)total);
    if (!file)
        return 0;
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)(length >> 8 * i);
    memcpy(file + 8, data + 1, (size_t)length);
    parse(file, total);
    free(file);
    return 0;
}

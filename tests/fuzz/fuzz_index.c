// SPDX-License-Identifier: MIT
// fuzz_index.c - any bytes as model.safetensors.index.json, beside two real shards: what is accepted must
// name plain files, and each tensor must be found in the file that the index names.
#include "formats/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[] = "/tmp/deepgemm-fuzz-XXXXXX";
static const char *const names[] = {"1.safetensors", "2.safetensors",
                                    "model.safetensors.index.json"};

static char *path_of(int which)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, names[which]);
    return path;
}

static void write_bytes(int which, const void *bytes, size_t size)
{
    FILE *file = fopen(path_of(which), "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static void clean_up(void)
{
    for (int i = 0; i < 3; i++)
        unlink(path_of(i));
    rmdir(directory);
}

static void set_up(void)
{
    static const char shard[] = "\0\0\0\0\0\0\0\0"
                                "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                                "\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,1]}}x";
    static char bytes[sizeof shard];
    if (!mkdtemp(directory))
        abort();
    atexit(clean_up);
    memcpy(bytes, shard, sizeof shard);
    bytes[0] = (char)(sizeof shard - 1 - 8 - 1);
    write_bytes(0, bytes, sizeof shard - 1);
    write_bytes(1, bytes, sizeof shard - 1);
}

static void check_index(const struct dg_safetensors_index *index)
{
    for (uint32_t i = 0; i < index->count; i++)
        if (strchr(index->map[i].value, '/') || strcmp(index->map[i].value, "..") == 0 ||
            (i && strcmp(index->map[i - 1].key, index->map[i].key) >= 0))
            abort();
}

static void check_checkpoint(const struct dg_safetensors *checkpoint,
                             const struct dg_safetensors_index *index)
{
    if (checkpoint->count != index->count)
        abort();
    for (uint32_t i = 0; i < index->count; i++) {
        const struct dg_safetensors_tensor *tensor =
            dg_safetensors_find(checkpoint, index->map[i].key);
        if (!tensor || strcmp(checkpoint->files[tensor->file].name, index->map[i].value) != 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int is_set_up;
    if (!is_set_up)
        set_up();
    is_set_up = 1;
    struct dg_safetensors_index index;
    if (dg_safetensors_parse_index((const char *)data, size, &index) != DG_OK)
        return 0;
    check_index(&index);
    struct dg_safetensors checkpoint;
    write_bytes(2, data, size);
    if (dg_safetensors_open(&checkpoint, directory) == DG_OK) {
        check_checkpoint(&checkpoint, &index);
        dg_safetensors_close(&checkpoint);
    }
    dg_safetensors_free_index(&index);
    return 0;
}

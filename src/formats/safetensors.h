// SPDX-License-Identifier: MIT
// safetensors.h - checkpoints as they are published: one .safetensors file, or many with an index.
//
//     file    8 bytes: header length, little-endian | header, JSON | the tensors' bytes, no gaps
//     header  {"__metadata__": {"k": "v"}, "name": {"dtype": "BF16", "shape": [2, 3],
//              "data_offsets": [begin, end]}, ...}
//     index   {"metadata": {...}, "weight_map": {"name": "model-00001-of-00002.safetensors", ...}}
//
// Nothing in a file is believed before it was checked: sizes against the file, offsets against each
// other, names against the index.  Every failure is DG_IO_ERROR and names the file, the tensor and
// the rule.
#ifndef DG_FORMATS_SAFETENSORS_H
#define DG_FORMATS_SAFETENSORS_H

#include "formats/file.h"
#include "formats/json.h"

#define DG_SAFETENSORS_MAX_RANK 8
#define DG_SAFETENSORS_MAX_HEADER 100000000u

struct dg_safetensors_tensor {
    const char *name;
    const char *dtype; // as the file spells it
    dg_type type;      // DG_E4M3, DG_BF16, DG_F16, DG_F32; DG_TYPE_NONE: listed, to be copied only
    uint32_t file;     // index of its file in the checkpoint
    int32_t rank;
    int64_t shape[DG_SAFETENSORS_MAX_RANK];
    uint64_t begin, bytes; // in the file's data section
};

struct dg_safetensors_pair {
    const char *key, *value;
};

// ---- Parsing, from memory

struct dg_safetensors_header {
    uint64_t data_start; // bytes before the data section
    uint32_t count;
    struct dg_safetensors_tensor *tensors; // in the order of their bytes
    uint32_t metadata_count;
    struct dg_safetensors_pair *metadata;
    struct dg_json json; // owns the strings
};

// `bytes` is the start of a file of `size` bytes; the header is read, the data is not.
dg_status dg_safetensors_parse_header(const void *bytes, uint64_t size,
                                      struct dg_safetensors_header *header);
void dg_safetensors_free_header(struct dg_safetensors_header *header);

struct dg_safetensors_index {
    uint32_t count;
    struct dg_safetensors_pair *map; // tensor and the name of its file, sorted by tensor
    struct dg_json json;             // owns the strings
};

dg_status dg_safetensors_parse_index(const char *text, size_t length,
                                     struct dg_safetensors_index *index);
void dg_safetensors_free_index(struct dg_safetensors_index *index);

// ---- Reading

struct dg_safetensors_file {
    struct dg_file file;
    const char *name; // the path without its directory
    struct dg_safetensors_header header;
};

struct dg_safetensors {
    bool is_sharded; // it was found through an index
    uint32_t file_count;
    struct dg_safetensors_file *files; // sorted by name
    uint32_t count;
    const struct dg_safetensors_tensor **tensors; // sorted by name; of an index, what it names
};

// `path` is a .safetensors file, an index (*.json), or a directory with
// model.safetensors.index.json or model.safetensors.
dg_status dg_safetensors_open(struct dg_safetensors *checkpoint, const char *path);
void dg_safetensors_close(struct dg_safetensors *checkpoint);

// NULL when there is none.
const struct dg_safetensors_tensor *dg_safetensors_find(const struct dg_safetensors *checkpoint,
                                                        const char *name);

// The bytes of a tensor, aligned for its type: in the map where they lie so, else a copy.
struct dg_safetensors_view {
    const void *data;
    void *copy;
    const struct dg_file *file;
    uint64_t start, bytes;
};

dg_status dg_safetensors_view(const struct dg_safetensors *checkpoint,
                              const struct dg_safetensors_tensor *tensor,
                              struct dg_safetensors_view *view);
// Also lets the system drop the bytes from memory.
void dg_safetensors_release(struct dg_safetensors_view *view);

// ---- Writing

// Bytes of a tensor by its dtype and shape; fails for unknown dtypes and sizes that overflow.
dg_status dg_safetensors_tensor_bytes(const struct dg_safetensors_tensor *tensor, uint64_t *bytes);

struct dg_safetensors_writer {
    struct dg_aside aside;
    uint64_t data_start;
    uint32_t count;
    struct dg_safetensors_tensor *tensors; // name and dtype borrowed from the caller
    uint64_t *written;                     // bytes, per tensor
};

// Lays the file out and writes its header.  Of `tensors`, name, dtype, rank and shape are read; the
// names and dtypes must live until the end.  Larger element types come first, so that all are
// aligned.
dg_status dg_safetensors_create(struct dg_safetensors_writer *writer, const char *path,
                                const struct dg_safetensors_tensor *tensors, uint32_t count,
                                const struct dg_safetensors_pair *metadata,
                                uint32_t metadata_count);
// Appends bytes to tensor `which`, as numbered by the caller; tensors may be written in any order.
dg_status dg_safetensors_append(struct dg_safetensors_writer *writer, uint32_t which,
                                const void *bytes, uint64_t length);
// Fails unless every tensor is complete.  The writer is finished either way.
dg_status dg_safetensors_commit(struct dg_safetensors_writer *writer);
void dg_safetensors_discard(struct dg_safetensors_writer *writer);

// Collects what an index lists, then writes it aside and renames it.
void dg_safetensors_index_add(struct dg_strbuf *list, const char *tensor, const char *file);
dg_status dg_safetensors_write_index(const char *path, const struct dg_strbuf *list,
                                     uint64_t total_bytes);

#endif

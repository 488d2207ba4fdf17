// SPDX-License-Identifier: MIT
// cli_quantize.h - one run of `deepgemm quantize`, shared by its two halves: cli_quantize.c chooses
// tensors and puts files in place, cli_quantize_file.c writes one file.
#ifndef DG_CLI_QUANTIZE_H
#define DG_CLI_QUANTIZE_H

#include "cli.h"

#include "formats/block_fp8.h"

struct quantize_settings {
    const char *include, *exclude;
    int power_of_two, json;
    struct cli_context_settings context;
};

struct quantize {
    const struct cli_command *command;
    struct quantize_settings settings;
    const char *in, *out;
    dg_context *context;
    struct dg_safetensors checkpoint;
    struct cli_table table;
    char *staging;          // directory aside; NULL for a single file
    struct dg_strbuf index; // what the index of the output lists
    uint64_t done, total;   // input bytes
    uint64_t out_bytes;     // of tensors
    uint32_t num_quantised, num_copied;
    uint64_t non_finite; // elements, in chosen matrices
};

// Is this tensor to be quantised?
bool quantize_chooses(const struct quantize *job, const struct dg_safetensors_tensor *tensor);

// CLI_OK to go on; CLI_FAILED after a signal.  Shows the progress.
int quantize_go_on(struct quantize *job, const char *what);

// Writes the quantised form of one file of the checkpoint to `path`, aside and renamed, and adds what
// it holds to the index.
int quantize_file(struct quantize *job, const struct dg_safetensors_file *file, const char *path);

#endif

// SPDX-License-Identifier: MIT
// cli_quantize_file.c - one file of a checkpoint, with its chosen matrices in block FP8.  A matrix goes
// through in bands of rows and a copy in pieces, so memory grows neither with the checkpoint nor with
// a matrix.
#include "cli_quantize.h"

#include "formats/half.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = DG_BLOCK_FP8_SIZE, BAND_ELEMENTS = 1 << 22, COPY_BYTES = 1 << 24 };

// ---- One matrix

struct band {
    float *original, *restored;
    uint8_t *values;
    float *scales;
};

static void free_band(struct band *band)
{
    free(band->original);
    free(band->restored);
    free(band->values);
    free(band->scales);
}

static int64_t ceil_div(int64_t x, int64_t y)
{
    return x / y + (x % y != 0);
}

// Rows of a band: whole blocks, so that bands give the scales that the whole matrix would.
static int64_t band_rows(int64_t columns)
{
    const int64_t rows = BAND_ELEMENTS / columns / BLOCK * BLOCK;
    return rows > 0 ? rows : BLOCK;
}

static bool allocate_band(struct band *band, int64_t rows, int64_t columns)
{
    const size_t elements = (size_t)rows * (size_t)columns;
    const size_t blocks = (size_t)ceil_div(rows, BLOCK) * (size_t)ceil_div(columns, BLOCK);
    *band = (struct band){
        .original = malloc(elements * sizeof(float)),
        .restored = malloc(elements * sizeof(float)),
        .values = malloc(elements),
        .scales = malloc(blocks * sizeof(float)),
    };
    return band->original && band->restored && band->values && band->scales;
}

// From bytes that need not be aligned.
static void widen(dg_type type, const unsigned char *bytes, int64_t count, float *out)
{
    if (type == DG_F32) {
        memcpy(out, bytes, (size_t)count * sizeof *out);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, bytes + 2 * i, sizeof bits);
        out[i] = type == DG_F16 ? dg_formats_half_to_float(bits) : dg_formats_bf16_to_float(bits);
    }
}

// The bytes of a tensor where they lie, whatever their alignment, so that nothing is copied as a whole.
static dg_status view_bytes(const struct quantize *job, const struct dg_safetensors_tensor *tensor,
                            struct dg_safetensors_view *view)
{
    struct dg_safetensors_tensor bytes = *tensor;
    bytes.type = DG_TYPE_NONE;
    return dg_safetensors_view(&job->checkpoint, &bytes, view);
}

// Before a piece is used: signals, progress, and that the file still has it.
static int start_piece(struct quantize *job, const struct dg_safetensors_tensor *tensor,
                       const struct dg_safetensors_view *view)
{
    const int status = quantize_go_on(job, tensor->name);
    if (status == CLI_OK && dg_file_check_size(view->file) != DG_OK)
        return cli_library_error(job->command);
    return status;
}

// After a piece was used: progress, and the system may drop it from memory.
static void finish_piece(struct quantize *job, const struct dg_safetensors_view *view, uint64_t at,
                         uint64_t bytes)
{
    dg_file_forget(view->file, view->start + at, bytes);
    job->done += bytes;
}

struct error_sums {
    double squares, reference_squares;
    uint64_t non_finite;
};

static void add_errors(struct error_sums *sums, const struct band *band, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const double x = (double)band->original[i], difference = (double)band->restored[i] - x;
        if (!isfinite(difference)) {
            sums->non_finite++;
            continue;
        }
        sums->squares += difference * difference;
        sums->reference_squares += x * x;
    }
}

static dg_status convert_band(struct quantize *job, struct band *band, int64_t rows,
                              int64_t columns)
{
    const struct dg_tensor x = dg_matrix(band->original, DG_F32, rows, columns);
    const struct dg_tensor restored = dg_matrix(band->restored, DG_F32, rows, columns);
    const struct dg_scaled quantised = {
        .values = dg_matrix(band->values, DG_E4M3, rows, columns),
        .scales = dg_matrix(band->scales, DG_F32, ceil_div(rows, BLOCK), ceil_div(columns, BLOCK)),
        .block_rows = BLOCK,
        .block_columns = BLOCK,
    };
    const dg_status status = dg_quantize_per_block(
        job->context, &x, &quantised.values, &quantised.scales,
        job->settings.power_of_two ? DG_SCALE_POWER_OF_TWO : DG_SCALE_EXACT, NULL);
    return status == DG_OK ? dg_dequantize(job->context, &quantised, &restored, NULL) : status;
}

static int convert(struct quantize *job, const struct dg_safetensors_tensor *tensor,
                   const struct dg_safetensors_view *view, struct dg_safetensors_writer *writer,
                   uint32_t entry, struct error_sums *sums)
{
    const int64_t rows = tensor->shape[0], columns = tensor->shape[1], step = band_rows(columns);
    const uint64_t row_bytes = (uint64_t)columns * dg_type_bytes(tensor->type);
    struct band band;
    int status = CLI_OK;
    if (!allocate_band(&band, rows < step ? rows : step, columns))
        status = cli_error(job->command, CLI_FAILED, "%s: no memory for %lld rows of %lld",
                           tensor->name, (long long)step, (long long)columns);
    for (int64_t row = 0; status == CLI_OK && row < rows; row += step) {
        const int64_t count = rows - row < step ? rows - row : step, elements = count * columns;
        const int64_t blocks = ceil_div(count, BLOCK) * ceil_div(columns, BLOCK);
        const uint64_t at = (uint64_t)row * row_bytes;
        if ((status = start_piece(job, tensor, view)) != CLI_OK)
            break;
        widen(tensor->type, (const unsigned char *)view->data + at, elements, band.original);
        if (convert_band(job, &band, count, columns) != DG_OK ||
            dg_safetensors_append(writer, entry, band.values, (uint64_t)elements) != DG_OK ||
            dg_safetensors_append(writer, entry + 1, band.scales,
                                  (uint64_t)blocks * sizeof(float)) != DG_OK)
            status = cli_library_error(job->command);
        add_errors(sums, &band, elements);
        finish_piece(job, view, at, (uint64_t)count * row_bytes);
    }
    free_band(&band);
    return status;
}

static void report(struct quantize *job, const struct dg_safetensors_tensor *tensor,
                   const struct error_sums *sums)
{
    char shape[64];
    snprintf(shape, sizeof shape, "%lld x %lld", (long long)tensor->shape[0],
             (long long)tensor->shape[1]);
    const double error =
        sums->reference_squares > 0 ? sqrt(sums->squares / sums->reference_squares) : 0;
    const struct cli_value row[] = {CLI_TEXT_VALUE(tensor->name), CLI_TEXT_VALUE(tensor->dtype),
                                    CLI_TEXT_VALUE(shape), CLI_NUMBER_VALUE(error),
                                    CLI_NUMBER_VALUE((double)sums->non_finite)};
    cli_table_row(&job->table, row);
    job->num_quantised++;
    job->non_finite += sums->non_finite;
}

static int quantize_tensor(struct quantize *job, const struct dg_safetensors_tensor *tensor,
                           struct dg_safetensors_writer *writer, uint32_t entry)
{
    struct dg_safetensors_view view;
    if (view_bytes(job, tensor, &view) != DG_OK)
        return cli_library_error(job->command);
    struct error_sums sums = {0};
    const int status = convert(job, tensor, &view, writer, entry, &sums);
    dg_safetensors_release(&view);
    if (status == CLI_OK)
        report(job, tensor, &sums);
    return status;
}

static int copy_tensor(struct quantize *job, const struct dg_safetensors_tensor *tensor,
                       struct dg_safetensors_writer *writer, uint32_t entry)
{
    struct dg_safetensors_view view;
    if (view_bytes(job, tensor, &view) != DG_OK)
        return cli_library_error(job->command);
    int status = CLI_OK;
    for (uint64_t at = 0; status == CLI_OK && at < view.bytes; at += COPY_BYTES) {
        const uint64_t count = view.bytes - at < COPY_BYTES ? view.bytes - at : COPY_BYTES;
        if ((status = start_piece(job, tensor, &view)) != CLI_OK)
            break;
        if (dg_safetensors_append(writer, entry, (const char *)view.data + at, count) != DG_OK)
            status = cli_library_error(job->command);
        finish_piece(job, &view, at, count);
    }
    dg_safetensors_release(&view);
    job->num_copied++;
    return status;
}

// ---- One file

struct outline { // of the file to be written
    struct dg_safetensors_tensor *entries;
    uint32_t count;
    char **scale_names; // as many as the source has tensors; NULL where none
};

static void free_outline(struct outline *outline, const struct dg_safetensors_header *source)
{
    for (uint32_t i = 0; outline->scale_names && i < source->count; i++)
        free(outline->scale_names[i]);
    free(outline->scale_names);
    free(outline->entries);
}

static int add_quantised(struct quantize *job, const struct dg_safetensors_tensor *tensor,
                         uint32_t which, struct outline *outline)
{
    char *scale = dg_block_fp8_scale_name(tensor->name);
    outline->scale_names[which] = scale;
    if (!scale)
        return cli_error(job->command, CLI_FAILED, "out of memory");
    if (dg_safetensors_find(&job->checkpoint, scale))
        return cli_error(job->command, CLI_FAILED, "%s: holds \"%s\" already, beside %s in %s",
                         job->in, scale, tensor->name, tensor->dtype);
    outline->entries[outline->count++] =
        (struct dg_safetensors_tensor){.name = tensor->name,
                                       .dtype = "F8_E4M3",
                                       .rank = 2,
                                       .shape = {tensor->shape[0], tensor->shape[1]}};
    outline->entries[outline->count++] = (struct dg_safetensors_tensor){
        .name = scale,
        .dtype = "F32",
        .rank = 2,
        .shape = {ceil_div(tensor->shape[0], BLOCK), ceil_div(tensor->shape[1], BLOCK)}};
    return CLI_OK;
}

static int make_outline(struct quantize *job, const struct dg_safetensors_header *source,
                        struct outline *outline)
{
    *outline =
        (struct outline){.entries = calloc(2 * (size_t)source->count + 1, sizeof *outline->entries),
                         .scale_names = calloc((size_t)source->count + 1, sizeof(char *))};
    if (!outline->entries || !outline->scale_names)
        return cli_error(job->command, CLI_FAILED, "out of memory");
    int status = CLI_OK;
    for (uint32_t i = 0; status == CLI_OK && i < source->count; i++) {
        if (quantize_chooses(job, &source->tensors[i]))
            status = add_quantised(job, &source->tensors[i], i, outline);
        else
            outline->entries[outline->count++] = source->tensors[i];
    }
    return status;
}

// The index lists what the old one listed, and the new scales.
static void list_entries(struct quantize *job, const struct dg_safetensors_file *file,
                         const struct outline *outline)
{
    uint32_t entry = 0;
    for (uint32_t i = 0; i < file->header.count; i++) {
        const struct dg_safetensors_tensor *source = &file->header.tensors[i];
        const bool is_listed = dg_safetensors_find(&job->checkpoint, source->name) == source;
        for (int part = 0; part < (outline->scale_names[i] ? 2 : 1); part++, entry++) {
            uint64_t bytes = 0;
            dg_safetensors_tensor_bytes(&outline->entries[entry], &bytes);
            job->out_bytes += bytes;
            if (is_listed)
                dg_safetensors_index_add(&job->index, outline->entries[entry].name, file->name);
        }
    }
}

static int write_tensors(struct quantize *job, const struct dg_safetensors_header *source,
                         const struct outline *outline, struct dg_safetensors_writer *writer)
{
    int status = CLI_OK;
    uint32_t entry = 0;
    for (uint32_t i = 0; status == CLI_OK && i < source->count; i++) {
        const bool is_quantised = outline->scale_names[i] != NULL;
        status =
            (is_quantised ? quantize_tensor : copy_tensor)(job, &source->tensors[i], writer, entry);
        entry += is_quantised ? 2 : 1;
    }
    return status;
}

static int write_file(struct quantize *job, const struct dg_safetensors_file *file,
                      const char *path, const struct outline *outline)
{
    const struct dg_safetensors_header *source = &file->header;
    struct dg_safetensors_writer writer;
    if (dg_safetensors_create(&writer, path, outline->entries, outline->count, source->metadata,
                              source->metadata_count) != DG_OK)
        return cli_library_error(job->command);
    int status = write_tensors(job, source, outline, &writer);
    if (status == CLI_OK)
        status = quantize_go_on(job, "writing to the disk");
    if (status != CLI_OK) {
        dg_safetensors_discard(&writer);
        return status;
    }
    return dg_safetensors_commit(&writer) == DG_OK ? CLI_OK : cli_library_error(job->command);
}

int quantize_file(struct quantize *job, const struct dg_safetensors_file *file, const char *path)
{
    struct outline outline;
    int status = make_outline(job, &file->header, &outline);
    if (status == CLI_OK) {
        list_entries(job, file, &outline);
        status = write_file(job, file, path, &outline);
    }
    free_outline(&outline, &file->header);
    return status;
}

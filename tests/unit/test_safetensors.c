// SPDX-License-Identifier: MIT
// test_safetensors.c - one safetensors file: reading, writing, and the kinds of broken ones.
#include "files.h"
#include "formats/safetensors.h"
#include "../harness.h"

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"v\"},"
                           "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
                           "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                           "\"e\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[16,16]},"
                           "\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[16,17]}}   ";

static void test_tensors_are_listed_and_found(void)
{
    struct dg_safetensors file;
    CHECK(dg_safetensors_open(&file, files_write_safetensors("good", good, 17)) == DG_OK, "%s",
          dg_last_error());
    CHECK(file.count == 4 && !file.is_sharded && file.file_count == 1, "%u tensors", file.count);
    const struct dg_safetensors_tensor *a = dg_safetensors_find(&file, "a"),
                                       *b = dg_safetensors_find(&file, "b");
    CHECK(a && a->type == DG_F32 && a->rank == 1 && a->shape[0] == 1 && a->begin == 0 &&
              a->bytes == 4,
          "a");
    CHECK(b && b->type == DG_BF16 && b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 3 &&
              b->begin == 4,
          "b");
    CHECK(dg_safetensors_find(&file, "e")->type == DG_TYPE_NONE, "I64 is listed, not readable");
    CHECK(dg_safetensors_find(&file, "s")->rank == 0 && dg_safetensors_find(&file, "s")->bytes == 1,
          "s");
    CHECK(!dg_safetensors_find(&file, "") && !dg_safetensors_find(&file, "aa"),
          "found what is not there");
    const struct dg_safetensors_header *header = &file.files[0].header;
    CHECK(header->metadata_count == 2 && strcmp(header->metadata[0].value, "pt") == 0, "metadata");
    dg_safetensors_close(&file);
}

static void test_views_give_the_bytes_also_where_they_lie_unaligned(void)
{
    // The header's length decides where the data lies: of eight lengths in a row, all but two put an
    // F32 where it is not aligned.
    int num_copies = 0;
    for (int padding = 0; padding < 8; padding++) {
        char header[512];
        snprintf(header, sizeof header, "%s%*s", good, padding, "");
        struct dg_safetensors file;
        struct dg_safetensors_view view;
        CHECK(dg_safetensors_open(&file, files_write_safetensors("shifted", header, 17)) == DG_OK,
              "%s", dg_last_error());
        CHECK(dg_safetensors_view(&file, dg_safetensors_find(&file, "a"), &view) == DG_OK, "%s",
              dg_last_error());
        const unsigned char *bytes = view.data;
        CHECK((uintptr_t)view.data % 4 == 0 && bytes[0] == 0 && bytes[3] == 3, "padding %d",
              padding);
        num_copies += view.copy != NULL;
        dg_safetensors_release(&view);
        CHECK(dg_safetensors_view(&file, dg_safetensors_find(&file, "b"), &view) == DG_OK, "%s",
              dg_last_error());
        bytes = view.data;
        CHECK((uintptr_t)view.data % 2 == 0 && bytes[0] == 4 && bytes[11] == 15, "padding %d",
              padding);
        dg_safetensors_release(&view);
        dg_safetensors_close(&file);
    }
    CHECK(num_copies == 6, "%d copies", num_copies);
}

// ---- Broken files

#define TENSOR(dtype, shape, offsets)                                                              \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void test_broken_headers_are_refused_with_the_rule(void)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *text;
    } rows[] = {
        {"[]", 0, "the header does not start with '{'"},
        {"", 0, "the header does not start with '{'"},
        {" {}", 0, "the header does not start with '{'"},
        {"{", 0, "JSON, byte 1: a key in quotes must stand here"},
        {"{\"t\":1}", 0, "tensor \"t\": its entry is a number: must be an object"},
        {"{\"\":{}}", 0, "a tensor's name is empty"},
        {"{\"a\\u001bb\":{}}", 0, "a tensor's name holds a control character: \"a?b\""},
        {"{\"\xff\":{}}", 0, "a string is not UTF-8"},
        {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "tensor \"t\": dtype is missing"},
        {"{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "tensor \"t\": shape is missing"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "tensor \"t\": data_offsets is missing"},
        {"{\"t\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         "dtype is a number: must be a string"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":1,\"data_offsets\":[0,1]}}", 1,
         "shape is a number: must be an array"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":\"x\"}}", 1,
         "data_offsets is a string: must be an array"},
        {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1,
         "its entry has 4 members: must be dtype, shape and data_offsets"},
        {"{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         "the key \"dtype\" stands twice"},
        {TENSOR("F33", "[1]", "[0,4]"), 4, "tensor \"t\": unknown dtype \"F33\""},
        {TENSOR("f32", "[1]", "[0,4]"), 4, "unknown dtype \"f32\""},
        {TENSOR("F32", "[-1]", "[0,4]"), 4, "shape[0] is not an integer from 0 to 2^63 - 1"},
        {TENSOR("F32", "[1.0]", "[0,4]"), 4, "shape[0] is not an integer"},
        {TENSOR("F32", "[1,\"1\"]", "[0,4]"), 4, "shape[1] is not an integer"},
        {TENSOR("F32", "[9223372036854775808]", "[0,4]"), 4, "shape[0] is not an integer"},
        {TENSOR("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "shape has 9 dimensions: at most 8"},
        {TENSOR("F32", "[4294967296,4294967296]", "[0,4]"), 4,
         "the size of its shape overflows 64 bits"},
        {TENSOR("F32", "[9223372036854775807,2,2]", "[0,4]"), 4,
         "the size of its shape overflows 64 bits"},
        {TENSOR("F4", "[1]", "[0,1]"), 1, "4 bits of F4 are not whole bytes"},
        {TENSOR("F32", "[2]", "[0,4]"), 4, "dtype and shape need 8 bytes, data_offsets give 4"},
        {TENSOR("F32", "[1]", "[0,8]"), 8, "dtype and shape need 4 bytes, data_offsets give 8"},
        {TENSOR("F32", "[1]", "[4,0]"), 4, "data_offsets [4, 0] end before they begin"},
        {TENSOR("F32", "[1]", "[0,4]"), 3,
         "data_offsets [0, 4] reach beyond the 3 bytes of data in the file"},
        {TENSOR("U8", "[1]", "[18446744073709551614,18446744073709551615]"), 1,
         "reach beyond the 1 bytes of data in the file"},
        {TENSOR("F32", "[1]", "[0]"), 4, "data_offsets must be two integers"},
        {TENSOR("F32", "[1]", "[0,4,8]"), 4, "data_offsets must be two integers"},
        {TENSOR("F32", "[1]", "[0,4.0]"), 4, "data_offsets must be two integers"},
        {TENSOR("F32", "[1]", "[-4,0]"), 4, "data_offsets must be two integers"},
        {TENSOR("F32", "[1]", "[[0],4]"), 4, "data_offsets must be two integers"},
        {TENSOR("F32", "[1]", "[4,8]"), 8,
         "tensor \"t\": a gap before it, bytes 0 to 4 belong to no tensor"},
        {TENSOR("F32", "[1]", "[0,4]"), 5, "the tensors end at byte 4 of the data, the file at 5"},
        {"{}", 1, "the tensors end at byte 0 of the data, the file at 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[2,5]}}",
         5, "tensor \"b\": its bytes from 2 overlap those of \"a\" up to 3"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}",
         3, "tensor \"b\": its bytes from 0 overlap those of \"a\" up to 3"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
         3, "tensor \"b\": a gap before it, bytes 1 to 2 belong to no tensor"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, "the key \"a\" stands twice"},
        {"{\"__metadata__\":[]}", 0, "__metadata__ is an array: must be an object"},
        {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__ \"k\" is a number: must be a string"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_safetensors file;
        const char *path = files_write_safetensors("broken", rows[i].header, rows[i].data_bytes);
        CHECK(dg_safetensors_open(&file, path) == DG_IO_ERROR, "accepted: %s", rows[i].header);
        CHECK(strstr(dg_last_error(), rows[i].text), "%s: \"%s\" lacks \"%s\"", rows[i].header,
              dg_last_error(), rows[i].text);
        CHECK(strstr(dg_last_error(), path) == dg_last_error(), "\"%s\" does not name the file",
              dg_last_error());
    }
}

static void test_lying_header_lengths_are_refused(void)
{
    static const struct {
        uint64_t length;
        const char *text;
    } rows[] = {
        {3, "header length 3, but only 2 bytes follow it: the file is truncated"},
        {10000000000u, "header length 10000000000: at most 100000000 bytes are read"},
        {UINT64_MAX, "header length 18446744073709551615: at most"},
        {UINT64_MAX - 7, "header length 18446744073709551608: at most"},
        {0, "the header does not start with '{'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned char bytes[10] = {[8] = '{', [9] = '}'};
        for (int j = 0; j < 8; j++)
            bytes[j] = (unsigned char)(rows[i].length >> 8 * j);
        struct dg_safetensors file;
        CHECK(dg_safetensors_open(&file, files_write("length", bytes, sizeof bytes)) == DG_IO_ERROR,
              "accepted");
        CHECK(strstr(dg_last_error(), rows[i].text), "\"%s\" lacks \"%s\"", dg_last_error(),
              rows[i].text);
    }
}

static void test_every_truncation_is_refused(void)
{
    size_t length;
    unsigned char *bytes = files_read(files_write_safetensors("whole", good, 17), &length);
    for (size_t cut = 0; cut < length; cut++) {
        struct dg_safetensors file;
        const dg_status status = dg_safetensors_open(&file, files_write("cut", bytes, cut));
        const char *expected = cut == 0            ? "the file is empty"
                               : cut < 8           ? "are too short for a safetensors file"
                               : cut < length - 17 ? "the file is truncated"
                                                   : "reach beyond";
        CHECK(status == DG_IO_ERROR && strstr(dg_last_error(), expected), "cut at %zu: %s", cut,
              dg_last_error());
    }
    free(bytes);
}

static void test_what_is_no_file_is_refused(void)
{
    struct dg_safetensors file;
    CHECK(dg_safetensors_open(&file, files_path("missing")) == DG_IO_ERROR, "accepted");
    CHECK(strstr(dg_last_error(), "No such file or directory"), "%s", dg_last_error());
    const char *directory = files_path("directory");
    mkdir(directory, 0700);
    CHECK(dg_safetensors_open(&file, directory) == DG_IO_ERROR, "accepted");
    CHECK(strstr(dg_last_error(),
                 "the directory holds neither model.safetensors.index.json nor model.safetensors"),
          "%s", dg_last_error());
    const char *fifo = files_path("fifo");
    CHECK(mkfifo(fifo, 0600) == 0, "mkfifo");
    CHECK(dg_safetensors_open(&file, fifo) == DG_IO_ERROR &&
              strstr(dg_last_error(), "not a regular file"),
          "%s", dg_last_error());
    struct dg_file plain;
    CHECK(dg_file_open(&plain, directory) == DG_IO_ERROR &&
              strstr(dg_last_error(), "is a directory"),
          "%s", dg_last_error());
}

static void test_a_file_that_shrinks_is_noticed(void)
{
    struct dg_safetensors file;
    struct dg_safetensors_view view;
    const char *path = files_write_safetensors("shrinking", good, 17);
    CHECK(dg_safetensors_open(&file, path) == DG_OK, "%s", dg_last_error());
    CHECK(truncate(path, 20) == 0, "truncate");
    CHECK(dg_safetensors_view(&file, dg_safetensors_find(&file, "a"), &view) == DG_IO_ERROR,
          "accepted");
    CHECK(strstr(dg_last_error(), "bytes when it was opened and has 20 now"), "%s",
          dg_last_error());
    dg_safetensors_close(&file);
}

// ---- Writing

static const struct dg_safetensors_tensor entries[] = {
    {.name = "w\"1", .dtype = "F8_E4M3", .rank = 2, .shape = {3, 5}},
    {.name = "s", .dtype = "F32", .rank = 2, .shape = {1, 1}},
    {.name = "i", .dtype = "I64", .rank = 0},
    {.name = "z", .dtype = "BF16", .rank = 2, .shape = {0, 4}},
};
enum { NUM_ENTRIES = sizeof entries / sizeof *entries };

static void test_written_files_read_back(void)
{
    const char *path = files_path("written");
    const struct dg_safetensors_pair metadata[] = {{"a", "1"}, {"quote\"", "line\nfeed"}};
    struct dg_safetensors_writer writer;
    CHECK(dg_safetensors_create(&writer, path, entries, NUM_ENTRIES, metadata, 2) == DG_OK, "%s",
          dg_last_error());
    CHECK(access(path, F_OK) != 0, "there before it is whole");
    const int64_t number = -5;
    const float scale = 0.25f;
    CHECK(dg_safetensors_append(&writer, 2, &number, sizeof number) == DG_OK, "%s",
          dg_last_error());
    CHECK(dg_safetensors_append(&writer, 0, "0123456789", 10) == DG_OK, "%s", dg_last_error());
    CHECK(dg_safetensors_append(&writer, 1, &scale, sizeof scale) == DG_OK, "%s", dg_last_error());
    CHECK(dg_safetensors_append(&writer, 0, "abcde", 5) == DG_OK, "%s", dg_last_error());
    CHECK(dg_safetensors_commit(&writer) == DG_OK, "%s", dg_last_error());

    struct dg_safetensors file;
    struct dg_safetensors_view view;
    CHECK(dg_safetensors_open(&file, path) == DG_OK, "%s", dg_last_error());
    CHECK(file.count == NUM_ENTRIES && file.files[0].header.data_start % 8 == 0, "%u", file.count);
    CHECK(dg_safetensors_view(&file, dg_safetensors_find(&file, "w\"1"), &view) == DG_OK, "%s",
          dg_last_error());
    CHECK(view.bytes == 15 && memcmp(view.data, "0123456789abcde", 15) == 0, "values");
    dg_safetensors_release(&view);
    CHECK(dg_safetensors_view(&file, dg_safetensors_find(&file, "s"), &view) == DG_OK, "%s",
          dg_last_error());
    CHECK(view.copy == NULL && *(const float *)view.data == scale,
          "the scale is aligned and right");
    dg_safetensors_release(&view);
    CHECK(strcmp(file.files[0].header.metadata[1].key, "quote\"") == 0, "metadata");
    CHECK(strcmp(file.files[0].header.metadata[1].value, "line\nfeed") == 0, "metadata");
    dg_safetensors_close(&file);
}

static int count_files(void)
{
    int count = 0;
    char command[600];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", files_directory);
    FILE *pipe = popen(command, "r");
    if (!pipe || fscanf(pipe, "%d", &count) != 1)
        count = -1;
    if (pipe)
        pclose(pipe);
    return count;
}

static void test_an_incomplete_file_does_not_appear(void)
{
    const char *path = files_write("kept", "old", 3);
    const int files = count_files();
    struct dg_safetensors_writer writer;
    CHECK(dg_safetensors_create(&writer, path, entries, NUM_ENTRIES, NULL, 0) == DG_OK, "%s",
          dg_last_error());
    CHECK(dg_safetensors_append(&writer, 0, "0123456789", 10) == DG_OK, "%s", dg_last_error());
    CHECK(dg_safetensors_commit(&writer) == DG_INTERNAL, "accepted");
    CHECK(strstr(dg_last_error(), "10 of 15 bytes were written"), "%s", dg_last_error());
    CHECK(dg_safetensors_create(&writer, path, entries, NUM_ENTRIES, NULL, 0) == DG_OK, "%s",
          dg_last_error());
    CHECK(dg_safetensors_append(&writer, 1, "0123456789", 10) == DG_INTERNAL, "accepted");
    CHECK(strstr(dg_last_error(), "6 bytes too many"), "%s", dg_last_error());
    dg_safetensors_discard(&writer);
    size_t length;
    unsigned char *bytes = files_read(path, &length);
    const int is_old = bytes && length == 3 && memcmp(bytes, "old", 3) == 0;
    free(bytes);
    CHECK(is_old, "the old file was touched");
    CHECK(count_files() == files, "%d files were left", count_files() - files);
}

static void test_files_that_cannot_be_written_are_refused(void)
{
    struct dg_safetensors_writer writer;
    struct dg_safetensors_tensor twins[2] = {entries[0], entries[0]}, odd = entries[0];
    odd.dtype = "F99";
    CHECK(dg_safetensors_create(&writer, files_path("x"), twins, 2, NULL, 0) == DG_IO_ERROR,
          "accepted");
    CHECK(strstr(dg_last_error(), "two tensors are named \"w\"1\""), "%s", dg_last_error());
    CHECK(dg_safetensors_create(&writer, files_path("x"), &odd, 1, NULL, 0) == DG_IO_ERROR,
          "accepted");
    CHECK(strstr(dg_last_error(), "unknown dtype \"F99\""), "%s", dg_last_error());
    CHECK(dg_safetensors_create(&writer, files_path("no/x"), entries, 1, NULL, 0) == DG_IO_ERROR,
          "accepted");
    CHECK(strstr(dg_last_error(), "cannot be written: No such file or directory"), "%s",
          dg_last_error());
    CHECK(dg_safetensors_create(&writer, files_directory, entries, 1, NULL, 0) == DG_IO_ERROR,
          "accepted");
    CHECK(strstr(dg_last_error(), "is a directory, so no file can be put in its place"), "%s",
          dg_last_error());
    CHECK(dg_safetensors_create(&writer, "/dev/full", entries, 1, NULL, 0) == DG_IO_ERROR,
          "accepted");
    CHECK(strstr(dg_last_error(), "/dev/full: not a regular file"), "%s", dg_last_error());
}

int main(void)
{
    RUN(test_tensors_are_listed_and_found);
    RUN(test_views_give_the_bytes_also_where_they_lie_unaligned);
    RUN(test_broken_headers_are_refused_with_the_rule);
    RUN(test_lying_header_lengths_are_refused);
    RUN(test_every_truncation_is_refused);
    RUN(test_what_is_no_file_is_refused);
    RUN(test_a_file_that_shrinks_is_noticed);
    RUN(test_written_files_read_back);
    RUN(test_an_incomplete_file_does_not_appear);
    RUN(test_files_that_cannot_be_written_are_refused);
    return harness_end();
}

// SPDX-License-Identifier: MIT
// test_safetensors_index.c - checkpoints of several files: what the index decides, the broken kinds,
// and the layers of FP8 checkpoints.
#include "files.h"
#include "formats/block_fp8.h"
#include "../harness.h"

#define SHARD(name, dtype, shape, end)                                                             \
    "{\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[0," #end "]}}"

static const char index_name[] = "model.safetensors.index.json";

static void write_shards(void)
{
    files_write_safetensors("1.safetensors", SHARD("a.weight", "F8_E4M3", "[130,3]", 390), 390);
    files_write_safetensors("2.safetensors", SHARD("a.weight_scale_inv", "F32", "[2,1]", 8), 8);
    files_write_safetensors("3.safetensors",
                            "{\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[0,4]},"
                            "\"a.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]},"
                            "\"extra\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[5,6]}}",
                            6);
}

static const char good[] =
    "{\"metadata\":{\"total_size\":402},\"weight_map\":{\"b\":\"3.safetensors\","
    "\"a.weight_scale_inv\":\"2.safetensors\",\"a.weight\":\"1.safetensors\"}}";

static dg_status open_index(struct dg_safetensors *checkpoint, const char *index)
{
    return dg_safetensors_open(checkpoint, files_write(index_name, index, strlen(index)));
}

static void test_the_index_decides_which_file_holds_a_tensor(void)
{
    struct dg_safetensors checkpoint;
    write_shards();
    CHECK(open_index(&checkpoint, good) == DG_OK, "%s", dg_last_error());
    CHECK(checkpoint.is_sharded && checkpoint.file_count == 3 && checkpoint.count == 3,
          "%u files, %u tensors", checkpoint.file_count, checkpoint.count);
    const struct dg_safetensors_tensor *a = dg_safetensors_find(&checkpoint, "a.weight");
    CHECK(a && strcmp(checkpoint.files[a->file].name, "1.safetensors") == 0 && a->type == DG_E4M3,
          "the twin in 3.safetensors was taken");
    CHECK(dg_safetensors_find(&checkpoint, "extra") == NULL, "not in the index, but found");
    dg_safetensors_close(&checkpoint);
}

static void test_a_directory_is_opened_by_its_index(void)
{
    struct dg_safetensors checkpoint;
    write_shards();
    files_write(index_name, good, strlen(good));
    CHECK(dg_safetensors_open(&checkpoint, files_directory) == DG_OK, "%s", dg_last_error());
    CHECK(checkpoint.file_count == 3, "%u files", checkpoint.file_count);
    dg_safetensors_close(&checkpoint);
    unlink(files_path(index_name));
    files_write_safetensors("model.safetensors", SHARD("x", "U8", "[1]", 1), 1);
    CHECK(dg_safetensors_open(&checkpoint, files_directory) == DG_OK, "%s", dg_last_error());
    CHECK(!checkpoint.is_sharded && dg_safetensors_find(&checkpoint, "x"), "model.safetensors");
    dg_safetensors_close(&checkpoint);
    unlink(files_path("model.safetensors"));
}

#define MAP(members) "{\"weight_map\":{" members "}}"

static void test_broken_indices_are_refused_with_the_rule(void)
{
    static const struct {
        const char *index, *text;
    } rows[] = {
        {"{", "JSON, byte 1: a key in quotes"},
        {"[]", "the index is an array: must be an object"},
        {"{}", "weight_map is missing"},
        {"{\"weight_map\":[]}", "weight_map is an array: must be an object"},
        {MAP(""), "weight_map is empty"},
        {MAP("\"b\":1"), "weight_map \"b\" is a number: must be the name of a file"},
        {MAP("\"\":\"3.safetensors\""), "a tensor's name is empty"},
        {MAP("\"b\":\"3.safetensors\",\"b\":\"1.safetensors\""), "the key \"b\" stands twice"},
        {MAP("\"b\":\"\""), "shard \"\": must be the name of a file beside the index"},
        {MAP("\"b\":\".\""), "shard \".\": must be the name of a file beside the index"},
        {MAP("\"b\":\"..\""), "shard \"..\": must be the name of a file beside the index"},
        {MAP("\"b\":\"../3.safetensors\""),
         "shard \"../3.safetensors\": must be the name of a file"},
        {MAP("\"b\":\"/etc/passwd\""), "shard \"/etc/passwd\": must be the name of a file"},
        {MAP("\"b\":\"x/3.safetensors\""), "shard \"x/3.safetensors\": must be the name of a file"},
        {MAP("\"b\":\"\\u002e\\u002e\\u002f3\""), "shard \"../3\": must be the name of a file"},
        {MAP("\"b\":\"3.safetensors\\u0000\""), "must not hold a zero byte"},
        {MAP("\"b\":\"4.safetensors\""), "4.safetensors: No such file or directory"},
        {MAP("\"c\":\"3.safetensors\""),
         "tensor \"c\": the index says it is in 3.safetensors, which does not hold it"},
        {MAP("\"b\":\"1.safetensors\""),
         "tensor \"b\": the index says it is in 1.safetensors, which does not hold it"},
        {MAP("\"b\":\"broken.safetensors\""),
         "broken.safetensors: tensor \"b\": unknown dtype \"X\""},
        {MAP("\"b\":\"empty.safetensors\""), "empty.safetensors: the file is empty"},
        {MAP("\"b\":\"folder.safetensors\""), "folder.safetensors: is a directory, not a file"},
        {MAP("\"b\":\"model.safetensors.index.json\""),
         "model.safetensors.index.json: header length"},
    };
    write_shards();
    files_write_safetensors("broken.safetensors", SHARD("b", "X", "[1]", 1), 1);
    files_write("empty.safetensors", "", 0);
    mkdir(files_path("folder.safetensors"), 0700);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_safetensors checkpoint;
        CHECK(open_index(&checkpoint, rows[i].index) == DG_IO_ERROR, "accepted: %s", rows[i].index);
        CHECK(strstr(dg_last_error(), rows[i].text), "%s: \"%s\" lacks \"%s\"", rows[i].index,
              dg_last_error(), rows[i].text);
        CHECK(strstr(dg_last_error(), index_name), "\"%s\" does not name the index",
              dg_last_error());
    }
}

static void test_a_written_index_reads_back(void)
{
    struct dg_strbuf list = {0};
    struct dg_safetensors checkpoint;
    write_shards();
    dg_safetensors_index_add(&list, "b", "3.safetensors");
    dg_safetensors_index_add(&list, "a.weight", "1.safetensors");
    const dg_status status = dg_safetensors_write_index(files_path(index_name), &list, 402);
    dg_strbuf_free(&list);
    CHECK(status == DG_OK, "%s", dg_last_error());
    CHECK(dg_safetensors_open(&checkpoint, files_directory) == DG_OK, "%s", dg_last_error());
    CHECK(checkpoint.count == 2 && checkpoint.file_count == 2, "%u tensors", checkpoint.count);
    dg_safetensors_close(&checkpoint);
}

static void test_a_layer_is_found_with_its_scales(void)
{
    struct dg_safetensors checkpoint;
    struct dg_block_fp8 layer;
    write_shards();
    CHECK(open_index(&checkpoint, good) == DG_OK, "%s", dg_last_error());
    static const char *const names[] = {"a", "a.weight"};
    for (int i = 0; i < 2; i++) {
        CHECK(dg_block_fp8_open(&checkpoint, names[i], &layer) == DG_OK, "%s", dg_last_error());
        CHECK(layer.scaled.values.shape[0] == 130 && layer.scaled.values.shape[1] == 3, "shape");
        CHECK(layer.scaled.scales.shape[0] == 2 && layer.scaled.scales.shape[1] == 1, "scales");
        CHECK(((const uint8_t *)layer.scaled.values.data)[200] == 200, "bytes");
        CHECK(((const uint8_t *)layer.scaled.scales.data)[5] == 5, "bytes");
        dg_block_fp8_close(&layer);
    }
    dg_safetensors_close(&checkpoint);
}

static void test_layers_that_are_not_block_fp8_are_refused(void)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *text;
    } rows[] = {
        {SHARD("x.weight", "U8", "[1]", 1), 1,
         "no tensor \"a.weight\" among the 1 of the checkpoint (the first is \"x.weight\")"},
        {SHARD("a.weight", "BF16", "[1,1]", 2), 2,
         "\"a.weight\" is BF16, not quantised: 'deepgemm quantize IN OUT'"},
        {SHARD("a.weight", "F32", "[1,1]", 4), 4, "\"a.weight\" is F32, not quantised"},
        {SHARD("a.weight", "F8_E5M2", "[1,1]", 1), 1, "\"a.weight\" is F8_E5M2: must be F8_E4M3"},
        {SHARD("a.weight", "F8_E4M3", "[1]", 1), 1, "\"a.weight\" has 1 dimensions: must be 2"},
        {SHARD("a.weight", "F8_E4M3", "[1,1]", 1), 1, "no tensor \"a.weight_scale_inv\""},
        {"{\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,1],\"data_offsets\":[4,5]},"
         "\"a.weight_scale_inv\":{\"dtype\":\"BF16\",\"shape\":[2,1],\"data_offsets\":[0,4]}}",
         5, "\"a.weight_scale_inv\" is BF16: must be F32"},
        {"{\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,1],\"data_offsets\":[4,5]},"
         "\"a.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         5, "needs [1, 1]"},
        {"{\"a.weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[1,129],\"data_offsets\":[4,133]},"
         "\"a.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[0,4]}}",
         133, "a weight of [1, 129] in blocks of 128 x 128 needs [1, 2]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_safetensors file;
        struct dg_block_fp8 layer;
        const char *path = files_write_safetensors("layer", rows[i].header, rows[i].data_bytes);
        CHECK(dg_safetensors_open(&file, path) == DG_OK, "%s", dg_last_error());
        const dg_status status = dg_block_fp8_open(&file, "a", &layer);
        dg_safetensors_close(&file);
        CHECK(status == DG_IO_ERROR, "accepted: %s", rows[i].header);
        CHECK(strstr(dg_last_error(), rows[i].text), "%s: \"%s\" lacks \"%s\"", rows[i].header,
              dg_last_error(), rows[i].text);
    }
}

int main(void)
{
    RUN(test_the_index_decides_which_file_holds_a_tensor);
    RUN(test_a_directory_is_opened_by_its_index);
    RUN(test_broken_indices_are_refused_with_the_rule);
    RUN(test_a_written_index_reads_back);
    RUN(test_a_layer_is_found_with_its_scales);
    RUN(test_layers_that_are_not_block_fp8_are_refused);
    return harness_end();
}

// SPDX-License-Identifier: MIT
// test_npy.c - numpy files: versions, orders, types, what is written, and the broken kinds.
#include "files.h"
#include "formats/half.h"
#include "formats/npy.h"
#include "../harness.h"

#include <math.h>

// A file of version `major`.0 with this header and `data_bytes` bytes that count up from 0.
static const char *write_npy(const char *name, int major, const char *header, size_t data_bytes)
{
    const size_t length = strlen(header), prefix = major == 1 ? 10 : 12;
    unsigned char *bytes = calloc(1, prefix + length + data_bytes);
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (unsigned char)major;
    for (size_t i = 8; i < prefix; i++)
        bytes[i] = (unsigned char)(length >> 8 * (i - 8));
    memcpy(bytes + prefix, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[prefix + length + i] = (unsigned char)i;
    const char *path = files_write(name, bytes, prefix + length + data_bytes);
    free(bytes);
    return path;
}

static void test_every_version_and_order_is_read(void)
{
    for (int version = 1; version <= 3; version++)
        for (int is_fortran = 0; is_fortran < 2; is_fortran++) {
            char header[128];
            snprintf(header, sizeof header,
                     "{'descr': '<f4', 'fortran_order': %s, 'shape': (2, 3), }    \n",
                     is_fortran ? "True" : "False");
            struct dg_tensor tensor;
            CHECK(dg_npy_read(write_npy("v", version, header, 24), &tensor) == DG_OK, "%s",
                  dg_last_error());
            const int64_t down = tensor.stride[0], right = tensor.stride[1];
            const unsigned char last = ((unsigned char *)tensor.data)[23];
            free(tensor.data);
            CHECK(tensor.type == DG_F32 && tensor.rank == 2 && tensor.shape[0] == 2 &&
                      tensor.shape[1] == 3,
                  "facts");
            CHECK(is_fortran ? down == 1 && right == 2 : down == 3 && right == 1,
                  "strides %lld %lld", (long long)down, (long long)right);
            CHECK(last == 23, "data");
        }
}

static void test_spellings_of_the_header_are_read(void)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        dg_type type;
        int rank;
    } rows[] = {
        {"{\"shape\":(3,),\"descr\":\"<f2\",\"fortran_order\":False}\n", 6, DG_F16, 1},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': ()}\n", 8, DG_F64, 0},
        {"{'descr': '<V2', 'fortran_order': False, 'shape': (2, 2,)}\n", 8, DG_BF16, 2},
        {"{'descr': '|V2', 'fortran_order': True, 'shape': (1, 2, 3, 4)}\n", 48, DG_BF16, 4},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (5, 1)}\n", 5, DG_E4M3, 2},
        {"{'descr': '|V1', 'fortran_order': False, 'shape': (5, 1)}\n", 5, DG_E4M3, 2},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807)}\n", 0, DG_F32,
         2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_tensor tensor;
        CHECK(dg_npy_read(write_npy("s", 1, rows[i].header, rows[i].data_bytes), &tensor) == DG_OK,
              "%s: %s", rows[i].header, dg_last_error());
        free(tensor.data);
        CHECK(tensor.type == rows[i].type && tensor.rank == rows[i].rank, "%s", rows[i].header);
    }
}

#define HEADER(descr, order, shape)                                                                \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"

static void test_broken_files_are_refused_with_the_rule(void)
{
    static const struct {
        const char *header;
        size_t data_bytes;
        const char *text;
    } rows[] = {
        {"", 0, "character 0: must start with '{'"},
        {"[]\n", 0, "must start with '{'"},
        {"{}\n", 0, "descr, fortran_order and shape must all be there"},
        {"{'descr': '<f4', 'shape': (1,)}\n", 4,
         "descr, fortran_order and shape must all be there"},
        {"{'descr': '<f4', 'descr': '<f4'}\n", 4, "a key stands twice"},
        {"{'color': '<f4'}\n", 4, "the keys must be descr, fortran_order and shape"},
        {"{descr: '<f4'}\n", 4, "a string in quotes must stand here"},
        {"{'descr' '<f4'}\n", 4, "':' must follow a key"},
        {"{'descr': '<f4' 'shape': (1,)}\n", 4, "',' or '}' must follow an entry"},
        {"{'descr': '<f4", 4, "the header ends inside a string"},
        {"{'de\\x73cr': '<f4'}\n", 4, "plain ASCII without escapes"},
        {HEADER("'>f4'", "False", "(1,)"), 4, "descr '>f4' is big-endian"},
        {HEADER("'<i8'", "False", "(1,)"), 8, "descr '<i8' is not read: must be <f4"},
        {HEADER("'|O'", "False", "(1,)"), 8, "descr '|O' is not read"},
        {HEADER("''", "False", "(1,)"), 8, "descr '' is not read"},
        {HEADER("[('a', '<f4')]", "False", "(1,)"), 4, "arrays of records"},
        {HEADER("4", "False", "(1,)"), 4, "a string in quotes must stand here"},
        {HEADER("'<f4'", "0", "(1,)"), 4, "fortran_order must be True or False"},
        {HEADER("'<f4'", "false", "(1,)"), 4, "fortran_order must be True or False"},
        {HEADER("'<f4'", "False", "[1]"), 4, "shape must be a tuple"},
        {HEADER("'<f4'", "False", "1"), 4, "shape must be a tuple"},
        {HEADER("'<f4'", "False", "(1)"), 4, "a shape of one size needs a comma"},
        {HEADER("'<f4'", "False", "(-1,)"), 4, "a size in shape must be a non-negative integer"},
        {HEADER("'<f4'", "False", "(1.0,)"), 4, "',' or ')' must follow a size in shape"},
        {HEADER("'<f4'", "False", "(1 1)"), 4, "',' or ')' must follow a size in shape"},
        {HEADER("'<f4'", "False", "(,)"), 4, "a size in shape must be a non-negative integer"},
        {HEADER("'<f4'", "False", "(1,,1)"), 4, "a size in shape must be a non-negative integer"},
        {HEADER("'<f4'", "False", "(1"), 4, "a size in shape must be a non-negative integer"},
        {HEADER("'<f4'", "False", "(9223372036854775808,)"), 4,
         "a size in shape is beyond 2^63 - 1"},
        {HEADER("'<f4'", "False", "(4294967296, 4294967296)"), 4,
         "the size of the shape overflows 64 bits"},
        {HEADER("'<f4'", "False", "(1, 1, 1, 1, 1)"), 4, "more than 4 dimensions"},
        {HEADER("'<f4'", "False", "(2,)"), 4,
         "shape and descr need 8 bytes of data, the file has 4"},
        {HEADER("'<f4'", "False", "(1,)"), 5,
         "shape and descr need 4 bytes of data, the file has 5"},
        {HEADER("'<f4'", "False", "(1,)") "\n", 4, "must end with spaces and one line feed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4,
         "must end with spaces and one line feed"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x\n", 4,
         "must end with spaces and one line feed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_tensor tensor;
        const char *path = write_npy("broken", 1, rows[i].header, rows[i].data_bytes);
        CHECK(dg_npy_read(path, &tensor) == DG_IO_ERROR, "accepted: %s", rows[i].header);
        CHECK(strstr(dg_last_error(), rows[i].text), "%s: \"%s\" lacks \"%s\"", rows[i].header,
              dg_last_error(), rows[i].text);
        CHECK(strstr(dg_last_error(), path) == dg_last_error(), "\"%s\" does not name the file",
              dg_last_error());
    }
}

static void test_broken_beginnings_are_refused(void)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *text;
    } rows[] = {
        {"", 0, "the file is empty"},
        {"\x93NUMP", 5, "does not start with"},
        {"PK\x03\x04\0\0\0\0\0\0\0\0", 12, "not an npy file: it does not start with"},
        {"\x93NUMPY\x04\0\0\0\0\0", 12, "npy version 4.0: only 1.0, 2.0 and 3.0 are read"},
        {"\x93NUMPY\x01\x01\0\0\0\0", 12, "npy version 1.1"},
        {"\x93NUMPY\x01\0\0", 9, "the file ends before its header"},
        {"\x93NUMPY\x02\0\0\0", 10, "the file ends before its header"},
        {"\x93NUMPY\x01\0\x09\0{}", 12, "header length 9, but only 2 bytes follow it"},
        {"\x93NUMPY\x02\0\xff\xff\xff\xff{}", 14,
         "header length 4294967295: at most 65536 bytes are read"},
        {"\x93NUMPY\x03\0\x00\xe4\x0b\x54{}", 14, "header length 1410065408: at most"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_tensor tensor;
        CHECK(dg_npy_read(files_write("start", rows[i].bytes, rows[i].length), &tensor) ==
                  DG_IO_ERROR,
              "row %zu: accepted", i);
        CHECK(strstr(dg_last_error(), rows[i].text), "\"%s\" lacks \"%s\"", dg_last_error(),
              rows[i].text);
    }
    struct dg_tensor tensor;
    CHECK(dg_npy_read(files_path("missing"), &tensor) == DG_IO_ERROR, "accepted");
    CHECK(strstr(dg_last_error(), "missing: No such file or directory"), "%s", dg_last_error());
    CHECK(dg_npy_read(files_directory, &tensor) == DG_IO_ERROR, "accepted");
    CHECK(strstr(dg_last_error(), "is a directory, not a file"), "%s", dg_last_error());
}

static void test_written_arrays_read_back(void)
{
    static const dg_type types[] = {DG_F32, DG_F16, DG_F64, DG_BF16, DG_E4M3};
    unsigned char data[6 * 8];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(37 * i + 1);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        for (int rank = 0; rank <= DG_MAX_RANK; rank++) {
            struct dg_tensor tensor = {data, types[i], rank, {1, 1, 1, 1}, {0}}, again;
            tensor.shape[0] = rank ? 6 : 1;
            CHECK(dg_npy_write(files_path("w"), &tensor) == DG_OK, "%s", dg_last_error());
            CHECK(dg_npy_read(files_path("w"), &again) == DG_OK, "%s", dg_last_error());
            const int equal =
                memcmp(again.data, data, (rank ? 6 : 1) * dg_type_bytes(types[i])) == 0;
            free(again.data);
            CHECK(equal && again.type == types[i] && again.rank == rank, "type %d rank %d",
                  types[i], rank);
            size_t length;
            unsigned char *bytes = files_read(files_path("w"), &length);
            const size_t header = bytes[8] + 256u * bytes[9];
            free(bytes);
            CHECK((10 + header) % 64 == 0, "the data starts at %zu", 10 + header);
        }
    struct dg_tensor integers = dg_matrix(data, DG_I32, 1, 1);
    CHECK(dg_npy_write(files_path("w"), &integers) == DG_INVALID_ARGUMENT, "accepted");
    CHECK(strstr(dg_last_error(), "numpy has no form of i32"), "%s", dg_last_error());
}

static float half_by_definition(int half)
{
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    const double sign = half >> 15 ? -1 : 1;
    if (exponent == 31)
        return mantissa ? NAN : (float)(sign * INFINITY);
    return (float)(sign *
                   (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24)));
}

static void test_every_half_is_widened_exactly(void)
{
    for (int half = 0; half < 65536; half++) {
        const float value = dg_formats_half_to_float((uint16_t)half),
                    expected = half_by_definition(half);
        CHECK(isnan(expected) ? isnan(value)
                              : value == expected && signbit(value) == signbit(expected),
              "%04x gives %g, not %g", (unsigned)half, (double)value, (double)expected);
    }
}

static void test_conversion_follows_the_strides(void)
{
    // [[0, 1, 2], [3, 4, 5]] in Fortran order, in each type.
    float f32[] = {0, 3, 1, 4, 2, 5};
    double f64[] = {0, 3, 1, 4, 2, 5};
    uint16_t f16[] = {0x0000, 0x4200, 0x3c00, 0x4400, 0x4000, 0x4500};
    uint16_t bf16[] = {0x0000, 0x4040, 0x3f80, 0x4080, 0x4000, 0x40a0};
    const struct {
        dg_type type;
        void *data;
    } rows[] = {{DG_F32, f32}, {DG_F64, f64}, {DG_F16, f16}, {DG_BF16, bf16}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dg_tensor from = {rows[i].data, rows[i].type, 2, {2, 3}, {1, 2}}, to;
        CHECK(dg_npy_to_f32(&from, &to) == DG_OK, "%s", dg_last_error());
        int wrong = to.type != DG_F32 || to.stride[0] != 3 || to.stride[1] != 1;
        for (int j = 0; j < 6; j++)
            wrong += ((float *)to.data)[j] != (float)j;
        free(to.data);
        CHECK(!wrong, "%s", dg_type_name(rows[i].type));
    }
    struct dg_tensor bytes = dg_matrix(f32, DG_E4M3, 1, 1), to;
    CHECK(dg_npy_to_f32(&bytes, &to) == DG_INVALID_ARGUMENT, "accepted");
    CHECK(strstr(dg_last_error(), "e4m3 elements: must be f32, f64, f16 or bf16"), "%s",
          dg_last_error());
}

int main(void)
{
    RUN(test_every_version_and_order_is_read);
    RUN(test_spellings_of_the_header_are_read);
    RUN(test_broken_files_are_refused_with_the_rule);
    RUN(test_broken_beginnings_are_refused);
    RUN(test_written_arrays_read_back);
    RUN(test_every_half_is_widened_exactly);
    RUN(test_conversion_follows_the_strides);
    return harness_end();
}

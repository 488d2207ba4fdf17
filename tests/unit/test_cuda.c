// SPDX-License-Identifier: MIT
// test_cuda.c - the CUDA layer against a driver of our own (fake_cuda.h), and its behaviour without one.
#include "fake_cuda.h"

#include "cuda/context.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/tensor_map.h"

#include "../harness.h"

#include <stdlib.h>

static void reset(void)
{
    memset(&fake, 0, sizeof fake);
}

static int error_has(const char *words)
{
    return strstr(dg_last_error(), words) != NULL;
}

// ---- driver -----------------------------------------------------------------------------------------

static void test_driver_is_absent_with_a_reason_or_complete(void)
{
    struct dg_strbuf why_not = {0};
    const struct dg_cuda *cuda = dg_cuda_driver(&why_not);
    CHECK(cuda == dg_cuda_driver(NULL), "two answers in one process");
    if (cuda) {
        CHECK(cuda->num_devices > 0 && cuda->driver_version >= 12000 && cuda->cuLaunchKernelEx,
              "%d devices, version %d", cuda->num_devices, cuda->driver_version);
        CHECK(!why_not.length, "a driver, and yet: %s", dg_strbuf_text(&why_not));
    } else {
        CHECK(strstr(dg_strbuf_text(&why_not), "driver"), "reason: `%s`", dg_strbuf_text(&why_not));
        CHECK(why_not.length > 20, "reason: `%s`", dg_strbuf_text(&why_not));
    }
    dg_strbuf_free(&why_not);
}

static dg_status fail_with(CUresult result)
{
    DG_CUDA_TRY(result, "allocating %d bytes", 7);
    return DG_OK;
}

static void test_results_become_the_status_that_fits(void)
{
    static const struct {
        CUresult result;
        dg_status status;
    } rows[] = {{CUDA_SUCCESS, DG_OK},
                {CUDA_ERROR_OUT_OF_MEMORY, DG_OUT_OF_MEMORY},
                {CUDA_ERROR_NO_DEVICE, DG_NO_DEVICE},
                {CUDA_ERROR_ILLEGAL_ADDRESS, DG_CUDA_ERROR},
                {CUDA_ERROR_INVALID_VALUE, DG_CUDA_ERROR}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(fail_with(rows[i].result) == rows[i].status, "result %d", (int)rows[i].result);
    CHECK(error_has("allocating 7 bytes: "), "%s", dg_last_error());
    CHECK(error_has("(1)"), "the number is missing: %s", dg_last_error());
}

// ---- device and context -----------------------------------------------------------------------------

static void test_device_facts_are_in_our_units(void)
{
    struct dg_device device;
    CHECK(dg_cuda_device_facts(&fake_cuda, 1, &device) == DG_OK, "%s", dg_last_error());
    CHECK(device.kind == DG_DEVICE_CUDA && device.ordinal == 1, "ordinal %d", device.ordinal);
    CHECK(device.arch == 90 && device.num_sms == 132 && device.all_sms == 132, "arch %d, %d SMs",
          device.arch, device.num_sms);
    CHECK(device.smem_bytes == 232448 && device.l2_bytes == 52428800, "smem %d", device.smem_bytes);
    CHECK(device.sm_clock_mhz == 1980, "%d MHz", device.sm_clock_mhz);
    CHECK(device.memory_gbs > 3352 && device.memory_gbs < 3353, "%g GB/s", device.memory_gbs);
    CHECK(!strcmp(device.name, "NVIDIA H100 80GB HBM3"), "%s", device.name);
}

static void test_device_ordinals_are_bounded(void)
{
    struct dg_device device = {.ordinal = 77};
    struct dg_cuda_context context;
    static const int wrong[] = {-1, 2, 1 << 30};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(dg_cuda_device_facts(&fake_cuda, wrong[i], &device) == DG_INVALID_ARGUMENT, "%d",
              wrong[i]);
    CHECK(device.ordinal == 77, "a failing call wrote its output");
    CHECK(dg_cuda_context_open(&context, &fake_cuda, 2) == DG_INVALID_ARGUMENT, "device 2 of 2");
    CHECK(error_has("device = 2"), "%s", dg_last_error());
}

static void test_own_current_context_is_used_as_it_is(void)
{
    struct dg_cuda_context context;
    struct dg_cuda_scope scope;
    reset();
    fake.current = fake_context(1, 1);
    CHECK(dg_cuda_context_open(&context, &fake_cuda, -1) == DG_OK, "%s", dg_last_error());
    CHECK(context.ordinal == 1, "-1 took device %d, the current one is 1", context.ordinal);
    CHECK(dg_cuda_enter(&context, &scope) == DG_OK, "%s", dg_last_error());
    CHECK(fake.current == fake_context(1, 1), "another context was made current");
    dg_cuda_leave(&context, &scope);
    dg_cuda_context_close(&context);
    CHECK(!fake.num_pushes && !fake.num_pops && !fake.num_retains && !fake.num_releases,
          "%d pushes, %d retains", fake.num_pushes, fake.num_retains);
}

static void test_primary_context_is_retained_once_and_pushed_each_time(void)
{
    struct dg_cuda_context context;
    struct dg_cuda_scope scope;
    static const int others[] = {0, 16 + 1}; // no context, one of device 1
    reset();
    CHECK(dg_cuda_context_open(&context, &fake_cuda, 0) == DG_OK, "%s", dg_last_error());
    for (int i = 0; i < 10; i++) {
        fake.current = (CUcontext)(uintptr_t)others[i % 2];
        CHECK(dg_cuda_enter(&context, &scope) == DG_OK, "%s", dg_last_error());
        CHECK(fake.current == fake_context(2, 0), "the primary context is not current");
        dg_cuda_leave(&context, &scope);
        CHECK(fake.current == (CUcontext)(uintptr_t)others[i % 2], "the caller's was not restored");
    }
    dg_cuda_context_close(&context);
    dg_cuda_context_close(&context);
    CHECK(fake.num_retains == 1 && fake.num_releases == 1, "%d retains, %d releases",
          fake.num_retains, fake.num_releases);
    CHECK(fake.num_pushes == 10 && fake.num_pops == 10, "%d pushes, %d pops", fake.num_pushes,
          fake.num_pops);
}

static void test_pointers_must_be_memory_of_the_device(void)
{
    struct dg_cuda_context context;
    void *const pointer = (void *)0x7f0000000000;
    reset();
    CHECK(dg_cuda_context_open(&context, &fake_cuda, 0) == DG_OK, "%s", dg_last_error());
    fake.memory_type = CU_MEMORYTYPE_DEVICE;
    CHECK(dg_cuda_check_pointer(&context, pointer, "a") == DG_OK, "%s", dg_last_error());
    fake.ordinal = 1;
    CHECK(dg_cuda_check_pointer(&context, pointer, "a") == DG_INVALID_ARGUMENT, "device 1");
    CHECK(error_has("a.data") && error_has("CUDA device 1"), "%s", dg_last_error());
    fake.is_managed = 1;
    CHECK(dg_cuda_check_pointer(&context, pointer, "a") == DG_OK, "managed memory is everywhere");
    fake.is_managed = 0;
    static const int host[] = {0, CU_MEMORYTYPE_HOST}; // unknown to the driver; pinned
    for (int i = 0; i < 2; i++) {
        fake.memory_type = host[i];
        fake.ordinal = 0;
        CHECK(dg_cuda_check_pointer(&context, pointer, "sfb") == DG_INVALID_ARGUMENT, "host");
        CHECK(error_has("sfb.data = 0x7f0000000000: is host memory"), "%s", dg_last_error());
    }
    CHECK(dg_cuda_check_pointer(&context, NULL, "d") == DG_INVALID_ARGUMENT, "NULL");
    CHECK(error_has("d.data = NULL"), "%s", dg_last_error());
    dg_cuda_context_close(&context);
}

// ---- tensor maps ------------------------------------------------------------------------------------

// [rows, 512] E4M3 in boxes of 64 x 128 bytes.
static struct dg_tensor_map_desc matrix_desc(uintptr_t address, uint64_t rows)
{
    struct dg_tensor_map_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.data = (const void *)address;
    desc.shape[0] = 512;
    desc.shape[1] = rows;
    desc.stride_bytes[0] = 512;
    desc.box[0] = 128;
    desc.box[1] = 64;
    desc.rank = 2;
    desc.type = CU_TENSOR_MAP_DATA_TYPE_UINT8;
    desc.swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
    return desc;
}

static void test_rows_between_lines_bring_less_into_the_cache(void)
{
    struct dg_tensor_map_desc desc = matrix_desc(0x10000, 100);
    CHECK(dg_cuda_tensor_map_promotion(&desc, 1) == CU_TENSOR_MAP_L2_PROMOTION_L2_256B, "512");
    desc.stride_bytes[0] = 528;
    CHECK(dg_cuda_tensor_map_promotion(&desc, 1) == CU_TENSOR_MAP_L2_PROMOTION_L2_128B, "528");
    CHECK(dg_cuda_tensor_map_promotion(&desc, 0) == CU_TENSOR_MAP_L2_PROMOTION_L2_256B, "once");
    desc.box[0] = 64;
    CHECK(dg_cuda_tensor_map_promotion(&desc, 1) == CU_TENSOR_MAP_L2_PROMOTION_L2_256B, "64 wide");
}

static void test_tensor_map_rules_name_the_rule_and_the_value(void)
{
    const struct dg_tensor_map_desc good = matrix_desc(0x10000, 100);
    CHECK(dg_cuda_tensor_map_check("a", &good) == DG_OK, "%s", dg_last_error());
#define REFUSES(change, words)                                                                     \
    do {                                                                                           \
        struct dg_tensor_map_desc bad = good;                                                      \
        bad.change;                                                                                \
        CHECK(dg_cuda_tensor_map_check("a", &bad) == DG_INVALID_ARGUMENT, #change);                \
        CHECK(error_has("a") && error_has(words), #change ": %s", dg_last_error());                \
    } while (0)
    REFUSES(data = (void *)0x10008, "multiples of 16; this one is 8 bytes past one");
    REFUSES(stride_bytes[0] = 520, "stride of 520 bytes: TMA takes multiples of 16; 528 bytes");
    REFUSES(stride_bytes[0] = (uint64_t)1 << 40, "less than 2^40");
    REFUSES(shape[1] = 0, "dimension 1 has 0 elements");
    REFUSES(shape[0] = ((uint64_t)1 << 32) + 1, "dimension 0 has 4294967297 elements");
    REFUSES(box[1] = 257, "box dimension 1 is 257: TMA takes 1 to 256");
    REFUSES(box[1] = 0, "box dimension 1 is 0");
    REFUSES(box[0] = 120, "120 bytes wide: TMA takes multiples of 16");
    REFUSES(box[0] = 144, "144 bytes wide: a 128-byte swizzle takes at most 128");
    REFUSES(swizzle = CU_TENSOR_MAP_SWIZZLE_64B, "a 64-byte swizzle takes at most 64");
#undef REFUSES
    struct dg_tensor_map_desc wide = good; // without a swizzle 256 bytes are fine
    wide.box[0] = 256;
    wide.swizzle = CU_TENSOR_MAP_SWIZZLE_NONE;
    CHECK(dg_cuda_tensor_map_check("a", &wide) == DG_OK, "%s", dg_last_error());
}

static void test_only_sound_tensor_maps_are_encoded(void)
{
    struct dg_tensor_map_desc zero;
    CUtensorMap map;
    reset();
    memset(&zero, 0, sizeof zero);
    CHECK(dg_cuda_tensor_map_encode(&fake_cuda, "a", &zero, &map) != DG_OK, "rank 0 was taken");
    const struct dg_tensor_map_desc bad = matrix_desc(0x10001, 1), good = matrix_desc(0x20000, 64);
    CHECK(dg_cuda_tensor_map_encode(&fake_cuda, "a", &bad, &map) == DG_INVALID_ARGUMENT,
          "a crooked pointer was taken");
    CHECK(fake.num_encodes == 0, "%d encodes", fake.num_encodes);
    CHECK(dg_cuda_tensor_map_encode(&fake_cuda, "a", &good, &map) == DG_OK, "%s", dg_last_error());
    CHECK(fake.num_encodes == 1 && map.opaque[0] == 0x20000, "the map of another pointer");
}

// ---- launch -----------------------------------------------------------------------------------------

static void test_launch_passes_what_it_was_given(void)
{
    void *parameters[1] = {NULL};
    struct dg_cuda_launch launch = {.name = "k",
                                    .grid = {132},
                                    .block = {384},
                                    .cluster = {2},
                                    .smem_bytes = 200000,
                                    .pdl = 1,
                                    .stream = (CUstream)0x5,
                                    .parameters = parameters};
    reset();
    CHECK(dg_cuda_launch(&fake_cuda, &launch) == DG_OK, "%s", dg_last_error());
    CHECK(fake.launch.gridDimX == 132 && fake.launch.gridDimY == 1 && fake.launch.gridDimZ == 1 &&
              fake.launch.blockDimX == 384 && fake.launch.sharedMemBytes == 200000 &&
              fake.launch.hStream == (CUstream)0x5,
          "grid %u %u", fake.launch.gridDimX, fake.launch.gridDimY);
    CHECK(fake.launch.numAttrs == 2, "%u attributes", fake.launch.numAttrs);
    CHECK(fake.attributes[0].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION &&
              fake.attributes[0].value.clusterDim.x == 2 &&
              fake.attributes[0].value.clusterDim.y == 1,
          "cluster attribute");
    CHECK(fake.attributes[1].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
          "dependent launch attribute");
    launch.cluster[0] = 1;
    launch.pdl = 0;
    CHECK(dg_cuda_launch(&fake_cuda, &launch) == DG_OK, "%s", dg_last_error());
    CHECK(fake.launch.numAttrs == 0, "%u attributes", fake.launch.numAttrs);
}

static void test_refused_launch_tells_its_size(void)
{
    const struct dg_cuda_launch launch = {.name = "k", .grid = {7}, .block = {128}};
    reset();
    fake.launch_result = CUDA_ERROR_INVALID_CLUSTER_SIZE;
    CHECK(dg_cuda_launch(&fake_cuda, &launch) == DG_CUDA_ERROR, "status");
    CHECK(error_has("launching k (grid 7x1x1, block 128"), "%s", dg_last_error());
}

int main(void)
{
    RUN(test_driver_is_absent_with_a_reason_or_complete);
    RUN(test_results_become_the_status_that_fits);
    RUN(test_device_facts_are_in_our_units);
    RUN(test_device_ordinals_are_bounded);
    RUN(test_own_current_context_is_used_as_it_is);
    RUN(test_primary_context_is_retained_once_and_pushed_each_time);
    RUN(test_pointers_must_be_memory_of_the_device);
    RUN(test_rows_between_lines_bring_less_into_the_cache);
    RUN(test_tensor_map_rules_name_the_rule_and_the_value);
    RUN(test_only_sound_tensor_maps_are_encoded);
    RUN(test_launch_passes_what_it_was_given);
    RUN(test_refused_launch_tells_its_size);
    return harness_end();
}

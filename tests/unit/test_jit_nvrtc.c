// SPDX-License-Identifier: MIT
// test_jit_nvrtc.c - real compilers: every NVRTC that can be found (below $BUILD/optional, and by the
// library's own search), and nvcc.  No GPU is needed; what is not installed is skipped.
#include "../harness.h"

#include "jit/compile.h"
#include "jit/nvrtc_find.h"
#include "jit/ptxas.h"

#include <glob.h>
#include <stdlib.h>

static const struct dg_log silent = {NULL, NULL, DG_LOG_ERROR};
static const struct dg_jit_options no_disk = {.cache_dir = NULL};

// A kernel for sm_90a only: one wgmma on what lies in shared memory, and a parameter of 128 bytes.
static const char wgmma_source[] =
    "struct map { alignas(64) unsigned long long words[16]; };\n"
    "extern \"C\" __global__ void __launch_bounds__(128) DG_ENTRY(const __grid_constant__ map m, "
    "float *d)\n"
    "{\n"
    "    float acc[4] = {0, 0, 0, 0};\n"
    "    asm volatile(\"wgmma.fence.sync.aligned;\");\n"
    "    asm volatile(\"{ .reg .pred p; setp.ne.b32 p, %6, 0;\"\n"
    "        \"wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%0,%1,%2,%3}, %4, %5, p, 1, 1; "
    "}\"\n"
    "        : \"+f\"(acc[0]), \"+f\"(acc[1]), \"+f\"(acc[2]), \"+f\"(acc[3])\n"
    "        : \"l\"(m.words[0]), \"l\"(m.words[1]), \"r\"(0));\n"
    "    asm volatile(\"wgmma.commit_group.sync.aligned;\");\n"
    "    asm volatile(\"wgmma.wait_group.sync.aligned 0;\");\n"
    "    for (int i = 0; i < 4; i++) d[4 * threadIdx.x + i] = acc[i] * DG_SCALE;\n"
    "}\n";

enum { MAX_COMPILERS = 6 };
static struct dg_jit_compiler compilers[MAX_COMPILERS];
static int num_compilers;

static bool add(void *user, const char *file, bool must_be_loaded)
{
    struct dg_strbuf looked = {0};
    if (num_compilers < MAX_COMPILERS && dg_nvrtc_open(file, 0, &compilers[num_compilers], &looked))
        num_compilers++;
    dg_strbuf_free(&looked);
    return false; // all of them
}

// Every NVRTC of a version that is not there yet.
static void find_compilers(void)
{
    const char *build = getenv("BUILD");
    struct dg_strbuf looked = {0};
    char pattern[1024];
    glob_t matches;
    snprintf(pattern, sizeof pattern, "%s/optional/nvrtc1*/nvidia/*/lib/libnvrtc.so.1[2-9]",
             build ? build : "build");
    if (!glob(pattern, 0, NULL, &matches)) {
        for (size_t i = 0; i < matches.gl_pathc; i++)
            add(NULL, matches.gl_pathv[i], false);
        globfree(&matches);
    }
    if (num_compilers < MAX_COMPILERS && dg_nvrtc_open(NULL, 0, &compilers[num_compilers], &looked))
        num_compilers++;
    if (num_compilers < MAX_COMPILERS && dg_nvcc_open(&no_disk, &compilers[num_compilers], &looked))
        num_compilers++;
    for (int i = 0; i < num_compilers; i++)
        printf("# %s: %s\n", compilers[i].id, compilers[i].where);
    dg_strbuf_free(&looked);
}

static dg_status compile(const struct dg_jit_compiler *compiler,
                         const struct dg_jit_options *options, const char *source,
                         struct dg_jit_binary *binary)
{
    struct dg_jit_request request = {.name = "kernel_under_test", .source = source, .arch = 90};
    dg_jit_define(&request, "DG_SCALE", 3);
    dg_status status = dg_jit_compile_with(options, compiler, "", &silent, &request, binary);
    dg_jit_request_free(&request);
    return status;
}

#define EACH_COMPILER(compiler)                                                                    \
    const struct dg_jit_compiler *compiler = compilers;                                            \
    compiler < compilers + num_compilers;                                                          \
    compiler++

static void test_hopper_kernel_compiles_with_every_compiler(void)
{
    if (!num_compilers)
        SKIP("neither an NVRTC nor nvcc was found");
    for (EACH_COMPILER(compiler)) {
        struct dg_jit_binary binary;
        struct dg_ptxas_facts facts;
        CHECK(compile(compiler, &no_disk, wgmma_source, &binary) == DG_OK, "%s", dg_last_error());
        CHECK(binary.cubin_bytes > 1000 && !memcmp(binary.cubin, "\177ELF", 4), "%s: no ELF file",
              compiler->id);
        CHECK(!strcmp(binary.compiler, compiler->id) && !binary.directory, "%s", binary.compiler);
        dg_ptxas_read(binary.log, &facts);
        CHECK(facts.found && facts.num_registers > 4, "%s: no figures in `%s`", compiler->id,
              binary.log);
        CHECK(!facts.stack_bytes && !facts.spill_store_bytes && !*facts.advice, "%s: %s",
              compiler->id, binary.log);
        printf("# %s: %zu bytes in %.3f s\n", compiler->id, binary.cubin_bytes, binary.seconds);
        dg_jit_binary_free(&binary);
    }
}

static void test_refusal_carries_file_line_and_message(void)
{
    if (!num_compilers)
        SKIP("neither an NVRTC nor nvcc was found");
    for (EACH_COMPILER(compiler)) {
        struct dg_jit_binary binary;
        CHECK(compile(compiler, &no_disk, "\n\nint x = undeclared_name;\n", &binary) ==
                  DG_COMPILE_FAILED,
              "%s", compiler->id);
        CHECK(strstr(dg_last_error(), "kernel_under_test.cu(3)") &&
                  strstr(dg_last_error(), "undeclared_name") &&
                  strstr(dg_last_error(), compiler->where),
              "%s", dg_last_error());
    }
}

static void test_spills_are_seen(void)
{
    static const char source[] =
        "extern \"C\" __global__ void DG_ENTRY(int *x, int i)\n"
        "{ int local[64]; for (int j = 0; j < 64; j++) local[x[j] & 63] = j;\n"
        "  x[0] = local[i]; }\n";
    struct dg_jit_options strict = no_disk;
    strict.refuse_local_memory = true;
    if (!num_compilers)
        SKIP("neither an NVRTC nor nvcc was found");
    for (EACH_COMPILER(compiler)) {
        struct dg_jit_binary binary;
        CHECK(compile(compiler, &no_disk, source, &binary) == DG_OK, "%s", dg_last_error());
        dg_jit_binary_free(&binary);
        CHECK(compile(compiler, &strict, source, &binary) == DG_COMPILE_FAILED,
              "%s: 256 bytes of stack", compiler->id);
        CHECK(strstr(dg_last_error(), "256 bytes of stack"), "%s", dg_last_error());
    }
}

static void test_newer_nvrtc_than_the_driver_is_the_last_resort(void)
{
    static struct dg_jit_compiler any, chosen; // never closed
    struct dg_strbuf looked = {0};
    if (!dg_nvrtc_open(NULL, 0, &any, &looked)) {
        CHECK(strstr(dg_strbuf_text(&looked), "CUDA_HOME"), "it does not say where it looked");
        dg_strbuf_free(&looked);
        SKIP("no NVRTC by the library's own search");
    }
    CHECK(dg_nvrtc_open(NULL, 12040, &chosen, &looked), "with a driver of 12.4 none was found");
    dg_strbuf_free(&looked);
    CHECK(chosen.major == 12 || chosen.major == any.major, "major %d", chosen.major);
    struct dg_jit_compiler none;
    CHECK(!dg_nvrtc_open("/nowhere/libnvrtc.so.13", 0, &none, &looked),
          "a missing file was opened");
    CHECK(strstr(dg_strbuf_text(&looked), "/nowhere/libnvrtc.so.13"), "%s",
          dg_strbuf_text(&looked));
    dg_strbuf_free(&looked);
}

int main(void)
{
    find_compilers();
    RUN(test_hopper_kernel_compiles_with_every_compiler);
    RUN(test_refusal_carries_file_line_and_message);
    RUN(test_spills_are_seen);
    RUN(test_newer_nvrtc_than_the_driver_is_the_last_resort);
    return harness_end();
}

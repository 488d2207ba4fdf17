// SPDX-License-Identifier: MIT
// test_jit_source.c - kernel texts: includes expanded once, line numbers kept, the folder of an editor's
// copies before the embedded text; and what is read out of ptxas logs.
#include "../harness.h"

#include "base/file.h"
#include "jit/ptxas.h"
#include "jit/source.h"
#include "jit/sources.h"

#include <stdlib.h>
#include <unistd.h>

static char folder[256];

static void write_source(const char *name, const char *text)
{
    char path[512], *slash;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    slash = strrchr(path, '/');
    *slash = 0;
    dg_folder_make(path);
    *slash = '/';
    if (dg_file_write(path, text, strlen(text)) != DG_OK)
        printf("# %s\n", dg_last_error());
}

static const char *make_folder(void)
{
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/dg-test-source-XXXXXX", temporary ? temporary : "/tmp");
    return mkdtemp(folder);
}

static void remove_folder(void)
{
    static const char *const below[] = {"backend/sm90", "backend/device", "backend", ""};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, below[i]);
        dg_folder_remove(path);
    }
}

static void test_includes_are_expanded_once_with_true_line_numbers(void)
{
    CHECK(make_folder(), "no folder");
    write_source("backend/sm90/k.cu",
                 "// top\n#include \"deep.cuh\"\n  #  include \"../device/ptx.cuh\" // x\n"
                 "int kernel;\n#include <cuda.h>\n#include \"not_ours.h\"\nend");
    write_source("backend/sm90/deep.cuh", "#include \"ptx.cuh\"\nint deep;\n");
    write_source("backend/device/ptx.cuh", "int ptx;\n");
    struct dg_strbuf text = {0};
    CHECK(dg_jit_source_add(folder, "k.cu", &text) == DG_OK, "%s", dg_last_error());
    static const char wanted[] =
        "#line 1 \"k.cu\"\n// top\n#line 1 \"deep.cuh\"\n#line 1 \"ptx.cuh\"\n"
        "int ptx;\n#line 2 \"deep.cuh\"\nint deep;\n#line 3 \"k.cu\"\n"
        "#line 4 \"k.cu\"\nint kernel;\n#include <cuda.h>\n"
        "#include \"not_ours.h\"\nend\n";
    CHECK(!strcmp(dg_strbuf_text(&text), wanted), "%s", dg_strbuf_text(&text));
    dg_strbuf_free(&text);
    remove_folder();
}

static void test_file_that_includes_itself_ends(void)
{
    CHECK(make_folder(), "no folder");
    write_source("k.cu", "#include \"k.cu\"\nint k;\n");
    struct dg_strbuf text = {0};
    CHECK(dg_jit_source_add(folder, "k.cu", &text) == DG_OK, "%s", dg_last_error());
    CHECK(!strcmp(dg_strbuf_text(&text), "#line 1 \"k.cu\"\n#line 2 \"k.cu\"\nint k;\n"), "%s",
          dg_strbuf_text(&text));
    dg_strbuf_free(&text);
    remove_folder();
}

static void test_lines_that_only_look_like_includes_are_kept(void)
{
    static const char *const lines[] = {
        "#include", "#include \"",        "#include \"open",         "#",
        "",         "#includes \"k.cu\"", "int x; #include \"k.cu\""};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct dg_strbuf text = {0};
        CHECK(dg_jit_source_add_text(NULL, "k.cu", lines[i], &text) == DG_OK, "%s",
              dg_last_error());
        CHECK(strstr(dg_strbuf_text(&text), lines[i]), "`%s` became `%s`", lines[i],
              dg_strbuf_text(&text));
        dg_strbuf_free(&text);
    }
}

static void test_missing_source_is_an_error(void)
{
    struct dg_strbuf text = {0};
    CHECK(dg_jit_source_add("/nowhere", "no_such_kernel.cu", &text) == DG_INTERNAL, "status");
    CHECK(strstr(dg_last_error(), "no_such_kernel.cu") && strstr(dg_last_error(), "/nowhere"), "%s",
          dg_last_error());
    dg_strbuf_free(&text);
}

static void test_every_embedded_source_expands(void)
{
    int count = 0;
    for (const struct dg_kernel_source *source = dg_kernel_sources; source->name;
         source++, count++) {
        struct dg_strbuf text = {0};
        CHECK(dg_jit_source_add(NULL, source->name, &text) == DG_OK, "%s", dg_last_error());
        CHECK(!strstr(dg_strbuf_text(&text), "#include \""),
              "%s includes a file that is not embedded", source->name);
        dg_strbuf_free(&text);
    }
    if (!count)
        SKIP("no kernel is embedded yet");
}

// ---- ptxas ------------------------------------------------------------------------------------------

static void test_ptxas_figures_are_found(void)
{
    struct dg_ptxas_facts facts;
    dg_ptxas_read(
        "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
        "    144 bytes stack frame, 132 bytes spill stores, 96 bytes spill loads\n"
        "ptxas info    : Used 168 registers, used 9 barriers, 144 bytes cumulative stack size\n"
        "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are "
        "serialized due to insufficient register resources for the wgmma pipeline in the "
        "function 'k'\n",
        &facts);
    CHECK(facts.found && facts.num_registers == 168, "%d registers", facts.num_registers);
    CHECK(facts.stack_bytes == 144 && facts.spill_store_bytes == 132 &&
              facts.spill_load_bytes == 96,
          "%d %d %d", facts.stack_bytes, facts.spill_store_bytes, facts.spill_load_bytes);
    CHECK(strstr(facts.advice, "are serialized"), "%s", facts.advice);
    dg_ptxas_read("", &facts);
    CHECK(!facts.found && !facts.num_registers && !*facts.advice, "figures out of nothing");
    dg_ptxas_read("used registers bytes stack frame", &facts);
    CHECK(!facts.found && !facts.stack_bytes, "figures without numbers");
}

int main(void)
{
    RUN(test_includes_are_expanded_once_with_true_line_numbers);
    RUN(test_file_that_includes_itself_ends);
    RUN(test_lines_that_only_look_like_includes_are_kept);
    RUN(test_missing_source_is_an_error);
    RUN(test_every_embedded_source_expands);
    RUN(test_ptxas_figures_are_found);
    return harness_end();
}

// SPDX-License-Identifier: MIT
// sm90_wgmma.c - PTX ISA 9.7.16.5, as inline assembly.
#include "backend/sm90/sm90_wgmma.h"

static void add_registers(struct dg_strbuf *text, const char *format, int count)
{
    for (int i = 0; i < count; i++) {
        dg_strbuf_add(text, "%s", i ? ", " : "");
        dg_strbuf_add(text, format, i);
    }
}

static void emit_wait(struct dg_strbuf *text, const char *name, int pending, int count)
{
    dg_strbuf_add(text,
                  "static __device__ __forceinline__ void %s(float *d)\n"
                  "{\n    asm volatile(\"wgmma.wait_group.sync.aligned %d;\" : ",
                  name, pending);
    add_registers(text, "\"+f\"(d[%d])", count);
    dg_strbuf_add(text, " :: \"memory\");\n}\n");
}

// The upper half of a descriptor names the swizzle that fits the depth, and the distance of groups of eight rows.
void dg_sm90_emit_wgmma(struct dg_strbuf *text, int n, int depth)
{
    const int count = n / 2;
    const unsigned swizzle = depth == 128 ? 1 : depth == 64 ? 2 : 3;
    const unsigned high = swizzle << 30 | (unsigned)(depth / 2);
    dg_strbuf_add(text,
                  "static __device__ __forceinline__ void dg_wgmma(float *d, unsigned a, unsigned "
                  "b, int accumulate)\n"
                  "{\n    asm volatile(\"{.reg .pred p; .reg .b64 x, y;\\n\"\n"
                  "        \"setp.ne.b32 p, %%%d, 0; mov.b64 x, {%%%d, 0x%08x}; mov.b64 y, "
                  "{%%%d, 0x%08x};\\n\"\n"
                  "        \"wgmma.mma_async.sync.aligned.m64n%dk32.f32.e4m3.e4m3 {",
                  count + 2, count, high, count + 1, high, n);
    add_registers(text, "%%%d", count);
    dg_strbuf_add(text, "}, x, y, p, 1, 1;}\"\n        : ");
    add_registers(text, "\"+f\"(d[%d])", count);
    dg_strbuf_add(text, "\n        : \"r\"(a), \"r\"(b), \"r\"(accumulate));\n}\n");
    emit_wait(text, "dg_wgmma_wait", 0, count);
    emit_wait(text, "dg_wgmma_wait_1", 1, count);
}

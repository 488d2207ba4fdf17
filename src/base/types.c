// SPDX-License-Identifier: MIT
// types.c - names and sizes of element types.
#include "deepgemm.h"

static const struct {
    const char *name;
    size_t bytes;
} types[] = {
    [DG_E4M3] = {"e4m3", 1}, [DG_BF16] = {"bf16", 2},       [DG_F32] = {"f32", 4},
    [DG_F64] = {"f64", 8},   [DG_UE8M0X4] = {"ue8m0x4", 4}, [DG_F16] = {"f16", 2},
    [DG_I32] = {"i32", 4},
};

size_t dg_type_bytes(dg_type type)
{
    unsigned index = (unsigned)type;
    return index < sizeof types / sizeof *types ? types[index].bytes : 0;
}

const char *dg_type_name(dg_type type)
{
    unsigned index = (unsigned)type;
    return index < sizeof types / sizeof *types && types[index].name ? types[index].name
                                                                     : "unknown";
}

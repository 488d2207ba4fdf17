// SPDX-License-Identifier: MIT
// npy.h - arrays as numpy.save writes them: versions 1.0, 2.0 and 3.0, C or Fortran order.
//
//     "\x93NUMPY" | major, minor | header length (2 bytes in 1.0, else 4) | header | the elements
//     header: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
//
//     descr          read as     note
//     <f4 <f2 <f8    F32 F16 F64
//     <V2 |V2        BF16        how numpy stores ml_dtypes.bfloat16; it reads back as raw 2-byte
//     items |u1 <V1 |V1    E4M3        bytes; numpy has no 8-bit float
#ifndef DG_FORMATS_NPY_H
#define DG_FORMATS_NPY_H

#include "deepgemm.h"

#include <stdbool.h>

struct dg_npy_header {
    struct dg_tensor tensor; // data is NULL; the strides say the order.  A scalar has rank 0
    uint64_t data_start, data_bytes;
};

// `bytes` is a whole file; its size must agree with the header.
dg_status dg_npy_parse(const void *bytes, uint64_t size, struct dg_npy_header *header);

// Reads a file; tensor->data is from malloc.
dg_status dg_npy_read(const char *path, struct dg_tensor *tensor);
// Writes a row-major tensor without gaps, aside and renamed.
dg_status dg_npy_write(const char *path, const struct dg_tensor *tensor);

// A row-major copy in DG_F32, from F32, BF16, F16 or F64 of any strides; data is from malloc.
dg_status dg_npy_to_f32(const struct dg_tensor *from, struct dg_tensor *to);

#endif

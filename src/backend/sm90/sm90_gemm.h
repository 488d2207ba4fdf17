// SPDX-License-Identifier: MIT
// sm90_gemm.h - launching a planned GEMM, and the state that it needs.
#ifndef DG_SM90_GEMM_H
#define DG_SM90_GEMM_H

#include "backend/backend.h"
#include "backend/sm90/sm90_args.h"
#include "backend/sm90/sm90_kernel.h"
#include "base/memo.h"
#include "cuda/context.h"
#include "cuda/tensor_map.h"

#include <stdatomic.h>

enum {
    DG_SM90_KNOWN_POINTERS = 512,
    DG_SM90_FEW_ROWS = 256, // of A: as a rule memory is the limit, and B is read by few tiles
};

// One open device.  Any number of threads may use it.
struct dg_sm90_state {
    struct dg_cuda_context context;
    struct dg_device device;
    struct dg_jit *jit;
    struct dg_memo *launches; // complete calls and what was launched for them
    struct dg_log log;
    // Pointers that were seen to be memory of this device; asking the driver costs 0.2 us each.
    _Atomic uintptr_t known[DG_SM90_KNOWN_POINTERS];
};

// Both want the device's context current (dg_cuda_enter).
dg_status dg_sm90_prepare(struct dg_sm90_state *state, const struct dg_problem *problem,
                          const struct dg_plan *plan);
dg_status dg_sm90_gemm(struct dg_sm90_state *state, const struct dg_problem *problem,
                       const struct dg_plan *plan, const struct dg_gemm_args *args);
// k == 0: D = C or zeros.
dg_status dg_sm90_fill(struct dg_sm90_state *state, const struct dg_problem *problem,
                       const struct dg_gemm_args *args);

// ---- what sm90_grouped.c uses too ---------------------------------------------------------------

// DG_INVALID_ARGUMENT unless `pointer` is memory of this device.
dg_status dg_sm90_check_pointer(struct dg_sm90_state *state, const char *name, const void *pointer);
// The kernel of a key; without a device it is only compiled, for the cache on disk.
dg_status dg_sm90_find_kernel(struct dg_sm90_state *state, const void *key, size_t key_bytes,
                              dg_jit_describe describe, void *user, struct dg_jit_kernel *kernel);

// Everything in a kernel's arguments but the tiles.
struct dg_sm90_gemm_args dg_sm90_operand_args(const struct dg_problem *problem,
                                              const struct dg_gemm_args *args, int d_tma);

// What a kernel divides by with dg_divide: numbers of at least 1; more than a dividend can be are as good as that.
struct dg_sm90_divisor dg_sm90_divide_by(int64_t by);

// The kernel of a source that needs no parameters; its name is that of the file, and stays where it is.
dg_status dg_sm90_find_plain(struct dg_sm90_state *state, const char *name,
                             struct dg_jit_kernel *kernel);

// Copies an operand K-major to `target`, with rows of whole blocks, and makes the view describe the copy; the
// second does so for `groups` matrices, `*stride` bytes from one to the next, and changes that too.
dg_status dg_sm90_repack(struct dg_sm90_state *state, const char *name, struct dg_matrix_view *view,
                         int64_t rows, int64_t k, void *target, const struct dg_gemm_args *args);
dg_status dg_sm90_repack_stack(struct dg_sm90_state *state, const char *name,
                               struct dg_matrix_view *view, int64_t groups, int64_t *stride,
                               int64_t rows, int64_t k, void *target,
                               const struct dg_gemm_args *args);
dg_status dg_sm90_repack_prepare(struct dg_sm90_state *state);

// The copy of scales at `target` in which `together` of them lie side by side, along k or along the rows; makes `view`, and
// the distance to the next `*matrix`, describe that.
struct dg_sm90_scales dg_sm90_copy_of_scales(int64_t together, int64_t apart, int is_along_k,
                                             void *target, struct dg_matrix_view *view,
                                             int64_t *matrix);
// Makes copies of so many matrices, in one launch (sm90_scales_repack.cu); those of no rows take none.
dg_status dg_sm90_repack_scales(struct dg_sm90_state *state, const struct dg_sm90_scales *a,
                                int64_t matrices_a, const struct dg_sm90_scales *b,
                                int64_t matrices_b, const struct dg_gemm_args *args);
dg_status dg_sm90_repack_scales_prepare(struct dg_sm90_state *state);

// For open and close: the memory of launches; NULL when there is no memory.
struct dg_memo *dg_sm90_launches_create(void);

#endif

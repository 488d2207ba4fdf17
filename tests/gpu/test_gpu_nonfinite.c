// SPDX-License-Identifier: MIT
// test_gpu_nonfinite.c - a NaN among the values, and a NaN or Inf among the scales, reach every element of
// their row or column of D and no other: the others keep the bits of the same call without them.
#include "device.h"

// One spot of an operand and what it reaches.
struct spot {
    const char *name;
    int buffer;         // ON_A, ON_SFA, ON_B, ON_SFB
    int64_t row, k;     // of A or B; an element of the block that the scale belongs to
    uint32_t word;      // the byte of a value, the bits of a scale
    int64_t first, end; // rows of D (of A), columns (of B)
};

static const char *const lines[] = {
    "fp8_gemm_nt m=77 n=200 k=300 sfa_layout=mn lda=304 ldb=304",
    "fp8_gemm_nt m=77 n=200 k=300 lda=304 ldb=304 out=fp32",
    "fp8_gemm_nt m=300 n=330 k=640 sfa_layout=mn out=fp32 c=inplace",
    "fp8_gemm_nt m=130 n=264 k=400 sfb=1 sfa_layout=mn sfb_layout=mn",
    "fp8_gemm_nt m=130 n=263 k=400 sfb=1 c=separate",
    "fp8_gemm_tn m=100 n=150 k=260",
    "fp8_gemm_nt m=200 n=300 k=1030 sf=ue8m0 sfa_layout=mn lda=1040 ldb=1040",
    "fp8_gemm_nt m=200 n=300 k=1030 sf=ue8m0 sfb=1 lda=1040 ldb=1040",
    "fp8_gemm_nt m=3 n=40 k=129 lda=144 ldb=144",
};

// Where the host keeps an element: a byte of values, four of scales, one of packed scales.
static uint8_t *find(const struct random_problem *r, const struct spot *spot)
{
    const struct dg_problem *p = &r->problem;
    const bool is_b = spot->buffer == ON_B || spot->buffer == ON_SFB;
    if (spot->buffer == ON_A || spot->buffer == ON_B) {
        uint8_t *const values = random_data(is_b ? &r->b : &r->a);
        const int64_t ld = is_b ? p->ldb : p->lda;
        const bool by_k = (is_b ? p->b_major : p->a_major) == DG_K_MAJOR;
        return values + (by_k ? spot->row * ld + spot->k : spot->row + spot->k * ld);
    }
    const int64_t row = is_b ? spot->row / p->sfb_block_n : spot->row, block = spot->k / 128;
    const int64_t ld = is_b ? r->sfb_ld : r->sfa_ld;
    const bool by_k = (is_b ? p->sfb_major : p->sfa_major) == DG_K_MAJOR;
    const bool is_packed = p->sf_type == DG_UE8M0X4;
    const int64_t word = is_packed ? block / 4 : block;
    uint8_t *const scales = random_data(is_b ? &r->sfb : &r->sfa);
    return scales + 4 * (by_k ? row * ld + word : row + word * ld) + (is_packed ? block % 4 : 0);
}

static void put(const struct random_problem *r, const struct spot *spot)
{
    const bool is_scale = spot->buffer == ON_SFA || spot->buffer == ON_SFB;
    const uint8_t packed_nan = 255, value = (uint8_t)spot->word;
    if (is_scale && r->problem.sf_type == DG_UE8M0X4)
        memcpy(find(r, spot), &packed_nan, 1);
    else if (is_scale)
        memcpy(find(r, spot), &spot->word, 4);
    else
        memcpy(find(r, spot), &value, 1);
}

// D after a call, guards included; NULL on failure.
static uint8_t *result_of(struct lane *lane, struct random_problem *r)
{
    struct on_device at;
    lane->used = 0;
    random_problem_reset(r);
    if (!lane_put(lane, r, &at) || !lane_call(lane, r, &at) || !lane_get_d(lane, r, &at))
        return NULL;
    uint8_t *copy = malloc(RANDOM_PROBLEM_TOTAL(r->d));
    if (copy)
        memcpy(copy, r->d.memory, RANDOM_PROBLEM_TOTAL(r->d));
    return copy;
}

static bool compare(struct lane *lane, const struct random_problem *r, const struct spot *spot,
                    const uint8_t *clean, const uint8_t *dirty)
{
    const struct dg_problem *p = &r->problem;
    const bool in_rows = spot->buffer == ON_A || spot->buffer == ON_SFA;
    const size_t bytes = dg_type_bytes(p->d_type);
    clean += r->d.offset, dirty += r->d.offset;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            const int64_t at = in_rows ? i : j, element = i * p->ldd + j;
            const bool is_reached = at >= spot->first && at < spot->end;
            const double value = random_load(r, dirty, element);
            if (is_reached ? isfinite(value)
                           : memcmp(clean + (size_t)element * bytes,
                                    dirty + (size_t)element * bytes, bytes))
                return lane_fail(lane, "%s: %s at [%lld, %lld]: element [%lld, %lld] is %g",
                                 r->line, spot->name, (long long)spot->row, (long long)spot->k,
                                 (long long)i, (long long)j, value);
        }
    return true;
}

static bool try_spot(struct lane *lane, const char *line, uint64_t seed, const struct spot *spot)
{
    struct dg_problem problem;
    struct random_problem r;
    if (dg_problem_parse(line, &problem) != DG_OK)
        return lane_fail(lane, "%s", dg_last_error());
    random_problem_make(&r, &problem, seed, RANDOM_PADDED_SCALES);
    uint8_t *const clean = result_of(lane, &r);
    put(&r, spot);
    uint8_t *const dirty = clean ? result_of(lane, &r) : NULL;
    const bool is_right = dirty && compare(lane, &r, spot, clean, dirty);
    free(clean);
    free(dirty);
    random_problem_free(&r);
    return is_right;
}

// Each kind at a random place, now and then the last row or the last k.
static bool try_line(struct lane *lane, const char *line, uint64_t seed)
{
    static const uint32_t nan_code = 0x7f, negative_nan_code = 0xff, nan_scale = 0x7fc00000,
                          inf_scale = 0x7f800000;
    struct dg_problem p;
    if (dg_problem_parse(line, &p) != DG_OK)
        return lane_fail(lane, "%s", dg_last_error());
    uint64_t state = seed;
    const bool at_edge = random_next(&state) % 3 == 0;
    const int64_t i = at_edge ? p.m - 1 : random_range(&state, 0, p.m - 1);
    const int64_t j = at_edge ? p.n - 1 : random_range(&state, 0, p.n - 1);
    const int64_t k = at_edge ? p.k - 1 : random_range(&state, 0, p.k - 1);
    const int64_t block = p.sfb_block_n, first = j / block * block;
    const struct spot spots[] = {
        {"NaN in a", ON_A, i, k, seed % 2 ? nan_code : negative_nan_code, i, i + 1},
        {"NaN in b", ON_B, j, k, seed % 2 ? nan_code : negative_nan_code, j, j + 1},
        {"NaN in a's scales", ON_SFA, i, k, nan_scale, i, i + 1},
        {"Inf in a's scales", ON_SFA, i, k, inf_scale, i, i + 1},
        {"NaN in b's scales", ON_SFB, j, k, nan_scale, first, first + block},
        {"Inf in b's scales", ON_SFB, j, k, inf_scale, first, first + block},
    };
    for (size_t s = 0; s < sizeof spots / sizeof *spots; s++)
        if (!try_spot(lane, line, seed, &spots[s]))
            return false;
    return true;
}

static void test_nan_and_inf_reach_their_row_or_column_only(void)
{
    struct lane lane;
    bool is_right = lane_open(&lane, NULL);
    for (uint64_t i = 0; i < sizeof lines / sizeof *lines; i++)
        for (uint64_t seed = 1; seed <= 3 && is_right; seed++)
            is_right = try_line(&lane, lines[i], seed);
    lane_close(&lane);
    CHECK(is_right, "%s", lane.failure);
}

int main(void)
{
    need_gpu();
    RUN(test_nan_and_inf_reach_their_row_or_column_only);
    return harness_end();
}

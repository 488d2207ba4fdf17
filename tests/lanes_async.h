// SPDX-License-Identifier: MIT
// lanes_async.h - what kernels with math groups need beside lanes_kernels.h: barriers in shared memory, copies by TMA and
// in bulk, products of E4M3.  Each does its work as late as a GPU might: a copy to shared memory some rounds
// later, one from there when somebody waits for it (or never, if nobody does), a product when its group is waited for.
//
// Needs LANES_ROW_BYTES (of an operand of a product) and LANES_COLUMNS (of a product).
#ifndef DG_TESTS_LANES_ASYNC_H
#define DG_TESTS_LANES_ASYNC_H

#include "lanes_kernels.h"

#include <math.h>
#include <stdlib.h>

enum { LANES_SHARED_BYTES = 232448 };
// Full of NaN when a CTA begins, whose first thread runs first.
#define DG_DYNAMIC_SHARED(name)                                                                    \
    static char name[LANES_SHARED_BYTES] __attribute__((aligned(1024)));                           \
    if (threadIdx.x == 0)                                                                          \
    memset(name, 0xff, sizeof name)
#define DG_SETMAXNREG_INC(count)
#define DG_SETMAXNREG_DEC(count)

// ---- barriers ---------------------------------------------------------------------------------------

static struct {
    int arrivals, missing;
    i64 bytes; // announced and not there yet
    u32 phase;
} lanes_barriers[LANES_SHARED_BYTES / 8];

static inline void lanes_complete(u32 barrier, int arrivals, i64 bytes)
{
    lanes_barriers[barrier / 8].missing -= arrivals;
    lanes_barriers[barrier / 8].bytes -= bytes;
    if (lanes_barriers[barrier / 8].missing == 0 && lanes_barriers[barrier / 8].bytes == 0) {
        lanes_barriers[barrier / 8].missing = lanes_barriers[barrier / 8].arrivals;
        lanes_barriers[barrier / 8].phase++;
    }
    lanes.progress++;
}

static inline void dg_mbarrier_init(u32 barrier, int arrivals)
{
    lanes_barriers[barrier / 8].arrivals = lanes_barriers[barrier / 8].missing = arrivals;
    lanes_barriers[barrier / 8].bytes = 0;
    lanes_barriers[barrier / 8].phase = 0;
}

static inline void dg_mbarrier_arrive(u32 barrier)
{
    lanes_complete(barrier, 1, 0);
}

static inline void dg_mbarrier_expect_tx(u32 barrier, u32 bytes)
{
    lanes_barriers[barrier / 8].bytes += bytes;
}

static inline void dg_mbarrier_arrive_expect_tx(u32 barrier, u32 bytes)
{
    dg_mbarrier_expect_tx(barrier, bytes);
    dg_mbarrier_arrive(barrier);
}

// Now and then a lane comes later than others of its warp, by some rounds.
static inline void lanes_come_late(void)
{
    static u32 luck = 1;
    luck = luck * 1664525 + 1013904223;
    for (u32 rounds = luck >> 26 ? 0 : luck >> 24 & 3; rounds > 0; rounds--) {
        lanes.progress++;
        lanes_yield();
    }
}

static inline void dg_mbarrier_wait(u32 barrier, u32 parity)
{
    lanes_come_late();
    while (lanes_barriers[barrier / 8].phase % 2 == parity) {
        lanes_note_parted();
        lanes_yield();
    }
}

// Those of the whole CTA, by number; `threads` of it meet.
static int lanes_met[16];

static inline void dg_barrier_arrive(int barrier, int threads)
{
    lanes_met[barrier]++;
    lanes.progress++;
}

static inline void dg_barrier_sync(u32 barrier, u32 threads)
{
    const int turn = lanes_met[barrier] / (int)threads;
    dg_barrier_arrive((int)barrier, (int)threads);
    while (lanes_met[barrier] / (int)threads == turn)
        lanes_yield();
}

// ---- copies -----------------------------------------------------------------------------------------

// A tensor, in the room of a descriptor.
struct lanes_map {
    char *data;
    i64 stride[4]; // bytes
    int shape[4], box[4];
    int element; // bytes; 0: 1
    // Bytes of a row of the box, of which 16-byte pieces change places within 128 bytes; 0: none do
    unsigned swizzle;
};

static inline struct dg_tensor_map lanes_encode(const struct lanes_map *from)
{
    struct dg_tensor_map map = {{0}};
    _Static_assert(sizeof *from <= sizeof map, "room of a descriptor");
    memcpy(&map, from, sizeof *from);
    return map;
}

static inline u32 lanes_swizzled(u32 address, unsigned row_bytes)
{
    return row_bytes > 16 ? address ^ (address >> 3 & (row_bytes - 16)) : address;
}

// Element i of a box from `at` on; NULL outside of the tensor.
static inline char *lanes_element(const struct lanes_map *map, const int *at, i64 i)
{
    char *element = map->data;
    for (int j = 0; j < 4; i /= map->box[j] ? map->box[j] : 1, j++) {
        const i64 place = at[j] + (map->box[j] ? i % map->box[j] : 0);
        if (place < 0 || (map->shape[j] ? place >= map->shape[j] : place > 0))
            return NULL;
        element += place * map->stride[j];
    }
    return element;
}

// Goes through a box: what is done with an element of the tensor and its place in shared memory.
enum lanes_way { LANES_LOAD, LANES_STORE, LANES_ADD };
static inline i64 lanes_move(enum lanes_way way, u32 smem, const struct dg_tensor_map *encoded,
                             const int *at)
{
    struct lanes_map map;
    i64 count = 1;
    memcpy(&map, encoded, sizeof map);
    const size_t size = map.element ? (size_t)map.element : 1;
    for (int j = 0; j < 4; j++)
        count *= map.box[j] ? map.box[j] : 1;
    for (i64 i = 0; i < count; i++) {
        char *const there = lanes_element(&map, at, i);
        char *const here = lanes_shared + lanes_swizzled(smem + (u32)(i * (i64)size), map.swizzle);
        if (way == LANES_LOAD)
            memset(here, 0, size);
        if (there && way == LANES_ADD)
            *(float *)(void *)there += *(const float *)(void *)here;
        else if (there)
            memcpy(way == LANES_LOAD ? here : there, way == LANES_LOAD ? there : here, size);
    }
    return count * (i64)size;
}

// Copies under way.  Those to shared memory have a round in which they end; the others belong to a group of a thread.
struct lanes_copy {
    enum lanes_way way;
    u32 smem, barrier, bytes; // bytes: of a copy in bulk; 0: a box of `map`
    struct dg_tensor_map map;
    char *global;
    int at[4], thread, group, round;
};

static struct {
    struct lanes_copy *list;
    size_t count, room;
    int groups[LANES_MOST], round;
    u32 draws;
} lanes_copies;

static inline void lanes_push(const struct lanes_copy *copy)
{
    if (lanes_copies.count == lanes_copies.room) {
        lanes_copies.room = 2 * lanes_copies.room + 64;
        lanes_copies.list =
            realloc(lanes_copies.list, lanes_copies.room * sizeof *lanes_copies.list);
    }
    lanes_copies.draws = lanes_copies.draws * 1664525 + 1013904223;
    lanes_copies.list[lanes_copies.count] = *copy;
    lanes_copies.list[lanes_copies.count].thread = (int)threadIdx.x;
    lanes_copies.list[lanes_copies.count].group = lanes_copies.groups[threadIdx.x];
    lanes_copies.list[lanes_copies.count++].round =
        lanes_copies.round + (int)(lanes_copies.draws >> 28);
}

static inline void lanes_finish(const struct lanes_copy *copy)
{
    i64 bytes = copy->bytes;
    if (bytes == 0)
        bytes = lanes_move(copy->way, copy->smem, &copy->map, copy->at);
    else if (copy->way == LANES_LOAD)
        memcpy(lanes_shared + copy->smem, copy->global, copy->bytes);
    else
        memcpy(copy->global, lanes_shared + copy->smem, copy->bytes);
    if (copy->way == LANES_LOAD)
        lanes_complete(copy->barrier, 0, bytes);
}

// Ends those to shared memory whose round has come, and those of `thread` from there in groups below `group`.
static inline void lanes_finish_some(int thread, int group)
{
    size_t left = 0;
    for (size_t i = 0; i < lanes_copies.count; i++) {
        const struct lanes_copy copy = lanes_copies.list[i];
        if (copy.way == LANES_LOAD ? copy.round < lanes_copies.round
                                   : copy.thread == thread && copy.group < group)
            lanes_finish(&copy);
        else
            lanes_copies.list[left++] = copy;
    }
    lanes_copies.count = left;
}

// After the last round shared memory belongs to others: what has not been read by then is lost.
static inline void lanes_after_round(int is_last)
{
    lanes_copies.round++;
    lanes_finish_some(-1, 0);
    for (size_t i = 0; i < lanes_copies.count; i++)
        lanes.progress += lanes_copies.list[i].way == LANES_LOAD;
    if (is_last) {
        if (lanes_copies.count > 0)
            memset(lanes_shared, 0xff, LANES_SHARED_BYTES);
        for (size_t i = 0; i < lanes_copies.count; i++)
            lanes_finish(&lanes_copies.list[i]);
        lanes_copies.count = 0;
    }
}

__attribute__((constructor)) static void lanes_take_part(void)
{
    lanes.round = lanes_after_round;
}

static inline void dg_bulk_commit_group(void)
{
    lanes_copies.groups[threadIdx.x]++;
}

static inline void dg_bulk_wait_group_read(int pending)
{
    lanes_finish_some((int)threadIdx.x, lanes_copies.groups[threadIdx.x] - pending);
}

static inline void dg_bulk_wait_group_written(int pending)
{
    dg_bulk_wait_group_read(pending);
}

static inline void lanes_load(u32 smem, const struct dg_tensor_map *map, u32 barrier, const int *at)
{
    struct lanes_copy copy = {.way = LANES_LOAD, .smem = smem, .barrier = barrier, .map = *map};
    memcpy(copy.at, at, sizeof copy.at);
    lanes_push(&copy);
}

static inline void dg_tma_store_2d(const struct dg_tensor_map *map, u32 smem, int x, int y,
                                   u64 policy)
{
    lanes_push(&(struct lanes_copy){.way = LANES_STORE, .smem = smem, .map = *map, .at = {x, y}});
}

static inline void dg_tma_reduce_add_2d(const struct dg_tensor_map *map, u32 smem, int x, int y)
{
    lanes_push(&(struct lanes_copy){.way = LANES_ADD, .smem = smem, .map = *map, .at = {x, y}});
}

// As sm90_ptx.cuh has it.
static inline int dg_overhang(int first, int rows, int all, int most)
{
    return (int)max(0, min(min(first + rows - all, first), most)) & ~7;
}

// The arrival that a thread's copies make once they are complete.
static inline void dg_cp_async_mbarrier_arrive(u32 barrier)
{
    lanes_land(0);
    lanes_complete(barrier, 1, 0);
}

static inline void dg_tma_load_2d(u32 smem, const struct dg_tensor_map *map, u32 barrier, int x,
                                  int y)
{
    lanes_load(smem, map, barrier, (int[]){x, y, 0, 0});
}

static inline void dg_tma_load_3d(u32 smem, const struct dg_tensor_map *map, u32 barrier, int x,
                                  int y, int z)
{
    lanes_load(smem, map, barrier, (int[]){x, y, z, 0});
}

static inline void dg_tma_load_4d(u32 smem, const struct dg_tensor_map *map, u32 barrier, int x,
                                  int y, int z, int w)
{
    lanes_load(smem, map, barrier, (int[]){x, y, z, w});
}

static inline void dg_bulk_load(u32 smem, const void *global, u32 bytes, u32 barrier)
{
    lanes_push(&(struct lanes_copy){.way = LANES_LOAD,
                                    .smem = smem,
                                    .barrier = barrier,
                                    .bytes = bytes,
                                    .global = (char *)(uintptr_t)global});
}

static inline void dg_bulk_store(void *global, u32 smem, u32 bytes)
{
    lanes_push(
        &(struct lanes_copy){.way = LANES_STORE, .smem = smem, .bytes = bytes, .global = global});
}

static inline void dg_fence_mbarrier_init(void)
{
}

static inline void dg_fence_proxy_async(void)
{
}

static inline void dg_prefetch_tensormap(const struct dg_tensor_map *map)
{
}

// ---- products ---------------------------------------------------------------------------------------

static float lanes_e4m3[256];

__attribute__((constructor)) static void lanes_decode(void)
{
    for (int code = 0; code < 256; code++) {
        const int exponent = code >> 3 & 15, fraction = code & 7;
        const float size =
            exponent ? ldexpf((float)(8 + fraction), exponent - 10) : ldexpf((float)fraction, -9);
        lanes_e4m3[code] = (code & 0x7f) == 0x7f ? NAN : code & 0x80 ? -size : size;
    }
}

// Products that a thread has asked for, and the groups that it has made of them.
static struct lanes_product {
    float *d;
    u32 a, b;
    int accumulate, group;
} lanes_products[LANES_MOST][64];
static int lanes_num_products[LANES_MOST], lanes_groups[LANES_MOST];

// `a`, `b`: in units of 16 bytes.
static inline void dg_wgmma(float *d, u32 a, u32 b, int accumulate)
{
    const int i = lanes_num_products[threadIdx.x]++;
    lanes_products[threadIdx.x][i].d = d;
    lanes_products[threadIdx.x][i].a = a * 16;
    lanes_products[threadIdx.x][i].b = b * 16;
    lanes_products[threadIdx.x][i].accumulate = accumulate;
    lanes_products[threadIdx.x][i].group = lanes_groups[threadIdx.x];
    for (u32 j = 0; j < LANES_COLUMNS / 2; j++) // nobody may look before the wait
        d[j] = accumulate ? d[j] : NAN;
}

// Each thread its own accumulators: rows 16 * warp + lane / 4 and eight further on, columns 8i + 2 * (lane % 4) and the
// next.  `a`, `b`: where the 32 values of row 0 begin.
static inline void lanes_multiply(float *d, u32 a, u32 b, int accumulate)
{
    const u32 lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane / 4,
              column = lane % 4 * 2;
    for (u32 i = 0; i < LANES_COLUMNS / 2; i++) {
        double sum = 0;
        for (u32 k = 0; k < 32; k++) {
            const u32 at =
                lanes_swizzled(a + (row + i / 2 % 2 * 8) * LANES_ROW_BYTES + k, LANES_ROW_BYTES);
            const u32 bt = lanes_swizzled(b + (i / 4 * 8 + column + i % 2) * LANES_ROW_BYTES + k,
                                          LANES_ROW_BYTES);
            sum += (double)lanes_e4m3[(uint8_t)lanes_shared[at]] *
                   lanes_e4m3[(uint8_t)lanes_shared[bt]];
        }
        d[i] = accumulate ? d[i] + (float)sum : (float)sum;
    }
}

// What the products of `count` values add up to; *size grows by their magnitudes.
static inline double lanes_dot(const char *a, const char *b, int count, double *size)
{
    double sum = 0;
    for (int i = 0; i < count; i++) {
        const double product = (double)lanes_e4m3[(uint8_t)a[i]] * lanes_e4m3[(uint8_t)b[i]];
        sum += product;
        *size += fabs(product);
    }
    return sum;
}

static inline void dg_wgmma_fence(void)
{
}

static inline void dg_wgmma_commit_group(void)
{
    lanes_groups[threadIdx.x]++;
}

// Makes the products of all groups but the last `pending`; a product in no group is made by nobody.
static inline void lanes_wait_products(int pending)
{
    const int thread = (int)threadIdx.x, count = lanes_num_products[thread];
    int made = 0;
    for (; made < count; made++) {
        const struct lanes_product *product = &lanes_products[thread][made];
        if (product->group >= lanes_groups[thread] - pending)
            break;
        lanes_multiply(product->d, product->a, product->b, product->accumulate);
    }
    for (int i = made; i < count; i++)
        lanes_products[thread][i - made] = lanes_products[thread][i];
    lanes_num_products[thread] = count - made;
}

static inline void dg_wgmma_wait(float *d)
{
    lanes_wait_products(0);
}

static inline void dg_wgmma_wait_1(float *d)
{
    lanes_wait_products(1);
}

// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8.
static inline void dg_stmatrix_x4(u32 address, u32 a, u32 b, u32 c, u32 d)
{
    const u32 words[4] = {a, b, c, d}, lane = threadIdx.x % 32;
    const i64 *rows = lanes_exchange(address);
    for (u32 i = 0; i < 4; i++)
        dg_st_shared_word((u32)rows[8 * i + lane / 4] + lane % 4 * 4, words[i]);
    lanes_exchange(0);
}

// ---- conversions ------------------------------------------------------------------------------------

static inline float dg_max_nan(float a, float b)
{
    return isnan(a) || isnan(b) ? NAN : fmaxf(a, b);
}

static inline u32 lanes_bf16(float value)
{
    const u32 bits = __float_as_uint(value);
    return isnan(value) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline u32 dg_cvt_bf16x2(float low, float high)
{
    return lanes_bf16(high) << 16 | lanes_bf16(low);
}

static inline void dg_cvt_f32_e4m3x4(float *values, u32 packed)
{
    for (int i = 0; i < 4; i++)
        values[i] = lanes_e4m3[packed >> 8 * i & 0xff];
}

// The nearest code, the even one of two; what is too large becomes 448.
static inline u32 lanes_nearest_e4m3(float value)
{
    const float size = fabsf(value);
    u32 code = 0;
    if (isnan(value))
        return 0x7f;
    while (code < 0x7e && lanes_e4m3[code + 1] <= size)
        code++;
    if (code < 0x7e) {
        const float below = size - lanes_e4m3[code], above = lanes_e4m3[code + 1] - size;
        code += above < below || (above == below && code % 2);
    }
    return code | (signbit(value) ? 0x80 : 0);
}

static inline u32 dg_cvt_e4m3x4_f32(const float *values)
{
    u32 packed = 0;
    for (int i = 0; i < 4; i++)
        packed |= lanes_nearest_e4m3(values[i]) << 8 * i;
    return packed;
}

// ---- vectors, reductions ----------------------------------------------------------------------------

typedef struct {
    float x, y, z, w;
} float4;
typedef struct {
    float x, y;
} float2;

typedef struct {
    u32 x, y, z, w;
} uint4;

static inline float4 make_float4(float x, float y, float z, float w)
{
    return (float4){x, y, z, w};
}

static inline u32 __reduce_or_sync(u32 mask, u32 value)
{
    const i64 *all = lanes_exchange(value);
    u32 bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (u32)all[i];
    return bits;
}

// ---- hints, which do nothing here -------------------------------------------------------------------

static inline void dg_tma_prefetch_2d(const struct dg_tensor_map *map, int x, int y)
{
}

static inline void dg_fence_proxy_tensormap(const struct dg_tensor_map *map)
{
}

// ---- clusters, of which there are none --------------------------------------------------------------

static inline u32 dg_cluster_ctarank(void)
{
    return 0;
}

static inline u32 dg_mapa(u32 address, u32 rank)
{
    return address;
}

static inline void dg_barrier_cluster_arrive(void)
{
}

static inline void dg_barrier_cluster_arrive_relaxed(void)
{
}

static inline void dg_barrier_cluster_wait(void)
{
}

static inline void dg_mbarrier_arrive_cluster(u32 barrier, u32 rank)
{
}

static inline void dg_tma_load_2d_multicast(u32 smem, const struct dg_tensor_map *map, u32 barrier,
                                            int x, int y, u32 mask)
{
}

static inline void dg_st_async_v4(u32 remote, const float *value, u32 barrier)
{
}

#endif

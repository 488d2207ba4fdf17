// SPDX-License-Identifier: MIT
// sm90_ptx.cuh - one wrapper per PTX instruction, named after it; no logic in here.
//
// The section numbers are those of the PTX ISA manual 9.0.  Shared-memory addresses are 32-bit values in
// the shared window everywhere: a generic pointer would make ptxas rebuild the base inside the loops.
#ifndef DG_SM90_PTX_CUH
#define DG_SM90_PTX_CUH

#include "sm90_args.h"

#define DG_DEVICE static __device__ __forceinline__

// All of a kernel's shared memory, whose size the launch says.
#define DG_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) char name[]

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// Divisions by numbers that the compiler does not know took 5 % of a tile of four k-blocks.
DG_DEVICE int dg_divide(int x, struct dg_sm90_divisor by)
{
    return (int)((u64)(u32)x * by.multiplier >> by.shift);
}

DG_DEVICE u32 dg_smem_address(const void *pointer)
{
    return (u32)__cvta_generic_to_shared(pointer);
}

// No instruction: it keeps the compiler from working `value` out only where it is used.
DG_DEVICE void dg_compute_here(u32 *value)
{
    asm volatile("" : "+r"(*value));
}

// The same for a float.
DG_DEVICE void dg_compute_float_here(float *value)
{
    asm volatile("" : "+f"(*value));
}

// 0, which ptxas takes for a lane's own: what is computed with it stays in the lanes' registers.
DG_DEVICE u32 dg_lane_zero(void)
{
    u32 zero;
    asm volatile("shr.u32 %0, %1, 10;" : "=r"(zero) : "r"(threadIdx.x));
    return zero;
}

// True in one lane of a warp that is there as a whole (elect.sync).  ptxas knows what that means: under any other
// condition each copy by TMA stands in a loop over the lanes that may want it.
DG_DEVICE int dg_elect(void)
{
    int is_elected;
    asm volatile("{.reg .pred elected;\n"
                 "elect.sync _|elected, 0xffffffff;\n"
                 "selp.s32 %0, 1, 0, elected;}"
                 : "=r"(is_elected));
    return is_elected;
}

// ---- plain shared memory ----

DG_DEVICE u32 dg_ld_shared(u32 address)
{
    u32 word;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(address));
    return word;
}

DG_DEVICE void dg_ld_shared_v2(u32 address, float *value)
{
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value[0]), "=f"(value[1]) : "r"(address));
}

DG_DEVICE void dg_ld_shared_v4(u32 address, float *value)
{
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value[0]), "=f"(value[1]), "=f"(value[2]), "=f"(value[3])
                 : "r"(address));
}

DG_DEVICE void dg_st_shared(u32 address, float value)
{
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

DG_DEVICE void dg_st_shared_word(u32 address, u32 word)
{
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(word) : "memory");
}

DG_DEVICE void dg_st_shared_v2(u32 address, float a, float b)
{
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(a), "f"(b) : "memory");
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 (9.7.15.5.16).
DG_DEVICE void dg_stmatrix_x4(u32 address, u32 a, u32 b, u32 c, u32 d)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared::cta.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b),
                 "r"(c), "r"(d)
                 : "memory");
}

// ---- what CTAs share in global memory (9.7.9.8, 9.7.9.11, 9.7.13.5) ----

DG_DEVICE u64 dg_ld_acquire(const u64 *global)
{
    u64 value;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(global) : "memory");
    return value;
}

DG_DEVICE void dg_st_release(u64 *global, u64 value)
{
    asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(global), "l"(value) : "memory");
}

// All atomic operations here return what was there before.
DG_DEVICE u64 dg_atomic_cas(u64 *global, u64 expected, u64 value)
{
    u64 before;
    asm volatile("atom.relaxed.gpu.global.cas.b64 %0, [%1], %2, %3;"
                 : "=l"(before)
                 : "l"(global), "l"(expected), "l"(value)
                 : "memory");
    return before;
}

DG_DEVICE u32 dg_atomic_add(u32 *global, u32 value)
{
    u32 before;
    asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(global), "r"(value) : "memory");
    return before;
}

// ---- caches (9.7.9.15) ----

DG_DEVICE void dg_prefetch_l1(const void *global)
{
    asm volatile("prefetch.global.L1 [%0];" ::"l"(global));
}

DG_DEVICE void dg_prefetch_l2(const void *global)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

// ---- mbarrier (9.7.13.15) ----

DG_DEVICE void dg_mbarrier_init(u32 barrier, u32 arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals));
}

DG_DEVICE void dg_fence_mbarrier_init(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Announces bytes without arriving.
DG_DEVICE void dg_mbarrier_expect_tx(u32 barrier, u32 bytes)
{
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

DG_DEVICE void dg_mbarrier_arrive_expect_tx(u32 barrier, u32 bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

DG_DEVICE void dg_mbarrier_arrive(u32 barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives at the barrier with the same offset in CTA `rank` of the cluster.
DG_DEVICE void dg_mbarrier_arrive_cluster(u32 barrier, u32 rank)
{
    asm volatile("{.reg .b32 remote;\n"
                 "mapa.shared::cluster.u32 remote, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [remote];}" ::"r"(barrier), "r"(rank) : "memory");
}

// Waits until the phase with this parity has completed.  try_wait suspends the warp, for up to so many nanoseconds, but
// only if no lane of it is elsewhere: one that waits while others are held at a __syncwarp polls without end, and takes
// issue slots from the warps beside it.  So a warp waits as a whole, or its other lanes have left the kernel.
DG_DEVICE void dg_mbarrier_wait(u32 barrier, u32 parity)
{
    asm volatile("{.reg .pred done;\n"
                 "wait: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1, %2;\n"
                 "@!done bra wait;}" ::"r"(barrier), "r"(parity), "r"(10000000) : "memory");
}

// ---- cp.async (9.7.9.25.3) ----

// Copies 4 bytes, or writes 4 zero bytes when `valid` is 0 (the source is not read then).
DG_DEVICE void dg_cp_async_4(u32 smem, const void *global, int valid)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(smem), "l"(global), "r"(valid ? 4 : 0) : "memory");
}

// The barrier gets this thread's arrival once its earlier cp.async have landed; the arrival is one of
// the barrier's own count (noinc).
DG_DEVICE void dg_cp_async_mbarrier_arrive(u32 barrier)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// Groups of a thread's copies; waits until all but the `pending` newest have landed.
DG_DEVICE void dg_cp_async_commit_group(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

#define dg_cp_async_wait_group(pending) asm volatile("cp.async.wait_group %0;" ::"n"((pending) + 0) : "memory")

// ---- TMA (9.7.9.25.5) ----

// The copy engine is slow where a box reaches beyond its tensor.  The rows, in eights, by which a box of `rows` from
// `first` may begin earlier, so that it does not; its own rows then lie so much later in shared memory.
DG_DEVICE int dg_overhang(int first, int rows, int all, int most)
{
    return max(0, min(min(first + rows - all, first), most)) & ~7;
}

DG_DEVICE void dg_prefetch_tensormap(const struct dg_tensor_map *map)
{
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// Fields of a descriptor in shared memory (9.7.9.28); the stride is that of dimension 1, in bytes.
DG_DEVICE void dg_tensormap_replace(u32 map, u64 address, u32 shape0, u64 stride1)
{
#if __CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ < 5
    stride1 >>= 4; // what these assemblers took the operand for
#endif
    asm volatile("tensormap.replace.tile.global_address.shared::cta.b1024.b64 [%0], %1;" ::"r"(map), "l"(address) : "memory");
    asm volatile("tensormap.replace.tile.global_dim.shared::cta.b1024.b32 [%0], 0, %1;" ::"r"(map), "r"(shape0) : "memory");
    asm volatile("tensormap.replace.tile.global_stride.shared::cta.b1024.b64 [%0], 0, %1;" ::"r"(map), "l"(stride1)
                 : "memory");
}

// The whole warp copies a descriptor to where kernels may use it (9.7.13.4).
DG_DEVICE void dg_tensormap_cp_fenceproxy(struct dg_tensor_map *to, u32 from)
{
    asm volatile("tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned [%0], [%1], 128;" ::"l"(
                     __cvta_generic_to_global(to)),
                 "r"(from)
                 : "memory");
}

// Before the first use of a descriptor that a kernel wrote (9.7.13.4).
DG_DEVICE void dg_fence_proxy_tensormap(const struct dg_tensor_map *map)
{
    asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory");
}

DG_DEVICE void dg_tma_load_3d(u32 smem, const struct dg_tensor_map *map, u32 barrier, int x, int y, int z)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(smem), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

DG_DEVICE void dg_tma_load_2d(u32 smem, const struct dg_tensor_map *map, u32 barrier, int x, int y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4}], [%2];" ::"r"(smem), "l"(map), "r"(barrier), "r"(x), "r"(y)
                 : "memory");
}

// The box lands at the same offset in every CTA of `mask`, and counts on the barrier there.
DG_DEVICE void dg_tma_load_2d_multicast(u32 smem, const struct dg_tensor_map *map, u32 barrier, int x, int y, u32 mask)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(smem), "l"(map), "r"(barrier),
                 "r"(x), "r"(y), "h"((unsigned short)mask)
                 : "memory");
}

// A box on its way to the L2 cache (9.7.9.25.5).
DG_DEVICE void dg_tma_prefetch_2d(const struct dg_tensor_map *map, int x, int y)
{
    asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(map), "r"(x), "r"(y) : "memory");
}

// A box of shared memory to its place in the tensor; what lies outside the tensor is left out.  `policy` is
// an L2 cache policy (9.7.9.18).
DG_DEVICE void dg_tma_store_2d(const struct dg_tensor_map *map, u32 smem, int x, int y, u64 policy)
{
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group.L2::cache_hint"
                 " [%0, {%2, %3}], [%1], %4;" ::"l"(map), "r"(smem), "r"(x), "r"(y), "l"(policy)
                 : "memory");
}

DG_DEVICE void dg_tma_reduce_add_2d(const struct dg_tensor_map *map, u32 smem, int x, int y)
{
    asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
                 "r"(smem), "r"(x), "r"(y)
                 : "memory");
}

// `bytes` of shared memory to global memory; all three are multiples of 16 (9.7.9.25.4.1).
DG_DEVICE void dg_bulk_store(void *global, u32 smem, u32 bytes)
{
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(smem), "r"(bytes)
                 : "memory");
}

DG_DEVICE void dg_bulk_commit_group(void)
{
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Waits until all but the `pending` newest groups of this thread have read their shared memory.
#define dg_bulk_wait_group_read(pending) asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory")

// The same until they have written, too.
#define dg_bulk_wait_group_written(pending) asm volatile("cp.async.bulk.wait_group %0;" ::"n"(pending) : "memory")

// Makes this thread's ordinary writes to shared memory visible to the copy engine (9.7.13.4).
DG_DEVICE void dg_fence_proxy_async(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// `threads` of the CTA meet at its barrier `index`; 0 is that of __syncthreads (9.7.13.1).
// Joins without waiting: what the caller wrote is seen by those who wait in dg_barrier_sync.
DG_DEVICE void dg_barrier_arrive(int barrier, int threads)
{
    asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

DG_DEVICE void dg_barrier_sync(u32 index, u32 threads)
{
    asm volatile("barrier.sync.aligned %0, %1;" ::"r"(index), "r"(threads) : "memory");
}

// ---- clusters (9.7.13.4) ----

DG_DEVICE u32 dg_cluster_ctarank(void)
{
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// The address of the same byte of shared memory in CTA `rank` of the cluster (9.7.9.23).
DG_DEVICE u32 dg_mapa(u32 address, u32 rank)
{
    u32 remote;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
    return remote;
}

// 16 bytes into the shared memory of a CTA of the cluster; they count on `barrier`, of the same CTA, once
// they are visible there (9.7.9.13).
DG_DEVICE void dg_st_async_v4(u32 remote, const float *value, u32 barrier)
{
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(
                     remote),
                 "f"(value[0]), "f"(value[1]), "f"(value[2]), "f"(value[3]), "r"(barrier)
                 : "memory");
}

DG_DEVICE void dg_barrier_cluster_arrive(void)
{
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
}

// Makes nothing visible but what a fence before it did: for barriers just made, dg_fence_mbarrier_init.
DG_DEVICE void dg_barrier_cluster_arrive_relaxed(void)
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

DG_DEVICE void dg_barrier_cluster_wait(void)
{
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}

// ---- wgmma (9.7.16); the instruction itself is emitted for the tile's width, see sm90_wgmma.c ----

DG_DEVICE void dg_wgmma_fence(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

DG_DEVICE void dg_wgmma_commit_group(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// ---- registers of a warp role (9.7.19.5) ----

#define DG_SETMAXNREG_INC(count) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count))
#define DG_SETMAXNREG_DEC(count) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count))

// ---- programmatic dependent launch (9.7.13.13) ----

DG_DEVICE void dg_griddepcontrol_wait(void)
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

DG_DEVICE void dg_griddepcontrol_launch_dependents(void)
{
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// ---- conversion ----

// Two FP32 to packed BF16, nearest even; `low` goes to the lower address.
DG_DEVICE u32 dg_cvt_bf16x2(float low, float high)
{
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

#endif

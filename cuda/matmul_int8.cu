/* matmul_int8.cu - products of int8 on both sides with one scale a row of either, on Hopper.
 * cuBLASLt's write int32 and reach two thirds of the rate; here sums leave scaled, as bf16.
 *
 * Two blocks of a cluster make 256 rows of C and WIDE columns: each loads its own 128 rows of A and
 * half of the columns' rows of B, which the copy engine writes to both. In a block one thread asks
 * for tiles of 128 bytes of k, a ring of them; two warpgroups multiply 64 rows each. Blocks stay
 * and take one tile after the other: the next one's copies run while this one's sums are stored.
 * Nothing in the ring's barriers orders ordinary stores between blocks, which would take a fence of
 * the card in every stage: what they guard is written and read by copies and tensor cores. */
/* SPDX-License-Identifier: MIT */
#include "dependent.h"
#include "matmul_int8.h"
#include "wgmma.h"

#define ROWS 128  /* of C, a block */
#define DEPTH 128 /* of k, a stage: bytes */
#define BLOCKS 2  /* a cluster */
#define GROUPS 2  /* warpgroups that multiply */
#define THREADS ((GROUPS + 1) * 128)
#define BAND 8 /* tiles one above the other before the next columns: their A stays in L2 */

struct int8_args {
    void *c;
    int64_t ldc;
    const float *a_scale, *b_scale; /* (m), (n) */
    float scale;
    int m, n, k, accumulate;
    int tiles_m, tiles_n;
};

template <int WIDE> struct int8_shared {
    static const int stages = WIDE == 256 ? 4 : WIDE == 192 ? 5 : 6; /* 192 to 200 KB */
    int8_t a[stages][ROWS * DEPTH], b[stages][WIDE * DEPTH];
    float2 scales[GROUPS][WIDE / 2]; /* of the columns */
    uint64_t full[stages], empty[stages];
};

struct ring_place {
    int stage;
    uint32_t parity;
    __device__ void next(int stages)
    {
        stage = stage + 1 == stages ? 0 : stage + 1;
        parity ^= stage == 0;
    }
};

/* Where tile t is. */
__device__ inline int2 tile_at(const int8_args &p, int t)
{
    const int band = t / (BAND * p.tiles_n), first = band * BAND, within = t % (BAND * p.tiles_n);
    const int high = min(BAND, p.tiles_m - first);
    return make_int2(first + within % high, within / high);
}

template <int WIDE>
__device__ inline void load_tiles(int8_shared<WIDE> *s, const CUtensorMap *a, const CUtensorMap *b,
                                  const int8_args &p, int rank)
{
    ring_place at = {0, 0};
    for (int t = blockIdx.x / BLOCKS; t < p.tiles_m * p.tiles_n; t += gridDim.x / BLOCKS) {
        const int2 tile = tile_at(p, t);
        const int row = (tile.x * BLOCKS + rank) * ROWS;
        const int half = WIDE / BLOCKS, column = tile.y * WIDE + rank * half;
        for (int k = 0; k < p.k; k += DEPTH) {
            uint64_t *full = &s->full[at.stage];
            barrier_wait(&s->empty[at.stage], at.parity ^ 1);
            barrier_expect(full, (ROWS + WIDE) * DEPTH);
            copy_box(s->a[at.stage], a, k, row, full);
            copy_box_both(s->b[at.stage] + rank * half * DEPTH, b, k, column, full);
            at.next(s->stages);
        }
    }
}

/* The sums of one tile. */
template <int WIDE>
__device__ inline void multiply(int (&sum)[WIDE / 2], int8_shared<WIDE> *s, ring_place *at, int k,
                                int group)
{
    const int lane = threadIdx.x % 32;
    int before = -1;
    for (int done = 0; done < k; done += DEPTH) {
        barrier_wait(&s->full[at->stage], at->parity);
        const uint64_t a = matrix_descriptor(s->a[at->stage] + group * 64 * DEPTH);
        const uint64_t b = matrix_descriptor(s->b[at->stage]);
        warpgroup_begin();
#pragma unroll
        for (int i = 0; i < DEPTH / 32; i++)
            warpgroup_mma(sum, a + 2 * i, b + 2 * i, done | i);
        warpgroup_commit();
        warpgroup_wait<1>();
        if (before >= 0 && lane < BLOCKS)
            cluster_arrive(&s->empty[before], lane);
        before = at->stage;
        at->next(s->stages);
    }
    warpgroup_wait<0>();
    if (lane < BLOCKS)
        cluster_arrive(&s->empty[before], lane);
}

/* A lane's pairs of columns 2t, 2t + 1 of four 8-column pieces become the four pairs of piece t. */
__device__ inline uint4 piece_of_four(const uint32_t (&w)[4], int t)
{
    const uint32_t r0 = __shfl_xor_sync(~0u, t & 1 ? w[0] : w[1], 1);
    const uint32_t r1 = __shfl_xor_sync(~0u, t & 1 ? w[2] : w[3], 1);
    const uint2 low = t & 1 ? make_uint2(r0, w[1]) : make_uint2(w[0], r0);
    const uint2 high = t & 1 ? make_uint2(r1, w[3]) : make_uint2(w[2], r1);
    const uint2 sent = t & 2 ? low : high;
    const uint2 got = make_uint2(__shfl_xor_sync(~0u, sent.x, 2), __shfl_xor_sync(~0u, sent.y, 2));
    return t & 2 ? make_uint4(got.x, got.y, high.x, high.y)
                 : make_uint4(low.x, low.y, got.x, got.y);
}

/* Adds to v, a lane's pairs of four 8-column pieces of a row, what C holds, and stores them. left:
 * columns that there are. */
template <typename T>
__device__ inline void store_pairs(T *row, int accumulate, int left, int t, const float2 (&v)[4])
{
    for (int f = 0; f < 4; f++)
        for (int e = 0; e < 2 && f * 8 < left; e++) {
            T *to = row + f * 8 + 2 * t + e;
            from_float(to, (e ? v[f].y : v[f].x) + (accumulate ? to_float(*to) : 0));
        }
}
/* The same 16 bytes at a time; old: those of the lane's piece. */
__device__ inline void store_piece(bf16 *row, int accumulate, int left, int t, float2 (&v)[4],
                                   uint4 old)
{
    uint32_t w[4] = {old.x, old.y, old.z, old.w};
    if (accumulate) {
        const uint4 mine = piece_of_four(w, t); /* its own inverse */
        const uint32_t pair[4] = {mine.x, mine.y, mine.z, mine.w};
        for (int f = 0; f < 4; f++) {
            const float2 x = unpack_pair(pair[f]);
            v[f].x += x.x, v[f].y += x.y;
        }
    }
    for (int f = 0; f < 4; f++)
        w[f] = pack_pair(v[f].x, v[f].y);
    const uint4 piece = piece_of_four(w, t);
    if (t * 8 < left)
        *reinterpret_cast<uint4 *>(row + t * 8) = piece;
}

/* scales: of the columns from `column` on, in pairs. by: of rows `row` and `row` + 8. */
template <int WIDE, typename T, bool WHOLE>
__device__ inline void store(const int (&sum)[WIDE / 2], const int8_args &p, int row, int column,
                             const float2 *scales, const float (&by)[2])
{
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = row + 8 * half, left = r < p.m ? p.n - column : 0;
        T *c = (T *)p.c + r * p.ldc + column;
        uint4 old[WIDE / 32];
        if (WHOLE && p.accumulate)
#pragma unroll
            for (int j = 0; j < WIDE / 32; j++)
                if (j * 32 + t * 8 < left)
                    old[j] = *reinterpret_cast<const uint4 *>(c + j * 32 + t * 8);
#pragma unroll
        for (int j = 0; j < WIDE / 32; j++) {
            float2 v[4];
#pragma unroll
            for (int f = 0; f < 4; f++) {
                const int *two = &sum[4 * (4 * j + f) + 2 * half];
                const float2 w = scales[4 * (4 * j + f) + t];
                v[f] =
                    make_float2((float)two[0] * (by[half] * w.x), (float)two[1] * (by[half] * w.y));
            }
            if constexpr (WHOLE)
                store_piece(c + j * 32, p.accumulate, left - j * 32, t, v, old[j]);
            else
                store_pairs(c + j * 32, p.accumulate, left - j * 32, t, v);
        }
    }
}

template <int WIDE, typename T, bool WHOLE>
__global__ void __launch_bounds__(THREADS, 1)
    product_int8(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
                 const int8_args p)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    typedef int8_shared<WIDE> shared;
    shared *s =
        reinterpret_cast<shared *>(((uintptr_t)dynamic_shared<char>() + 1023) / 1024 * 1024);
    const int rank = (int)cluster_rank(), group = threadIdx.x / 128 - 1;
    dependency_release();
    if (threadIdx.x == 0) {
        prefetch_map(&a);
        prefetch_map(&b);
        for (int i = 0; i < shared::stages; i++) {
            cluster_barrier_init(&s->full[i], 1);
            cluster_barrier_init(&s->empty[i], BLOCKS * GROUPS * 4); /* warps */
        }
    }
    cluster_sync();
    dependency_wait();
    if (group < 0) {
        registers_less<40>();
        if (threadIdx.x == 0)
            load_tiles(s, &a, &b, p, rank);
    } else {
        registers_more<232>();
        ring_place at = {0, 0};
        const int thread = threadIdx.x % 128;
        for (int t = blockIdx.x / BLOCKS; t < p.tiles_m * p.tiles_n; t += gridDim.x / BLOCKS) {
            const int2 tile = tile_at(p, t);
            const int row =
                (tile.x * BLOCKS + rank) * ROWS + group * 64 + thread / 32 * 16 + thread % 32 / 4;
            const int column = tile.y * WIDE, pair = column + 2 * thread;
            float2 scale = {0, 0}; /* asked for now, there when the sums are */
            float by[2];
            int sum[WIDE / 2];
            if (thread < WIDE / 2 && pair < p.n)
                scale = *reinterpret_cast<const float2 *>(p.b_scale + pair);
            for (int half = 0; half < 2; half++)
                by[half] = row + 8 * half < p.m ? p.a_scale[row + 8 * half] * p.scale : 0;
            multiply<WIDE>(sum, s, &at, p.k, group);
            warps_sync(1 + group, 128);
            if (thread < WIDE / 2)
                s->scales[group][thread] = scale;
            warps_sync(1 + group, 128);
            store<WIDE, T, WHOLE>(sum, p, row, column, s->scales[group], by);
        }
    }
    cluster_sync(); /* the other block may still write here */
#endif
}

/* ---- host ---- */

typedef CUresult encode_map(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                            const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                            const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static encode_map *encoder()
{
    static encode_map *found = [] {
        void *p = nullptr;
        cudaDriverEntryPointQueryResult how;
        return cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &p, 12000,
                                                cudaEnableDefault, &how) == cudaSuccess &&
                       how == cudaDriverEntryPointSuccess
                   ? (encode_map *)p
                   : nullptr;
    }();
    return found;
}

/* x (rows, k) in boxes of so many rows. */
static bool map_of(CUtensorMap *map, const void *x, int64_t rows, int64_t k, int box_rows)
{
    const cuuint64_t size[2] = {(cuuint64_t)k, (cuuint64_t)rows}, pitch[1] = {(cuuint64_t)k};
    const cuuint32_t box[2] = {DEPTH, (cuuint32_t)box_rows}, each[2] = {1, 1};
    return encoder() && encoder()(map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void *>(x),
                                  size, pitch, box, each, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* Rounds of all clusters, times what a round costs: its columns and what is around them. */
static int64_t cost(const int8_args &p, int wide, int clusters)
{
    const int64_t tiles = (int64_t)p.tiles_m * ((p.n + wide - 1) / wide);
    return (tiles + clusters - 1) / clusters * (wide + 32);
}

template <int WIDE, typename T, bool WHOLE>
static cudaError_t start(const int8_operands *o, int8_args p, int clusters, cudaStream_t stream)
{
    CUtensorMap a, b;
    if (!map_of(&a, o->a, p.m, p.k, ROWS) || !map_of(&b, o->b, p.n, p.k, WIDE / BLOCKS))
        return cudaErrorNotSupported;
    const size_t bytes = sizeof(int8_shared<WIDE>) + 1024;
    static const cudaError_t may = cudaFuncSetAttribute(
        product_int8<WIDE, T, WHOLE>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
    if (may != cudaSuccess)
        return may;
    p.tiles_n = (p.n + WIDE - 1) / WIDE;
    clusters = min(clusters, p.tiles_m * p.tiles_n);
    cudaLaunchAttribute with[2] = {};
    with[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    with[0].val.programmaticStreamSerializationAllowed = 1;
    with[1].id = cudaLaunchAttributeClusterDimension;
    with[1].val.clusterDim.x = BLOCKS, with[1].val.clusterDim.y = with[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(clusters * BLOCKS)), config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = bytes, config.stream = stream;
    config.attrs = with, config.numAttrs = 2;
    return cudaLaunchKernelEx(&config, product_int8<WIDE, T, WHOLE>, a, b, p);
}

cudaError_t t5_cuda_int8_start(const int8_operands *o, int processors, cudaStream_t stream)
{
    const int clusters = processors / BLOCKS;
    int8_args p = {o->c,      o->ldc,    o->a_scale, o->b_scale,   o->scale,
                   (int)o->m, (int)o->n, (int)o->k,  o->accumulate};
    p.tiles_m = (p.m + ROWS * BLOCKS - 1) / (ROWS * BLOCKS);
    if (o->c_float)
        return start<128, float, false>(o, p, clusters, stream);
    if (o->ldc % 8 || (uintptr_t)o->c % 16)
        return start<128, bf16, false>(o, p, clusters, stream);
    const int64_t c256 = cost(p, 256, clusters), c192 = cost(p, 192, clusters),
                  c128 = cost(p, 128, clusters);
    return c256 <= c192 && c256 <= c128 ? start<256, bf16, true>(o, p, clusters, stream)
           : c192 <= c128               ? start<192, bf16, true>(o, p, clusters, stream)
                                        : start<128, bf16, true>(o, p, clusters, stream);
}

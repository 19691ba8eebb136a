/* wgmma.h - cuda/wgmma.h for the host: the same functions, whose contracts stand there. A cluster's
 * blocks run side by side (runtime.cc). Products are made when they are asked for; what the ring's
 * barriers guard is poisoned until its copy has come. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_WGMMA_H
#define T5_CUDA_WGMMA_H

#include <atomic>

#include <cuda.h>

#define __CUDA_ARCH_FEAT_SM90_ALL 1

/* ---- a cluster of two blocks ---- */

struct emulated_cluster {
    std::atomic<unsigned> come; /* blocks, of all meetings */
    std::atomic<char *> shared[2];
};
inline emulated_cluster emulated_clusters[64];

inline uint32_t cluster_rank()
{
    return blockIdx.x % 2;
}
inline void cluster_sync()
{
    emulated_cluster &c = emulated_clusters[blockIdx.x / 2 % 64];
    __syncthreads();
    if (threadIdx.x == 0) {
        c.shared[cluster_rank()] = emulated_dynamic_shared();
        const unsigned all = (c.come++ / 2 + 1) * 2;
        while ((int)(c.come - all) < 0)
            emulated_yield();
    }
    __syncthreads();
}
/* What lies in block `rank` where p lies in this one. */
template <typename T> T *emulated_there(T *p, uint32_t rank)
{
    char *base = emulated_clusters[blockIdx.x / 2 % 64].shared[rank];
    return (T *)(base + ((char *)p - emulated_dynamic_shared()));
}
inline void cluster_barrier_init(uint64_t *barrier, uint32_t arrivals)
{
    emulated_barrier_init(barrier, arrivals);
}
inline void cluster_arrive(uint64_t *barrier, uint32_t rank)
{
    std::lock_guard<std::mutex> lock(emulated_bulk_lock);
    emulated_count(emulated_there(barrier, rank), 1, 0);
}

/* A barrier of some of a block's warps. */
inline void warps_sync(int id, int threads)
{
    static std::mutex lock;
    static std::map<std::pair<char *, int>, std::atomic<unsigned>> come;
    std::atomic<unsigned> *here;
    {
        std::lock_guard<std::mutex> held(lock);
        here = &come[{emulated_dynamic_shared(), id}];
    }
    const unsigned all = ((*here)++ / (unsigned)threads + 1) * (unsigned)threads;
    if (*here == all)
        emulated_warps_met();
    while ((int)(*here - all) < 0)
        emulated_yield();
}

/* ---- tensor copies ---- */

struct emulated_map { /* what a CUtensorMap holds here */
    const char *from;
    int64_t width, rows, pitch, box_rows;
};
inline CUresult emulated_encode_map(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank,
                                    void *from, const cuuint64_t *size, const cuuint64_t *pitch,
                                    const cuuint32_t *box, const cuuint32_t *each,
                                    CUtensorMapInterleave, CUtensorMapSwizzle swizzle,
                                    CUtensorMapL2promotion, CUtensorMapFloatOOBfill)
{
    if (type != CU_TENSOR_MAP_DATA_TYPE_UINT8 || rank != 2 || (uintptr_t)from % 16 ||
        pitch[0] % 16 || size[0] % 16 || box[0] != 128 || box[1] > 256 || each[0] != 1 ||
        each[1] != 1 || swizzle != CU_TENSOR_MAP_SWIZZLE_128B || (uintptr_t)map % 64)
        return CUDA_ERROR_INVALID_VALUE;
    const emulated_map m = {(const char *)from, (int64_t)size[0], (int64_t)size[1],
                            (int64_t)pitch[0], box[1]};
    memcpy(map, &m, sizeof m);
    return CUDA_SUCCESS;
}

/* Where the hardware keeps 16 bytes of an atom. */
inline char *emulated_swizzled(char *p)
{
    return (char *)((uintptr_t)p ^ ((uintptr_t)p >> 7 & 7) << 4);
}
UNWATCHED inline void emulated_box(char *to, const emulated_map &m, int64_t x, int64_t y)
{
    for (int64_t r = 0; r < m.box_rows; r++)
        for (int64_t b = 0; b < 128; b += 16) { /* width is a multiple, as pitch is */
            char *unit = emulated_swizzled(to + r * 128 + b);
            if (y + r < m.rows && x + b < m.width)
                memcpy(unit, m.from + (y + r) * m.pitch + x + b, 16);
            else
                memset(unit, 0, 16);
        }
}
inline void prefetch_map(const CUtensorMap *) {}
inline void emulated_copy_box(void *to, const CUtensorMap *map, int x, int y, uint64_t *barrier)
{
    emulated_map m;
    memcpy(&m, map, sizeof m);
    if ((uintptr_t)to % 1024) {
        fprintf(stderr, "emulated: a box goes to %p\n", to);
        abort();
    }
    emulated_bulk_copy(
        barrier, {[=] { emulated_box((char *)to, m, x, y); }, (int32_t)(m.box_rows * 128)}, to);
}
inline void copy_box(void *to, const CUtensorMap *map, int x, int y, uint64_t *barrier)
{
    emulated_copy_box(to, map, x, y, barrier);
}
inline void copy_box_both(void *to, const CUtensorMap *map, int x, int y, uint64_t *barrier)
{
    for (uint32_t rank = 0; rank < 2; rank++)
        emulated_copy_box(emulated_there(to, rank), map, x, y, emulated_there(barrier, rank));
}

/* ---- products ---- */

inline uint64_t matrix_descriptor(const void *tile)
{
    return shared_address(tile) >> 4;
}

struct emulated_product {
    int *sum;
    uint64_t a, b;
    int add, warp, n;
};
void emulated_warpgroup_mma(void *const *lanes);
template <int HALF>
void warpgroup_mma(int (&sum)[HALF], uint64_t a, uint64_t b, int add,
                   emulated_line line = emulated_line::current())
{
    emulated_product mine = {sum, a, b, add, (int)(threadIdx.x / 32 % 4), 2 * HALF};
    emulated_meet(emulated_warpgroup_mma, &mine, ~0u, line);
}
inline void warpgroup_begin() {}
inline void warpgroup_commit() {}
template <int N> void warpgroup_wait()
{
    __syncwarp();
}
template <int N> void registers_less()
{
    __syncwarp();
}
template <int N> void registers_more()
{
    __syncwarp();
}

#endif

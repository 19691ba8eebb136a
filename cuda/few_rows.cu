/* few_rows.cu - products of 1 to 16 rows with a bf16, int8 or e4m3 matrix, and what stands around
 * them in a decode step:
 *   y (n, rows) = x (n, cols) w^T x scale[row], where x may be a residual stream to be normalised,
 *   and y may be added to such a stream or go through a gated activation.
 * Bound by memory: every weight is read once, as it is stored. A block takes tiles of 16 rows of w,
 * each of its warps a slice of the columns; the slices are added in their order, so a result
 * depends on neither the rows beside it nor their number. 8 bits become bf16 in registers, where
 * they are exact; tensor cores do the sums. So that memory is never idle, weights are asked for
 * before the kernel before has ended and across tiles, and blocks at their last tile fetch the
 * beginning of the next product's weights into L2. RMSNorm's factor is one number a row, so it
 * multiplies the sums: what is rounded to bf16 is x g. */
/* SPDX-License-Identifier: MIT */
#include "activation.h"
#include "dependent.h"
#include "piece.h"

#define WARPS 8
#define DEPTH 4  /* pieces of two rows that a lane has asked for at a time, twice */
#define BLOCKS 2 /* on a multiprocessor */
#define TILE_ROWS 16
#define AHEAD ((int64_t)16 << 20) /* bytes of the next weight that are fetched into L2 */

template <typename W> struct matrix { /* (rows, cols), cols a multiple of a piece of 16 bytes */
    const W *w;
    const float *scale; /* (rows) or NULL */
    int rows, cols;
};

/* Where x comes from and y goes to. */
enum source { ACTIVATIONS, STREAM };            /* act; f32, to be normalised */
enum target { TO_ACT, TO_FLOAT, ADDED, GATED }; /* act; f32; added to f32; act, half as many */

struct few_rows_args {
    void *y;
    const void *x;
    int64_t ldy, ldx;
    int n;
    float factor;
    const float *norm; /* (cols), and eps: STREAM */
    float eps;
    t5_glu kind;      /* GATED: rows j of w gate rows j + rows / 2 */
    const char *next; /* what is read next, or NULL */
    int64_t next_bytes;
};

/* Columns that a warp stages of x at a time: all of a slice where that is usual and one row. */
template <int ROWS> constexpr int span_of = ROWS == 1 ? 1280 : ROWS == 8 ? 512 : 256;
/* Bytes between rows of staged x: rows that are read side by side start 64 bytes apart, modulo 128.
 */
template <int ROWS> constexpr int stage_pitch = span_of<ROWS> * 2 + 64;

/* Eight columns of a row of x as bf16; *squares grows by theirs. */
template <source FROM>
__device__ inline uint4 load_x(const few_rows_args &a, int row, int c, float *squares)
{
    if (FROM == ACTIVATIONS)
        return *reinterpret_cast<const uint4 *>((const bf16 *)a.x + row * a.ldx + c);
    const float4 *from = reinterpret_cast<const float4 *>((const float *)a.x + row * a.ldx + c);
    const float4 *norm = reinterpret_cast<const float4 *>(a.norm + c);
    float4 p = from[0], q = from[1], g = norm[0], h = norm[1];
    *squares += p.x * p.x + p.y * p.y + p.z * p.z + p.w * p.w;
    *squares += q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w;
    return make_uint4(pack_pair(p.x * g.x, p.y * g.y), pack_pair(p.z * g.z, p.w * g.w),
                      pack_pair(q.x * h.x, q.y * h.y), pack_pair(q.z * h.z, q.w * h.w));
}

/* Columns begin .. end - 1 of x for this warp, a row `pitch` bytes: 16-byte units, 8-bit weights'
 * first halves of pieces in front of the second halves. Zeros up to where a step may reach. */
template <typename W, int ROWS, source FROM>
__device__ inline void stage(char *to, const few_rows_args &a, int begin, int end,
                             float (&squares)[ROWS])
{
    constexpr int HALVES = sizeof(W) == 1 ? 2 : 1, UNITS = span_of<ROWS> / 8;
    int lane = (int)threadIdx.x % 32, padded = (end - begin + 63) / 64 * 64;
    __syncwarp();
#pragma unroll
    for (int row = 0; row < ROWS; row++)
#pragma unroll 2
        for (int u = lane; u < UNITS && u * 8 < padded && row < a.n; u += 32) {
            int place = u % HALVES * (UNITS / HALVES) + u / HALVES;
            uint4 x = make_uint4(0, 0, 0, 0);
            if (begin + u * 8 < end)
                x = load_x<FROM>(a, row, begin + u * 8, &squares[row]);
            *reinterpret_cast<uint4 *>(to + row * stage_pitch<ROWS> + place * 16) = in_order<W>(x);
        }
    __syncwarp();
}

/* DEPTH pieces of two rows, a lane's 4 apart. Zeros from column `end` on. */
template <typename W>
__device__ inline void ask(uint4 (&a)[DEPTH][2], const W *const (&row)[2], int col, int end)
{
    constexpr int PIECE = 16 / sizeof(W);
#pragma unroll
    for (int u = 0; u < DEPTH; u++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            a[u][h] = make_uint4(0, 0, 0, 0);
            if (col + u * 4 * PIECE < end)
                a[u][h] = load_once(row[h] + col + u * 4 * PIECE);
        }
}

/* part (WARPS, ROWS, 17): the warps' sums of row i of x and row r of the tile */
template <int ROWS> __device__ inline float total(const float *part, int i, int r)
{
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++)
        sum += part[(w * ROWS + i) * (TILE_ROWS + 1) + r];
    return sum;
}

/* The one result of a tile that a thread finishes, and what it takes that can be read early. */
struct one_result {
    bool is;
    int i, r, j; /* row of x, of the tile, of w */
    float scale, up_scale, old;
};

template <typename W, target TO>
__device__ inline one_result result_of(const few_rows_args &a, const matrix<W> &m, int tile)
{
    constexpr int EACH = TO == GATED ? TILE_ROWS / 2 : TILE_ROWS;
    int e = (int)threadIdx.x, j = tile * EACH + e % EACH;
    one_result o = {
        e < a.n * EACH && j < (TO == GATED ? m.rows / 2 : m.rows), e / EACH, e % EACH, j, 1, 1, 0};
    if (o.is && m.scale) {
        o.scale = m.scale[j];
        if (TO == GATED)
            o.up_scale = m.scale[j + m.rows / 2];
    }
    return o;
}

/* squares (WARPS, ROWS): of the whole row of x, by warps */
template <int ROWS, source FROM, target TO>
__device__ inline void finish(const few_rows_args &a, const one_result &o, int cols,
                              const float *part, const float *squares)
{
    float factor = a.factor;
    if (!o.is)
        return;
    if (FROM == STREAM) {
        float all = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++)
            all += squares[w * ROWS + o.i];
        factor *= rsqrtf(all / (float)cols + a.eps);
    }
    float sum = total<ROWS>(part, o.i, o.r) * (o.scale * factor);
    if (TO == TO_ACT)
        from_float((bf16 *)a.y + o.i * a.ldy + o.j, sum);
    else if (TO == GATED) {
        float up = total<ROWS>(part, o.i, o.r + TILE_ROWS / 2) * (o.up_scale * factor);
        from_float((bf16 *)a.y + o.i * a.ldy + o.j, activate<bf16>(sum, a.kind).value * up);
    } else
        ((float *)a.y)[o.i * a.ldy + o.j] = TO == ADDED ? o.old + sum : sum;
}

/* Where a warp's slice of the rows of a tile lies, as a lane reads it. */
template <typename W> struct tile_rows {
    const W *row[2];
};
template <typename W, target TO>
__device__ inline tile_rows<W> rows_of(const matrix<W> &m, int tile)
{
    constexpr int EACH = TO == GATED ? TILE_ROWS / 2 : TILE_ROWS;
    int first = tile * EACH + (int)threadIdx.x % 32 / 4;
    int second = first + (TO == GATED ? m.rows / 2 : TILE_ROWS / 2);
    /* Rows behind the last are the last once more: their sums are not kept. */
    return {{m.w + (int64_t)min(first, m.rows - 1) * m.cols,
             m.w + (int64_t)min(second, m.rows - 1) * m.cols}};
}

/* This block's share of the next weight's beginning, into L2. */
__device__ inline void fetch_next(const few_rows_args &a)
{
    int64_t share = min(a.next_bytes, AHEAD) / ((int64_t)gridDim.x * WARPS) / 128 * 128;
    int64_t at = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * share;
    if (a.next && share > 0 && threadIdx.x % 32 == 0)
        prefetch_bulk(a.next + at, (uint32_t)share);
}

template <typename W, int ROWS, source FROM, target TO>
__global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    few_rows(const __grid_constant__ few_rows_args a, const __grid_constant__ matrix<W> m,
             int tiles)
{
    constexpr int PIECE = 16 / sizeof(W), STEP = 4 * PIECE; /* columns a warp takes at a time */
    constexpr int SPAN = span_of<ROWS>, TILES = (ROWS + 7) / 8,
                  PARTS = WARPS * ROWS * (TILE_ROWS + 1);
    __shared__ float part[2][PARTS], squares[WARPS * ROWS];
    int warp = (int)threadIdx.x / 32, g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    char *staged = dynamic_shared<char>() + warp * ROWS * stage_pitch<ROWS>;
    int steps = (m.cols + STEP - 1) / STEP, each = (steps + WARPS - 1) / WARPS * STEP;
    int begin = warp * each, end = min(m.cols, begin + each);
    int asked_tile = (int)blockIdx.x, asked = begin; /* what is asked for next */
    tile_rows<W> from = rows_of<W, TO>(m, asked_tile);
    uint4 now[DEPTH][2], next[DEPTH][2];
    auto ask_more = [&](uint4(&into)[DEPTH][2]) {
        ask(into, from.row, asked + t * PIECE, asked_tile < tiles ? end : 0);
        asked += DEPTH * STEP;
        if (asked >= end && asked_tile < tiles) {
            asked = begin;
            asked_tile += (int)gridDim.x;
            from = rows_of<W, TO>(m, asked_tile);
        }
    };
    dependency_release();
    ask_more(now);
    ask_more(next);
    one_result o = result_of<W, TO>(a, m, (int)blockIdx.x);
    if ((int)(blockIdx.x + gridDim.x) >= tiles)
        fetch_next(a);
    dependency_wait();
    for (int tile = (int)blockIdx.x, turn = 0; tile < tiles; tile += (int)gridDim.x, turn ^= 1) {
        float sum[TILES][4] = {}, square[ROWS] = {};
        bool stages = tile == (int)blockIdx.x || each > SPAN; /* else x is still there */
        if (TO == ADDED && o.is)
            o.old = ((const float *)a.y)[o.i * a.ldy + o.j];
        for (int first = begin; first < end; first += SPAN) {
            int last = min(end, first + SPAN);
            if (stages)
                stage<W, ROWS, FROM>(staged, a, first, last, square);
            for (int at = first; at < last; at += DEPTH * STEP) {
#pragma unroll
                for (int u = 0; u < DEPTH; u++)
#pragma unroll
                    for (int k = 0; k < TILES; k++) {
                        /* Columns of the result behind the last row of x are not kept either. */
                        int i = ROWS == 1 ? 0 : min(8 * k + g, a.n - 1);
                        int piece = (at - first) / PIECE + u * 4 + t;
                        if (at + u * STEP < last) /* all of the warp, or none */
                            add_piece<W>(sum[k], now[u][0], now[u][1],
                                         staged + i * stage_pitch<ROWS> + piece * 16, SPAN);
                    }
#pragma unroll
                for (int u = 0; u < DEPTH; u++)
                    now[u][0] = next[u][0], now[u][1] = next[u][1];
                ask_more(next);
            }
        }
#pragma unroll
        for (int k = 0; k < TILES; k++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int of = 8 * k + 2 * t + i % 2;
                if (of < ROWS)
                    part[turn][(warp * ROWS + of) * (TILE_ROWS + 1) + g + i / 2 * 8] = sum[k][i];
            }
        if (FROM == STREAM && tile == (int)blockIdx.x) /* later tiles have the same */
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                square[i] = warp_sum(square[i]);
                if (threadIdx.x % 32 == 0)
                    squares[warp * ROWS + i] = square[i];
            }
        __syncthreads(); /* one a tile: parts alternate */
        finish<ROWS, FROM, TO>(a, o, m.cols, part[turn], squares);
        int after = tile + (int)gridDim.x;
        o = result_of<W, TO>(a, m, after);
        if (after < tiles && after + (int)gridDim.x >= tiles)
            fetch_next(a);
    }
}

/* ---- choosing ---- */

template <typename W, int ROWS, source FROM, target TO>
static void launch(t5_device *dev, const few_rows_args &a, const matrix<W> &m)
{
    size_t bytes = (size_t)WARPS * ROWS * stage_pitch<ROWS>;
    if (bytes > 40 << 10 &&
        t5_cuda_failed(dev,
                       cudaFuncSetAttribute(few_rows<W, ROWS, FROM, TO>,
                                            cudaFuncAttributeMaxDynamicSharedMemorySize,
                                            (int)bytes),
                       "shared memory"))
        return;
    int each = TO == GATED ? TILE_ROWS / 2 : TILE_ROWS, rows = TO == GATED ? m.rows / 2 : m.rows;
    int tiles = (int)blocks_for(rows, each), most = BLOCKS * dev->processors;
    launch_dependent(dev, few_rows<W, ROWS, FROM, TO>,
                     dim3((unsigned)(tiles < most ? tiles : most)), WARPS * 32, bytes, a, m, tiles);
    T5_LAUNCHED(dev);
}

template <typename W, source FROM, target TO>
static void choose_rows(t5_device *dev, const few_rows_args &a, const matrix<W> &m)
{
    if (a.n == 1)
        launch<W, 1, FROM, TO>(dev, a, m);
    else if (a.n <= 8)
        launch<W, 8, FROM, TO>(dev, a, m);
    else
        launch<W, 16, FROM, TO>(dev, a, m);
}

template <source FROM, target TO>
static void choose(t5_device *dev, const few_rows_args &a, const t5_weight *w)
{
    int rows = (int)w->rows, cols = (int)w->cols;
    if (w->q)
        choose_rows<int8_t, FROM, TO>(dev, a, {w->q, w->scale, rows, cols});
    else if (w->e4m3)
        choose_rows<e4m3, FROM, TO>(dev, a, {(const e4m3 *)w->e4m3, w->scale, rows, cols});
    else
        choose_rows<bf16, FROM, TO>(dev, a, {(const bf16 *)w->values, nullptr, rows, cols});
}

/* Whether a product is one for these kernels. size: of an element of x */
static bool fits(const t5_device *dev, const void *x, int64_t ldx, size_t size, const t5_weight *w,
                 int64_t n)
{
    return dev->bf16 && w->few && n >= 1 && n <= T5_FEW_ROWS &&
           w->cols % (w->q || w->e4m3 ? 16 : 8) == 0 && ldx * (int64_t)size % 16 == 0 &&
           (uintptr_t)x % 16 == 0 && w->cols <= INT32_MAX && w->rows <= INT32_MAX;
}

/* The bytes that a product with w reads. */
static void set_next(few_rows_args *a, const t5_weight *w)
{
    if (!w || !w->few)
        return;
    a->next = w->q ? (const char *)w->q : w->e4m3 ? (const char *)w->e4m3 : (const char *)w->values;
    a->next_bytes = w->rows * w->cols * (w->q || w->e4m3 ? 1 : (int64_t)sizeof(bf16));
}

bool t5_cuda_few_rows(t5_device *dev, void *y, int64_t ldy, int y_float, const act *x, int64_t ldx,
                      const t5_weight *w, int64_t n, float factor)
{
    few_rows_args a = {};
    if (!fits(dev, x, ldx, sizeof(bf16), w, n))
        return false;
    a.y = y, a.x = x, a.ldy = ldy, a.ldx = ldx, a.n = (int)n, a.factor = factor;
    if (y_float)
        choose<ACTIVATIONS, TO_FLOAT>(dev, a, w);
    else
        choose<ACTIVATIONS, TO_ACT>(dev, a, w);
    return true;
}

extern "C" int t5_cuda_norm_linear(t5_device *dev, void *y, const float *x, const float *norm,
                                   float eps, const t5_weight *w, int64_t n, t5_step_end end,
                                   t5_glu kind, float scale, const t5_weight *next)
{
    few_rows_args a = {};
    if (!fits(dev, x, w->cols, sizeof(float), w, n) || (uintptr_t)norm % 16 ||
        (end == T5_STEP_GATED && w->rows % 2))
        return 0;
    a.y = y, a.x = x, a.ldy = end == T5_STEP_GATED ? w->rows / 2 : w->rows, a.ldx = w->cols;
    a.n = (int)n, a.factor = scale, a.norm = norm, a.eps = eps, a.kind = kind;
    set_next(&a, next);
    if (end == T5_STEP_GATED)
        choose<STREAM, GATED>(dev, a, w);
    else if (end == T5_STEP_LOGITS)
        choose<STREAM, TO_FLOAT>(dev, a, w);
    else
        choose<STREAM, TO_ACT>(dev, a, w);
    return 1;
}

extern "C" int t5_cuda_linear_add(t5_device *dev, float *x, const act *from, const t5_weight *w,
                                  int64_t n, const t5_weight *next)
{
    few_rows_args a = {};
    if (!fits(dev, from, w->cols, sizeof(bf16), w, n))
        return 0;
    a.y = x, a.x = from, a.ldy = w->rows, a.ldx = w->cols, a.n = (int)n, a.factor = 1;
    set_next(&a, next);
    choose<ACTIVATIONS, ADDED>(dev, a, w);
    return 1;
}

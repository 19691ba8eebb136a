/* lora.cu - the LoRA side path of a product (arXiv:2106.09685), for any size and type, and its
 * choice of kernels.
 *   forward:  u = drop(x) a^T;  y += scale u b^T
 *   backward: du = scale dy b;  db += scale dy^T u;  da += du^T drop(x);  dx += drop'(du a)
 * bf16 activations of the usual shapes take the tensor cores (lora_fwd.cu, lora_bwd.cu). The rest,
 * f32 above all, is six plain products here: sums in a fixed order, 16 x 16 results a block. */
/* SPDX-License-Identifier: MIT */
#include "lora.h"

#define TILE 16
#define DEPTH 64

template <typename T> struct strided { /* element (i, j) is p[i * row + j * col] */
    T *p;
    int64_t row, col;
};

enum dropped { NOTHING, LEFT, RIGHT, RESULT };

/* What dropout applies to, with its token and column: LEFT (i, k), RIGHT (k, j), RESULT (i, j). */
struct dropping {
    dropped what;
    t5_dropout drop;
    pack_view pack;
};
__device__ inline float drop_factor(const dropping &d, dropped what, int64_t token, int64_t column)
{
    if (d.what != what)
        return 1;
    if (!t5_dropout_active(&d.drop))
        return 1;
    int32_t b = d.pack.seq[token];
    return t5_dropout_factor(&d.drop, d.pack.record[b], (uint32_t)(token - d.pack.offsets[b]),
                             (uint32_t)column);
}

/* out (m, n) = (add ? out : 0) + scale a (m, depth) b (depth, n), with dropout on one of them */
template <typename TO, typename TA, typename TB>
__global__ void lora_product(strided<TO> out, strided<const TA> a, strided<const TB> b, int64_t m,
                             int64_t n, int64_t depth, float scale, bool add,
                             const __grid_constant__ dropping drop)
{
    __shared__ float as[TILE][DEPTH + 1], bs[TILE][DEPTH + 1];
    int64_t i0 = (int64_t)blockIdx.x * TILE, j0 = (int64_t)blockIdx.y * TILE;
    int ti = (int)threadIdx.x / TILE, tj = (int)threadIdx.x % TILE;
    float total = 0;
    for (int64_t k0 = 0; k0 < depth; k0 += DEPTH) {
        for (int e = (int)threadIdx.x; e < TILE * DEPTH; e += TILE * TILE) {
            int ai = a.col == 1 ? e / DEPTH : e % TILE, ak = a.col == 1 ? e % DEPTH : e / TILE;
            int bj = b.row == 1 ? e / DEPTH : e % TILE, bk = b.row == 1 ? e % DEPTH : e / TILE;
            int64_t i = i0 + ai, j = j0 + bj, ka = k0 + ak, kb = k0 + bk;
            as[ai][ak] = i < m && ka < depth ? to_float(a.p[i * a.row + ka * a.col]) *
                                                   drop_factor(drop, LEFT, i, ka)
                                             : 0;
            bs[bj][bk] = j < n && kb < depth ? to_float(b.p[kb * b.row + j * b.col]) *
                                                   drop_factor(drop, RIGHT, kb, j)
                                             : 0;
        }
        __syncthreads();
        float sum = 0; /* of DEPTH terms: shorter chains round less */
        for (int k = 0; k < DEPTH; k++)
            sum += as[ti][k] * bs[tj][k];
        total += sum;
        __syncthreads();
    }
    int64_t i = i0 + ti, j = j0 + tj;
    if (i >= m || j >= n)
        return;
    TO *to = out.p + i * out.row + j * out.col;
    total *= scale * drop_factor(drop, RESULT, i, j);
    from_float(to, add ? to_float(*to) + total : total);
}

template <typename TO, typename TA, typename TB>
static void product(t5_device *dev, strided<TO> out, strided<const TA> a, strided<const TB> b,
                    int64_t m, int64_t n, int64_t depth, float scale, bool add,
                    const dropping &drop)
{
    launch_kernel(dev, lora_product<TO, TA, TB>, dim3(blocks_for(m, TILE), blocks_for(n, TILE)),
                  TILE * TILE, 0, out, a, b, m, n, depth, scale, add, drop);
    T5_LAUNCHED(dev);
}

/* u and du stand at the module's first column. */
template <typename T>
static void plain_fwd(t5_device *dev, T *y, int64_t ldy, T *u, int64_t ldu, const T *x, int64_t ldx,
                      int64_t cols, const t5_lora &l, int64_t n, const t5_pack *pack)
{
    dropping none = {NOTHING, {}, {}}, on_x = {LEFT, l.dropout, view(pack)};
    product<T, T, float>(dev, {u, ldu, 1}, {x, ldx, 1}, {l.a, 1, cols}, n, l.rank, cols, 1, false,
                         on_x);
    product<T, T, float>(dev, {y + l.column, ldy, 1}, {u, ldu, 1}, {l.b, 1, l.rank}, n, l.rows,
                         l.rank, l.scale, true, none);
}

template <typename T>
static void plain_bwd(t5_device *dev, T *dx, int64_t lddx, T *du, const T *dy, int64_t lddy,
                      const T *u, int64_t ldu, const T *x, int64_t ldx, int64_t cols,
                      const t5_lora &l, int64_t n, const t5_pack *pack)
{
    dropping none = {NOTHING, {}, {}}, on_x = {RIGHT, l.dropout, view(pack)};
    dropping on_dx = {RESULT, l.dropout, view(pack)};
    dy += l.column;
    product<T, T, float>(dev, {du, ldu, 1}, {dy, lddy, 1}, {l.b, l.rank, 1}, n, l.rank, l.rows,
                         l.scale, false, none);
    product<float, T, T>(dev, {l.db, l.rank, 1}, {dy, 1, lddy}, {u, ldu, 1}, l.rows, l.rank, n,
                         l.scale, true, none);
    product<float, T, T>(dev, {l.da, cols, 1}, {du, 1, ldu}, {x, ldx, 1}, l.rank, cols, n, 1, true,
                         on_x);
    if (dx)
        product<T, T, float>(dev, {dx, lddx, 1}, {du, ldu, 1}, {l.a, cols, 1}, n, cols, l.rank, 1,
                             true, on_dx);
}

/* ---- tensor cores or not ---- */

/* Rows of `ld` elements from p on can be read `each` elements at a time, within 32-bit offsets. */
static bool even(const void *p, int64_t ld, int64_t each, size_t size)
{
    return ld % each == 0 && ld <= 131072 && (uintptr_t)p % ((size_t)each * size) == 0;
}

static bool fits_mma(const t5_device *dev, const t5_lora &l, int64_t cols, int64_t first,
                     int64_t ldu)
{
    return dev->bf16 && l.rank % 4 == 0 && l.rank <= 64 && l.rows % 8 == 0 && l.column % 8 == 0 &&
           cols % 8 == 0 && first % 4 == 0 && even(l.a, cols, 4, sizeof(float)) &&
           even(l.b, l.rank, 4, sizeof(float)) && even(l.da, cols, 4, sizeof(float)) &&
           even(l.db, l.rank, 4, sizeof(float)) && ldu <= 131072 && l.rows <= INT32_MAX;
}

static bool same_draws(const t5_dropout &a, const t5_dropout &b)
{
    return a.p == b.p && a.key[0] == b.key[0] && a.key[1] == b.key[1];
}

/* The modules from lora[0] on that one pass takes: 1 to `left`. */
static lora_group make_group(const t5_device *dev, const t5_lora *lora, int left, int64_t cols,
                             int64_t first, int64_t ldu)
{
    const t5_dropout &drop = lora[0].dropout;
    lora_group g = {};
    g.rank = (int)lora[0].rank;
    g.first = (int)first;
    g.ldu = (int)ldu;
    g.drop = drop.p > 0;
    g.keys = view(drop.key);
    g.threshold = t5_dropout_threshold(drop.p);
    g.keep = g.drop ? t5_dropout_keep(drop.p) : 1;
    int steps = (g.rank + 15) / 16;
    for (int i = 0; i < left && i < LORA_GROUP && (i + 1) * steps <= LORA_GROUP_STEPS; i++) {
        const t5_lora &l = lora[i];
        if (i && (l.rank != g.rank || !same_draws(l.dropout, drop) ||
                  !fits_mma(dev, l, cols, first + i * g.rank, ldu)))
            break;
        g.side[g.count++] = {l.a, l.b, l.da, l.db, l.column, (int)l.rows, l.scale, l.dropout.site};
    }
    return g;
}

static lora_pass make_pass(const t5_pack *pack, int64_t begin, int64_t n)
{
    lora_pass pass = {(int)(n - begin < LORA_PASS_ROWS ? n - begin : LORA_PASS_ROWS), begin,
                      view(pack)};
    pass.pack.seq += pass.pack.seq ? begin : 0;
    return pass;
}

static int64_t rank_sum(const t5_lora *lora, int n_lora)
{
    int64_t sum = 0;
    for (int i = 0; i < n_lora; i++)
        sum += lora[i].rank;
    return sum;
}

OP t5_cuda_lora_fwd(t5_device *dev, act *y, int64_t ldy, act *u, const act *x, int64_t ldx,
                    int64_t cols, const t5_lora *lora, int n_lora, int64_t n, const t5_pack *pack)
{
    int64_t ldu = rank_sum(lora, n_lora), first = 0;
    bool smooth = even(x, ldx, 8, sizeof(bf16)) && even(y, ldy, 8, sizeof(bf16));
    for (int i = 0; n && i < n_lora;) {
        if (!smooth || !fits_mma(dev, lora[i], cols, first, ldu)) {
            T5_WITH_ACT(dev, plain_fwd(dev, (T *)y, ldy, (T *)u + first, ldu, (const T *)x, ldx,
                                       cols, lora[i], n, pack));
            first += lora[i++].rank;
            continue;
        }
        lora_group group = make_group(dev, lora + i, n_lora - i, cols, first, ldu);
        for (int64_t at = 0; at < n; at += LORA_PASS_ROWS)
            t5_cuda_lora_mma_fwd(dev, (bf16 *)y + at * ldy, ldy, (bf16 *)u + at * ldu,
                                 (const bf16 *)x + at * ldx, ldx, (int)cols, group,
                                 make_pass(pack, at, n));
        i += group.count;
        first += group.count * group.rank;
    }
}

OP t5_cuda_lora_bwd(t5_device *dev, act *dx, int64_t lddx, act *work, const act *dy, int64_t lddy,
                    const act *u, const act *x, int64_t ldx, int64_t cols, const t5_lora *lora,
                    int n_lora, int64_t n, const t5_pack *pack)
{
    int64_t ldu = rank_sum(lora, n_lora), first = 0;
    bool smooth = even(x, ldx, 8, sizeof(bf16)) && even(dy, lddy, 8, sizeof(bf16)) &&
                  even(u, ldu, 4, sizeof(bf16)) && even(work, ldu, 4, sizeof(bf16)) &&
                  (!dx || even(dx, lddx, 4, sizeof(bf16)));
    for (int i = 0; n && i < n_lora;) {
        if (!smooth || !fits_mma(dev, lora[i], cols, first, ldu)) {
            T5_WITH_ACT(dev, plain_bwd(dev, (T *)dx, lddx, (T *)work + first, (const T *)dy, lddy,
                                       (const T *)u + first, ldu, (const T *)x, ldx, cols, lora[i],
                                       n, pack));
            first += lora[i++].rank;
            continue;
        }
        lora_group group = make_group(dev, lora + i, n_lora - i, cols, first, ldu);
        for (int64_t at = 0; at < n; at += LORA_PASS_ROWS)
            t5_cuda_lora_mma_bwd(dev, dx ? (bf16 *)dx + at * lddx : nullptr, lddx,
                                 (bf16 *)work + at * ldu, (const bf16 *)dy + at * lddy, lddy,
                                 (const bf16 *)u + at * ldu, (const bf16 *)x + at * ldx, ldx,
                                 (int)cols, group, make_pass(pack, at, n));
        i += group.count;
        first += group.count * group.rank;
    }
}

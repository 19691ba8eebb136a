/* embed.cu - rows of the table with dropout, and their gradients. Bound by memory. */
/* SPDX-License-Identifier: MIT */
#include "dependent.h"

template <typename T>
__global__ void gather(float *x, const T *table, const int32_t *ids, int d, pack_view pack,
                       const __grid_constant__ drop_view drop, bool whole)
{
    int64_t i = blockIdx.x;
    dependency_release();
    dependency_wait();
    drop_row dr = drop_at(drop, pack, i);
    for (int c = threadIdx.x * 4; c < d; c += blockDim.x * 4) {
        quad q = load_quad(table + (int64_t)ids[i] * d, c, d, whole);
        drop_quad(q, dr, c);
        store_quad(x + i * d, c, d, whole, q);
    }
}

OP t5_cuda_embed_fwd(t5_device *dev, float *x, const t5_weight *table, const int32_t *ids,
                     const t5_pack *pack, const t5_dropout *drop)
{
    int d = (int)table->cols;
    if (pack->n_tokens == 0)
        return;
    T5_WITH_ACT(dev, launch_dependent(dev, gather<T>, dim3((unsigned)pack->n_tokens), 256, 0, x,
                                      (const T *)table->values, ids, d, view(pack), view(drop),
                                      d % 4 == 0));
    T5_LAUNCHED(dev);
}

/* A thread a column, tokens in order: slow beside a sorted scatter, and the same bytes every time.
 */
__global__ void scatter(float *dtable, const float *dx, const int32_t *ids, int64_t n, int d,
                        pack_view pack, const __grid_constant__ drop_view drop)
{
    int c = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (c >= d)
        return;
    for (int64_t i = 0; i < n; i++) {
        quad q = load_quad(dx + i * d, c, d, false);
        drop_quad(q, drop_at(drop, pack, i), c);
        for (int k = 0; k < 4 && c + k < d; k++)
            dtable[(int64_t)ids[i] * d + c + k] += q.v[k];
    }
}

OP t5_cuda_embed_bwd(t5_device *dev, float *dtable, const float *dx, const int32_t *ids, int64_t v,
                     int64_t d, const t5_pack *pack, const t5_dropout *drop)
{
    (void)v;
    launch_kernel(dev, scatter, blocks_for(d, 4 * 32), 32, 0, dtable, dx, ids, pack->n_tokens,
                  (int)d, view(pack), view(drop));
    T5_LAUNCHED(dev);
}

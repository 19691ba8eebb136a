/* glu.c - T5's feed-forward activation, gated or not, with the dropout before wo. */
/* SPDX-License-Identifier: MIT */
#include "cpu/cpu.h"

enum { ROWS = 8 };

void cpu_glu_fwd(struct t5_device *dev, act *h, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader)
{
    (void)reader;
    CPU_PARALLEL_FOR(dev, n * f > 8192)
    for (int64_t from = 0; from < n; from += ROWS)
        for (int64_t i = from; i < n && i < from + ROWS; i++) {
            const float *gate = (const float *)g + i * f * (gated ? 2 : 1);
            float *out = (float *)h + i * f;
            dev->rows->glu(out, gate, gated ? gate + f : NULL, f, kind);
            if (t5_dropout_active(drop))
                dev->rows->drop(out, out, f, drop, cpu_place(pack, i));
        }
}

void cpu_glu_bwd(struct t5_device *dev, act *dg, const act *dh, const act *g, int64_t n, int64_t f,
                 enum t5_glu kind, int gated, const struct t5_pack *pack,
                 const struct t5_dropout *drop, const struct t5_reader *reader)
{
    (void)reader;
    size_t stride;
    float *work = cpu_work(dev, dev->threads, (size_t)f, &stride);
    if (!work)
        return;
    CPU_PARALLEL_FOR(dev, n * f > 8192)
    for (int64_t from = 0; from < n; from += ROWS)
        for (int64_t i = from; i < n && i < from + ROWS; i++) {
            const int64_t at = i * f * (gated ? 2 : 1);
            const float *gate = (const float *)g + at, *d = (const float *)dh + i * f;
            float *dgate = (float *)dg + at;
            if (t5_dropout_active(drop)) {
                float *masked = work + (size_t)omp_get_thread_num() * stride;
                dev->rows->drop(masked, d, f, drop, cpu_place(pack, i));
                d = masked;
            }
            dev->rows->glu_grad(dgate, gated ? dgate + f : NULL, d, gate, gated ? gate + f : NULL,
                                f, kind);
        }
}

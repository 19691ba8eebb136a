/* rows_body.h - the functions of rows.h, written once over vectors of VL floats. Included by one
 * file an instruction set, which defines VL, MULTIPLY_EVEN, SQUARE_ROOT, ANY, ZIP_LOW, ZIP_HIGH and
 * TABLE. Sums keep VL x 4 partial ones and add them as a tree: the order depends on the length
 * alone. */
/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "backend/dropout.h"
#include "cpu/rows.h"

#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
typedef uint64_t vl __attribute__((vector_size(VL * 4)));
typedef float vf_half __attribute__((vector_size(VL * 2)));
typedef double vd __attribute__((vector_size(VL * 4)));
/* the same in memory: any alignment */
typedef float vf_any __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef float vf_half_any __attribute__((vector_size(VL * 2), aligned(4), may_alias));

INLINE vf all(float x)
{
    return (vf){0} + x;
}
INLINE vf load(const float *p)
{
    return *(const vf_any *)p;
}
INLINE void store(float *p, vf v)
{
    *(vf_any *)p = v;
}
INLINE vf pick(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

/* Elements i.. of a row of n: the last vector is filled up with `rest`. */
INLINE vf get_or(const float *p, int64_t i, int64_t n, float rest)
{
    if (n - i >= VL)
        return load(p + i);
    vf v = all(rest);
    memcpy(&v, p + i, (size_t)(n - i) * sizeof(float));
    return v;
}
INLINE vf get(const float *p, int64_t i, int64_t n)
{
    return get_or(p, i, n, 0);
}
INLINE void put(float *p, int64_t i, int64_t n, vf v)
{
    if (n - i >= VL)
        store(p + i, v);
    else
        memcpy(p + i, &v, (size_t)(n - i) * sizeof(float));
}
#define EACH_VECTOR(i, n) for (int64_t i = 0; i < (n); i += VL)

INLINE float tree_sum(vf v)
{
    float t[VL];
    memcpy(t, &v, sizeof t);
    for (int width = VL / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            t[i] += t[i + width];
    return t[0];
}

/* exp(x) = 2^n exp(r), |r| <= ln 2 / 2; polynomial of degree 6 (Cephes expf). Below -87.3: 0. */
INLINE vf exp_of(vf x)
{
    const vf low = all(-87.33654f), high = all(88.37626f),
             magic = all(12582912.0f); /* 1.5 x 2^23 */
    const vi under = x < low;
    x = pick(x > high, high, pick(under, low, x));
    const vf shifted =
        x * all(1.44269504088896341f) + magic; /* its low bits are the whole number */
    const vf n = shifted - magic;
    const vf r = (x - n * all(0.693359375f)) + n * all(2.12194440e-4f);
    vf y = all(1.9875691500e-4f) * r + all(1.3981999507e-3f);
    y = y * r + all(8.3334519073e-3f);
    y = y * r + all(4.1665795894e-2f);
    y = y * r + all(1.6666665459e-1f);
    y = y * r + all(5.0000001201e-1f);
    y = y * (r * r) + r + all(1);
    const vi power = ((vi)shifted - 0x4B400000 + 127) << 23;
    return (vf)(~under & (vi)(y * (vf)power));
}

/* ---- dropout ---- */

INLINE void multiply(vu *high, vu *low, vu a, uint32_t by)
{
    const vl b = (vl){0} + by, half = (vl){0} + 0xffffffffu;
    const vl even = MULTIPLY_EVEN((vl)a, b), odd = MULTIPLY_EVEN((vl)a >> 32, b);
    *low = (vu)((even & half) | odd << 32);
    *high = (vu)(even >> 32 | (odd & ~half));
}

/* t5_dropout_draw for VL counters {record, position, octet, site} at once: v, one vector behind the
 * other, holds the four words of each octet. */
INLINE void philox(vu v[4], const struct t5_dropout *drop, struct t5_place at, vu octet)
{
    uint32_t k0 = drop->key[0], k1 = drop->key[1];
    vu c0 = (vu){0} + at.record, c1 = (vu){0} + at.position, c2 = octet, c3 = (vu){0} + drop->site;
    for (int round = 0; round < T5_DROPOUT_ROUNDS; round++) {
        vu high0, low0, high1, low1;
        multiply(&high0, &low0, c0, 0xD2511F53u);
        multiply(&high1, &low1, c2, 0xCD9E8D57u);
        c0 = high1 ^ c1 ^ k0;
        c2 = high0 ^ c3 ^ k1;
        c1 = low1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    /* from four vectors, a word each, to column order */
    const vu low02 = ZIP_LOW(c0, c2), high02 = ZIP_HIGH(c0, c2);
    const vu low13 = ZIP_LOW(c1, c3), high13 = ZIP_HIGH(c1, c3);
    v[0] = ZIP_LOW(low02, low13);
    v[1] = ZIP_HIGH(low02, low13);
    v[2] = ZIP_LOW(high02, high13);
    v[3] = ZIP_HIGH(high02, high13);
}

static void drop_row(float *out, const float *in, int64_t n, const struct t5_dropout *drop,
                     struct t5_place at)
{
    vu iota;
    for (uint32_t i = 0; i < VL; i++)
        iota[i] = i;
    const vu threshold = (vu){0} + t5_dropout_threshold(drop->p);
    const vf factor = all(t5_dropout_keep(drop->p));
    for (int64_t i = 0; i < n; i += 8 * VL) {
        vu v[4];
        philox(v, drop, at, iota + (at.first + (uint32_t)i) / 8);
        for (int64_t j = 0; j < 8 && i + j * VL < n; j++) {
            const vu even = v[j / 2] & 0xffff, odd = v[j / 2] >> 16;
            const vu bits = j % 2 ? ZIP_HIGH(even, odd) : ZIP_LOW(even, odd);
            const vf mask = (vf)((vi)(bits >= threshold) & (vi)factor);
            put(out, i + j * VL, n, in ? get(in, i + j * VL, n) * mask : mask);
        }
    }
}

/* ---- plain passes ---- */

static void add_rows(float *out, const float *a, const float *b, int64_t n)
{
    EACH_VECTOR(i, n)
        put(out, i, n, get(a, i, n) + get(b, i, n));
}

static void scale_row(float *out, const float *in, float by, int64_t n)
{
    EACH_VECTOR(i, n)
        put(out, i, n, get(in, i, n) * all(by));
}

/* The sum over a row of TERM, an expression in i and n that is 0 beyond the end. */
#define SUM_ROW(total, n, TERM)                                                                    \
    do {                                                                                           \
        vf sums_[4] = {{0}};                                                                       \
        int64_t i = 0;                                                                             \
        for (; i + 4 * VL <= (n); i += VL) {                                                       \
            sums_[0] += TERM;                                                                      \
            i += VL;                                                                               \
            sums_[1] += TERM;                                                                      \
            i += VL;                                                                               \
            sums_[2] += TERM;                                                                      \
            i += VL;                                                                               \
            sums_[3] += TERM;                                                                      \
        }                                                                                          \
        for (; i < (n); i += VL)                                                                   \
            sums_[0] += TERM;                                                                      \
        total = tree_sum((sums_[0] + sums_[1]) + (sums_[2] + sums_[3]));                           \
    } while (0)

static float dot_rows(const float *a, const float *b, int64_t n)
{
    float total;
    SUM_ROW(total, n, get(a, i, n) * get(b, i, n));
    return total;
}

INLINE double sum_double(const float *x, int64_t n, int squares)
{
    vd sum = {0};
    int64_t i = 0;
    for (; i + VL / 2 <= n; i += VL / 2) {
        const vd v = __builtin_convertvector(*(const vf_half_any *)(x + i), vd);
        sum += squares ? v * v : v;
    }
    double total = 0;
    for (int j = 0; j < VL / 2; j++)
        total += sum[j];
    for (; i < n; i++)
        total += squares ? (double)x[i] * x[i] : (double)x[i];
    return total;
}
static double sum_row(const float *x, int64_t n)
{
    return sum_double(x, n, 0);
}
static double sum_squares_row(const float *x, int64_t n)
{
    return sum_double(x, n, 1);
}

/* ---- norm ---- */

static void norm_row(float *y, const float *x, const float *w, float r, int64_t n)
{
    EACH_VECTOR(i, n)
        put(y, i, n, get(x, i, n) * all(r) * get(w, i, n));
}

static float norm_dot(const float *dy, const float *w, const float *x, int64_t n)
{
    float total;
    SUM_ROW(total, n, get(dy, i, n) * get(w, i, n) * get(x, i, n));
    return total;
}

static void norm_grad(float *dx, const float *dy, const float *w, const float *x, float r, float c,
                      int64_t n)
{
    EACH_VECTOR(i, n)
        put(dx, i, n,
            get(dx, i, n) + (all(r) * get(w, i, n) * get(dy, i, n) - all(c) * get(x, i, n)));
}

static void norm_weight(float *dw, const float *dy, const float *x, float r, int64_t n)
{
    EACH_VECTOR(i, n)
        put(dw, i, n, get(dw, i, n) + all(r) * get(x, i, n) * get(dy, i, n));
}

/* ---- gated activation ---- */

/* f(x) and f'(x). gelu_new's tanh form is x sigmoid(u) with u = sqrt(8/pi) (x + 0.044715 x^3). */
INLINE void activate(vf *value, vf *slope, vf x, enum t5_glu kind)
{
    if (kind == T5_GLU_RELU) {
        const vi on = x > all(0);
        *value = (vf)(on & (vi)x);
        *slope = (vf)(on & (vi)all(1));
        return;
    }
    const float a = 1.5957691216057308f, b = 0.044715f;
    const vf u = kind == T5_GLU_SILU ? x : all(a) * (x + all(b) * (x * x * x));
    const vf s = all(1) / (all(1) + exp_of(-u));
    const vf du = kind == T5_GLU_SILU ? all(1) : all(a) * (all(1) + all(3 * b) * (x * x));
    *value = x * s;
    *slope = s + x * s * (all(1) - s) * du;
}

INLINE void glu_kind(float *h, const float *gate, const float *up, int64_t n, enum t5_glu kind)
{
    EACH_VECTOR(i, n) {
        vf value, slope;
        activate(&value, &slope, get(gate, i, n), kind);
        put(h, i, n, up ? value * get(up, i, n) : value);
    }
}

INLINE void glu_grad_kind(float *dgate, float *dup, const float *dh, const float *gate,
                          const float *up, int64_t n, enum t5_glu kind)
{
    EACH_VECTOR(i, n) {
        vf value, slope;
        const vf d = get(dh, i, n);
        activate(&value, &slope, get(gate, i, n), kind);
        put(dgate, i, n, (up ? d * get(up, i, n) : d) * slope);
        if (up)
            put(dup, i, n, d * value);
    }
}

static void glu_row(float *h, const float *gate, const float *up, int64_t n, enum t5_glu kind)
{
    if (kind == T5_GLU_RELU)
        glu_kind(h, gate, up, n, T5_GLU_RELU);
    else if (kind == T5_GLU_SILU)
        glu_kind(h, gate, up, n, T5_GLU_SILU);
    else
        glu_kind(h, gate, up, n, T5_GLU_GELU_NEW);
}

static void glu_grad_row(float *dgate, float *dup, const float *dh, const float *gate,
                         const float *up, int64_t n, enum t5_glu kind)
{
    if (kind == T5_GLU_RELU)
        glu_grad_kind(dgate, dup, dh, gate, up, n, T5_GLU_RELU);
    else if (kind == T5_GLU_SILU)
        glu_grad_kind(dgate, dup, dh, gate, up, n, T5_GLU_SILU);
    else
        glu_grad_kind(dgate, dup, dh, gate, up, n, T5_GLU_GELU_NEW);
}

/* ---- softmax ---- */

static float max_row(const float *x, int64_t n)
{
    vf top = all(-INFINITY);
    vi nan = {0};
    EACH_VECTOR(i, n) {
        const vf v = get_or(x, i, n, -INFINITY);
        nan |= v != v;
        top = pick(v > top, v, top);
    }
    if (ANY(nan))
        return NAN;
    float most = top[0];
    for (int i = 1; i < VL; i++)
        most = top[i] > most ? top[i] : most;
    return most;
}

static float exp_sum_row(float *out, const float *x, float top, int64_t n)
{
    float total;
    if (!out) {
        SUM_ROW(total, n, exp_of(get_or(x, i, n, -INFINITY) - all(top)));
        return total;
    }
    vf sum = {0};
    EACH_VECTOR(i, n) {
        const vf e = exp_of(get_or(x, i, n, -INFINITY) - all(top));
        put(out, i, n, e);
        sum += e;
    }
    return tree_sum(sum);
}

static int64_t find_above(const float *x, int64_t from, int64_t n, float level)
{
    int64_t i = from;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        const vi hit = (load(x + i) > all(level)) | (load(x + i + VL) > all(level)) |
                       (load(x + i + 2 * VL) > all(level)) | (load(x + i + 3 * VL) > all(level));
        if (ANY(hit))
            break;
    }
    while (i < n && !(x[i] > level))
        i++;
    return i;
}

static void softmax_grad(float *p, float *dp, const float *mask, float mean, int64_t n)
{
    EACH_VECTOR(i, n) {
        const vf pi = get(p, i, n), m = mask ? get(mask, i, n) : all(1);
        put(dp, i, n, pi * (get(dp, i, n) * m - all(mean)));
        put(p, i, n, pi * m);
    }
}

/* VL keys at a time: their VL partial vectors are folded pairwise, which leaves one vector of sums.
 * A fold of a and b puts a's lanes at even places and b's at odd ones, so key bits come out
 * reversed. */
static void scores(float *s, const float *q, const float *k, int64_t ldk, int64_t n, int64_t d)
{
    for (int64_t from = 0; from < n; from += VL) {
        vf part[VL];
        for (int64_t j = 0; j < VL; j++) {
            const float *key = k + (from + j) * ldk;
            int64_t reversed = 0;
            for (int64_t bit = 1; bit < VL; bit *= 2)
                reversed = 2 * reversed + ((j & bit) != 0);
            vf sum = {0};
            if (from + j < n)
                EACH_VECTOR(i, d)
                    sum += get(q, i, d) * get(key, i, d);
            part[reversed] = sum;
        }
        for (int half = VL / 2; half > 0; half /= 2)
            for (int i = 0; i < half; i++)
                part[i] =
                    ZIP_LOW(part[2 * i], part[2 * i + 1]) + ZIP_HIGH(part[2 * i], part[2 * i + 1]);
        put(s, from, n, part[0]);
    }
}

static void mix(float *out, const float *p, const float *v, int64_t ldv, int64_t n, int64_t d)
{
    int64_t c = 0;
    for (; c + 4 * VL <= d; c += 4 * VL) {
        vf o0 = load(out + c), o1 = load(out + c + VL), o2 = load(out + c + 2 * VL),
           o3 = load(out + c + 3 * VL);
        for (int64_t j = 0; j < n; j++) {
            const float *row = v + j * ldv + c;
            const vf by = all(p[j]);
            o0 += by * load(row);
            o1 += by * load(row + VL);
            o2 += by * load(row + 2 * VL);
            o3 += by * load(row + 3 * VL);
        }
        store(out + c, o0);
        store(out + c + VL, o1);
        store(out + c + 2 * VL, o2);
        store(out + c + 3 * VL, o3);
    }
    for (; c < d; c += VL) {
        vf o = get(out, c, d);
        for (int64_t j = 0; j < n; j++)
            o += all(p[j]) * get(v + j * ldv, c, d);
        put(out, c, d, o);
    }
}

/* ---- optimiser ---- */

static void adamw_row(float *p, const float *g, float *m, float *v, int64_t n,
                      const struct t5_adamw_row *how)
{
    EACH_VECTOR(i, n) {
        const vf gi = get(g, i, n) * all(how->gradient);
        const vf mi = all(how->beta1) * get(m, i, n) + all(how->rest1) * gi;
        const vf vi_ = all(how->beta2) * get(v, i, n) + all(how->rest2) * gi * gi;
        const vf size = SQUARE_ROOT(vi_) * all(how->root) + all(how->eps);
        put(m, i, n, mi);
        put(v, i, n, vi_);
        put(p, i, n, get(p, i, n) * all(how->keep) - all(how->rate) * mi / size);
    }
}

const struct t5_rows_isa TABLE = {
    .drop = drop_row,
    .add = add_rows,
    .scale = scale_row,
    .dot = dot_rows,
    .sum = sum_row,
    .sum_squares = sum_squares_row,
    .norm = norm_row,
    .norm_dot = norm_dot,
    .norm_grad = norm_grad,
    .norm_weight = norm_weight,
    .glu = glu_row,
    .glu_grad = glu_grad_row,
    .max = max_row,
    .exp_sum = exp_sum_row,
    .find_above = find_above,
    .softmax_grad = softmax_grad,
    .scores = scores,
    .mix = mix,
    .adamw = adamw_row,
};

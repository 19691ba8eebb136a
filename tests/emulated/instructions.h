/* instructions.h - cuda/instructions.h for the host, with hopper.h: the same functions, whose
 * contracts stand there. Included in front of it (by emulated.h), it takes its include guard. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_CUDA_INSTRUCTIONS_H
#define T5_CUDA_INSTRUCTIONS_H

template <typename T> T *dynamic_shared()
{
    return reinterpret_cast<T *>(emulated_dynamic_shared());
}

inline uint32_t shared_address(const void *p)
{
    return emulated_shared_address(p);
}

/* ---- a warp's matrices ---- */

void emulated_mma(void *const *lanes);
struct emulated_mma_given {
    float *d;
    const float *c;
    const uint32_t *a;
    uint32_t b[2];
};
inline void mma(float (&d)[4], const float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                uint32_t b1, emulated_line line = emulated_line::current())
{
    emulated_mma_given mine = {d, c, a, {b0, b1}};
    emulated_meet(emulated_mma, &mine, ~0u, line);
}
inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                emulated_line line = emulated_line::current())
{
    mma(c, c, a, b0, b1, line);
}

struct emulated_rows {
    const void *row; /* of matrix lane / 8, row lane % 8 */
    uint32_t *m;
};
template <bool TRANSPOSED> void emulated_load_matrices(void *const *lanes)
{
    uint16_t x[8][8];
    for (int matrix = 0; matrix < 4; matrix++) {
        for (int i = 0; i < 8; i++)
            memcpy(x[i], static_cast<emulated_rows *>(lanes[8 * matrix + i])->row, sizeof x[i]);
        for (int lane = 0; lane < 32; lane++) {
            int g = lane / 4, t = lane % 4;
            uint32_t low = TRANSPOSED ? x[2 * t][g] : x[g][2 * t];
            uint32_t high = TRANSPOSED ? x[2 * t + 1][g] : x[g][2 * t + 1];
            static_cast<emulated_rows *>(lanes[lane])->m[matrix] = high << 16 | low;
        }
    }
}
inline void load_matrices(uint32_t (&m)[4], uint32_t address,
                          emulated_line line = emulated_line::current())
{
    emulated_rows mine = {emulated_shared_pointer(address), m};
    emulated_meet(emulated_load_matrices<false>, &mine, ~0u, line);
}
inline void load_transposed(uint32_t (&m)[4], uint32_t address,
                            emulated_line line = emulated_line::current())
{
    emulated_rows mine = {emulated_shared_pointer(address), m};
    emulated_meet(emulated_load_matrices<true>, &mine, ~0u, line);
}

inline uint32_t transpose_matrix(uint32_t m, emulated_line line = emulated_line::current())
{
    auto transpose = [](void *const *lanes) {
        uint16_t x[8][8];
        for (int lane = 0; lane < 32; lane++)
            memcpy(&x[lane / 4][lane % 4 * 2], lanes[lane], sizeof(uint32_t));
        for (int lane = 0; lane < 32; lane++) {
            uint16_t two[2] = {x[lane % 4 * 2][lane / 4], x[lane % 4 * 2 + 1][lane / 4]};
            memcpy(lanes[lane], two, sizeof two);
        }
    };
    emulated_meet(transpose, &m, ~0u, line);
    return m;
}

/* ---- memory ---- */

inline void load_words(uint32_t (&w)[4], uint32_t address)
{
    memcpy(w, emulated_shared_pointer(address), sizeof w);
}

inline void copy_async(uint32_t to, const void *from, bool zeros)
{
    emulated_copy(emulated_shared_pointer(to), zeros ? nullptr : from, 16);
}
inline void copy_commit()
{
    emulated_copy_commit();
}
template <int N> void copy_wait()
{
    emulated_copy_wait(N);
}

inline uint4 load_once(const void *p)
{
    return *static_cast<const uint4 *>(p);
}
inline void prefetch_line(const void *) {}
inline void prefetch_bulk(const void *, uint32_t) {}

/* ---- arithmetic ---- */

inline uint32_t and_or(uint32_t x, uint32_t mask, uint32_t set)
{
    return (x & mask) | set;
}
inline float max_nan(float a, float b)
{
    return a != a || b != b ? NAN : a > b ? a : b;
}
inline float exp2_fast(float x)
{
    return exp2f(x);
}
inline float reciprocal_fast(float x)
{
    return 1 / x;
}
inline float log2_fast(float x)
{
    return log2f(x);
}

#include "hopper.h"
#include "wgmma.h"

#endif

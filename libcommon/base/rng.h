/* rng.h - counter-based random numbers: Philox4x32 (Salmon et al., "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011, section 3.3) and what is drawn from it. No state: the same key and
 * counter give the same draw on every backend, thread count and resume point. */
/* SPDX-License-Identifier: MIT */
#ifndef T5_BASE_RNG_H
#define T5_BASE_RNG_H

#include <stdint.h>

#ifdef __CUDACC__
#define T5_HOST_DEVICE __host__ __device__
#else
#define T5_HOST_DEVICE
#endif

/* What a draw is for; part of the key, so that purposes never share a stream. */
enum t5_rng_purpose {
    T5_RNG_DROPOUT = 1,
    T5_RNG_ORDER = 2,
    T5_RNG_INIT = 3,
    T5_RNG_SAMPLE = 4,
    T5_RNG_BATCHES = 5,
};

struct t5_philox {
    uint32_t v[4];
};

/* Philox4x32-R. R: 7 is the least that passes every test of BigCrush (there, table 2), 10 is usual.
 */
T5_HOST_DEVICE static inline struct t5_philox t5_philox_rounds(const uint32_t counter[4],
                                                               const uint32_t key[2], int rounds)
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < rounds; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    struct t5_philox draw = {{c0, c1, c2, c3}};
    return draw;
}

T5_HOST_DEVICE static inline struct t5_philox t5_philox(const uint32_t counter[4],
                                                        const uint32_t key[2])
{
    return t5_philox_rounds(counter, key, 10);
}

/* Uniform in [0, 1), 24 bits: exact in float. */
T5_HOST_DEVICE static inline float t5_uniform(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24f;
}

/* A 64-bit mixing step (SplitMix64's finaliser): folds `value` into `hash`. */
uint64_t t5_mix(uint64_t hash, uint64_t value);

/* The key for (seed, purpose, which): `which` is an epoch, a hash of input_ids, a tensor number. */
void t5_rng_key(uint32_t key[2], uint64_t seed, enum t5_rng_purpose purpose, uint64_t which);

/* Where index i of 0..n-1 goes in a keyed permutation of 0..n-1 (four-round Feistel network over
 * the next power of four, walked until it lands below n). */
uint64_t t5_permute(const uint32_t key[2], uint64_t i, uint64_t n);

#endif

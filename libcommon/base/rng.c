/* rng.c - keys and the keyed permutation. The generator itself is inline in rng.h. */
/* SPDX-License-Identifier: MIT */
#include "base/rng.h"

uint64_t t5_mix(uint64_t hash, uint64_t value)
{
    uint64_t z = hash + 0x9E3779B97F4A7C15u + value;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void t5_rng_key(uint32_t key[2], uint64_t seed, enum t5_rng_purpose purpose, uint64_t which)
{
    uint64_t h = t5_mix(t5_mix(t5_mix(0, seed), (uint64_t)purpose), which);
    key[0] = (uint32_t)h;
    key[1] = (uint32_t)(h >> 32);
}

uint64_t t5_permute(const uint32_t key[2], uint64_t i, uint64_t n)
{
    int half = 1; /* bits a side */
    while (half < 31 && (uint64_t)1 << (2 * half) < n)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t counter[4] = {(uint32_t)right, round, 0, 0};
            uint64_t next = left ^ (t5_philox(counter, key).v[0] & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

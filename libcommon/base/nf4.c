/* nf4.c - NF4's code book, the 8-bit map of its block scales, and reading. Does not quantise: see
 * io/quant_nf4.c. */
/* SPDX-License-Identifier: MIT */
#include "base/nf4.h"

#include <string.h>

/* Quantiles of the normal distribution, scaled to [-1, 1], with an exact zero (arXiv:2305.14314,
 * appendix E). */
const float t5_nf4_code[16] = {-1.0f,         -0.696192801f, -0.525073051f,  -0.394917488f,
                               -0.284441382f, -0.18477343f,  -0.0910500363f, 0.0f,
                               0.0795802996f, 0.160930201f,  0.246112302f,   0.337915242f,
                               0.440709829f,  0.562617004f,  0.722956836f,   1.0f};

/* The positive half: decade e of seven, from 10^-6 up, has 2^e values, the middles of as many equal
 * parts of [0.1, 1] x its power; 1 is above them all. As bitsandbytes rounds them, which no plain
 * f32 formula does for all. */
static const float positive[128] = {
    5.50000038e-07f, 3.25000019e-06f, 7.7499999e-06f,  2.12499981e-05f,
    4.37499984e-05f, 6.62500024e-05f, 8.87499991e-05f, 0.000156250011f,
    0.000268750038f, 0.000381250022f, 0.000493750034f, 0.000606250076f,
    0.00071875006f,  0.000831249985f, 0.000943750085f, 0.00128124992f,
    0.00184375001f,  0.00240624999f,  0.00296874996f,  0.00353124971f,
    0.00409374991f,  0.00465624966f,  0.00521875033f,  0.00578125007f,
    0.00634374982f,  0.00690625003f,  0.00746874977f,  0.00803124998f,
    0.00859375019f,  0.00915624946f,  0.00971874967f,  0.0114062503f,
    0.0142187504f,   0.0170312505f,   0.0198437516f,   0.0226562507f,
    0.0254687499f,   0.028281251f,    0.0310937501f,   0.0339062512f,
    0.0367187522f,   0.0395312496f,   0.0423437469f,   0.0451562516f,
    0.047968749f,    0.05078125f,     0.053593751f,    0.0564062484f,
    0.0592187531f,   0.0620312504f,   0.0648437515f,   0.0676562563f,
    0.0704687461f,   0.0732812509f,   0.0760937482f,   0.078906253f,
    0.0817187577f,   0.0845312476f,   0.0873437524f,   0.0901562497f,
    0.0929687545f,   0.0957812592f,   0.0985937491f,   0.107031256f,
    0.12109375f,     0.135156244f,    0.149218753f,    0.163281247f,
    0.177343756f,    0.19140625f,     0.205468744f,    0.219531253f,
    0.233593747f,    0.247656241f,    0.26171875f,     0.275781274f,
    0.289843738f,    0.303906262f,    0.317968726f,    0.33203125f,
    0.346093744f,    0.360156238f,    0.374218762f,    0.388281226f,
    0.40234375f,     0.416406244f,    0.430468738f,    0.444531262f,
    0.458593726f,    0.47265625f,     0.486718714f,    0.500781238f,
    0.514843702f,    0.528906226f,    0.54296875f,     0.557031274f,
    0.571093798f,    0.585156262f,    0.599218726f,    0.61328125f,
    0.627343774f,    0.641406298f,    0.655468762f,    0.669531226f,
    0.68359375f,     0.697656274f,    0.711718798f,    0.725781262f,
    0.739843726f,    0.75390625f,     0.767968774f,    0.782031238f,
    0.796093762f,    0.810156226f,    0.82421875f,     0.838281274f,
    0.852343738f,    0.866406262f,    0.880468726f,    0.89453125f,
    0.908593774f,    0.922656238f,    0.936718762f,    0.950781226f,
    0.96484375f,     0.978906274f,    0.992968738f,    1.0f,
};

float t5_nf4_map(uint8_t code)
{
    return code > 127 ? positive[code - 128] : code < 127 ? -positive[126 - code] : 0;
}

void t5_nf4_block_scales(float *out, const uint8_t *block, const void *scale, int64_t first,
                         int64_t n)
{
    float offset, group;
    memcpy(&offset, scale, 4);
    for (int64_t i = 0; i < n; i++) {
        memcpy(&group, (const char *)scale + 4 * (1 + (first + i) / T5_NF4_GROUP), 4);
        out[i] = t5_nf4_map(block[first + i]) * group + offset;
    }
}

void t5_nf4_read(float *out, const uint8_t *codes, const uint8_t *block, const void *scale,
                 int64_t from, int64_t n)
{
    for (int64_t i = from; i < from + n;) {
        int64_t end = (i / T5_NF4_BLOCK + 1) * T5_NF4_BLOCK;
        float s;
        end = end < from + n ? end : from + n;
        t5_nf4_block_scales(&s, block, scale, i / T5_NF4_BLOCK, 1);
        for (; i < end; i++)
            out[i - from] = t5_nf4_code[i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4] * s;
    }
}

/* decode_stack.cu - a decoder's layers and its logits for a single row in one kernel, a block a
 * multiprocessor, so that weights never stop streaming: every warp has a ring of shared memory that
 * the copy engine fills with the warp's own rows of every product, in their order, and refills while
 * the warp waits for something else. Bound by memory as long as no wait is longer than what the ring
 * holds (6 us).
 *
 * A warp takes quads of four rows of a matrix. Tensor cores multiply 16 rows by 8 columns: here a
 * row of w is 8 rows of that, one for each slice of its columns, and the same slices of x are the 8
 * columns, so that the diagonal of the result is what is wanted, and a row needs one warp and one
 * pass over contiguous memory. Results go to the other blocks as tagged words (words.h); attention
 * is decode_attention.h's, a block a head. Results are the same for any number of blocks. */
/* SPDX-License-Identifier: MIT */
#include "activation.h"
#include "weight_ring.h"
#include "words.h"

#define THREADS ATTEND_THREADS
#define SELF_AHEAD 4  /* keys a lane has fetched before it gets the query */
#define CROSS_AHEAD 8 /* the same of the source's */
#define EACH 10       /* pairs of words that a thread waits for at a time */

/* ---- x ---- */

/* Columns 4 index .. + 3 of a staged row, in the order that add_piece takes. */
__device__ inline void put_four(char *row, int index, uint32_t first, uint32_t second, bool eight,
                                int half)
{
    int place = eight ? index / 4 * 16 + index / 2 % 2 * half + index % 2 * 8 : index * 8;
    uint2 x =
        eight ? make_uint2(__byte_perm(first, second, 0x5410), __byte_perm(first, second, 0x7632))
              : make_uint2(first, second);
    *reinterpret_cast<uint2 *>(row + place) = x;
}

/* Waits for x, `cols` bf16, and lays it out in shared memory. stream: with sums of squares, of
 * which RMSNorm's factor is made; else 1. */
__device__ float stage(char *staged, const stack_args &a, const uint64_t *words, int cols,
                       bool stream, bool eight, int half, uint32_t tag)
{
    __shared__ float squares[STACK_WARPS];
    int quads = cols / 4, pairs = stream ? quads + quads / 2 : quads;
    float square = 0, sum = 0;
    __syncthreads(); /* what was there before has been read */
    for (int first = (int)threadIdx.x; first < pairs; first += EACH * THREADS) {
        uint32_t v[EACH][2];
        await_words<EACH>(v, words, first, THREADS, pairs, tag);
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            int index = first + k * THREADS;
            if (index < quads)
                put_four(staged, index, v[k][0], v[k][1], eight, half);
            else if (index < pairs)
                square += __uint_as_float(v[k][0]) + __uint_as_float(v[k][1]);
        }
    }
    for (int index = quads + (int)threadIdx.x; eight && index < half / 4; index += THREADS)
        put_four(staged, index, 0, 0, true, half);
    square = stream ? warp_sum(square) : 0;
    if (threadIdx.x % 32 == 0)
        squares[threadIdx.x / 32] = square;
    __syncthreads();
#pragma unroll
    for (int w = 0; w < STACK_WARPS; w++)
        sum += squares[w];
    return stream ? rsqrtf(sum / (float)cols + a.eps) : 1;
}

/* ---- results ---- */

/* What a lane takes to finish row i % STACK_QUAD of a quad, read early. */
struct quad_end {
    float scale, norm, old;
};
__device__ inline quad_end end_of(const stack_args &a, const stack_shape &s, const stack_product &p,
                                  int quad)
{
    int i = (int)threadIdx.x % STACK_QUAD, j = quad * s.stride + i % 2 + i / 2 * s.apart;
    quad_end e = {1, 0, 0};
    if (p.scale)
        e.scale = p.scale[j];
    if (p.norm)
        e.norm = p.norm[j], e.old = a.x[j];
    return e;
}

/* A quad of the residual stream, x in lane i its row i % STACK_QUAD: kept by this warp, which alone
 * adds to it, and published as what the next norm makes of it but for its factor. */
__device__ inline void publish_stream(const stack_args &a, int quad, int cols, float x, float norm,
                                      uint32_t tag)
{
    int lane = (int)threadIdx.x % 32;
    uint64_t *words = a.words.stream;
    float g = x * norm, next = __shfl_xor_sync(~0u, g, 1), square = x * x;
    square += __shfl_xor_sync(~0u, square, 1);
    square += __shfl_xor_sync(~0u, square, 2);
    if (lane < STACK_QUAD)
        a.x[quad * STACK_QUAD + lane] = x;
    if (lane == 0 || lane == 2)
        publish(words + quad * 2 + lane / 2, pack_pair(g, next), tag);
    if (lane == 1)
        publish(words + cols / 2 + quad, __float_as_uint(square), tag);
}

/* y: row i % STACK_QUAD of the quad's results in lane i */
__device__ inline void finish(const stack_args &a, int kind, int quad, float y, const quad_end &e,
                              uint32_t tag)
{
    const stack_shape &s = a.shape[kind];
    int lane = (int)threadIdx.x % 32;
    if (kind == SELF_O || kind == CROSS_O || kind == WO) {
        publish_stream(a, quad, s.rows, e.old + y, e.norm, tag);
    } else if (kind == HEAD) {
        if (lane < STACK_QUAD)
            a.logits[quad * STACK_QUAD + lane] = y;
    } else if (kind == WI) { /* rows 0, 1 gate rows 2, 3 */
        float up = __shfl_xor_sync(~0u, y, 2), h = activate<bf16>(y, a.glu).value * up;
        float next = __shfl_xor_sync(~0u, h, 1);
        if (lane == 0)
            publish(a.words.hidden + quad, pack_pair(h, next), tag);
    } else {
        uint64_t *words = kind == QKV ? a.words.qkv : a.words.query;
        float next = __shfl_xor_sync(~0u, y, 1);
        if (lane == 0 || lane == 2)
            publish(words + quad * 2 + lane / 2, pack_pair(y, next), tag);
    }
}

/* ---- attention ---- */

/* What attention has of a block's shared memory, in place of x. */
struct attention_room {
    bf16 *q, *k, *v, *out; /* (d_kv): the row's own, new */
    float *part, *scores;
    int room; /* of scores */
};
__device__ inline attention_room room_of(char *staged, int pitch, int d_kv)
{
    attention_room m;
    m.q = (bf16 *)staged, m.k = m.q + d_kv, m.v = m.k + d_kv, m.out = m.v + d_kv;
    m.part = (float *)(m.out + d_kv), m.scores = m.part + ATTEND_WARPS * d_kv;
    m.room = stack_scores(pitch, d_kv);
    return m;
}

/* Four elements a thread of q and, if parts is 3, of the new key and value, which go into the
 * caches, too. */
__device__ inline void take_head(const attention_room &m, bf16 *k_cache, bf16 *v_cache,
                                 const uint64_t *words, int width, int d_kv, int parts,
                                 uint32_t tag)
{
    int each = d_kv / 4, part = (int)threadIdx.x / each, c = (int)threadIdx.x % each;
    if (part >= parts)
        return;
    uint32_t x[1][2] = {};
    await_words<1>(x, words + part * (width / 2), c, 1, each, tag);
    uint2 four = make_uint2(x[0][0], x[0][1]);
    reinterpret_cast<uint2 *>(m.q + part * d_kv)[c] = four;
    if (part > 0)
        reinterpret_cast<uint2 *>(part == 1 ? k_cache : v_cache)[c] = four;
}

__device__ inline void publish_head(uint64_t *words, const bf16 *out, int d_kv, uint32_t tag)
{
    int c = (int)threadIdx.x;
    __syncthreads();
    if (c < d_kv / 2)
        publish(words + c, reinterpret_cast<const uint32_t *>(out)[c], tag);
}

/* Key and value n of those in f, if this lane has them, are not in memory before. */
template <int AHEAD>
__device__ inline void take_new(first_keys<AHEAD> &f, const attention_room &m, int n, int d_kv)
{
    int lanes = d_kv / ATTEND_WIDE, lane = (int)threadIdx.x % lanes;
#pragma unroll
    for (int a = 0; a < AHEAD; a++)
        if (a * (THREADS / lanes) + (int)threadIdx.x / lanes == n) {
            f.k[a] = reinterpret_cast<const uint4 *>(m.k)[lane];
            f.v[a] = reinterpret_cast<const uint4 *>(m.v)[lane];
        }
}

/* Heads are dealt to blocks; `wanted` is their results' tag, one more than their source's. What
 * does not depend on the query is asked for before it is waited for. */
__device__ void attend_self(const stack_args &a, const stack_caches &caches, attention_room m,
                            uint32_t wanted)
{
    int d_kv = a.self.d_kv, heads = a.self.heads, width = heads * d_kv, t = a.self.position[0];
    for (int h = (int)blockIdx.x; h < heads; h += (int)gridDim.x) {
        auto row = [&](int j) { return a.self.place(0, h, j, t); };
        auto bias = [&](int j) { return m.scores[j]; };
        first_keys<SELF_AHEAD> f = {};
        if (t > 0)
            fetch_first(f, caches.k, caches.v, t, d_kv, row);
        __syncthreads();
        for (int j = (int)threadIdx.x; j <= t; j += THREADS)
            m.scores[j] = a.self.bias_at(h, j - t);
        take_head(m, caches.k + row(t), caches.v + row(t), a.words.qkv + h * d_kv / 2, width, d_kv,
                  3, wanted - 1);
        __syncthreads(); /* only this block reads what it wrote */
        take_new(f, m, t, d_kv);
        attend<1, SELF_AHEAD>(m.out, (const bf16 *)m.q, 0, 1, (const bf16 *)caches.k,
                              (const bf16 *)caches.v, t + 1, d_kv, row, bias, m.scores, m.room,
                              m.part, &f);
        publish_head(a.words.attended + h * d_kv / 2, m.out, d_kv, wanted);
    }
}

__device__ void attend_cross(const stack_args &a, const stack_caches &caches, attention_room m,
                             uint32_t wanted)
{
    int d_kv = a.self.d_kv, heads = a.self.heads, width = heads * d_kv, n = a.count[0];
    for (int h = (int)blockIdx.x; h < heads; h += (int)gridDim.x) {
        int64_t first = (int64_t)a.begin[0] * 2 * width + h * d_kv;
        auto row = [&](int j) { return first + (int64_t)j * 2 * width; };
        auto bias = [](int) { return 0.0f; };
        first_keys<CROSS_AHEAD> f = {};
        if (n > 0)
            fetch_first(f, caches.cross, caches.cross + width, n, d_kv, row);
        __syncthreads();
        take_head(m, nullptr, nullptr, a.words.query + h * d_kv / 2, width, d_kv, 1, wanted - 1);
        __syncthreads();
        attend<1, CROSS_AHEAD>(m.out, (const bf16 *)m.q, 0, 1, caches.cross, caches.cross + width,
                               n, d_kv, row, bias, m.scores, m.room, m.part, &f);
        publish_head(a.words.attended + h * d_kv / 2, m.out, d_kv, wanted);
    }
}

/* Keys and values that this block's heads will read behind a product, into L2. */
__device__ void prefetch_caches(const stack_args &a, const stack_caches &caches, bool cross)
{
    int d_kv = a.self.d_kv, heads = a.self.heads, width = heads * d_kv, t = a.self.position[0];
    for (int h = (int)blockIdx.x; h < heads; h += (int)gridDim.x) {
        const bf16 *source = caches.cross + (int64_t)a.begin[0] * 2 * width + h * d_kv;
        for (int j = (int)threadIdx.x; j < 2 * (cross ? a.count[0] : t); j += THREADS)
            prefetch(cross ? source + (int64_t)j * width
                           : (j % 2 ? caches.v : caches.k) + a.self.place(0, h, j / 2, t),
                     d_kv * sizeof(bf16));
    }
}

/* ---- the kernel ---- */

/* This warp's quads of a product, whose x is staged; factor: of all results. */
__device__ inline void multiply(const stack_args &a, const stack_product *products, int product,
                                int kind, stack_ring &r, const char *staged, int half, float factor,
                                uint32_t tag)
{
    const stack_shape &s = a.shape[kind];
    const stack_product &p = products[product];
    for (int quad = first_quad(); quad < s.quads; quad += quad_step()) {
        quad_end e = end_of(a, s, p, quad);
        float sum[STACK_STEPS][2][4] = {};
        if (p.type == STACK_INT8)
            quad_sums<int8_t>(sum, r, a, products, staged, half, s.cols);
        else if (p.type == STACK_E4M3)
            quad_sums<e4m3>(sum, r, a, products, staged, half, s.cols);
        else
            quad_sums<bf16>(sum, r, a, products, staged, half, 2 * s.cols);
        finish(a, kind, quad, reduced(sum) * (e.scale * factor), e, tag);
        refill(r, a, products);
    }
}

/* The words that a product's x comes in. */
__device__ inline const uint64_t *source_of(const stack_args &a, int kind)
{
    return kind == SELF_O || kind == CROSS_O ? a.words.attended
           : kind == WO                      ? a.words.hidden
                                             : a.words.stream;
}

/* The stream as the embedding left it. */
__device__ inline void publish_start(const stack_args &a, uint32_t tag)
{
    const stack_shape &s = a.shape[SELF_O];
    for (int quad = first_quad(); quad < s.quads; quad += quad_step()) {
        int j = quad * STACK_QUAD + (int)threadIdx.x % STACK_QUAD;
        publish_stream(a, quad, s.rows, a.x[j], a.norm[j], tag);
    }
}

__device__ inline void stamp(const stack_args &a, int i)
{
    if (a.stamps && blockIdx.x == 0 && threadIdx.x == 0)
        a.stamps[i] = ticks();
}

/* The table of products to shared memory; barriers; the ring, as full as it gets. Returns the
 * launch's number, from 1. */
__device__ inline uint64_t begin(stack_ring &r, stack_product *products, const stack_args &a)
{
    __shared__ uint64_t launch;
    for (int i = (int)threadIdx.x; i < a.n_products; i += THREADS)
        products[i] = a.products[i];
    if (threadIdx.x % 32 < STACK_SLOTS)
        barrier_init(r.full + threadIdx.x % 32);
    if (threadIdx.x == 0)
        launch = atomicAdd(a.words.launches, 1ull) / gridDim.x;
    __syncthreads();
    find_quad(r, a, products);
    for (int i = 0; i < STACK_SLOTS; i++)
        ask(r, a, products, i);
    return launch;
}

__global__ void __launch_bounds__(THREADS, 1) decode_stack(const __grid_constant__ stack_args a)
{
    char *shared = dynamic_shared<char>();
    const stack_room layout = stack_layout(a.pitch, a.n_products);
    stack_product *products = (stack_product *)(shared + layout.products);
    char *staged = shared + layout.staged;
    int warp = (int)threadIdx.x / 32, kind = QKV;
    stack_ring r = {};
    r.slots = shared + warp * STACK_SLOTS * STACK_SLOT;
    r.full = (uint64_t *)(shared + layout.full) + warp * STACK_SLOTS;
    r.quad = first_quad();
    const uint32_t tags = 2 * (uint32_t)a.n_products + 2; /* of a launch */
    uint32_t tag = (uint32_t)begin(r, products, a) * tags;
    stamp(a, 0);
    publish_start(a, tag);
    for (int p = 0; p < a.n_products; p++, tag += 2) { /* tag: of a stream or hidden in front */
        bool attended = kind == SELF_O || kind == CROSS_O, stream = !attended && kind != WO;
        bool eight = products[p].type != STACK_BF16;
        int cols = a.shape[kind].cols, half = (cols + STACK_STEP - 1) / STACK_STEP * STACK_STEP;
        if (kind == QKV || kind == CROSS_Q)
            prefetch_caches(a, a.caches[p / STACK_LAYER], kind == CROSS_Q);
        if ((int)blockIdx.x < a.shape[kind].quads) { /* else its words may be written again */
            float factor =
                stage(staged, a, source_of(a, kind), cols, stream, eight, half, tag + attended);
            stamp(a, 2 * p + 1);
            multiply(a, products, p, kind, r, staged, half,
                     kind == HEAD ? factor * a.scale : factor, tag + 2);
        }
        stamp(a, 2 * p + 2);
        attention_room m = room_of(staged, a.pitch, a.self.d_kv);
        if (kind == QKV)
            attend_self(a, a.caches[p / STACK_LAYER], m, tag + 3);
        else if (kind == CROSS_Q)
            attend_cross(a, a.caches[p / STACK_LAYER], m, tag + 3);
        kind = kind_after(kind, p + 2 == a.n_products);
    }
}

/* ---- launching ---- */

/* The block's shared memory, allowed; 0: there is not as much. */
static size_t allowed(const t5_device *dev, const stack_args *a)
{
    size_t bytes = stack_layout(a->pitch, a->n_products).bytes;
    int most = 0;
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, dev->index);
    if (bytes > (size_t)most ||
        cudaFuncSetAttribute(decode_stack, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)bytes) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return bytes;
}

/* As few as have no warp take more quads of some product than all multiprocessors would. */
int t5_cuda_stack_blocks(const t5_device *dev, const stack_args *a)
{
    size_t bytes = allowed(dev, a);
    int together = 0, resident = 0, blocks = 1;
    cudaDeviceGetAttribute(&together, cudaDevAttrCooperativeLaunch, dev->index);
    if (!together || bytes == 0 ||
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, decode_stack, THREADS, bytes) !=
            cudaSuccess ||
        resident == 0)
        return 0;
    for (int k = 0; k < STACK_KINDS; k++) {
        int all = STACK_WARPS * dev->processors, quads = a->shape[k].quads;
        int most = (quads + all - 1) / all;
        int need = (quads + most * STACK_WARPS - 1) / (most * STACK_WARPS);
        blocks = need > blocks ? need : blocks;
    }
    return blocks;
}

void t5_cuda_stack_launch(t5_device *dev, const stack_args *a, int blocks)
{
    cudaLaunchAttribute together = {};
    together.id = cudaLaunchAttributeCooperative;
    together.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)blocks), config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = stack_layout(a->pitch, a->n_products).bytes;
    config.stream = dev->stream;
    config.attrs = &together, config.numAttrs = 1;
    t5_cuda_failed(dev, cudaLaunchKernelEx(&config, decode_stack, *a), "a launch");
    T5_LAUNCHED(dev);
}

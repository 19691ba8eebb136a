/* test_emulated.cu - that the emulation finds what it is there to find: each case is a kernel with
 * one mistake, run in a process of its own, which must end as said. TAP. */
/* SPDX-License-Identifier: MIT */
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <sys/wait.h>
#include <unistd.h>

#define N 64 /* threads of a block */

/* Lane 0 of the next warp's number, through shared memory; SAFE: with the barrier that it takes. */
template <bool SAFE> __global__ void neighbours(int *out)
{
    __shared__ int number[N / 32];
    if (threadIdx.x % 32 == 0)
        number[threadIdx.x / 32] = (int)threadIdx.x / 32;
    if (SAFE)
        __syncthreads();
    out[threadIdx.x] = number[(threadIdx.x / 32 + 1) % (N / 32)];
}

/* A number that all have read is written again; SAFE: behind a barrier. */
template <bool SAFE> __global__ void again(int *out)
{
    __shared__ int number;
    if (threadIdx.x == 0)
        number = 1;
    __syncthreads();
    out[threadIdx.x] = number;
    if (SAFE)
        __syncthreads();
    if (threadIdx.x == 0)
        number = 1;
}

/* The same within a warp. */
template <bool SAFE> __global__ void lanes(int *out)
{
    __shared__ int number[N / 32];
    if (threadIdx.x % 32 == 5)
        number[threadIdx.x / 32] = 1;
    if (SAFE)
        __syncwarp();
    out[threadIdx.x] = threadIdx.x % 32 < 7 ? 1 : number[threadIdx.x / 32];
    if (SAFE)
        __syncwarp();
    if (threadIdx.x % 32 == 5)
        number[threadIdx.x / 32] = 1;
}

/* Two ways to a barrier. */
__global__ void parted(int *out)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void deserted(int *out)
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void outside(int *out)
{
    out[N + threadIdx.x] = 1;
}

__global__ void outside_shared(int *out)
{
    dynamic_shared<int>()[threadIdx.x] = 1;
    out[threadIdx.x] = 1;
}

/* Reads what it has asked for without waiting; SAFE: waits. */
template <bool SAFE> __global__ void copied(int *out)
{
    int *mine = dynamic_shared<int>() + threadIdx.x * 4;
    copy_async(shared_address(mine), out, threadIdx.x != 0);
    copy_commit();
    if (SAFE)
        copy_wait<0>();
    if (*mine != 0)
        out[threadIdx.x] = -1;
}

/* Blocks that wait for each other */
__global__ void together(int *out)
{
    if (threadIdx.x == 0) {
        atomicAdd(out, 1);
        while (__atomic_load_n(out, __ATOMIC_SEQ_CST) < (int)gridDim.x)
            emulated_yield();
    }
}

/* Exit status of a run: 1 where a result is negative, 2 where the launch is refused. */
static int run(void (*kernel)(int *), unsigned blocks, size_t shared)
{
    cudaStream_t stream;
    int *out;
    cudaStreamCreate(&stream);
    cudaMalloc(&out, N * sizeof *out);
    cudaMemset(out, 0, N * sizeof *out);
    cudaLaunchAttribute at_once = {};
    at_once.id = cudaLaunchAttributeCooperative;
    at_once.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks, config.blockDim = N, config.dynamicSmemBytes = shared;
    config.stream = stream, config.attrs = &at_once, config.numAttrs = blocks > 1;
    for (int i = 0; i < 8; i++) /* in every order of threads and copies */
        if (cudaLaunchKernelEx(&config, kernel, out) != cudaSuccess)
            return 2;
    cudaStreamSynchronize(stream);
    for (int i = 0; i < N; i++)
        if (out[i] < 0)
            return 1;
    return 0;
}

enum end { GOOD, BAD, ABORTS, FAULTS, REFUSED };

/* What gives wrong results in some order of threads aborts where accesses are watched (races.cc),
 * and so does what only could. */
#ifdef __SANITIZE_THREAD__
#define WRONG ABORTS
#define LUCKY ABORTS
#else
#define WRONG BAD
#define LUCKY GOOD
#endif

static bool ends(enum end end, int status)
{
    switch (end) {
    case GOOD:
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    case BAD:
        return WIFEXITED(status) && WEXITSTATUS(status) == 1;
    case REFUSED:
        return WIFEXITED(status) && WEXITSTATUS(status) == 2;
    case ABORTS:
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
    default:
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
    }
}

int main()
{
    static const struct {
        const char *name;
        void (*kernel)(int *);
        unsigned blocks;
        size_t shared;
        enum end end;
    } cases[] = {
        {"a barrier", neighbours<true>, 1, 0, GOOD},
        {"a barrier is missing", neighbours<false>, 1, 0, WRONG},
        {"a barrier before the next value", again<true>, 1, 0, GOOD},
        {"that barrier is missing", again<false>, 1, 0, LUCKY},
        {"a warp's barriers", lanes<true>, 1, 0, GOOD},
        {"a warp's barriers are missing", lanes<false>, 1, 0, WRONG},
        {"two barriers for one", parted, 1, 0, ABORTS},
        {"a thread leaves before a barrier", deserted, 1, 0, ABORTS},
        {"memory behind an allocation", outside, 1, 0, FAULTS},
        {"shared memory", outside_shared, 1, N * sizeof(int), GOOD},
        {"memory behind the shared memory", outside_shared, 1, N * sizeof(int) - 8, ABORTS},
        {"shared memory that was not asked for", outside_shared, 1, 49 << 10, REFUSED},
        {"a copy", copied<true>, 1, N * 16, GOOD},
        {"a copy that is not waited for", copied<false>, 1, N * 16, BAD},
        {"four blocks at a time", together, 4, 0, GOOD},
        {"more blocks than the card holds", together, 5, 0, REFUSED},
    };
    int failed = 0, n = 0;
    for (const auto &c : cases) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            freopen("/dev/null", "w", stderr);
            _exit(run(c.kernel, c.blocks, c.shared));
        }
        int status = 0;
        bool ok = child > 0 && waitpid(child, &status, 0) == child && ends(c.end, status);
        failed += !ok;
        printf("%s %d - %s\n", ok ? "ok" : "not ok", ++n, c.name);
    }
    printf("1..%d\n", n);
    return failed != 0;
}

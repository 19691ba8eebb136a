/* block.cc - runs a block: its threads are fibers that take turns where one waits for others. The
 * order is another from block to block: threads forward or backward; at a barrier a warp goes on at
 * once or behind all others; asynchronous copies happen at once or when they are waited for. */
/* SPDX-License-Identifier: MIT */
#include "block.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#define STACK ((size_t)128 << 10)
#define FIXED_SHARED (1u << 24) /* where the addresses of static shared memory begin */
#define QUEUE 2048u             /* more than a block has threads, a power of two */
#define PAGE ((size_t)4096)
#define PIECE ((size_t)512)

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t bytes;
    unsigned group;
};

struct fiber {
    uint3 place; /* threadIdx */
    unsigned index;
    void *stack;  /* where it was left */
    char *memory; /* the stack's */
    std::vector<copy> copies;
    unsigned groups; /* of copies that are closed */
    emulated_line line;
    bool waits;
};

struct warp {
    void *lanes[32];
    void (*work)(void *const *);
    emulated_line line;
    unsigned come, meetings;
};

/* Which pieces of static shared memory a kernel was seen to write. */
struct writes {
    std::vector<bool> piece;
    unsigned blocks; /* that have run */
};

/* What a thread of the host keeps from block to block. */
struct block {
    const emulated_grid *grid;
    std::vector<fiber *> fibers; /* as many as the largest block so far had threads */
    std::vector<warp> warps;
    fiber *ready[QUEUE]; /* first .. end - 1, modulo QUEUE */
    unsigned first, end;
    unsigned n, come, ended, barriers, blocks; /* blocks: that this thread of the host has run */
    emulated_line line;                        /* of the barrier that some have come to */
    fiber *now;
    void *back; /* the stack that runs the block */
    bool backward, at_once, lazy;
    char *dynamic_end, *dynamic; /* shared memory that the launch asks for */
    char *fixed;                 /* static shared memory, all kernels' */
    size_t fixed_bytes;
    void *kept;                                       /* emulated_place.kept */
    std::unordered_map<const void *, writes> written; /* by kernel */
};

constinit thread_local uint3 threadIdx, blockIdx, blockDim, gridDim;
constinit thread_local block *emulated_block;

/* ---- messages and memory ---- */

static void print_name(const void *kernel)
{
    Dl_info at;
    int status;
    const char *mangled = dladdr(kernel, &at) && at.dli_sname ? at.dli_sname : "?";
    char *name = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
    fprintf(stderr, "%s", name ? name : mangled);
    free(name);
}

void emulated_wrong(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "emulated: ");
    if (emulated_block && emulated_block->now) {
        const uint3 &b = blockIdx, &t = threadIdx;
        print_name(emulated_block->grid->kernel);
        fprintf(stderr, " block %u,%u,%u thread %u,%u,%u: ", b.x, b.y, b.z, t.x, t.y, t.z);
    }
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    abort();
}

static size_t fenced_size(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE + PAGE;
}

char *emulated_fenced(size_t bytes, bool poisoned)
{
    size_t size = fenced_size(bytes), used = (bytes + 15) / 16 * 16;
    void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect((char *)p + size - PAGE, PAGE, PROT_NONE) != 0)
        return nullptr;
    char *at = (char *)p + size - PAGE - used;
    if (poisoned)
        memset(at, 0xff, used);
    return at;
}

void emulated_fenced_free(char *p, size_t bytes)
{
    munmap((char *)((uintptr_t)p / PAGE * PAGE), fenced_size(bytes));
}

/* ---- fibers ---- */

/* Keeps the registers that a call must keep on this stack, and goes on where `to` was left. */
extern "C" void emulated_switch(void **from, void *to);
asm(R"(
    .text
    .hidden emulated_switch
    .type emulated_switch, @function
emulated_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size emulated_switch, . - emulated_switch
)");

static void switch_to(fiber *next)
{
    block *b = emulated_block;
    fiber *self = b->now;
    b->now = next;
    threadIdx = next->place;
    emulated_switch(&self->stack, next->stack);
}

[[noreturn]] static void report_stuck()
{
    block *b = emulated_block;
    unsigned waiting = 0;
    for (unsigned i = b->n; i-- > 0;)
        if (b->fibers[i]->waits) {
            waiting++;
            emulated_block->now = b->fibers[i];
            threadIdx = b->fibers[i]->place;
        }
    emulated_wrong("waits at %s:%u for threads that do not come; so do %u of %u, and %u have ended",
                   b->now->line.file_name(), b->now->line.line(), waiting, b->n, b->ended);
}

/* Lets another thread run; returns when this one has been made ready and its turn has come. */
static void run_others()
{
    block *b = emulated_block;
    if (b->first == b->end)
        report_stuck();
    fiber *next = b->ready[b->first++ % QUEUE];
    if (next != b->now)
        switch_to(next);
}

static void wait_at(emulated_line line)
{
    fiber *self = emulated_block->now;
    self->waits = true;
    self->line = line;
    run_others();
    self->waits = false;
}

/* Makes threads first .. end - 1 ready, less the one that runs. */
static void release(unsigned first, unsigned end)
{
    block *b = emulated_block;
    bool last_first = b->backward != b->at_once; /* what goes in front last comes first */
    for (unsigned i = first; i < end; i++) {
        fiber *f = b->fibers[last_first ? first + end - 1 - i : i];
        if (f == b->now)
            continue;
        b->ready[(b->at_once ? --b->first : b->end++) % QUEUE] = f;
    }
}

/* A fiber's whole life: a thread in one block after the other. */
static void live()
{
    for (;;) {
        block *b = emulated_block;
        fiber *self = b->now;
        b->grid->thread();
        self->copies.clear();
        if (++b->ended < b->n)
            run_others();
        else
            emulated_switch(&self->stack, b->back);
    }
}

/* Its stack looks as if emulated_switch had been called by nobody and were to return to live. */
static fiber *make_fiber(unsigned index)
{
    fiber *f = new fiber();
    uintptr_t spread = index % 64 * 704; /* else all share a few cache lines */
    f->memory = emulated_fenced(STACK, false);
    if (!f->memory)
        emulated_wrong("no memory for thread %u's stack", index);
    void **top = (void **)((uintptr_t)f->memory + STACK - spread);
    *--top = nullptr;
    *--top = (void *)live;
    f->index = index;
    f->stack = top - 6;
    return f;
}

/* ---- meeting ---- */

static bool same_line(const emulated_line &a, const emulated_line &b)
{
    return a.line() == b.line() && a.file_name() == b.file_name();
}

static void hold_line(emulated_line *held, bool first, const emulated_line &line)
{
    if (first)
        *held = line;
    else if (!same_line(*held, line))
        emulated_wrong("comes to %s:%u where others wait at %s:%u", line.file_name(), line.line(),
                       held->file_name(), held->line());
}

void __syncthreads(emulated_line line)
{
    block *b = emulated_block;
    hold_line(&b->line, b->come == 0, line);
    if (++b->come < b->n) {
        wait_at(line);
        return;
    }
    b->come = 0;
    b->barriers++;
    release(0, b->n);
}

void emulated_meet(void (*work)(void *const *), void *mine, unsigned mask, emulated_line line)
{
    block *b = emulated_block;
    unsigned index = b->now->index, first = index / 32 * 32, end = min(first + 32, b->n);
    warp *w = &b->warps[index / 32];
    if (mask != ~0u)
        emulated_wrong("%s:%u: only whole warps meet here", line.file_name(), line.line());
    hold_line(&w->line, w->come == 0, line);
    w->lanes[index % 32] = mine;
    if (++w->come < end - first) {
        wait_at(line);
        return;
    }
    w->come = 0;
    w->meetings++;
    work(w->lanes);
    w->meetings++;
    release(first, end);
}

void emulated_warps_met()
{
    emulated_block->barriers++;
}

void emulated_yield()
{
    block *b = emulated_block;
    if (b->first == b->end)
        sched_yield(); /* what it waits for is another block's */
    b->ready[b->end++ % QUEUE] = b->now;
    run_others();
}

/* ---- shared memory ---- */

char *emulated_dynamic_shared()
{
    return emulated_block->dynamic;
}

uint32_t emulated_shared_address(const void *p)
{
    const block *b = emulated_block;
    const char *at = (const char *)p;
    if (at >= b->dynamic && at <= b->dynamic_end)
        return (uint32_t)(at - b->dynamic);
    if (at < b->fixed || at >= b->fixed + b->fixed_bytes)
        emulated_wrong("takes the shared address of what is not shared");
    return FIXED_SHARED + (uint32_t)(at - b->fixed);
}

void *emulated_shared_pointer(uint32_t address)
{
    const block *b = emulated_block;
    if (address % 16 != 0)
        emulated_wrong("uses shared address %u, which is not a multiple of 16", address);
    return address < FIXED_SHARED ? b->dynamic + address : b->fixed + (address - FIXED_SHARED);
}

bool emulated_find(const void *p, emulated_place *at)
{
    block *b = emulated_block;
    const char *c = (const char *)p;
    if (!b || !b->now)
        return false;
    if (c >= b->dynamic && c < b->dynamic_end)
        at->offset = (size_t)(c - (b->dynamic_end - EMULATED_SHARED));
    else if (c >= b->fixed && c < b->fixed + b->fixed_bytes)
        at->offset = EMULATED_SHARED + (size_t)(c - b->fixed);
    else
        return false;
    at->block = b->blocks, at->barrier = b->barriers, at->kept = &b->kept;
    at->thread = b->now->index, at->meeting = b->warps[at->thread / 32].meetings;
    return true;
}

static void copy_now(const copy &c)
{
    if (c.from)
        memcpy(c.to, c.from, c.bytes);
    else
        memset(c.to, 0, c.bytes);
}

void emulated_copy(void *to, const void *from, size_t bytes)
{
    block *b = emulated_block;
    copy c = {to, from, bytes, b->now->groups};
    emulated_touch(to, bytes, true);
    if ((uintptr_t)from % bytes != 0)
        emulated_wrong("copies %zu bytes from %p", bytes, from);
    if (b->lazy)
        b->now->copies.push_back(c);
    else
        copy_now(c);
}

void emulated_copy_commit()
{
    emulated_block->now->groups++;
}

void emulated_copy_wait(unsigned newest)
{
    fiber *f = emulated_block->now;
    size_t n = 0;
    for (; n < f->copies.size() && f->copies[n].group + newest < f->groups; n++) {
        emulated_touch(f->copies[n].to, f->copies[n].bytes, true);
        copy_now(f->copies[n]);
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + (ptrdiff_t)n);
}

/* Where this thread of the host keeps static shared memory: it is all that this module has of
 * thread-local storage, beside the five above. */
static int find_fixed(struct dl_phdr_info *module, size_t, void *to)
{
    block *b = (block *)to;
    const char *start = (const char *)module->dlpi_tls_data, *mark = (const char *)&threadIdx;
    for (int i = 0; start && i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) &part = module->dlpi_phdr[i];
        if (part.p_type == PT_TLS && mark >= start && mark < start + part.p_memsz) {
            b->fixed = (char *)module->dlpi_tls_data;
            b->fixed_bytes = part.p_memsz;
        }
    }
    return 0;
}

static size_t piece_bytes(const block *b, size_t i)
{
    return min(PIECE, b->fixed_bytes - i * PIECE);
}

/* All of it is more than a megabyte: after blocks 0, 1, 2, 4, 8 ... of a kernel it is found out
 * what that writes, and the blocks between find NaN only there. */
static bool looks(const writes &w)
{
    return (w.blocks & (w.blocks - 1)) == 0;
}

static void poison_fixed(block *b, writes &w)
{
    size_t n = (b->fixed_bytes + PIECE - 1) / PIECE;
    w.piece.resize(n);
    for (size_t i = 0; i < n; i++)
        if (looks(w) || w.piece[i])
            memset(b->fixed + i * PIECE, 0xff, piece_bytes(b, i));
    asm volatile("" ::: "memory"); /* emulated_block is among it */
    emulated_block = b;
}

static void look_at_fixed(const block *b, writes &w)
{
    for (size_t i = 0; looks(w) && i < w.piece.size(); i++) {
        const char *p = b->fixed + i * PIECE;
        if (p[0] != -1 || memcmp(p, p + 1, piece_bytes(b, i) - 1) != 0)
            w.piece[i] = true;
    }
    w.blocks++;
}

/* ---- a block ---- */

static void free_block(void *what)
{
    block *b = (block *)what;
    for (fiber *f : b->fibers) {
        emulated_fenced_free(f->memory, STACK);
        delete f;
    }
    emulated_fenced_free(b->dynamic_end - EMULATED_SHARED, EMULATED_SHARED);
    delete b;
}

/* Freed where this thread of the host ends: by a key, as thread-local variables are poisoned. */
static block *make_block()
{
    static const pthread_key_t key = [] {
        pthread_key_t made;
        if (pthread_key_create(&made, free_block) != 0)
            emulated_wrong("no key");
        return made;
    }();
    block *b = new block();
    pthread_setspecific(key, b);
    b->dynamic_end = emulated_fenced(EMULATED_SHARED, false) + EMULATED_SHARED;
    dl_iterate_phdr(find_fixed, b);
    return b;
}

static void place_fibers(block *b, unsigned index)
{
    const dim3 &g = b->grid->grid, &d = b->grid->block;
    blockIdx = {index % g.x, index / g.x % g.y, index / g.x / g.y};
    blockDim = d, gridDim = g;
    while (b->fibers.size() < b->n)
        b->fibers.push_back(make_fiber((unsigned)b->fibers.size()));
    for (unsigned i = 0; i < b->n; i++) {
        fiber *f = b->fibers[i];
        f->place = {i % d.x, i / d.x % d.y, i / d.x / d.y};
        f->groups = 0;
        f->waits = false;
    }
    b->warps.assign((b->n + 31) / 32, warp());
}

void emulated_run_block(const emulated_grid &grid, unsigned index)
{
    if (!emulated_block)
        emulated_block = make_block();
    block *b = emulated_block;
    unsigned order = grid.number + index;
    b->grid = &grid;
    b->n = grid.block.x * grid.block.y * grid.block.z;
    b->come = b->ended = b->barriers = 0;
    b->blocks++;
    b->backward = order & 1, b->at_once = order & 2, b->lazy = order & 4;
    b->dynamic = b->dynamic_end - (grid.shared + 127) / 128 * 128;
    memset(b->dynamic, 0xff, (size_t)(b->dynamic_end - b->dynamic));
    writes &w = b->written[grid.kernel];
    poison_fixed(b, w);
    place_fibers(b, index);
    b->now = nullptr;
    b->first = b->end = QUEUE;
    release(0, b->n);
    b->now = b->ready[b->first++ % QUEUE];
    threadIdx = b->now->place;
    emulated_switch(&b->back, b->now->stack);
    for (const char *p = b->dynamic + grid.shared; p < b->dynamic_end; p++)
        if (*p != -1)
            emulated_wrong("the block wrote behind the %zu bytes of its shared memory",
                           grid.shared);
    b->now = nullptr;
    look_at_fixed(b, w);
}

/* open.c - finds and opens a backend by device name. The shared objects lie beside the programs. */
/* SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/backend.h"

/* The first of DIR/../lib/t5-NAME.so and DIR/../lib/t5-tools/t5-NAME.so that is there, from the
 * `place`th on, DIR being the program's own: its place + 1; 0: none. */
static int find_library(const char *name, int place, char *path, size_t size)
{
    static const char *const places[] = {"../lib", "../lib/t5-tools"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return 0;
    self[n] = 0;
    *strrchr(self, '/') = 0;
    for (; place < 2; place++) {
        snprintf(path, size, "%s/%s/t5-%s.so", self, places[place], name);
        if (access(path, R_OK) == 0)
            return place + 1;
    }
    return 0;
}

/* why: the library's path, or why there is none. */
static void *open_library(const char *name, char *why, size_t why_size)
{
    char path[PATH_MAX + 64];
    snprintf(why, why_size, "t5-%s.so not found beside the program", name);
    for (int place = 0; (place = find_library(name, place, path, sizeof path));) {
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library) {
            snprintf(why, why_size, "%s", path);
            return library;
        }
        snprintf(why, why_size, "%s", dlerror());
    }
    return NULL;
}

/* GNU OpenMP comes with the CPU backend and reads its environment when it is loaded. By default a
 * waiting thread spins for milliseconds, which on a machine with other work makes generation 10
 * times slower; some 20 microseconds bridge the gaps inside a step. What the user set stays. */
static void limit_spinning(void)
{
    if (!getenv("OMP_WAIT_POLICY"))
        setenv("GOMP_SPINCOUNT", "1000", 0);
}

static int open_shared(struct t5_backend_handle *out, const char *name,
                       const struct t5_device_options *options, struct t5_err *err)
{
    char why[PATH_MAX + 64] = "", symbol[64];
    limit_spinning();
    void *library = open_library(name, why, sizeof why);
    if (!library)
        return t5_fail_as(err, T5_ENVIRONMENT, "device %s: %s", name, why);
    snprintf(symbol, sizeof symbol, "t5_backend_%s", name);
    const struct t5_backend *table = dlsym(library, symbol);
    if (!table) {
        dlclose(library);
        return t5_fail_as(err, T5_ENVIRONMENT, "device %s: t5-%s.so has no %s", name, name, symbol);
    }
    if (table->build != T5_BACKEND_BUILD) {
        dlclose(library);
        return t5_fail_as(err, T5_ENVIRONMENT, "device %s: %s is not of this program's build", name,
                          why);
    }
    out->ops = *table;
    out->library = library;
    if (out->ops.open(&out->dev, options, err) == 0)
        return 0;
    /* The library stays loaded: its OpenMP threads may still be parked inside it. */
    return t5_err_at(err, "device %s", name);
}

static int open_ref(struct t5_backend_handle *out, const struct t5_device_options *options,
                    struct t5_err *err)
{
    out->ops = t5_backend_ref;
    return out->ops.open(&out->dev, options, err);
}

enum t5_compute t5_compute_named(const char *name)
{
    return strcmp(name, "bf16") == 0   ? T5_COMPUTE_BF16
           : strcmp(name, "int8") == 0 ? T5_COMPUTE_INT8
           : strcmp(name, "fp8") == 0  ? T5_COMPUTE_FP8
                                       : T5_COMPUTE_F32;
}

const char *t5_device_resolve(const char *device)
{
    if (strcmp(device, "auto") != 0)
        return device;
    /* What a driver makes, under Linux and under Windows. Asked for first: the library is large. */
    int card = access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
    char path[PATH_MAX + 64];
    return card && find_library("cuda", 0, path, sizeof path) ? "cuda" : "cpu";
}

int t5_device_is_gpu(const char *device)
{
    return strncmp(t5_device_resolve(device), "cuda", 4) == 0;
}

int t5_backend_open(struct t5_backend_handle *out, const char *device,
                    const struct t5_device_options *options, struct t5_err *err)
{
    struct t5_device_options chosen = *options;
    *out = (struct t5_backend_handle){.keep_wide = options->keep_wide};
    device = t5_device_resolve(device);
    int cuda = strncmp(device, "cuda", 4) == 0;
    if (options->compute == T5_COMPUTE_FP8 && !cuda)
        return t5_fail_as(err, T5_USAGE, "--compute fp8: only on cuda, not on %.60s", device);
    if (strcmp(device, "ref") == 0)
        return open_ref(out, options, err);
    if (strcmp(device, "cpu") == 0)
        return open_shared(out, "cpu", options, err);
    if (strncmp(device, "cuda", 4) == 0 && (!device[4] || device[4] == ':')) {
        const char *digits = device[4] ? device + 5 : "0";
        size_t n = strlen(digits);
        if (n == 0 || n > 4 || strspn(digits, "0123456789") != n)
            return t5_fail_as(err, T5_USAGE, "--device: expected cuda:N, found '%.60s'", device);
        chosen.index = atoi(digits);
        return open_shared(out, "cuda", &chosen, err);
    }
    return t5_fail_as(err, T5_USAGE,
                      "--device: expected auto, cpu, cuda, cuda:N or ref, found '%.60s'", device);
}

void t5_backend_close(struct t5_backend_handle *handle)
{
    if (handle->dev)
        handle->ops.close(handle->dev);
    *handle = (struct t5_backend_handle){0};
}

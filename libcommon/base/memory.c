/* memory.c - Linux's MemAvailable, VmRSS and VmHWM. Free pages alone would be next to nothing on a
 * machine that has just read a large model: its page cache is there to be taken. getrusage's peak
 * would include what the caller held before it became this program. */
/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The bytes on a line "NAME: N kB" of a /proc file, or otherwise. */
static int64_t from_proc(const char *path, const char *name, int64_t otherwise)
{
    FILE *f = fopen(path, "r");
    char line[256];
    long long kib;
    size_t n = strlen(name);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, n) == 0 && sscanf(line + n, ": %lld kB", &kib) == 1)
            otherwise = kib * 1024;
    if (f)
        fclose(f);
    return otherwise;
}

int64_t t5_memory_available(void)
{
    int64_t free_pages = (int64_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
    return from_proc("/proc/meminfo", "MemAvailable", free_pages);
}

int64_t t5_memory_resident(void)
{
    return from_proc("/proc/self/status", "VmRSS", t5_memory_peak());
}

int64_t t5_memory_peak(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return from_proc("/proc/self/status", "VmHWM", (int64_t)usage.ru_maxrss * 1024);
}

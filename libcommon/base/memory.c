/* memory.c - Linux's MemAvailable. Free pages alone would be next to nothing on a machine that has
 * just read a large model: its page cache is there to be taken. */
/* SPDX-License-Identifier: MIT */
#include "base/memory.h"

#include <stdio.h>
#include <unistd.h>

int64_t t5_memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[128];
    long long kib;
    int64_t bytes = (int64_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1)
            bytes = kib * 1024;
    if (f)
        fclose(f);
    return bytes;
}
